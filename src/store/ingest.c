/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ingest is a directory, ingest/<sha256 of "ns/ref">, with small files beside the data (ref,
 * startedat, total, expected), as containerd has it; the database knows nothing of it but leases.
 * The table of open writers in memory is the lock.
 *
 * The hash runs along while a writer appends through ingest_write(). It is given up (and the file
 * is read again at the commit) when the ingest was resumed, when the bytes came through
 * ingest_fd(), or when the commit names another algorithm.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "oci/digest.h"
#include "store/content.h"
#include "store/failpoint.h"
#include "store/internal.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { INGEST_FILE_MAX = NAME_MAX_BYTES + 256 };

struct ingest {
	struct store_ctx ctx; /* strings owned */
	char *ref;
	char *key;
	char *dir;  /* under root */
	char *data; /* under root */
	char *expected;
	int fd;
	struct digester *hash; /* of the first `hashed` bytes; NULL: given up */
	int64_t hashed;
	bool done; /* committed or found to exist: the directory is gone */
};

void ingest_status_done(struct ingest_status *s)
{
	free(s->ref);
	free(s->expected);
	*s = (struct ingest_status){ 0 };
}

static char *ingest_key(const char *ns, const char *ref)
{
	autofree char *full = xasprintf("%s/%s", ns, ref);
	char digest[DIGEST_MAX];

	digest_bytes(full, strlen(full), digest);
	return xstrdup(digest_hex(digest));
}

static int write_file(int dir_fd, const char *name, const char *text, struct error *err)
{
	autoclose int fd =
		openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = fd < 0 ? -errno : fs_write_all(fd, text, strlen(text));

	return r < 0 ? error_errno(err, -r, "write ingest's '%s'", name) : 0;
}

/* malloc'ed; NULL when there is none. */
static char *read_file(int dir_fd, const char *name)
{
	autobuf struct buf b = BUF_INIT(INGEST_FILE_MAX);

	if (fs_read(dir_fd, name, &b) < 0)
		return NULL;
	return buf_steal(&b, NULL);
}

static void ingest_free(struct ingest *i)
{
	if (i->hash)
		digester_free(i->hash);
	closep(&i->fd);
	free((char *)i->ctx.ns);
	free((char *)i->ctx.lease);
	free(i->ref);
	free(i->key);
	free(i->dir);
	free(i->data);
	free(i->expected);
	free(i);
}

static int ingest_lock(struct ingest *i, struct error *err)
{
	struct store *s = i->ctx.store;
	bool busy;

	pthread_mutex_lock(&s->ingest_lock);
	busy = map_get(&s->ingests, i->key) != NULL;
	if (!busy)
		map_set(&s->ingests, i->key, i);
	pthread_mutex_unlock(&s->ingest_lock);
	if (!busy)
		return 0;
	return error_set(err, ERROR_UNAVAILABLE, "ingest '%s' is being written by another", i->ref);
}

static void ingest_unlock(struct ingest *i)
{
	struct store *s = i->ctx.store;

	pthread_mutex_lock(&s->ingest_lock);
	map_remove(&s->ingests, i->key);
	pthread_mutex_unlock(&s->ingest_lock);
}

/* Locked, but nothing is on disk yet. */
static struct ingest *ingest_new(const struct store_ctx *c, const char *ref, struct error *err)
{
	struct ingest *i;

	if (name_check("ingest", ref, err) < 0)
		return NULL;
	i = xnew(struct ingest);
	i->ctx.store = c->store;
	i->ctx.ns = xstrdup(c->ns);
	i->ctx.lease = xstrdup(c->lease);
	i->ref = xstrdup(ref);
	i->key = ingest_key(c->ns, ref);
	i->dir = path_join(INGEST_DIR, i->key, NULL);
	i->data = path_join(i->dir, "data", NULL);
	i->fd = -EBADF;
	if (ingest_lock(i, err) < 0) {
		ingest_free(i);
		return NULL;
	}
	return i;
}

