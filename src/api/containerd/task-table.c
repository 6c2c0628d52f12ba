/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Wait is accepted before the process is started (clients do it so, not to miss the end) and
 * holds no thread: the call is kept until the shim manager reports the exit. Whether the process
 * had ended already is asked of the shim after the call has been entered, so nothing gets lost
 * between the two.
 */

#include "api/containerd/task-table.h"

#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/containers.h"

#include "containerd.services.tasks.v1.pb-c.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

struct api_process {
	struct list node;
	char *exec_id;
	struct task_streams streams;
};

/* In its call's arena, so that a cancellation that comes late still finds it. */
struct waiter {
	struct list node;
	struct task_table *table;
	struct grpc_call *call;
	char *key, *exec_id;
	bool listed; /* the table's lock; a reference of the call goes with it */
};

struct task_table {
	struct tasks *tasks;
	struct store *store;
	struct jobs *jobs;
	void (*on_missed)(struct task *t, const struct task_state *state, void *arg);
	void *arg;
	pthread_mutex_t lock;
	struct map map;	     /* "ns/id": struct api_task, referenced */
	struct list waiters; /* locked */
};

void task_streams_done(struct task_streams *s)
{
	free(s->in);
	free(s->out);
	free(s->err);
	*s = (struct task_streams){ 0 };
}

static void streams_copy(struct task_streams *dst, const struct task_streams *src)
{
	*dst = (struct task_streams){
		.in = xstrdup(src->in),
		.out = xstrdup(src->out),
		.err = xstrdup(src->err),
		.terminal = src->terminal,
	};
}

static char *key_of(const char *ns, const char *id)
{
	return xasprintf("%s/%s", ns, id);
}

static void process_free(struct api_process *p)
{
	list_remove(&p->node);
	task_streams_done(&p->streams);
	free(p->exec_id);
	free(p);
}

void api_task_unref(struct api_task *t)
{
	if (!t || --t->refs > 0)
		return;
	LIST_FOREACH (p, &t->processes, struct api_process, node)
		process_free(p);
	task_unref(t->task);
	free(t);
}

/* With the lock held. */
static struct api_process *find_process(struct api_task *t, const char *exec_id)
{
	LIST_FOREACH (p, &t->processes, struct api_process, node) {
		if (str_equal(p->exec_id, exec_id))
			return p;
	}
	return NULL;
}

/* --- waits --- */

static void answer(struct waiter *w, unsigned status, int64_t exited_at, const struct error *err)
{
	Containerd__Services__Tasks__V1__WaitResponse reply =
		CONTAINERD__SERVICES__TASKS__V1__WAIT_RESPONSE__INIT;
	Google__Protobuf__Timestamp t = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	t.seconds = exited_at / NSEC_PER_SEC;
	t.nanos = (int32_t)(exited_at % NSEC_PER_SEC);
	reply.exit_status = status;
	reply.exited_at = &t;
	if (!err)
		grpc_call_send(w->call, &reply.base);
	grpc_call_finish(w->call, err);
}

/* Those of the process (exec_id NULL: of all of the task's), out of the table. */
static void take_waiters(struct task_table *t, const char *key, const char *exec_id,
			 struct list *ret)
{
	pthread_mutex_lock(&t->lock);
	LIST_FOREACH (w, &t->waiters, struct waiter, node) {
		if (!str_equal(w->key, key) || (exec_id && !str_equal(w->exec_id, exec_id)))
			continue;
		list_remove(&w->node);
		w->listed = false;
		list_append(ret, &w->node);
	}
	pthread_mutex_unlock(&t->lock);
}

static void fire(struct task_table *t, const char *key, const char *exec_id, unsigned status,
		 int64_t exited_at, const struct error *err)
{
	struct list taken;

	list_init(&taken);
	take_waiters(t, key, exec_id, &taken);
	LIST_FOREACH (w, &taken, struct waiter, node) {
		struct grpc_call *c = w->call;

		list_remove(&w->node);
		answer(w, status, exited_at, err);
		grpc_call_unref(c);
	}
}

static void clear_lost(void *arg)
{
	struct api_task *t = arg;

	task_destroy(t->task);
	task_table_remove(t);
	api_task_unref(t);
}

