/* SPDX-License-Identifier: Apache-2.0 */
/* What the host can do, found out by doing it. */

#include "base/fs.h"
#include "base/mem.h"
#include "base/mount.h"
#include "engine/sandbox-internal.h"
#include "engine/spec-internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

/* On a detached copy of a mount, which nobody sees. */
static bool can_set(const char *path, struct mount_attr *attr, unsigned flags)
{
	autoclose int fd =
		open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	return fd >= 0 && mount_setattr(fd, "", AT_EMPTY_PATH | flags, attr, sizeof(*attr)) == 0;
}

/* Layers lie below the root directory; overlay has taken mapped ones since Linux 5.19, the year of
 * which no later call tells: a mapped overlay is made. */
static bool can_map_overlay(const char *dir, const char *userns)
{
	automounts struct mounts mounts = MOUNTS_INIT;
	autofree char *base = path_join(dir, "probe", NULL);
	autofree char *scratch = path_join(base, "scratch", NULL);
	autofree char *target = path_join(base, "target", NULL);
	struct mount *m = mounts_add(&mounts, "overlay", "overlay", NULL);
	static const char *const dirs[] = { "lower", "upper/fs", "upper/work", "target" };
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		autofree char *path = path_join(base, dirs[i], NULL);

		ok = ok && fs_mkdir_p(path, 0700) == 0;
	}
	strv_push_printf(&m->options, "lowerdir=%s/lower", base);
	strv_push_printf(&m->options, "upperdir=%s/upper/fs", base);
	strv_push_printf(&m->options, "workdir=%s/upper/work", base);
	strv_push_printf(&m->options, MOUNT_IDMAP_OPTION "%s", userns);
	ok = ok && mounts_idmap_layers(&mounts, scratch, NULL) == 0;
	if (ok) {
		ok = mounts_attach(&mounts, target, NULL) == 0;
		mount_detach_all(target, MNT_DETACH, NULL);
		mount_detach_all(scratch, MNT_DETACH, NULL);
	}
	fs_remove_tree(AT_FDCWD, base);
	return ok;
}

static bool probe_userns(struct engine *e)
{
	autoclose int fd = sandbox_ns_probe_userns(e, NULL);
	autofree char *path = xasprintf("/proc/self/fd/%d", fd);
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)fd };

	return fd >= 0 && can_set(e->config.root, &attr, 0) &&
	       can_map_overlay(e->config.root, path);
}

void engine_features(struct engine *e, struct engine_features *ret)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY };

	pthread_mutex_lock(&once);
	if (!e->features) {
		struct engine_features *f = xnew(struct engine_features);

		*f = (struct engine_features){
			.recursive_read_only = can_set(e->config.state, &read_only, AT_RECURSIVE),
			.user_namespaces = probe_userns(e),
			.cgroup_v2 = e->cgroup_v2,
			.systemd_cgroup = e->config.systemd_cgroup,
			.apparmor = access("/sys/kernel/security/apparmor/profiles", F_OK) == 0,
			.selinux = access("/sys/fs/selinux/enforce", F_OK) == 0,
			.seccomp = access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0,
		};
		e->features = f;
	}
	*ret = *e->features;
	pthread_mutex_unlock(&once);
}
