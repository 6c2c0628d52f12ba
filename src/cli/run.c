/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run = create, attach, register the wait, start, in this order: output and exit code of even the
 * shortest process are seen.
 */
#include "cli/commands.h"
#include "cli/container.h"
#include "cli/create.h"
#include "cli/session.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define O create_options

static const struct option options[] = {
	{ OPTION_BOOL, 'd', "detach", &O.detach,
	  "Run container in background and print container ID" },
	{ OPTION_STRING, 0, "detach-keys", &O.detach_keys,
	  "Override the key sequence for detaching a container" },
	{ OPTION_BOOL, 0, "sig-proxy", &O.sig_proxy, "Proxy received signals to the process",
	  .fallback = "true" },
	{ OPTION_END },
};

/* Without a terminal of its own a container that failed to start is nothing to keep. */
static int start(struct cli *cli, const char *id, struct error *err)
{
	if (container_start(cli, id, O.detach_keys, err) == 0)
		return 0;
	return cli_fail(cli, container_start_exit_code(err));
}

static int run_detached(struct cli *cli, const char *id, struct error *err)
{
	if (start(cli, id, err) < 0)
		return -1;
	cli_print("%s\n", id);
	return 0;
}

static int run_attached(struct cli *cli, const char *id, struct error *err)
{
	struct create_attach a = create_attach_get(&O);
	autoexchange struct exchange *stream = NULL;
	autoexchange struct exchange *wait = NULL;
	CLEANUP(session_done)
	struct session s = {
		.client = &cli->client,
		.signal_fd = -EBADF,
		.tty = O.tty,
		.input = a.in,
		.output = a.out,
		.errors = a.err,
		.proxy_signals = O.sig_proxy && !O.tty,
		.container = id,
		.detach_keys = O.detach_keys,
	};
	int code = 125;

	stream = container_attach(cli, id, a.in, a.out, a.err, O.detach_keys, err);
	if (!stream)
		return -1;
	wait = container_wait(cli, id, O.remove ? "removed" : "next-exit", err);
	if (!wait)
		return -1;
	s.stream = stream;
	s.wait = wait;
	if (session_open(&s, err) < 0 || start(cli, id, err) < 0 || session_run(&s, err) < 0)
		return -1;
	if (s.detached) {
		fprintf(stderr, "read escape sequence\n");
		return 0;
	}
	if (container_wait_result(wait, &code, err) < 0)
		return -1;
	return code;
}

static int run_run(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *id = NULL;
	autoerror struct error usage = ERROR_INIT;

	if (O.detach && O.attach.n)
		error_set(&usage, ERROR_INVALID_ARGUMENT,
			  "conflicting options: cannot specify both --attach and --detach");
	else if (!O.detach)
		session_check_tty(O.interactive, O.tty, &usage);
	if (usage.code) {
		cli_report(&usage);
		return 1;
	}
	if (create_container(cli, &O, argc, argv, &id, err) < 0)
		return -1;
	return O.detach ? run_detached(cli, id, err) : run_attached(cli, id, err);
}

const struct command command_run = {
	.paths = "container run|run",
	.args = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
	.summary = "Create and run a new container from an image",
	.min_args = 1,
	.max_args = -1,
	.flags = COMMAND_STOP_AT_ARG | COMMAND_COMMON | COMMAND_PREFIX,
	.complete = COMPLETE_IMAGES,
	.options = options,
	.more_options = create_option_table,
	.run = run_run,
};