/* Of a task whose shim is dead nothing can be asked any more: it goes, as with containerd. */
static void on_exit_of(struct task *task, const struct task_exit *x, void *arg)
{
	autofree char *key = key_of(task_ns(task), task_id(task));
	struct task_table *t = arg;

	fire(t, key, x->exec_id, x->status, x->exited_at, NULL);
	if (!x->lost || *x->exec_id)
		return;
	struct api_task *lost = task_table_find(t, task_ns(task), task_id(task), NULL);
	if (lost)
		job_submit(t->jobs, JOB_OPS, clear_lost, NULL, lost);
}

/* The client has gone, or is not to wait. */
static void drop(void *arg)
{
	struct waiter *w = arg;

	pthread_mutex_lock(&w->table->lock);
	bool listed = w->listed;
	if (listed)
		list_remove(&w->node);
	w->listed = false;
	pthread_mutex_unlock(&w->table->lock);
	if (listed)
		grpc_call_unref(w->call);
}

static bool api_task_knows(struct api_task *t, const char *exec_id)
{
	pthread_mutex_lock(&t->table->lock);
	bool known = find_process(t, exec_id) != NULL;
	pthread_mutex_unlock(&t->table->lock);
	return known;
}

int api_task_wait(struct api_task *t, const char *exec_id, struct grpc_call *c, struct error *err)
{
	struct arena *a = grpc_call_arena(c);
	struct waiter *w = arena_new(a, struct waiter);
	struct task_state state = { 0 };

	*w = (struct waiter){
		.table = t->table,
		.call = grpc_call_ref(c),
		.key = arena_printf(a, "%s/%s", task_ns(t->task), task_id(t->task)),
		.exec_id = arena_strdup(a, exec_id),
		.listed = true,
	};
	pthread_mutex_lock(&t->table->lock);
	list_append(&t->table->waiters, &w->node);
	pthread_mutex_unlock(&t->table->lock);
	grpc_call_on_cancel(c, drop, w);
	/* An exec that an earlier daemon started is watched from when somebody asks. */
	if (!api_task_knows(t, exec_id))
		task_watch(t->task, exec_id);
	autoerror struct error why = ERROR_INIT;
	if (task_state(t->task, exec_id, &state, &why) < 0) {
		/* A shim that is dying is reported as an exit. */
		if (error_is(&why, ERROR_UNAVAILABLE))
			return 0;
		drop(w);
		return error_move(err, &why);
	}
	if (state.status == TASK_STOPPED)
		fire(t->table, w->key, exec_id, state.exit_status, state.exited_at, NULL);
	return 0;
}

/* --- the table --- */

struct task_table *task_table_new(const struct task_table_config *config, struct error *err)
{
	struct task_table *t = xnew(struct task_table);
	const struct tasks_config tasks = {
		.loop = config->loop,
		.jobs = config->jobs,
		.root = config->root,
		.state = config->state,
		.shim = config->shim,
		.address = config->address,
		.on_exit = on_exit_of,
		.arg = t,
	};

	t->store = config->store;
	t->jobs = config->jobs;
	t->on_missed = config->on_missed;
	t->arg = config->arg;
	t->map = MAP_INIT;
	list_init(&t->waiters);
	pthread_mutex_init(&t->lock, NULL);
	if (tasks_new(&tasks, &t->tasks, err) < 0) {
		pthread_mutex_destroy(&t->lock);
		free(t);
		return NULL;
	}
	return t;
}

