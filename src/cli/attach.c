/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/container.h"
#include "cli/session.h"

#include "base/mem.h"

static struct {
	const char *detach_keys;
	bool no_stdin, sig_proxy;
} opts = { .sig_proxy = true };

static const struct option options[] = {
	{ OPTION_STRING, 0, "detach-keys", &opts.detach_keys,
	  "Override the key sequence for detaching a container" },
	{ OPTION_BOOL, 0, "no-stdin", &opts.no_stdin, "Do not attach STDIN" },
	{ OPTION_BOOL, 0, "sig-proxy", &opts.sig_proxy, "Proxy all received signals to the process",
	  .fallback = "true" },
	{ OPTION_END },
};

static int check_state(const struct json *info, struct error *err)
{
	const struct json *state = json_get(info, "State");

	if (!json_get_bool(state, "Running", false))
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "cannot attach to a stopped container, start it first");
	if (json_get_bool(state, "Paused", false))
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "cannot attach to a paused container, unpause it first");
	if (json_get_bool(state, "Restarting", false))
		return error_set(
			err, ERROR_FAILED_PRECONDITION,
			"cannot attach to a restarting container, wait until it is running");
	return 0;
}

static int run_attach(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *info = container_inspect(cli, argv[0], err);
	autoexchange struct exchange *stream = NULL;
	autoexchange struct exchange *wait = NULL;
	const struct json *config = json_get(info, "Config");
	CLEANUP(session_done)
	struct session s = {
		.client = &cli->client,
		.signal_fd = -EBADF,
		.tty = json_get_bool(config, "Tty", false),
		.input = !opts.no_stdin && json_get_bool(config, "OpenStdin", false),
		.output = true,
		.errors = true,
		.detach_keys = opts.detach_keys,
		.container = json_get_string(info, "Id"),
	};
	int code;

	if (!info || !s.container || check_state(info, err) < 0 ||
	    session_check_tty(s.input, s.tty, err) < 0)
		return -1;
	s.proxy_signals = opts.sig_proxy && !s.tty;
	wait = container_wait(cli, s.container, "not-running", err);
	if (!wait)
		return -1;
	stream = container_attach(cli, s.container, s.input, true, true, opts.detach_keys, err);
	if (!stream)
		return -1;
	s.stream = stream;
	s.wait = wait;
	if (session_open(&s, err) < 0 || session_run(&s, err) < 0)
		return -1;
	if (s.detached)
		return error_set(err, ERROR_CANCELLED, "read escape sequence");
	return container_wait_result(wait, &code, err) < 0 ? -1 : code;
}

const struct command command_attach = {
	.paths = "container attach|attach",
	.args = "[OPTIONS] CONTAINER",
	.summary = "Attach local standard input, output, and error streams to a running container",
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_RUNNING,
	.options = options,
	.run = run_attach,
};
