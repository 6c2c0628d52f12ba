/* SPDX-License-Identifier: Apache-2.0 */
/* pack, extract, layer, import: trees of containers and archives of users. */

#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "oci/worker-proto.h"
#include "tar/apply.h"
#include "tar/pack.h"
#include "worker/gzip.h"
#include "worker/root.h"
#include "worker/stream.h"
#include "worker/verbs.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#define DECOMPRESSED_MAX (1ULL << 40)
#define OUT_CHUNK (128 << 10)

static int confine(int sock, enum sandbox_phase phase, int *dir, int *lower, bool in_place,
		   struct error *err)
{
	struct sandbox sandbox = {
		.phase = phase, .dir = dir, .lower = lower, .in_place = in_place
	};

	return worker_start(sock, &sandbox, err);
}

/* --- pack --- */

/* Small writes of headers are put together. */
struct output {
	int fd;
	size_t n;
	char chunk[OUT_CHUNK];
};

static int output_flush(struct output *o, struct error *err)
{
	int r = fs_write_all(o->fd, o->chunk, o->n);

	o->n = 0;
	return r < 0 ? error_errno(err, -r, "write the archive") : 0;
}

static int output_write(void *arg, const void *p, size_t n, struct error *err)
{
	struct output *o = arg;

	if (o->n + n > sizeof(o->chunk) && output_flush(o, err) < 0)
		return -1;
	if (n > sizeof(o->chunk)) {
		int r = fs_write_all(o->fd, p, n);

		return r < 0 ? error_errno(err, -r, "write the archive") : 0;
	}
	memcpy(o->chunk + o->n, p, n);
	o->n += n;
	return 0;
}

static void set_bytes(struct json *j, const char *name, const char *bytes)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	base64_encode(bytes, strlen(bytes), &b);
	json_set_string(j, name, b.data);
}

/* Where a symlink leads, within the container: the target as an absolute path without links is not
 * worth a walk; Docker's clients resolve it again. */
static char *link_target(const struct root_path *at, const char *path)
{
	char target[PATH_MAX + 1];
	ssize_t n = readlinkat(at->dir, at->name, target, sizeof(target) - 1);
	autofree char *dir = xstrndup(path, (size_t)(path_base(path) - path));

	if (n <= 0)
		return xstrdup("");
	target[n] = '\0';
	return target[0] == '/' ? xstrdup(target) : path_join("/", dir, target, NULL);
}

static int send_stat(int sock, const struct root_path *at, const char *path, struct stat *ret,
		     struct error *err)
{
	struct json *j;

	if (fstatat(at->dir, at->name, ret, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "lstat '%s'", path);
	j = json_new_object();
	json_set_string(j, "event", "stat");
	json_set_int(j, "size", ret->st_size);
	json_set_int(j, "mode", ret->st_mode);
	json_set_int(j, "mtime", (int64_t)ret->st_mtim.tv_sec * 1000000000 + ret->st_mtim.tv_nsec);
	if (S_ISLNK(ret->st_mode)) {
		autofree char *target = link_target(at, path);

		set_bytes(j, "target64", target);
	}
	return worker_send(sock, j, NULL, 0, err);
}

static int pack_path(const struct root_path *at, const struct stat *st, const char *as, int fd,
		     struct error *err)
{
	autofree struct output *o = xnew(struct output);
	CLEANUP(packer_done)
	struct packer p = { .skip_kernel = true, .write = output_write, .arg = o };

