/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/format.h"
#include "oci/reference.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static struct {
	bool all, digests, no_trunc, quiet;
	struct strv filters;
	const char *format;
} opts;

#define CREATED "{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}"
#define TABLE "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t" CREATED "\t{{.Size}}"
#define TABLE_DIGEST "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t" CREATED "\t{{.Size}}"

static const struct column columns[] = {
	{ "ID", "IMAGE ID" },
	{ "Repository", "REPOSITORY" },
	{ "Tag", "TAG" },
	{ "Digest", "DIGEST" },
	{ "CreatedSince", "CREATED" },
	{ "CreatedAt", "CREATED AT" },
	{ "Size", "SIZE" },
	{ "Containers", "CONTAINERS" },
	{ "VirtualSize", "SIZE" },
	{ "SharedSize", "SHARED SIZE" },
	{ "UniqueSize", "UNIQUE SIZE" },
	{ NULL, NULL },
};

static void set_count(struct json *row, const char *key, int64_t n)
{
	autofree char *s = n < 0 ? xstrdup("N/A") : xasprintf("%lld", (long long)n);

	json_set_string(row, key, s);
}

static void set_size(struct json *row, const char *key, int64_t n)
{
	autofree char *s = n < 0 ? xstrdup("N/A") : human_size((double)n, 3);

	json_set_string(row, key, s);
}

static int add_row(struct listing *l, const struct json *image, const char *repository,
		   const char *tag, const char *digest, struct error *err)
{
	struct json *row = json_new_object();
	int64_t created = json_get_int(image, "Created", 0);
	int64_t size = json_get_int(image, "Size", 0);
	int64_t shared = json_get_int(image, "SharedSize", -1);
	const char *full = json_get_string(image, "Id");
	autofree char *id =
		opts.no_trunc ? xstrdup(full ? full : "") : format_short_id(full ? full : "");
	autofree char *since = created > 0 ? format_ago(created) : xstrdup("");
	autofree char *at = format_time(created);

	json_set_string(row, "ID", id);
	json_set_string(row, "Repository", repository);
	json_set_string(row, "Tag", tag);
	json_set_string(row, "Digest", digest);
	json_set_string(row, "CreatedSince", since);
	json_set_string(row, "CreatedAt", at);
	set_count(row, "Containers", json_get_int(image, "Containers", -1));
	set_size(row, "Size", size);
	set_size(row, "VirtualSize", size);
	set_size(row, "SharedSize", shared);
	set_size(row, "UniqueSize", shared < 0 ? -1 : size - shared);
	return listing_add(l, row, NULL, err);
}

/* The digest of the repository among "repo@sha256:…", or "<none>"; malloc'ed. *ret_taken marks it.
 */
static char *digest_for(const struct json *digests, const char *repository)
{
	size_t n = strlen(repository);

	for (size_t i = 0; i < json_array_len(digests); i++) {
		const char *d = json_string(json_array_get(digests, i));

		if (d && strncmp(d, repository, n) == 0 && d[n] == '@')
			return xstrdup(d + n + 1);
	}
	return xstrdup("<none>");
}

static int add_tagged(struct listing *l, const struct json *image, const char *name,
		      struct error *err)
{
	const char *slash = strrchr(name, '/');
	const char *colon = strrchr(slash ? slash : name, ':');
	autofree char *repository = colon ? xstrndup(name, (size_t)(colon - name)) : xstrdup(name);
	autofree char *digest = NULL;

	if (strcmp(name, "<none>:<none>") == 0)
		return add_row(l, image, "<none>", "<none>", "<none>", err);
	digest = digest_for(json_get(image, "RepoDigests"), repository);
	return add_row(l, image, repository, colon ? colon + 1 : "<none>", digest, err);
}

static int add_untagged(struct listing *l, const struct json *image, struct error *err)
{
	const struct json *digests = json_get(image, "RepoDigests");
	const char *first = json_string(json_array_get(digests, 0));
	const char *at = first ? strchr(first, '@') : NULL;
	autofree char *repository = at ? xstrndup(first, (size_t)(at - first)) : xstrdup("<none>");

	return add_row(l, image, repository, "<none>", at ? at + 1 : "<none>", err);
}

static int add_image(struct listing *l, const struct json *image, struct error *err)
{
	const struct json *tags = json_get(image, "RepoTags");

	if (!json_array_len(tags))
		return add_untagged(l, image, err);
	for (size_t i = 0; i < json_array_len(tags); i++) {
		const char *name = json_string(json_array_get(tags, i));

		if (name && add_tagged(l, image, name, err) < 0)
			return -1;
	}
	return 0;
}

static int fetch(struct cli *cli, const char *name, struct json **ret, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *filters = NULL;
	autofree char *reference = name ? xasprintf("reference=%s", name) : NULL;

	if (reference)
		strv_push(&opts.filters, reference);
	filters = cli_filters(&opts.filters);
	buf_puts(&url, "/images/json");
	url_query(&url, "all", opts.all ? "1" : NULL);
	url_query(&url, "digests", opts.digests ? "1" : NULL);
	url_query(&url, "filters", filters);
	return client_get(&cli->client, url.data, ret, err);
}

static int run_images(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *list = NULL;
	autolisting struct listing l = { 0 };
	const char *table = opts.quiet ? "{{.ID}}" : opts.digests ? TABLE_DIGEST : TABLE;
	bool quiet_table = opts.quiet && (!opts.format || str_has_prefix(opts.format, "table"));

	if (listing_init(&l, quiet_table ? NULL : opts.format, table, columns, err) < 0 ||
	    fetch(cli, argc ? argv[0] : NULL, &list, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_len(list); i++)
		if (add_image(&l, json_array_get(list, i), err) < 0)
			return -1;
	return listing_print(&l, err);
}

static const struct option options[] = {
	{ OPTION_BOOL, 'a', "all", &opts.all,
	  "Show all images (default hides intermediate images)" },
	{ OPTION_BOOL, 0, "digests", &opts.digests, "Show digests" },
	{ OPTION_LIST, 'f', "filter", &opts.filters, "Filter output based on conditions provided",
	  "filter", .check = option_check_filter },
	{ OPTION_STRING, 0, "format", &opts.format, OPTION_HELP_FORMAT },
	{ OPTION_BOOL, 0, "no-trunc", &opts.no_trunc, "Don't truncate output" },
	{ OPTION_BOOL, 'q', "quiet", &opts.quiet, "Only show image IDs" },
	{ OPTION_END },
};

const struct command command_images = {
	.paths = "image ls|image list|images",
	.args = "[OPTIONS] [REPOSITORY[:TAG]]",
	.summary = "List images",
	.max_args = 1,
	.flags = COMMAND_COMMON,
	.complete = COMPLETE_IMAGES,
	.options = options,
	.run = run_images,
};
