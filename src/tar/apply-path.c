/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parents. Nearly every one is the one of the entry before, so a few are kept open. Another one is
 * opened whole by one openat2() that follows nothing; only when that fails is the path walked by
 * hand, making what is missing and following symlinks the way chroot would.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "tar/apply-internal.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define SYMLINKS_MAX 40

int apply_clean(const char *path, char ret[TAR_PATH_MAX + 1], struct error *err)
{
	size_t len = 0, depth = 0;

	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			while (len > 0 && ret[len - 1] != '/')
				len--;
			len -= len > 0;
			depth -= depth > 0;
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			if (len + n + 1 > TAR_PATH_MAX || ++depth > DEPTH_MAX)
				return error_set(err, ERROR_INVALID_ARGUMENT,
						 "path '%.100s...' is too long or too deep", path);
			if (len > 0)
				ret[len++] = '/';
			memcpy(ret + len, p, n);
			len += n;
		}
		p += n;
		p += *p == '/';
	}
	ret[len] = '\0';
	return 0;
}

char *apply_path(const struct parent *p, const char *name)
{
	return *p->path ? xasprintf("%s/%s", p->path, name) : xstrdup(name);
}

int apply_open_beneath(const struct apply *a, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)flags | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};

	/* Volumes are mounted where a user's archive goes to. */
	if (a->config.whiteouts != APPLY_PLAIN)
		how.resolve |= RESOLVE_NO_XDEV;
	long fd = syscall(SYS_openat2, a->config.dir, *path ? path : ".", &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static void parent_done(struct parent *p)
{
	if (!p->key)
		return;
	free(p->key);
	free(p->path);
	close(p->fd);
	*p = (struct parent){ 0 };
}

void apply_parents_done(struct apply *a)
{
	for (size_t i = 0; i < PARENT_SLOTS; i++)
		parent_done(&a->parents[i]);
	a->parents_stale = false;
}

int apply_remove(struct apply *a, const struct parent *p, const char *name, bool *ret_was_whiteout,
		 struct error *err)
{
	struct stat st;

	if (ret_was_whiteout)
		*ret_was_whiteout = false;
	if (fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "look at '%s'", a->name);
	if (ret_was_whiteout)
		*ret_was_whiteout = a->config.whiteouts == APPLY_OVERLAY && apply_is_whiteout(&st);
	int r = S_ISDIR(st.st_mode)	       ? fs_remove_tree(p->fd, name)
		: unlinkat(p->fd, name, 0) < 0 ? -errno
					       : 0;
	if (r < 0)
		return error_errno(err, -r, "replace '%s'", a->name);
	a->parents_stale = true;
	return 0;
}

/* The walk by hand. */
struct walk {
	struct apply *a;
	struct parent at;
	char *todo; /* what is left of the path, symlinks' targets put in front */
	unsigned symlinks;
	bool create;
};

static void walk_done(struct walk *w)
{
	parent_done(&w->at);
	free(w->todo);
}

static int walk_to(struct walk *w, char *path, struct error *err)
{
	int fd = apply_open_beneath(w->a, path, O_PATH | O_DIRECTORY);

	if (fd < 0) {
		error_errno(err, -fd, "open '%s'", path);
		free(path);
		return -1;
	}
	free(w->at.path);
	close(w->at.fd);
	w->at.path = path;
	w->at.fd = fd;
	return 0;
}

static int walk_up(struct walk *w, struct error *err)
{
	char *slash = strrchr(w->at.path, '/');

	return walk_to(w, xstrndup(w->at.path, slash ? (size_t)(slash - w->at.path) : 0), err);
}

static int walk_symlink(struct walk *w, const char *name, struct error *err)
{
	char target[TAR_PATH_MAX + 2];
	ssize_t n = readlinkat(w->at.fd, name, target, sizeof(target) - 1);

	if (n < 0)
		return error_errno(err, errno, "read symlink '%s'", name);
	target[n] = '\0';
	if (++w->symlinks > SYMLINKS_MAX)
		return error_errno(err, ELOOP, "resolve '%s'", w->a->name);
	if (strlen(w->todo) + (size_t)n > (size_t)2 * TAR_PATH_MAX)
		return error_errno(err, ENAMETOOLONG, "resolve '%s'", w->a->name);
	char *todo = xasprintf("%s/%s", target, w->todo);
	free(w->todo);
	w->todo = todo;
	return target[0] == '/' ? walk_to(w, xstrdup(""), err) : 0;
}

/* Writing in a directory of the parent's copy changes its time; it shall keep it. */
static int note_time(struct apply *a, const struct parent *p, struct error *err)
{
	struct stat st;

	if (a->config.whiteouts != APPLY_DELETE || map_get(&a->touched, p->path))
		return 0;
	if (fstat(p->fd, &st) < 0)
		return error_errno(err, errno, "look at '%s'", p->path);
	map_set(&a->touched, p->path, a);
	return apply_late_time(a, xstrdup(p->path), &st.st_mtim, err);
}

/* A parent that no entry has described (so far). One that replaces a whiteout hides what is below.
 */
static int walk_make(struct walk *w, const char *name, struct error *err)
{
	struct apply *a = w->a;
	bool was_whiteout;
	struct stat st;

	if (a->config.keep_kinds && fstatat(w->at.fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return error_errno(err, ENOTDIR, "create directory '%s' of '%s'", name, a->name);
	if (note_time(a, &w->at, err) < 0 || apply_remove(a, &w->at, name, &was_whiteout, err) < 0)
		return -1;
	if (mkdirat(w->at.fd, name, 0755) < 0)
		return error_errno(err, errno, "create directory '%s' of '%s'", name, a->name);
	autofree char *path = apply_path(&w->at, name);
	if (a->config.whiteouts == APPLY_DELETE)
		map_set(&a->touched, path, a);
	if (was_whiteout)
		return apply_opaque(a, path, err);
	map_set(&a->implied, path, a);
	return 0;
}

static int walk_name(struct walk *w, const char *name, struct error *err)
{
	struct stat st;
	bool absent = fstatat(w->at.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0;

	if (absent && errno != ENOENT)
		return error_errno(err, errno, "look at '%s' of '%s'", name, w->a->name);
	if (!absent && S_ISLNK(st.st_mode))
		return walk_symlink(w, name, err);
	if (absent || !S_ISDIR(st.st_mode)) {
		if (!w->create)
			return error_errno(err, absent ? ENOENT : ENOTDIR, "open '%s'", w->a->name);
		if (walk_make(w, name, err) < 0)
			return -1;
	}
	if (strlen(w->at.path) + strlen(name) + 1 > TAR_PATH_MAX)
		return error_errno(err, ENAMETOOLONG, "resolve '%s'", w->a->name);
	return walk_to(w, apply_path(&w->at, name), err);
}

static int walk(struct walk *w, struct error *err)
{
	while (*w->todo) {
		size_t n = strcspn(w->todo, "/");
		autofree char *name = xstrndup(w->todo, n);
		memmove(w->todo, w->todo + n, strlen(w->todo + n) + 1);
		size_t slashes = strspn(w->todo, "/");
		memmove(w->todo, w->todo + slashes, strlen(w->todo + slashes) + 1);
		int r = 0;
		if (strcmp(name, "..") == 0)
			r = walk_up(w, err);
		else if (*name && strcmp(name, ".") != 0)
			r = walk_name(w, name, err);
		if (r < 0)
			return -1;
	}
	return 0;
}

const struct parent *apply_parent(struct apply *a, const char *path, bool create, struct error *err)
{
	for (size_t i = 0; i < PARENT_SLOTS; i++)
		if (a->parents[i].key && strcmp(a->parents[i].key, path) == 0)
			return &a->parents[i];

	CLEANUP(walk_done) struct walk w = { .a = a, .create = create };
	int fd = apply_open_beneath(a, path, O_PATH | O_DIRECTORY);
	w.at = (struct parent){ .key = xstrdup(path), .path = xstrdup(path), .fd = fd };
	if (fd < 0) {
		/* Missing, a symlink on the way, or no directory. */
		w.at.path[0] = '\0';
		w.at.fd = apply_open_beneath(a, "", O_PATH | O_DIRECTORY);
		w.todo = xstrdup(path);
		if (w.at.fd < 0) {
			error_errno(err, -w.at.fd, "open the layer's directory");
			return NULL;
		}
		if (walk(&w, err) < 0)
			return NULL;
	}
	if (note_time(a, &w.at, err) < 0)
		return NULL;
	struct parent *slot = &a->parents[a->next_parent++ % PARENT_SLOTS];
	parent_done(slot);
	*slot = w.at;
	w.at = (struct parent){ 0 };
	return slot;
}
