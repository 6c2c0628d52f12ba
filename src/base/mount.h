#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts as containerd's API describes them (type, source, target, options as strings), made with
 * the new mount API (fsopen, fsconfig, fsmount, open_tree, mount_setattr, move_mount), so that
 * hundreds of overlay layers hit no one-page limit. Falls back to mount(2) where a call is missing.
 * Any thread, except that a mount always lands in the calling thread's mount namespace.
 */

#include "base/error.h"
#include "base/strv.h"

struct mount {
	char *type; /* "bind", "overlay", "tmpfs", "proc", ... */
	char *source;
	char *target; /* relative to where the list is mounted; NULL or "" is the place itself */
	struct strv options;
};

struct mounts {
	struct mount *v;
	size_t n;
};

/* Option of a bind or overlay mount, as util-linux has it: what the file system stores as id 0 is
 * the id that this user namespace (a path of one) maps 0 to. A bind is mapped itself, without what
 * is mounted below; for overlay see mounts_idmap_layers(). */
#define MOUNT_IDMAP_OPTION "X-mount.idmap="

#define MOUNTS_INIT ((struct mounts){ 0 })

void mounts_done(struct mounts *m);
/* Appends an empty one to be filled; the pointer lives until the next append. */
struct mount *mounts_add(struct mounts *m, const char *type, const char *source,
			 const char *target);
void mounts_copy(struct mounts *dst, const struct mounts *src);

/* A detached mount of one entry (nothing appears in any mount table): an O_PATH descriptor. */
int mount_open_detached(const struct mount *m, struct error *err);
/* Overlay cannot be ID-mapped, its lower layers can: those of every overlay mount with the option
 * are mounted, mapped, below `scratch` (made if missing; a tmpfs is mounted on it), and the mount's
 * options changed to name them. Once the list is attached, mount_detach_all(scratch, MNT_DETACH).
 * The upper layer keeps ids as they are: its root is to be given to the mapped root user. Undone on
 * failure. */
int mounts_idmap_layers(struct mounts *m, const char *scratch, struct error *err);
/* Mounts all, in order, on target; undoes what it did when one fails. */
int mounts_attach(const struct mounts *m, const char *target, struct error *err);
/* umount2(path, flags | UMOUNT_NOFOLLOW) until nothing is mounted there; not mounted is success. */
int mount_detach_all(const char *path, int flags, struct error *err);

#define automounts CLEANUP(mounts_done)
