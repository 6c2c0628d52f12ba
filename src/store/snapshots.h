#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots: a chain of layer directories; active and view ones are mounted by their user,
 * committed ones are parents (containerd core/snapshots). Snapshotters: "overlayfs" (default),
 * "native" (copies). Names are visible per namespace; the directory number is the backend's.
 *
 * Pulling unpacks layers in parallel: snapshot_prepare() with no parent for each, the worker fills
 * snapshot_layer_fd(), then snapshot_commit_onto() links the chain in order. That needs the
 * `rebase` capability; without it (native) each layer is prepared on its committed parent.
 */

#include "base/mount.h"
#include "store/store.h"

enum snapshot_kind {
	SNAPSHOT_VIEW = 1,
	SNAPSHOT_ACTIVE = 2,
	SNAPSHOT_COMMITTED = 3
}; /* API's numbers */

enum {
	SNAPSHOT_CAN_REBASE = 1 << 0, /* snapshot_commit_onto() with another parent */
	SNAPSHOT_OVERLAY_WHITEOUTS =
		1 << 1, /* layer dirs hold overlay whiteouts; else apply deletes */
};

struct snapshot_info {
	char *name;
	char *parent; /* "" for none */
	enum snapshot_kind kind;
	int64_t created_at, updated_at;
	struct kvs labels;
};

struct snapshot_usage {
	int64_t size; /* bytes on disk */
	int64_t inodes;
};

void snapshot_info_done(struct snapshot_info *i);

/* sn: snapshotter name, NULL for the default. NOT_FOUND for an unknown one. */
int snapshotter_capabilities(struct store *s, const char *sn, unsigned *ret, struct error *err);

/* ALREADY_EXISTS, NOT_FOUND (parent), FAILED_PRECONDITION (parent not committed). ret_mounts may be
 * NULL. Labels may be NULL. */
int snapshot_prepare(const struct store_ctx *c, const char *sn, const char *key, const char *parent,
		     const struct kvs *labels, struct mounts *ret_mounts, struct error *err);
int snapshot_view(const struct store_ctx *c, const char *sn, const char *key, const char *parent,
		  const struct kvs *labels, struct mounts *ret_mounts, struct error *err);
int snapshot_mounts(const struct store_ctx *c, const char *sn, const char *key, struct mounts *ret,
		    struct error *err);
/* The writable directory of an active snapshot, O_DIRECTORY | O_RDONLY. */
int snapshot_layer_fd(const struct store_ctx *c, const char *sn, const char *key,
		      struct error *err);
/* Commits `key` under `name` with its own parent. sync: the directory's file system is synced
 * before the record says so. ALREADY_EXISTS when name exists (key stays). */
int snapshot_commit(const struct store_ctx *c, const char *sn, const char *name, const char *key,
		    const struct kvs *labels, bool sync, struct error *err);
/* The same onto another parent ("" for none). `implied` (may be NULL) lists directories that the
 * layer's archive did not mention: they take mode, owner, times and xattrs from the nearest lower
 * layer that has them. */
int snapshot_commit_onto(const struct store_ctx *c, const char *sn, const char *name,
			 const char *key, const char *parent, const struct strv *implied,
			 const struct kvs *labels, bool sync, struct error *err);
/* FAILED_PRECONDITION while it has children. The directory is removed later, off the caller's path.
 */
int snapshot_remove(const struct store_ctx *c, const char *sn, const char *key, struct error *err);
int snapshot_stat(const struct store_ctx *c, const char *sn, const char *key,
		  struct snapshot_info *ret, struct error *err);
/* Committed: from the record; active: walks. Hard links count once. */
int snapshot_usage(const struct store_ctx *c, const char *sn, const char *key,
		   struct snapshot_usage *ret, struct error *err);
int snapshot_set_labels(const struct store_ctx *c, const char *sn, const char *key,
			const struct kvs *labels, struct error *err);
int snapshot_walk(const struct store_ctx *c, const char *sn,
		  int (*fn)(const struct snapshot_info *i, void *arg), void *arg,
		  struct error *err);
