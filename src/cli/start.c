/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/container.h"
#include "cli/session.h"

#include "base/mem.h"

#include <string.h>

static struct {
	bool attach, interactive;
	const char *detach_keys;
} opts;

static const struct option options[] = {
	{ OPTION_BOOL, 'a', "attach", &opts.attach, "Attach STDOUT/STDERR and forward signals" },
	{ OPTION_STRING, 0, "detach-keys", &opts.detach_keys,
	  "Override the key sequence for detaching a container" },
	{ OPTION_BOOL, 'i', "interactive", &opts.interactive, "Attach container's STDIN" },
	{ OPTION_END },
};

static int start_attached(struct cli *cli, const char *name, struct error *err)
{
	autojson struct json *info = container_inspect(cli, name, err);
	autoexchange struct exchange *stream = NULL;
	autoexchange struct exchange *wait = NULL;
	const struct json *config = json_get(info, "Config");
	const char *id = json_get_string(info, "Id");
	bool removed = json_get_bool(json_get(info, "HostConfig"), "AutoRemove", false);
	CLEANUP(session_done)
	struct session s = {
		.client = &cli->client,
		.signal_fd = -EBADF,
		.tty = json_get_bool(config, "Tty", false),
		.input = opts.interactive && json_get_bool(config, "OpenStdin", false),
		.output = true,
		.errors = true,
		.detach_keys = opts.detach_keys,
		.container = id,
	};
	int code;

	if (!info || !id)
		return -1;
	s.proxy_signals = !s.tty;
	stream = container_attach(cli, id, s.input, true, true, opts.detach_keys, err);
	if (!stream)
		return -1;
	wait = container_wait(cli, id, removed ? "removed" : "next-exit", err);
	if (!wait)
		return -1;
	s.stream = stream;
	s.wait = wait;
	if (session_open(&s, err) < 0 || container_start(cli, id, opts.detach_keys, err) < 0 ||
	    session_run(&s, err) < 0)
		return -1;
	if (s.detached)
		return error_set(err, ERROR_CANCELLED, "read escape sequence");
	return container_wait_result(wait, &code, err) < 0 ? -1 : code;
}

static int start_one(struct cli *cli, const char *name, struct error *err)
{
	if (container_start(cli, name, NULL, err) < 0)
		return -1;
	cli_print("%s\n", name);
	return 0;
}

static int run_start(struct cli *cli, int argc, char **argv, struct error *err)
{
	int code;

	if ((opts.attach || opts.interactive) && argc > 1)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "you cannot start and attach multiple containers at once");
	if (opts.attach || opts.interactive)
		return start_attached(cli, argv[0], err);
	code = cli_for_each(cli, argc, argv, start_one);
	if (code && argc > 1)
		return error_set(err, ERROR_UNKNOWN, "failed to start containers");
	return code;
}

const struct command command_start = {
	.paths = "container start|start",
	.args = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Start one or more stopped containers",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_STOPPED,
	.options = options,
	.run = run_start,
};
