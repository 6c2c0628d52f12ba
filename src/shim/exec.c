/* SPDX-License-Identifier: Apache-2.0 */
/* Starting an exec, and the operations that are one run of the runtime and no more. */

#include "shim/container.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "containerd.events.pb-c.h"
#include "containerd.runc.v1.pb-c.h"
#include "rpc/protobuf.h"
#include "shim/events.h"
#include "shim/reaper.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define SPEC_MAX ((size_t)1 << 20)

/* exec ids are checked to be a path component. */
static char *exec_file(const struct process *p, const char *suffix)
{
	autofree char *name = xasprintf("exec-%s.%s", p->exec_id, suffix);

	return path_join(p->container->bundle, name, NULL);
}

static void remove_files(const struct process *p)
{
	static const char *const suffixes[] = { "json", "pid", "log" };

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		autofree char *path = exec_file(p, suffixes[i]);

		unlink(path);
	}
}

/* A failed start leaves a stopped process, whose Delete gives the code that a shell would. */
static void exec_failed(struct operation *op, const struct error *err)
{
	struct process *p = op->process;

	remove_files(p);
	p->busy = p->starting = false;
	p->state = PROCESS_STOPPED;
	p->ended = p->told = true;
	p->exit_status = 255;
	streams_free(TAKE_PTR(p->io));
	operation_fail(op, err);
}

static void exec_ran(const struct error *failure, void *arg)
{
	struct operation *op = arg;
	struct process *p = op->process;
	autoerror struct error err = ERROR_INIT;
	autofree char *path = exec_file(p, "pid");
	Containerd__Events__TaskExecStarted e = CONTAINERD__EVENTS__TASK_EXEC_STARTED__INIT;
	Containerd__Task__V3__StartResponse reply = CONTAINERD__TASK__V3__START_RESPONSE__INIT;
	bool ok = !failure && process_started(p, path, &err) == 0;
	int master = console_take(p);

	reaper_release();
	if (ok && p->terminal && master < 0) {
		error_set(&err, ERROR_INTERNAL, "the OCI runtime sent no terminal");
		process_kill(p, 9, NULL);
		ok = false;
	}
	if (!ok) {
		if (master >= 0)
			close(master);
		exec_failed(op, failure ? failure : &err);
		return;
	}
	remove_files(p);
	p->busy = false;
	p->state = PROCESS_RUNNING;
	if (p->terminal)
		streams_set_console(p->io, master);
	streams_running(p->io);
	e.container_id = op->container->id;
	e.exec_id = p->exec_id;
	e.pid = (uint32_t)p->pid;
	event_publish("/tasks/exec-started", &e.base);
	process_settle(p);
	reply.pid = (uint32_t)p->pid;
	operation_reply(op, &reply.base);
}

/* A terminal's size is set before the process can ask for it: the runtime does that if told. */
static int write_spec(struct process *p, const char *path, struct error *err)
{
	unsigned width, height;
	autofree char *text = NULL;

	if (p->terminal && streams_size(p->io, &width, &height)) {
		autojson struct json *j = json_parse(p->spec, p->spec_len, SPEC_MAX, err);
		struct json *size = json_new_object();

		json_set_uint(size, "width", width);
		json_set_uint(size, "height", height);
		if (!j) {
			json_unref(size);
			return error_wrap(err, "spec of exec '%s'", p->exec_id);
		}
		json_set(j, "consoleSize", size);
		text = json_format(j, /* pretty= */ false);
	}
	int r = fs_write_atomic(AT_FDCWD, path, text ? text : p->spec,
				text ? strlen(text) : p->spec_len, 0600, /* sync= */ false);
	return r < 0 ? error_errno(err, -r, "write '%s'", path) : 0;
}

static void exec_opened(const struct error *failure, void *arg)
{
	struct operation *op = arg;
	struct process *p = op->process;
	autoerror struct error err = ERROR_INIT;
	autostrv struct strv args = STRV_INIT;
	autofree char *spec = exec_file(p, "json");
	autofree char *pid = exec_file(p, "pid");
	autofree char *console = NULL;

	if (failure || (p->terminal && console_listen(p, &console, &err) < 0)) {
		exec_failed(op, failure ? failure : &err);
		return;
	}
	if (write_spec(p, spec, &err) < 0) {
		exec_failed(op, &err);
		return;
	}
	op->log = exec_file(p, "log");
	strv_push(&args, "exec");
	strv_push(&args, "--process");
	strv_push(&args, spec);
	strv_push(&args, "--pid-file");
	strv_push(&args, pid);
	strv_push(&args, "--detach");
	if (console) {
		strv_push(&args, "--console-socket");
		strv_push(&args, console);
	}
	strv_push(&args, op->container->id);
	reaper_hold();
	operation_runtime(op, &args, exec_ran);
}

