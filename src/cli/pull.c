/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pull.h"
#include "cli/commands.h"

#include "base/fs.h"
#include "base/mem.h"
#include "cli/auth.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "oci/reference.h"

#define TEXT_MAX (16 * 1024 * 1024)

int pull_show_progress(struct exchange *ex, int fd, bool quiet,
		       void (*on_message)(const struct json *m, void *arg), void *arg,
		       struct error *err)
{
	autoprogress struct progress p = { 0 };
	autobuf struct buf text = BUF_INIT(TEXT_MAX);
	autoerror struct error end = ERROR_INIT;
	unsigned width = 0, height;
	bool terminal = terminal_is(fd) && terminal_size(fd, &width, &height);

	progress_init(&p, terminal, width);
	for (;;) {
		autojson struct json *m = exchange_next_json(ex, &end);

		if (!m)
			break;
		if (progress_message(&p, m, &text, err) < 0)
			return -1;
		if (on_message)
			on_message(m, arg);
		if (!quiet && text.len)
			fs_write_all(fd, text.data, text.len);
		buf_clear(&text);
	}
	return end.code ? error_move(err, &end) : 0;
}

int pull_image(struct cli *cli, const char *image, const char *platform, bool all, bool quiet,
	       int fd, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *auth = NULL;
	autofree char *name = NULL;
	autoexchange struct exchange *ex = NULL;
	struct request req = { .method = "POST" };

	if (reference_parse(image, &ref, err) < 0)
		return -1;
	if (all && (ref.tag || ref.digest))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "tag can't be used with --all-tags/-a");
	if (!all)
		reference_default_tag(&ref);
	auth = auth_header_for_image(image, err);
	if (!auth)
		return -1;
	name = reference_familiar_name(&ref);
	buf_puts(&url, "/images/create");
	url_query(&url, "fromImage", name);
	if (!all)
		url_query(&url, "tag", ref.digest ? ref.digest : ref.tag);
	url_query(&url, "platform", platform);
	req.path = url.data;
	req.auth = auth;
	ex = client_open(&cli->client, &req, err);
	if (!ex)
		return -1;
	return pull_show_progress(ex, fd, quiet, NULL, NULL, err);
}

static struct {
	bool all_tags, disable_content_trust, quiet;
	const char *platform;
} opts;

static int run_pull(struct cli *cli, int argc, char **argv, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autofree char *full = NULL;

	if (reference_parse(argv[0], &ref, err) < 0)
		return -1;
	if (!opts.all_tags && !ref.tag && !ref.digest) {
		reference_default_tag(&ref);
		if (!opts.quiet)
			cli_print("Using default tag: %s\n", ref.tag);
	}
	if (pull_image(cli, argv[0], opts.platform, opts.all_tags, opts.quiet, STDOUT_FILENO, err) <
	    0)
		return -1;
	full = reference_string(&ref);
	cli_print("%s\n", full);
	return 0;
}

static const struct option options[] = {
	{ OPTION_BOOL, 'a', "all-tags", &opts.all_tags,
	  "Download all tagged images in the repository" },
	{ OPTION_BOOL, 0, "disable-content-trust", &opts.disable_content_trust,
	  "Skip image verification", .fallback = "true", .hidden = true },
	{ OPTION_STRING, 0, "platform", &opts.platform,
	  "Set platform if server is multi-platform capable" },
	{ OPTION_BOOL, 'q', "quiet", &opts.quiet, "Suppress verbose output" },
	{ OPTION_END },
};

const struct command command_pull = {
	.paths = "image pull|pull",
	.args = "[OPTIONS] NAME[:TAG|@DIGEST]",
	.summary = "Download an image from a registry",
	.min_args = 1,
	.max_args = 1,
	.flags = COMMAND_COMMON,
	.complete = COMPLETE_IMAGES,
	.options = options,
	.run = run_pull,
};