	o->fd = fd;
	if (S_ISDIR(st->st_mode)) {
		autoclose int dir =
			openat(at->dir, at->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir < 0)
			return error_errno(err, errno, "open directory '%s'", as);
		if (pack_directory(&p, dir, as, err) < 0)
			return -1;
	} else if (pack_entry(&p, at->dir, at->name, as, err) < 0) {
		return -1;
	}
	if (pack_end(&p, err) < 0)
		return -1;
	return output_flush(o, err);
}

int worker_pack(int sock, struct error *err)
{
	CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;
	struct root root = ROOT_INIT;
	struct root_path at;
	struct stat st;

	if (root_receive(sock, &root, &m, err) < 0)
		return -1;
	if (!str_equal(json_get_string(m.json, "op"), "pack") || m.n_fds > 1)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected a pack message");
	autofree char *path = message_bytes(m.json, "path64", err);
	autofree char *as = path ? message_bytes(m.json, "as64", err) : NULL;
	if (!as || confine(sock, SANDBOX_READ, &root.fd, NULL, /* in_place= */ true, err) < 0 ||
	    root_resolve(&root, path, /* follow= */ false, &at, err) < 0 ||
	    send_stat(sock, &at, path, &st, err) < 0)
		return -1;
	return m.n_fds ? pack_path(&at, &st, as, m.fds[0], err) : 0;
}

/* --- extract --- */

static struct extract {
	struct root root;
	struct stream stream;
} extract;

static int apply_buffer(struct tar *t, struct apply *a, const uint8_t *p, size_t n, bool *ret_end,
			struct error *err)
{
	for (;;) {
		struct tar_data d;
		int r = tar_next(t, &p, &n, &d, err);

		switch (r) {
		case TAR_NEED_INPUT:
			return 0;
		case TAR_END:
			*ret_end = true;
			return 0;
		case TAR_ENTRY:
			r = apply_entry(a, tar_entry(t), err);
			break;
		case TAR_DATA:
			r = apply_data(a, d.p, d.n, d.offset, err);
			break;
		case TAR_ENTRY_END:
			r = apply_entry_end(a, err);
			break;
		default:
			break;
		}
		if (r < 0)
			return -1;
	}
}

static int extract_all(struct extract *x, struct apply *a, struct error *err)
{
	CLEANUP(tar_freep) struct tar *t = tar_new();
	autoerror struct error broken = ERROR_INIT;
	autostrv struct strv implied = STRV_INIT;
	const uint8_t *p;
	size_t n;
	bool end = false;

	while (ring_read(&x->stream.ring, 0, &p, &n, &broken)) {
		if (!end && apply_buffer(t, a, p, n, &end, err) < 0)
			return -1;
		ring_leave(&x->stream.ring, 0);
	}
	if (broken.code != ERROR_OK)
		return error_move(err, &broken);
	if (tar_finish(t, err) < 0)
		return -1;
	return apply_finish(a, &implied, err);
}

/* The descriptor of the directory that path leads to, and its path from the root. */
static int find_target(struct extract *x, const char *path, struct apply_config *config,
		       struct error *err)
{
	struct root_path at;
	struct stat st;

