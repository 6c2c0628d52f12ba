/* SPDX-License-Identifier: Apache-2.0 */
/* Create, start and delete of a container, each in the steps between two runs of the runtime. */

#include "shim/container.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/mount.h"
#include "containerd.events.pb-c.h"
#include "shim/bundle-mounts.h"
#include "shim/events.h"
#include "shim/mountns.h"
#include "shim/reaper.h"

#include <string.h>
#include <sys/mount.h>

/* Mounts of the rootfs, and others of the bundle */

/* Of a pod's reaper: its mounts are the pod's. */
static bool has_pods_mounts(const struct container *c)
{
	return shim.has_mounts && str_equal(c->id, shim.id);
}

/* The shim may be much older than it. */
static bool in_pod(const struct container *c)
{
	return !str_equal(c->id, shim.id);
}

static int attach_rootfs(const struct container *c, struct mounts *mounts, const char *target,
			 struct error *err)
{
	autofree char *scratch = path_join(c->bundle, "layers", NULL);

	if (mounts_idmap_layers(mounts, scratch, err) < 0)
		return -1;
	int r = mounts_attach(mounts, target, err);
	mount_detach_all(scratch, MNT_DETACH, NULL);
	rmdir(scratch);
	return r;
}

static int mount_rootfs(struct container *c, const Containerd__Task__V3__CreateTaskRequest *r,
			struct error *err)
{
	automounts struct mounts mounts = MOUNTS_INIT;
	autofree char *target = path_join(c->bundle, "rootfs", NULL);
	autofree char *own = getcwd(NULL, 0);
	autofree char *shared = path_join(own ? own : "/", "mounts", NULL);

	if (r->n_rootfs == 0)
		return 0;
	for (size_t i = 0; i < r->n_rootfs; i++) {
		const Containerd__Types__Mount *m = r->rootfs[i];
		struct mount *to = mounts_add(&mounts, m->type, m->source, m->target);

		for (size_t k = 0; k < m->n_options; k++)
			strv_push(&to->options, m->options[k]);
	}
	int rc = fs_mkdir_p(target, 0711);
	if (rc < 0)
		return error_errno(err, -rc, "make '%s'", target);
	if (in_pod(c) && mountns_refresh(shared, shim.pods, err) < 0)
		return -1;
	if (mountns_shield(c->bundle, err) < 0 || attach_rootfs(c, &mounts, target, err) < 0)
		return -1;
	return has_pods_mounts(c) ? 0 : bundle_mounts_attach(c->bundle, err);
}

static void unmount_rootfs(const struct container *c)
{
	autoerror struct error err = ERROR_INIT;
	autofree char *target = path_join(c->bundle, "rootfs", NULL);

	if (mount_detach_all(target, MNT_DETACH, &err) < 0)
		log_warn("%s, ignoring", error_msg(&err));
	if (!has_pods_mounts(c))
		bundle_mounts_detach(c->bundle);
}

/* Create */

static char *pid_file(const struct container *c)
{
	return path_join(c->bundle, "init.pid", NULL);
}

static void create_undone(const struct error *failure UNUSED, void *arg)
{
	struct operation *op = arg;
	autoerror struct error err = ERROR_INIT;

	error_move(&err, &op->failure);
	unmount_rootfs(op->container);
	op->container->removed = true;
	operation_fail(op, &err);
}

static void create_undo(struct operation *op, const struct error *err)
{
	struct container *c = op->container;
	autostrv struct strv args = STRV_INIT;

	error_set(&op->failure, err->code, "%s", error_msg(err));
	if (!c->created) {
		create_undone(NULL, op);
		return;
	}
	strv_push(&args, "delete");
	strv_push(&args, "--force");
	strv_push(&args, c->id);
	operation_runtime(op, &args, create_undone);
}

