/* SPDX-License-Identifier: Apache-2.0 */
#include "tar/pack.h"

#include "base/mem.h"
#include "base/strv.h"
#include "tar/tar-write.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#define CHUNK (256 << 10)
/* Each level holds a descriptor or two. */
#define PACK_DEPTH_MAX 1000
#define XATTRS_MAX 256

#ifndef DEVPTS_SUPER_MAGIC
#define DEVPTS_SUPER_MAGIC 0x1cd1
#endif
#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif

void packer_done(struct packer *p)
{
	map_done_values(&p->links, free);
	free(p->chunk);
}

static int put(struct packer *p, const void *data, size_t n, struct error *err)
{
	return p->write(p->arg, data, n, err);
}

static int put_header(struct packer *p, const struct tar_entry *e, struct error *err)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	tar_write_header(&b, e);
	return put(p, b.data, b.len, err);
}

static int put_zeros(struct packer *p, int64_t n, struct error *err)
{
	static const char zeros[4096];

	for (; n > 0; n -= (int64_t)sizeof(zeros))
		if (put(p, zeros, (size_t)MIN(n, (int64_t)sizeof(zeros)), err) < 0)
			return -1;
	return 0;
}

int pack_end(struct packer *p, struct error *err)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	tar_write_end(&b);
	return put(p, b.data, b.len, err);
}

/* What means something elsewhere too. */
static bool is_carried(const char *name)
{
	if (str_has_prefix(name, "user."))
		return !str_has_prefix(name, "user.overlay.");
	return strcmp(name, "security.capability") == 0 ||
	       str_has_prefix(name, "system.posix_acl_");
}

static void add_xattr(struct tar_entry *e, int fd, const char *name)
{
	autofree char *value = xmalloc(TAR_XATTR_MAX);
	ssize_t n = fgetxattr(fd, name, value, TAR_XATTR_MAX);

	if (n < 0 || e->n_xattrs >= XATTRS_MAX)
		return;
	GROW_ARRAY(e->xattrs, e->n_xattrs);
	e->xattrs[e->n_xattrs++] = (struct tar_xattr){
		.name = xstrdup(name),
		.value = xmemdup(value, (size_t)n),
		.len = (size_t)n,
	};
}

static void collect_xattrs(struct tar_entry *e, int fd)
{
	autofree char *list = xmalloc(XATTR_LIST_MAX);
	ssize_t n = flistxattr(fd, list, XATTR_LIST_MAX);

	for (const char *name = list; n > 0 && name < list + n; name += strlen(name) + 1)
		if (is_carried(name))
			add_xattr(e, fd, name);
}

static void entry_done(struct tar_entry *e)
{
	for (size_t i = 0; i < e->n_xattrs; i++) {
		free(e->xattrs[i].name);
		free(e->xattrs[i].value);
	}
	free(e->xattrs);
}

static void entry_init(struct tar_entry *e, const struct stat *st, const char *path,
		       const char *link)
{
	*e = (struct tar_entry){
		.path = (char *)(uintptr_t)path,
		.link = (char *)(uintptr_t)link,
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime = st->st_mtim.tv_sec,
	};
}

/* Exactly size bytes, whatever happens to the file meanwhile. */
static int put_data(struct packer *p, int fd, int64_t size, struct error *err)
{
	int64_t left = size;

	if (!p->chunk)
		p->chunk = xmalloc(CHUNK);
	while (left > 0) {
		ssize_t n = read(fd, p->chunk, (size_t)MIN(left, (int64_t)CHUNK));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, errno, "read a file");
		if (n == 0)
			break;
		if (put(p, p->chunk, (size_t)n, err) < 0)
			return -1;
		left -= n;
	}
	return put_zeros(p, left + (int64_t)tar_padding(size), err);
}

/* The path of the first link to this file, or NULL for the first one. */
static const char *known_link(struct packer *p, const struct stat *st, const char *path)
{
	char key[48];
	const char *first;

	if (st->st_nlink < 2)
		return NULL;
	snprintf(key, sizeof(key), "%llx:%llx", (unsigned long long)st->st_dev,
		 (unsigned long long)st->st_ino);
	first = map_get(&p->links, key);
	if (!first)
		map_set(&p->links, key, xstrdup(path));
	return first;
}

