/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle's directory is the durable mark that there may be a shim: it is made before the shim is
 * started and goes last, by a rename to ".<id>" first, which a restart finishes off.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "oci/digest.h"
#include "task/internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

char *bundle_parent(const struct tasks *m)
{
	return path_join(m->config.state, TASK_DIR, NULL);
}

/* The convention of containerd's shims, so that other tools find the socket. */
static char *socket_path(const struct tasks *m, const char *ns, const char *id)
{
	autofree char *key = xasprintf("%s/%s/%s", m->config.address, ns, id);
	char digest[DIGEST_MAX];

	digest_bytes(key, strlen(key), digest);
	return path_join(m->config.state, "s", digest_hex(digest), NULL);
}

struct task *task_new(struct tasks *m, const char *ns, const char *id)
{
	struct task *t = xnew(struct task);

	t->m = m;
	t->refs = 1;
	t->ns = xstrdup(ns);
	t->id = xstrdup(id);
	t->bundle = path_join(m->config.state, TASK_DIR, ns, id, NULL);
	t->work = path_join(m->config.root, TASK_DIR, ns, id, NULL);
	t->socket = socket_path(m, ns, id);
	list_init(&t->processes);
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_lock(&m->lock);
	list_append(&m->tasks, &t->node);
	pthread_mutex_unlock(&m->lock);
	return t;
}

static int make_parents(const struct tasks *m, const char *ns, struct error *err)
{
	const char *const roots[] = { m->config.state, m->config.root };
	autofree char *sockets = path_join(m->config.state, "s", NULL);
	int r = fs_mkdir_p(sockets, 0711);

	if (r < 0)
		return error_errno(err, -r, "make '%s'", sockets);
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		autofree char *dir = path_join(roots[i], TASK_DIR, ns, NULL);

		r = fs_mkdir_p(dir, 0711);
		if (r < 0)
			return error_errno(err, -r, "make '%s'", dir);
	}
	return 0;
}

static int write_bootstrap(struct task *t, int dirfd, struct error *err)
{
	autojson struct json *j = json_new_object();
	autofree char *address = xasprintf("unix://%s", t->socket);

	json_set_int(j, "version", 3);
	json_set_string(j, "address", address);
	json_set_string(j, "protocol", "ttrpc");
	if (t->group)
		json_set_string(j, "group", t->group);
	autofree char *text = json_format(j, /* pretty */ false);
	int r = fs_write_atomic(dirfd, "bootstrap.json", text, strlen(text), 0644,
				/* sync */ false);
	if (r == 0)
		r = fs_write_atomic(dirfd, "shim-binary-path", t->m->config.shim,
				    strlen(t->m->config.shim), 0600, /* sync */ false);
	return r < 0 ? error_errno(err, -r, "write to bundle '%s'", t->bundle) : 0;
}

static int fill_bundle(struct task *t, const struct mounts *mounts, int *ret_listener,
		       struct error *err)
{
	autoclose int dirfd = open(t->bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dirfd < 0)
		return error_errno(err, errno, "open bundle '%s'", t->bundle);
	if (mkdirat(dirfd, "rootfs", 0711) < 0 || symlinkat(t->work, dirfd, "work") < 0)
		return error_errno(err, errno, "fill bundle '%s'", t->bundle);
	if (mkdir(t->work, 0711) < 0 && errno != EEXIST)
		return error_errno(err, errno, "make '%s'", t->work);
	if (bundle_write_mounts(t, mounts, err) < 0)
		return -1;
	if (ret_listener) {
		int listener = fs_unix_listen(t->socket, 0600, 128);

		if (listener < 0)
			return error_errno(err, -listener, "listen on '%s'", t->socket);
		*ret_listener = listener;
	}
	return write_bootstrap(t, dirfd, err);
}

int bundle_make(struct task *t, const struct mounts *mounts, int *ret_listener, struct error *err)
{
	if (make_parents(t->m, t->ns, err) < 0)
		return -1;
	if (mkdir(t->bundle, 0700) < 0)
		return error_errno(err, errno, "make bundle '%s'", t->bundle);
	autoclose int listener = -EBADF;
	if (fill_bundle(t, mounts, ret_listener ? &listener : NULL, err) < 0) {
		bundle_remove(t);
		return -1;
	}
	if (ret_listener)
		*ret_listener = TAKE_FD(listener);
	return 0;
}

int bundle_write_mounts(struct task *t, const struct mounts *mounts, struct error *err)
{
	if (!mounts || mounts->n == 0)
		return 0;

	autojson struct json *list = json_new_array();
	autofree char *path = path_join(t->bundle, "mounts.json", NULL);

	for (size_t i = 0; i < mounts->n; i++) {
		const struct mount *m = &mounts->v[i];
		struct json *j = json_new_object();

		json_set_string(j, "type", m->type);
		json_set_string(j, "source", m->source);
		json_set_string(j, "target", m->target);
		json_set(j, "options", json_new_strv(&m->options));
		json_add(list, j);
	}
	autofree char *text = json_format(list, /* pretty */ false);
	int r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, /* sync */ false);

	return r < 0 ? error_errno(err, -r, "write '%s'", path) : 0;
}

char *task_mount_path(const struct task *t, const char *target)
{
	return path_join(t->bundle, "mounts", target, NULL);
}

int bundle_write_spec(struct task *t, const struct json *spec, struct error *err)
{
	autofree char *path = path_join(t->bundle, "config.json", NULL);
	autofree char *text = json_format(spec, /* pretty */ false);
	int r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, /* sync */ false);

	return r < 0 ? error_errno(err, -r, "write '%s'", path) : 0;
}

void bundle_remove(struct task *t)
{
	autofree char *name = xasprintf(".%s", t->id);
	autofree char *hidden = path_join(t->m->config.state, TASK_DIR, t->ns, name, NULL);
	autofree char *rootfs = path_join(t->bundle, "rootfs", NULL);

	if (!t->group)
		unlink(t->socket);
	/* Nothing of ours mounts there in the host's namespace, but a foreign shim does. */
	mount_detach_all(rootfs, 0, NULL);
	if (rename(t->bundle, hidden) < 0 && errno != ENOENT)
		fs_remove_tree(AT_FDCWD, t->bundle);
	fs_remove_tree(AT_FDCWD, hidden);
	fs_remove_tree(AT_FDCWD, t->work);
}
