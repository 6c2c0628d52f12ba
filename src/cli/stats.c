/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All containers' streams are open at once; a poll loop takes documents as they come and draws the
 * table at most twice a second. Without names it follows the list of running containers.
 */
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/terminal.h"

#include "base/mem.h"
#include "base/time.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define STREAMS_MAX 1024
#define DRAW_INTERVAL (500 * NSEC_PER_MSEC)

static struct {
	bool all, no_stream, no_trunc;
	const char *format;
} opts;

#define TABLE                                                                               \
	"table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t" \
	"{{.BlockIO}}\t{{.PIDs}}"

static const struct column columns[] = {
	{ "Container", "CONTAINER" },
	{ "Name", "NAME" },
	{ "ID", "CONTAINER ID" },
	{ "CPUPerc", "CPU %" },
	{ "MemPerc", "MEM %" },
	{ "NetIO", "NET I/O" },
	{ "MemUsage", "MEM USAGE / LIMIT" },
	{ "PIDs", "PIDS" },
	{ "BlockIO", "BLOCK I/O" },
	{ NULL, NULL },
};

struct stream {
	char *name; /* as asked for */
	struct exchange *exchange;
	struct json *last;
	bool ended;
};

struct streams {
	struct stream *v;
	size_t n;
};

static void streams_done(struct streams *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->v[i].name);
		if (s->v[i].exchange)
			exchange_free(s->v[i].exchange);
		json_unref(s->v[i].last);
	}
	free(s->v);
}

static double cpu_percent(const struct json *s)
{
	const struct json *now = json_get(s, "cpu_stats"), *before = json_get(s, "precpu_stats");
	const struct json *usage = json_get(now, "cpu_usage");
	double cpu = (double)json_get_uint(usage, "total_usage", 0) -
		     (double)json_get_uint(json_get(before, "cpu_usage"), "total_usage", 0);
	double system = (double)json_get_uint(now, "system_cpu_usage", 0) -
			(double)json_get_uint(before, "system_cpu_usage", 0);
	double cpus = (double)json_get_int(now, "online_cpus", 0);

	if (cpus <= 0)
		cpus = (double)json_array_len(json_get(usage, "percpu_usage"));
	return system > 0 && cpu > 0 ? cpu / system * cpus * 100 : 0;
}

/* Without the page cache that can be dropped. */
static double memory_used(const struct json *memory)
{
	const struct json *stats = json_get(memory, "stats");
	uint64_t usage = json_get_uint(memory, "usage", 0);
	uint64_t cache = json_get_uint(stats, "total_inactive_file",
				       json_get_uint(stats, "inactive_file", 0));

	return (double)(cache < usage ? usage - cache : usage);
}

struct network_sum {
	double rx, tx;
};

static int add_network(const char *key, struct json *n, void *arg)
{
	struct network_sum *sum = arg;

	sum->rx += (double)json_get_uint(n, "rx_bytes", 0);
	sum->tx += (double)json_get_uint(n, "tx_bytes", 0);
	return 0;
}

static void set_pair(struct json *row, const char *key, char *a, char *b)
{
	autofree char *x = a;
	autofree char *y = b;
	autofree char *both = xasprintf("%s / %s", x, y);

	json_set_string(row, key, both);
}

static void set_percent(struct json *row, const char *key, double v)
{
	autofree char *s = xasprintf("%.2f%%", v);

	json_set_string(row, key, s);
}

static void set_block_io(struct json *row, const struct json *s)
{
	const struct json *ops = json_get(json_get(s, "blkio_stats"), "io_service_bytes_recursive");
	double rd = 0, wr = 0;

	for (size_t i = 0; i < json_array_len(ops); i++) {
		const struct json *op = json_array_get(ops, i);
		const char *name = json_get_string(op, "op");
		double v = (double)json_get_uint(op, "value", 0);

		if (name && (*name == 'r' || *name == 'R'))
			rd += v;
		else if (name && (*name == 'w' || *name == 'W'))
			wr += v;
	}
	set_pair(row, "BlockIO", human_size(rd, 3), human_size(wr, 3));
}