static int put_file(struct packer *p, int dir, const char *name, const char *path,
		    struct error *err)
{
	CLEANUP(entry_done) struct tar_entry e = { 0 };
	autoclose int fd =
		openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	const char *first;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, errno, "open '%s'", path);
	if (!S_ISREG(st.st_mode))
		return 0; /* it has just become something else */
	first = known_link(p, &st, path);
	entry_init(&e, &st, path, first ? first : "");
	e.type = first ? TAR_HARDLINK : TAR_FILE;
	if (first)
		return put_header(p, &e, err);
	e.size = st.st_size;
	collect_xattrs(&e, fd);
	if (put_header(p, &e, err) < 0)
		return -1;
	return put_data(p, fd, e.size, err) < 0 ? error_wrap(err, "'%s'", path) : 0;
}

static int put_special(struct packer *p, int dir, const char *name, const struct stat *st,
		       const char *path, struct error *err)
{
	char target[PATH_MAX + 1];
	const char *first = known_link(p, st, path);
	struct tar_entry e;
	ssize_t n = 0;

	if (S_ISLNK(st->st_mode) && !first) {
		n = readlinkat(dir, name, target, sizeof(target) - 1);
		if (n < 0)
			return error_errno(err, errno, "read symlink '%s'", path);
	}
	target[n] = '\0';
	entry_init(&e, st, path, first ? first : target);
	e.type = first			 ? TAR_HARDLINK
		 : S_ISLNK(st->st_mode)	 ? TAR_SYMLINK
		 : S_ISCHR(st->st_mode)	 ? TAR_CHAR
		 : S_ISBLK(st->st_mode)	 ? TAR_BLOCK
		 : S_ISFIFO(st->st_mode) ? TAR_FIFO
					 : TAR_FILE;
	if (e.type == TAR_FILE)
		return 0; /* a socket means nothing without its process */
	if (e.type == TAR_CHAR || e.type == TAR_BLOCK) {
		e.major = major(st->st_rdev);
		e.minor = minor(st->st_rdev);
	}
	return put_header(p, &e, err);
}

static char *join(const char *path, const char *name)
{
	size_t n = strlen(path);

	if (n == 0)
		return xstrdup(name);
	return xasprintf(path[n - 1] == '/' ? "%s%s" : "%s/%s", path, name);
}

/* A marker file of a layer: ".wh.NAME" beside where NAME was. */
static int put_whiteout(struct packer *p, const char *dir, const char *name, const struct stat *st,
			struct error *err)
{
	autofree char *base = xasprintf(".wh.%s", name);
	autofree char *path = join(dir, base);
	struct tar_entry e = { .type = TAR_FILE, .path = path, .link = (char *)(uintptr_t) "" };

	if (st)
		e.mtime = st->st_mtim.tv_sec;
	return put_header(p, &e, err);
}

static bool is_overlay_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static bool is_opaque(int fd)
{
	char value[2];

	return fgetxattr(fd, "trusted.overlay.opaque", value, sizeof(value)) == 1 &&
	       value[0] == 'y';
}

/* Names but "." and "..", in order. -errno. */
static int read_names(int fd, struct strv *ret)
{
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);

	if (!d) {
		int r = -errno;

		if (again >= 0)
			close(again);
		return r;
	}
	errno = 0;
	for (struct dirent *e; (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			strv_push(ret, e->d_name);
	int r = -errno;
	closedir(d);
	strv_sort(ret);
	return r;
}

static bool is_kernel_mount(int parent, int fd)
{
	static const uint64_t magics[] = { PROC_SUPER_MAGIC,   SYSFS_MAGIC,
					   CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
					   DEVPTS_SUPER_MAGIC, MQUEUE_MAGIC,
					   SECURITYFS_MAGIC,   DEBUGFS_MAGIC,
					   TRACEFS_MAGIC };
	struct stat above, here;
	struct statfs st;

	if (fstat(parent, &above) < 0 || fstat(fd, &here) < 0 || fstatfs(fd, &st) < 0 ||
	    above.st_dev == here.st_dev)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if ((uint64_t)st.f_type == magics[i])
			return true;
	return false;
}

static int put_children(struct packer *p, int fd, const char *path, struct error *err)
{
	autostrv struct strv names = STRV_INIT;
	int r = read_names(fd, &names);

	if (r < 0)
		return error_errno(err, -r, "read directory '%s'", path);
	if (++p->depth > PACK_DEPTH_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "directory '%.100s...' is too deep",
				 path);
	for (size_t i = 0; i < names.n; i++) {
		autofree char *child = join(path, names.v[i]);
		autoerror struct error why = ERROR_INIT;

		/* What vanishes while it is read was not there. */
		if (pack_entry(p, fd, names.v[i], child, &why) < 0 && why.sys != ENOENT)
			return error_move(err, &why);
	}
	p->depth--;
	return 0;
}

static int put_directory_entry(struct packer *p, int fd, const char *path, struct error *err)
{
	CLEANUP(entry_done) struct tar_entry e = { 0 };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "look at '%s'", path);
	entry_init(&e, &st, path, "");
	e.type = TAR_DIR;
	collect_xattrs(&e, fd);
	if (put_header(p, &e, err) < 0)
		return -1;
	if (p->kind == PACK_OVERLAY && is_opaque(fd))
		return put_whiteout(p, path, ".wh..opq", &st, err);
	return 0;
}