static void publish_create(const struct container *c,
			   const Containerd__Task__V3__CreateTaskRequest *r)
{
	Containerd__Events__TaskCreate e = CONTAINERD__EVENTS__TASK_CREATE__INIT;
	Containerd__Events__TaskIO io = CONTAINERD__EVENTS__TASK_IO__INIT;

	io.stdin = r->stdin;
	io.stdout = r->stdout;
	io.stderr = r->stderr;
	io.terminal = r->terminal;
	e.container_id = c->id;
	e.bundle = c->bundle;
	e.n_rootfs = r->n_rootfs;
	e.rootfs = r->rootfs;
	e.io = &io;
	e.checkpoint = r->checkpoint;
	e.pid = (uint32_t)c->init.pid;
	event_publish("/tasks/create", &e.base);
}

static int take_terminal(struct process *p, struct error *err)
{
	int master = console_take(p);

	if (!p->terminal)
		return 0;
	if (master < 0)
		return error_set(err, ERROR_INTERNAL, "the OCI runtime sent no terminal");
	streams_set_console(p->io, master);
	return 0;
}

static void create_ran(const struct error *failure, void *arg)
{
	struct operation *op = arg;
	struct container *c = op->container;
	autoerror struct error err = ERROR_INIT;
	autofree char *path = pid_file(c);
	bool ok = !failure && process_started(&c->init, path, &err) == 0;

	reaper_release();
	c->created = !failure;
	if (take_terminal(&c->init, ok ? &err : NULL) < 0)
		ok = false;
	if (!ok) {
		create_undo(op, failure ? failure : &err);
		return;
	}
	c->init.busy = false;
	streams_running(c->init.io);
	/* It may have failed to live so long; then there is no cgroup to look at any more. */
	cgroup_open(c->init.pid, &c->cgroup, NULL);
	publish_create(c, op->request);
	process_settle(&c->init);

	Containerd__Task__V3__CreateTaskResponse reply =
		CONTAINERD__TASK__V3__CREATE_TASK_RESPONSE__INIT;
	reply.pid = (uint32_t)c->init.pid;
	operation_reply(op, &reply.base);
}

static void create_opened(const struct error *failure, void *arg)
{
	struct operation *op = arg;
	struct container *c = op->container;
	autoerror struct error err = ERROR_INIT;
	autostrv struct strv args = STRV_INIT;
	autofree char *path = pid_file(c);
	autofree char *console = NULL;

	if (failure || (c->init.terminal && console_listen(&c->init, &console, &err) < 0)) {
		create_undo(op, failure ? failure : &err);
		return;
	}
	unlink(path);
	strv_push(&args, "create");
	strv_push(&args, "--bundle");
	strv_push(&args, c->bundle);
	strv_push(&args, "--pid-file");
	strv_push(&args, path);
	if (console) {
		strv_push(&args, "--console-socket");
		strv_push(&args, console);
	}
	if (c->runtime.no_pivot_root)
		strv_push(&args, "--no-pivot");
	if (c->runtime.no_new_keyring)
		strv_push(&args, "--no-new-keyring");
	strv_push(&args, c->id);
	c->init.starting = true;
	reaper_hold();
	operation_runtime(op, &args, create_ran);
}

void create_run(struct operation *op)
{
	const Containerd__Task__V3__CreateTaskRequest *r = op->request;
	struct container *c = op->container;
	struct process *p = &c->init;
	autoerror struct error err = ERROR_INIT;

	p->busy = true;
	p->terminal = r->terminal;
	p->in = xstrdup(r->stdin);
	p->out = xstrdup(r->stdout);
	p->err = xstrdup(r->stderr);
	if (runtime_init(&c->runtime, shim.ns, r->options, &err) < 0) {
		create_undo(op, &err);
		return;
	}
	const struct streams_spec spec = {
		.ns = shim.ns,
		.id = c->id,
		.in = p->in,
		.out = p->out,
		.err = p->err,
		.terminal = p->terminal,
		.uid = c->runtime.io_uid,
		.gid = c->runtime.io_gid,
	};
	if (runtime_save(&c->runtime, c->bundle, &err) < 0 ||
	    streams_new(shim.loop, &spec, &p->io, &err) < 0 || mount_rootfs(c, r, &err) < 0) {
		create_undo(op, &err);
		return;
	}
	streams_open(p->io, create_opened, op);
}

