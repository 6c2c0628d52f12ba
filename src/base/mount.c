/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel takes a string of at most 255 bytes in a call of fsconfig(2), and overlay reads
 * escapes in some of its strings. A path that is long or has a character that could be read as one
 * is given by way of a descriptor in /proc/self/fd.
 */
#include "base/mount.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/mount-plan.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#define STRING_MAX 255

struct fs_context {
	int fd;
	int *held; /* descriptors behind /proc/self/fd paths */
	size_t n_held;
};

static void context_done(struct fs_context *c)
{
	for (size_t i = 0; i < c->n_held; i++)
		close(c->held[i]);
	free(c->held);
	closep(&c->fd);
}

void mounts_done(struct mounts *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->v[i].type);
		free(m->v[i].source);
		free(m->v[i].target);
		strv_done(&m->v[i].options);
	}
	free(m->v);
	*m = MOUNTS_INIT;
}

struct mount *mounts_add(struct mounts *m, const char *type, const char *source, const char *target)
{
	GROW_ARRAY(m->v, m->n);
	struct mount *added = &m->v[m->n++];

	*added = (struct mount){ .type = xstrdup(type),
				 .source = xstrdup(source),
				 .target = xstrdup(target) };
	return added;
}

void mounts_copy(struct mounts *dst, const struct mounts *src)
{
	if (dst == src)
		return;
	mounts_done(dst);
	for (size_t i = 0; i < src->n; i++) {
		const struct mount *from = &src->v[i];
		struct mount *to = mounts_add(dst, from->type, from->source, from->target);

		strv_copy(&to->options, &from->options);
	}
}

/* The kernel's last word on what it refused ("e overlay: ..."), or NULL. malloc'ed. */
static char *kernel_message(int fd)
{
	char line[512];
	char *last = NULL;

	for (;;) {
		ssize_t n = read(fd, line, sizeof(line) - 1);

		if (n <= 0)
			return last;
		while (n > 0 && line[n - 1] == '\n')
			n--;
		line[n] = '\0';
		if (n > 2 && line[0] == 'e')
			str_replace(&last, line + 2);
	}
}

static int context_error(struct error *err, int sys, int fd, const char *type, const char *what)
{
	autofree char *said = kernel_message(fd);

	if (said)
		return error_errno(err, sys, "mount %s: %s: %s", type, what, said);
	return error_errno(err, sys, "mount %s: %s", type, what);
}

/* The path itself, or one by way of a descriptor that the context keeps. malloc'ed. */
static char *short_path(struct fs_context *c, const char *path)
{
	if (strlen(path) <= STRING_MAX && !strpbrk(path, "\\,:"))
		return xstrdup(path);
	int fd = open(path, O_PATH | O_CLOEXEC);

	/* The kernel says then what is wrong with the path. */
	if (fd < 0)
		return xstrdup(path);
	GROW_ARRAY(c->held, c->n_held);
	c->held[c->n_held++] = fd;
	return xasprintf("/proc/self/fd/%d", fd);
}