void task_table_free(struct task_table *t)
{
	if (!t)
		return;
	assert(list_is_empty(&t->waiters));
	MAP_FOREACH (item, &t->map)
		api_task_unref(map_value(item));
	map_done(&t->map);
	tasks_free(t->tasks);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

struct tasks *task_table_tasks(struct task_table *t)
{
	return t->tasks;
}

struct api_task *task_table_find(struct task_table *t, const char *ns, const char *id,
				 struct error *err)
{
	autofree char *key = key_of(ns, id);

	pthread_mutex_lock(&t->lock);
	struct api_task *found = map_get(&t->map, key);
	if (found)
		found->refs++;
	pthread_mutex_unlock(&t->lock);
	if (!found)
		error_set(err, ERROR_NOT_FOUND, "no running task found: task %.128s not found", id);
	return found;
}

struct api_task **task_table_list(struct task_table *t, const char *ns, size_t *ret_n)
{
	autofree char *prefix = xasprintf("%s/", ns);
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	struct api_task **out = xnew_array(struct api_task *, t->map.n + 1);
	MAP_FOREACH (item, &t->map) {
		struct api_task *found = map_value(item);

		if (!str_has_prefix(map_key(item), prefix))
			continue;
		found->refs++;
		out[n++] = found;
	}
	pthread_mutex_unlock(&t->lock);
	*ret_n = n;
	return out;
}

int api_task_add_process(struct api_task *t, const char *exec_id,
			 const struct task_streams *streams, struct error *err)
{
	int r = 0;

	pthread_mutex_lock(&t->table->lock);
	if (find_process(t, exec_id)) {
		r = error_set(err, ERROR_ALREADY_EXISTS, "id %s: already exists", exec_id);
	} else {
		struct api_process *p = xnew(struct api_process);

		p->exec_id = xstrdup(exec_id);
		streams_copy(&p->streams, streams);
		list_append(&t->processes, &p->node);
	}
	pthread_mutex_unlock(&t->table->lock);
	return r;
}

void api_task_remove_process(struct api_task *t, const char *exec_id)
{
	pthread_mutex_lock(&t->table->lock);
	struct api_process *p = find_process(t, exec_id);
	if (p)
		process_free(p);
	pthread_mutex_unlock(&t->table->lock);
}

bool api_task_streams(struct api_task *t, const char *exec_id, struct task_streams *ret)
{
	pthread_mutex_lock(&t->table->lock);
	const struct api_process *p = find_process(t, exec_id);
	if (p)
		streams_copy(ret, &p->streams);
	pthread_mutex_unlock(&t->table->lock);
	return p != NULL;
}

int task_table_add(struct task_table *t, struct task *task, const struct task_streams *streams,
		   struct error *err)
{
	autofree char *key = key_of(task_ns(task), task_id(task));
	struct api_task *a = xnew(struct api_task);
	int r = 0;

	a->table = t;
	a->refs = 1;
	a->task = task;
	list_init(&a->processes);
	api_task_add_process(a, "", streams, NULL);
	pthread_mutex_lock(&t->lock);
	if (map_get(&t->map, key))
		r = error_set(err, ERROR_ALREADY_EXISTS, "task %s: already exists", task_id(task));
	else
		map_set(&t->map, key, a);
	pthread_mutex_unlock(&t->lock);
	if (r < 0)
		api_task_unref(a);
	return r;
}

void task_table_remove(struct api_task *t)
{
	autofree char *key = key_of(task_ns(t->task), task_id(t->task));
	struct task_table *table = t->table;
	autoerror struct error gone = ERROR_INIT;

	pthread_mutex_lock(&table->lock);
	bool listed = map_get(&table->map, key) == t;
	if (listed)
		map_remove(&table->map, key);
	pthread_mutex_unlock(&table->lock);
	error_set(&gone, ERROR_NOT_FOUND, "task %s not found", task_id(t->task));
	fire(table, key, NULL, 0, 0, &gone);
	if (listed)
		api_task_unref(t);
}

/* --- recovery --- */

/* A container of this API: one with a record and a specification. */
static bool is_ours(struct store *s, const char *ns, const char *id)
{
	const struct store_ctx ctx = { .store = s, .ns = ns };
	struct container_record r = { 0 };

	if (container_record_get(&ctx, id, &r, NULL) < 0)
		return false;
	bool ours = r.spec != NULL;
	container_record_done(&r);
	return ours;
}

static void recover_one(struct task_table *t, const char *ns, const char *id)
{
	const struct task_streams streams = { 0 }; /* it is the shim that has them */
	struct task_state state = { 0 };
	autoerror struct error err = ERROR_INIT;
	struct task *task = NULL;

	if (task_load(t->tasks, ns, id, &task, &state, &err) < 0) {
		if (!error_is(&err, ERROR_NOT_FOUND))
			log_warn("task '%s' in namespace '%s': %s, ignoring", id, ns,
				 error_msg(&err));
		return;
	}
	if (state.status == TASK_STOPPED)
		t->on_missed(task, &state, t->arg);
	task_watch(task, "");
	task_table_add(t, task, &streams, NULL);
}

int task_table_recover(struct task_table *t, struct error *err)
{
	autostrv struct strv bundles = STRV_INIT;

	if (tasks_scan(t->tasks, &bundles, err) < 0)
		return -1;
	for (size_t i = 0; i < bundles.n; i++) {
		const char *slash = strchr(bundles.v[i], '/');
		autofree char *ns = xstrndup(bundles.v[i], (size_t)(slash - bundles.v[i]));

		if (is_ours(t->store, ns, slash + 1))
			recover_one(t, ns, slash + 1);
	}
	return 0;
}
