/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of the Task service, one function each. */

#include "base/mem.h"
#include "base/time.h"
#include "rpc/protobuf.h"
#include "task/internal.h"

#include "containerd.runc.v1.pb-c.h"
#include "containerd.task.v3.pb-c.h"

#include <string.h>

int task_call(struct task *t, const char *method, const ProtobufCMessage *request, int timeout_ms,
	      const ProtobufCMessageDescriptor *type, struct arena *arena, void *ret,
	      struct error *err)
{
	struct ttrpc_client *client = task_client(t, err);

	if (!client)
		return -1;
	ProtobufCMessage *m = NULL;
	int r = ttrpc_client_call(client, "containerd.task.v3.Task", method, request, timeout_ms,
				  type, arena, type ? &m : NULL, err);
	ttrpc_client_unref(client);
	if (r == 0 && type)
		*(ProtobufCMessage **)ret = m;
	return r;
}

/* protobuf-c's strings are not const, though requests only lend them. */
static char *lend(const char *s)
{
	return (char *)(s ? s : "");
}

static int64_t from_timestamp(const Google__Protobuf__Timestamp *ts)
{
	return ts && ts->seconds > 0 ? ts->seconds * NSEC_PER_SEC + ts->nanos : 0;
}

static Containerd__Types__Mount *mount_message(struct arena *arena, const struct mount *m)
{
	Containerd__Types__Mount *out = arena_new(arena, Containerd__Types__Mount);

	containerd__types__mount__init(out);
	out->type = lend(m->type);
	out->source = lend(m->source);
	out->target = lend(m->target);
	out->options = m->options.v;
	out->n_options = m->options.n;
	return out;
}

static Google__Protobuf__Any *any_message(struct arena *arena, const char *url, const void *p,
					  size_t n)
{
	Google__Protobuf__Any *any = arena_new(arena, Google__Protobuf__Any);

	google__protobuf__any__init(any);
	any->type_url = lend(url);
	any->value = (ProtobufCBinaryData){ .data = (uint8_t *)p, .len = n };
	return any;
}

static Google__Protobuf__Any *runtime_options(struct arena *arena, const struct task *t,
					      const struct task_create *r)
{
	Containerd__Runc__V1__Options o = CONTAINERD__RUNC__V1__OPTIONS__INIT;

	o.binary_name = lend(r->runtime);
	o.root = arena_printf(arena, "%s/" RUNTIME_DIR, t->m->config.state);
	o.systemd_cgroup = r->systemd_cgroup;
	ProtobufCBinaryData packed = protobuf_pack(arena, &o.base);
	return any_message(arena, "containerd.runc.v1.Options", packed.data, packed.len);
}

int task_create(struct task *t, const struct task_create *r, int *ret_pid, struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	Containerd__Task__V3__CreateTaskRequest request =
		CONTAINERD__TASK__V3__CREATE_TASK_REQUEST__INIT;
	Containerd__Task__V3__CreateTaskResponse *response = NULL;
	char filter[DIGEST_MAX];
	bool has_key = filter_key(r->runtime, r->spec, filter);
	bool learn = has_key && !filter_use(t->m, filter, r->spec);

	if (bundle_write_spec(t, r->spec, err) < 0 || bundle_write_mounts(t, r->mounts, err) < 0)
		return -1;
	request.id = t->id;
	request.bundle = t->bundle;
	request.n_rootfs = r->rootfs->n;
	request.rootfs = arena_alloc(&arena, (r->rootfs->n + 1) * sizeof(*request.rootfs));
	for (size_t i = 0; i < r->rootfs->n; i++)
		request.rootfs[i] = mount_message(&arena, &r->rootfs->v[i]);
	request.terminal = r->terminal;
	request.stdin = lend(r->stdin_uri);
	request.stdout = lend(r->stdout_uri);
	request.stderr = lend(r->stderr_uri);
	request.options = runtime_options(&arena, t, r);
	if (task_call(t, "Create", &request.base, SHIM_CREATE_MS,
		      &containerd__task__v3__create_task_response__descriptor, &arena, &response,
		      err) < 0)
		return -1;
	if (ret_pid)
		*ret_pid = (int)response->pid;
	process_watch(t, "");
	process_set_pid(t, "", (int)response->pid);
	if (learn)
		filter_learn(t, filter);
	return 0;
}

