/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/files.h"

#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "engine/user.h"
#include "image/worker.h"
#include "store/snapshots.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

struct files_stream {
	struct worker worker;
	struct container *locked; /* released at the end; or NULL */
	int fd;
};

void path_stat_done(struct path_stat *s)
{
	free(s->target);
	*s = (struct path_stat){ 0 };
}

static void set_bytes(struct json *j, const char *name, const char *bytes)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	base64_encode(bytes, strlen(bytes), &b);
	json_set_string(j, name, b.data);
}

static char *get_bytes(const struct json *j, const char *name)
{
	autobuf struct buf b = BUF_INIT(2 * PATH_MAX);
	const char *text = json_get_string(j, name);

	if (!text || base64_decode(text, strlen(text), &b) < 0)
		return NULL;
	return buf_steal(&b, NULL);
}

static struct files_stream *stream_new(void)
{
	struct files_stream *s = xnew(struct files_stream);

	s->worker = WORKER_INIT;
	s->fd = -EBADF;
	return s;
}

static void stream_free(struct files_stream *s)
{
	closep(&s->fd);
	worker_end(&s->worker);
	if (s->locked)
		container_release(s->locked);
	free(s);
}
DEFINE_CLEANUP(struct files_stream *, stream_free)

static bool is_up(const struct container *c)
{
	return c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED;
}

/* The root of its init as it sees it. If the process has just ended, its number may be another's:
 * the host's own root is never right. */
static int open_running_root(const struct container *c, struct error *err)
{
	autofree char *path = xasprintf("/proc/%d/root", c->s.pid);
	autoclose int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat ours, theirs;

	if (fd < 0 || fstat(fd, &theirs) < 0 || stat("/", &ours) < 0)
		return error_errno(err, errno, "open the root of container %s", c->id);
	if (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
		return error_set(err, ERROR_FAILED_PRECONDITION, "container %s has just ended",
				 c->id);
	return TAKE_FD(fd);
}

static int open_stopped_root(struct container *c, struct error *err)
{
	const struct store_ctx ctx = container_store(c);
	automounts struct mounts rootfs = MOUNTS_INIT;

	if (snapshot_mounts(&ctx, c->snapshotter, c->id, &rootfs, err) < 0)
		return -1;
	return mount_open_detached(&rootfs.v[0], err);
}

static int send_root(struct files_stream *s, int fd, struct error *err)
{
	struct json *j = json_new_object();

	json_set_string(j, "op", "root");
	return worker_tell(&s->worker, j, &fd, 1, err);
}

/* A volume or bind of a container that does not run. What cannot be had is left out: the copy is
 * of what is there. */
static int send_mount(struct files_stream *s, struct container *c, const struct mount_spec *m,
		      struct error *err)
{
	automounts struct mounts one = MOUNTS_INIT;
	autofree char *volume = NULL;
	struct json *j;

	if (str_equal(m->type, "volume"))
		volume = volume_source(c, m);
	else if (str_equal(m->type, "bind"))
		volume = xstrdup(m->source);
	if (!volume)
		return 0;
	struct mount *bind = mounts_add(&one, "bind", volume, NULL);
	strv_push(&bind->options, "rbind");
	if (m->read_only)
		strv_push(&bind->options, "ro");
	autoclose int fd = mount_open_detached(bind, NULL);
	if (fd < 0)
		return 0;
	j = json_new_object();
	json_set_string(j, "op", "mount");
	set_bytes(j, "target64", m->target);
	return worker_tell(&s->worker, j, &fd, 1, err);
}

static size_t depth_of(const char *path)
{
	size_t n = 0;

	for (; *path; path++)
		n += path[0] == '/' && path[1] != '/' && path[1] != '\0';
	return n;
}

static int send_mounts(struct files_stream *s, struct container *c, struct error *err)
{
	size_t deepest = 0;

	for (size_t i = 0; i < c->config.mounts.n; i++)
		deepest = MAX(deepest, depth_of(c->config.mounts.v[i].target));
	for (size_t depth = 0; depth <= deepest; depth++)
		for (size_t i = 0; i < c->config.mounts.n; i++)
			if (depth_of(c->config.mounts.v[i].target) == depth &&
			    send_mount(s, c, &c->config.mounts.v[i], err) < 0)
				return -1;
	return 0;
}

/* A worker of that verb, which has the container's root. */
static struct files_stream *stream_open(struct engine *e, const char *ns, const char *id,
					const char *verb, bool volumes, struct error *err)
{
	CLEANUP(stream_freep) struct files_stream *s = stream_new();

	s->locked = container_acquire(e, ns, id, err);
	if (!s->locked)
		return NULL;
	bool running = is_up(s->locked);
	autoclose int root = running && volumes ? open_running_root(s->locked, err)
			     : running		? files_view_root(s->locked, err)
						: open_stopped_root(s->locked, err);
	if (root < 0 ||
	    worker_spawn(&s->worker, image_service_worker(e->config.images), verb, err) < 0 ||
	    send_root(s, root, err) < 0)
		return NULL;
	if (!running && volumes && send_mounts(s, s->locked, err) < 0)
		return NULL;
	if (running)
		container_release(TAKE_PTR(s->locked));
	return TAKE_PTR(s);
}

static int next_event(struct files_stream *s, const char *event, struct worker_message *ret,
		      struct error *err)
{
	if (worker_next(&s->worker, NULL, ret, err) < 0)
		return -1;
	if (!str_equal(worker_event(ret), event))
		return error_set(err, ERROR_INTERNAL, "kistl-image %s: expected %s", s->worker.verb,
				 event);
	return 0;
}

/* Docker's words for what is not there. */
static int missing_error(const char *id, const char *path, struct error *err)
{
	if (error_is(err, ERROR_NOT_FOUND))
		error_set(err, ERROR_NOT_FOUND, "Could not find the file %s in container %s", path,
			  id);
	return -1;
}

static int pack(struct files_stream *s, const char *id, const char *path, const char *as,
		int output, struct path_stat *ret, struct error *err)
{
	autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
	struct json *j = json_new_object();

	json_set_string(j, "op", "pack");
	set_bytes(j, "path64", path);
	set_bytes(j, "as64", as);
	if (worker_tell(&s->worker, j, &output, output >= 0, err) < 0 ||
	    next_event(s, "stat", &m, err) < 0)
		return missing_error(id, path, err);
	*ret = (struct path_stat){
		.size = json_get_int(m.json, "size", 0),
		.mode = (uint32_t)json_get_uint(m.json, "mode", 0),
		.mtime = json_get_int(m.json, "mtime", 0),
		.target = get_bytes(m.json, "target64"),
	};
	return 0;
}

int files_stat(struct engine *e, const char *ns, const char *id, const char *path,
	       struct path_stat *ret, struct error *err)
{
	CLEANUP(stream_freep)
	struct files_stream *s = stream_open(e, ns, id, "pack", /* volumes */ true, err);

	return s ? pack(s, id, path, "", -1, ret, err) : -1;
}

static int open_packed(struct files_stream *s, const char *id, const char *path, const char *as,
		       struct path_stat *ret, struct error *err)
{
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, errno, "make a pipe");
	autoclose int output = pipes[1];
	s->fd = pipes[0];
	return pack(s, id, path, as, output, ret, err);
}