/* Removes the files and the lease's claim. */
static int ingest_remove(struct ingest *i, struct error *err)
{
	int r = fs_remove_tree(i->ctx.store->root_fd, i->dir);

	i->done = true;
	return r < 0 ? error_errno(err, -r, "remove ingest '%s'", i->ref) : 0;
}

/* One transaction: is it there already (1)? If not, the ingest joins the lease. */
static int ingest_register(struct ingest *i, const char *expected, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	int r = 0;

	if (!expected && !i->ctx.lease)
		return 0;
	if (db_write(i->ctx.store->db, &tx, err) < 0)
		return -1;
	if (expected)
		r = content_adopt(&i->ctx, &tx, expected, err);
	if (r < 0 || (r == 0 && ctx_lease_add(&i->ctx, &tx, "ingests", i->ref, err) < 0))
		return -1;
	return db_commit(&tx, err) < 0 ? -1 : r;
}

static int write_files(struct ingest *i, int dir_fd, int64_t total, const char *expected,
		       struct error *err)
{
	autofree char *full = xasprintf("%s/%s", i->ctx.ns, i->ref);
	char number[32], started[TIME_RFC3339_MAX];

	snprintf(number, sizeof(number), "%lld", (long long)total);
	if (faccessat(dir_fd, "ref", F_OK, 0) < 0) {
		time_format_rfc3339(time_realtime(), started);
		if (write_file(dir_fd, "startedat", started, err) < 0 ||
		    write_file(dir_fd, "ref", full, err) < 0)
			return -1;
	}
	if (total > 0 && write_file(dir_fd, "total", number, err) < 0)
		return -1;
	if (expected && write_file(dir_fd, "expected", expected, err) < 0)
		return -1;
	return 0;
}

static int open_files(struct ingest *i, int64_t total, const char *expected, struct error *err)
{
	int root = i->ctx.store->root_fd;
	autoclose int dir_fd = -EBADF;

	if (mkdirat(root, i->dir, 0755) < 0 && errno != EEXIST)
		return error_errno(err, errno, "make ingest '%s'", i->ref);
	dir_fd = openat(root, i->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir_fd < 0)
		return error_errno(err, errno, "open ingest '%s'", i->ref);
	if (write_files(i, dir_fd, total, expected, err) < 0)
		return -1;
	i->fd = openat(dir_fd, "data", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (i->fd < 0)
		return error_errno(err, errno, "open data of ingest '%s'", i->ref);
	if (ingest_size(i) == 0)
		i->hash = digester_new(expected);
	return 0;
}

int ingest_open(const struct store_ctx *c, const char *ref, int64_t total, const char *expected,
		struct ingest **ret, struct error *err)
{
	CLEANUP(ingest_closep) struct ingest *i = NULL;
	int r;

	if (expected && !digest_valid(expected))
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%.160s' is not a valid digest",
				 expected);
	if (!identifier_valid(c->ns))
		return error_set(err, ERROR_INVALID_ARGUMENT, "namespace '%.128s' is not valid",
				 c->ns);
	i = ingest_new(c, ref, err);
	if (!i)
		return -1;
	i->expected = xstrdup(expected);
	r = ingest_register(i, expected, err);
	if (r < 0)
		return -1;
	if (r > 0) {
		if (ingest_remove(i, err) < 0)
			return -1;
		return error_set(err, ERROR_ALREADY_EXISTS, "content '%s' exists", expected);
	}
	if (open_files(i, total, expected, err) < 0)
		return -1;
	*ret = TAKE_PTR(i);
	return 0;
}

int ingest_fd(const struct ingest *i)
{
	return i->fd;
}

int64_t ingest_size(const struct ingest *i)
{
	struct stat st;

	return fstat(i->fd, &st) < 0 ? 0 : st.st_size;
}

static int ingest_restart(struct ingest *i, struct error *err)
{
	if (ftruncate(i->fd, 0) < 0)
		return error_errno(err, errno, "truncate ingest '%s'", i->ref);
	if (i->hash)
		digester_free(i->hash);
	i->hash = digester_new(i->expected);
	i->hashed = 0;
	return 0;
}