int task_start(struct task *t, const char *exec_id, int *ret_pid, struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	Containerd__Task__V3__StartRequest request = CONTAINERD__TASK__V3__START_REQUEST__INIT;
	Containerd__Task__V3__StartResponse *response = NULL;

	request.id = t->id;
	request.exec_id = lend(exec_id);
	if (task_call(t, "Start", &request.base, SHIM_CREATE_MS,
		      &containerd__task__v3__start_response__descriptor, &arena, &response,
		      err) < 0)
		return -1;
	process_set_pid(t, exec_id, (int)response->pid);
	if (ret_pid)
		*ret_pid = (int)response->pid;
	return 0;
}

int task_exec(struct task *t, const char *exec_id, const struct json *process, bool terminal,
	      const char *stdin_uri, const char *stdout_uri, const char *stderr_uri,
	      struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	autofree char *text = json_format(process, /* pretty */ false);
	Containerd__Task__V3__ExecProcessRequest request =
		CONTAINERD__TASK__V3__EXEC_PROCESS_REQUEST__INIT;

	request.id = t->id;
	request.exec_id = lend(exec_id);
	request.terminal = terminal;
	request.stdin = lend(stdin_uri);
	request.stdout = lend(stdout_uri);
	request.stderr = lend(stderr_uri);
	request.spec =
		any_message(&arena, "types.containerd.io/opencontainers/runtime-spec/1/Process",
			    text, strlen(text));
	if (task_call(t, "Exec", &request.base, SHIM_CALL_MS, NULL, NULL, NULL, err) < 0)
		return -1;
	process_watch(t, exec_id);
	return 0;
}

int task_kill(struct task *t, const char *exec_id, int signal, bool all, struct error *err)
{
	Containerd__Task__V3__KillRequest request = CONTAINERD__TASK__V3__KILL_REQUEST__INIT;

	request.id = t->id;
	request.exec_id = lend(exec_id);
	request.signal = (uint32_t)signal;
	request.all = all;
	return task_call(t, "Kill", &request.base, SHIM_CALL_MS, NULL, NULL, NULL, err);
}

int task_delete(struct task *t, const char *exec_id, struct task_exit *ret, struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	Containerd__Task__V3__DeleteRequest request = CONTAINERD__TASK__V3__DELETE_REQUEST__INIT;
	Containerd__Task__V3__DeleteResponse *response = NULL;

	request.id = t->id;
	request.exec_id = lend(exec_id);
	if (task_call(t, "Delete", &request.base, SHIM_CALL_MS,
		      &containerd__task__v3__delete_response__descriptor, &arena, &response,
		      err) < 0)
		return -1;
	process_drop(t, exec_id);
	if (exec_id[0] == '\0') {
		pthread_mutex_lock(&t->lock);
		t->deleted = true;
		pthread_mutex_unlock(&t->lock);
	}
	if (ret)
		*ret = (struct task_exit){
			.exec_id = exec_id,
			.pid = (int)response->pid,
			.status = response->exit_status,
			.exited_at = from_timestamp(response->exited_at),
		};
	return 0;
}

int task_resize(struct task *t, const char *exec_id, unsigned width, unsigned height,
		struct error *err)
{
	Containerd__Task__V3__ResizePtyRequest request =
		CONTAINERD__TASK__V3__RESIZE_PTY_REQUEST__INIT;

	request.id = t->id;
	request.exec_id = lend(exec_id);
	request.width = width;
	request.height = height;
	return task_call(t, "ResizePty", &request.base, SHIM_CALL_MS, NULL, NULL, NULL, err);
}

int task_close_stdin(struct task *t, const char *exec_id, struct error *err)
{
	Containerd__Task__V3__CloseIORequest request = CONTAINERD__TASK__V3__CLOSE_IOREQUEST__INIT;

	request.id = t->id;
	request.exec_id = lend(exec_id);
	request.stdin = true;
	return task_call(t, "CloseIO", &request.base, SHIM_CALL_MS, NULL, NULL, NULL, err);
}

