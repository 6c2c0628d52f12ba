/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob's file comes and goes only under the writer lock, together with its records: it is renamed
 * into place in the transaction that records it, and renamed into the trash right after the commit
 * that deleted its last record. So no one can adopt a blob that is being discarded. A crash in
 * between leaves a file without a record or a record without a file; recovery removes either.
 *
 * The directory is synced after the rename and outside the lock. The record may reach the disk
 * before the directory entry does; after a power failure just then recovery drops it, and nobody
 * had been promised anything yet.
 */

#include "store/content.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "oci/digest.h"
#include "store/failpoint.h"
#include "store/gc.h"
#include "store/internal.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { WALK_BATCH = 256 };

void content_info_done(struct content_info *i)
{
	free(i->digest);
	kvs_done(&i->labels);
	*i = (struct content_info){ 0 };
}

char *blob_path(const char *digest)
{
	autofree char *tail = digest_blob_path(digest);

	return path_join(CONTENT_DIR, tail, NULL);
}

static int digest_check(const char *digest, struct error *err)
{
	if (digest && digest_valid(digest))
		return 0;
	return error_set(err, ERROR_INVALID_ARGUMENT, "'%.160s' is not a valid digest",
			 digest ? digest : "");
}

static int not_found(const char *digest, struct error *err)
{
	return error_set(err, ERROR_NOT_FOUND, "content '%s' not found", digest);
}

static bool blob_exists(struct store *s, const char *digest)
{
	autofree char *path = blob_path(digest);

	return faccessat(s->root_fd, path, F_OK, 0) == 0;
}

static int drop_records(struct store *s, const struct db_tx *tx, const char *digest,
			struct error *err)
{
	int n = db_exec(tx, err, "DELETE FROM content WHERE digest = ?", "s", digest);

	return n < 0 ? -1 : 0;
}

/* The file was not there for a reader: drop the records, unless it has come meanwhile. */
static int heal_missing(const struct store_ctx *c, const char *digest, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (db_write(c->store->db, &tx, err) < 0)
		return -1;
	if (blob_exists(c->store, digest))
		return not_found(digest, err);
	if (drop_records(c->store, &tx, digest, err) < 0 || db_commit(&tx, err) < 0)
		return -1;
	return not_found(digest, err);
}

static int info_from_row(const struct db_query *q, struct content_info *ret, struct error *err)
{
	ret->digest = db_strdup(q, 0);
	ret->size = db_int(q, 1);
	ret->created_at = db_int(q, 2);
	ret->updated_at = db_int(q, 3);
	return labels_parse(db_text(q, 4), &ret->labels, err);
}

/* 1: found. */
static int info_load(const struct db_tx *tx, const char *ns, const char *digest,
		     struct content_info *ret, struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_query(tx, &q, err,
		     "SELECT digest, size, created, updated, labels FROM content"
		     " WHERE digest = ? AND ns = ?",
		     "ss", digest, ns) < 0)
		return -1;
	r = db_step(&q, err);
	if (r <= 0)
		return r;
	return info_from_row(&q, ret, err) < 0 ? -1 : 1;
}

int content_stat(const struct store_ctx *c, const char *digest, struct content_info *ret,
		 struct error *err)
{
	CLEANUP(content_info_done) struct content_info info = { 0 };
	autotx struct db_tx tx = DB_TX_INIT;
	int r;

	if (digest_check(digest, err) < 0 || db_read(c->store->db, &tx, err) < 0)
		return -1;
	r = info_load(&tx, c->ns, digest, &info, err);
	db_tx_end(&tx);
	if (r < 0)
		return -1;
	if (r == 0)
		return not_found(digest, err);
	if (!blob_exists(c->store, digest))
		return heal_missing(c, digest, err);
	*ret = info;
	info = (struct content_info){ 0 };
	return 0;
}

int content_open(const struct store_ctx *c, const char *digest, int64_t *ret_size,
		 struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autofree char *path = NULL;
	struct stat st;
	int r, fd;

	if (digest_check(digest, err) < 0 || db_read(c->store->db, &tx, err) < 0)
		return -1;
	r = db_exists(&tx, err, "SELECT 1 FROM content WHERE digest = ? AND ns = ?", "ss", digest,
		      c->ns);
	db_tx_end(&tx);
	if (r < 0)
		return -1;
	if (r == 0)
		return not_found(digest, err);
	path = blob_path(digest);
	fd = openat(c->store->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return heal_missing(c, digest, err);
	if (fd < 0)
		return error_errno(err, errno, "open content '%s'", digest);
	if (fstat(fd, &st) < 0) {
		r = error_errno(err, errno, "stat content '%s'", digest);
		close(fd);
		return r;
	}
	if (ret_size)
		*ret_size = st.st_size;
	return fd;
}

int content_read(const struct store_ctx *c, const char *digest, struct buf *out, struct error *err)
{
	int64_t size;
	autoclose int fd = content_open(c, digest, &size, err);
	int r;

	if (fd < 0)
		return -1;
	r = fs_read_fd(fd, out);
	if (r == -ENOBUFS)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "content '%s': %lld bytes are more than %zu", digest,
				 (long long)size, out->max);
	return r < 0 ? error_errno(err, -r, "read content '%s'", digest) : 0;
}

