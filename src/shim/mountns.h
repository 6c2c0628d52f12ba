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
/* Gives up this namespace's copies of what is mounted at path and below: here they would keep it
 * alive after the host has unmounted it. Not a mount is success. */
int mountns_forget(const char *path, struct error *err);
/* Before a root file system is mounted beneath path: mounts there must not reach the host. */
int mountns_shield(const char *path, struct error *err);

/* The propagation of mount `id` in a mountinfo text: true if it has peers. Sans-IO. */
bool mountinfo_is_shared(const char *text, uint64_t id, char **ret_mountpoint);
