/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first write to any cgroup.procs waits for an RCU grace period, 10 to 16 ms: the kernel's lock
 * of thread groups is made for forks, and has to be turned round for a writer. It stays turned
 * until a grace period after the last one. Each OCI runtime meets that in the middle of a start. So
 * the daemon takes the lock at the beginning of it, beside everything else that is being prepared,
 * by a write that changes nothing: it moves itself to where it is.
 *
 * Nobody waits for this or depends on it. Not needed where cgroups are mounted with favordynmods.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "task/internal.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#define MEMBERSHIP_MAX (64 << 10)

static atomic_flag warming = ATOMIC_FLAG_INIT;

char *warm_path(const char *membership)
{
	static const struct {
		const char *line, *mount;
	} hierarchies[] = { { ":pids:", "/sys/fs/cgroup/pids" }, { "0::", "/sys/fs/cgroup" } };

	for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++) {
		const char *line = strstr(membership, hierarchies[i].line);

		if (!line || (i > 0 && line != membership && line[-1] != '\n'))
			continue;
		line += strlen(hierarchies[i].line);
		return xasprintf("%s%.*s/cgroup.procs", hierarchies[i].mount,
				 (int)strcspn(line, "\n"), line);
	}
	return NULL;
}

static void warm_work(void *arg UNUSED)
{
	autobuf struct buf membership = BUF_INIT(MEMBERSHIP_MAX);

	if (fs_read(AT_FDCWD, "/proc/self/cgroup", &membership) == 0) {
		autofree char *path = warm_path(membership.data);
		autoclose int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -EBADF;

		if (fd >= 0)
			fs_write_all(fd, "0", 1);
	}
	atomic_flag_clear(&warming);
}

void tasks_warm(struct tasks *m)
{
	if (!atomic_flag_test_and_set(&warming))
		job_submit(m->config.jobs, JOB_OPS, warm_work, NULL, NULL);
}