static int record_insert(const struct store_ctx *c, const struct db_tx *tx, const char *digest,
			 int64_t size, const struct kvs *labels, struct error *err)
{
	autofree char *text = labels_format(labels);
	int64_t now = time_realtime();

	if (ctx_ensure_namespace(c, tx, err) < 0)
		return -1;
	return db_exec(tx, err,
		       "INSERT INTO content (ns, digest, size, created, updated, labels)"
		       " VALUES (?, ?, ?, ?, ?, ?)",
		       "ssiiis", c->ns, digest, size, now, now, text) < 0
		       ? -1
		       : 0;
}

/* The size that any namespace's record gives; 1: found. */
static int any_size(const struct db_tx *tx, const char *digest, int64_t *ret, struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_query(tx, &q, err, "SELECT size FROM content WHERE digest = ? LIMIT 1", "s",
		     digest) < 0)
		return -1;
	r = db_step(&q, err);
	if (r > 0)
		*ret = db_int(&q, 0);
	return r;
}

int content_adopt(const struct store_ctx *c, const struct db_tx *tx, const char *digest,
		  struct error *err)
{
	int64_t size = 0;
	int r = any_size(tx, digest, &size, err);

	if (r <= 0)
		return r;
	if (!blob_exists(c->store, digest))
		return drop_records(c->store, tx, digest, err);
	r = db_exists(tx, err, "SELECT 1 FROM content WHERE digest = ? AND ns = ?", "ss", digest,
		      c->ns);
	if (r < 0 || (r == 0 && record_insert(c, tx, digest, size, NULL, err) < 0))
		return -1;
	if (ctx_lease_add(c, tx, "content", digest, err) < 0)
		return -1;
	gc_touch(c->store, GC_CONTENT, c->ns, NULL, digest);
	return 1;
}

static int labels_update(const struct store_ctx *c, const struct db_tx *tx, const char *digest,
			 const struct kvs *labels, struct error *err)
{
	CLEANUP(content_info_done) struct content_info info = { 0 };
	autofree char *text = NULL;
	int r;

	r = info_load(tx, c->ns, digest, &info, err);
	if (r <= 0)
		return r < 0 ? -1 : not_found(digest, err);
	labels_merge(&info.labels, labels);
	text = labels_format(&info.labels);
	gc_touch(c->store, GC_CONTENT, c->ns, NULL, digest);
	return db_exec(tx, err,
		       "UPDATE content SET labels = ?, updated = ? WHERE digest = ? AND ns = ?",
		       "siss", text, time_realtime(), digest, c->ns) < 0
		       ? -1
		       : 0;
}

int blob_install(const struct store_ctx *c, struct db_tx *tx, const char *from, const char *digest,
		 int64_t size, const struct kvs *labels, struct error *err)
{
	autofree char *path = blob_path(digest);
	int r = content_adopt(c, tx, digest, err);

	if (r < 0)
		return -1;
	if (r > 0) {
		if (labels && labels_update(c, tx, digest, labels, err) < 0)
			return -1;
		return db_commit(tx, err) < 0 ? -1 : 1;
	}
	if (record_insert(c, tx, digest, size, labels, err) < 0 ||
	    ctx_lease_add(c, tx, "content", digest, err) < 0)
		return -1;
	gc_touch(c->store, GC_CONTENT, c->ns, NULL, digest);
	if (renameat(c->store->root_fd, from, c->store->root_fd, path) < 0)
		return error_errno(err, errno, "move content '%s' into place", digest);
	if (failpoint("store.commit.after-rename", err) < 0 || db_commit_hold(tx, err) < 0) {
		(void)renameat(c->store->root_fd, path, c->store->root_fd, from);
		return -1;
	}
	db_tx_end(tx);
	return 0;
}

