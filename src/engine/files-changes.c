/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container has changed. On overlayfs its own directory says it: what is there has been
 * added or modified, whiteouts stand for what is gone. Copies have to be compared with what they
 * were made from. What the runtime makes for its mounts (/etc/hosts, /proc ...) is not the
 * container's doing, and neither is the time of the directory that it does it in.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "base/random.h"
#include "engine/files.h"
#include "engine/internal.h"
#include "store/snapshots.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define DEPTH_MAX 400

void changes_done(struct changes *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->v[i].path);
	free(c->v);
	*c = (struct changes){ 0 };
}

/* The tree as it is now, of a container that runs: its layers read-only, its own uppermost. */
int files_view_root(struct container *c, struct error *err)
{
	const struct store_ctx ctx = container_store(c);
	automounts struct mounts rootfs = MOUNTS_INIT, view = MOUNTS_INIT;
	const char *upper = NULL, *lower = NULL;

	if (snapshot_mounts(&ctx, c->snapshotter, c->id, &rootfs, err) < 0)
		return -1;
	const struct mount *m = &rootfs.v[0];
	for (size_t i = 0; i < m->options.n; i++) {
		const char *o = m->options.v[i];

		if (str_has_prefix(o, "upperdir="))
			upper = o + strlen("upperdir=");
		else if (str_has_prefix(o, "lowerdir="))
			lower = o + strlen("lowerdir=");
	}
	if (!upper || !lower)
		return mount_open_detached(m, err);
	struct mount *over = mounts_add(&view, "overlay", "overlay", NULL);
	strv_push_printf(&over->options, "lowerdir=%s:%s", upper, lower);
	strv_push(&over->options, "ro");
	if (strv_contains(&m->options, "index=off"))
		strv_push(&over->options, "index=off");
	return mount_open_detached(&view.v[0], err);
}

int files_image_root(struct container *c, struct error *err)
{
	const struct store_ctx ctx = container_store(c);
	CLEANUP(snapshot_info_done) struct snapshot_info info = { 0 };
	automounts struct mounts view = MOUNTS_INIT;
	char random[17];

	if (snapshot_stat(&ctx, c->snapshotter, c->id, &info, err) < 0)
		return -1;
	random_hex(8, random);
	autofree char *key = xasprintf("view-%s-%s", c->id, random);
	if (snapshot_view(&ctx, c->snapshotter, key, info.parent, NULL, &view, err) < 0)
		return -1;
	int fd = mount_open_detached(&view.v[0], err);
	/* The mount needs the layers, which the container keeps, not this record. */
	(void)snapshot_remove(&ctx, c->snapshotter, key, NULL);
	return fd;
}

bool files_is_overlay(struct container *c)
{
	unsigned capabilities;

	return snapshotter_capabilities(c->e->config.store, c->snapshotter, &capabilities, NULL) ==
		       0 &&
	       capabilities & SNAPSHOT_OVERLAY_WHITEOUTS;
}

struct walk {
	struct changes *out;
	bool overlay;
	unsigned depth;
};

static void add(struct walk *w, const char *path, enum change_kind kind)
{
	GROW_ARRAY(w->out->v, w->out->n);
	w->out->v[w->out->n].path = xstrdup(path);
	w->out->v[w->out->n++].kind = kind;
}

static bool is_mount_point(const char *path, const struct stat *st)
{
	static const char *const dirs[] = { "/dev",  "/dev/pts", "/dev/shm", "/dev/mqueue",
					    "/proc", "/sys",	 "/etc" };
	static const char *const files[] = { "/etc/hosts",	 "/etc/resolv.conf",
					     "/etc/hostname",	 "/dev/console",
					     "/.dockerenv",	 "/dev/init",
					     "/sbin/docker-init" };

	if (S_ISDIR(st->st_mode)) {
		for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
			if (strcmp(path, dirs[i]) == 0)
				return true;
		return false;
	}
	for (size_t i = 0; S_ISREG(st->st_mode) && st->st_size == 0 && i < ARRAY_SIZE(files); i++)
		if (strcmp(path, files[i]) == 0)
			return true;
	return false;
}

static bool same(const struct stat *a, const struct stat *b, bool ignore_time)
{
	return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
	       a->st_rdev == b->st_rdev && (S_ISDIR(a->st_mode) || a->st_size == b->st_size) &&
	       (ignore_time || (a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
				a->st_mtim.tv_nsec == b->st_mtim.tv_nsec));
}

static int read_names(int fd, struct strv *ret)
{
	int again = fd < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);

	if (!d) {
		if (again >= 0)
			close(again);
		return fd < 0 ? 0 : -EIO;
	}
	for (struct dirent *e; (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			strv_push(ret, e->d_name);
	closedir(d);
	strv_sort(ret);
	return 0;
}

static bool is_opaque(int fd)
{
	char value[2];

	return fgetxattr(fd, "trusted.overlay.opaque", value, sizeof(value)) == 1 &&
	       value[0] == 'y';
}

static int walk(struct walk *w, int upper, int lower, const char *path, bool *ret_mounts,
		struct error *err);

/* A directory on both sides, or new. */
static int walk_directory(struct walk *w, int upper, int lower, const char *name, const char *path,
			  const struct stat *now, const struct stat *old, struct error *err)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	autoclose int above = openat(upper, name, flags);
	autoclose int below = old && S_ISDIR(old->st_mode) ? openat(lower, name, flags) : -EBADF;
	size_t at = w->out->n;
	bool mounts = false;

	if (above < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "open '%s'", path);
	/* The place in front of the children is kept. */
	add(w, path, old ? CHANGE_MODIFIED : CHANGE_ADDED);
	if (walk(w, above, below, path, &mounts, err) < 0)
		return -1;
	bool inner = false;
	for (size_t i = at + 1; i < w->out->n; i++) {
		const char *child = w->out->v[i].path + strlen(path) + 1;

		inner |= !strchr(child, '/') && w->out->v[i].kind != CHANGE_MODIFIED;
	}
	bool unchanged = old ? !inner && same(now, old, mounts)
			     : is_mount_point(path, now) && w->out->n == at + 1;
	if (unchanged) {
		free(w->out->v[at].path);
		w->out->n--;
		memmove(w->out->v + at, w->out->v + at + 1,
			(w->out->n - at) * sizeof(w->out->v[0]));
	}
	return 0;
}

