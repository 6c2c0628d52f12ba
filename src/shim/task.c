/* SPDX-License-Identifier: Apache-2.0 */
/* The Task service: decode, find, act or queue an operation. v2 and v3 share the handlers. */

#include "base/fs.h"
#include "base/mem.h"
#include "containerd.events.pb-c.h"
#include "containerd.runc.v1.pb-c.h"
#include "containerd.task.v2.pb-c.h"
#include "rpc/protobuf.h"
#include "shim/container.h"
#include "shim/events.h"

#include <signal.h>
#include <string.h>

static const int states[PROCESS_STATE_MAX] = {
	[PROCESS_CREATED] = CONTAINERD__V1__TYPES__STATUS__CREATED,
	[PROCESS_RUNNING] = CONTAINERD__V1__TYPES__STATUS__RUNNING,
	[PROCESS_STOPPED] = CONTAINERD__V1__TYPES__STATUS__STOPPED,
};

static void reply_empty(struct ttrpc_call *call)
{
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;

	ttrpc_call_reply(call, &empty.base);
}

/* The process that a request names; NULL: the call has been failed. */
static struct process *find(struct ttrpc_call *call, const char *id, const char *exec_id)
{
	autoerror struct error err = ERROR_INIT;
	struct container *c = container_find(id, &err);
	struct process *p = c ? container_process(c, exec_id, &err) : NULL;

	if (!p)
		ttrpc_call_fail(call, &err);
	return p;
}

#define fail(call, code, ...)                                 \
	do {                                                  \
		autoerror struct error fail_err = ERROR_INIT; \
                                                              \
		error_set(&fail_err, (code), __VA_ARGS__);    \
		ttrpc_call_fail((call), &fail_err);           \
	} while (0)

static void on_state(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__StateRequest *r = (const void *)m;
	Containerd__Task__V3__StateResponse reply = CONTAINERD__TASK__V3__STATE_RESPONSE__INIT;
	Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	const struct process *p = find(call, r->id, r->exec_id);

	if (!p)
		return;
	reply.id = p->container->id;
	reply.bundle = p->container->bundle;
	reply.pid = (uint32_t)MAX(p->pid, 0);
	reply.status = (Containerd__V1__Types__Status)states[p->state];
	if (p->state == PROCESS_RUNNING && p->container->paused)
		reply.status = CONTAINERD__V1__TYPES__STATUS__PAUSED;
	reply.stdin = p->in;
	reply.stdout = p->out;
	reply.stderr = p->err;
	reply.terminal = p->terminal;
	reply.exit_status = p->exit_status;
	if (p->exited_at) {
		timestamp_set(&when, p->exited_at);
		reply.exited_at = &when;
	}
	if (p->exec_id)
		reply.exec_id = p->exec_id;
	ttrpc_call_reply(call, &reply.base);
}

static void create(struct ttrpc_call *call, const Containerd__Task__V3__CreateTaskRequest *r)
{
	struct container *c = container_new(r->id, r->bundle);

	operation_queue(c, &c->init, create_run, call, r, "create");
}

static void on_create(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__CreateTaskRequest *r = (const void *)m;

	if (!path_component_valid(r->id))
		fail(call, ERROR_INVALID_ARGUMENT, "invalid container id '%s'", r->id);
	else if (r->bundle[0] != '/')
		fail(call, ERROR_INVALID_ARGUMENT, "bundle '%s' is not an absolute path",
		     r->bundle);
	else if (!str_empty(r->checkpoint))
		fail(call, ERROR_UNIMPLEMENTED, "cannot restore container '%s' from a checkpoint",
		     r->id);
	else if (shim.leaving)
		fail(call, ERROR_UNAVAILABLE, "shim is leaving, no container '%s'", r->id);
	else if (map_get(&shim.containers, r->id))
		fail(call, ERROR_ALREADY_EXISTS, "container '%s': already exists", r->id);
	else
		create(call, r);
}

static void on_start(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__StartRequest *r = (const void *)m;
	struct process *p = find(call, r->id, r->exec_id);

	if (!p)
		return;
	if (p->exec_id)
		operation_start(p->container, p, exec_start_run, call, r, "exec");
	else
		operation_queue(p->container, p, start_run, call, r, "start");
}

