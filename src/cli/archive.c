/* SPDX-License-Identifier: Apache-2.0 */
/* save, load, export, import. */
#include "cli/commands.h"
#include "cli/pull.h"
#include "cli/terminal.h"

#include "base/fs.h"
#include "base/mem.h"
#include "oci/reference.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct {
	bool quiet;
	const char *input, *message, *output, *platform;
	struct strv changes;
} opts;

static int copy_body(struct exchange *ex, int fd, struct error *err)
{
	const char *p;
	size_t len;
	int r;

	while ((r = exchange_read(ex, /* wait= */ true, &p, &len, err)) == 1) {
		int w = fs_write_all(fd, p, len);

		if (w < 0)
			return error_errno(err, -w, "write the archive");
	}
	return r;
}

/* Beside the file and renamed, so that a broken save replaces nothing. Devices and pipes are
 * written to directly. */
static int save_to_file(struct exchange *ex, const char *path, const char *what, struct error *err)
{
	autofree char *temporary = xasprintf("%s.kistl-%ld", path, (long)getpid());
	struct stat st;
	bool direct = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
	autoclose int fd = -EBADF;
	int r;

	fd = direct ? open(path, O_WRONLY | O_CLOEXEC)
		    : open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		error_errno(err, errno, "invalid output path: open %s", path);
		return error_wrap(err, "failed to %s", what);
	}
	r = copy_body(ex, fd, err);
	if (direct)
		return r;
	if (r == 0 && rename(temporary, path) < 0)
		r = error_errno(err, errno, "rename to '%s'", path);
	if (r < 0)
		unlink(temporary);
	return r;
}

static int run_save(struct cli *cli, int argc, char **argv, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autoexchange struct exchange *ex = NULL;
	struct request req = { .method = "GET" };

	if (!opts.output && terminal_is(STDOUT_FILENO))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cowardly refusing to save to a terminal. Use the -o flag or "
				 "redirect");
	buf_puts(&url, "/images/get");
	for (int i = 0; i < argc; i++)
		url_query(&url, "names", argv[i]);
	url_query(&url, "platform", opts.platform);
	req.path = url.data;
	ex = client_open(&cli->client, &req, err);
	if (!ex)
		return -1;
	if (!opts.output)
		return copy_body(ex, STDOUT_FILENO, err);
	return save_to_file(ex, opts.output, "save image", err);
}

static int run_export(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *url = url_format("/containers/{}/export", argv[0]);
	struct request req = { .method = "GET", .path = url };
	autoexchange struct exchange *ex = NULL;

	if (!opts.output && terminal_is(STDOUT_FILENO))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cowardly refusing to save to a terminal. Use the -o flag or "
				 "redirect");
	ex = client_open(&cli->client, &req, err);
	if (!ex)
		return -1;
	if (!opts.output)
		return copy_body(ex, STDOUT_FILENO, err);
	return save_to_file(ex, opts.output, "export container", err);
}

static bool is_url(const char *s)
{
	return str_has_prefix(s, "http://") || str_has_prefix(s, "https://");
}

static int import_query(struct buf *url, int argc, char **argv, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autofree char *repo = NULL;

	buf_puts(url, "/images/create");
	url_query(url, "fromSrc", is_url(argv[0]) ? argv[0] : "-");
	if (argc > 1) {
		if (reference_parse(argv[1], &ref, err) < 0)
			return -1;
		repo = reference_familiar_name(&ref);
		url_query(url, "repo", repo);
		url_query(url, "tag", ref.tag);
	}
	url_query(url, "message", opts.message);
	url_query(url, "platform", opts.platform);
	for (size_t i = 0; i < opts.changes.n; i++)
		url_query(url, "changes", opts.changes.v[i]);
	return 0;
}

static int run_import(struct cli *cli, int argc, char **argv, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autoexchange struct exchange *ex = NULL;
	struct request req = { .method = "POST" };
	autoclose int fd = -EBADF;

	if (import_query(&url, argc, argv, err) < 0)
		return -1;
	if (!is_url(argv[0])) {
		fd = strcmp(argv[0], "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
					       : open(argv[0], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return error_errno(err, errno, "open %s", argv[0]);
		req.body_fd = fd;
	}
	req.path = url.data;
	ex = client_open(&cli->client, &req, err);
	if (!ex)
		return -1;
	return pull_show_progress(ex, STDOUT_FILENO, /* quiet= */ false, NULL, NULL, err);
}

static int run_load(struct cli *cli, int argc, char **argv, struct error *err)
{
	autoclose int fd = opts.input ? open(opts.input, O_RDONLY | O_CLOEXEC)
				      : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autoexchange struct exchange *ex = NULL;
	struct request req = { .method = "POST" };

	if (fd < 0)
		return error_errno(err, errno, "open %s", opts.input ? opts.input : "stdin");
	if (terminal_is(fd))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "requested load from stdin, but stdin is empty");
	buf_puts(&url, "/images/load");
	url_query(&url, "quiet", opts.quiet || !terminal_is(STDOUT_FILENO) ? "1" : "0");
	url_query(&url, "platform", opts.platform);
	req.path = url.data;
	req.body_fd = fd;
	ex = client_open(&cli->client, &req, err);
	if (!ex)
		return -1;
	return pull_show_progress(ex, STDOUT_FILENO, /* quiet= */ false, NULL, NULL, err);
}

static const struct option save_options[] = {
	{ OPTION_STRING, 'o', "output", &opts.output, "Write to a file, instead of STDOUT" },
	{ OPTION_STRING, 0, "platform", &opts.platform,
	  "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., "
	  "\"linux/amd64\")" },
	{ OPTION_END },
};

static const struct option load_options[] = {
	{ OPTION_STRING, 'i', "input", &opts.input,
	  "Read from tar archive file, instead of STDIN" },
	{ OPTION_STRING, 0, "platform", &opts.platform,
	  "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., "
	  "\"linux/amd64\")" },
	{ OPTION_BOOL, 'q', "quiet", &opts.quiet, "Suppress the load output" },
	{ OPTION_END },
};

static const struct option export_options[] = {
	{ OPTION_STRING, 'o', "output", &opts.output, "Write to a file, instead of STDOUT" },
	{ OPTION_END },
};

static const struct option import_options[] = {
	{ OPTION_LIST, 'c', "change", &opts.changes,
	  "Apply Dockerfile instruction to the created image" },
	{ OPTION_STRING, 'm', "message", &opts.message, "Set commit message for imported image" },
	{ OPTION_STRING, 0, "platform", &opts.platform,
	  "Set platform if server is multi-platform capable" },
	{ OPTION_END },
};

const struct command command_save = {
	.paths = "image save|save",
	.args = "[OPTIONS] IMAGE [IMAGE...]",
	.summary = "Save one or more images to a tar archive (streamed to STDOUT by default)",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_IMAGES,
	.options = save_options,
	.run = run_save,
};

const struct command command_load = {
	.paths = "image load|load",
	.args = "[OPTIONS]",
	.summary = "Load an image from a tar archive or STDIN",
	.options = load_options,
	.run = run_load,
};

const struct command command_export = {
	.paths = "container export|export",
	.args = "[OPTIONS] CONTAINER",
	.summary = "Export a container's filesystem as a tar archive",
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_CONTAINERS,
	.options = export_options,
	.run = run_export,
};

const struct command command_import = {
	.paths = "image import|import",
	.args = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
	.summary = "Import the contents from a tarball to create a filesystem image",
	.min_args = 1,
	.max_args = 2,
	.options = import_options,
	.run = run_import,
};
