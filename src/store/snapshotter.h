#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a kind of snapshot keeps on disk. The records, names, chains and locks are snapshots.c's; an
 * implementation only makes directories and says how they are mounted. Internal to store/. Any
 * thread; snapshots.c sees to it that the directories named stay during a call.
 *
 * A snapshot's directory is <dir>/<id>, its tree is <dir>/<id>/fs.
 */

#include "store/snapshots.h"

struct snapshotter;

/* Directory numbers of the parents, nearest first. */
struct snapshot_chain {
	int64_t *v;
	size_t n;
};

#define SNAPSHOT_CHAIN_INIT ((struct snapshot_chain){ 0 })

struct snapshotter_ops {
	const char *name;
	unsigned capabilities;
	bool copies; /* create() reads the parent's whole tree: it must be pinned */
	/* FAILED_PRECONDITION when this kind cannot work on the root's file system. */
	int (*probe)(struct snapshotter *sn, struct error *err);
	/* Fills the new, empty directory <id>; parent 0: none. */
	int (*create)(const struct snapshotter *sn, int64_t id, int64_t parent,
		      enum snapshot_kind kind, struct error *err);
	int (*mounts)(const struct snapshotter *sn, int64_t id, enum snapshot_kind kind,
		      const struct snapshot_chain *parents, struct mounts *ret, struct error *err);
};

struct snapshotter {
	const struct snapshotter_ops *ops;
	char *dir; /* absolute */
	char *rel; /* under root */
	int dir_fd;
	char *broken; /* why it cannot be used here, or NULL */
	bool index_off;
};

extern const struct snapshotter_ops snapshotter_overlay;
extern const struct snapshotter_ops snapshotter_native;

void snapshot_chain_done(struct snapshot_chain *c);
#define autochain CLEANUP(snapshot_chain_done)

/* Opens <id>/fs; -1 with err. */
int snapshotter_open_fs(const struct snapshotter *sn, int64_t id, struct error *err);
/* Appends the bind mount of <id>/fs. */
void snapshotter_bind(const struct snapshotter *sn, int64_t id, bool writable, struct mounts *ret);
/* Makes <id>/fs, with the parent's root's mode and owner when there is one. Returns it open. */
int snapshotter_make_fs(const struct snapshotter *sn, int64_t id, int64_t parent,
			struct error *err);

/* tree.c. Symlinks are not followed, mounts not crossed; entries that vanish meanwhile are left
 * out. */
int tree_usage(int dir_fd, struct snapshot_usage *ret, struct error *err);
/* Copies everything below src to below dst, which is empty, and src's own attributes: data by
 * reflink or copy_file_range, holes, hard links, xattrs, owners, modes, times, devices. */
int tree_copy(int src_fd, int dst_fd, struct error *err);
/* Owner, mode, xattrs (overlay's own excepted) and times of an open directory. */
int tree_copy_attributes(int src_fd, int dst_fd, struct error *err);

/* implied.c: gives the directories listed (relative paths) in the layer the attributes of the
 * nearest lower layer's directory that the layer's own tree does not hide. Layers: nearest first.
 */
int implied_patch(const struct snapshotter *sn, int layer_fd, const struct snapshot_chain *lower,
		  const struct strv *implied, struct error *err);
