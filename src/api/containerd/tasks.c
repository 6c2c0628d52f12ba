/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks: each call goes to the shim of its container. Kistl's own shim stands behind containerd's
 * runtime names; the OCI runtime is the one that the options name, crun otherwise.
 */
#include "api/containerd/internal.h"

#include "api/containerd/task-table.h"
#include "base/mem.h"
#include "base/time.h"
#include "rpc/protobuf.h"
#include "store/containers.h"

#include "containerd.runc.v1.pb-c.h"
#include "containerd.services.tasks.v1.pb-c.h"
#include "containerd.v1.types.pb-c.h"

#include <string.h>

#define SPEC_MAX (16 << 20)

typedef Containerd__V1__Types__Process process_message;

struct found {
	struct store_ctx ctx;
	struct api_task *task;
};

static void found_done(struct found *f)
{
	api_task_unref(f->task);
}

#define AUTO_FOUND CLEANUP(found_done)

static int find(struct grpc_call *c, const char *id, struct found *ret, struct error *err)
{
	if (ctrd_ctx(c, &ret->ctx, err) < 0)
		return -1;
	ret->task = task_table_find(ctrd_of(c)->tasks, ret->ctx.ns, id, err);
	return ret->task ? 0 : -1;
}

/* --- create --- */

/* "io.containerd.NAME.vN": Kistl's shim with the OCI runtime of that name; runc's and our own name
 * stand for the default one. malloc'ed; NULL for others. */
static char *runtime_name(const char *type)
{
	static const char prefix[] = "io.containerd.";
	const char *name = str_has_prefix(type, prefix) ? type + strlen(prefix) : NULL;
	const char *dot = name ? strchr(name, '.') : NULL;

	if (!dot || dot == name || dot[1] != 'v')
		return NULL;
	size_t n = (size_t)(dot - name);
	bool generic = strncmp(name, "runc.", n + 1) == 0 || strncmp(name, "kistl.", n + 1) == 0;
	return generic ? xstrdup("") : xstrndup(name, n);
}

static const char *runtime_path(struct grpc_call *c, const char *name)
{
	const struct containerd_config *config = &ctrd_of(c)->config;

	return name[0] == '/' ? name : config->runtime(config->runtime_arg, name);
}

static int runtime_of(struct grpc_call *c, const struct container_record *r,
		      const Google__Protobuf__Any *options, struct task_create *ret,
		      struct error *err)
{
	autofree char *name = runtime_name(r->runtime);
	ProtobufCMessage *m = NULL;

	if (name && options && str_equal(options->type_url, "containerd.runc.v1.Options")) {
		if (protobuf_unpack(grpc_call_arena(c), &containerd__runc__v1__options__descriptor,
				    options->value.data, options->value.len, &m, err) < 0)
			return -1;
		const Containerd__Runc__V1__Options *o = (const Containerd__Runc__V1__Options *)m;
		if (!str_empty(o->binary_name))
			str_replace(&name, o->binary_name);
		ret->systemd_cgroup = o->systemd_cgroup;
	}
	const char *path = name ? runtime_path(c, name) : NULL;
	if (!path)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "runtime '%.128s'%s%.128s is not known: foreign shims are not "
				 "served, OCI runtimes are configured by name",
				 r->runtime, name && *name ? " with binary " : "",
				 name ? name : "");
	ret->runtime = message_text(grpc_call_arena(c), path);
	return 0;
}

static int load_spec(const struct container_record *r, struct json **ret, struct error *err)
{
	if (str_empty(r->spec))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "container '%s' has no runtime specification", r->id);
	*ret = json_parse(r->spec, strlen(r->spec), SPEC_MAX, err);
	return *ret ? 0 : error_wrap(err, "specification of container '%s'", r->id);
}

static const char *given(const char *s)
{
	return str_empty(s) ? NULL : s;
}

