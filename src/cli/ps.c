/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/ports.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static struct {
	bool all, latest, no_trunc, quiet, size;
	struct strv filters;
	const char *format;
	int64_t last;
} opts = { .last = -1 };

#define TABLE                                                                                 \
	"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t" \
	"{{.Names}}"

static const struct column columns[] = {
	{ "ID", "CONTAINER ID" },
	{ "Image", "IMAGE" },
	{ "Command", "COMMAND" },
	{ "CreatedAt", "CREATED AT" },
	{ "RunningFor", "CREATED" },
	{ "Ports", "PORTS" },
	{ "State", "STATE" },
	{ "Status", "STATUS" },
	{ "Size", "SIZE" },
	{ "Names", "NAMES" },
	{ "Labels", "LABELS" },
	{ "Mounts", "MOUNTS" },
	{ "LocalVolumes", "LOCAL VOLUMES" },
	{ "Networks", "NETWORKS" },
	{ "Platform", "PLATFORM" },
	{ NULL, NULL },
};

static const char *text(const struct json *j, const char *key)
{
	const char *s = json_get_string(j, key);

	return s ? s : "";
}

static char *names_of(const struct json *c)
{
	const struct json *names = json_get(c, "Names");
	struct buf b = BUF_INIT(BUF_NO_LIMIT);

	for (size_t i = 0; i < json_array_len(names); i++) {
		const char *name = json_string(json_array_get(names, i));

		if (!name)
			continue;
		name += *name == '/';
		/* "/other/alias" is a link's name. */
		if (!opts.no_trunc && strchr(name, '/'))
			continue;
		buf_printf(&b, "%s%s", b.len ? "," : "", name);
	}
	return buf_steal(&b, NULL);
}

static char *image_of(const struct json *c)
{
	const char *image = text(c, "Image");
	autofree char *short_image = format_short_id(image);
	autofree char *short_id = format_short_id(text(c, "ImageID"));
	const char *at = strchr(image, '@');

	if (!*image)
		return xstrdup("<no image>");
	if (opts.no_trunc)
		return xstrdup(image);
	if (*short_id && strcmp(short_image, short_id) == 0)
		return xstrdup(short_id);
	if (at && at != image)
		return xstrndup(image, (size_t)(at - image));
	return xstrdup(image);
}

static char *command_of(const struct json *c)
{
	const char *command = text(c, "Command");
	autofree char *cut = opts.no_trunc ? xstrdup(command) : format_ellipsis(command, 20);

	return format_quote(cut);
}

static char *size_of(const struct json *c)
{
	autofree char *rw = human_size((double)json_get_int(c, "SizeRw", 0), 3);
	int64_t root = json_get_int(c, "SizeRootFs", 0);
	autofree char *all = human_size((double)root, 3);

	return root > 0 ? xasprintf("%s (virtual %s)", rw, all) : xstrdup(rw);
}

static int join_pair(const char *key, struct json *value, void *arg)
{
	struct buf *b = arg;
	const char *s = json_string(value);

	buf_printf(b, "%s%s=%s", b->len ? "," : "", key, s ? s : "");
	return 0;
}

static int join_key(const char *key, struct json *value, void *arg)
{
	struct buf *b = arg;

	buf_printf(b, "%s%s", b->len ? "," : "", key);
	return 0;
}

static void join_mounts(const struct json *mounts, struct buf *b, int64_t *ret_local)
{
	*ret_local = 0;
	for (size_t i = 0; i < json_array_len(mounts); i++) {
		const struct json *m = json_array_get(mounts, i);
		const char *name = *text(m, "Name") ? text(m, "Name") : text(m, "Source");
		autofree char *cut = opts.no_trunc ? xstrdup(name) : format_ellipsis(name, 15);

		*ret_local += strcmp(text(m, "Driver"), "local") == 0;
		buf_printf(b, "%s%s", b->len ? "," : "", cut);
	}
}

static void set_lists(struct json *row, const struct json *c)
{
	autobuf struct buf labels = BUF_INIT(BUF_NO_LIMIT);
	autobuf struct buf mounts = BUF_INIT(BUF_NO_LIMIT);
	autobuf struct buf networks = BUF_INIT(BUF_NO_LIMIT);
	int64_t local;
	char number[32];

	json_object_each(json_get(c, "Labels"), join_pair, &labels);
	join_mounts(json_get(c, "Mounts"), &mounts, &local);
	json_object_each(json_get(json_get(c, "NetworkSettings"), "Networks"), join_key, &networks);
	snprintf(number, sizeof(number), "%lld", (long long)local);
	json_set_string(row, "Labels", labels.data);
	json_set_string(row, "Mounts", mounts.data);
	json_set_string(row, "LocalVolumes", number);
	json_set_string(row, "Networks", networks.data);
}

