/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/auth.h"
#include "cli/commands.h"
#include "cli/format.h"

#include "base/mem.h"

#include <stdio.h>

#define DESCRIPTION_MAX 45

static struct {
	bool no_trunc;
	const char *format;
	int64_t limit;
	struct strv filters;
} opts;

static const struct column columns[] = {
	{ "Name", "NAME" },	  { "Description", "DESCRIPTION" },
	{ "StarCount", "STARS" }, { "IsOfficial", "OFFICIAL" },
	{ NULL, NULL },
};

static struct json *make_row(const struct json *found)
{
	const char *name = json_get_string(found, "name");
	const char *description = json_get_string(found, "description");
	autofree char *line = xstrdup(description ? description : "");
	autofree char *shown = NULL;
	struct json *row = json_new_object();

	for (char *p = line; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	shown = opts.no_trunc ? xstrdup(line) : format_ellipsis(line, DESCRIPTION_MAX);
	json_set_string(row, "Name", name ? name : "");
	json_set_string(row, "Description", shown);
	json_set_int(row, "StarCount", json_get_int(found, "star_count", 0));
	json_set_string(row, "IsOfficial",
			json_get_bool(found, "is_official", false) ? "[OK]" : "");
	return row;
}

static int run_search(struct cli *cli, int argc, char **argv, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *filters = cli_filters(&opts.filters);
	autofree char *auth = auth_header_for_image(argv[0], NULL);
	autolisting struct listing listing = { 0 };
	autoexchange struct exchange *ex = NULL;
	autojson struct json *list = NULL;
	struct request req = { .method = "GET", .auth = auth };

	if (listing_init(&listing, opts.format,
			 "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
			 columns, err) < 0)
		return -1;
	buf_puts(&url, "/images/search");
	url_query(&url, "term", argv[0]);
	if (opts.limit) {
		autofree char *limit = xasprintf("%lld", (long long)opts.limit);

		url_query(&url, "limit", limit);
	}
	url_query(&url, "filters", filters);
	req.path = url.data;
	ex = client_open(&cli->client, &req, err);
	if (!ex || exchange_json(ex, &list, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_len(list); i++)
		if (listing_add(&listing, make_row(json_array_get(list, i)), NULL, err) < 0)
			return -1;
	return listing_print(&listing, err);
}

static const struct option options[] = {
	{ OPTION_LIST, 'f', "filter", &opts.filters, "Filter output based on conditions provided",
	  "filter", .check = option_check_filter },
	{ OPTION_STRING, 0, "format", &opts.format, "Pretty-print search using a Go template" },
	{ OPTION_INT, 0, "limit", &opts.limit, "Max number of search results" },
	{ OPTION_BOOL, 0, "no-trunc", &opts.no_trunc, "Don't truncate output" },
	{ OPTION_END },
};

const struct command command_search = {
	.paths = "search",
	.args = "[OPTIONS] TERM",
	.summary = "Search Docker Hub for images",
	.min_args = 1,
	.max_args = 1,
	.flags = COMMAND_COMMON,
	.options = options,
	.run = run_search,
};
