/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/prune.h"
#include "cli/commands.h"
#include "cli/format.h"

#include "base/mem.h"

static int64_t reclaimed;

static int prune(struct cli *cli, const char *path, const char *member, const char *title,
		 const struct strv *filters, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *text = cli_filters(filters);
	autojson struct json *reply = NULL;
	const struct json *list;

	buf_puts(&url, path);
	url_query(&url, "filters", text);
	if (client_call(&cli->client, "POST", url.data, NULL, &reply, err) < 0)
		return -1;
	reclaimed += json_get_int(reply, "SpaceReclaimed", 0);
	list = json_get(reply, member);
	if (!json_array_len(list))
		return 0;
	cli_print("Deleted %s:\n", title);
	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *item = json_array_get(list, i);
		const char *deleted = json_get_string(item, "Deleted");
		const char *untagged = json_get_string(item, "Untagged");

		if (json_string(item))
			cli_print("%s\n", json_string(item));
		else if (!str_empty(untagged))
			cli_print("untagged: %s\n", untagged);
		else if (!str_empty(deleted))
			cli_print("deleted: %s\n", deleted);
	}
	cli_print("\n");
	return 0;
}

int prune_containers(struct cli *cli, const struct strv *filters, struct error *err)
{
	return prune(cli, "/containers/prune", "ContainersDeleted", "Containers", filters, err);
}

int prune_networks(struct cli *cli, const struct strv *filters, struct error *err)
{
	return prune(cli, "/networks/prune", "NetworksDeleted", "Networks", filters, err);
}

int prune_volumes(struct cli *cli, const struct strv *filters, bool all, struct error *err)
{
	autostrv struct strv with = STRV_INIT;

	strv_copy(&with, filters);
	if (all)
		strv_push(&with, "all=true");
	return prune(cli, "/volumes/prune", "VolumesDeleted", "Volumes", &with, err);
}

int prune_images(struct cli *cli, const struct strv *filters, bool all, struct error *err)
{
	autostrv struct strv with = STRV_INIT;

	strv_copy(&with, filters);
	strv_push(&with, all ? "dangling=false" : "dangling=true");
	return prune(cli, "/images/prune", "ImagesDeleted", "Images", &with, err);
}

int prune_print_total(void)
{
	autofree char *size = human_size((double)reclaimed, 4);

	cli_print("Total reclaimed space: %s\n", size);
	return 0;
}

static struct {
	bool all, force, volumes;
	struct strv filters;
} opts;

static int run_container_prune(struct cli *cli, int argc, char **argv, struct error *err)
{
	if (!opts.force && !cli_confirm("WARNING! This will remove all stopped containers.\n"
					"Are you sure you want to continue?"))
		return error_set(err, ERROR_CANCELLED, "container prune has been cancelled");
	return prune_containers(cli, &opts.filters, err) < 0 ? -1 : prune_print_total();
}

static int run_system_prune(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *warning = xasprintf(
		"WARNING! This will remove:\n  - all stopped containers\n"
		"  - all networks not used by at least one container\n%s%s\n"
		"Are you sure you want to continue?",
		opts.volumes ? "  - all anonymous volumes not used by at least one container\n"
			     : "",
		opts.all ? "  - all images without at least one container associated to them\n"
			 : "  - all dangling images\n");

	if (!opts.force && !cli_confirm(warning))
		return error_set(err, ERROR_CANCELLED, "system prune has been cancelled");
	if (prune_containers(cli, &opts.filters, err) < 0 ||
	    prune_networks(cli, &opts.filters, err) < 0 ||
	    (opts.volumes && prune_volumes(cli, &opts.filters, /* all= */ false, err) < 0) ||
	    prune_images(cli, &opts.filters, opts.all, err) < 0)
		return -1;
	return prune_print_total();
}

static const struct option container_options[] = {
	{ OPTION_LIST, 0, "filter", &opts.filters,
	  "Provide filter values (e.g. \"until=<timestamp>\")", "filter",
	  .check = option_check_filter },
	{ OPTION_BOOL, 'f', "force", &opts.force, "Do not prompt for confirmation" },
	{ OPTION_END },
};

static const struct option system_options[] = {
	{ OPTION_BOOL, 'a', "all", &opts.all, "Remove all unused images not just dangling ones" },
	{ OPTION_LIST, 0, "filter", &opts.filters,
	  "Provide filter values (e.g. \"label=<key>=<value>\")", "filter",
	  .check = option_check_filter },
	{ OPTION_BOOL, 'f', "force", &opts.force, "Do not prompt for confirmation" },
	{ OPTION_BOOL, 0, "volumes", &opts.volumes, "Prune anonymous volumes" },
	{ OPTION_END },
};

const struct command command_container_prune = {
	.paths = "container prune",
	.args = "[OPTIONS]",
	.summary = "Remove all stopped containers",
	.options = container_options,
	.run = run_container_prune,
};

const struct command command_system_prune = {
	.paths = "system prune",
	.args = "[OPTIONS]",
	.summary = "Remove unused data",
	.options = system_options,
	.run = run_system_prune,
};
