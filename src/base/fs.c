/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/random.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define READ_CHUNK (64 << 10)

static void join_part(struct buf *b, const char *part)
{
	bool first = b->len == 0;

	if (!first)
		part += strspn(part, "/");
	if (!*part)
		return;
	if (!first && b->data[b->len - 1] != '/')
		buf_putc(b, '/');
	buf_puts(b, part);
	/* One slash between parts is put by the next one. */
	while (b->len > 1 && b->data[b->len - 1] == '/')
		b->data[--b->len] = '\0';
}

char *path_join(const char *first, ...)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);
	va_list ap;

	va_start(ap, first);
	for (const char *part = first; part; part = va_arg(ap, const char *))
		join_part(&b, part);
	va_end(ap);
	return buf_steal(&b, NULL);
}

const char *path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool path_component_valid(const char *name)
{
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > 255)
		return false;
	for (const char *p = name; *p; p++)
		if (*p == '/' || (unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

int fs_mkdir_p(const char *path, mode_t mode)
{
	return fs_mkdirat_p(AT_FDCWD, path, mode);
}

static int check_directory(int dirfd, const char *path)
{
	struct stat st;

	if (fstatat(dirfd, path, &st, 0) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int fs_mkdirat_p(int dirfd, const char *path, mode_t mode)
{
	if (mkdirat(dirfd, path, mode) == 0)
		return 0;
	if (errno == EEXIST)
		return check_directory(dirfd, path);
	if (errno != ENOENT || !*path)
		return -errno;

	autofree char *prefix = xstrdup(path);

	for (char *p = prefix + strspn(prefix, "/");;) {
		p += strcspn(p, "/");
		char *rest = p + strspn(p, "/");

		if (!*rest)
			break;
		*p = '\0';
		if (mkdirat(dirfd, prefix, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
		p = rest;
	}
	if (mkdirat(dirfd, path, mode) == 0)
		return 0;
	return errno == EEXIST ? check_directory(dirfd, path) : -errno;
}

static int open_resolved(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = (unsigned)flags | O_CLOEXEC,
		.mode = flags & (O_CREAT | __O_TMPFILE) ? mode & 07777 : 0,
		.resolve = resolve | RESOLVE_NO_MAGICLINKS,
	};

	/* EAGAIN: something was renamed while ".." was resolved. */
	for (int tries = 0;; tries++) {
		long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

		if (fd >= 0)
			return (int)fd;
		if (errno != EINTR && (errno != EAGAIN || tries >= 32))
			return -errno;
	}
}

int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	return open_resolved(dirfd, path, flags, mode, RESOLVE_BENEATH);
}

int fs_open_in_root(int dirfd, const char *path, int flags, mode_t mode)
{
	return open_resolved(dirfd, path, flags, mode, RESOLVE_IN_ROOT);
}

/* Files of these are read although their size says 0. */
static bool is_kernel_file(int fd)
{
	struct statfs st;

	if (fstatfs(fd, &st) < 0)
		return false;
	return st.f_type == PROC_SUPER_MAGIC || st.f_type == SYSFS_MAGIC ||
	       st.f_type == CGROUP_SUPER_MAGIC || st.f_type == CGROUP2_SUPER_MAGIC ||
	       st.f_type == SECURITYFS_MAGIC;
}

int fs_read_fd(int fd, struct buf *b)
{
	for (;;) {
		/* At the ceiling one byte more tells whether the file ends here. */
		char extra;
		size_t room = MIN(b->max - b->len, (size_t)READ_CHUNK);
		int r = buf_reserve(b, room);

		if (r < 0)
			return r;
		ssize_t n = room ? read(fd, b->data + b->len, room) : read(fd, &extra, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		if (room == 0) {
			b->overflow = true;
			return -ENOBUFS;
		}
		buf_advance(b, (size_t)n);
	}
}

int fs_read(int dirfd, const char *path, struct buf *b)
{
	/* O_NONBLOCK: a FIFO in the place of the file must not block the open. */
	autoclose int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !is_kernel_file(fd))
		return -EINVAL;
	if (st.st_size > 0 && b->max < SIZE_MAX && (uint64_t)st.st_size > b->max - b->len) {
		b->overflow = true;
		return -ENOBUFS;
	}
	return fs_read_fd(fd, b);
}

int fs_write_all(int fd, const void *p, size_t n)
{
	for (const char *at = p; n > 0;) {
		ssize_t done = write(fd, at, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

/* The directory part with its slash, or "". malloc'ed. */
static char *directory_part(const char *path)
{
	return xstrndup(path, (size_t)(path_base(path) - path));
}

static int write_new(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool sync)
{
	autoclose int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	int r = fs_write_all(fd, p, n);

	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0 && sync && fsync(fd) < 0)
		r = -errno;
	return r;
}

int fs_write_atomic(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool sync)
{
	autofree char *dir = directory_part(path);
	char id[17];

	random_hex(8, id);
	autofree char *temp = xasprintf("%s.tmp-%s", dir, id);
	int r = write_new(dirfd, temp, p, n, mode, sync);

	if (r == 0 && renameat(dirfd, temp, dirfd, path) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, temp, 0);
		return r;
	}
	return sync ? fs_sync_dir(dirfd, *dir ? dir : ".") : 0;
}

int fs_sync_dir(int dirfd, const char *path)
{
	autoclose int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

int fs_set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int fs_set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}
