/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cp: a tar stream from or to the daemon, packed and extracted here. What a container sends is
 * extracted by the code that unpacks layers (tar/apply.h): nothing outside the destination can be
 * reached, whatever links the container has made.
 */
#include "cli/commands.h"
#include "cli/copy-path.h"
#include "cli/terminal.h"

#include "base/fs.h"
#include "base/hex.h"
#include "base/human.h"
#include "base/mem.h"
#include "tar/apply.h"
#include "tar/pack.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STAT_MAX (64 * 1024)
#define GO_MODE_DIR (1U << 31)
#define GO_MODE_SYMLINK (1U << 27)

static struct {
	bool archive, follow, quiet;
} opts;

static uint64_t copied;

static bool is_quiet(void)
{
	return opts.quiet || !terminal_is(STDOUT_FILENO);
}

static void tell(const char *where)
{
	autofree char *size = human_size((double)copied, 4);

	if (!is_quiet())
		fprintf(stderr, "Successfully copied %s to %s\n", size, where);
}

static char *archive_url(const char *container, const char *path)
{
	autofree char *base = url_format("/containers/{}/archive", container);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);

	buf_puts(&url, base);
	url_query(&url, "path", path);
	return xstrdup(url.data);
}

/* The X-Docker-Container-Path-Stat of a reply. */
static struct json *path_stat(struct exchange *ex, struct error *err)
{
	const char *text = kvs_get(&ex->parser.headers, "x-docker-container-path-stat");
	autobuf struct buf b = BUF_INIT(STAT_MAX);

	if (!text || base64_decode(text, strlen(text), &b) < 0) {
		error_set(err, ERROR_UNAVAILABLE, "the daemon does not tell what '%s' is",
			  "the path");
		return NULL;
	}
	return json_parse(b.data, b.len, STAT_MAX, err);
}

static unsigned stat_mode(const struct json *stat)
{
	return (unsigned)json_get_int(stat, "mode", 0);
}

static struct json *container_stat(struct cli *cli, const char *container, const char *path,
				   struct error *err)
{
	autofree char *url = archive_url(container, path);
	struct request req = { .method = "HEAD", .path = url };
	autoexchange struct exchange *ex = client_open(&cli->client, &req, err);

	return ex ? path_stat(ex, err) : NULL;
}

/* Where a symlink of a container leads, as a path of the container. */
static char *link_target(const char *path, const struct json *stat)
{
	const char *target = json_get_string(stat, "linkTarget");
	autofree char *dir = NULL;
	autofree char *base = NULL;

	if (str_empty(target))
		return xstrdup(path);
	if (target[0] == '/')
		return xstrdup(target);
	copy_split_entry(path, &dir, &base);
	return path_join(dir, target, NULL);
}

/* --- from a container --- */

struct extraction {
	struct apply *apply;
	struct tar *tar;
	const char *base, *name;
};

static int extract_entry(struct extraction *x, struct error *err)
{
	struct tar_entry e = *tar_entry(x->tar);
	autofree char *path = copy_rename(e.path, x->base, x->name);
	autofree char *link = e.type == TAR_HARDLINK ? copy_rename(e.link, x->base, x->name) : NULL;

	e.path = path;
	if (link)
		e.link = link;
	copied += (uint64_t)e.size;
	return apply_entry(x->apply, &e, err);
}

static int extract_piece(struct extraction *x, const char *p, size_t len, struct error *err)
{
	const uint8_t *in = (const uint8_t *)p;
	struct tar_data data;
	int r = 0;

	while (r == 0) {
		int event = tar_next(x->tar, &in, &len, &data, err);

		if (event < 0)
			return -1;
		if (event == TAR_NEED_INPUT || event == TAR_END)
			break;
		if (event == TAR_ENTRY)
			r = extract_entry(x, err);
		else if (event == TAR_DATA)
			r = apply_data(x->apply, data.p, data.n, data.offset, err);
		else
			r = apply_entry_end(x->apply, err);
	}
	return r;
}