int pack_directory(struct packer *p, int dir, const char *path, struct error *err)
{
	if (*path && put_directory_entry(p, dir, path, err) < 0)
		return -1;
	return put_children(p, dir, path, err);
}

static int put_subdirectory(struct packer *p, int dir, const char *name, const char *path,
			    struct error *err)
{
	autoclose int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, errno, "open directory '%s'", path);
	if (p->skip_kernel && is_kernel_mount(dir, fd))
		return put_directory_entry(p, fd, path, err);
	return pack_directory(p, fd, path, err);
}

/* What a runtime makes to mount on: the container did not. */
static bool is_mount_point(const char *path, const struct stat *st)
{
	static const char *const paths[] = { "etc/hosts", "etc/resolv.conf", "etc/hostname",
					     "dev/console" };

	for (size_t i = 0; S_ISREG(st->st_mode) && st->st_size == 0 && i < ARRAY_SIZE(paths); i++)
		if (strcmp(path, paths[i]) == 0)
			return true;
	return false;
}

int pack_entry(struct packer *p, int dir, const char *name, const char *path, struct error *err)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "look at '%s'", path);
	if (p->layer && is_mount_point(path, &st))
		return 0;
	if (p->kind == PACK_OVERLAY && is_overlay_whiteout(&st)) {
		autofree char *parent = xstrndup(path, strlen(path) - strlen(name));

		return put_whiteout(p, parent, name, &st, err);
	}
	if (S_ISDIR(st.st_mode))
		return put_subdirectory(p, dir, name, path, err);
	if (S_ISREG(st.st_mode))
		return put_file(p, dir, name, path, err);
	return put_special(p, dir, name, &st, path, err);
}

/* --- two trees --- */

static bool same_entry(const struct stat *a, const struct stat *b)
{
	if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
	    a->st_rdev != b->st_rdev)
		return false;
	if (S_ISDIR(a->st_mode))
		return true;
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int differ(struct packer *p, int lower, int upper, const char *path, struct error *err);

static int differ_entry(struct packer *p, int lower, int upper, const char *name, const char *path,
			struct error *err)
{
	struct stat a, b;

	if (fstatat(upper, name, &b, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "look at '%s'", path);
	bool old = fstatat(lower, name, &a, AT_SYMLINK_NOFOLLOW) == 0;
	if (!old || !S_ISDIR(a.st_mode) || !S_ISDIR(b.st_mode))
		return old && same_entry(&a, &b) ? 0 : pack_entry(p, upper, name, path, err);

	autoclose int below = openat(lower, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	autoclose int above = openat(upper, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (below < 0 || above < 0)
		return error_errno(err, errno, "open directory '%s'", path);
	if (!same_entry(&a, &b) && put_directory_entry(p, above, path, err) < 0)
		return -1;
	return differ(p, below, above, path, err);
}

static int differ(struct packer *p, int lower, int upper, const char *path, struct error *err)
{
	autostrv struct strv old = STRV_INIT, new = STRV_INIT;
	struct stat st;

	if (read_names(lower, &old) < 0 || read_names(upper, &new) < 0)
		return error_errno(err, errno, "read directory '%s'", path);
	if (++p->depth > PACK_DEPTH_MAX / 2)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "directory '%.100s...' is too deep",
				 path);
	for (size_t i = 0; i < old.n; i++)
		if (fstatat(upper, old.v[i], &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT &&
		    put_whiteout(p, path, old.v[i], NULL, err) < 0)
			return -1;
	for (size_t i = 0; i < new.n; i++) {
		autofree char *child = join(path, new.v[i]);

		if (differ_entry(p, lower, upper, new.v[i], child, err) < 0)
			return -1;
	}
	p->depth--;
	return 0;
}

int pack_difference(struct packer *p, int lower, int upper, struct error *err)
{
	return differ(p, lower, upper, "", err);
}
