/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overlayfs: each snapshot has the layer's own changes only; a chain is joined when it is mounted.
 * Layers do not depend on each other on disk, therefore a layer can be committed onto any parent.
 *
 * index=off: layers' directories are used in several mounts and moved by backups; with an index the
 * kernel remembers their file handles and refuses the mount (ESTALE) after that.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "store/snapshotter.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { OVERLAY_LAYERS_MAX = 500 }; /* OVL_MAX_STACK */

static int probe_mount(struct snapshotter *sn, const char *tmp, struct error *err)
{
	static const char *const names[] = { "work", "upper", "lower1", "lower2" };
	automounts struct mounts ms = MOUNTS_INIT;
	struct mount *m = mounts_add(&ms, "overlay", "overlay", NULL);
	autoclose int fd = -EBADF;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		autofree char *path = path_join(tmp, names[i], NULL);
		int r = fs_mkdir_p(path, 0700);

		if (r < 0)
			return error_errno(err, -r, "make '%s'", path);
	}
	strv_push_printf(&m->options, "workdir=%s/work", tmp);
	strv_push_printf(&m->options, "upperdir=%s/upper", tmp);
	strv_push_printf(&m->options, "lowerdir=%s/lower1:%s/lower2", tmp, tmp);
	if (sn->index_off)
		strv_push(&m->options, "index=off");
	fd = mount_open_detached(&ms.v[0], err);
	return fd < 0 ? -1 : 0;
}

static int overlay_probe(struct snapshotter *sn, struct error *err)
{
	autofree char *tmp = path_join(sn->dir, ".probe", NULL);
	int r;

	sn->index_off = access("/sys/module/overlay/parameters/index", F_OK) == 0;
	r = probe_mount(sn, tmp, err);
	(void)fs_remove_tree(AT_FDCWD, tmp);
	if (r < 0)
		return error_wrap(err, "overlayfs does not work on '%s'", sn->dir);
	/* The module may have been loaded by the probe. */
	sn->index_off = access("/sys/module/overlay/parameters/index", F_OK) == 0;
	return 0;
}

static int overlay_create(const struct snapshotter *sn, int64_t id, int64_t parent,
			  enum snapshot_kind kind, struct error *err)
{
	autoclose int fd = snapshotter_make_fs(sn, id, parent, err);
	char work[40];

	if (fd < 0)
		return -1;
	if (kind != SNAPSHOT_ACTIVE)
		return 0;
	snprintf(work, sizeof(work), "%lld/work", (long long)id);
	if (mkdirat(sn->dir_fd, work, 0711) < 0)
		return error_errno(err, errno, "make '%s/%s'", sn->dir, work);
	return 0;
}

static int overlay_mounts(const struct snapshotter *sn, int64_t id, enum snapshot_kind kind,
			  const struct snapshot_chain *parents, struct mounts *ret,
			  struct error *err)
{
	autobuf struct buf lower = BUF_INIT(BUF_NO_LIMIT);
	struct mount *m;

	if (parents->n > OVERLAY_LAYERS_MAX)
		return error_set(err, ERROR_FAILED_PRECONDITION, "%zu layers: overlayfs allows %d",
				 parents->n, OVERLAY_LAYERS_MAX);
	if (parents->n == 0 || (parents->n == 1 && kind == SNAPSHOT_VIEW)) {
		snapshotter_bind(sn, parents->n ? parents->v[0] : id, kind == SNAPSHOT_ACTIVE, ret);
		return 0;
	}
	m = mounts_add(ret, "overlay", "overlay", NULL);
	if (kind == SNAPSHOT_ACTIVE) {
		strv_push_printf(&m->options, "workdir=%s/%lld/work", sn->dir, (long long)id);
		strv_push_printf(&m->options, "upperdir=%s/%lld/fs", sn->dir, (long long)id);
	}
	buf_puts(&lower, "lowerdir=");
	for (size_t i = 0; i < parents->n; i++)
		buf_printf(&lower, "%s%s/%lld/fs", i ? ":" : "", sn->dir, (long long)parents->v[i]);
	strv_push(&m->options, lower.data);
	if (sn->index_off)
		strv_push(&m->options, "index=off");
	return 0;
}

const struct snapshotter_ops snapshotter_overlay = {
	.name = "overlayfs",
	.capabilities = SNAPSHOT_CAN_REBASE | SNAPSHOT_OVERLAY_WHITEOUTS,
	.probe = overlay_probe,
	.create = overlay_create,
	.mounts = overlay_mounts,
};