static int extract(struct exchange *ex, const struct copy_plan *plan, const char *base,
		   struct error *err)
{
	struct apply_owner owner = { geteuid(), getegid() };
	autoclose int dir = open(plan->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct apply_config config = { .dir = dir,
				       .lower = -1,
				       .whiteouts = APPLY_PLAIN,
				       .keep_kinds = true,
				       .owner = &owner };
	autostrv struct strv implied = STRV_INIT;
	CLEANUP(apply_freep) struct apply *apply = NULL;
	CLEANUP(tar_freep) struct tar *tar = tar_new();
	struct extraction x = { .tar = tar, .base = base, .name = plan->name };
	const char *piece;
	size_t len;
	int r;

	if (dir < 0)
		return error_errno(err, errno, "open %s", plan->dir);
	umask(0);
	apply = x.apply = apply_new(&config);
	while ((r = exchange_read(ex, /* wait= */ true, &piece, &len, err)) == 1)
		if (extract_piece(&x, piece, len, err) < 0)
			return -1;
	if (r < 0 || tar_finish(tar, err) < 0)
		return -1;
	return apply_finish(apply, &implied, err);
}

static int check_output(const char *to, struct error *err)
{
	autofree char *dir = NULL;
	autofree char *base = NULL;
	struct stat st;

	copy_split_entry(to, &dir, &base);
	if (stat(dir, &st) < 0)
		return error_set(err, ERROR_NOT_FOUND,
				 "invalid output path: directory \"%s\" does not exist", dir);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, ERROR_INVALID_ARGUMENT, "not a directory");
	return 0;
}

static int copy_to_stdout(struct exchange *ex, struct error *err)
{
	const char *piece;
	size_t len;
	int r;

	while ((r = exchange_read(ex, /* wait= */ true, &piece, &len, err)) == 1) {
		int w = fs_write_all(STDOUT_FILENO, piece, len);

		if (w < 0)
			return error_errno(err, -w, "write the archive");
	}
	return r;
}

static int copy_out(struct cli *cli, const char *container, const char *path, const char *to,
		    struct error *err)
{
	bool pipe = strcmp(to, "-") == 0;
	autofree char *from = xstrdup(path);
	autofree char *dir = NULL;
	autofree char *base = NULL;
	autofree char *url = NULL;
	autojson struct json *info = NULL;
	autoexchange struct exchange *ex = NULL;
	CLEANUP(copy_plan_done) struct copy_plan plan = { 0 };
	struct request req = { .method = "GET" };
	struct stat st;
	bool exists;

	if (!pipe && check_output(to, err) < 0)
		return -1;
	if (opts.follow) {
		autojson struct json *stat = container_stat(cli, container, path, NULL);

		if (stat && (stat_mode(stat) & GO_MODE_SYMLINK)) {
			free(from);
			from = link_target(path, stat);
		}
	}
	url = archive_url(container, from);
	req.path = url;
	ex = client_open(&cli->client, &req, err);
	if (!ex)
		return -1;
	if (pipe)
		return copy_to_stdout(ex, err);
	info = path_stat(ex, err);
	if (!info)
		return -1;
	copy_split_entry(path, &dir, &base);
	exists = stat(to, &st) == 0;
	if (copy_plan(base, stat_mode(info) & GO_MODE_DIR, to, exists,
		      exists && S_ISDIR(st.st_mode), &plan, err) < 0 ||
	    extract(ex, &plan, base, err) < 0)
		return -1;
	tell(to);
	return 0;
}

/* --- to a container --- */

/* What is packed: the entry `base` of `dir`, or with "." its contents, as `name`. */
struct source {
	char *dir, *base;
	const char *name;
	request_write_fn write;
	void *sink;
};

static void source_done(struct source *s)
{
	free(TAKE_PTR(s->dir));
	free(TAKE_PTR(s->base));
}

static int count_and_write(void *arg, const void *p, size_t n, struct error *err)
{
	struct source *s = arg;

	copied += n;
	return s->write(s->sink, p, n, err);
}

static int pack_source(void *arg, request_write_fn write, void *sink, struct error *err)
{
	struct source *s = arg;
	CLEANUP(packer_done)
	struct packer p = { .kind = PACK_PLAIN, .write = count_and_write, .arg = s };
	autoclose int dir = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	s->write = write;
	s->sink = sink;
	if (dir < 0)
		return error_errno(err, errno, "open %s", s->dir);
	if (strcmp(s->base, ".") == 0)
		r = pack_directory(&p, dir, strcmp(s->name, ".") == 0 ? "" : s->name, err);
	else
		r = pack_entry(&p, dir, s->base, s->name, err);
	return r < 0 ? -1 : pack_end(&p, err);
}

