/* SPDX-License-Identifier: Apache-2.0 */
/* Files of containers: archive (docker cp), changes, export. */

#include "api/docker/internal.h"
#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "engine/files.h"

#include <string.h>
#include <sys/stat.h>

#define COPY_SIZE (256 << 10)
#define STAT_HEADER "X-Docker-Container-Path-Stat"

/* Go's os.FileMode. */
static uint32_t go_mode(uint32_t mode)
{
	static const struct {
		uint32_t type, go;
	} types[] = {
		{ S_IFDIR, 1U << 31 }, { S_IFLNK, 1U << 27 },
		{ S_IFBLK, 1U << 26 }, { S_IFCHR, 1U << 26 | 1U << 21 },
		{ S_IFIFO, 1U << 25 }, { S_IFSOCK, 1U << 24 },
	};
	uint32_t go = mode & 0777;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if ((mode & S_IFMT) == types[i].type)
			go |= types[i].go;
	if (mode & S_ISUID)
		go |= 1U << 23;
	if (mode & S_ISGID)
		go |= 1U << 22;
	if (mode & S_ISVTX)
		go |= 1U << 20;
	return go;
}

/* Go's filepath.Base of the path as an absolute one, but that "/." at its end counts. */
static char *base_of(const char *path)
{
	size_t n = strlen(path);

	if (n >= 2 && strcmp(path + n - 2, "/.") == 0)
		return xstrdup(".");
	while (n > 0 && path[n - 1] == '/')
		n--;
	if (n == 0)
		return xstrdup("/");
	autofree char *bare = xstrndup(path, n);
	return xstrdup(path_base(bare));
}

/* The path as an absolute one, cleaned up but for what its end says. */
static char *absolute(const char *path)
{
	return path[0] == '/' ? xstrdup(path) : xasprintf("/%s", path);
}

static const char *path_param(struct http_request *r, struct error *err)
{
	const char *path = api_query(r, "path");

	if (!path)
		error_set(err, ERROR_INVALID_ARGUMENT, "bad parameter: pathcannot be empty");
	return path;
}

static void set_stat_header(struct http_request *r, const char *path, const struct path_stat *st)
{
	autojson struct json *j = json_new_object();
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);
	autofree char *name = base_of(path);

	json_set_string(j, "name", name);
	json_set_int(j, "size", st->size);
	json_set_uint(j, "mode", go_mode(st->mode));
	json_set_time(j, "mtime", st->mtime);
	json_set_string(j, "linkTarget", st->target ? st->target : "");
	autofree char *text = json_format(j, /* pretty */ false);
	base64_encode(text, strlen(text), &b);
	http_set_header(r, STAT_HEADER, b.data);
}

HANDLER(archive_head)
{
	CLEANUP(path_stat_done) struct path_stat st = { 0 };
	const char *asked = path_param(r, err);

	if (!asked)
		return -1;
	autofree char *path = absolute(asked);
	if (files_stat(api_engine(r), api_ns(r), http_param(r, "id"), path, &st, err) < 0)
		return -1;
	set_stat_header(r, path, &st);
	http_reply_empty(r, 200);
	return 0;
}

/* From the pipe to the client. What fails after the first byte can only cut the stream short. */
static int stream_out(struct http_request *r, struct files_stream *s, struct error *err)
{
	autofree char *buf = xmalloc(COPY_SIZE);
	bool started = false;
	ssize_t n;

	while ((n = read(files_fd(s), buf, COPY_SIZE)) > 0 || (n < 0 && errno == EINTR)) {
		if (n < 0)
			continue;
		if (!started)
			http_stream_start(r, 200, "application/x-tar");
		started = true;
		if (http_stream_write(r, buf, (size_t)n) < 0)
			break;
	}
	int result = files_close(s, err);
	if (!started && result < 0)
		return -1;
	if (!started)
		http_stream_start(r, 200, "application/x-tar");
	http_stream_end(r);
	return 0;
}

HANDLER(archive_get)
{
	CLEANUP(path_stat_done) struct path_stat st = { 0 };
	const char *asked = path_param(r, err);
	struct files_stream *s;

	if (!asked)
		return -1;
	autofree char *path = absolute(asked);
	autofree char *as = base_of(path);
	if (files_open(api_engine(r), api_ns(r), http_param(r, "id"), path, as, &st, &s, err) < 0)
		return -1;
	set_stat_header(r, path, &st);
	return stream_out(r, s, err);
}

HANDLER(container_export)
{
	struct files_stream *s;

	if (files_export(api_engine(r), api_ns(r), http_param(r, "id"), &s, err) < 0)
		return -1;
	return stream_out(r, s, err);
}

HANDLER(archive_put)
{
	const struct extract_options o = {
		.path = path_param(r, err),
		.keep_kinds = http_query_bool(r, "noOverwriteDirNonDir", false),
		.chown_users = http_query_bool(r, "copyUIDGID", false),
	};
	autofree char *buf = xmalloc(COPY_SIZE);
	struct files_stream *s;
	ssize_t n;

	if (!o.path ||
	    files_extract(api_engine(r), api_ns(r), http_param(r, "id"), &o, &s, err) < 0)
		return -1;
	while ((n = http_body_read(r, buf, COPY_SIZE, err)) > 0)
		/* A worker that has had enough says why at its end. */
		if (files_fd(s) >= 0 && fs_write_all(files_fd(s), buf, (size_t)n) < 0)
			files_close_input(s);
	if (n < 0) {
		(void)files_close(s, NULL);
		return -1;
	}
	if (files_close(s, err) < 0)
		return -1;
	http_reply_empty(r, 200);
	return 0;
}

HANDLER(container_changes)
{
	CLEANUP(changes_done) struct changes c = { 0 };
	struct json *list;

	if (files_changes(api_engine(r), api_ns(r), http_param(r, "id"), &c, err) < 0)
		return -1;
	list = json_new_array();
	for (size_t i = 0; i < c.n; i++) {
		struct json *j = json_new_object();

		json_set_string(j, "Path", c.v[i].path);
		json_set_int(j, "Kind", c.v[i].kind);
		json_add(list, j);
	}
	http_reply_json(r, 200, c.n > 0 ? list : (json_unref(list), NULL));
	return 0;
}
