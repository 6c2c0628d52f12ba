#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Looking snapshots up; shared by the files that implement snapshots.h. Internal to store/. */

#include "store/internal.h"

struct snapshot_row {
	int64_t id, parent, kind, size, inodes;
};

/* As snapshotter_find(), but NOT_FOUND. */
struct snapshotter *snapshotter_get(const struct store_ctx *c, const char *name, struct error *err);
int snapshot_not_found(const char *key, struct error *err);
/* 1: found, 0: not. */
int snapshot_row_find(const struct store_ctx *c, const struct db_tx *tx,
		      const struct snapshotter *sn, const char *name, struct snapshot_row *ret,
		      struct error *err);
int snapshot_row_get(const struct store_ctx *c, const struct db_tx *tx,
		     const struct snapshotter *sn, const char *name, struct snapshot_row *ret,
		     struct error *err);
/* In a transaction of its own. */
int snapshot_row_lookup(const struct store_ctx *c, const struct snapshotter *sn, const char *key,
			struct snapshot_row *ret, struct error *err);
/* The number of a committed parent; 0 for "" and NULL. */
int snapshot_parent_get(const struct store_ctx *c, const struct db_tx *tx,
			const struct snapshotter *sn, const char *parent, int64_t *ret,
			struct error *err);
/* parent and its parents. */
int snapshot_chain_load(const struct db_tx *tx, int64_t parent, struct snapshot_chain *ret,
			struct error *err);
/* "snapshots/<snapshotter>"; malloc'ed. */
char *snapshot_lease_type(const struct snapshotter *sn);
int snapshot_lease_add(const struct store_ctx *c, const struct db_tx *tx,
		       const struct snapshotter *sn, const char *name, struct error *err);
