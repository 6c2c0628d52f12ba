/* SPDX-License-Identifier: Apache-2.0 */
/* What a container has changed: diff shows it, commit makes an image of it. */
#include "cli/commands.h"

#include "base/mem.h"
#include "oci/reference.h"

#include <stdio.h>

static struct {
	const char *author, *message;
	struct strv changes;
	bool pause;
} opts = { .pause = true };

static int commit_query(struct buf *url, int argc, char **argv, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autofree char *repo = NULL;

	buf_puts(url, "/commit");
	url_query(url, "author", opts.author ? opts.author : "");
	for (size_t i = 0; i < opts.changes.n; i++)
		url_query(url, "changes", opts.changes.v[i]);
	url_query(url, "comment", opts.message ? opts.message : "");
	url_query(url, "container", argv[0]);
	if (!opts.pause)
		url_query(url, "pause", "0");
	if (argc < 2)
		return 0;
	if (reference_parse(argv[1], &ref, err) < 0)
		return -1;
	if (ref.digest)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cannot push a digest reference: refusing to create a tag with a "
				 "digest reference");
	reference_default_tag(&ref);
	repo = reference_familiar_name(&ref);
	url_query(url, "repo", repo);
	url_query(url, "tag", ref.tag);
	return 0;
}

static int run_commit(struct cli *cli, int argc, char **argv, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autojson struct json *reply = NULL;
	const char *id;

	if (commit_query(&url, argc, argv, err) < 0 ||
	    client_call(&cli->client, "POST", url.data, NULL, &reply, err) < 0)
		return -1;
	id = json_get_string(reply, "Id");
	cli_print("%s\n", id ? id : "");
	return 0;
}

static int run_diff(struct cli *cli, int argc, char **argv, struct error *err)
{
	static const char kinds[] = "CAD";
	autofree char *url = url_format("/containers/{}/changes", argv[0]);
	autobuf struct buf out = BUF_INIT(API_DOCUMENT_MAX);
	autojson struct json *list = NULL;

	if (client_get(&cli->client, url, &list, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *change = json_array_get(list, i);
		const char *path = json_get_string(change, "Path");
		int64_t kind = json_get_int(change, "Kind", 0);

		if (kind >= 0 && kind < 3 && path)
			buf_printf(&out, "%c %s\n", kinds[kind], path);
	}
	cli_write(out.data, out.len);
	return 0;
}

static const struct option commit_options[] = {
	{ OPTION_STRING, 'a', "author", &opts.author,
	  "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")" },
	{ OPTION_LIST, 'c', "change", &opts.changes,
	  "Apply Dockerfile instruction to the created image" },
	{ OPTION_STRING, 'm', "message", &opts.message, "Commit message" },
	{ OPTION_BOOL, 'p', "pause", &opts.pause, "Pause container during commit",
	  .fallback = "true" },
	{ OPTION_END },
};

const struct command command_commit = {
	.paths = "container commit|commit",
	.args = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
	.summary = "Create a new image from a container's changes",
	.min_args = 1,
	.max_args = 2,
	.complete = COMPLETE_CONTAINERS,
	.options = commit_options,
	.run = run_commit,
};

const struct command command_diff = {
	.paths = "container diff|diff",
	.args = "CONTAINER",
	.summary = "Inspect changes to files or directories on a container's filesystem",
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_CONTAINERS,
	.run = run_diff,
};
