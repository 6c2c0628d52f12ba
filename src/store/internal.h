#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of store/ share. Locks, in the order in which they may be taken:
 *
 *	gc_lock		one collection at a time
 *	ingest_lock	the table of open ingests; also held over renames of ingest directories
 *	writer lock	(db_write) all changes of metadata, and renames of blobs to and from their
 *			final place
 *	reaper.lock, pins.lock, barrier_lock	innermost
 *
 * No fsync, no tree walk and no removal happens under the writer lock.
 */

#include "base/list.h"
#include "base/map.h"
#include "store/db.h"
#include "store/snapshotter.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>

#define CONTENT_DIR "io.containerd.content.v1.content"
#define BLOBS_DIR CONTENT_DIR "/blobs"
#define INGEST_DIR CONTENT_DIR "/ingest"
#define TRASH_DIR "trash"

#define LABEL_GC_PREFIX "containerd.io/gc."
#define LABEL_GC_EXPIRE "containerd.io/gc.expire"
#define LABEL_SNAPSHOT_REF "containerd.io/snapshot.ref"

#define INGEST_TTL (24 * 3600 * NSEC_PER_SEC)

enum { N_SNAPSHOTTERS = 2, NAME_MAX_BYTES = 4096 };

/* The background thread: removes directories, checkpoints the log, collects. */
struct reaper {
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop, checkpoint, collect;
	int64_t collect_at;	/* CLOCK_MONOTONIC: not before; valid when collect */
	int64_t collect_expiry; /* CLOCK_REALTIME: something expires then; 0: nothing does */
	struct strv removals;	/* paths under root */
};

struct store {
	char *root;
	int root_fd, lock_fd;
	struct db *db;

	struct snapshotter snapshotters[N_SNAPSHOTTERS];
	struct snapshotter *default_snapshotter;
	atomic_int_fast64_t last_snapshot; /* highest number in use */
	struct snapshot_pins {
		pthread_mutex_t lock; /* innermost */
		int64_t *v;
		size_t n;
	} pins;

	pthread_mutex_t ingest_lock;
	struct map ingests; /* key -> struct ingest, open ones */

	pthread_mutex_t gc_lock;
	pthread_mutex_t barrier_lock; /* innermost */
	struct strv *barrier;	      /* non-NULL while a mark runs; see gc.c */

	atomic_uint_fast64_t trash_counter;
	struct reaper reaper;
};

/* store.c: makes the context's namespace exist, within a write transaction. */
int ctx_ensure_namespace(const struct store_ctx *c, const struct db_tx *tx, struct error *err);
/* INVALID_ARGUMENT for names that are empty, longer than NAME_MAX_BYTES or have control characters.
 */
int name_check(const char *what, const char *name, struct error *err);

/* labels.c */
char *labels_format(const struct kvs *labels); /* NULL is empty; malloc'ed JSON */
int labels_parse(const char *json, struct kvs *ret, struct error *err);
/* INVALID_ARGUMENT for empty keys and absurd sizes. NULL is fine. */
int labels_check(const struct kvs *labels, struct error *err);
/* INVALID_ARGUMENT for what could not be read back: text that is not UTF-8, too much of it. */
int labels_check_text(const struct kvs *labels, struct error *err);
/* Sets what changes has; empty values unset. */
void labels_merge(struct kvs *labels, const struct kvs *changes);

/* leases.c: within a write transaction; nothing when the context names no lease. NOT_FOUND when the
 * lease does not exist. */
int ctx_lease_add(const struct store_ctx *c, const struct db_tx *tx, const char *type,
		  const char *resource, struct error *err);
int ctx_lease_remove(const struct store_ctx *c, const struct db_tx *tx, const char *type,
		     const char *resource, struct error *err);

/* gc.c: what a write transaction makes, references or changes is named here, so that a collection
 * that runs meanwhile sees it. */
enum gc_kind { GC_CONTENT, GC_SNAPSHOT, GC_IMAGE, GC_CONTAINER, GC_LEASE, GC_KIND_MAX };
void gc_touch(struct store *s, enum gc_kind kind, const char *ns, const char *sn, const char *id);

/* reaper.c */
int reaper_start(struct store *s, struct error *err);
void reaper_stop(struct store *s);
/* Takes path (under root). */
void reaper_remove(struct store *s, char *path);
void reaper_collect(struct store *s);
/* A collection has run: next expiry (0: none), and how long the run took. */
void reaper_collected(struct store *s, int64_t next_expiry, int64_t duration);

/* Moves a file or directory under root into the trash; *ret is its path there, under root. -errno.
 */
int trash_move(struct store *s, const char *path, char **ret);
char *trash_path(struct store *s);

/* recover.c */
int recover(struct store *s, struct error *err);

/* content.c */
/* Blob path under root; malloc'ed. */
char *blob_path(const char *digest);
/*
 * Within a write transaction: moves the verified, synced file `from` (under root) to the digest's
 * place and records it. Returns 1 when the namespace has the digest already (nothing is moved).
 * The transaction is committed by this.
 */
int blob_install(const struct store_ctx *c, struct db_tx *tx, const char *from, const char *digest,
		 int64_t size, const struct kvs *labels, struct error *err);
/* The record when the namespace has the digest, made when only another one has it. Joins the lease.
 * 1: there, 0: not. */
int content_adopt(const struct store_ctx *c, const struct db_tx *tx, const char *digest,
		  struct error *err);
/* Moves the blob to the trash when no namespace has it any more: 1 and its path there, else 0.
 * Writer lock. */
int blob_discard(struct store *s, const struct db_tx *tx, const char *digest, char **ret);

/* ingest.c: moves what has expired and no lease holds into the trash and appends its path there;
 * sets the next expiry when earlier. */
int ingest_expire(struct store *s, const struct db_tx *leases, int64_t now, struct strv *trash,
		  int64_t *next_expiry, struct error *err);
/* Removes directories that are no ingests. */
int ingest_recover(struct store *s, struct error *err);

/* snapshots.c: NULL name: the default; NULL when there is none of that name. */
struct snapshotter *snapshotter_find(struct store *s, const char *name);
/* Pins keep snapshots from being removed, committed or collected. Whoever pins, or acts on the
 * answer of snapshot_pinned(), holds the writer lock. */
void snapshot_pin(struct store *s, int64_t id);
void snapshot_unpin(struct store *s, int64_t id);
bool snapshot_pinned(struct store *s, int64_t id);
