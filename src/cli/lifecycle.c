/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that do one thing to each of the containers named. */
#include "cli/commands.h"
#include "cli/container.h"

#include "base/mem.h"

#include <stdio.h>

#define TIMEOUT_UNSET INT64_MIN

static struct {
	bool force, link, volumes;
	const char *signal;
	int64_t timeout;
} opts = { .timeout = TIMEOUT_UNSET };

/* POST /containers/NAME/VERB with the signal and timeout options; prints the name. */
static int post_verb(struct cli *cli, const char *name, const char *verb, struct error *err)
{
	autofree char *path = url_format("/containers/{}/{}", name, verb);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);

	buf_puts(&url, path);
	url_query(&url, "signal", opts.signal);
	if (opts.timeout != TIMEOUT_UNSET) {
		char number[32];

		snprintf(number, sizeof(number), "%lld", (long long)opts.timeout);
		url_query(&url, "t", number);
	}
	if (client_post(&cli->client, url.data, NULL, err) < 0)
		return -1;
	cli_print("%s\n", name);
	return 0;
}

#define DEFINE_VERB(verb)                                                                \
	static int verb##_one(struct cli *cli, const char *name, struct error *err)      \
	{                                                                                \
		return post_verb(cli, name, #verb, err);                                 \
	}                                                                                \
	static int run_##verb(struct cli *cli, int argc, char **argv, struct error *err) \
	{                                                                                \
		return cli_for_each(cli, argc, argv, verb##_one);                        \
	}
DEFINE_VERB(stop)
DEFINE_VERB(restart)
DEFINE_VERB(kill)
DEFINE_VERB(pause)
DEFINE_VERB(unpause)

static int rm_one(struct cli *cli, const char *name, struct error *err)
{
	autofree char *path = NULL;
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);

	while (*name == '/')
		name++;
	if (!*name)
		return error_set(err, ERROR_INVALID_ARGUMENT, "container name cannot be empty");
	path = url_format("/containers/{}", name);
	buf_puts(&url, path);
	url_query(&url, "force", opts.force ? "1" : NULL);
	url_query(&url, "link", opts.link ? "1" : NULL);
	url_query(&url, "v", opts.volumes ? "1" : NULL);
	if (client_call(&cli->client, "DELETE", url.data, NULL, NULL, err) < 0) {
		/* With --force a container that is not there is not an error, only worth a line. */
		if (!opts.force || err->code != ERROR_NOT_FOUND)
			return -1;
		cli_report(err);
		return 0;
	}
	cli_print("%s\n", name);
	return 0;
}

static int run_rm(struct cli *cli, int argc, char **argv, struct error *err)
{
	return cli_for_each(cli, argc, argv, rm_one);
}

static int run_rename(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *path = url_format("/containers/{}/rename", argv[0]);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);

	if (!*argv[0] || !*argv[1])
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "Error: Neither old nor new names may be empty");
	buf_puts(&url, path);
	url_query(&url, "name", argv[1]);
	return client_post(&cli->client, url.data, NULL, err);
}

static int wait_one(struct cli *cli, const char *name, struct error *err)
{
	autoexchange struct exchange *wait = container_wait(cli, name, NULL, err);
	int code;

	if (!wait || container_wait_result(wait, &code, err) < 0)
		return -1;
	cli_print("%d\n", code);
	return 0;
}

static int run_wait(struct cli *cli, int argc, char **argv, struct error *err)
{
	return cli_for_each(cli, argc, argv, wait_one);
}

static const struct option stop_options[] = {
	{ OPTION_STRING, 's', "signal", &opts.signal, "Signal to send to the container" },
	{ OPTION_INT, 0, "time", &opts.timeout, "Seconds to wait before killing the container",
	  .hidden = true },
	{ OPTION_INT, 't', "timeout", &opts.timeout,
	  "Seconds to wait before killing the container" },
	{ OPTION_END },
};

static const struct option kill_options[] = {
	{ OPTION_STRING, 's', "signal", &opts.signal, "Signal to send to the container" },
	{ OPTION_END },
};

static const struct option rm_options[] = {
	{ OPTION_BOOL, 'f', "force", &opts.force,
	  "Force the removal of a running container (uses SIGKILL)" },
	{ OPTION_BOOL, 'l', "link", &opts.link, "Remove the specified link" },
	{ OPTION_BOOL, 'v', "volumes", &opts.volumes,
	  "Remove anonymous volumes associated with the container" },
	{ OPTION_END },
};

const struct command command_stop = {
	.paths = "container stop|stop",
	.args = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Stop one or more running containers",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_RUNNING,
	.options = stop_options,
	.run = run_stop,
};

const struct command command_restart = {
	.paths = "container restart|restart",
	.args = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Restart one or more containers",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_CONTAINERS,
	.options = stop_options,
	.run = run_restart,
};

const struct command command_kill = {
	.paths = "container kill|kill",
	.args = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Kill one or more running containers",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_RUNNING,
	.options = kill_options,
	.run = run_kill,
};

const struct command command_rm = {
	.paths = "container rm|container remove|rm",
	.args = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Remove one or more containers",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_CONTAINERS,
	.options = rm_options,
	.run = run_rm,
};

const struct command command_pause = {
	.paths = "container pause|pause",
	.args = "CONTAINER [CONTAINER...]",
	.summary = "Pause all processes within one or more containers",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_RUNNING,
	.run = run_pause,
};

const struct command command_unpause = {
	.paths = "container unpause|unpause",
	.args = "CONTAINER [CONTAINER...]",
	.summary = "Unpause all processes within one or more containers",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_RUNNING,
	.run = run_unpause,
};

const struct command command_rename = {
	.paths = "container rename|rename",
	.args = "CONTAINER NEW_NAME",
	.summary = "Rename a container",
	.min_args = 2,
	.max_args = 2,
	.complete = COMPLETE_CONTAINERS,
	.run = run_rename,
};

const struct command command_wait = {
	.paths = "container wait|wait",
	.args = "CONTAINER [CONTAINER...]",
	.summary = "Block until one or more containers stop, then print their exit codes",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_RUNNING,
	.run = run_wait,
};
