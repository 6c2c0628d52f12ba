/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removal of trees whose content is hostile: any depth, no permissions, mounts and symlinks in it.
 *
 * Directories are opened one below the other, each beneath its parent's descriptor, never through a
 * symlink or a mount. A stack of descriptors bounds the depth that can be walked like that, so a
 * directory that lies at the bound is renamed into the tree's root, where it is met again as a
 * shallow one. The root is read anew as long as such directories have arrived in it.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/random.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DEPTH_MAX 32
#define PASSES_MAX 8

struct level {
	DIR *dir;
	char *name; /* in the level above; the root's is its base name */
	bool removed_some;
	unsigned passes;
};

struct removal {
	struct level levels[DEPTH_MAX];
	size_t n;
	bool moved; /* a deep directory has come into the root */
	int failed; /* the first failure; the walk goes on */
};

static void removal_done(struct removal *r)
{
	for (size_t i = 0; i < r->n; i++) {
		closedir(r->levels[i].dir);
		free(r->levels[i].name);
	}
}

static void note(struct removal *r, int failed)
{
	if (r->failed == 0)
		r->failed = failed;
}

static int open_entry(int parent, const char *name, int flags)
{
	struct open_how how = {
		.flags = (unsigned)flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
	};
	long fd;

	do
		fd = syscall(SYS_openat2, parent, name, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : (int)fd;
}

/* Opens a directory for reading, after giving ourselves the permission where we lack it. */
static int open_directory(int parent, const char *name)
{
	int fd = open_entry(parent, name, O_RDONLY);

	if (fd != -EACCES)
		return fd;
	autoclose int handle = open_entry(parent, name, O_PATH);
	char self[64];

	if (handle < 0)
		return handle;
	/* fchmod() refuses O_PATH descriptors; this names exactly the same directory. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", handle);
	if (chmod(self, 0700) < 0)
		return -errno;
	return open_entry(parent, name, O_RDONLY);
}

static int push(struct removal *r, int parent, const char *name)
{
	autoclose int fd = open_directory(parent, name);

	if (fd < 0)
		return fd;
	assert(r->n < DEPTH_MAX);
	DIR *dir = fdopendir(fd);

	if (!dir)
		return -errno;
	fd = -EBADF;
	r->levels[r->n++] = (struct level){ .dir = dir, .name = xstrdup(name) };
	return 0;
}

/*
 * unlinkat() that gives itself write permission on the directory when it needs to. The parent of
 * the whole tree is an O_PATH descriptor, so that its mode cannot be changed.
 */
static int unlink_entry(int parent, const char *name, int flags)
{
	if (unlinkat(parent, name, flags) == 0)
		return 0;
	if (errno != EACCES)
		return -errno;
	if (fchmod(parent, 0700) < 0)
		return -EACCES;
	return unlinkat(parent, name, flags) < 0 ? -errno : 0;
}

/* Needs write permission on the directory that moves as well: its ".." changes. */
static int move_to_root(struct removal *r, int parent, const char *name)
{
	int root = dirfd(r->levels[0].dir);
	char id[17], target[32];

	random_hex(8, id);
	snprintf(target, sizeof(target), ".rm-%s", id);
	if (renameat(parent, name, root, target) < 0) {
		if (errno != EACCES || fchmod(parent, 0700) < 0 || fchmod(root, 0700) < 0)
			return -errno;
		autoclose int fd = open_directory(parent, name);

		if (fd < 0)
			return fd;
		if (fchmod(fd, 0700) < 0 || renameat(parent, name, root, target) < 0)
			return -errno;
	}
	r->moved = true;
	return 0;
}

static bool is_directory(int parent, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN)
		return e->d_type == DT_DIR;
	return fstatat(parent, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static void remove_entry(struct removal *r, const struct dirent *e)
{
	struct level *top = &r->levels[r->n - 1];
	int parent = dirfd(top->dir), failed;
	bool pushed = false;

	if (!is_directory(parent, e)) {
		failed = unlink_entry(parent, e->d_name, 0);
	} else if (r->n == DEPTH_MAX) {
		failed = move_to_root(r, parent, e->d_name);
	} else {
		/* An empty directory goes without being read. */
		failed = unlink_entry(parent, e->d_name, AT_REMOVEDIR);
		pushed = failed == -ENOTEMPTY || failed == -EEXIST || failed == -EACCES;
		if (pushed)
			failed = push(r, parent, e->d_name);
	}
	if (failed == 0)
		top->removed_some |= !pushed;
	else if (failed != -ENOENT)
		note(r, failed);
}

/* The top level has been read to its end. True when it is to be read again. */
static bool needs_another_pass(struct removal *r, int failed)
{
	struct level *top = &r->levels[r->n - 1];

	if (failed != -ENOTEMPTY && failed != -EEXIST)
		return false;
	if (r->n == 1 && r->moved) {
		r->moved = false;
		return true;
	}
	/* Some file systems skip entries while others are removed. After a failure that is no news.
	 */
	return r->failed == 0 && top->removed_some && ++top->passes < PASSES_MAX;
}

static void pop(struct removal *r, int root_parent)
{
	struct level *top = &r->levels[r->n - 1];
	int parent = r->n > 1 ? dirfd(top[-1].dir) : root_parent;
	int failed = unlink_entry(parent, top->name, AT_REMOVEDIR);

	if (failed < 0 && failed != -ENOENT) {
		if (needs_another_pass(r, failed)) {
			top->removed_some = false;
			rewinddir(top->dir);
			return;
		}
		note(r, failed);
	} else if (r->n > 1) {
		top[-1].removed_some = true;
	}
	closedir(top->dir);
	free(top->name);
	r->n--;
}

static int remove_directory(int parent, const char *name)
{
	CLEANUP(removal_done) struct removal r = { .n = 0 };
	int failed = push(&r, parent, name);

	if (failed < 0)
		return failed == -ENOENT ? 0 : failed;
	while (r.n > 0) {
		errno = 0;
		struct dirent *e = readdir(r.levels[r.n - 1].dir);

		if (!e) {
			if (errno)
				note(&r, -errno);
			pop(&r, parent);
		} else if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
			remove_entry(&r, e);
		}
	}
	return r.failed;
}

int fs_remove_tree(int at, const char *path)
{
	autofree char *copy = xstrdup(path);
	size_t len = strlen(copy);

	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	const char *base = path_base(copy);

	/* Never a whole directory by a slip: "", ".", ".." and "/" are bugs of the caller. */
	if (!*base || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
		return -EINVAL;

	autofree char *dir = xstrndup(copy, (size_t)(base - copy));
	autoclose int parent = openat(at, *dir ? dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (parent < 0 || fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode))
		return remove_directory(parent, base);
	if (unlinkat(parent, base, 0) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}