	if (root_resolve(&x->root, path, /* follow= */ true, &at, err) < 0)
		return -1;
	if (fstatat(at.dir, at.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "lstat '%s'", path);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "extraction point is not a directory");
	config->dir = at.dir;
	return 0;
}

int worker_extract(int sock, struct error *err)
{
	CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;
	struct decompress_limits limits = { .max_bytes = DECOMPRESSED_MAX, .all_formats = true };
	struct extract *x = &extract;
	struct apply_owner owner;

	x->root = ROOT_INIT;
	if (root_receive(sock, &x->root, &m, err) < 0)
		return -1;
	if (!str_equal(json_get_string(m.json, "op"), "extract") || m.n_fds != 1)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected an extract message");
	autofree char *path = message_bytes(m.json, "path64", err);
	if (!path ||
	    confine(sock, SANDBOX_UNPACK, &x->root.fd, NULL, /* in_place= */ true, err) < 0)
		return -1;
	owner.uid = (uint32_t)json_get_uint(m.json, "uid", 0);
	owner.gid = (uint32_t)json_get_uint(m.json, "gid", 0);
	struct apply_config config = {
		.lower = -EBADF,
		.whiteouts = APPLY_PLAIN,
		.keep_kinds = json_get_bool(m.json, "keep_kinds", false),
		.owner = json_get(m.json, "uid") ? &owner : NULL,
	};
	if (find_target(x, path, &config, err) < 0)
		return -1;
	CLEANUP(apply_freep) struct apply *a = apply_new(&config);
	if (stream_start(&x->stream, m.fds[0], &limits, /* readers= */ 1, err) < 0)
		return -1;
	return extract_all(x, a, err);
}

/* --- layer, import --- */

static int sink_write(void *arg, const void *p, size_t n, struct error *err)
{
	return gzip_sink_write(arg, p, n, err);
}

static int send_layer(int sock, struct gzip_sink *s, struct error *err)
{
	struct json *j = json_new_object();
	char digest[DIGEST_MAX], diff_id[DIGEST_MAX];
	int64_t size, raw;

	gzip_sink_result(s, digest, diff_id, &size, &raw);
	json_set_string(j, "event", "layer");
	json_set_string(j, "digest", digest);
	json_set_string(j, "diff_id", diff_id);
	json_set_int(j, "size", size);
	json_set_int(j, "raw", raw);
	return worker_send(sock, j, NULL, 0, err);
}

int worker_layer(int sock, struct error *err)
{
	CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;
	int r;

	if (worker_recv(sock, &m, err) < 0)
		return -1;
	if (!str_equal(json_get_string(m.json, "op"), "layer") || m.n_fds < 2 || m.n_fds > 3)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected a layer message");
	bool native = m.n_fds == 3;
	if (confine(sock, SANDBOX_READ, &m.fds[0], native ? &m.fds[2] : NULL,
		    /* in_place= */ false, err) < 0)
		return -1;
	CLEANUP(gzip_sink_freep) struct gzip_sink *s = gzip_sink_new(m.fds[1]);
	CLEANUP(packer_done)
	struct packer p = { .kind = native ? PACK_PLAIN : PACK_OVERLAY,
			    .layer = true,
			    .write = sink_write,
			    .arg = s };
	r = native ? pack_difference(&p, m.fds[2], m.fds[0], err)
		   : pack_directory(&p, m.fds[0], "", err);
	if (r < 0 || pack_end(&p, err) < 0 || gzip_sink_finish(s, err) < 0)
		return -1;
	return send_layer(sock, s, err);
}

/* Only what is a tar becomes a layer. */
static int check_buffer(struct tar *t, const uint8_t *p, size_t n, bool *ret_end, struct error *err)
{
	struct tar_data d;
	int r;

	do {
		r = tar_next(t, &p, &n, &d, err);
	} while (r >= 0 && r != TAR_NEED_INPUT && r != TAR_END);
	*ret_end = r == TAR_END;
	return r < 0 ? -1 : 0;
}

static struct stream import_stream;

int worker_import(int sock, struct error *err)
{
	CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;
	struct decompress_limits limits = { .max_bytes = DECOMPRESSED_MAX, .all_formats = true };
	autoerror struct error broken = ERROR_INIT;
	const uint8_t *p;
	bool end = false;
	size_t n;

	if (worker_recv(sock, &m, err) < 0)
		return -1;
	if (!str_equal(json_get_string(m.json, "op"), "import") || m.n_fds != 2)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected an import message");
	if (confine(sock, SANDBOX_ARCHIVE, NULL, NULL, /* in_place= */ false, err) < 0 ||
	    stream_start(&import_stream, m.fds[0], &limits, /* readers= */ 1, err) < 0)
		return -1;
	CLEANUP(tar_freep) struct tar *t = tar_new();
	CLEANUP(gzip_sink_freep) struct gzip_sink *s = gzip_sink_new(m.fds[1]);
	while (ring_read(&import_stream.ring, 0, &p, &n, &broken)) {
		if ((!end && check_buffer(t, p, n, &end, err) < 0) ||
		    gzip_sink_write(s, p, n, err) < 0)
			return -1;
		ring_leave(&import_stream.ring, 0);
	}
	if (broken.code != ERROR_OK)
		return error_move(err, &broken);
	if (tar_finish(t, err) < 0 || gzip_sink_finish(s, err) < 0)
		return -1;
	return send_layer(sock, s, err);
}