static int set_string(struct fs_context *c, const char *key, const char *value)
{
	return fsconfig(c->fd, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int set_path(struct fs_context *c, const char *key, const char *path)
{
	autofree char *value = short_path(c, path);

	return set_string(c, key, value);
}

/* -ENOSYS when the kernel (before 6.8) cannot take layers one by one. */
static int set_lowerdir(struct fs_context *c, const char *value)
{
	CLEANUP(overlay_layers_done) struct overlay_layers layers = { 0 };

	overlay_layers_split(value, &layers);
	for (size_t i = 0; i < layers.lower.n; i++) {
		int r = set_path(c, "lowerdir+", layers.lower.v[i]);

		if (r == -EINVAL && i == 0 && access(layers.lower.v[0], F_OK) == 0)
			return -ENOSYS;
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < layers.data.n; i++) {
		int r = set_path(c, "datadir+", layers.data.v[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_overlay_path(const char *type, const char *key)
{
	return strcmp(type, "overlay") == 0 &&
	       (strcmp(key, "upperdir") == 0 || strcmp(key, "workdir") == 0);
}

static int set_option(struct fs_context *c, const char *type, const char *option)
{
	const char *eq = strchr(option, '=');

	if (!eq)
		return fsconfig(c->fd, FSCONFIG_SET_FLAG, option, NULL, 0) < 0 ? -errno : 0;

	autofree char *key = xstrndup(option, (size_t)(eq - option));

	if (strcmp(type, "overlay") == 0 && strcmp(key, "lowerdir") == 0)
		return set_lowerdir(c, eq + 1);
	if (is_overlay_path(type, key))
		return set_path(c, key, eq + 1);
	return set_string(c, key, eq + 1);
}

static int configure(struct fs_context *c, const struct mount *m, const struct mount_plan *p,
		     struct error *err)
{
	if (!str_empty(m->source)) {
		int r = m->source[0] == '/' ? set_path(c, "source", m->source)
					    : set_string(c, "source", m->source);

		if (r < 0)
			return context_error(err, -r, c->fd, m->type, "source");
	}
	/* As mount(2) has it: read-only means the file system too. */
	if (p->top.set & MOUNT_ATTR_RDONLY && fsconfig(c->fd, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		return context_error(err, errno, c->fd, m->type, "ro");
	for (size_t i = 0; i < p->data.n; i++) {
		int r = set_option(c, m->type, p->data.v[i]);

		if (r < 0)
			return context_error(err, -r, c->fd, m->type, p->data.v[i]);
	}
	if (fsconfig(c->fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return context_error(err, errno, c->fd, m->type, "create");
	return 0;
}

static int open_filesystem(const struct mount *m, const struct mount_plan *p, struct error *err)
{
	CLEANUP(context_done) struct fs_context c = { .fd = fsopen(m->type, FSOPEN_CLOEXEC) };

	if (c.fd < 0)
		return error_errno(err, errno, "mount %s", m->type);
	if (configure(&c, m, p, err) < 0)
		return -1;
	int fd = fsmount(c.fd, FSMOUNT_CLOEXEC, (unsigned)p->top.set);

	return fd < 0 ? context_error(err, errno, c.fd, m->type, "make the mount") : fd;
}

static int set_attrs(int fd, const struct mount_attrs *a, unsigned flags)
{
	struct mount_attr attr = { .attr_set = a->set, .attr_clr = a->clear };

	if (!a->set && !a->clear)
		return 0;
	/* The kernel wants the whole atime field cleared when a value is set in it. */
	if (attr.attr_set & MOUNT_ATTR__ATIME)
		attr.attr_clr |= MOUNT_ATTR__ATIME;
	return mount_setattr(fd, "", AT_EMPTY_PATH | flags, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static int set_propagation(int fd, const struct mount_plan *p)
{
	struct mount_attr attr = { .propagation = p->propagation };
	unsigned flags = AT_EMPTY_PATH | (p->propagation_tree ? AT_RECURSIVE : 0);

	if (!p->propagation)
		return 0;
	return mount_setattr(fd, "", flags, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static int set_idmap(int fd, const char *userns, struct error *err)
{
	autoclose int ns = open(userns, O_RDONLY | O_CLOEXEC);

	if (ns < 0)
		return error_errno(err, errno, "open user namespace '%s'", userns);
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)ns };
	if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_errno(err, errno, "map the ids of the mount");
	return 0;
}

static int open_bind(const struct mount *m, const struct mount_plan *p, struct error *err)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;

	if (p->recursive)
		flags |= AT_RECURSIVE;
	autoclose int fd = open_tree(AT_FDCWD, m->source ? m->source : "", flags);

	if (fd < 0)
		return error_errno(err, errno, "bind '%s'", m->source ? m->source : "");
	int r = set_attrs(fd, &p->tree, AT_RECURSIVE);

	if (r == 0)
		r = set_attrs(fd, &p->top, 0);
	if (r < 0)
		return error_errno(err, -r, "set the attributes of '%s'", m->source);
	if (p->idmap && set_idmap(fd, p->idmap, err) < 0)
		return error_wrap(err, "'%s'", m->source);
	return TAKE_FD(fd);
}

static int open_planned(const struct mount *m, const struct mount_plan *p, struct error *err)
{
	autoclose int fd = p->bind ? open_bind(m, p, err) : open_filesystem(m, p, err);

	if (fd < 0)
		return -1;
	int r = set_propagation(fd, p);

	if (r < 0)
		return error_errno(err, -r, "set the propagation of '%s'", m->source);
	return TAKE_FD(fd);
}

int mount_open_detached(const struct mount *m, struct error *err)
{
	CLEANUP(mount_plan_done) struct mount_plan p = { 0 };

	if (mount_plan_make(m, &p, err) < 0)
		return -1;
	if (!p.bind && str_empty(m->type))
		return error_set(err, ERROR_INVALID_ARGUMENT, "mount without a type");
	return open_planned(m, &p, err);
}

static int open_target(const struct mount *m, const char *target, struct error *err)
{
	int fd = open(target, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, errno, "open mount point '%s'", target);
	if (str_empty(m->target))
		return fd;

	autoclose int root = fd;

	fd = fs_open_in_root(root, m->target, O_PATH, 0);
	if (fd < 0)
		return error_errno(err, -fd, "open mount point '%s' in '%s'", m->target, target);
	return fd;
}

/* The mount's descriptor, which umount2() can be told by. */
static int attach_classic(const struct mount *m, const char *target, struct error *err)
{
	CLEANUP(mount_plan_done) struct mount_plan p = { 0 };
	autoclose int place = open_target(m, target, err);
	char path[64];

	if (place < 0 || mount_plan_make(m, &p, err) < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
	if (mount_classic(m, &p, path, err) < 0)
		return -1;
	return open_target(m, target, err);
}

static int attach(const struct mount *m, const char *target, struct error *err)
{
	autoerror struct error why = ERROR_INIT;
	autoclose int fd = mount_open_detached(m, &why);

	if (fd < 0 && why.sys == ENOSYS)
		return attach_classic(m, target, err);
	if (fd < 0)
		return error_move(err, &why);

	autoclose int place = open_target(m, target, err);

	if (place < 0)
		return -1;
	if (move_mount(fd, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_errno(err, errno, "attach the mount to '%s'", target);
	return TAKE_FD(fd);
}

int mounts_attach(const struct mounts *m, const char *target, struct error *err)
{
	autofree int *fds = xnew_array(int, m->n);
	size_t n = 0;

	while (n < m->n && (fds[n] = attach(&m->v[n], target, err)) >= 0)
		n++;
	bool failed = n < m->n;

	while (n-- > 0) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[n]);
		if (failed)
			umount2(path, MNT_DETACH);
		close(fds[n]);
	}
	return failed ? -1 : 0;
}

int mount_detach_all(const char *path, int flags, struct error *err)
{
	while (umount2(path, flags | UMOUNT_NOFOLLOW) == 0)
		;
	/* EINVAL: not a mount point (any more). */
	if (errno == EINVAL || errno == ENOENT)
		return 0;
	return error_errno(err, errno, "unmount '%s'", path);
}