int ingest_write(struct ingest *i, int64_t offset, const void *p, size_t n, struct error *err)
{
	int64_t size = ingest_size(i);

	assert(!i->done);
	if (offset == 0 && size > 0) {
		if (ingest_restart(i, err) < 0)
			return -1;
		size = 0;
	}
	if (offset != size)
		return error_set(err, ERROR_OUT_OF_RANGE,
				 "ingest '%s': write at %lld, but it has %lld bytes", i->ref,
				 (long long)offset, (long long)size);
	for (size_t at = 0; at < n;) {
		ssize_t w = pwrite(i->fd, (const char *)p + at, n - at, offset + (int64_t)at);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0) {
			int sys = errno;

			/* What is there stays a prefix that a resume can build on. */
			(void)ftruncate(i->fd, offset);
			return error_errno(err, sys, "write ingest '%s'", i->ref);
		}
		at += (size_t)w;
	}
	if (i->hash && i->hashed == offset) {
		digester_update(i->hash, p, n);
		i->hashed += (int64_t)n;
	}
	return 0;
}

static int hash_file(const struct ingest *i, const char *like, char out[DIGEST_MAX],
		     struct error *err)
{
	CLEANUP(digester_freep) struct digester *d = digester_new(like);
	autoclose int fd = openat(i->ctx.store->root_fd, i->data, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, errno, "open data of ingest '%s'", i->ref);
	if (digester_update_fd(d, fd, err) < 0)
		return error_wrap(err, "hash ingest '%s'", i->ref);
	digester_peek(d, out);
	return 0;
}

int ingest_digest(struct ingest *i, char ret[DIGEST_MAX], struct error *err)
{
	autoclose int fd = -EBADF;
	int64_t size = ingest_size(i);

	if (!i->hash || i->hashed != size) {
		if (i->hash)
			digester_free(i->hash);
		i->hash = digester_new(i->expected);
		i->hashed = size;
		fd = openat(i->ctx.store->root_fd, i->data, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return error_errno(err, errno, "open data of ingest '%s'", i->ref);
		if (digester_update_fd(i->hash, fd, err) < 0)
			return error_wrap(err, "hash ingest '%s'", i->ref);
	}
	digester_peek(i->hash, ret);
	return 0;
}

static int ingest_verify(struct ingest *i, int64_t actual_size, int64_t size, const char *expected,
			 bool verified, char out[DIGEST_MAX], struct error *err)
{
	if (size > 0 && size != actual_size)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "ingest '%s': %lld bytes, expected %lld", i->ref,
				 (long long)actual_size, (long long)size);
	if (verified && expected) {
		snprintf(out, DIGEST_MAX, "%s", expected);
		return 0;
	}
	out[0] = 0;
	if (i->hash && i->hashed == actual_size)
		digester_peek(i->hash, out);
	if (!out[0] || (expected && strncmp(out, expected, strcspn(expected, ":") + 1) != 0)) {
		if (hash_file(i, expected, out, err) < 0)
			return -1;
	}
	if (expected && strcmp(out, expected) != 0)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "ingest '%s': digest is '%s', expected '%s'", i->ref, out,
				 expected);
	return 0;
}

/* 1: it was there already. */
static int ingest_install(struct ingest *i, const char *digest, int64_t size,
			  const struct kvs *labels, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autofree char *path = blob_path(digest);
	int r;

	if (db_write(i->ctx.store->db, &tx, err) < 0)
		return -1;
	r = db_exists(&tx, err, "SELECT 1 FROM content WHERE digest = ? AND ns = ?", "ss", digest,
		      i->ctx.ns);
	if (r < 0 || ctx_lease_remove(&i->ctx, &tx, "ingests", i->ref, err) < 0)
		return -1;
	if (r > 0) {
		r = content_adopt(&i->ctx, &tx, digest, err);
		if (r < 0)
			return -1;
		if (r > 0)
			return db_commit(&tx, err) < 0 ? -1 : 1;
	}
	if (blob_install(&i->ctx, &tx, i->data, digest, size, labels, err) < 0)
		return -1;
	(void)fchmod(i->fd, 0444);
	*strrchr(path, '/') = 0;
	r = fs_sync_dir(i->ctx.store->root_fd, path);
	return r < 0 ? error_errno(err, -r, "sync '%s'", path) : 0;
}