/* *ret_mounts: it is a mount point of the runtime's. */
static int walk_name(struct walk *w, int upper, int lower, const char *name, const char *path,
		     bool *ret_mounts, struct error *err)
{
	struct stat now, before;

	if (fstatat(upper, name, &now, AT_SYMLINK_NOFOLLOW) < 0)
		return 0; /* it went while we looked */
	bool old = lower >= 0 && fstatat(lower, name, &before, AT_SYMLINK_NOFOLLOW) == 0;
	if (w->overlay && S_ISCHR(now.st_mode) && now.st_rdev == makedev(0, 0)) {
		if (old)
			add(w, path, CHANGE_DELETED);
		return 0;
	}
	if (!old && is_mount_point(path, &now))
		*ret_mounts = true;
	if (S_ISDIR(now.st_mode))
		return walk_directory(w, upper, lower, name, path, &now, old ? &before : NULL, err);
	if (!old && is_mount_point(path, &now))
		return 0;
	if (!old || !same(&now, &before, false))
		add(w, path, old ? CHANGE_MODIFIED : CHANGE_ADDED);
	return 0;
}

/* upper's children against lower's (-1: none). */
static int walk(struct walk *w, int upper, int lower, const char *path, bool *ret_mounts,
		struct error *err)
{
	autostrv struct strv now = STRV_INIT, old = STRV_INIT;
	bool whole = !w->overlay || is_opaque(upper);
	struct stat st;

	if (read_names(upper, &now) < 0 || (whole && read_names(lower, &old) < 0))
		return error_errno(err, EIO, "read directory '%s'", path);
	if (++w->depth > DEPTH_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "'%.100s...' is too deep", path);
	for (size_t i = 0; i < old.n; i++) {
		autofree char *child = xasprintf("%s/%s", path, old.v[i]);

		if (fstatat(upper, old.v[i], &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			add(w, child, CHANGE_DELETED);
	}
	for (size_t i = 0; i < now.n; i++) {
		autofree char *child = xasprintf("%s/%s", path, now.v[i]);

		if (walk_name(w, upper, lower, now.v[i], child, ret_mounts, err) < 0)
			return -1;
	}
	w->depth--;
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int files_changes(struct engine *e, const char *ns, const char *id, struct changes *ret,
		  struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	*ret = (struct changes){ 0 };
	if (!c)
		return -1;
	const struct store_ctx ctx = container_store(c);
	struct walk w = { .out = ret, .overlay = files_is_overlay(c) };
	bool mounts = false;
	autoclose int upper = snapshot_layer_fd(&ctx, c->snapshotter, c->id, err);
	autoclose int lower = upper < 0 ? -EBADF : files_image_root(c, err);

	if (lower < 0 || walk(&w, upper, lower, "", &mounts, err) < 0) {
		changes_done(ret);
		return -1;
	}
	if (ret->n > 1)
		qsort(ret->v, ret->n, sizeof(ret->v[0]), by_path);
	return 0;
}

/* --- for a new image --- */

static int open_layer(struct container *c, struct files_layer *ret, struct error *err)
{
	const struct store_ctx ctx = container_store(c);

	ret->dir = snapshot_layer_fd(&ctx, c->snapshotter, c->id, err);
	if (ret->dir < 0)
		return -1;
	if (files_is_overlay(c))
		return 0;
	autoclose int root = files_image_root(c, err);
	ret->lower = root < 0 ? root : openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return ret->lower < 0 ? error_set(err, ERROR_INTERNAL, "open the image of %s", c->id) : 0;
}

int files_layer_open(struct engine *e, const char *ns, const char *id, bool pause,
		     struct files_layer *ret, struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	*ret = FILES_LAYER_INIT;
	if (!c)
		return -1;
	if (open_layer(c, ret, err) < 0) {
		files_layer_close(ret);
		return -1;
	}
	if (c->s.status == CONTAINER_RUNNING && !pause)
		return 0;
	if (c->s.status == CONTAINER_RUNNING) {
		CLEANUP(task_unrefp) struct task *t = container_task(c, err);

		if (!t || task_pause(t, err) < 0) {
			files_layer_close(ret);
			return error_wrap(err, "cannot pause container %s", id);
		}
		ret->paused = TAKE_PTR(t);
	}
	ret->container = TAKE_PTR(c);
	return 0;
}

void files_layer_close(struct files_layer *l)
{
	if (l->paused)
		(void)task_resume(l->paused, NULL);
	task_unref(l->paused);
	if (l->container)
		container_release(l->container);
	closep(&l->dir);
	closep(&l->lower);
	*l = FILES_LAYER_INIT;
}
