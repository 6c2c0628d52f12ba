/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/format.h"

#include "base/mem.h"
#include "base/time.h"

#include <string.h>

static struct {
	bool human, no_trunc, quiet;
	const char *format, *platform;
} opts = { .human = true };

#define TABLE                                                                      \
	"table {{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t" \
	"{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"

#define TABLE_EXACT "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"

static const struct column columns[] = {
	{ "ID", "IMAGE" },
	{ "CreatedSince", "CREATED" },
	{ "CreatedAt", "CREATED AT" },
	{ "CreatedBy", "CREATED BY" },
	{ "Size", "SIZE" },
	{ "Comment", "COMMENT" },
	{ NULL, NULL },
};

static const char *text(const struct json *j, const char *key)
{
	const char *s = json_get_string(j, key);

	return s ? s : "";
}

static struct json *make_row(const struct json *layer)
{
	struct json *row = json_new_object();
	const char *full = text(layer, "Id");
	int64_t created = json_get_int(layer, "Created", 0);
	int64_t size = json_get_int(layer, "Size", 0);
	autofree char *id = opts.no_trunc || *full == '<' ? xstrdup(full) : format_short_id(full);
	autofree char *by = opts.no_trunc ? xstrdup(text(layer, "CreatedBy"))
					  : format_ellipsis(text(layer, "CreatedBy"), 45);
	autofree char *bytes =
		opts.human ? human_size((double)size, 3) : xasprintf("%lld", (long long)size);
	autofree char *ago = format_ago(created);
	char at[TIME_RFC3339_MAX];

	for (char *c = by; *c; c++)
		if (*c == '\t' || *c == '\n')
			*c = ' ';
	time_format_rfc3339(created * NSEC_PER_SEC, at);
	json_set_string(row, "ID", id);
	json_set_string(row, "CreatedAt", at);
	json_set_string(row, "CreatedSince", created <= 0 ? "" : opts.human ? ago : at);
	json_set_string(row, "CreatedBy", by);
	json_set_string(row, "Size", bytes);
	json_set_string(row, "Comment", text(layer, "Comment"));
	return row;
}

static int run_history(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *path = url_format("/images/{}/history", argv[0]);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autojson struct json *list = NULL;
	autolisting struct listing l = { 0 };
	const char *table = opts.quiet ? "{{.ID}}" : opts.human ? TABLE : TABLE_EXACT;

	buf_puts(&url, path);
	url_query(&url, "platform", opts.platform);
	if (listing_init(&l, opts.quiet ? NULL : opts.format, table, columns, err) < 0 ||
	    client_get(&cli->client, url.data, &list, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_len(list); i++)
		if (listing_add(&l, make_row(json_array_get(list, i)), NULL, err) < 0)
			return -1;
	return listing_print(&l, err);
}

static const struct option options[] = {
	{ OPTION_STRING, 0, "format", &opts.format, OPTION_HELP_FORMAT },
	{ OPTION_BOOL, 'H', "human", &opts.human, "Print sizes and dates in human readable format",
	  .fallback = "true" },
	{ OPTION_BOOL, 0, "no-trunc", &opts.no_trunc, "Don't truncate output" },
	{ OPTION_STRING, 0, "platform", &opts.platform,
	  "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., "
	  "\"linux/amd64\")" },
	{ OPTION_BOOL, 'q', "quiet", &opts.quiet, "Only show image IDs" },
	{ OPTION_END },
};

const struct command command_history = {
	.paths = "image history|history",
	.args = "[OPTIONS] IMAGE",
	.summary = "Show the history of an image",
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_IMAGES,
	.options = options,
	.run = run_history,
};