static void set_unknown(struct json *row)
{
	static const char *const pairs[] = { "MemUsage", "NetIO", "BlockIO" };
	static const char *const singles[] = { "CPUPerc", "MemPerc", "PIDs" };

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		json_set_string(row, pairs[i], "-- / --");
	for (size_t i = 0; i < ARRAY_SIZE(singles); i++)
		json_set_string(row, singles[i], "--");
}

static struct json *make_row(const struct stream *st)
{
	const struct json *s = st->last, *memory = json_get(s, "memory_stats");
	const char *name = json_get_string(s, "name"), *id = json_get_string(s, "id");
	double used = memory_used(memory), limit = (double)json_get_uint(memory, "limit", 0);
	struct network_sum sum = { 0 };
	struct json *row = json_new_object();
	autofree char *pids = NULL;
	autofree char *shown = NULL;

	id = id ? id : st->name;
	shown = opts.no_trunc ? xstrdup(id) : format_short_id(id);
	json_set_string(row, "Container", st->name);
	json_set_string(row, "ID", s ? shown : "--");
	json_set_string(row, "Name", name ? name + (*name == '/') : "--");
	if (!s) {
		set_unknown(row);
		return row;
	}
	json_object_each(json_get(s, "networks"), add_network, &sum);
	pids = xasprintf(
		"%llu", (unsigned long long)json_get_uint(json_get(s, "pids_stats"), "current", 0));
	set_percent(row, "CPUPerc", cpu_percent(s));
	set_pair(row, "MemUsage", human_bytes(used), human_bytes(limit));
	set_percent(row, "MemPerc", limit > 0 ? used / limit * 100 : 0);
	set_pair(row, "NetIO", human_size(sum.rx, 3), human_size(sum.tx, 3));
	set_block_io(row, s);
	json_set_string(row, "PIDs", pids);
	return row;
}

static int add_stream(struct cli *cli, struct streams *all, const char *name, struct error *err)
{
	autofree char *path = url_format("/containers/{}/stats", name);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	struct request req = { .method = "GET" };
	struct exchange *ex;

	if (all->n >= STREAMS_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "too many containers");
	buf_puts(&url, path);
	url_query(&url, "stream", opts.no_stream ? "0" : "1");
	req.path = url.data;
	ex = client_send(&cli->client, &req, err);
	if (!ex)
		return -1;
	GROW_ARRAY(all->v, all->n);
	all->v[all->n++] = (struct stream){ .name = xstrdup(name), .exchange = ex };
	return 0;
}