static void delete_exec(struct ttrpc_call *call, struct process *p)
{
	Containerd__Task__V3__DeleteResponse reply = CONTAINERD__TASK__V3__DELETE_RESPONSE__INIT;
	Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	if (p->busy || p->state == PROCESS_RUNNING) {
		fail(call, ERROR_FAILED_PRECONDITION, "exec '%s' is still running", p->exec_id);
		return;
	}
	timestamp_set(&when, p->exited_at);
	reply.pid = (uint32_t)MAX(p->pid, 0);
	reply.exit_status = p->exit_status;
	reply.exited_at = &when;
	exec_free(p);
	ttrpc_call_reply(call, &reply.base);
}

static void on_delete(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__DeleteRequest *r = (const void *)m;
	struct process *p = find(call, r->id, r->exec_id);

	if (!p)
		return;
	if (p->exec_id)
		delete_exec(call, p);
	else
		operation_queue(p->container, p, delete_run, call, r, "delete");
}

/* Tells which of the pids is an exec's. */
static void describe(const struct container *c, struct arena *a,
		     Containerd__V1__Types__ProcessInfo *i)
{
	LIST_FOREACH (p, &c->execs, struct process, node) {
		Containerd__Runc__V1__ProcessDetails d =
			CONTAINERD__RUNC__V1__PROCESS_DETAILS__INIT;

		if ((uint32_t)p->pid != i->pid || p->ended)
			continue;
		i->info = arena_new(a, Google__Protobuf__Any);
		google__protobuf__any__init(i->info);
		d.exec_id = p->exec_id;
		i->info->type_url = arena_strdup(a, d.base.descriptor->name);
		i->info->value = protobuf_pack(a, &d.base);
	}
}

static void on_pids(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__PidsRequest *r = (const void *)m;
	Containerd__Task__V3__PidsResponse reply = CONTAINERD__TASK__V3__PIDS_RESPONSE__INIT;
	struct arena *a = ttrpc_call_arena(call);
	const struct process *p = find(call, r->id, NULL);
	autofree pid_t *pids = NULL;
	size_t n = 0;

	if (!p)
		return;
	/* A container that has ended has none; its cgroup may be gone. */
	if (p->container->cgroup && !p->ended)
		cgroup_pids(p->container->cgroup, &pids, &n, NULL);
	reply.processes = arena_alloc(a, (n + 1) * sizeof(*reply.processes));
	for (size_t i = 0; i < n; i++) {
		reply.processes[i] = arena_new(a, Containerd__V1__Types__ProcessInfo);
		containerd__v1__types__process_info__init(reply.processes[i]);
		reply.processes[i]->pid = (uint32_t)pids[i];
		describe(p->container, a, reply.processes[i]);
	}
	reply.n_processes = n;
	ttrpc_call_reply(call, &reply.base);
}

static void queue_simple(struct ttrpc_call *call, const char *id, const void *request,
			 const char *verb)
{
	struct process *p = find(call, id, NULL);

	if (p)
		operation_queue(p->container, NULL, simple_run, call, request, verb);
}

static void on_pause(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	queue_simple(call, ((const Containerd__Task__V3__PauseRequest *)m)->id, m, "pause");
}

static void on_resume(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	queue_simple(call, ((const Containerd__Task__V3__ResumeRequest *)m)->id, m, "resume");
}

static void on_checkpoint(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	queue_simple(call, ((const Containerd__Task__V3__CheckpointTaskRequest *)m)->id, m,
		     "checkpoint");
}

static void on_update(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	queue_simple(call, ((const Containerd__Task__V3__UpdateTaskRequest *)m)->id, m, "update");
}

static void on_kill(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__KillRequest *r = (const void *)m;
	autoerror struct error err = ERROR_INIT;
	struct process *p = find(call, r->id, r->exec_id);

	if (!p)
		return;
	if (r->all && !p->exec_id && !p->ended) {
		operation_queue(p->container, NULL, simple_run, call, r, "kill");
		return;
	}
	if (process_kill(p, (int)r->signal, &err) < 0) {
		ttrpc_call_fail(call, &err);
		return;
	}
	/* A frozen process cannot even die. */
	if (r->signal == SIGKILL && p->container->paused)
		operation_queue(p->container, NULL, simple_run, NULL, NULL, "resume");
	reply_empty(call);
}

static void publish_exec_added(const struct process *p)
{
	Containerd__Events__TaskExecAdded e = CONTAINERD__EVENTS__TASK_EXEC_ADDED__INIT;

	e.container_id = p->container->id;
	e.exec_id = p->exec_id;
	event_publish("/tasks/exec-added", &e.base);
}