/* A temporary file in the trash directory, which recovery empties. */
static int write_staged(struct store *s, const char *path, const void *p, size_t n,
			struct error *err)
{
	autoclose int fd = openat(s->root_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	int r;

	if (fd < 0)
		return error_errno(err, errno, "create '%s/%s'", s->root, path);
	r = fs_write_all(fd, p, n);
	if (r < 0)
		return error_errno(err, -r, "write '%s/%s'", s->root, path);
	if (failpoint("store.put.before-sync", err) < 0)
		return -1;
	return fsync(fd) < 0 ? error_errno(err, errno, "sync '%s/%s'", s->root, path) : 0;
}

static int put_new(const struct store_ctx *c, const char *staged, const char *digest, const void *p,
		   size_t n, const struct kvs *labels, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autofree char *path = blob_path(digest);
	char *slash = strrchr(path, '/');
	int r;

	if (write_staged(c->store, staged, p, n, err) < 0 || db_write(c->store->db, &tx, err) < 0)
		return -1;
	r = blob_install(c, &tx, staged, digest, (int64_t)n, labels, err);
	if (r != 0)
		return r;
	*slash = 0;
	r = fs_sync_dir(c->store->root_fd, path);
	return r < 0 ? error_errno(err, -r, "sync '%s'", path) : 0;
}

static int put_existing(const struct store_ctx *c, const char *digest, const struct kvs *labels,
			struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	int r;

	if (db_write(c->store->db, &tx, err) < 0)
		return -1;
	r = content_adopt(c, &tx, digest, err);
	if (r < 0 || (r > 0 && labels && labels_update(c, &tx, digest, labels, err) < 0))
		return -1;
	return db_commit(&tx, err) < 0 ? -1 : r;
}

int content_put(const struct store_ctx *c, const char *digest, const void *p, size_t n,
		const struct kvs *labels, struct error *err)
{
	CLEANUP(digester_freep) struct digester *hash = NULL;
	autofree char *staged = NULL;
	char actual[DIGEST_MAX];
	int r;

	if (digest_check(digest, err) < 0 || labels_check(labels, err) < 0)
		return -1;
	hash = digester_new(digest);
	digester_update(hash, p, n);
	digester_peek(hash, actual);
	if (strcmp(actual, digest) != 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "content '%s': the bytes are '%s'",
				 digest, actual);
	r = put_existing(c, digest, labels, err);
	if (r != 0)
		return r < 0 ? -1 : 0;
	staged = trash_path(c->store);
	r = put_new(c, staged, digest, p, n, labels, err);
	if (r != 0)
		(void)unlinkat(c->store->root_fd, staged, 0);
	return r < 0 ? -1 : 0;
}

int content_set_labels(const struct store_ctx *c, const char *digest, const struct kvs *labels,
		       struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (digest_check(digest, err) < 0 || labels_check(labels, err) < 0 ||
	    db_write(c->store->db, &tx, err) < 0 || labels_update(c, &tx, digest, labels, err) < 0)
		return -1;
	return db_commit(&tx, err);
}

int blob_discard(struct store *s, const struct db_tx *tx, const char *digest, char **ret)
{
	autofree char *path = blob_path(digest);

	*ret = NULL;
	if (db_exists(tx, NULL, "SELECT 1 FROM content WHERE digest = ?", "s", digest) != 0)
		return 0;
	return trash_move(s, path, ret) == 0;
}

int content_delete(const struct store_ctx *c, const char *digest, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autofree char *trash = NULL;
	int n;

	if (digest_check(digest, err) < 0 || db_write(c->store->db, &tx, err) < 0)
		return -1;
	n = db_exec(&tx, err, "DELETE FROM content WHERE digest = ? AND ns = ?", "ss", digest,
		    c->ns);
	if (n <= 0)
		return n < 0 ? -1 : not_found(digest, err);
	if (db_commit_hold(&tx, err) < 0)
		return -1;
	blob_discard(c->store, &tx, digest, &trash);
	db_tx_end(&tx);
	if (trash)
		reaper_remove(c->store, TAKE_PTR(trash));
	gc_schedule(c->store);
	return 0;
}

/* Up to WALK_BATCH records after the digest `after`. */
static int load_batch(const struct store_ctx *c, const char *after, struct content_info *infos,
		      size_t *n, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_read(c->store->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err,
		     "SELECT digest, size, created, updated, labels FROM content"
		     " WHERE digest > ? AND ns = ? ORDER BY digest LIMIT ?",
		     "ssi", after, c->ns, (int64_t)WALK_BATCH) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		assert(*n < WALK_BATCH);
		if (info_from_row(&q, &infos[(*n)++], err) < 0)
			return -1;
	}
	return r;
}

int content_walk(const struct store_ctx *c, int (*fn)(const struct content_info *i, void *arg),
		 void *arg, struct error *err)
{
	autofree struct content_info *infos = xnew_array(struct content_info, WALK_BATCH);
	autofree char *after = xstrdup("");
	bool more = true;
	int r = 0;

	while (more && r == 0) {
		size_t n = 0;
		bool stop = false;

		r = load_batch(c, after, infos, &n, err);
		for (size_t i = 0; i < n; i++) {
			if (r == 0 && !stop)
				stop = fn(&infos[i], arg) != 0;
			if (i == n - 1)
				str_replace(&after, infos[i].digest);
			content_info_done(&infos[i]);
		}
		more = n == WALK_BATCH && !stop;
	}
	return r;
}
