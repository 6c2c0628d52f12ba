/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence is made of independent layers, each of which alone would do in a kernel without bugs:
 *
 * 1. Nothing to reach. The root directory becomes a *detached clone* of the mount that the worker
 * works in (open_tree); such a mount has no parent, so neither "..", nor symlinks, nor the
 * descriptors that the worker holds lead to any other file. No mount namespace is copied for it,
 * which on a host with thousands of mounts costs milliseconds a layer. The network phase needs
 * several files, so it does take a namespace and builds a tmpfs with read-only binds in it.
 * 2. No right to use. All capabilities are dropped but those of the phase, also from the bounding
 * set.
 * 3. No means. A list of allowed system calls: no socket in the phases without network, no mount,
 * exec, ptrace, bpf, new namespaces anywhere. This also stands for a network namespace of its own,
 * whose making and tearing down serialises on the kernel's global network lock while containers
 * start.
 *
 * A daemon that runs in a container or rootless may not be allowed step 1 (EPERM) or have a kernel
 * without it (ENOSYS, EINVAL); the worker then falls back to chroot, then to landlock, and steps 2
 * and 3 need no privilege at all. That is decided by whether CAP_SYS_ADMIN is effective and by
 * errno, never by an option. Anything else that fails is an error: a worker does not run with less
 * than it could.
 */

#include "worker/sandbox.h"

#include "base/fs.h"
#include "base/mem.h"

#include <assert.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define NOBODY 65534
#define BIT(cap) (1ULL << (cap))

#define UNPACK_CAPS                                                                            \
	(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) | \
	 BIT(CAP_FSETID) | BIT(CAP_MKNOD) | BIT(CAP_SETFCAP) | /* trusted.overlay.* */         \
	 BIT(CAP_SYS_ADMIN))

static const uint64_t phase_caps[SANDBOX_PHASE_MAX] = {
	[SANDBOX_UNPACK] = UNPACK_CAPS,
	/* trusted.overlay.* again */
	[SANDBOX_READ] = BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_SYS_ADMIN),
};

/* What TLS and name resolution read. Absent ones are skipped. */
static const char *const network_paths[] = { "/etc/resolv.conf",
					     "/etc/hosts",
					     "/etc/nsswitch.conf",
					     "/etc/gai.conf",
					     "/etc/host.conf",
					     "/etc/services",
					     "/etc/protocols",
					     "/etc/localtime",
					     "/etc/ld.so.cache",
					     "/etc/ssl",
					     "/etc/pki",
					     "/etc/ca-certificates",
					     "/etc/crypto-policies",
					     "/usr/share/ca-certificates",
					     "/usr/local/share/ca-certificates",
					     "/usr/share/pki",
					     "/usr/lib",
					     "/usr/lib64",
					     "/lib",
					     "/lib64",
					     "/run/systemd/resolve",
					     NULL };

static uint64_t caps_effective(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { 0 };

	if (syscall(SYS_capget, &h, d) < 0)
		return 0;
	return (uint64_t)d[1].effective << 32 | d[0].effective;
}

/* While there is the right to: becoming nobody takes it away. */
static int caps_bound(uint64_t keep, struct error *err)
{
	if (!(caps_effective() & BIT(CAP_SETPCAP)))
		return 0;
	for (int cap = 0; cap < 64; cap++) {
		if (keep & BIT(cap) || prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
			continue;
		if (errno == EINVAL) /* the kernel knows no more */
			break;
		return error_errno(err, errno, "sandbox: drop a bounding capability");
	}
	return 0;
}

static int caps_limit(uint64_t keep, struct error *err)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	keep &= caps_effective();
	struct __user_cap_data_struct d[2] = {
		{ .effective = (uint32_t)keep, .permitted = (uint32_t)keep },
		{ .effective = (uint32_t)(keep >> 32), .permitted = (uint32_t)(keep >> 32) },
	};
	if (syscall(SYS_capset, &h, d) < 0)
		return error_errno(err, errno, "sandbox: drop capabilities");
	return 0;
}