/* What the table does not show, but a template may. */
static void set_more(struct json *row, const struct json *c)
{
	autofree char *created_at = format_time(json_get_int(c, "Created", 0));

	json_set_string(row, "CreatedAt", created_at);
	json_set_string(row, "State", text(c, "State"));
	json_set(row, "Platform", NULL);
	set_lists(row, c);
}

static struct json *make_row(const struct json *c, bool all)
{
	int64_t created = json_get_int(c, "Created", 0);
	autofree char *id = opts.no_trunc ? xstrdup(text(c, "Id")) : format_short_id(text(c, "Id"));
	autofree char *image = image_of(c);
	autofree char *command = command_of(c);
	autofree char *running = format_ago(created);
	autofree char *names = names_of(c);
	autofree char *ports = ports_display(json_get(c, "Ports"));
	autofree char *size = size_of(c);
	struct json *row = json_new_object();

	json_set_string(row, "ID", id);
	json_set_string(row, "Image", image);
	json_set_string(row, "Command", command);
	json_set_string(row, "RunningFor", running);
	json_set_string(row, "Names", names);
	json_set_string(row, "Ports", ports);
	json_set_string(row, "Size", size);
	json_set_string(row, "Status", text(c, "Status"));
	if (all)
		set_more(row, c);
	return row;
}

static int fetch(struct cli *cli, struct json **ret, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *filters = cli_filters(&opts.filters);
	bool wants_size = opts.size || (opts.format && strstr(opts.format, ".Size"));
	char number[32];

	if (opts.latest && opts.last == -1)
		opts.last = 1;
	buf_puts(&url, "/containers/json");
	url_query(&url, "all", opts.all ? "1" : NULL);
	if (opts.last > 0) {
		snprintf(number, sizeof(number), "%lld", (long long)opts.last);
		url_query(&url, "limit", number);
	}
	url_query(&url, "size", wants_size ? "1" : NULL);
	url_query(&url, "filters", filters);
	return client_get(&cli->client, url.data, ret, err);
}

static int run_ps(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *list = NULL;
	autolisting struct listing l = { 0 };
	const char *table = opts.quiet ? "{{.ID}}" : opts.size ? TABLE "\t{{.Size}}" : TABLE;
	bool quiet_table = opts.quiet && (!opts.format || str_has_prefix(opts.format, "table"));

	if (listing_init(&l, quiet_table ? NULL : opts.format, table, columns, err) < 0 ||
	    fetch(cli, &list, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *c = json_array_get(list, i);
		autojson struct json *extra = json_new_object();
		struct json *labels = json_get(c, "Labels");

		json_set(extra, "Label", labels ? json_ref(labels) : json_new_object());
		if (listing_add(&l, make_row(c, !l.is_default), extra, err) < 0)
			return -1;
	}
	return listing_print(&l, err);
}

static const struct option options[] = {
	{ OPTION_BOOL, 'a', "all", &opts.all, "Show all containers (default shows just running)" },
	{ OPTION_LIST, 'f', "filter", &opts.filters, "Filter output based on conditions provided",
	  "filter", .check = option_check_filter },
	{ OPTION_STRING, 0, "format", &opts.format, OPTION_HELP_FORMAT },
	{ OPTION_INT, 'n', "last", &opts.last,
	  "Show n last created containers (includes all states)", .fallback = "-1" },
	{ OPTION_BOOL, 'l', "latest", &opts.latest,
	  "Show the latest created container (includes all states)" },
	{ OPTION_BOOL, 0, "no-trunc", &opts.no_trunc, "Don't truncate output" },
	{ OPTION_BOOL, 'q', "quiet", &opts.quiet, "Only display container IDs" },
	{ OPTION_BOOL, 's', "size", &opts.size, "Display total file sizes" },
	{ OPTION_END },
};

const struct command command_ps = {
	.paths = "container ls|container list|container ps|ps",
	.args = "[OPTIONS]",
	.summary = "List containers",
	.flags = COMMAND_COMMON,
	.options = options,
	.run = run_ps,
};
