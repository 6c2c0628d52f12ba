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

int mountns_enter(struct error *err)
{
	if (unshare(CLONE_NEWNS) < 0)
		return errno == EPERM ? 0 : error_errno(err, errno, "make a mount namespace");
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
