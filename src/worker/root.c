/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/root.h"

#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#define MOUNTS_MAX 1024

char *message_bytes(const struct json *j, const char *name, struct error *err)
{
	autobuf struct buf b = BUF_INIT(PATH_MAX);
	const char *text = json_get_string(j, name);

	if (!text || base64_decode(text, strlen(text), &b) < 0 || strlen(b.data) != b.len) {
		error_set(err, ERROR_INVALID_ARGUMENT, "message without %s", name);
		return NULL;
	}
	return buf_steal(&b, NULL);
}

/* Mounts can only be put onto what is attached somewhere: over the root of a namespace that only
 * this process sees. */
static int attach_root(struct root *r, struct error *err)
{
	if (r->attached)
		return 0;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(err, errno, "make a mount namespace");
	if (syscall(SYS_move_mount, r->fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_errno(err, errno, "attach the root file system");
	r->attached = true;
	return 0;
}

static int add_mount(struct root *r, const struct worker_message *m, struct error *err)
{
	autofree char *target = message_bytes(m->json, "target64", err);

	if (!target || m->n_fds != 1 || r->fd < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected a mount message");
	if (attach_root(r, err) < 0)
		return -1;
	autoclose int place = fs_open_in_root(r->fd, target, O_PATH, 0);
	if (place == -ENOENT)
		return 0; /* never started: the mount point is not there yet */
	if (place < 0)
		return error_errno(err, -place, "open mount point '%s'", target);
	if (syscall(SYS_move_mount, m->fds[0], "", place, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_errno(err, errno, "mount on '%s'", target);
	return 0;
}

int root_receive(int sock, struct root *ret, struct worker_message *m, struct error *err)
{
	for (size_t n = 0; n < MOUNTS_MAX; n++) {
		if (worker_recv(sock, m, err) < 0)
			return -1;
		const char *op = json_get_string(m->json, "op");
		if (str_equal(op, "root") && m->n_fds == 1 && ret->fd < 0) {
			ret->fd = TAKE_FD(m->fds[0]);
		} else if (str_equal(op, "mount")) {
			if (add_mount(ret, m, err) < 0)
				return -1;
		} else if (ret->fd >= 0) {
			return 0;
		} else {
			break;
		}
		worker_message_done(m);
		*m = WORKER_MESSAGE_INIT;
	}
	return error_set(err, ERROR_INVALID_ARGUMENT, "expected a root message");
}

static int path_error(int r, const char *path, struct error *err)
{
	if (r == -ENOENT)
		return error_errno(err, ENOENT, "lstat '%s'", path);
	return error_errno(err, -r, "resolve '%s'", path);
}

int root_resolve(const struct root *r, const char *path, bool follow, struct root_path *ret,
		 struct error *err)
{
	size_t n = strlen(path);
	bool whole = follow || n == 0 || path[n - 1] == '/' ||
		     (n >= 2 && strcmp(path + n - 2, "/.") == 0) || strcmp(path, ".") == 0;
	const char *base = path_base(path);

	*ret = (struct root_path){ .dir = -EBADF, .name = "." };
	/* ".." at the end cannot be looked up by its name. */
	if (strcmp(base, "..") == 0)
		whole = true;
	if (!whole && strlen(base) >= sizeof(ret->name))
		return path_error(-ENAMETOOLONG, path, err);
	autofree char *dir = whole ? xstrdup(n ? path : "/") : xstrndup(path, n - strlen(base));
	ret->dir = fs_open_in_root(r->fd, *dir ? dir : "/", O_PATH | O_DIRECTORY, 0);
	if (ret->dir == -ENOTDIR && follow) {
		/* A file that the path leads to. */
		autofree char *above = xstrndup(path, n - strlen(base));
		ret->dir = fs_open_in_root(r->fd, *above ? above : "/", O_PATH | O_DIRECTORY, 0);
		whole = false;
	}
	if (ret->dir < 0)
		return path_error(ret->dir, path, err);
	if (!whole)
		memcpy(ret->name, base, strlen(base) + 1);
	return 0;
}
