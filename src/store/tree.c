/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks over layer trees. The trees may be in use by containers meanwhile, who can swap a directory
 * for a symlink at any moment: every directory is opened from the tree's root with openat2(2),
 * which follows no symlink and leaves neither the tree nor the file system. That costs no
 * descriptor a level, so depth is bounded by PATH_MAX alone.
 */

#include "base/macros.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/strv.h"
#include "store/snapshotter.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { COPY_CHUNK = 128 << 10, XATTR_NAMES_MAX = 64 << 10, XATTR_VALUE_MAX = 64 << 10 };

static int open_dir(int root, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	int fd = (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));

	/* Kernels and sandboxes without it. */
	if (fd < 0 && errno == ENOSYS)
		fd = openat(root, *path ? path : ".", (int)how.flags);
	return fd;
}

static char *join(const char *dir, const char *name)
{
	return *dir ? xasprintf("%s/%s", dir, name) : xstrdup(name);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static bool vanished(int sys)
{
	return sys == ENOENT || sys == ENOTDIR || sys == ELOOP;
}

static char *inode_key(const struct stat *st)
{
	return xasprintf("%llx:%llx", (unsigned long long)st->st_dev,
			 (unsigned long long)st->st_ino);
}

static void usage_add(const struct stat *st, struct map *seen, struct snapshot_usage *u)
{
	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
		autofree char *key = inode_key(st);

		if (map_get(seen, key))
			return;
		map_set(seen, key, seen);
	}
	u->size += (int64_t)st->st_blocks * 512;
	u->inodes++;
}

/* One directory; its subdirectories are pushed to todo. */
static int usage_dir(int root, const char *path, struct strv *todo, struct map *seen,
		     struct snapshot_usage *u, struct error *err)
{
	int fd = open_dir(root, path);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat st;

	/* Something swapped by a running container, another mount, or deeper than a path can be. */
	if (fd < 0 && (vanished(errno) || errno == EXDEV || errno == ENAMETOOLONG))
		return 0;
	if (!d)
		return error_errno(err, errno, "open directory '%.256s'", path);
	while ((e = readdir(d))) {
		if (is_dots(e->d_name) || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		usage_add(&st, seen, u);
		if (S_ISDIR(st.st_mode))
			strv_take(todo, join(path, e->d_name));
	}
	closedir(d);
	return 0;
}

int tree_usage(int dir_fd, struct snapshot_usage *ret, struct error *err)
{
	struct snapshot_usage u = { 0 };
	autostrv struct strv todo = STRV_INIT;
	CLEANUP(map_done) struct map seen = MAP_INIT;
	struct stat st;

	if (fstat(dir_fd, &st) < 0)
		return error_errno(err, errno, "stat layer");
	usage_add(&st, &seen, &u);
	strv_push(&todo, "");
	while (todo.n) {
		autofree char *path = xstrdup(todo.v[todo.n - 1]);

		strv_remove(&todo, todo.n - 1);
		if (usage_dir(dir_fd, path, &todo, &seen, &u, err) < 0)
			return -1;
	}
	*ret = u;
	return 0;
}

/* An entry by directory and name, or (name NULL) an open directory itself. */
struct place {
	int fd;
	const char *name;
	char path[32 + NAME_MAX + 1]; /* through /proc, for the xattr calls that take no *at */
};

static struct place place_of(int fd, const char *name)
{
	struct place p = { .fd = fd, .name = name };

	snprintf(p.path, sizeof(p.path), "/proc/self/fd/%d/%s", fd, name ? name : "");
	return p;
}

static ssize_t place_list(const struct place *p, char *names, size_t n)
{
	return p->name ? llistxattr(p->path, names, n) : flistxattr(p->fd, names, n);
}

static ssize_t place_get(const struct place *p, const char *name, char *value, size_t n)
{
	return p->name ? lgetxattr(p->path, name, value, n) : fgetxattr(p->fd, name, value, n);
}

static int place_set(const struct place *p, const char *name, const char *value, size_t n)
{
	return p->name ? lsetxattr(p->path, name, value, n, 0)
		       : fsetxattr(p->fd, name, value, n, 0);
}

static bool is_overlay_xattr(const char *name)
{
	return str_has_prefix(name, "trusted.overlay.") || str_has_prefix(name, "user.overlay.");
}

static int copy_xattrs(const struct place *from, const struct place *to, bool keep_overlay,
		       struct error *err)
{
	autofree char *names = NULL, *value = NULL;
	ssize_t n = place_list(from, NULL, 0);