/* The kernel has no such call, or a confined daemon may not make it. */
static bool unsupported(int sys)
{
	return sys == ENOSYS || sys == EINVAL || sys == EPERM || sys == EACCES;
}

/* A detached clone of the tree at fd (or path), with mount attributes. -errno. */
static int clone_mount(int fd, const char *path, uint64_t attrs)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (*path ? 0 : AT_EMPTY_PATH);
	struct mount_attr a = { .attr_set = attrs };

	autoclose int tree = (int)syscall(SYS_open_tree, fd, path, flags);
	if (tree < 0)
		return -errno;
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0)
		return -errno;
	return TAKE_FD(tree);
}

/* An empty read-only file system in no namespace. -errno. */
static int empty_mount(uint64_t attrs)
{
	autoclose int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -errno;
	if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", "64k", 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	int fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attrs);
	return fd < 0 ? -errno : fd;
}

static int enter_root(int fd, struct error *err)
{
	if (fchdir(fd) < 0)
		return error_errno(err, errno, "sandbox: change directory");
	if (chroot(".") < 0 && !(errno == EPERM && !(caps_effective() & BIT(CAP_SYS_CHROOT))))
		return error_errno(err, errno, "sandbox: change root directory");
	return 0;
}

/* Replaces *fd by a clone that leads nowhere else; *fenced is cleared where that is not possible.
 */
