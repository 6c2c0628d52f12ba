/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whiteouts speak of the layers below, never of the layer that holds them, in whatever order they
 * come. On overlayfs that is easy: the layer has a directory of its own. Onto a copy of the parents
 * it takes a record of what the layer added.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "tar/apply-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define PREFIX ".wh."
#define OPAQUE ".wh..wh..opq"

bool apply_is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

void apply_added(struct apply *a, const char *path)
{
	if (a->config.whiteouts != APPLY_DELETE)
		return;
	autofree char *p = xstrdup(path);
	while (*p && !map_get(&a->added, p)) {
		map_set(&a->added, p, a);
		char *slash = strrchr(p, '/');
		*(slash ? slash : p) = '\0';
	}
}

int apply_opaque(struct apply *a, const char *path, struct error *err)
{
	autoclose int fd = apply_open_beneath(a, path, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return error_errno(err, -fd, "open directory '%s'", path);
	if (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
		return error_errno(err, errno, "make directory '%s' opaque", path);
	return 0;
}

static int prune_children(struct apply *a, int parent, const char *name, const char *path,
			  struct error *err);

/* Removes what the layer did not add. */
static int prune(struct apply *a, int parent, const char *name, const char *path, struct error *err)
{
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "look at '%s'", path);
	if (map_get(&a->added, path))
		return S_ISDIR(st.st_mode) ? prune_children(a, parent, name, path, err) : 0;
	int r = S_ISDIR(st.st_mode)		? fs_remove_tree(parent, name)
		: unlinkat(parent, name, 0) < 0 ? -errno
						: 0;
	if (r < 0)
		return error_errno(err, -r, "remove '%s'", path);
	a->parents_stale = true;
	return 0;
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int prune_children(struct apply *a, int parent, const char *name, const char *path,
			  struct error *err)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "open directory '%s'", path);
	CLEANUP(closedirp) DIR *dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return error_errno(err, ENOMEM, "open directory '%s'", path);
	}
	errno = 0;
	for (struct dirent *e; (e = readdir(dir)); errno = 0) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		autofree char *child =
			*path ? xasprintf("%s/%s", path, e->d_name) : xstrdup(e->d_name);
		if (prune(a, dirfd(dir), e->d_name, child, err) < 0)
			return -1;
	}
	return errno ? error_errno(err, errno, "read directory '%s'", path) : 0;
}

static int whiteout_directory(struct apply *a, struct error *err)
{
	if (a->config.whiteouts == APPLY_OVERLAY)
		return apply_opaque(a, a->parent->path, err);
	return prune_children(a, a->parent->fd, ".", a->parent->path, err);
}

static int whiteout_overlay(struct apply *a, const char *name, struct error *err)
{
	struct stat st;

	if (mknodat(a->parent->fd, name, S_IFCHR, makedev(0, 0)) == 0)
		return 0;
	if (errno != EEXIST)
		return error_errno(err, errno, "create whiteout '%s'", a->name);
	if (fstatat(a->parent->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "look at '%s'", a->name);
	if (!S_ISDIR(st.st_mode))
		return 0; /* a file of this layer hides the lower one already */
	autofree char *path = apply_path(a->parent, name);
	map_remove(&a->implied, path);
	return apply_opaque(a, path, err);
}

int apply_whiteout(struct apply *a, struct error *err)
{
	const char *name = a->base + strlen(PREFIX);
	bool opaque = strcmp(a->base, OPAQUE) == 0;

	if (!opaque && (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid whiteout '%s'", a->name);
	if (opaque)
		return whiteout_directory(a, err);
	if (a->config.whiteouts == APPLY_OVERLAY)
		return whiteout_overlay(a, name, err);
	autofree char *path = apply_path(a->parent, name);
	return prune(a, a->parent->fd, name, path, err);
}