int files_open(struct engine *e, const char *ns, const char *id, const char *path, const char *as,
	       struct path_stat *ret, struct files_stream **ret_stream, struct error *err)
{
	CLEANUP(stream_freep)
	struct files_stream *s = stream_open(e, ns, id, "pack", /* volumes */ true, err);

	if (!s || open_packed(s, id, path, as, ret, err) < 0)
		return -1;
	*ret_stream = TAKE_PTR(s);
	return 0;
}

int files_export(struct engine *e, const char *ns, const char *id, struct files_stream **ret,
		 struct error *err)
{
	CLEANUP(path_stat_done) struct path_stat st = { 0 };
	CLEANUP(stream_freep)
	struct files_stream *s = stream_open(e, ns, id, "pack", /* volumes */ false, err);

	if (!s || open_packed(s, id, "/", "", &st, err) < 0)
		return -1;
	*ret = TAKE_PTR(s);
	return 0;
}

int files_fd(const struct files_stream *s)
{
	return s->fd;
}

void files_close_input(struct files_stream *s)
{
	closep(&s->fd);
	s->fd = -EBADF;
}

int files_close(struct files_stream *s, struct error *err)
{
	int r = 0;

	/* A reader that leaves early ends the worker by SIGPIPE or EPIPE. */
	files_close_input(s);
	while (r == 0 && !s->worker.done) {
		autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;

		r = worker_next(&s->worker, NULL, &m, err);
	}
	stream_free(s);
	return r;
}

/* --- in --- */

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n > 1 && dir[n - 1] == '/')
		n--;
	return strncmp(path, dir, n) == 0 && (n == 1 || path[n] == '/' || path[n] == '\0');
}

static int check_writable(const struct container *c, const char *path, struct error *err)
{
	const struct mount_spec *best = NULL;

	for (size_t i = 0; i < c->config.mounts.n; i++) {
		const struct mount_spec *m = &c->config.mounts.v[i];

		if (is_below(path, m->target) &&
		    (!best || strlen(m->target) > strlen(best->target)))
			best = m;
	}
	if (best && best->read_only)
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "mounted volume is marked read-only");
	if (!best && c->config.read_only_rootfs)
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "container rootfs is marked read-only");
	return 0;
}

/* Without a user, the archive's owners stay, as with Docker. */
static int set_owner(struct engine *e, const char *ns, const char *id, struct json *j,
		     struct error *err)
{
	CLEANUP(user_ids_done) struct user_ids user = { 0 };
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	if (!c)
		return -1;
	if (str_empty(c->config.user))
		return 0;
	autoclose int root = is_up(c) ? open_running_root(c, err) : open_stopped_root(c, err);
	if (root < 0 || user_resolve(root, c->config.user, NULL, 0, &user, err) < 0)
		return -1;
	json_set_uint(j, "uid", user.uid);
	json_set_uint(j, "gid", user.gid);
	return 0;
}

static int check_target(struct engine *e, const char *ns, const char *id, const char *path,
			struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);

	if (!c)
		return -1;
	pthread_mutex_lock(&e->lock);
	int r = check_writable(c, path, err);
	pthread_mutex_unlock(&e->lock);
	return r;
}

int files_extract(struct engine *e, const char *ns, const char *id, const struct extract_options *o,
		  struct files_stream **ret, struct error *err)
{
	autofree char *path = path_join("/", o->path, NULL);
	autojson struct json *j = json_new_object();
	int pipes[2];

	if (check_target(e, ns, id, path, err) < 0)
		return -1;
	json_set_string(j, "op", "extract");
	set_bytes(j, "path64", path);
	json_set_bool(j, "keep_kinds", o->keep_kinds);
	if (o->chown_users && set_owner(e, ns, id, j, err) < 0)
		return -1;
	CLEANUP(stream_freep)
	struct files_stream *s = stream_open(e, ns, id, "extract", /* volumes */ true, err);
	if (!s)
		return -1;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, errno, "make a pipe");
	autoclose int input = pipes[0];
	s->fd = pipes[1];
	if (worker_tell(&s->worker, TAKE_PTR(j), &input, 1, err) < 0)
		return missing_error(id, o->path, err);
	*ret = TAKE_PTR(s);
	return 0;
}