/* Opens streams of containers that have none yet. */
static int follow_list(struct cli *cli, struct streams *all, struct error *err)
{
	autojson struct json *list = NULL;

	if (client_get(&cli->client, opts.all ? "/containers/json?all=1" : "/containers/json",
		       &list, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_len(list); i++) {
		const char *id = json_get_string(json_array_get(list, i), "Id");
		bool known = !id;

		for (size_t k = 0; k < all->n && !known; k++)
			known = strcmp(all->v[k].name, id) == 0 && !all->v[k].ended;
		if (!known && add_stream(cli, all, id, err) < 0)
			return -1;
	}
	return 0;
}

/* A container that is gone ends its stream; one that never was is an error. */
static int take_document(struct stream *s, struct error *err)
{
	autoerror struct error why = ERROR_INIT;
	struct json *j;

	if (exchange_head(s->exchange, &why) < 0) {
		s->ended = true;
		return s->last ? 0 : error_move(err, &why);
	}
	j = exchange_next_json(s->exchange, &why);
	if (!j) {
		s->ended = true;
		return 0;
	}
	json_unref(s->last);
	s->last = j;
	return 0;
}

static int draw(struct streams *all, bool names_given, bool terminal, struct error *err)
{
	autolisting struct listing l = { 0 };
	autobuf struct buf text = BUF_INIT(BUF_NO_LIMIT);
	autobuf struct buf out = BUF_INIT(BUF_NO_LIMIT);

	if (listing_init(&l, opts.format, TABLE, columns, err) < 0)
		return -1;
	for (size_t i = 0; i < all->n; i++) {
		struct stream *s = &all->v[i];

		if (s->ended && !names_given && !opts.no_stream)
			continue;
		if (listing_add(&l, make_row(s), NULL, err) < 0)
			return -1;
	}
	if (listing_flush(&l, &text, err) < 0)
		return -1;
	if (!terminal)
		return cli_write(text.data, text.len) ? 0 : 1;
	buf_puts(&out, "\x1b[H");
	for (const char *p = text.data; *p;) {
		size_t n = strcspn(p, "\n");

		buf_append(&out, p, n);
		buf_puts(&out, "\x1b[K\n");
		p += n + (p[n] == '\n');
	}
	buf_puts(&out, "\x1b[J");
	return cli_write(out.data, out.len) ? 0 : 1;
}

/* Waits for documents and takes those that are there. 1: no stream is left. */
static int take_some(struct streams *all, int timeout_ms, struct error *err)
{
	autofree struct pollfd *p = xnew_array(struct pollfd, all->n + 1);
	size_t open = 0;

	for (size_t i = 0; i < all->n; i++) {
		p[i] = (struct pollfd){ all->v[i].ended ? -1 : all->v[i].exchange->fd, POLLIN, 0 };
		open += !all->v[i].ended;
		if (!all->v[i].ended && exchange_buffered(all->v[i].exchange))
			timeout_ms = 0;
	}
	if (poll(p, all->n, timeout_ms) < 0 && errno != EINTR)
		return error_errno(err, errno, "poll");
	for (size_t i = 0; i < all->n; i++)
		if ((p[i].revents || (p[i].fd >= 0 && exchange_buffered(all->v[i].exchange))) &&
		    take_document(&all->v[i], err) < 0)
			return -1;
	return open ? 0 : 1;
}

static int stream_stats(struct cli *cli, struct streams *all, bool names_given, struct error *err)
{
	bool terminal = terminal_is(STDOUT_FILENO);
	int64_t drawn = 0;

	if (terminal)
		cli_print("\x1b[2J");
	for (;;) {
		int r = take_some(all, (int)(DRAW_INTERVAL / NSEC_PER_MSEC), err);

		if (r < 0)
			return -1;
		if (r == 1 && names_given)
			return draw(all, names_given, terminal, err) < 0 ? -1 : 0;
		if (time_monotonic() - drawn < DRAW_INTERVAL)
			continue;
		drawn = time_monotonic();
		r = draw(all, names_given, terminal, err);
		if (r)
			return r < 0 ? -1 : 0;
		if (!names_given && follow_list(cli, all, err) < 0)
			return -1;
	}
}

static int run_stats(struct cli *cli, int argc, char **argv, struct error *err)
{
	CLEANUP(streams_done) struct streams all = { 0 };

	for (int i = 0; i < argc; i++)
		if (add_stream(cli, &all, argv[i], err) < 0)
			return -1;
	if (!argc && follow_list(cli, &all, err) < 0)
		return -1;
	if (!opts.no_stream)
		return stream_stats(cli, &all, argc > 0, err);
	for (size_t i = 0; i < all.n; i++)
		if (take_document(&all.v[i], err) < 0)
			return -1;
	return draw(&all, argc > 0, /* terminal= */ false, err) < 0 ? -1 : 0;
}

static const struct option options[] = {
	{ OPTION_BOOL, 'a', "all", &opts.all, "Show all containers (default shows just running)" },
	{ OPTION_STRING, 0, "format", &opts.format, OPTION_HELP_FORMAT },
	{ OPTION_BOOL, 0, "no-stream", &opts.no_stream,
	  "Disable streaming stats and only pull the first result" },
	{ OPTION_BOOL, 0, "no-trunc", &opts.no_trunc, "Do not truncate output" },
	{ OPTION_END },
};

const struct command command_stats = {
	.paths = "container stats|stats",
	.args = "[OPTIONS] [CONTAINER...]",
	.summary = "Display a live stream of container(s) resource usage statistics",
	.max_args = -1,
	.complete = COMPLETE_RUNNING,
	.options = options,
	.run = run_stats,
};