void exec_start_run(struct operation *op)
{
	struct process *p = op->process;
	autoerror struct error err = ERROR_INIT;

	if (p->state != PROCESS_CREATED || p->busy) {
		error_set(&err, ERROR_FAILED_PRECONDITION, "exec '%s' has been started already",
			  p->exec_id);
		operation_fail(op, &err);
		return;
	}
	if (op->container->init.state != PROCESS_RUNNING) {
		error_set(&err, ERROR_FAILED_PRECONDITION, "container '%s' is not running",
			  op->container->id);
		operation_fail(op, &err);
		return;
	}
	p->busy = p->starting = true;
	streams_open(p->io, exec_opened, op);
}

/* One run of the runtime */

static void publish_paused(const struct container *c)
{
	Containerd__Events__TaskPaused e = CONTAINERD__EVENTS__TASK_PAUSED__INIT;

	e.container_id = c->id;
	event_publish("/tasks/paused", &e.base);
}

static void publish_resumed(const struct container *c)
{
	Containerd__Events__TaskResumed e = CONTAINERD__EVENTS__TASK_RESUMED__INIT;

	e.container_id = c->id;
	event_publish("/tasks/resumed", &e.base);
}

static void publish_checkpointed(const struct container *c, const char *path)
{
	Containerd__Events__TaskCheckpointed e = CONTAINERD__EVENTS__TASK_CHECKPOINTED__INIT;

	e.container_id = c->id;
	e.checkpoint = (char *)(uintptr_t)path;
	event_publish("/tasks/checkpointed", &e.base);
}

static void simple_ran(const struct error *failure, void *arg)
{
	struct operation *op = arg;
	struct container *c = op->container;
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;

	if (failure) {
		operation_fail(op, failure);
		return;
	}
	if (str_equal(op->verb, "pause")) {
		c->paused = true;
		publish_paused(c);
	} else if (str_equal(op->verb, "resume")) {
		c->paused = false;
		publish_resumed(c);
	} else if (str_equal(op->verb, "checkpoint")) {
		const Containerd__Task__V3__CheckpointTaskRequest *r = op->request;

		publish_checkpointed(c, r->path);
	}
	operation_reply(op, &empty.base);
}

static int update_args(struct operation *op, struct strv *args, struct error *err)
{
	const Containerd__Task__V3__UpdateTaskRequest *r = op->request;
	autofree char *path = path_join(op->container->bundle, "resources.json", NULL);

	if (!r->resources)
		return error_set(err, ERROR_INVALID_ARGUMENT, "update without resources");
	int rc = fs_write_atomic(AT_FDCWD, path, r->resources->value.data, r->resources->value.len,
				 0600, /* sync= */ false);
	if (rc < 0)
		return error_errno(err, -rc, "write '%s'", path);
	strv_push(args, "--resources");
	strv_push(args, path);
	return 0;
}

static int checkpoint_args(struct operation *op, struct strv *args, struct error *err)
{
	const Containerd__Task__V3__CheckpointTaskRequest *r = op->request;
	Containerd__Runc__V1__CheckpointOptions none =
		CONTAINERD__RUNC__V1__CHECKPOINT_OPTIONS__INIT;
	const Containerd__Runc__V1__CheckpointOptions *o = &none;
	ProtobufCMessage *m = NULL;

	if (r->options && r->options->value.len > 0) {
		if (protobuf_unpack(ttrpc_call_arena(op->call),
				    &containerd__runc__v1__checkpoint_options__descriptor,
				    r->options->value.data, r->options->value.len, &m, err) < 0)
			return -1;
		o = (const Containerd__Runc__V1__CheckpointOptions *)m;
	}
	const struct {
		bool on;
		const char *flag;
	} flags[] = {
		{ !o->exit, "--leave-running" },
		{ o->open_tcp, "--tcp-established" },
		{ o->external_unix_sockets, "--ext-unix-sk" },
		{ o->terminal, "--shell-job" },
		{ o->file_locks, "--file-locks" },
	};
	strv_push(args, "--image-path");
	strv_push(args, str_empty(o->image_path) ? r->path : o->image_path);
	if (!str_empty(o->work_path)) {
		strv_push(args, "--work-path");
		strv_push(args, o->work_path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (flags[i].on)
			strv_push(args, flags[i].flag);
	return 0;
}

void simple_run(struct operation *op)
{
	struct container *c = op->container;
	autoerror struct error err = ERROR_INIT;
	autostrv struct strv args = STRV_INIT;
	int r = 0;

	strv_push(&args, op->verb);
	if (c->init.state == PROCESS_STOPPED)
		r = error_set(&err, ERROR_NOT_FOUND, "process already finished: not found");
	else if (str_equal(op->verb, "update"))
		r = update_args(op, &args, &err);
	else if (str_equal(op->verb, "checkpoint"))
		r = checkpoint_args(op, &args, &err);
	else if (str_equal(op->verb, "kill"))
		strv_push(&args, "--all");
	if (r < 0) {
		operation_fail(op, &err);
		return;
	}
	strv_push(&args, c->id);
	if (str_equal(op->verb, "kill")) {
		const Containerd__Task__V3__KillRequest *k = op->request;

		strv_push_printf(&args, "%u", k->signal);
	}
	operation_runtime(op, &args, simple_ran);
}
