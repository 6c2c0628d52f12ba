/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "tar/apply-internal.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#define LATE_BYTES_MAX (256UL << 20)
#define DEFAULT_ACL "system.posix_acl_default"

struct timespec apply_mtime(const struct tar_entry *e)
{
	return (struct timespec){ .tv_sec = e->mtime, .tv_nsec = e->mtime_nsec };
}

/* New files belong to root already, unless they landed in a set-group-id directory of the parent's
 * copy; directories of the layer itself get that bit at the end only. */
static bool keeps_owner(const struct apply *a, const struct tar_entry *e)
{
	return e->uid == 0 && e->gid == 0 && a->config.whiteouts == APPLY_OVERLAY &&
	       !a->config.owner;
}

static struct apply_owner owner_of(const struct apply *a, const struct tar_entry *e)
{
	return a->config.owner ? *a->config.owner : (struct apply_owner){ e->uid, e->gid };
}

static int owner_error(const struct apply *a, const struct tar_entry *e, struct error *err)
{
	if (errno == EINVAL) /* a user namespace */
		return error_errno(err, EINVAL, "owner %u:%u of '%s' is not mapped here", e->uid,
				   e->gid, a->name);
	return error_errno(err, errno, "change owner of '%s'", a->name);
}

int apply_owner_fd(const struct apply *a, int fd, const struct tar_entry *e, struct error *err)
{
	struct apply_owner o = owner_of(a, e);

	if (keeps_owner(a, e) || fchown(fd, o.uid, o.gid) == 0)
		return 0;
	return owner_error(a, e, err);
}

int apply_owner_at(const struct apply *a, const struct parent *p, const char *name,
		   const struct tar_entry *e, struct error *err)
{
	struct apply_owner o = owner_of(a, e);

	if (keeps_owner(a, e) || fchownat(p->fd, name, o.uid, o.gid, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return owner_error(a, e, err);
}

/*
 * trusted.* and user.overlay.* steer overlayfs: a layer must not bring its own. A SELinux label of
 * another host means nothing on this one. Default ACLs come at the end.
 */
static bool is_dropped(const char *name)
{
	return str_has_prefix(name, "trusted.") || str_has_prefix(name, "user.overlay.") ||
	       strcmp(name, "security.selinux") == 0 || strcmp(name, DEFAULT_ACL) == 0;
}

/* File systems without the attribute, and user.* on what may not have it, are no errors. */
static bool is_tolerable(const struct tar_entry *e, const char *name, int sys)
{
	if (sys == ENOTSUP)
		return true;
	return sys == EPERM &&
	       (str_has_prefix(name, "user.") ||
		(str_has_prefix(name, "security.") && strcmp(name, "security.capability") != 0));
}

int apply_xattrs(struct apply *a, int fd, const char *name, const struct tar_entry *e,
		 struct error *err)
{
	bool entered = false;

	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct tar_xattr *x = &e->xattrs[i];
		if (is_dropped(x->name))
			continue;
		/* There is no setxattrat() before Linux 6.13: by way of the working directory. */
		if (name && !entered && fchdir(fd) < 0)
			return error_errno(err, errno, "enter the directory of '%s'", a->name);
		entered = true;
		int r = name ? lsetxattr(name, x->name, x->value, x->len, 0)
			     : fsetxattr(fd, x->name, x->value, x->len, 0);
		if (r < 0 && !is_tolerable(e, x->name, errno))
			return error_errno(err, errno, "set attribute '%s' of '%s'", x->name,
					   a->name);
		a->stats.skipped += r < 0;
	}
	return 0;
}

static bool has_xattr(const struct tar_entry *e, const char *name)
{
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (strcmp(e->xattrs[i].name, name) == 0)
			return !is_dropped(name);
	return false;
}

int apply_xattrs_clear(int fd, const struct tar_entry *e, struct error *err)
{
	autofree char *list = xmalloc(XATTR_LIST_MAX);
	ssize_t n = flistxattr(fd, list, XATTR_LIST_MAX);

	if (n < 0)
		return errno == ENOTSUP ? 0 : error_errno(err, errno, "list attributes");
	for (const char *name = list; name < list + n; name += strlen(name) + 1) {
		if (has_xattr(e, name) || str_has_prefix(name, "trusted.") ||
		    strcmp(name, "security.selinux") == 0)
			continue;
		if (fremovexattr(fd, name) < 0 && errno != ENODATA && errno != ENOTSUP &&
		    errno != EPERM)
			return error_errno(err, errno, "remove attribute '%s'", name);
	}
	return 0;
}

static struct late_dir *late_add(struct apply *a, char *path, size_t extra, struct error *err)
{
	a->late_bytes += sizeof(struct late_dir) + strlen(path) + extra;
	if (a->late_bytes > LATE_BYTES_MAX) {
		free(path);
		error_set(err, ERROR_RESOURCE_EXHAUSTED, "layer has too many directories");
		return NULL;
	}
	GROW_ARRAY(a->late, a->n_late);
	struct late_dir *d = &a->late[a->n_late++];
	*d = (struct late_dir){ .path = path };
	return d;
}

int apply_late(struct apply *a, char *path, const struct tar_entry *e, struct error *err)
{
	const struct tar_xattr *acl = NULL;

	for (size_t i = 0; i < e->n_xattrs; i++)
		if (strcmp(e->xattrs[i].name, DEFAULT_ACL) == 0)
			acl = &e->xattrs[i];
	struct late_dir *d = late_add(a, path, acl ? acl->len : 0, err);
	if (!d)
		return -1;
	d->mtime = apply_mtime(e);
	d->mode = e->mode & 06000 ? e->mode : 0;
	if (acl) {
		d->acl = xmemdup(acl->value, acl->len);
		d->acl_len = acl->len;
	}
	return 0;
}

int apply_late_time(struct apply *a, char *path, const struct timespec *mtime, struct error *err)
{
	struct late_dir *d = late_add(a, path, 0, err);

	if (!d)
		return -1;
	d->mtime = *mtime;
	return 0;
}

static int late_one(struct apply *a, const struct late_dir *d, struct error *err)
{
	struct timespec times[2] = { d->mtime, d->mtime };
	autoclose int fd = apply_open_beneath(a, d->path, O_RDONLY | O_DIRECTORY);

	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return 0; /* a later entry took its place */
	if (fd < 0)
		return error_errno(err, -fd, "open directory '%s'", d->path);
	if (d->acl && fsetxattr(fd, DEFAULT_ACL, d->acl, d->acl_len, 0) < 0 && errno != ENOTSUP)
		return error_errno(err, errno, "set default ACL of '%s'", d->path);
	if (d->mode && fchmod(fd, d->mode) < 0)
		return error_errno(err, errno, "change mode of '%s'", d->path);
	if (futimens(fd, times) < 0)
		return error_errno(err, errno, "set times of '%s'", d->path);
	return 0;
}

int apply_late_run(struct apply *a, struct error *err)
{
	for (size_t i = 0; i < a->n_late; i++)
		if (late_one(a, &a->late[i], err) < 0)
			return -1;
	return 0;
}

void apply_late_done(struct apply *a)
{
	for (size_t i = 0; i < a->n_late; i++) {
		free(a->late[i].path);
		free(a->late[i].acl);
	}
	free(a->late);
}