static int start_shim(struct grpc_call *c, const struct store_ctx *ctx, const struct task_create *r,
		      const char *id, int *ret_pid, struct error *err)
{
	struct task_table *table = ctrd_of(c)->tasks;
	const struct task_streams streams = {
		.in = (char *)(uintptr_t)r->stdin_uri,
		.out = (char *)(uintptr_t)r->stdout_uri,
		.err = (char *)(uintptr_t)r->stderr_uri,
		.terminal = r->terminal,
	};
	struct task *t = NULL;

	if (task_prepare(task_table_tasks(table), ctx->ns, id, r->runtime, &t, err) < 0)
		return -1;
	if (task_create(t, r, ret_pid, err) == 0 &&
	    task_table_add(table, task_ref(t), &streams, err) == 0) {
		task_unref(t);
		return 0;
	}
	task_destroy(t);
	task_unref(t);
	return -1;
}

static int create(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Tasks__V1__CreateTaskRequest *request =
		(const Containerd__Services__Tasks__V1__CreateTaskRequest *)m;
	Containerd__Services__Tasks__V1__CreateTaskResponse *reply =
		(Containerd__Services__Tasks__V1__CreateTaskResponse *)r;
	CLEANUP(container_record_done) struct container_record record = { 0 };
	automounts struct mounts rootfs = MOUNTS_INIT;
	autojson struct json *spec = NULL;
	struct arena *a = grpc_call_arena(c);
	struct store_ctx ctx;
	int pid = 0;

	if (request->checkpoint)
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "tasks are not restored from checkpoints");
	if (ctrd_ctx(c, &ctx, err) < 0 ||
	    container_record_get(&ctx, request->container_id, &record, err) < 0)
		return -1;
	ctrd_take_mounts(request->rootfs, request->n_rootfs, &rootfs);
	struct task_create create = {
		.rootfs = &rootfs,
		.terminal = request->terminal,
		.stdin_uri = given(request->stdin),
		.stdout_uri = given(request->stdout),
		.stderr_uri = given(request->stderr),
	};
	const Google__Protobuf__Any *options =
		request->options ? request->options : ctrd_runtime_options(a, &record);
	if (runtime_of(c, &record, options, &create, err) < 0 || load_spec(&record, &spec, err) < 0)
		return -1;
	create.spec = spec;
	if (start_shim(c, &ctx, &create, record.id, &pid, err) < 0)
		return -1;
	reply->container_id = message_text(a, record.id);
	reply->pid = (uint32_t)pid;
	return 0;
}

static int start(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		 struct error *err)
{
	const Containerd__Services__Tasks__V1__StartRequest *request =
		(const Containerd__Services__Tasks__V1__StartRequest *)m;
	AUTO_FOUND struct found f = { 0 };
	int pid = 0;

	if (find(c, request->container_id, &f, err) < 0 ||
	    task_start(f.task->task, request->exec_id, &pid, err) < 0)
		return -1;
	((Containerd__Services__Tasks__V1__StartResponse *)r)->pid = (uint32_t)pid;
	return 0;
}

/* --- end --- */

static void fill_exit(struct arena *a, Containerd__Services__Tasks__V1__DeleteResponse *reply,
		      const char *id, const struct task_exit *x)
{
	reply->id = message_text(a, id);
	reply->pid = (uint32_t)x->pid;
	reply->exit_status = x->status;
	reply->exited_at = ctrd_time(a, x->exited_at);
}

static int delete (struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		   struct error *err)
{
	const Containerd__Services__Tasks__V1__DeleteTaskRequest *request =
		(const Containerd__Services__Tasks__V1__DeleteTaskRequest *)m;
	AUTO_FOUND struct found f = { 0 };
	struct task_exit x = { 0 };

	if (find(c, request->container_id, &f, err) < 0)
		return -1;
	autoerror struct error why = ERROR_INIT;
	/* Of a shim that has died nothing is left but to clear up. */
	if (task_delete(f.task->task, "", &x, &why) < 0 && !error_is(&why, ERROR_UNAVAILABLE))
		return error_move(err, &why);
	task_destroy(f.task->task);
	task_table_remove(f.task);
	fill_exit(grpc_call_arena(c), (Containerd__Services__Tasks__V1__DeleteResponse *)r,
		  request->container_id, &x);
	return 0;
}

