#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by cgroup.c and cgroup-stats.c. */

#include "base/buf.h"
#include "shim/cgroup.h"

enum cgroup_controller {
	CGROUP_UNIFIED,
	CGROUP_MEMORY,
	CGROUP_CPU,
	CGROUP_CPUACCT,
	CGROUP_PIDS,
	CGROUP_BLKIO,
	CGROUP_CONTROLLER_MAX
};

struct cgroup {
	bool v2;
	char *paths[CGROUP_CONTROLLER_MAX];
};

/* A file of the controller's directory (of the one directory on v2). -errno. */
int cgroup_read(const struct cgroup *c, enum cgroup_controller which, const char *file,
		struct buf *ret);
