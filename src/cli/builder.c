/* SPDX-License-Identifier: Apache-2.0 */
/* builder prune: Docker's answer, of a daemon that builds nothing and has nothing to give back. */
#include "cli/commands.h"
#include "cli/format.h"

#include "base/mem.h"

#include <stdio.h>

static struct {
	bool all, force;
	int64_t keep;
	struct strv filters;
} opts;

static int run_prune(struct cli *cli, int argc, char **argv, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *filters = cli_filters(&opts.filters);
	autofree char *keep = xasprintf("%lld", (long long)opts.keep);
	autofree char *size = NULL;
	autojson struct json *reply = NULL;

	if (!opts.force &&
	    !cli_confirm(opts.all ? "WARNING! This will remove all build cache. Are you sure you "
				    "want to continue?"
				  : "WARNING! This will remove all dangling build cache. Are you "
				    "sure you want to continue?"))
		return error_set(err, ERROR_CANCELLED, "builder prune has been cancelled");
	buf_puts(&url, "/build/prune");
	url_query(&url, "all", opts.all ? "1" : NULL);
	url_query(&url, "keep-storage", opts.keep ? keep : NULL);
	url_query(&url, "filters", filters);
	if (client_call(&cli->client, "POST", url.data, NULL, &reply, err) < 0)
		return -1;
	size = human_size((double)json_get_int(reply, "SpaceReclaimed", 0), 4);
	cli_print("Total:\t%s\n", size);
	return 0;
}

static const struct option options[] = {
	{ OPTION_BOOL, 'a', "all", &opts.all,
	  "Remove all unused build cache, not just dangling ones" },
	{ OPTION_LIST, 0, "filter", &opts.filters, "Provide filter values (e.g. \"until=24h\")",
	  "filter", .check = option_check_filter },
	{ OPTION_BOOL, 'f', "force", &opts.force, "Do not prompt for confirmation" },
	{ OPTION_SIZE, 0, "keep-storage", &opts.keep, "Amount of disk space to keep for cache" },
	{ OPTION_END },
};

const struct command command_builder_prune = {
	.paths = "builder prune",
	.args = "[OPTIONS]",
	.summary = "Remove build cache",
	.options = options,
	.run = run_prune,
};
