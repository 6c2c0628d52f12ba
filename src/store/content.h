#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content: blobs by digest, shared by all namespaces on disk, visible per namespace. A blob enters
 * by rename after verification and fsync; a reader never sees a partial one.
 */

#include "base/buf.h"
#include "oci/digest.h"
#include "store/store.h"

struct content_info {
	char *digest;
	int64_t size;
	int64_t created_at, updated_at; /* ns */
	struct kvs labels;
};

void content_info_done(struct content_info *i);

/* NOT_FOUND. A record whose file is gone is dropped and NOT_FOUND. */
int content_stat(const struct store_ctx *c, const char *digest, struct content_info *ret,
		 struct error *err);
/* A read-only descriptor, or -1. */
int content_open(const struct store_ctx *c, const char *digest, int64_t *ret_size,
		 struct error *err);
/* Whole blob, bounded by out->max. */
int content_read(const struct store_ctx *c, const char *digest, struct buf *out, struct error *err);
/* Writes a small document (manifest, config) in one go; existing is success (labels are merged). */
int content_put(const struct store_ctx *c, const char *digest, const void *p, size_t n,
		const struct kvs *labels, struct error *err);
/* The same for a nameless file (O_TMPFILE) made in content_staging_fd(); it is synced here.
 * `verified`: its bytes are known to have this digest. */
int content_adopt_file(const struct store_ctx *c, int fd, const char *digest, int64_t size,
		       bool verified, const struct kvs *labels, struct error *err);
/* A directory on the store's file system, to be passed to a worker. */
int content_staging_fd(struct store *s, struct error *err);
/* Sets given labels; an empty value removes one. */
int content_set_labels(const struct store_ctx *c, const char *digest, const struct kvs *labels,
		       struct error *err);
int content_delete(const struct store_ctx *c, const char *digest, struct error *err);
/* fn on each blob of the namespace; non-zero ends the walk with success. */
int content_walk(const struct store_ctx *c, int (*fn)(const struct content_info *i, void *arg),
		 void *arg, struct error *err);

/*
 * Ingests: one writer per (namespace, ref), data kept for resume until commit, abort or expiry (24
 * h, unless leased).
 */
struct ingest;

struct ingest_status {
	char *ref;
	int64_t offset, total;
	int64_t started_at, updated_at;
	char *expected;
};

void ingest_status_done(struct ingest_status *s);

/* UNAVAILABLE while another writer has it; ALREADY_EXISTS when `expected` (may be NULL) is
 * already content of this namespace (it joins the lease). Content that only another namespace
 * has is shared: ALREADY_EXISTS too, after the record has been made. */
int ingest_open(const struct store_ctx *c, const char *ref, int64_t total, const char *expected,
		struct ingest **ret, struct error *err);
/* The data file, open read-write (no O_APPEND); may be passed to a worker. Borrowed. */
int ingest_fd(const struct ingest *i);
int64_t ingest_size(const struct ingest *i);
/* Appends at offset: OUT_OF_RANGE unless it is the size; 0 truncates and restarts. */
int ingest_write(struct ingest *i, int64_t offset, const void *p, size_t n, struct error *err);
/* Of what has been written so far: runs along, but reads the file when the ingest was resumed. */
int ingest_digest(struct ingest *i, char ret[DIGEST_MAX], struct error *err);
/* Checks size (when > 0) and digest (`expected` may be NULL: whatever it is); `verified`: the
 * writer has hashed exactly these bytes itself, do not read them again. fsync, rename, record,
 * lease. FAILED_PRECONDITION on mismatch (data stays), ALREADY_EXISTS when it is there (data
 * removed). ret_digest (may be NULL) holds DIGEST_MAX. The ingest stays to be closed. */
int ingest_commit(struct ingest *i, int64_t size, const char *expected, bool verified,
		  const struct kvs *labels, char *ret_digest, struct error *err);
/* Frees the writer and the lock; uncommitted data stays for resume. */
void ingest_close(struct ingest *i);
/* Deletes the data. */
int ingest_abort(const struct store_ctx *c, const char *ref, struct error *err);
int ingest_stat(const struct store_ctx *c, const char *ref, struct ingest_status *ret,
		struct error *err);
int ingest_walk(const struct store_ctx *c, int (*fn)(const struct ingest_status *s, void *arg),
		void *arg, struct error *err);

DEFINE_CLEANUP(struct ingest *, ingest_close)