static int fence(int *fd, uint64_t attrs, bool *fenced)
{
	if (!fd || *fd < 0)
		return 0;
	int clone = clone_mount(*fd, "", attrs);
	if (clone < 0 && !unsupported(-clone))
		return clone;
	if (clone < 0) {
		*fenced = false;
		return 0;
	}
	/* O_PATH descriptors make poor roots for some calls (fchdir is fine, fsync is not). */
	int dir = openat(clone, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(clone);
	if (dir < 0)
		return -errno;
	close(*fd);
	*fd = dir;
	return 0;
}

static int enter_tree(const struct sandbox *s, struct error *err)
{
	bool fenced = true;
	uint64_t attrs = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
	autoclose int empty = -EBADF;

	/* Files made through a clone could not be linked by the daemon (EXDEV), so an archive's
	 * directory stays what it is: with it as root, chroot alone is tight. */
	int r = 0;
	if (s->phase != SANDBOX_ARCHIVE && !s->in_place)
		r = fence(s->dir, s->phase == SANDBOX_READ ? attrs | MOUNT_ATTR_RDONLY : attrs,
			  &fenced);
	else if (!(caps_effective() & BIT(CAP_SYS_CHROOT)))
		fenced = false;
	if (r == 0)
		r = fence(s->lower, attrs | MOUNT_ATTR_RDONLY, &fenced);
	if (r < 0)
		return error_errno(err, -r, "sandbox: clone the directory's mount");
	if (!s->dir || *s->dir < 0) {
		empty = empty_mount(attrs | MOUNT_ATTR_RDONLY);
		if (empty < 0 && !unsupported(-empty))
			return error_errno(err, -empty, "sandbox: make an empty root");
		fenced = empty >= 0;
	}
	int root = s->dir && *s->dir >= 0 ? *s->dir : empty;
	if (root >= 0 && enter_root(root, err) < 0)
		return -1;
	if (fenced)
		return 0;
	return sandbox_landlock(s->dir ? *s->dir : -1, s->lower ? *s->lower : -1, NULL, err);
}

/* Binds one path of the host at the same place below view. Absent: success. */
static int view_add(int view, const char *path)
{
	struct stat st;
	autoclose int tree = clone_mount(AT_FDCWD, path,
					 MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
	if (tree < 0)
		return tree == -ENOENT || tree == -ENOTDIR ? 0 : tree;
	if (fstat(tree, &st) < 0)
		return -errno;

	const char *rel = path + 1;
	autofree char *parent = xstrndup(rel, (size_t)(path_base(rel) - rel));
	int r = *parent ? fs_mkdirat_p(view, parent, 0755) : 0;
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode)) {
		r = fs_mkdirat_p(view, rel, 0755);
		if (r < 0)
			return r;
	} else {
		autoclose int f = openat(view, rel, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
		if (f < 0)
			return -errno;
	}
	if (syscall(SYS_move_mount, tree, "", view, rel, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

/* *ret_built: false where the daemon has not the right. */
static int view_build(bool *ret_built, struct error *err)
{
	*ret_built = false;
	if (!(caps_effective() & BIT(CAP_SYS_ADMIN)) || unshare(CLONE_NEWNS) < 0)
		return 0;
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return unsupported(errno) ? 0 : error_errno(err, errno, "sandbox: separate mounts");
	autoclose int view = empty_mount(MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
	if (view < 0)
		return unsupported(-view) ? 0
					  : error_errno(err, -view, "sandbox: make an empty root");
	/* Mounts can only be moved onto a tree that is attached: over the root, where nobody looks.
	 */
	if (syscall(SYS_move_mount, view, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return unsupported(errno) ? 0 : error_errno(err, errno, "sandbox: attach a root");
	for (size_t i = 0; network_paths[i]; i++) {
		int r = view_add(view, network_paths[i]);
		if (r < 0)
			return error_errno(err, -r, "sandbox: bind '%s'", network_paths[i]);
	}
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	if (syscall(SYS_mount_setattr, view, "", AT_EMPTY_PATH, &ro, sizeof(ro)) < 0)
		return error_errno(err, errno, "sandbox: make the new root read-only");
	*ret_built = true;
	return enter_root(view, err);
}

static int enter_network(struct error *err)
{
	bool built;

	if (view_build(&built, err) < 0)
		return -1;
	if (!built && sandbox_landlock(-1, -1, network_paths, err) < 0)
		return -1;
	if (!(caps_effective() & BIT(CAP_SETUID)) || geteuid() != 0)
		return 0;
	/* Where the user namespace has no such user (EINVAL), root without capabilities it is. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_errno(err, errno, "sandbox: drop supplementary groups");
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return error_errno(err, errno, "sandbox: become group nobody");
	if (setresuid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return error_errno(err, errno, "sandbox: become nobody");
	return 0;
}

static int limits(struct error *err)
{
	static const struct {
		int what;
		rlim_t max;
	} table[] = { { RLIMIT_CORE, 0 }, { RLIMIT_NOFILE, 4096 }, { RLIMIT_MEMLOCK, 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct rlimit now;
		if (getrlimit(table[i].what, &now) < 0)
			return error_errno(err, errno, "sandbox: read a limit");
		now.rlim_max = MIN(now.rlim_max, table[i].max);
		now.rlim_cur = MIN(now.rlim_cur, now.rlim_max);
		if (setrlimit(table[i].what, &now) < 0)
			return error_errno(err, errno, "sandbox: set a limit");
	}
	return 0;
}

int sandbox_enter(const struct sandbox *s, struct error *err)
{
	assert(s->phase < SANDBOX_PHASE_MAX);

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, errno, "sandbox: forbid new privileges");
	if (limits(err) < 0 || caps_bound(phase_caps[s->phase], err) < 0)
		return -1;
	/* System V IPC and the host's name are none of our business; without the right, seccomp
	 * does. */
	if (caps_effective() & BIT(CAP_SYS_ADMIN))
		(void)unshare(CLONE_NEWIPC | CLONE_NEWUTS);
	int r = s->phase == SANDBOX_NETWORK ? enter_network(err) : enter_tree(s, err);
	if (r < 0)
		return -1;
	if (caps_limit(phase_caps[s->phase], err) < 0)
		return -1;
	return sandbox_filter(s->phase, err);
}
