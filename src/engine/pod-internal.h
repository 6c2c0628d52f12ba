#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* One start (or trial) of a pod's container: shared by pod.c and pod-mounts.c. */

#include "engine/sandbox-internal.h"

struct pod_starting {
	struct container *c;
	struct sandbox *s;
	struct task *pod;  /* NULL: a trial */
	struct task *task; /* NULL: a trial */
	struct mounts rootfs, extra;
	int rootfs_fd;
	int ns_fds[SANDBOX_NS_MAX];
	char *ns_paths[SANDBOX_NS_MAX]; /* "": the host's */
	char *pidns;
	struct mount_specs mounts;
	struct json *spec;
	int pid;
	int64_t started_at;
	bool done;
};

void pod_starting_done(struct pod_starting *p);

/* pod-mounts.c */
/* Snapshots of image volumes; undone by pod_remove_volumes(). */
int pod_make_volumes(struct container *c, struct error *err);
/* Into p->mounts, with sources as the shim has them; what it has to mount for that into p->extra.
 */
int pod_resolve_mounts(struct pod_starting *p, struct error *err);
