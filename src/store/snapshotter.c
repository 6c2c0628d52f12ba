/* SPDX-License-Identifier: Apache-2.0 */

#include "store/snapshotter.h"

#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FS_NAME_MAX = 40 };

static void fs_name(int64_t id, char out[FS_NAME_MAX])
{
	snprintf(out, FS_NAME_MAX, "%lld/fs", (long long)id);
}

int snapshotter_open_fs(const struct snapshotter *sn, int64_t id, struct error *err)
{
	char name[FS_NAME_MAX];
	int fd;

	fs_name(id, name);
	fd = openat(sn->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? error_errno(err, errno, "open '%s/%s'", sn->dir, name) : fd;
}

void snapshotter_bind(const struct snapshotter *sn, int64_t id, bool writable, struct mounts *ret)
{
	autofree char *source = xasprintf("%s/%lld/fs", sn->dir, (long long)id);
	struct mount *m = mounts_add(ret, "bind", source, NULL);

	strv_push(&m->options, writable ? "rw" : "ro");
	strv_push(&m->options, "rbind");
}

int snapshotter_make_fs(const struct snapshotter *sn, int64_t id, int64_t parent, struct error *err)
{
	autoclose int fd = -EBADF;
	char name[FS_NAME_MAX], from[FS_NAME_MAX];
	struct stat st = { .st_mode = 0755 };

	fs_name(id, name);
	fs_name(parent, from);
	if (parent && fstatat(sn->dir_fd, from, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "stat '%s/%s'", sn->dir, from);
	if (mkdirat(sn->dir_fd, name, 0755) < 0)
		return error_errno(err, errno, "make '%s/%s'", sn->dir, name);
	fd = snapshotter_open_fs(sn, id, err);
	if (fd < 0)
		return -1;
	if ((st.st_uid || st.st_gid) && fchown(fd, st.st_uid, st.st_gid) < 0)
		return error_errno(err, errno, "chown '%s/%s'", sn->dir, name);
	if (fchmod(fd, st.st_mode & 07777) < 0)
		return error_errno(err, errno, "chmod '%s/%s'", sn->dir, name);
	return TAKE_FD(fd);
}
