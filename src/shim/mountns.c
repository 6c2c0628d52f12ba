/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crun refuses hosts with hybrid cgroups (v1 controllers, and a cgroup2 tree in unified/ that has
 * controllers of its own). Within our namespace a small tmpfs lies over unified/, and runtimes see
 * pure v1. Unmounting it would not do: crun makes a directory for each container in whatever is at
 * that place, and the host's own tmpfs beneath would keep it for ever. The cgroup tree is made
 * private first: otherwise the mount would show on the host.
 */

#include "shim/mountns.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/mount.h"
#include "base/parse.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define CGROUP_DIR "/sys/fs/cgroup"
#define MOUNTINFO_MAX ((size_t)16 << 20)

static bool is_fs(const char *path, long magic)
{
	struct statfs st;

	return statfs(path, &st) == 0 && (long)st.f_type == magic;
}

static int hide_unified(struct error *err)
{
	static const char unified[] = CGROUP_DIR "/unified";

	if (!is_fs(CGROUP_DIR, TMPFS_MAGIC) || !is_fs(unified, CGROUP2_SUPER_MAGIC))
		return 0;
	if (mount(NULL, CGROUP_DIR, NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(err, errno, "make '%s' private", CGROUP_DIR);
	if (mount("tmpfs", unified, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m") <
	    0)
		return error_errno(err, errno, "hide '%s'", unified);
	return 0;
}

/* The namespace that the shim was started in: its daemon's; -1: it is in that itself. */
static int host_ns = -1;

int mountns_enter(struct error *err)
{
	autoclose int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	if (unshare(CLONE_NEWNS) < 0)
		return errno == EPERM ? 0 : error_errno(err, errno, "make a mount namespace");
	host_ns = TAKE_FD(own);
	return hide_unified(err);
}

int mountns_forget(const char *path, struct error *err)
{
	/* Private first, or the host would lose it too. */
	if (mount(NULL, path, NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return errno == EINVAL || errno == ENOENT || errno == EPERM
			       ? 0
			       : error_errno(err, errno, "make '%s' private", path);
	return mount_detach_all(path, MNT_DETACH, err);
}

struct kept {
	char *path;
	int fd;
};

struct kept_list {
	struct kept *v;
	size_t n;
};

static void kept_done(struct kept_list *k)
{
	for (size_t i = 0; i < k->n; i++) {
		closep(&k->v[i].fd);
		free(k->v[i].path);
	}
	free(k->v);
}

static bool is_mount(const char *path)
{
	struct statx stx;

	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0, &stx) == 0 &&
	       stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

/* Detached copies of what is mounted in the directory. */
static int keep_mounts(const char *dir, struct kept_list *ret, struct error *err)
{
	DIR *d = opendir(dir);
	int r = 0;

	if (!d)
		return 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		autofree char *path = path_join(dir, e->d_name, NULL);

		if (!path_component_valid(e->d_name) || !is_mount(path))
			continue;
		int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		if (fd < 0) {
			r = error_errno(err, errno, "copy the mount '%s'", path);
			break;
		}
		GROW_ARRAY(ret->v, ret->n);
		ret->v[ret->n++] = (struct kept){ .path = TAKE_PTR(path), .fd = fd };
	}
	closedir(d);
	return r;
}

static int attach_kept(const struct kept_list *k, struct error *err)
{
	for (size_t i = 0; i < k->n; i++)
		if (move_mount(k->v[i].fd, "", AT_FDCWD, k->v[i].path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
			return error_errno(err, errno, "mount '%s' again", k->v[i].path);
	return 0;
}

/* Has the mount peers, or is it the slave of some, so that the host's mounts show? */
static bool root_propagates(void)
{
	autobuf struct buf text = BUF_INIT(MOUNTINFO_MAX);
	struct statx stx;

	if (statx(AT_FDCWD, "/", 0, STATX_MNT_ID, &stx) < 0 ||
	    fs_read(AT_FDCWD, "/proc/self/mountinfo", &text) < 0)
		return false;
	autofree char *start = xasprintf("%llu ", (unsigned long long)stx.stx_mnt_id);
	for (const char *line = text.data; *line;) {
		size_t len = strcspn(line, "\n");
		const char *dash = memmem(line, len, " - ", 3);

		if (dash && str_has_prefix(line, start))
			return memmem(line, (size_t)(dash - line), " shared:", 8) ||
			       memmem(line, (size_t)(dash - line), " master:", 8);
		line += len + (line[len] == '\n');
	}
	return false;
}

static int make_copy(const struct kept_list *kept, const char *pods, const char *keep,
		     struct error *err)
{
	if (setns(host_ns, CLONE_NEWNS) < 0)
		return error_errno(err, errno, "enter the host's mount namespace");
	if (unshare(CLONE_NEWNS) < 0)
		return error_errno(err, errno, "make a mount namespace");
	if (hide_unified(err) < 0 || (*pods && mountns_forget(pods, err) < 0))
		return -1;
	if (kept->n > 0 && mountns_shield(keep, err) < 0)
		return -1;
	return attach_kept(kept, err);
}

int mountns_refresh(const char *keep, const char *pods, struct error *err)
{
	CLEANUP(kept_done) struct kept_list kept = { 0 };
	autofree char *cwd = getcwd(NULL, 0);
	autoclose int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	if (host_ns < 0 || own < 0 || root_propagates())
		return 0;
	if (keep_mounts(keep, &kept, err) < 0)
		return -1;
	int r = make_copy(&kept, pods, keep, err);
	if (r < 0 && setns(own, CLONE_NEWNS) < 0)
		abort(); /* what is mounted from here on would be the host's */
	if (cwd && chdir(cwd) < 0 && r == 0)
		r = error_errno(err, errno, "enter '%s'", cwd);
	return r;
}

/* The n-th space-separated field (from 0) of a line; malloc'ed, octal escapes kept. */
static char *field(const char *line, size_t len, unsigned n)
{
	const char *end = line + len;

	while (n-- > 0) {
		line = memchr(line, ' ', (size_t)(end - line));
		if (!line)
			return NULL;
		line++;
	}
	const char *stop = memchr(line, ' ', (size_t)(end - line));
	return xstrndup(line, (size_t)((stop ? stop : end) - line));
}

/* "\040": three octal digits. */
static bool is_escape(const char *s)
{
	return s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
	       s[3] >= '0' && s[3] <= '7';
}

static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (is_escape(s)) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

/* "36 35 98:0 /root /mnt rw,noatime shared:1 master:2 - ext4 /dev/root rw" */
bool mountinfo_is_shared(const char *text, uint64_t id, char **ret_mountpoint)
{
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		autofree char *number = field(line, len, 0);
		uint64_t found;

		if (number && parse_uint64(number, &found) == 0 && found == id) {
			for (unsigned n = 6;; n++) {
				autofree char *tag = field(line, len, n);

				if (!tag || str_equal(tag, "-"))
					return false;
				if (!str_has_prefix(tag, "shared:"))
					continue;
				*ret_mountpoint = field(line, len, 4);
				unescape(*ret_mountpoint);
				return true;
			}
		}
		line += len + (line[len] == '\n');
	}
	return false;
}

int mountns_shield(const char *path, struct error *err)
{
	autobuf struct buf text = BUF_INIT(MOUNTINFO_MAX);
	autofree char *mountpoint = NULL;
	struct statx stx;

	if (statx(AT_FDCWD, path, 0, STATX_MNT_ID, &stx) < 0)
		return error_errno(err, errno, "stat '%s'", path);
	int r = fs_read(AT_FDCWD, "/proc/self/mountinfo", &text);
	if (r < 0)
		return error_errno(err, -r, "read the mount table");
	if (!mountinfo_is_shared(text.data, stx.stx_mnt_id, &mountpoint))
		return 0;
	/* A slave still sees the host's own mounts and unmounts there, but tells it of none. */
	if (mount(NULL, mountpoint, NULL, MS_SLAVE, NULL) < 0 && errno != EPERM)
		return error_errno(err, errno, "cut '%s' off from the host", mountpoint);
	return 0;
}
