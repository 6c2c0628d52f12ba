/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hard links. The target is a path of the layer, resolved like any other. Rarely it lies in a layer
 * below: then it is copied once (a reflink where the file system can), and later links to it link
 * to the copy.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "tar/apply-internal.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

struct target {
	char name[TAR_PATH_MAX + 1]; /* cleaned */
	const char *base;
	const struct parent *parent; /* NULL: it is not in the layer */
};

/* The directory of path when there is something of this layer at path, else NULL. */
static int find_here(struct apply *a, const char *path, const struct parent **ret,
		     struct error *err)
{
	autoerror struct error why = ERROR_INIT;
	const char *base = path_base(path);
	autofree char *dir = xstrndup(path, (size_t)(base - path));
	struct stat st;

	if (*dir)
		dir[strlen(dir) - 1] = '\0';
	*ret = apply_parent(a, dir, /* create= */ false, &why);
	if (!*ret && why.sys != ENOENT && why.sys != ENOTDIR)
		return error_move(err, &why);
	/* A whiteout says that the target is a lower layer's. */
	if (*ret &&
	    (fstatat((*ret)->fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0 || apply_is_whiteout(&st)))
		*ret = NULL;
	return 0;
}

static int target_find(struct apply *a, struct target *t, struct error *err)
{
	if (apply_clean(a->entry->link, t->name, err) < 0)
		return -1;
	if (!*t->name)
		return error_set(err, ERROR_INVALID_ARGUMENT, "hard link '%s' has no target",
				 a->name);
	t->base = path_base(t->name);
	if (find_here(a, t->name, &t->parent, err) < 0)
		return -1;
	const char *copy = map_get(&a->copies, t->name);
	if (t->parent || !copy)
		return 0;
	t->base = path_base(copy);
	return find_here(a, copy, &t->parent, err);
}

static int copy_bytes(struct apply *a, int from, int to, struct error *err)
{
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	for (;;) {
		ssize_t n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0);
		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP))
			n = sendfile(to, from, NULL, 1 << 30); /* overlayfs to what lies below */
		if (n < 0)
			return error_errno(err, errno, "copy '%s' from the lower layers", a->name);
		if (n == 0)
			return 0;
		a->stats.bytes += (uint64_t)n;
	}
}

static int copy_xattrs(struct apply *a, int from, int to, struct error *err)
{
	autofree char *list = xmalloc(XATTR_LIST_MAX), *value = xmalloc(XATTR_SIZE_MAX);
	ssize_t n = flistxattr(from, list, XATTR_LIST_MAX);

	for (const char *name = list; n > 0 && name < list + n; name += strlen(name) + 1) {
		if (str_has_prefix(name, "trusted.") || str_has_prefix(name, "user.overlay.") ||
		    strcmp(name, "security.selinux") == 0)
			continue;
		ssize_t len = fgetxattr(from, name, value, XATTR_SIZE_MAX);
		if (len < 0)
			continue;
		if (fsetxattr(to, name, value, (size_t)len, 0) < 0 && errno != ENOTSUP)
			return error_errno(err, errno, "set attribute '%s' of '%s'", name, a->name);
	}
	return 0;
}

static int copy_file(struct apply *a, int from, const struct stat *st, struct error *err)
{
	struct timespec times[2] = { st->st_mtim, st->st_mtim };
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;

	autoclose int to = openat(a->parent->fd, a->base, flags, 0600);
	if (to < 0)
		return error_errno(err, errno, "create '%s'", a->name);
	if (copy_bytes(a, from, to, err) < 0)
		return -1;
	if (fchown(to, st->st_uid, st->st_gid) < 0)
		return error_errno(err, errno, "change owner of '%s'", a->name);
	if (copy_xattrs(a, from, to, err) < 0)
		return -1;
	if (fchmod(to, st->st_mode & 07777) < 0 || futimens(to, times) < 0)
		return error_errno(err, errno, "set attributes of '%s'", a->name);
	return 0;
}

static int copy_symlink(struct apply *a, int dir, const char *name, const struct stat *st,
			struct error *err)
{
	struct timespec times[2] = { st->st_mtim, st->st_mtim };
	char text[TAR_PATH_MAX + 2];

	ssize_t n = readlinkat(dir, name, text, sizeof(text) - 1);
	if (n < 0)
		return error_errno(err, errno, "read the target of '%s'", a->name);
	text[n] = '\0';
	if (symlinkat(text, a->parent->fd, a->base) < 0 ||
	    fchownat(a->parent->fd, a->base, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    utimensat(a->parent->fd, a->base, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "create '%s'", a->name);
	return 0;
}

static int copy_lower(struct apply *a, const char *target, struct error *err)
{
	const char *base = path_base(target);
	autofree char *dir = xstrndup(target, (size_t)(base - target));
	struct stat st;

	autoclose int parent =
		fs_open_in_root(a->config.lower, *dir ? dir : ".", O_PATH | O_DIRECTORY, 0);
	if (parent < 0 || fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "hard link '%s' to '%s', which does not exist", a->name, target);
	if (S_ISLNK(st.st_mode))
		return copy_symlink(a, parent, base, &st, err);
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "hard link '%s' to '%s', which is no file", a->name, target);
	autoclose int from = openat(parent, base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return error_errno(err, errno, "open '%s' of the lower layers", target);
	return copy_file(a, from, &st, err);
}

/* Links to a path of the layer. */
static int link_here(struct apply *a, const struct parent *from, const char *name,
		     struct error *err)
{
	if (linkat(from->fd, name, a->parent->fd, a->base, 0) == 0)
		return 0;
	if (errno == EPERM || errno == ENOENT)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "hard link '%s' to '%s', which cannot be linked", a->name,
				 a->entry->link);
	return error_errno(err, errno, "link '%s' to '%s'", a->name, a->entry->link);
}

static int link_lower(struct apply *a, const char *target, struct error *err)
{
	if (a->config.whiteouts == APPLY_PLAIN)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "hard link '%s' to '%s', which does not exist", a->name, target);
	if (a->config.lower < 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "needs parent");
	if (copy_lower(a, target, err) < 0)
		return -1;
	free(map_set(&a->copies, target, apply_path(a->parent, a->base)));
	return 0;
}

int apply_hardlink(struct apply *a, struct error *err)
{
	struct target t;

	if (target_find(a, &t, err) < 0)
		return -1;
	if (t.parent && strcmp(t.parent->path, a->parent->path) == 0 &&
	    strcmp(t.base, a->base) == 0)
		return 0; /* to itself */
	if (apply_remove(a, a->parent, a->base, NULL, err) < 0)
		return -1;
	return t.parent ? link_here(a, t.parent, t.base, err) : link_lower(a, t.name, err);
}
