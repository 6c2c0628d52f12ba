/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/template.h"

#include "base/mem.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct {
	struct strv filters;
	const char *format, *since, *until;
} opts;

static int collect_key(const char *key, struct json *value, void *arg)
{
	strv_push(arg, key);
	return 0;
}

/* RFC 3339 in local time, always nine digits. */
static void print_time(struct buf *b, int64_t ns)
{
	time_t t = (time_t)(ns / NSEC_PER_SEC);
	char day[32], zone[16];
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm) ||
	    !strftime(zone, sizeof(zone), "%z", &tm))
		return;
	buf_printf(b, "%s.%09lld", day, (long long)(ns % NSEC_PER_SEC));
	if (strcmp(zone, "+0000") == 0)
		buf_puts(b, "Z ");
	else
		buf_printf(b, "%.3s:%s ", zone, zone + 3);
}

static void print_plain(const struct json *event, struct buf *b)
{
	const struct json *actor = json_get(event, "Actor");
	const struct json *attributes = json_get(actor, "Attributes");
	int64_t ns = json_get_int(event, "timeNano", 0);
	autostrv struct strv keys = STRV_INIT;
	const char *parts[] = { json_get_string(event, "Type"), json_get_string(event, "Action"),
				json_get_string(actor, "ID") };

	if (!ns)
		ns = json_get_int(event, "time", 0) * NSEC_PER_SEC;
	if (ns)
		print_time(b, ns);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		buf_printf(b, "%s%s", i ? " " : "", parts[i] ? parts[i] : "");
	json_object_each(attributes, collect_key, &keys);
	strv_sort(&keys);
	for (size_t i = 0; i < keys.n; i++) {
		const char *value = json_get_string(attributes, keys.v[i]);

		buf_printf(b, "%s%s=%s", i ? ", " : " (", keys.v[i], value ? value : "");
	}
	buf_puts(b, keys.n ? ")\n" : "\n");
}

static int show(struct exchange *ex, const struct template *t, struct error *err)
{
	for (;;) {
		autojson struct json *event = exchange_next_json(ex, err);
		autobuf struct buf b = BUF_INIT(TEMPLATE_OUTPUT_MAX);

		if (!event)
			return err->code ? -1 : 0;
		if (!t)
			print_plain(event, &b);
		else if (template_execute(t, event, NULL, &b, err) < 0)
			return -1;
		else
			buf_putc(&b, '\n');
		if (!cli_write(b.data, b.len))
			return 0;
	}
}

static int run_events(struct cli *cli, int argc, char **argv, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *filters = cli_filters(&opts.filters);
	autofree char *since = NULL;
	autofree char *until = NULL;
	autotemplate struct template *t = NULL;
	autoexchange struct exchange *ex = NULL;
	struct request req = { .method = "GET" };

	if (!str_empty(opts.format)) {
		t = template_parse(strcmp(opts.format, "json") == 0 ? "{{json .}}" : opts.format,
				   err);
		if (!t)
			return -1;
	}
	if (cli_timestamp(opts.since, "since", &since, err) < 0 ||
	    cli_timestamp(opts.until, "until", &until, err) < 0)
		return -1;
	buf_puts(&url, "/events");
	url_query(&url, "since", since);
	url_query(&url, "until", until);
	url_query(&url, "filters", filters);
	req.path = url.data;
	ex = client_open(&cli->client, &req, err);
	return ex ? show(ex, t, err) : -1;
}

static const struct option options[] = {
	{ OPTION_LIST, 'f', "filter", &opts.filters, "Filter output based on conditions provided",
	  "filter", .check = option_check_filter },
	{ OPTION_STRING, 0, "format", &opts.format, OPTION_HELP_FORMAT_ONE },
	{ OPTION_STRING, 0, "since", &opts.since, "Show all events created since timestamp" },
	{ OPTION_STRING, 0, "until", &opts.until, "Stream events until this timestamp" },
	{ OPTION_END },
};

const struct command command_events = {
	.paths = "system events|events",
	.args = "[OPTIONS]",
	.summary = "Get real time events from the server",
	.options = options,
	.run = run_events,
};
