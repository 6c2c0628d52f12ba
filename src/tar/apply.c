/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of calls for one file is what its attributes need: data, then owner (which clears
 * set-id bits and file capabilities), then attributes, then mode, then times. Calls that would
 * change nothing are left out: an ordinary file of root costs open, write, utimens and close.
 */

#include "tar/apply.h"

#include "base/fs.h"
#include "base/mem.h"
#include "tar/apply-internal.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#define MAJOR_MAX ((1U << 12) - 1) /* what mknod(2) can pass */
#define MINOR_MAX ((1U << 20) - 1)

struct apply *apply_new(const struct apply_config *config)
{
	struct apply *a = xnew(struct apply);

	a->config = *config;
	a->fd = -EBADF;
	return a;
}

void apply_free(struct apply *a)
{
	if (!a)
		return;
	closep(&a->fd);
	apply_parents_done(a);
	apply_late_done(a);
	map_done(&a->implied);
	map_done(&a->added);
	map_done(&a->touched);
	map_done_values(&a->copies, free);
	free(a);
}

const struct apply_stats *apply_stats(const struct apply *a)
{
	return &a->stats;
}

/* Makes way for what is being created. */
static int make_way(struct apply *a, struct error *err)
{
	return apply_remove(a, a->parent, a->base, NULL, err);
}

static int begin_file(struct apply *a, struct error *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	mode_t mode = a->entry->mode & 0777;

	assert(a->fd < 0);
	a->fd = openat(a->parent->fd, a->base, flags, mode);
	if (a->fd < 0 && errno == EEXIST) {
		if (make_way(a, err) < 0)
			return -1;
		a->fd = openat(a->parent->fd, a->base, flags, mode);
	}
	return a->fd < 0 ? error_errno(err, errno, "create '%s'", a->name) : 0;
}

int apply_data(struct apply *a, const void *p, size_t n, int64_t offset, struct error *err)
{
	const char *c = p;

	if (a->fd < 0)
		return 0; /* the body of an entry that was left out */
	a->stats.bytes += n;
	while (n > 0) {
		ssize_t r = pwrite(a->fd, c, n, offset);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return error_errno(err, errno, "write '%s'", a->name);
		c += r;
		n -= (size_t)r;
		offset += r;
	}
	return 0;
}

static int end_file(struct apply *a, struct error *err)
{
	const struct tar_entry *e = a->entry;
	struct timespec times[2] = { apply_mtime(e), apply_mtime(e) };
	autoclose int fd = TAKE_FD(a->fd);

	if (e->sparse && ftruncate(fd, e->size) < 0)
		return error_errno(err, errno, "set the size of '%s'", a->name);
	if (apply_owner_fd(a, fd, e, err) < 0 || apply_xattrs(a, fd, NULL, e, err) < 0)
		return -1;
	/* In a copy of the parents a directory's default ACL may have had its say. */
	bool chmod_needed = e->mode & 07000 || a->config.whiteouts != APPLY_OVERLAY;
	if (chmod_needed && fchmod(fd, e->mode) < 0)
		return error_errno(err, errno, "change mode of '%s'", a->name);
	if (futimens(fd, times) < 0)
		return error_errno(err, errno, "set times of '%s'", a->name);
	return 0;
}

