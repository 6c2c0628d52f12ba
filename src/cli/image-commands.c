/* SPDX-License-Identifier: Apache-2.0 */
/* push, rmi, tag, image prune. */
#include "cli/auth.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/prune.h"
#include "cli/pull.h"

#include "base/mem.h"
#include "oci/reference.h"

#include <stdio.h>

static struct {
	bool all, all_tags, force, no_prune, quiet, trust;
	const char *platform;
	struct strv filters, platforms;
} opts;

static int run_push(struct cli *cli, int argc, char **argv, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *name = NULL;
	autofree char *path = NULL;
	autofree char *auth = NULL;
	autoexchange struct exchange *ex = NULL;
	struct request req = { .method = "POST" };

	if (reference_parse(argv[0], &ref, err) < 0)
		return -1;
	if (opts.all_tags && (ref.tag || ref.digest))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "tag can't be used with --all-tags/-a");
	if (!opts.all_tags && !ref.tag && !ref.digest) {
		reference_default_tag(&ref);
		if (!opts.quiet)
			cli_print("Using default tag: %s\n", ref.tag);
	}
	auth = auth_header_for_image(argv[0], err);
	if (!auth)
		return -1;
	name = reference_familiar_name(&ref);
	path = url_format("/images/{}/push", name);
	buf_puts(&url, path);
	url_query(&url, "tag", ref.tag);
	url_query(&url, "platform", opts.platform);
	req.path = url.data;
	req.auth = auth;
	ex = client_open(&cli->client, &req, err);
	if (!ex || pull_show_progress(ex, STDOUT_FILENO, opts.quiet, NULL, NULL, err) < 0)
		return -1;
	if (opts.quiet) {
		autofree char *full = reference_string(&ref);

		cli_print("%s\n", full);
	}
	return 0;
}

static void print_removed(const struct json *list)
{
	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *item = json_array_get(list, i);
		const char *deleted = json_get_string(item, "Deleted");
		const char *untagged = json_get_string(item, "Untagged");

		if (!str_empty(deleted))
			cli_print("Deleted: %s\n", deleted);
		else if (!str_empty(untagged))
			cli_print("Untagged: %s\n", untagged);
	}
}

static int rmi_one(struct cli *cli, const char *name, struct error *err)
{
	autofree char *path = url_format("/images/{}", name);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autojson struct json *reply = NULL;

	buf_puts(&url, path);
	url_query(&url, "force", opts.force ? "1" : NULL);
	url_query(&url, "noprune", opts.no_prune ? "1" : NULL);
	if (client_call(&cli->client, "DELETE", url.data, NULL, &reply, err) < 0) {
		if (!opts.force || err->code != ERROR_NOT_FOUND)
			return -1;
		cli_report(err);
		return 0;
	}
	print_removed(reply);
	return 0;
}

static int run_rmi(struct cli *cli, int argc, char **argv, struct error *err)
{
	return cli_for_each(cli, argc, argv, rmi_one);
}

static int run_tag(struct cli *cli, int argc, char **argv, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autofree char *path = url_format("/images/{}/tag", argv[0]);
	autofree char *repo = NULL;
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);

	if (reference_parse(argv[1], &ref, err) < 0)
		return error_wrap(err,
				  "Error parsing reference: \"%s\" is not a valid "
				  "repository/tag",
				  argv[1]);
	if (ref.digest)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "refusing to create a tag with a digest reference");
	reference_default_tag(&ref);
	repo = reference_familiar_name(&ref);
	buf_puts(&url, path);
	url_query(&url, "repo", repo);
	url_query(&url, "tag", ref.tag);
	return client_post(&cli->client, url.data, NULL, err);
}

static int run_prune(struct cli *cli, int argc, char **argv, struct error *err)
{
	if (!opts.force &&
	    !cli_confirm(
		    opts.all ? "WARNING! This will remove all images without at least one "
			       "container associated to them.\nAre you sure you want to continue?"
			     : "WARNING! This will remove all dangling images.\n"
			       "Are you sure you want to continue?"))
		return error_set(err, ERROR_CANCELLED, "image prune has been cancelled");
	return prune_images(cli, &opts.filters, opts.all, err) < 0 ? -1 : prune_print_total();
}

static const struct option push_options[] = {
	{ OPTION_BOOL, 'a', "all-tags", &opts.all_tags,
	  "Push all tags of an image to the repository" },
	{ OPTION_BOOL, 0, "disable-content-trust", &opts.trust, "Skip image signing",
	  .fallback = "true", .hidden = true },
	{ OPTION_STRING, 0, "platform", &opts.platform,
	  "Push a platform-specific manifest as a single-platform image to the registry" },
	{ OPTION_BOOL, 'q', "quiet", &opts.quiet, "Suppress verbose output" },
	{ OPTION_END },
};

static const struct option rmi_options[] = {
	{ OPTION_BOOL, 'f', "force", &opts.force, "Force removal of the image" },
	{ OPTION_BOOL, 0, "no-prune", &opts.no_prune, "Do not delete untagged parents" },
	{ OPTION_END },
};

static const struct option prune_options[] = {
	{ OPTION_BOOL, 'a', "all", &opts.all, "Remove all unused images, not just dangling ones" },
	{ OPTION_LIST, 0, "filter", &opts.filters,
	  "Provide filter values (e.g. \"until=<timestamp>\")", "filter",
	  .check = option_check_filter },
	{ OPTION_BOOL, 'f', "force", &opts.force, "Do not prompt for confirmation" },
	{ OPTION_END },
};

const struct command command_push = {
	.paths = "image push|push",
	.args = "[OPTIONS] NAME[:TAG]",
	.summary = "Upload an image to a registry",
	.min_args = 1,
	.max_args = 1,
	.flags = COMMAND_COMMON,
	.complete = COMPLETE_IMAGES,
	.options = push_options,
	.run = run_push,
};

const struct command command_rmi = {
	.paths = "image rm|image remove|rmi",
	.args = "[OPTIONS] IMAGE [IMAGE...]",
	.summary = "Remove one or more images",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_IMAGES,
	.options = rmi_options,
	.run = run_rmi,
};

const struct command command_tag = {
	.paths = "image tag|tag",
	.args = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
	.summary = "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
	.min_args = 2,
	.max_args = 2,
	.complete = COMPLETE_IMAGES,
	.run = run_tag,
};

const struct command command_image_prune = {
	.paths = "image prune",
	.args = "[OPTIONS]",
	.summary = "Remove unused images",
	.options = prune_options,
	.run = run_prune,
};