	if (n == 0 || (n < 0 && errno == EOPNOTSUPP))
		return 0;
	names = xmalloc(XATTR_NAMES_MAX);
	value = xmalloc(XATTR_VALUE_MAX);
	n = place_list(from, names, XATTR_NAMES_MAX);
	if (n < 0)
		return error_errno(err, errno, "list xattrs");
	for (const char *name = names; name < names + n; name += strlen(name) + 1) {
		ssize_t size;

		if (!keep_overlay && is_overlay_xattr(name))
			continue;
		size = place_get(from, name, value, XATTR_VALUE_MAX);
		if (size < 0)
			return error_errno(err, errno, "get xattr '%s'", name);
		if (place_set(to, name, value, (size_t)size) < 0 && errno != EOPNOTSUPP)
			return error_errno(err, errno, "set xattr '%s'", name);
	}
	return 0;
}

static int set_times(int fd, const char *name, const struct stat *st, struct error *err)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	int r = name ? utimensat(fd, name, times, AT_SYMLINK_NOFOLLOW) : futimens(fd, times);

	return r < 0 ? error_errno(err, errno, "set times") : 0;
}

int tree_copy_attributes(int src_fd, int dst_fd, struct error *err)
{
	struct place from = place_of(src_fd, NULL), to = place_of(dst_fd, NULL);
	struct stat st;

	if (fstat(src_fd, &st) < 0)
		return error_errno(err, errno, "stat directory");
	if (fchown(dst_fd, st.st_uid, st.st_gid) < 0)
		return error_errno(err, errno, "change owner");
	if (copy_xattrs(&from, &to, /* keep_overlay= */ false, err) < 0)
		return -1;
	if (fchmod(dst_fd, st.st_mode & 07777) < 0)
		return error_errno(err, errno, "change mode");
	return set_times(dst_fd, NULL, &st, err);
}

struct copying {
	int src, dst;	  /* roots */
	struct strv todo; /* directories that exist in dst, not yet filled */
	struct strv dirs; /* all directories, for their times at the end */
	struct map links; /* inode -> path of its first name (owned) */
};

static void copying_done(struct copying *c)
{
	strv_done(&c->todo);
	strv_done(&c->dirs);
	map_done_values(&c->links, free);
}

static int copy_slow(int from, int to, off_t at, off_t end)
{
	autofree char *chunk = xmalloc(COPY_CHUNK);

	while (at < end) {
		ssize_t n = pread(from, chunk, (size_t)MIN((off_t)COPY_CHUNK, end - at), at);

		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (ssize_t done = 0; done < n;) {
			ssize_t w = pwrite(to, chunk + done, (size_t)(n - done), at + done);

			if (w < 0)
				return -errno;
			done += w;
		}
		at += n;
	}
	return 0;
}

static int copy_extent(int from, int to, off_t at, off_t end)
{
	while (at < end) {
		off_t in = at, out = at;
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - at), 0);

		if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
			return -errno;
		if (n <= 0)
			return copy_slow(from, to, at, end);
		at += n;
	}
	return 0;
}

/* The whole data, holes kept. -errno. */
static int copy_data(int from, int to, off_t size)
{
	off_t at = 0;

	if (size == 0 || ioctl(to, FICLONE, from) == 0)
		return 0;
	while (at < size) {
		off_t data = lseek(from, at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
		int r;

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0 || hole < 0) {
			data = at;
			hole = size;
		}
		r = copy_extent(from, to, data, MIN(hole, size));
		if (r < 0)
			return r;
		at = hole;
	}
	return ftruncate(to, size) < 0 ? -errno : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, struct error *err)
{
	autoclose int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	autoclose int to = -EBADF;
	struct stat st;
	int r;

	if (from < 0 || fstat(from, &st) < 0)
		return error_errno(err, errno, "open '%s'", name);
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0)
		return error_errno(err, errno, "create '%s'", name);
	r = copy_data(from, to, st.st_size);
	return r < 0 ? error_errno(err, -r, "copy '%s'", name) : 0;
}

static int copy_symlink(int from_dir, int to_dir, const char *name, struct error *err)
{
	char target[PATH_MAX + 1];
	ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return error_errno(err, errno, "read link '%s'", name);
	target[n] = 0;
	return symlinkat(target, to_dir, name) < 0 ? error_errno(err, errno, "link '%s'", name) : 0;
}