static int delete_process(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			  struct error *err)
{
	const Containerd__Services__Tasks__V1__DeleteProcessRequest *request =
		(const Containerd__Services__Tasks__V1__DeleteProcessRequest *)m;
	AUTO_FOUND struct found f = { 0 };
	struct task_exit x = { 0 };

	if (str_empty(request->exec_id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "exec_id must not be empty");
	if (find(c, request->container_id, &f, err) < 0 ||
	    task_delete(f.task->task, request->exec_id, &x, err) < 0)
		return -1;
	api_task_remove_process(f.task, request->exec_id);
	fill_exit(grpc_call_arena(c), (Containerd__Services__Tasks__V1__DeleteResponse *)r,
		  request->exec_id, &x);
	return 0;
}

static int do_kill(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		   struct error *err)
{
	const Containerd__Services__Tasks__V1__KillRequest *request =
		(const Containerd__Services__Tasks__V1__KillRequest *)m;
	AUTO_FOUND struct found f = { 0 };

	if (find(c, request->container_id, &f, err) < 0)
		return -1;
	return task_kill(f.task->task, request->exec_id, (int)request->signal, request->all, err);
}

static int do_wait(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const Containerd__Services__Tasks__V1__WaitRequest *request =
		(const Containerd__Services__Tasks__V1__WaitRequest *)m;
	AUTO_FOUND struct found f = { 0 };

	if (find(c, request->container_id, &f, err) < 0)
		return -1;
	return api_task_wait(f.task, request->exec_id, c, err);
}

/* --- looks --- */

static int describe(struct arena *a, struct api_task *t, const char *exec_id, process_message *out,
		    struct error *err)
{
	struct task_streams streams = { 0 };
	struct task_state state;

	if (task_state(t->task, exec_id, &state, err) < 0)
		return -1;
	out->container_id = message_text(a, task_id(t->task));
	out->id = message_text(a, *exec_id ? exec_id : task_id(t->task));
	out->pid = (uint32_t)state.pid;
	out->status = (Containerd__V1__Types__Status)state.status;
	out->exit_status = state.exit_status;
	out->exited_at = ctrd_time(a, state.exited_at);
	if (api_task_streams(t, exec_id, &streams)) {
		out->stdin = message_text(a, streams.in);
		out->stdout = message_text(a, streams.out);
		out->stderr = message_text(a, streams.err);
		out->terminal = streams.terminal;
	}
	task_streams_done(&streams);
	return 0;
}

static int get(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
	       struct error *err)
{
	const Containerd__Services__Tasks__V1__GetRequest *request =
		(const Containerd__Services__Tasks__V1__GetRequest *)m;
	const struct containerd_view *pods = &ctrd_of(c)->config.pods;
	struct arena *a = grpc_call_arena(c);
	AUTO_FOUND struct found f = { 0 };

	if (ctrd_ctx(c, &f.ctx, err) < 0)
		return -1;
	if (str_equal(f.ctx.ns, pods->ns) && pods->task(pods->arg, c, m, r, NULL) == 0)
		return 0;
	process_message *p = CTRD_NEW(a, v1__types__process);
	if (find(c, request->container_id, &f, err) < 0 ||
	    describe(a, f.task, request->exec_id, p, err) < 0)
		return -1;
	((Containerd__Services__Tasks__V1__GetResponse *)r)->process = p;
	return 0;
}

static int list(struct grpc_call *c, const ProtobufCMessage *m UNUSED, ProtobufCMessage *r,
		struct error *err)
{
	Containerd__Services__Tasks__V1__ListTasksResponse *reply =
		(Containerd__Services__Tasks__V1__ListTasksResponse *)r;
	struct arena *a = grpc_call_arena(c);
	struct store_ctx ctx;
	size_t n;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	autofree struct api_task **tasks = task_table_list(ctrd_of(c)->tasks, ctx.ns, &n);
	reply->tasks = message_array(a, n);
	for (size_t i = 0; i < n; i++) {
		process_message *p = CTRD_NEW(a, v1__types__process);

		/* One whose shim does not answer is left out. */
		if (describe(a, tasks[i], "", p, NULL) == 0)
			reply->tasks[reply->n_tasks++] = p;
		api_task_unref(tasks[i]);
	}
	return 0;
}

static int list_pids(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		     struct error *err)
{
	const Containerd__Services__Tasks__V1__ListPidsRequest *request =
		(const Containerd__Services__Tasks__V1__ListPidsRequest *)m;
	Containerd__Services__Tasks__V1__ListPidsResponse *reply =
		(Containerd__Services__Tasks__V1__ListPidsResponse *)r;
	CLEANUP(task_pids_done) struct task_pids pids = { 0 };
	struct arena *a = grpc_call_arena(c);
	AUTO_FOUND struct found f = { 0 };

	if (find(c, request->container_id, &f, err) < 0 || task_pids(f.task->task, &pids, err) < 0)
		return -1;
	reply->processes = message_array(a, pids.n);
	for (size_t i = 0; i < pids.n; i++) {
		Containerd__V1__Types__ProcessInfo *p = CTRD_NEW(a, v1__types__process_info);

		p->pid = (uint32_t)pids.v[i];
		reply->processes[reply->n_processes++] = p;
	}
	return 0;
}

static const char *task_field(const void *object, const struct strv *path)
{
	const struct api_task *t = object;

	if (path->n == 1 && str_equal(path->v[0], "id"))
		return task_id(t->task);
	return path->n == 1 && str_equal(path->v[0], "namespace") ? task_ns(t->task) : NULL;
}

static int metrics(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		   struct error *err)
{
	const Containerd__Services__Tasks__V1__MetricsRequest *request =
		(const Containerd__Services__Tasks__V1__MetricsRequest *)m;
	Containerd__Services__Tasks__V1__MetricsResponse *reply =
		(Containerd__Services__Tasks__V1__MetricsResponse *)r;
	struct arena *a = grpc_call_arena(c);
	autofilter struct filter *filter = NULL;
	struct store_ctx ctx;
	size_t n;

	if (ctrd_ctx(c, &ctx, err) < 0 ||
	    filter_parse(request->filters, request->n_filters, &filter, err) < 0)
		return -1;
	autofree struct api_task **tasks = task_table_list(ctrd_of(c)->tasks, ctx.ns, &n);
	reply->metrics = message_array(a, n);
	for (size_t i = 0; i < n; i++) {
		Containerd__Types__Metric *metric = CTRD_NEW(a, types__metric);

		if (filter_match(filter, task_field, tasks[i]) &&
		    task_metrics(tasks[i]->task, a, &metric->data, NULL) == 0) {
			metric->id = message_text(a, task_id(tasks[i]->task));
			metric->timestamp = ctrd_time(a, time_realtime());
			reply->metrics[reply->n_metrics++] = metric;
		}
		api_task_unref(tasks[i]);
	}
	return 0;
}

/* --- while it runs --- */

static int exec(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		struct error *err)
{
	const Containerd__Services__Tasks__V1__ExecProcessRequest *request =
		(const Containerd__Services__Tasks__V1__ExecProcessRequest *)m;
	const struct task_streams streams = {
		.in = request->stdin,
		.out = request->stdout,
		.err = request->stderr,
		.terminal = request->terminal,
	};
	AUTO_FOUND struct found f = { 0 };

	if (!identifier_valid(request->exec_id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "exec id '%.128s' is not valid",
				 request->exec_id);
	if (!request->spec)
		return error_set(err, ERROR_INVALID_ARGUMENT, "exec '%s': spec is missing",
				 request->exec_id);
	autojson struct json *process = json_parse((const char *)request->spec->value.data,
						   request->spec->value.len, SPEC_MAX, err);
	if (!process)
		return error_wrap(err, "exec '%s'", request->exec_id);
	if (find(c, request->container_id, &f, err) < 0 ||
	    api_task_add_process(f.task, request->exec_id, &streams, err) < 0)
		return -1;
	if (task_exec(f.task->task, request->exec_id, process, request->terminal,
		      given(request->stdin), given(request->stdout), given(request->stderr),
		      err) < 0) {
		api_task_remove_process(f.task, request->exec_id);
		return -1;
	}
	return 0;
}

static int resize(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		  struct error *err)
{
	const Containerd__Services__Tasks__V1__ResizePtyRequest *request =
		(const Containerd__Services__Tasks__V1__ResizePtyRequest *)m;
	AUTO_FOUND struct found f = { 0 };

	if (find(c, request->container_id, &f, err) < 0)
		return -1;
	return task_resize(f.task->task, request->exec_id, request->width, request->height, err);
}

static int close_io(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		    struct error *err)
{
	const Containerd__Services__Tasks__V1__CloseIORequest *request =
		(const Containerd__Services__Tasks__V1__CloseIORequest *)m;
	AUTO_FOUND struct found f = { 0 };

	if (find(c, request->container_id, &f, err) < 0)
		return -1;
	return request->stdin ? task_close_stdin(f.task->task, request->exec_id, err) : 0;
}

static int do_pause(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		    struct error *err)
{
	const char *id =
		((const Containerd__Services__Tasks__V1__PauseTaskRequest *)m)->container_id;
	AUTO_FOUND struct found f = { 0 };

	return find(c, id, &f, err) < 0 ? -1 : task_pause(f.task->task, err);
}

static int resume(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		  struct error *err)
{
	const char *id =
		((const Containerd__Services__Tasks__V1__ResumeTaskRequest *)m)->container_id;
	AUTO_FOUND struct found f = { 0 };

	return find(c, id, &f, err) < 0 ? -1 : task_resume(f.task->task, err);
}

static int update(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		  struct error *err)
{
	const Containerd__Services__Tasks__V1__UpdateTaskRequest *request =
		(const Containerd__Services__Tasks__V1__UpdateTaskRequest *)m;
	AUTO_FOUND struct found f = { 0 };

	if (!request->resources)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request has no resources");
	autojson struct json *resources = json_parse((const char *)request->resources->value.data,
						     request->resources->value.len, SPEC_MAX, err);
	if (!resources || find(c, request->container_id, &f, err) < 0)
		return -1;
	return task_update(f.task->task, resources, err);
}

const struct grpc_method tasks_methods[] = {
	{ "Create", .unary = create, .pool = JOB_OPS },
	{ "Start", .unary = start, .pool = JOB_OPS },
	{ "Delete", .unary = delete, .pool = JOB_OPS },
	{ "DeleteProcess", .unary = delete_process, .pool = JOB_OPS },
	{ "Get", .unary = get, .pool = JOB_OPS },
	{ "List", .unary = list, .pool = JOB_OPS },
	{ "Kill", .unary = do_kill, .pool = JOB_OPS },
	{ "Exec", .unary = exec, .pool = JOB_OPS },
	{ "ResizePty", .unary = resize, .pool = JOB_OPS },
	{ "CloseIO", .unary = close_io, .pool = JOB_OPS },
	{ "Pause", .unary = do_pause, .pool = JOB_OPS },
	{ "Resume", .unary = resume, .pool = JOB_OPS },
	{ "ListPids", .unary = list_pids, .pool = JOB_OPS },
	{ "Update", .unary = update, .pool = JOB_OPS },
	{ "Metrics", .unary = metrics, .pool = JOB_OPS },
	{ "Wait", .streaming = do_wait, .pool = JOB_OPS },
	{ NULL },
};