/* Start */

static void start_ran(const struct error *failure, void *arg)
{
	struct operation *op = arg;
	struct container *c = op->container;
	Containerd__Events__TaskStart e = CONTAINERD__EVENTS__TASK_START__INIT;
	Containerd__Task__V3__StartResponse reply = CONTAINERD__TASK__V3__START_RESPONSE__INIT;

	if (failure) {
		process_settle(&c->init);
		operation_fail(op, failure);
		return;
	}
	if (c->init.state == PROCESS_CREATED)
		c->init.state = PROCESS_RUNNING;
	process_watch_oom(c);
	e.container_id = c->id;
	e.pid = (uint32_t)c->init.pid;
	event_publish("/tasks/start", &e.base);
	process_settle(&c->init);
	reply.pid = (uint32_t)c->init.pid;
	operation_reply(op, &reply.base);
}

void start_run(struct operation *op)
{
	struct container *c = op->container;
	autoerror struct error err = ERROR_INIT;
	autostrv struct strv args = STRV_INIT;

	if (c->init.state != PROCESS_CREATED) {
		error_set(&err, ERROR_FAILED_PRECONDITION,
			  "container '%s' has been started already", c->id);
		operation_fail(op, &err);
		return;
	}
	strv_push(&args, "start");
	strv_push(&args, c->id);
	c->init.starting = true;
	operation_runtime(op, &args, start_ran);
}

/* Delete */

static void publish_delete(const struct container *c, Google__Protobuf__Timestamp *when)
{
	Containerd__Events__TaskDelete e = CONTAINERD__EVENTS__TASK_DELETE__INIT;

	e.container_id = c->id;
	e.id = c->id;
	e.pid = (uint32_t)c->init.pid;
	e.exit_status = c->init.exit_status;
	e.exited_at = when;
	event_publish("/tasks/delete", &e.base);
}

static bool is_gone(const struct error *err)
{
	static const char *const texts[] = { "does not exist", "No such file or directory" };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (strstr(error_msg(err), texts[i]))
			return true;
	return false;
}

static void delete_ran(const struct error *failure, void *arg)
{
	struct operation *op = arg;
	struct container *c = op->container;
	Containerd__Task__V3__DeleteResponse reply = CONTAINERD__TASK__V3__DELETE_RESPONSE__INIT;
	Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	if (failure && !is_gone(failure)) {
		operation_fail(op, failure);
		return;
	}
	unmount_rootfs(c);
	timestamp_set(&when, c->init.exited_at);
	publish_delete(c, &when);
	reply.pid = (uint32_t)c->init.pid;
	reply.exit_status = c->init.exit_status;
	reply.exited_at = &when;
	c->removed = true;
	operation_reply(op, &reply.base);
}

void delete_run(struct operation *op)
{
	struct container *c = op->container;
	autoerror struct error err = ERROR_INIT;
	autostrv struct strv args = STRV_INIT;

	if (c->init.state == PROCESS_RUNNING) {
		error_set(&err, ERROR_FAILED_PRECONDITION, "container '%s' is still running",
			  c->id);
		operation_fail(op, &err);
		return;
	}
	/* An exec that is being started still points here; it will fail soon. */
	LIST_FOREACH (p, &c->execs, struct process, node)
		op->blocked |= p->busy;
	if (op->blocked)
		return;
	strv_push(&args, "delete");
	strv_push(&args, "--force");
	strv_push(&args, c->id);
	operation_runtime(op, &args, delete_ran);
}
