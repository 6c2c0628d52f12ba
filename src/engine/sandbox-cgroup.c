/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An empty cgroup of the sandbox's name in the pod's. Nothing runs in it: it is what the cAdvisor
 * in a kubelet finds a pod by, whose pods have a process for that, and without it there are no
 * figures of the pod's network. A pod with a reaper has one already, and below the default parent
 * nobody looks. Failures do no harm.
 */
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/sandbox-internal.h"

#include <string.h>
#include <sys/stat.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

static const char *const hierarchies[] = { "cpu", "cpuacct", "memory", "pids" };

static bool has_marker(const struct sandbox *s)
{
	return !s->e->config.systemd_cgroup && !str_empty(s->config.cgroup_parent) &&
	       s->config.network == POD_NS_POD && s->config.pid != POD_NS_POD;
}

/* The pod's cgroup is the kubelet's to make: where it is not there, neither is this. */
static void each(const struct sandbox *s, int (*fn)(const char *path))
{
	autofree char *below = sandbox_cgroup(s, s->id);

	for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++) {
		autofree char *path = s->e->cgroup_v2
					      ? path_join(CGROUP_ROOT, below, NULL)
					      : path_join(CGROUP_ROOT, hierarchies[i], below, NULL);

		if (fn(path) < 0 && errno != ENOENT && errno != EEXIST)
			log_debug("sandbox %s: cgroup '%s': %s, ignoring", s->id, path,
				  strerror(errno));
		if (s->e->cgroup_v2)
			break;
	}
}

static int make_one(const char *path)
{
	return mkdir(path, 0755);
}

void sandbox_marker_make(const struct sandbox *s)
{
	if (has_marker(s))
		each(s, make_one);
}

void sandbox_marker_remove(const struct sandbox *s)
{
	if (has_marker(s))
		each(s, rmdir);
}
