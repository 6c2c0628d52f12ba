/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/format.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static struct {
	const char *format;
	bool verbose;
} opts;

static const struct column columns[] = {
	{ "Type", "TYPE" }, { "TotalCount", "TOTAL" },	      { "Active", "ACTIVE" },
	{ "Size", "SIZE" }, { "Reclaimable", "RECLAIMABLE" }, { NULL, NULL },
};

struct usage {
	int64_t count, active, size, reclaimable;
};

static struct usage image_usage(const struct json *df)
{
	const struct json *list = json_get(df, "Images");
	struct usage u = { .count = (int64_t)json_array_len(list),
			   .size = json_get_int(df, "LayersSize", 0) };
	int64_t used = 0;

	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *image = json_array_get(list, i);
		int64_t size = json_get_int(image, "Size", -1);
		int64_t shared = json_get_int(image, "SharedSize", -1);

		if (json_get_int(image, "Containers", 0) <= 0)
			continue;
		u.active++;
		if (size >= 0)
			used += shared > 0 ? size - shared : size;
	}
	u.reclaimable = used < u.size ? u.size - used : 0;
	return u;
}

static struct usage container_usage(const struct json *df)
{
	const struct json *list = json_get(df, "Containers");
	struct usage u = { .count = (int64_t)json_array_len(list) };

	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *c = json_array_get(list, i);
		const char *state = json_get_string(c, "State");
		int64_t size = json_get_int(c, "SizeRw", 0);
		bool active =
			state && (strcmp(state, "running") == 0 || strcmp(state, "paused") == 0 ||
				  strcmp(state, "restarting") == 0);

		u.size += size;
		u.active += active;
		u.reclaimable += active ? 0 : size;
	}
	return u;
}

static struct usage volume_usage(const struct json *df)
{
	const struct json *list = json_get(df, "Volumes");
	struct usage u = { .count = (int64_t)json_array_len(list) };

	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *data = json_get(json_array_get(list, i), "UsageData");
		int64_t size = json_get_int(data, "Size", -1);
		bool active = json_get_int(data, "RefCount", 0) > 0;

		u.active += active;
		u.size += size > 0 ? size : 0;
		u.reclaimable += size > 0 && !active ? size : 0;
	}
	return u;
}

static struct usage cache_usage(const struct json *df)
{
	const struct json *list = json_get(df, "BuildCache");
	struct usage u = { .count = (int64_t)json_array_len(list) };

	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *c = json_array_get(list, i);
		bool active = json_get_bool(c, "InUse", false);
		int64_t size = json_get_bool(c, "Shared", false) ? 0 : json_get_int(c, "Size", 0);

		u.active += active;
		u.size += size;
		u.reclaimable += active ? 0 : size;
	}
	return u;
}

static struct json *make_row(const char *type, struct usage u)
{
	struct json *row = json_new_object();
	autofree char *count = xasprintf("%lld", (long long)u.count);
	autofree char *active = xasprintf("%lld", (long long)u.active);
	autofree char *size = human_size((double)u.size, 4);
	autofree char *free_size = human_size((double)u.reclaimable, 4);
	autofree char *reclaimable =
		u.size > 0 && strcmp(type, "Build Cache") != 0
			? xasprintf("%s (%lld%%)", free_size,
				    (long long)((double)u.reclaimable * 100 / (double)u.size))
			: xstrdup(free_size);

	json_set_string(row, "Type", type);
	json_set_string(row, "TotalCount", count);
	json_set_string(row, "Active", active);
	json_set_string(row, "Size", size);
	json_set_string(row, "Reclaimable", reclaimable);
	return row;
}

/* With -v: one line an object, below its own heading. */
static void add_details(struct buf *out, const char *heading, const char *titles,
			const struct json *list, const char *const *members, const char *size_of)
{
	autobuf struct buf lines = BUF_INIT(API_DOCUMENT_MAX);

	buf_puts(&lines, titles);
	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *item = json_array_get(list, i);
		const struct json *sized =
			strcmp(size_of, "UsageData") == 0 ? json_get(item, "UsageData") : item;
		int64_t bytes = json_get_int(sized, sized == item ? size_of : "Size", 0);
		autofree char *size = human_size((double)MAX(bytes, (int64_t)0), 3);

		for (const char *const *m = members; *m; m++) {
			const struct json *v = json_get(item, *m);
			const char *s = json_type(v) == JSON_ARRAY
						? json_string(json_array_get(v, 0))
						: json_string(v);
			autofree char *shown =
				strcmp(*m, "Id") == 0 && s ? format_short_id(s) : xstrdup(s);

			buf_printf(&lines, "%s\t", shown ? shown : "<none>");
		}
		buf_printf(&lines, "%s\n", size);
	}
	buf_printf(out, "%s space usage:\n\n", heading);
	format_table(lines.data, out);
	buf_putc(out, '\n');
}

static int print_verbose(const struct json *df)
{
	static const char *const image[] = { "RepoTags", "Id", NULL };
	static const char *const container[] = { "Id", "Image", "Status", "Names", NULL };
	static const char *const volume[] = { "Name", "Driver", NULL };
	autobuf struct buf out = BUF_INIT(BUF_NO_LIMIT);

	add_details(&out, "Images", "IMAGE\tIMAGE ID\tSIZE\n", json_get(df, "Images"), image,
		    "Size");
	add_details(&out, "Containers", "CONTAINER ID\tIMAGE\tSTATUS\tNAMES\tSIZE\n",
		    json_get(df, "Containers"), container, "SizeRw");
	add_details(&out, "Local Volumes", "VOLUME NAME\tDRIVER\tSIZE\n", json_get(df, "Volumes"),
		    volume, "UsageData");
	cli_write(out.data, out.len);
	return 0;
}

static int run_df(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *df = NULL;
	autolisting struct listing l = { 0 };

	if (opts.verbose && !str_empty(opts.format) && strcmp(opts.format, "table") != 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "the verbose and the format options conflict");
	if (listing_init(&l, opts.format,
			 "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t"
			 "{{.Reclaimable}}",
			 columns, err) < 0 ||
	    client_get(&cli->client, "/system/df", &df, err) < 0)
		return -1;
	if (opts.verbose)
		return print_verbose(df);
	if (listing_add(&l, make_row("Images", image_usage(df)), NULL, err) < 0 ||
	    listing_add(&l, make_row("Containers", container_usage(df)), NULL, err) < 0 ||
	    listing_add(&l, make_row("Local Volumes", volume_usage(df)), NULL, err) < 0 ||
	    listing_add(&l, make_row("Build Cache", cache_usage(df)), NULL, err) < 0)
		return -1;
	return listing_print(&l, err);
}

static const struct option options[] = {
	{ OPTION_STRING, 0, "format", &opts.format, OPTION_HELP_FORMAT },
	{ OPTION_BOOL, 'v', "verbose", &opts.verbose, "Show detailed information on space usage" },
	{ OPTION_END },
};

const struct command command_df = {
	.paths = "system df",
	.args = "[OPTIONS]",
	.summary = "Show Kistl's disk usage",
	.options = options,
	.run = run_df,
};