/* The object itself, without attributes. */
static int copy_object(const struct stat *st, int from_dir, int to_dir, const char *name,
		       struct error *err)
{
	int r;

	if (S_ISREG(st->st_mode))
		return copy_file(from_dir, to_dir, name, err);
	if (S_ISLNK(st->st_mode))
		return copy_symlink(from_dir, to_dir, name, err);
	r = S_ISDIR(st->st_mode) ? mkdirat(to_dir, name, 0700)
				 : mknodat(to_dir, name, st->st_mode & S_IFMT, st->st_rdev);
	return r < 0 ? error_errno(err, errno, "create '%s'", name) : 0;
}

static int copy_entry_attributes(const struct stat *st, int from_dir, int to_dir, const char *name,
				 struct error *err)
{
	struct place from = place_of(from_dir, name), to = place_of(to_dir, name);

	if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "change owner of '%s'", name);
	/* After the owner: a change of owner drops file capabilities and set-id bits. */
	if (copy_xattrs(&from, &to, /* keep_overlay= */ true, err) < 0)
		return error_wrap(err, "'%s'", name);
	if (!S_ISLNK(st->st_mode) && fchmodat(to_dir, name, st->st_mode & 07777, 0) < 0)
		return error_errno(err, errno, "change mode of '%s'", name);
	return set_times(to_dir, name, st, err);
}

/* A further name of an inode that has been copied: 1 when it was linked. */
static int copy_hardlink(struct copying *c, const struct stat *st, int to_dir, const char *dir,
			 const char *name, struct error *err)
{
	autofree char *key = NULL;
	const char *first;

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return 0;
	key = inode_key(st);
	first = map_get(&c->links, key);
	if (!first) {
		map_set(&c->links, key, join(dir, name));
		return 0;
	}
	if (linkat(c->dst, first, to_dir, name, 0) < 0)
		return error_errno(err, errno, "link '%s' to '%s'", name, first);
	return 1;
}

static int copy_entry(struct copying *c, int from_dir, int to_dir, const char *dir,
		      const char *name, struct error *err)
{
	struct stat st;
	int r;

	if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "stat '%s'", name);
	r = copy_hardlink(c, &st, to_dir, dir, name, err);
	if (r != 0)
		return MIN(r, 0);
	if (copy_object(&st, from_dir, to_dir, name, err) < 0 ||
	    copy_entry_attributes(&st, from_dir, to_dir, name, err) < 0)
		return -1;
	if (S_ISDIR(st.st_mode)) {
		strv_take(&c->todo, join(dir, name));
		strv_take(&c->dirs, join(dir, name));
	}
	return 0;
}

static int copy_dir(struct copying *c, const char *path, struct error *err)
{
	autoclose int to = open_dir(c->dst, path);
	int from = open_dir(c->src, path);
	DIR *d = from < 0 ? NULL : fdopendir(from);
	struct dirent *e;
	int r = 0;

	if (to < 0 || !d) {
		r = error_errno(err, errno, "open directory '%.256s'", path);
		if (d)
			closedir(d);
		else
			closep(&from);
		return r;
	}
	while (r == 0 && (e = readdir(d))) {
		if (!is_dots(e->d_name))
			r = copy_entry(c, from, to, path, e->d_name, err);
	}
	closedir(d);
	return r < 0 ? error_wrap(err, "copy '%.256s'", path) : 0;
}

static int copy_times(const struct copying *c, const char *path, struct error *err)
{
	autoclose int from = open_dir(c->src, path);
	autoclose int to = open_dir(c->dst, path);
	struct stat st;

	if (from < 0 || to < 0 || fstat(from, &st) < 0)
		return error_errno(err, errno, "open directory '%.256s'", path);
	return set_times(to, NULL, &st, err);
}

int tree_copy(int src_fd, int dst_fd, struct error *err)
{
	CLEANUP(copying_done) struct copying c = { .src = src_fd, .dst = dst_fd };

	strv_push(&c.todo, "");
	while (c.todo.n) {
		autofree char *path = xstrdup(c.todo.v[c.todo.n - 1]);

		strv_remove(&c.todo, c.todo.n - 1);
		if (copy_dir(&c, path, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < c.dirs.n; i++) {
		if (copy_times(&c, c.dirs.v[i], err) < 0)
			return -1;
	}
	return tree_copy_attributes(src_fd, dst_fd, err);
}