/* Attributes of a directory that is there already. */
static int set_directory(struct apply *a, const char *path, bool merge, struct error *err)
{
	const struct tar_entry *e = a->entry;

	if (!merge && e->n_xattrs == 0)
		return 0;
	autoclose int fd = apply_open_beneath(a, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return error_errno(err, -fd, "open directory '%s'", a->name);
	if (merge && apply_owner_fd(a, fd, e, err) < 0)
		return -1;
	if (merge && a->config.whiteouts == APPLY_DELETE && apply_xattrs_clear(fd, e, err) < 0)
		return error_wrap(err, "'%s'", a->name);
	if (apply_xattrs(a, fd, NULL, e, err) < 0)
		return -1;
	if (merge && fchmod(fd, e->mode & 01777) < 0)
		return error_errno(err, errno, "change mode of '%s'", a->name);
	return 0;
}

/* *ret_merge: there was a directory. */
static int make_directory(struct apply *a, const char *path, bool *ret_merge, struct error *err)
{
	mode_t mode = a->entry->mode & 01777;
	struct stat st;
	bool was_whiteout;

	*ret_merge = false;
	if (mkdirat(a->parent->fd, a->base, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return error_errno(err, errno, "create directory '%s'", a->name);
	if (fstatat(a->parent->fd, a->base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "look at '%s'", a->name);
	*ret_merge = S_ISDIR(st.st_mode);
	if (*ret_merge)
		return 0;
	if (apply_remove(a, a->parent, a->base, &was_whiteout, err) < 0)
		return -1;
	if (mkdirat(a->parent->fd, a->base, mode) < 0)
		return error_errno(err, errno, "create directory '%s'", a->name);
	return was_whiteout ? apply_opaque(a, path, err) : 0;
}

static int do_directory(struct apply *a, struct error *err)
{
	autofree char *path = apply_path(a->parent, a->base);
	bool merge;

	if (make_directory(a, path, &merge, err) < 0)
		return -1;
	if (!merge && apply_owner_at(a, a->parent, a->base, a->entry, err) < 0)
		return -1;
	/* A default ACL or set-group-id bit of the parent's copy is not for this one. */
	if (set_directory(a, path, merge || a->config.whiteouts != APPLY_OVERLAY, err) < 0)
		return -1;
	map_remove(&a->implied, path);
	if (a->config.whiteouts == APPLY_DELETE)
		map_set(&a->touched, path, a);
	return apply_late(a, TAKE_PTR(path), a->entry, err);
}

static int do_root(struct apply *a, struct error *err)
{
	if (a->config.whiteouts == APPLY_PLAIN)
		return 0; /* the directory is the user's already */
	if (a->entry->type != TAR_DIR)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "entry '%.100s' would replace the layer's root", a->entry->path);
	if (set_directory(a, "", /* merge= */ true, err) < 0)
		return -1;
	a->root_described = true;
	if (a->config.whiteouts == APPLY_DELETE)
		map_set(&a->touched, "", a);
	return apply_late(a, xstrdup(""), a->entry, err);
}

/* Owner, attributes, mode and times of what has no descriptor of its own. */
static int set_special(struct apply *a, struct error *err)
{
	const struct tar_entry *e = a->entry;
	struct timespec times[2] = { apply_mtime(e), apply_mtime(e) };
	bool chmod_needed = e->mode & 06000 || a->config.whiteouts != APPLY_OVERLAY;

	if (apply_owner_at(a, a->parent, a->base, e, err) < 0 ||
	    apply_xattrs(a, a->parent->fd, a->base, e, err) < 0)
		return -1;
	if (e->type != TAR_SYMLINK && chmod_needed &&
	    fchmodat(a->parent->fd, a->base, e->mode, 0) < 0)
		return error_errno(err, errno, "change mode of '%s'", a->name);
	if (utimensat(a->parent->fd, a->base, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "set times of '%s'", a->name);
	return 0;
}

static int do_symlink(struct apply *a, struct error *err)
{
	const char *target = a->entry->link;

	if (!*target)
		return error_set(err, ERROR_INVALID_ARGUMENT, "symlink '%s' has no target",
				 a->name);
	if (symlinkat(target, a->parent->fd, a->base) < 0) {
		if (errno != EEXIST)
			return error_errno(err, errno, "create symlink '%s'", a->name);
		if (make_way(a, err) < 0)
			return -1;
		if (symlinkat(target, a->parent->fd, a->base) < 0)
			return error_errno(err, errno, "create symlink '%s'", a->name);
	}
	return set_special(a, err);
}

static int do_node(struct apply *a, mode_t type, struct error *err)
{
	const struct tar_entry *e = a->entry;
	mode_t mode = type | (e->mode & 01777);

	if (e->major > MAJOR_MAX || e->minor > MINOR_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "device number %u:%u of '%s' is out of range", e->major, e->minor,
				 a->name);
	/* On an overlay it would be a whiteout. */
	if (type == S_IFCHR && e->major == 0 && e->minor == 0)
		return 0;
	if (make_way(a, err) < 0)
		return -1;
	if (mknodat(a->parent->fd, a->base, mode, makedev(e->major, e->minor)) == 0)
		return set_special(a, err);
	if (errno != EPERM || type == S_IFIFO)
		return error_errno(err, errno, "create device '%s'", a->name);
	a->stats.skipped++; /* in a user namespace nobody makes devices */
	return 0;
}

/* AUFS' own bookkeeping, which docker of 2013 left in layers. */
static bool is_aufs_metadata(const char *name)
{
	const char *p = name;

	for (;;) {
		if (str_has_prefix(p, ".wh..wh.") && strcmp(p, ".wh..wh..opq") != 0)
			return true;
		p = strchr(p, '/');
		if (!p)
			return false;
		p++;
	}
}

/* Docker's words: clients show them. */
static int check_kind(struct apply *a, struct error *err)
{
	bool dir = a->entry->type == TAR_DIR;
	struct stat st;

	if (fstatat(a->parent->fd, a->base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (!dir && S_ISDIR(st.st_mode))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cannot overwrite directory \"/%s\" with non-directory \"/%s\"",
				 a->name, a->name);
	if (dir && !S_ISDIR(st.st_mode))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cannot overwrite non-directory \"/%s\" with directory \"/%s\"",
				 a->name, a->name);
	return 0;
}

static int dispatch(struct apply *a, struct error *err)
{
	switch (a->entry->type) {
	case TAR_FILE:
		return begin_file(a, err);
	case TAR_HARDLINK:
		return apply_hardlink(a, err);
	case TAR_SYMLINK:
		return do_symlink(a, err);
	case TAR_CHAR:
		return do_node(a, S_IFCHR, err);
	case TAR_BLOCK:
		return do_node(a, S_IFBLK, err);
	case TAR_DIR:
		return do_directory(a, err);
	case TAR_FIFO:
		return do_node(a, S_IFIFO, err);
	}
	assert(false);
	return -1;
}

int apply_entry(struct apply *a, const struct tar_entry *e, struct error *err)
{
	assert(a->fd < 0);

	a->entry = e;
	if (a->parents_stale)
		apply_parents_done(a);
	if (apply_clean(e->path, a->name, err) < 0)
		return -1;
	if (a->config.max_entries && a->stats.entries >= a->config.max_entries)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "layer has more than %llu entries",
				 (unsigned long long)a->config.max_entries);
	a->stats.entries++;
	if (!*a->name)
		return do_root(a, err);
	if (a->config.whiteouts != APPLY_PLAIN && is_aufs_metadata(a->name))
		return 0;
	a->base = path_base(a->name);
	autofree char *dir = xstrndup(a->name, (size_t)(a->base - a->name));
	if (*dir)
		dir[strlen(dir) - 1] = '\0';
	a->parent = apply_parent(a, dir, /* create= */ true, err);
	if (!a->parent)
		return -1;
	if (a->config.whiteouts != APPLY_PLAIN && str_has_prefix(a->base, ".wh."))
		return apply_whiteout(a, err);
	if (a->config.keep_kinds && check_kind(a, err) < 0)
		return -1;
	if (dispatch(a, err) < 0)
		return -1;
	if (a->config.whiteouts == APPLY_DELETE) {
		autofree char *path = apply_path(a->parent, a->base);
		apply_added(a, path);
	}
	return 0;
}

int apply_entry_end(struct apply *a, struct error *err)
{
	return a->fd >= 0 ? end_file(a, err) : 0;
}

int apply_finish(struct apply *a, struct strv *implied, struct error *err)
{
	assert(a->fd < 0);

	if (!a->root_described && a->config.whiteouts == APPLY_OVERLAY)
		strv_push(implied, ".");
	MAP_FOREACH (e, &a->implied) {
		autoclose int fd = apply_open_beneath(a, map_key(e), O_PATH | O_DIRECTORY);
		if (fd >= 0)
			strv_push(implied, map_key(e));
	}
	return apply_late_run(a, err);
}
