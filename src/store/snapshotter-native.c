/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies: each active snapshot begins as a whole copy of its parent (sharing blocks where the file
 * system can), so any file system will do. A view is its parent, mounted read-only.
 */

#include "store/snapshotter.h"

static int native_create(const struct snapshotter *sn, int64_t id, int64_t parent,
			 enum snapshot_kind kind, struct error *err)
{
	autoclose int fd = snapshotter_make_fs(sn, id, parent, err);
	autoclose int from = -EBADF;

	if (fd < 0)
		return -1;
	if (!parent || kind != SNAPSHOT_ACTIVE)
		return 0;
	from = snapshotter_open_fs(sn, parent, err);
	return from < 0 ? -1 : tree_copy(from, fd, err);
}

static int native_mounts(const struct snapshotter *sn, int64_t id, enum snapshot_kind kind,
			 const struct snapshot_chain *parents, struct mounts *ret,
			 struct error *err)
{
	bool view = kind == SNAPSHOT_VIEW;

	snapshotter_bind(sn, view && parents->n ? parents->v[0] : id, !view, ret);
	return 0;
}

const struct snapshotter_ops snapshotter_native = {
	.name = "native",
	.copies = true,
	.create = native_create,
	.mounts = native_mounts,
};
