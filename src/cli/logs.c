/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/container.h"
#include "cli/stream.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"

static struct {
	bool details, follow, timestamps;
	const char *since, *until, *tail;
} opts = { .tail = "all" };

static const struct option options[] = {
	{ OPTION_BOOL, 0, "details", &opts.details, "Show extra details provided to logs" },
	{ OPTION_BOOL, 'f', "follow", &opts.follow, "Follow log output" },
	{ OPTION_STRING, 0, "since", &opts.since,
	  "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for "
	  "42 minutes)" },
	{ OPTION_STRING, 'n', "tail", &opts.tail,
	  "Number of lines to show from the end of the logs", .fallback = "\"all\"" },
	{ OPTION_BOOL, 't', "timestamps", &opts.timestamps, "Show timestamps" },
	{ OPTION_STRING, 0, "until", &opts.until,
	  "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" "
	  "for 42 minutes)" },
	{ OPTION_END },
};

static int show(struct exchange *ex, bool tty, struct error *err)
{
	struct demux d = { 0 };
	const char *p;
	size_t len;
	int r;

	while ((r = exchange_read(ex, /* wait= */ true, &p, &len, err)) == 1) {
		while (len) {
			enum stream_type type = STREAM_STDOUT;
			const char *piece = p;
			size_t used = len, n = len;

			if (!tty && demux_feed(&d, p, len, &used, &type, &piece, &n, err) < 0)
				return -1;
			p += used;
			len -= used;
			if (type == STREAM_SYSTEM_ERROR)
				return error_set(err, ERROR_INTERNAL,
						 "error from daemon in stream: %.*s", (int)n,
						 piece);
			if (n && fs_write_all(type == STREAM_STDERR ? STDERR_FILENO : STDOUT_FILENO,
					      piece, n) < 0)
				return 0;
		}
	}
	return r;
}

static int run_logs(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *info = container_inspect(cli, argv[0], err);
	autofree char *path = NULL;
	autofree char *since = NULL;
	autofree char *until = NULL;
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autoexchange struct exchange *ex = NULL;
	struct request req = { .method = "GET" };

	if (!info)
		return -1;
	if (cli_timestamp(opts.since, "since", &since, err) < 0 ||
	    cli_timestamp(opts.until, "until", &until, err) < 0)
		return -1;
	path = url_format("/containers/{}/logs", json_get_string(info, "Id"));
	buf_puts(&url, path);
	url_query(&url, "stdout", "1");
	url_query(&url, "stderr", "1");
	url_query(&url, "details", opts.details ? "1" : NULL);
	url_query(&url, "follow", opts.follow ? "1" : NULL);
	url_query(&url, "since", since);
	url_query(&url, "tail", opts.tail);
	url_query(&url, "timestamps", opts.timestamps ? "1" : NULL);
	url_query(&url, "until", until);
	req.path = url.data;
	ex = client_open(&cli->client, &req, err);
	if (!ex)
		return -1;
	return show(ex, json_get_bool(json_get(info, "Config"), "Tty", false), err);
}

const struct command command_logs = {
	.paths = "container logs|logs",
	.args = "[OPTIONS] CONTAINER",
	.summary = "Fetch the logs of a container",
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_CONTAINERS,
	.options = options,
	.run = run_logs,
};
