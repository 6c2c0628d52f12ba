/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything is made in a directory beside the archive, since images of memory are as large as the
 * memory: checkpoint/ (CRIU's images), config.dump and spec.dump (JSON), rootfs-diff.tar (what the
 * container wrote) and container.log. The archive comes last, by rename.
 */
#include "engine/checkpoint.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/time.h"
#include "engine/files.h"
#include "engine/internal.h"
#include "tar/pack.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SPEC_MAX (4 << 20)
#define DUMP_MS (10 * 60 * 1000)
#define LOG_NAME "container.log"

struct work {
	char *dir; /* NULL: nothing made yet */
	char *part;
	int fd;
};

#define WORK_INIT ((struct work){ .fd = -EBADF })

static void work_done(struct work *w)
{
	if (w->dir)
		fs_remove_tree(AT_FDCWD, w->dir);
	if (w->part)
		unlink(w->part);
	closep(&w->fd);
	free(w->dir);
	free(w->part);
}

static int work_begin(struct work *w, const char *location, struct error *err)
{
	autofree char *dir = xasprintf("%s.XXXXXX", location);

	if (!mkdtemp(dir))
		return error_errno(err, errno, "make a directory beside '%s'", location);
	w->dir = TAKE_PTR(dir);
	w->part = xasprintf("%s.part", w->dir);
	w->fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->fd < 0 || mkdirat(w->fd, "checkpoint", 0700) < 0)
		return error_errno(err, errno, "make '%s'", w->dir);
	return 0;
}

static int put_document(const struct work *w, const char *name, struct json *take,
			struct error *err)
{
	autofree char *text = json_format(take, /* pretty */ false);
	int r;

	json_unref(take);
	r = fs_write_atomic(w->fd, name, text, strlen(text), 0600, /* sync */ false);
	return r < 0 ? error_errno(err, -r, "write '%s/%s'", w->dir, name) : 0;
}

/* As checkpointctl reads it. */
static struct json *config_dump(const struct container *c, const struct checkpoint_options *o)
{
	struct json *j = json_new_object();
	char created[TIME_RFC3339_MAX], now[TIME_RFC3339_MAX];

	time_format_rfc3339(c->created_at, created);
	time_format_rfc3339(time_realtime(), now);
	json_set_string(j, "id", c->id);
	json_set_string(j, "name", o->name);
	json_set_string(j, "rootfsImage", c->config.image_id);
	json_set_string(j, "rootfsImageRef", o->image_ref);
	json_set_string(j, "rootfsImageName", o->image_name);
	json_set_string(j, "runtime", c->config.runtime);
	json_set_string(j, "createdTime", created);
	json_set_string(j, "checkpointedTime", now);
	json_set_string(j, "restoredTime", "0001-01-01T00:00:00Z");
	json_set_bool(j, "restored", false);
	return j;
}

static int dump(struct container *c, const struct checkpoint_options *o, const struct work *w,
		struct error *err)
{
	autofree char *images = path_join(w->dir, "checkpoint", NULL);
	autofree char *spec = path_join(c->e->config.state, "io.containerd.runtime.v2.task", c->ns,
					c->id, "config.json", NULL);
	unsigned ms = o->timeout > 0 ? (unsigned)MIN(o->timeout * 1000, (int64_t)DUMP_MS) : DUMP_MS;
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	struct json *document = json_load_at(AT_FDCWD, spec, SPEC_MAX, NULL);

	if (!t || task_checkpoint(t, images, c->config.tty, ms, err) < 0) {
		json_unref(document);
		return -1;
	}
	if (document && put_document(w, "spec.dump", document, err) < 0)
		return -1;
	return put_document(w, "config.dump", config_dump(c, o), err);
}

/* --- archives --- */

static int write_fd(void *arg, const void *p, size_t n, struct error *err)
{
	int r = fs_write_all(*(int *)arg, p, n);

	return r < 0 ? error_errno(err, -r, "write the checkpoint") : 0;
}

static int save_layer(struct engine *e, const char *ns, const char *id, const struct work *w,
		      struct error *err)
{
	CLEANUP(files_layer_close) struct files_layer layer = FILES_LAYER_INIT;
	autoclose int fd =
		openat(w->fd, "rootfs-diff.tar", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CLEANUP(packer_done)
	struct packer p = { .kind = PACK_OVERLAY, .layer = true, .write = write_fd, .arg = &fd };

	if (fd < 0)
		return error_errno(err, errno, "make '%s/rootfs-diff.tar'", w->dir);
	if (files_layer_open(e, ns, id, /* pause */ true, &layer, err) < 0)
		return -1;
	int r = layer.lower < 0 ? pack_directory(&p, layer.dir, "", err)
				: pack_difference(&p, layer.lower, layer.dir, err);
	return r < 0 ? -1 : pack_end(&p, err);
}

static int pack_log(struct packer *p, const char *path, struct error *err)
{
	autofree char *dir = NULL;
	const char *name = path_base(path ? path : "");

	if (str_empty(path) || str_empty(name))
		return 0;
	dir = xstrndup(path, (size_t)(name - path));
	autoclose int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || faccessat(fd, name, R_OK, 0) < 0)
		return 0;
	return pack_entry(p, fd, name, LOG_NAME, err);
}

static int save_archive(const struct work *w, const char *log, const char *location,
			struct error *err)
{
	autoclose int fd = open(w->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CLEANUP(packer_done)
	struct packer p = { .kind = PACK_PLAIN, .write = write_fd, .arg = &fd };

	if (fd < 0)
		return error_errno(err, errno, "make '%s'", w->part);
	if (pack_directory(&p, w->fd, "", err) < 0 || pack_log(&p, log, err) < 0 ||
	    pack_end(&p, err) < 0)
		return error_wrap(err, "write '%s'", location);
	if (fsync(fd) < 0 || rename(w->part, location) < 0)
		return error_errno(err, errno, "write '%s'", location);
	return 0;
}

/* While the container is locked; the rest can do without. */
static int dump_locked(struct engine *e, const char *ns, const char *id,
		       const struct checkpoint_options *o, struct work *w, char **ret_log,
		       struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);
	autofree char *criu = process_find("criu", NULL);

	if (!c)
		return -1;
	if (c->s.status != CONTAINER_RUNNING)
		return error_set(err, ERROR_FAILED_PRECONDITION, "container '%s' is not running",
				 c->id);
	if (!criu)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "checkpoints are not possible: criu is not installed");
	*ret_log = xstrdup(c->config.log_path);
	if (work_begin(w, o->location, err) < 0)
		return -1;
	return dump(c, o, w, err);
}

int engine_checkpoint(struct engine *e, const char *ns, const char *id,
		      const struct checkpoint_options *o, struct error *err)
{
	CLEANUP(work_done) struct work w = WORK_INIT;
	autofree char *log = NULL;

	if (dump_locked(e, ns, id, o, &w, &log, err) < 0 || save_layer(e, ns, id, &w, err) < 0 ||
	    save_archive(&w, log, o->location, err) < 0)
		return error_wrap(err, "checkpoint container '%s'", id);
	return 0;
}
