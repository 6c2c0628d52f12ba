#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim's own mount namespace. Root file systems are mounted in it, so the host's mount table
 * stays small and nothing stays mounted when the shim dies; volumes with shared propagation still
 * reach the host, because nothing but the mount that holds the bundles (and, on hybrid hosts, the
 * cgroup tree) changes its propagation.
 */

#include "base/error.h"

/* Once, before there are other threads. Without the privilege for it the process stays where it is.
 */
int mountns_enter(struct error *err);
/*
 * A pod's shim outlives many mounts of the host, and must see them: volumes of containers to come.
 * Where the host's root propagates they come by themselves; else, before each container, the shim
 * takes a new copy of the host's namespace. What is mounted in `keep` (a directory of mount points,
 * may not exist) comes along; all else that the shim has mounted stays with who uses it. `pods` as
 * in mountns_forget(), or "". On failure the shim is where it was.
 */
int mountns_refresh(const char *keep, const char *pods, struct error *err);
/* Gives up this namespace's copies of what is mounted at path and below: here they would keep it
 * alive after the host has unmounted it. Not a mount is success. */
int mountns_forget(const char *path, struct error *err);
/* Before a root file system is mounted beneath path: mounts there must not reach the host. */
int mountns_shield(const char *path, struct error *err);

/* The propagation of mount `id` in a mountinfo text: true if it has peers. Sans-IO. */
bool mountinfo_is_shared(const char *text, uint64_t id, char **ret_mountpoint);
