#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What AppArmor and SELinux have to say of containers. Where a host has neither, nothing of it is
 * in effect. Any thread.
 */

#include "base/error.h"
#include "engine/config.h"

bool apparmor_enabled(void);
/* Is it in the kernel? */
bool apparmor_is_loaded(const char *profile);
/* Name of the default profile, loaded by apparmor_parser(8) if it was not. NULL with err unset:
 * this host cannot load any, so containers go without. */
const char *apparmor_default(struct error *err);

bool selinux_enabled(void);
/* The labels of a pod's processes and files: what `wanted` names over the policy's usual values for
 * containers, and, without a level, one that is the pod's own (the same for each of its
 * containers). INVALID_ARGUMENT: names the part that is malformed. Results are malloc'ed. */
int selinux_labels(const struct selinux_label *wanted, const char *pod_id, char **ret_process,
		   char **ret_mount, struct error *err);
/* Labels a tree (its links not followed, other file systems in it left alone) for mounting.
 * INVALID_ARGUMENT for directories of the host that must not be relabelled. */
int selinux_relabel(const char *path, const char *label, struct error *err);

/* Sans-IO, for the above. */
/* "docker-default (enforce)\n..." */
bool apparmor_lists(const char *profiles, const char *name);
bool selinux_level_valid(const char *level);
bool selinux_may_relabel(const char *path);
