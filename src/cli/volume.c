/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/prune.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static struct {
	bool all, force, quiet;
	const char *driver, *format;
	struct strv filters, labels, options;
} opts = { .driver = "local" };

static const struct column columns[] = {
	{ "Driver", "DRIVER" }, { "Name", "VOLUME NAME" },
	{ "Scope", "SCOPE" },	{ "Mountpoint", "MOUNTPOINT" },
	{ "Labels", "LABELS" }, { "Links", "LINKS" },
	{ "Size", "SIZE" },	{ NULL, NULL },
};

static int run_create(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *body = json_new_object();
	autojson struct json *reply = NULL;
	const char *name;

	json_set_string(body, "Name", argc ? argv[0] : "");
	json_set_string(body, "Driver", opts.driver);
	json_set(body, "DriverOpts", cli_map_option(&opts.options));
	json_set(body, "Labels", cli_map_option(&opts.labels));
	if (client_call(&cli->client, "POST", "/volumes/create", body, &reply, err) < 0)
		return -1;
	name = json_get_string(reply, "Name");
	cli_print("%s\n", name ? name : "");
	return 0;
}

static int join_pair(const char *key, struct json *value, void *arg)
{
	struct buf *b = arg;
	const char *s = json_string(value);

	buf_printf(b, "%s%s=%s", b->len ? "," : "", key, s ? s : "");
	return 0;
}

static struct json *make_row(const struct json *v)
{
	static const char *const members[] = { "Driver", "Name", "Scope", "Mountpoint" };
	const struct json *usage = json_get(v, "UsageData");
	autobuf struct buf labels = BUF_INIT(BUF_NO_LIMIT);
	struct json *row = json_new_object();
	autofree char *size =
		usage ? human_size((double)json_get_int(usage, "Size", 0), 4) : xstrdup("N/A");
	autofree char *links =
		usage ? xasprintf("%lld", (long long)json_get_int(usage, "RefCount", 0))
		      : xstrdup("N/A");

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		const char *s = json_get_string(v, members[i]);

		json_set_string(row, members[i], s ? s : "");
	}
	json_object_each(json_get(v, "Labels"), join_pair, &labels);
	json_set_string(row, "Labels", labels.data);
	json_set_string(row, "Size", size);
	json_set_string(row, "Links", links);
	return row;
}

static int by_name(const void *a, const void *b)
{
	const char *x = json_get_string(*(struct json *const *)a, "Name");
	const char *y = json_get_string(*(struct json *const *)b, "Name");

	return strcmp(x ? x : "", y ? y : "");
}

static int run_ls(struct cli *cli, int argc, char **argv, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *filters = cli_filters(&opts.filters);
	autojson struct json *reply = NULL;
	autolisting struct listing l = { 0 };
	const struct json *list;
	autofree struct json **sorted = NULL;

	buf_puts(&url, "/volumes");
	url_query(&url, "filters", filters);
	if (listing_init(&l, opts.format, opts.quiet ? "{{.Name}}" : "table {{.Driver}}\t{{.Name}}",
			 columns, err) < 0 ||
	    client_get(&cli->client, url.data, &reply, err) < 0)
		return -1;
	list = json_get(reply, "Volumes");
	sorted = xnew_array(struct json *, json_array_len(list) + 1);
	for (size_t i = 0; i < json_array_len(list); i++)
		sorted[i] = json_array_get(list, i);
	qsort(sorted, json_array_len(list), sizeof(*sorted), by_name);
	for (size_t i = 0; i < json_array_len(list); i++) {
		struct json *labels = json_get(sorted[i], "Labels");
		autojson struct json *extra = json_new_object();

		json_set(extra, "Label", labels ? json_ref(labels) : json_new_object());
		if (listing_add(&l, make_row(sorted[i]), extra, err) < 0)
			return -1;
	}
	return listing_print(&l, err);
}

static int rm_one(struct cli *cli, const char *name, struct error *err)
{
	autofree char *path = url_format("/volumes/{}", name);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);

	buf_puts(&url, path);
	url_query(&url, "force", opts.force ? "1" : NULL);
	if (client_call(&cli->client, "DELETE", url.data, NULL, NULL, err) < 0)
		return -1;
	cli_print("%s\n", name);
	return 0;
}

static int run_rm(struct cli *cli, int argc, char **argv, struct error *err)
{
	return cli_for_each(cli, argc, argv, rm_one);
}

static int run_prune(struct cli *cli, int argc, char **argv, struct error *err)
{
	if (!opts.force &&
	    !cli_confirm(opts.all ? "WARNING! This will remove all local volumes not used by at "
				    "least one container.\nAre you sure you want to continue?"
				  : "WARNING! This will remove anonymous local volumes not used "
				    "by at least one container.\nAre you sure you want to "
				    "continue?"))
		return error_set(err, ERROR_CANCELLED, "volume prune has been cancelled");
	return prune_volumes(cli, &opts.filters, opts.all, err) < 0 ? -1 : prune_print_total();
}

static const struct option create_options[] = {
	{ OPTION_STRING, 'd', "driver", &opts.driver, "Specify volume driver name",
	  .fallback = "\"local\"" },
	{ OPTION_LIST, 0, "label", &opts.labels, "Set metadata for a volume" },
	{ OPTION_LIST, 'o', "opt", &opts.options, "Set driver specific options", "map", "map[]" },
	{ OPTION_END },
};

static const struct option ls_options[] = {
	{ OPTION_LIST, 'f', "filter", &opts.filters,
	  "Provide filter values (e.g. \"dangling=true\")", "filter",
	  .check = option_check_filter },
	{ OPTION_STRING, 0, "format", &opts.format, OPTION_HELP_FORMAT },
	{ OPTION_BOOL, 'q', "quiet", &opts.quiet, "Only display volume names" },
	{ OPTION_END },
};

static const struct option rm_options[] = {
	{ OPTION_BOOL, 'f', "force", &opts.force, "Force the removal of one or more volumes" },
	{ OPTION_END },
};

static const struct option prune_options[] = {
	{ OPTION_BOOL, 'a', "all", &opts.all,
	  "Remove all unused volumes, not just anonymous ones" },
	{ OPTION_LIST, 0, "filter", &opts.filters, "Provide filter values (e.g. \"label=<label>\")",
	  "filter", .check = option_check_filter },
	{ OPTION_BOOL, 'f', "force", &opts.force, "Do not prompt for confirmation" },
	{ OPTION_END },
};

const struct command command_volume_create = {
	.paths = "volume create",
	.args = "[OPTIONS] [VOLUME]",
	.summary = "Create a volume",
	.max_args = 1,
	.options = create_options,
	.run = run_create,
};

const struct command command_volume_ls = {
	.paths = "volume ls|volume list",
	.args = "[OPTIONS]",
	.summary = "List volumes",
	.options = ls_options,
	.run = run_ls,
};

const struct command command_volume_rm = {
	.paths = "volume rm|volume remove",
	.args = "[OPTIONS] VOLUME [VOLUME...]",
	.summary = "Remove one or more volumes",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_VOLUMES,
	.options = rm_options,
	.run = run_rm,
};

const struct command command_volume_prune = {
	.paths = "volume prune",
	.args = "[OPTIONS]",
	.summary = "Remove unused local volumes",
	.options = prune_options,
	.run = run_prune,
};