int task_pause(struct task *t, struct error *err)
{
	Containerd__Task__V3__PauseRequest request = CONTAINERD__TASK__V3__PAUSE_REQUEST__INIT;

	request.id = t->id;
	return task_call(t, "Pause", &request.base, SHIM_CALL_MS, NULL, NULL, NULL, err);
}

int task_checkpoint(struct task *t, const char *path, bool tty, unsigned timeout_ms,
		    struct error *err)
{
	Containerd__Task__V3__CheckpointTaskRequest request =
		CONTAINERD__TASK__V3__CHECKPOINT_TASK_REQUEST__INIT;
	Containerd__Runc__V1__CheckpointOptions options =
		CONTAINERD__RUNC__V1__CHECKPOINT_OPTIONS__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	autoarena struct arena arena = ARENA_INIT;

	options.terminal = tty;
	options.file_locks = true;
	options.open_tcp = true;
	options.work_path = (char *)(uintptr_t)path;
	any.type_url = (char *)(uintptr_t) "containerd.runc.v1.CheckpointOptions";
	any.value = protobuf_pack(&arena, &options.base);
	request.id = t->id;
	request.path = (char *)(uintptr_t)path;
	request.options = &any;
	return task_call(t, "Checkpoint", &request.base, timeout_ms, NULL, NULL, NULL, err);
}

int task_resume(struct task *t, struct error *err)
{
	Containerd__Task__V3__ResumeRequest request = CONTAINERD__TASK__V3__RESUME_REQUEST__INIT;

	request.id = t->id;
	return task_call(t, "Resume", &request.base, SHIM_CALL_MS, NULL, NULL, NULL, err);
}

int task_update(struct task *t, const struct json *resources, struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	autofree char *text = json_format(resources, /* pretty */ false);
	Containerd__Task__V3__UpdateTaskRequest request =
		CONTAINERD__TASK__V3__UPDATE_TASK_REQUEST__INIT;

	request.id = t->id;
	request.resources = any_message(
		&arena, "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", text,
		strlen(text));
	return task_call(t, "Update", &request.base, SHIM_CALL_MS, NULL, NULL, NULL, err);
}

int task_state(struct task *t, const char *exec_id, struct task_state *ret, struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	Containerd__Task__V3__StateRequest request = CONTAINERD__TASK__V3__STATE_REQUEST__INIT;
	Containerd__Task__V3__StateResponse *response = NULL;

	request.id = t->id;
	request.exec_id = lend(exec_id);
	if (task_call(t, "State", &request.base, SHIM_LOAD_MS,
		      &containerd__task__v3__state_response__descriptor, &arena, &response,
		      err) < 0)
		return -1;
	*ret = (struct task_state){
		.status = (enum task_status)response->status,
		.pid = (int)response->pid,
		.exit_status = response->exit_status,
		.exited_at = from_timestamp(response->exited_at),
	};
	return 0;
}

void task_pids_done(struct task_pids *p)
{
	free(p->v);
	*p = (struct task_pids){ 0 };
}

int task_pids(struct task *t, struct task_pids *ret, struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	Containerd__Task__V3__PidsRequest request = CONTAINERD__TASK__V3__PIDS_REQUEST__INIT;
	Containerd__Task__V3__PidsResponse *response = NULL;

	request.id = t->id;
	if (task_call(t, "Pids", &request.base, SHIM_CALL_MS,
		      &containerd__task__v3__pids_response__descriptor, &arena, &response, err) < 0)
		return -1;
	*ret = (struct task_pids){ 0 };
	for (size_t i = 0; i < response->n_processes; i++) {
		GROW_ARRAY(ret->v, ret->n);
		ret->v[ret->n++] = (int)response->processes[i]->pid;
	}
	return 0;
}

int task_reopen_log(struct task *t, struct error *err)
{
	return attach_reopen_log(t->socket, t->id, err);
}

int task_attach(struct task *t, const struct attach_request *r, int client_fd, struct error *err)
{
	struct attach_request request = *r;

	request.id = t->id;
	return attach_client(t->socket, &request, client_fd, err);
}