int ingest_commit(struct ingest *i, int64_t size, const char *expected, bool verified,
		  const struct kvs *labels, char *ret_digest, struct error *err)
{
	char digest[DIGEST_MAX];
	int64_t actual = ingest_size(i);
	int r;

	assert(!i->done);
	if (expected && !digest_valid(expected))
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%.160s' is not a valid digest",
				 expected);
	if (labels_check(labels, err) < 0 ||
	    ingest_verify(i, actual, size, expected, verified, digest, err) < 0)
		return -1;
	if (fsync(i->fd) < 0)
		return error_errno(err, errno, "sync ingest '%s'", i->ref);
	if (failpoint("store.commit.before-rename", err) < 0)
		return -1;
	r = ingest_install(i, digest, actual, labels, err);
	if (r < 0)
		return error_wrap(err, "commit ingest '%s'", i->ref);
	if (failpoint("store.commit.before-remove", err) < 0 || ingest_remove(i, err) < 0)
		return -1;
	if (ret_digest)
		snprintf(ret_digest, DIGEST_MAX, "%s", digest);
	if (r > 0)
		return error_set(err, ERROR_ALREADY_EXISTS, "content '%s' exists", digest);
	return 0;
}

void ingest_close(struct ingest *i)
{
	struct stat st;

	/* Without data there is nothing to resume. */
	if (!i->done &&
	    (fstatat(i->ctx.store->root_fd, i->data, &st, AT_SYMLINK_NOFOLLOW) < 0 || !st.st_size))
		(void)ingest_remove(i, NULL);
	ingest_unlock(i);
	ingest_free(i);
}

int ingest_abort(const struct store_ctx *c, const char *ref, struct error *err)
{
	CLEANUP(ingest_closep) struct ingest *i = ingest_new(c, ref, err);
	autotx struct db_tx tx = DB_TX_INIT;

	if (!i)
		return -1;
	if (faccessat(c->store->root_fd, i->dir, F_OK, 0) < 0)
		return error_set(err, ERROR_NOT_FOUND, "ingest '%s' not found", ref);
	if (ingest_remove(i, err) < 0 || db_write(c->store->db, &tx, err) < 0)
		return -1;
	if (db_exec(&tx, err,
		    "DELETE FROM lease_resources WHERE ns = ? AND type = 'ingests' AND id = ?",
		    "ss", c->ns, ref) < 0)
		return -1;
	return db_commit(&tx, err);
}