static void on_exec(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__ExecProcessRequest *r = (const void *)m;
	autoerror struct error err = ERROR_INIT;
	struct process *init = find(call, r->id, NULL);

	if (!init)
		return;
	struct container *c = init->container;
	if (!path_component_valid(r->exec_id) || strlen(r->exec_id) > 128) {
		fail(call, ERROR_INVALID_ARGUMENT, "invalid exec id '%s'", r->exec_id);
		return;
	}
	if (container_process(c, r->exec_id, NULL)) {
		fail(call, ERROR_ALREADY_EXISTS, "exec '%s': already exists", r->exec_id);
		return;
	}
	if (init->state == PROCESS_STOPPED) {
		fail(call, ERROR_FAILED_PRECONDITION, "container '%s' is not running", c->id);
		return;
	}
	if (!r->spec) {
		fail(call, ERROR_INVALID_ARGUMENT, "no process spec for exec '%s'", r->exec_id);
		return;
	}
	const struct streams_spec spec = {
		.ns = shim.ns,
		.id = c->id,
		.in = r->stdin,
		.out = r->stdout,
		.err = r->stderr,
		.terminal = r->terminal,
		.uid = c->runtime.io_uid,
		.gid = c->runtime.io_gid,
	};
	struct streams *io;
	if (streams_new(shim.loop, &spec, &io, &err) < 0) {
		ttrpc_call_fail(call, &err);
		return;
	}
	struct process *p = exec_new(c, r->exec_id);
	p->io = io;
	p->terminal = r->terminal;
	p->in = xstrdup(r->stdin);
	p->out = xstrdup(r->stdout);
	p->err = xstrdup(r->stderr);
	p->spec = xmemdup(r->spec->value.data, r->spec->value.len);
	p->spec_len = r->spec->value.len;
	publish_exec_added(p);
	reply_empty(call);
}

static void on_resize_pty(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__ResizePtyRequest *r = (const void *)m;
	autoerror struct error err = ERROR_INIT;
	struct process *p = find(call, r->id, r->exec_id);

	if (!p)
		return;
	if (!p->io)
		fail(call, ERROR_FAILED_PRECONDITION, "process '%s' has ended", process_id(p));
	else if (streams_resize(p->io, r->width, r->height, &err) < 0)
		ttrpc_call_fail(call, &err);
	else
		reply_empty(call);
}

static void on_close_io(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__CloseIORequest *r = (const void *)m;
	struct process *p = find(call, r->id, r->exec_id);

	if (!p)
		return;
	if (r->stdin && p->io)
		streams_close_stdin(p->io);
	reply_empty(call);
}

static void on_wait(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__WaitRequest *r = (const void *)m;
	struct process *p = find(call, r->id, r->exec_id);

	if (p)
		process_add_waiter(p, call);
}

static void on_stats(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__StatsRequest *r = (const void *)m;
	Containerd__Task__V3__StatsResponse reply = CONTAINERD__TASK__V3__STATS_RESPONSE__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	const struct process *p = find(call, r->id, NULL);

	if (!p)
		return;
	if (!p->container->cgroup) {
		fail(call, ERROR_FAILED_PRECONDITION, "container '%s' has no cgroup", r->id);
		return;
	}
	cgroup_stats(p->container->cgroup, ttrpc_call_arena(call), &any);
	reply.stats = &any;
	ttrpc_call_reply(call, &reply.base);
}

static void on_connect(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__ConnectRequest *r = (const void *)m;
	Containerd__Task__V3__ConnectResponse reply = CONTAINERD__TASK__V3__CONNECT_RESPONSE__INIT;
	const struct container *c = map_get(&shim.containers, r->id);
	char version[] = KISTL_VERSION;

	reply.shim_pid = (uint32_t)getpid();
	reply.task_pid = c ? (uint32_t)MAX(c->init.pid, 0) : 0;
	reply.version = version;
	ttrpc_call_reply(call, &reply.base);
}

static void on_shutdown(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	bool now = ((const Containerd__Task__V3__ShutdownRequest *)m)->now;

	reply_empty(call);
	if (shim.containers.n == 0 || now)
		shim_leave();
}

/* In the order of the service's definition. */
static const ttrpc_handler handlers[] = {
	on_state,  on_create,	  on_start, on_delete,	on_pids,       on_pause,
	on_resume, on_checkpoint, on_kill,  on_exec,	on_resize_pty, on_close_io,
	on_update, on_wait,	  on_stats, on_connect, on_shutdown,
};

const struct ttrpc_service task_v3 = { &containerd__task__v3__task__descriptor, handlers, NULL };
const struct ttrpc_service task_v2 = { &containerd__task__v2__task__descriptor, handlers, NULL };
