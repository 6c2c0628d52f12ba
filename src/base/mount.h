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

#define MOUNTS_INIT ((struct mounts){ 0 })

void mounts_done(struct mounts *m);
/* Appends an empty one to be filled; the pointer lives until the next append. */
struct mount *mounts_add(struct mounts *m, const char *type, const char *source,
			 const char *target);
void mounts_copy(struct mounts *dst, const struct mounts *src);

/* A detached mount of one entry (nothing appears in any mount table): an O_PATH descriptor. */
int mount_open_detached(const struct mount *m, struct error *err);
/* Mounts all, in order, on target; undoes what it did when one fails. */
int mounts_attach(const struct mounts *m, const char *target, struct error *err);
/* umount2(path, flags | UMOUNT_NOFOLLOW) until nothing is mounted there; not mounted is success. */
int mount_detach_all(const char *path, int flags, struct error *err);

#define automounts CLEANUP(mounts_done)