/* The status of one directory, and its namespace; false when it is not (or no longer) an ingest. */
static bool status_load(struct store *s, const char *key, char **ret_ns, struct ingest_status *ret)
{
	autofree char *dir = path_join(INGEST_DIR, key, NULL);
	autoclose int fd = openat(s->root_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	autofree char *full = fd < 0 ? NULL : read_file(fd, "ref");
	autofree char *total = NULL, *started = NULL;
	char *slash = full ? strchr(full, '/') : NULL;
	struct stat st;

	if (!slash || fstatat(fd, "data", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	total = read_file(fd, "total");
	started = read_file(fd, "startedat");
	ret->ref = xstrdup(slash + 1);
	ret->offset = st.st_size;
	ret->updated_at = st.st_mtim.tv_sec * NSEC_PER_SEC + st.st_mtim.tv_nsec;
	if (!total || parse_int64(total, &ret->total) < 0)
		ret->total = 0;
	if (!started || time_parse_rfc3339(started, &ret->started_at) < 0)
		ret->started_at = ret->updated_at;
	ret->expected = read_file(fd, "expected");
	*slash = 0;
	*ret_ns = TAKE_PTR(full);
	return true;
}

int ingest_stat(const struct store_ctx *c, const char *ref, struct ingest_status *ret,
		struct error *err)
{
	autofree char *key = ingest_key(c->ns, ref);
	autofree char *ns = NULL;
	struct ingest_status st = { 0 };

	if (!status_load(c->store, key, &ns, &st))
		return error_set(err, ERROR_NOT_FOUND, "ingest '%s' not found", ref);
	*ret = st;
	return 0;
}

static int list_keys(struct store *s, struct strv *ret, struct error *err)
{
	int fd = openat(s->root_fd, INGEST_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return error_errno(err, errno, "open '%s/" INGEST_DIR "'", s->root);
	while ((e = readdir(d))) {
		if (!str_equal(e->d_name, ".") && !str_equal(e->d_name, ".."))
			strv_push(ret, e->d_name);
	}
	closedir(d);
	return 0;
}

int ingest_walk(const struct store_ctx *c, int (*fn)(const struct ingest_status *s, void *arg),
		void *arg, struct error *err)
{
	autostrv struct strv keys = STRV_INIT;
	bool stop = false;

	if (list_keys(c->store, &keys, err) < 0)
		return -1;
	for (size_t i = 0; i < keys.n && !stop; i++) {
		CLEANUP(ingest_status_done) struct ingest_status st = { 0 };
		autofree char *ns = NULL;

		if (status_load(c->store, keys.v[i], &ns, &st) && str_equal(ns, c->ns))
			stop = fn(&st, arg) != 0;
	}
	return 0;
}

/* Moves it away unless it is open; 1 with its new path. */
static int expire_one(struct store *s, const char *key, char **ret)
{
	autofree char *dir = path_join(INGEST_DIR, key, NULL);
	int r = 0;

	pthread_mutex_lock(&s->ingest_lock);
	if (!map_get(&s->ingests, key))
		r = trash_move(s, dir, ret) == 0;
	pthread_mutex_unlock(&s->ingest_lock);
	return r;
}

int ingest_expire(struct store *s, const struct db_tx *leases, int64_t now, struct strv *trash,
		  int64_t *next_expiry, struct error *err)
{
	autostrv struct strv keys = STRV_INIT;

	if (list_keys(s, &keys, err) < 0)
		return -1;
	for (size_t i = 0; i < keys.n; i++) {
		CLEANUP(ingest_status_done) struct ingest_status st = { 0 };
		autofree char *ns = NULL;
		char *path = NULL;
		int leased;

		if (!status_load(s, keys.v[i], &ns, &st))
			continue;
		if (st.updated_at + INGEST_TTL > now) {
			if (!*next_expiry || st.updated_at + INGEST_TTL < *next_expiry)
				*next_expiry = st.updated_at + INGEST_TTL;
			continue;
		}
		leased = db_exists(leases, err,
				   "SELECT 1 FROM lease_resources"
				   " WHERE ns = ? AND type = 'ingests' AND id = ?",
				   "ss", ns, st.ref);
		if (leased < 0)
			return -1;
		if (!leased && expire_one(s, keys.v[i], &path))
			strv_take(trash, path);
	}
	return 0;
}

int ingest_recover(struct store *s, struct error *err)
{
	autostrv struct strv keys = STRV_INIT;

	if (list_keys(s, &keys, err) < 0)
		return -1;
	for (size_t i = 0; i < keys.n; i++) {
		CLEANUP(ingest_status_done) struct ingest_status st = { 0 };
		autofree char *ns = NULL, *key = NULL, *trash = NULL;

		if (status_load(s, keys.v[i], &ns, &st))
			key = ingest_key(ns, st.ref);
		if ((!key || !str_equal(key, keys.v[i]) || st.offset == 0) &&
		    expire_one(s, keys.v[i], &trash))
			reaper_remove(s, TAKE_PTR(trash));
	}
	return 0;
}