/* The source with its links resolved as -L, a trailing slash and "/." ask for. */
static int find_source(const char *path, struct source *ret, bool *ret_is_dir, char **ret_base,
		       struct error *err)
{
	autofree char *clean = copy_clean(path);
	autofree char *real = NULL;
	autofree char *dir = NULL;
	struct stat st;

	copy_split_entry(path, &dir, ret_base);
	if (opts.follow || copy_names_directory(path)) {
		real = realpath(path, NULL);
		if (!real)
			return error_errno(err, errno, "lstat %s", clean);
	}
	if (lstat(real ? real : clean, &st) < 0)
		return error_errno(err, errno, "lstat %s", clean);
	*ret_is_dir = S_ISDIR(st.st_mode);
	if (copy_names_directory(path) && !*ret_is_dir)
		return error_set(err, ERROR_INVALID_ARGUMENT, "not a directory");
	if (strcmp(*ret_base, ".") == 0 || strcmp(clean, "/") == 0) {
		ret->dir = xstrdup(real);
		ret->base = xstrdup(".");
		return 0;
	}
	copy_split_entry(real ? real : clean, &ret->dir, &ret->base);
	return 0;
}

static int put_archive(struct cli *cli, const char *container, const char *dir, struct request *req,
		       struct error *err)
{
	autofree char *base = archive_url(container, dir);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autoexchange struct exchange *ex = NULL;

	buf_puts(&url, base);
	url_query(&url, "noOverwriteDirNonDir", "true");
	url_query(&url, "copyUIDGID", opts.archive ? "true" : NULL);
	req->method = "PUT";
	req->path = url.data;
	ex = client_open(&cli->client, req, err);
	return ex ? 0 : -1;
}

static int copy_in(struct cli *cli, const char *from, const char *container, const char *path,
		   struct error *err)
{
	autojson struct json *stat = container_stat(cli, container, path, NULL);
	autofree char *to = xstrdup(path);
	autofree char *where = xasprintf("%s:%s", container, path);
	autofree char *base = NULL;
	CLEANUP(copy_plan_done) struct copy_plan plan = { 0 };
	CLEANUP(source_done) struct source source = { 0 };
	struct request req = { .produce = pack_source, .produce_arg = &source };
	bool is_dir = false;

	if (stat && (stat_mode(stat) & GO_MODE_SYMLINK)) {
		struct json *target;

		free(to);
		to = link_target(path, stat);
		target = container_stat(cli, container, to, NULL);
		json_unref(stat);
		stat = target;
	}
	if (strcmp(from, "-") == 0) {
		req = (struct request){ .body_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) };
		if (stat && !(stat_mode(stat) & GO_MODE_DIR))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "destination \"%s\" must be a directory", where);
		return put_archive(cli, container, to, &req, err);
	}
	if (find_source(from, &source, &is_dir, &base, err) < 0 ||
	    copy_plan(base, is_dir, to, stat != NULL, stat_mode(stat) & GO_MODE_DIR, &plan, err) <
		    0)
		return -1;
	source.name = plan.name;
	if (put_archive(cli, container, plan.dir, &req, err) < 0)
		return -1;
	tell(where);
	return 0;
}

static int run_cp(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *source = NULL;
	autofree char *target = NULL;
	const char *from, *to;

	if (!*argv[0] || !*argv[1])
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s can not be empty",
				 *argv[0] ? "destination" : "source");
	copy_split(argv[0], &source, &from);
	copy_split(argv[1], &target, &to);
	if (source && target)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "copying between containers is not supported");
	if (source)
		return copy_out(cli, source, from, to, err);
	if (target)
		return copy_in(cli, from, target, to, err);
	return error_set(err, ERROR_INVALID_ARGUMENT, "must specify at least one container source");
}

static const struct option options[] = {
	{ OPTION_BOOL, 'a', "archive", &opts.archive,
	  "Archive mode (copy all uid/gid information)" },
	{ OPTION_BOOL, 'L', "follow-link", &opts.follow, "Always follow symbol link in SRC_PATH" },
	{ OPTION_BOOL, 'q', "quiet", &opts.quiet,
	  "Suppress progress output during copy. Progress output is automatically suppressed if no "
	  "terminal is attached" },
	{ OPTION_END },
};

const struct command command_cp = {
	.paths = "container cp|cp",
	.args = "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n"
		"\tkistl cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
	.summary = "Copy files/folders between a container and the local filesystem",
	.min_args = 2,
	.max_args = 2,
	.complete = COMPLETE_CONTAINER_PATH,
	.options = options,
	.run = run_cp,
};
