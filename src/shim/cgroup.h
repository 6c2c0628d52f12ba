#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's cgroup, v1 or v2: where it is, who is in it, what it uses, whether it ran out of
 * memory. Looked up once while the first process lives; readable until the runtime removes it.
 */

#include "base/arena.h"
#include "base/error.h"
#include "google.protobuf.pb-c.h"
#include "shim/watch.h"

struct cgroup;

/* NOT_FOUND when the process is gone. */
int cgroup_open(pid_t pid, struct cgroup **ret, struct error *err);
void cgroup_free(struct cgroup *c);
/* All processes in it and below. *ret is malloc'ed. */
int cgroup_pids(const struct cgroup *c, pid_t **ret, size_t *ret_n, struct error *err);
/* io.containerd.cgroups.v1.Metrics or v2.Metrics, in the arena. What cannot be read is left out. */
void cgroup_stats(const struct cgroup *c, struct arena *a, Google__Protobuf__Any *ret);
/* Processes killed for want of memory since it was made. */
uint64_t cgroup_oom_kills(const struct cgroup *c);
/* Becomes readable when that may have changed. NULL: cannot be told. */
struct watch *cgroup_watch_oom(const struct cgroup *c, struct loop *l,
			       void (*fn)(int events, void *arg), void *arg);

/* Directory of a controller ("" is v2) for a /proc/PID/cgroup text and a mountinfo text; malloc'ed,
 * NULL when not mounted. Sans-IO. */
char *cgroup_path(const char *membership, const char *mountinfo, const char *controller);
/* Value of "key N" in a text of such lines, 0 if absent. */
uint64_t cgroup_flat_value(const char *text, const char *key);
