/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of a task: prepare, connect, lose, destroy, recover.
 *
 * The connection lives on the loop. While it is registered for on_close it holds a reference of the
 * task, given back on the loop too, so that the callback never meets freed memory. When it ends
 * unasked, the shim is most likely dead, but that is tried first: a shim that still answers is
 * connected to again, and only one that refuses is cleaned up after.
 */

#include "task/task.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "task/internal.h"

#include "containerd.task.v3.pb-c.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

int tasks_new(const struct tasks_config *config, struct tasks **ret, struct error *err)
{
	struct tasks *m = xnew(struct tasks);

	m->config = *config;
	m->config.root = xstrdup(config->root);
	m->config.state = xstrdup(config->state);
	m->config.shim = xstrdup(config->shim);
	m->config.address = xstrdup(config->address);
	pthread_mutex_init(&m->lock, NULL);
	list_init(&m->tasks);
	list_init(&m->sealed);
	list_init(&m->filters);
	list_init(&m->reapers);
	autofree char *parent = bundle_parent(m);
	int r = fs_mkdir_p(parent, 0711);
	if (r < 0) {
		tasks_free(m);
		return error_errno(err, -r, "make '%s'", parent);
	}
	*ret = m;
	return 0;
}

struct task *task_ref(struct task *t)
{
	if (t)
		t->refs++;
	return t;
}

void task_unref(struct task *t)
{
	if (!t || --t->refs > 0)
		return;
	pthread_mutex_lock(&t->m->lock);
	list_remove(&t->node);
	pthread_mutex_unlock(&t->m->lock);
	ttrpc_client_unref(t->client);
	free(t->ns);
	free(t->id);
	free(t->bundle);
	free(t->work);
	free(t->socket);
	free(t->group);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

const char *task_id(const struct task *t)
{
	return t->id;
}

const char *task_ns(const struct task *t)
{
	return t->ns;
}

const char *task_bundle(const struct task *t)
{
	return t->bundle;
}

/* Loop thread. */
static void unregister(struct task *t)
{
	if (!t->registered)
		return;
	t->registered = false;
	task_unref(t);
}

/* Loop thread; owns a reference. */
static void close_on_loop(void *arg)
{
	struct task *t = arg;

	if (t->registered)
		ttrpc_client_close(t->client);
	unregister(t);
	task_unref(t);
}

/* A task that holds itself through its connection or its processes, referenced; NULL: none. */
static struct task *next_task(struct tasks *m)
{
	struct task *found = NULL;

	pthread_mutex_lock(&m->lock);
	LIST_FOREACH (t, &m->tasks, struct task, node)
		if (t->registered || !list_is_empty(&t->processes))
			found = t;
	task_ref(found);
	pthread_mutex_unlock(&m->lock);
	return found;
}

void tasks_free(struct tasks *m)
{
	if (!m)
		return;
	for (struct task *t; (t = next_task(m));) {
		process_drop_all(t);
		close_on_loop(t);
	}
	tasks_stop_reapers(m);
	/* Answers to what was outstanding come through the loop. */
	while (!list_is_empty(&m->tasks) && uv_run(loop_uv(m->config.loop), UV_RUN_NOWAIT))
		;
	assert(list_is_empty(&m->tasks));
	sealed_free_all(m);
	filters_free(m);
	pthread_mutex_destroy(&m->lock);
	free((char *)m->config.root);
	free((char *)m->config.state);
	free((char *)m->config.shim);
	free((char *)m->config.address);
	free(m);
}

static void report_lost(void *arg)
{
	struct task *t = arg;

	process_report_lost(t);
	task_unref(t);
}

void task_clear_dead(struct task *t)
{
	pthread_mutex_lock(&t->lock);
	while (t->cleaning)
		pthread_cond_wait(&t->changed, &t->lock);
	bool mine = !t->cleaned;
	t->cleaning = mine;
	pthread_mutex_unlock(&t->lock);
	if (!mine)
		return;
	log_warn("shim of container '%s' is gone", t->id);
	struct task_exit x;
	if (!t->group)
		shim_kill(t);
	shim_delete(t, &x);
	pthread_mutex_lock(&t->lock);
	t->lost_exit = x;
	t->cleaning = false;
	t->cleaned = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

static int call_connect(struct task *t, struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	Containerd__Task__V3__ConnectRequest request = CONTAINERD__TASK__V3__CONNECT_REQUEST__INIT;
	Containerd__Task__V3__ConnectResponse *response = NULL;

	request.id = t->id;
	if (task_call(t, "Connect", &request.base, SHIM_LOAD_MS,
		      &containerd__task__v3__connect_response__descriptor, &arena, &response,
		      err) < 0)
		return -1;
	t->shim_pid = (int)response->shim_pid;
	return 0;
}

/* Pool thread; owns a reference. */
static void lost_work(void *arg)
{
	struct task *t = arg;
	autoerror struct error err = ERROR_INIT;

	pthread_mutex_lock(&t->lock);
	bool silent = t->silent;
	pthread_mutex_unlock(&t->lock);
	if (silent) {
		task_unref(t);
		return;
	}
	int fd = fs_unix_connect(t->socket);
	if (fd >= 0) {
		task_open(t, fd);
		if (call_connect(t, &err) == 0) {
			process_watch_all(t);
			task_unref(t);
			return;
		}
	}
	task_clear_dead(t);
	loop_post(t->m->config.loop, report_lost, t);
}

/* Loop thread. */
static void on_connection_closed(void *arg)
{
	struct task *t = arg;

	pthread_mutex_lock(&t->lock);
	bool silent = t->silent;
	pthread_mutex_unlock(&t->lock);
	if (!silent)
		job_submit(t->m->config.jobs, JOB_OPS, lost_work, NULL, task_ref(t));
	unregister(t);
}

struct opening {
	struct task *task;
	int fd;
};

static void open_on_loop(void *arg)
{
	struct opening *o = arg;
	struct task *t = o->task;
	autoerror struct error err = ERROR_INIT;
	struct ttrpc_client *client = ttrpc_client_new(t->m->config.loop, o->fd, t->ns, &err);

	if (!client)
		log_warn("connect to the shim of '%s': %s", t->id, error_msg(&err));
	if (client) {
		t->registered = true;
		ttrpc_client_on_close(client, on_connection_closed, task_ref(t));
	}
	pthread_mutex_lock(&t->lock);
	struct ttrpc_client *old = t->client;
	t->client = client;
	t->opening = false;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	ttrpc_client_unref(old);
	task_unref(t);
	free(o);
}

void task_open(struct task *t, int fd)
{
	struct opening *o = xnew(struct opening);

	pthread_mutex_lock(&t->lock);
	t->opening = true;
	pthread_mutex_unlock(&t->lock);
	*o = (struct opening){ .task = task_ref(t), .fd = fd };
	loop_post(t->m->config.loop, open_on_loop, o);
}

struct ttrpc_client *task_client(struct task *t, struct error *err)
{
	pthread_mutex_lock(&t->lock);
	while (t->opening)
		pthread_cond_wait(&t->changed, &t->lock);
	struct ttrpc_client *client = t->cleaned ? NULL : ttrpc_client_ref(t->client);
	pthread_mutex_unlock(&t->lock);
	if (!client)
		error_set(err, ERROR_UNAVAILABLE, "the shim of container '%s' is gone", t->id);
	return client;
}

int task_prepare_pod(struct tasks *m, const char *ns, const char *id, const char *runtime,
		     const struct mounts *mounts, struct task **ret, struct error *err)
{
	CLEANUP(task_unrefp) struct task *t = task_new(m, ns, id);
	autoclose int listener = -EBADF;

	tasks_warm(m);
	if (bundle_make(t, mounts, &listener, err) < 0)
		return -1;
	if (shim_start(t, listener, runtime, err) < 0) {
		bundle_remove(t);
		return -1;
	}
	/* Whatever the shim is doing yet, the socket takes connections. */
	int fd = fs_unix_connect(t->socket);
	if (fd < 0) {
		error_errno(err, -fd, "connect to '%s'", t->socket);
		task_destroy(t);
		return -1;
	}
	task_open(t, fd);
	*ret = TAKE_PTR(t);
	return 0;
}

int task_prepare(struct tasks *m, const char *ns, const char *id, const char *runtime,
		 struct task **ret, struct error *err)
{
	return task_prepare_pod(m, ns, id, runtime, NULL, ret, err);
}

int task_prepare_in(struct task *pod, const char *id, struct task **ret, struct error *err)
{
	CLEANUP(task_unrefp) struct task *t = task_new(pod->m, pod->ns, id);

	str_replace(&t->socket, pod->socket);
	t->group = xstrdup(pod->id);
	autoclose int fd = fs_unix_connect(t->socket);
	if (fd < 0)
		return error_set(err, ERROR_UNAVAILABLE, "the shim of sandbox '%s' is gone: %s",
				 pod->id, strerror(-fd));
	tasks_warm(pod->m);
	if (bundle_make(t, NULL, NULL, err) < 0)
		return -1;
	task_open(t, TAKE_FD(fd));
	*ret = TAKE_PTR(t);
	return 0;
}

bool task_is_alive(struct task *t)
{
	pthread_mutex_lock(&t->lock);
	bool alive = !t->cleaned && !t->cleaning && !t->silent;
	pthread_mutex_unlock(&t->lock);
	return alive;
}

/* Task.Delete, killing first what still runs. */
static int delete_init(struct task *t, struct error *err)
{
	if (task_delete(t, "", NULL, err) == 0 || error_is(err, ERROR_NOT_FOUND))
		return 0;
	if (error_is(err, ERROR_UNAVAILABLE))
		return -1;
	task_kill(t, "", SIGKILL, /* all */ true, NULL);

	autoarena struct arena arena = ARENA_INIT;
	Containerd__Task__V3__WaitRequest request = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;
	Containerd__Task__V3__WaitResponse *response = NULL;
	request.id = t->id;
	if (task_call(t, "Wait", &request.base, SHIM_CALL_MS,
		      &containerd__task__v3__wait_response__descriptor, &arena, &response, err) < 0)
		return -1;
	return task_delete(t, "", NULL, err);
}

static int shut_down(struct task *t, struct error *err)
{
	Containerd__Task__V3__ShutdownRequest request =
		CONTAINERD__TASK__V3__SHUTDOWN_REQUEST__INIT;

	pthread_mutex_lock(&t->lock);
	bool deleted = t->deleted;
	pthread_mutex_unlock(&t->lock);
	if (!deleted && delete_init(t, err) < 0)
		return -1;
	if (t->group)
		return 0;
	request.id = t->id;
	request.now = true;
	if (task_call(t, "Shutdown", &request.base, SHIM_SHUTDOWN_MS, NULL, NULL, NULL, err) < 0) {
		/* One that has deleted its last container and closes first has done its duty. */
		return error_is(err, ERROR_UNAVAILABLE) ? 0 : -1;
	}
	return 0;
}

void task_destroy(struct task *t)
{
	autoerror struct error err = ERROR_INIT;

	pthread_mutex_lock(&t->lock);
	bool again = t->silent;
	t->silent = true;
	pthread_mutex_unlock(&t->lock);
	if (again)
		return;
	if (shut_down(t, &err) < 0)
		task_clear_dead(t);
	process_drop_all(t);
	loop_post(t->m->config.loop, close_on_loop, task_ref(t));
	bundle_remove(t);
}

/* "ns/id" for the two levels below dir. Those that begin with '.' are half-removed and go. */
static int list_level(const char *dir, const char *prefix, bool remove_hidden, struct strv *ret,
		      struct error *err)
{
	DIR *d = opendir(dir);

	if (!d)
		return errno == ENOENT ? 0 : error_errno(err, errno, "open '%s'", dir);
	for (struct dirent *e; (e = readdir(d));) {
		if (str_equal(e->d_name, ".") || str_equal(e->d_name, ".."))
			continue;
		if (e->d_name[0] == '.') {
			if (remove_hidden)
				fs_remove_tree(dirfd(d), e->d_name);
			continue;
		}
		strv_push_printf(ret, "%s%s%s", prefix, prefix[0] ? "/" : "", e->d_name);
	}
	closedir(d);
	return 0;
}

static int list_tasks(const char *parent, struct strv *ret, struct error *err)
{
	autostrv struct strv namespaces = STRV_INIT;

	if (list_level(parent, "", /* remove_hidden */ false, &namespaces, err) < 0)
		return -1;
	for (size_t i = 0; i < namespaces.n; i++) {
		autofree char *dir = path_join(parent, namespaces.v[i], NULL);

		if (list_level(dir, namespaces.v[i], /* remove_hidden */ true, ret, err) < 0)
			return -1;
	}
	return 0;
}

/* Those without a bundle: the host has been booted since, or the removal of one was cut short. The
 * directories are listed before the bundles, which are made first: one that is being made has its
 * bundle by then. */
static void sweep_work(const char *parent, const struct strv *works, const struct strv *bundles)
{
	for (size_t i = 0; i < works->n; i++) {
		autofree char *path = path_join(parent, works->v[i], NULL);

		if (!strv_contains(bundles, works->v[i]))
			fs_remove_tree(AT_FDCWD, path);
	}
}

int tasks_scan(struct tasks *m, struct strv *ret, struct error *err)
{
	autofree char *parent = bundle_parent(m);
	autofree char *work_parent = path_join(m->config.root, TASK_DIR, NULL);
	autostrv struct strv works = STRV_INIT;

	if (list_tasks(work_parent, &works, err) < 0 || list_tasks(parent, ret, err) < 0)
		return -1;
	sweep_work(work_parent, &works, ret);
	return 0;
}

/* The socket's path as it was when the shim was started: the daemon's own may have moved since. */
static void read_bootstrap(struct task *t)
{
	autofree char *path = path_join(t->bundle, "bootstrap.json", NULL);
	autojson struct json *j = json_load_at(AT_FDCWD, path, 64 << 10, NULL);
	const char *address = json_get_string(j, "address");

	if (address && str_has_prefix(address, "unix:///"))
		str_replace(&t->socket, address + strlen("unix://"));
	const char *group = json_get_string(j, "group");
	if (!str_empty(group))
		str_replace(&t->group, group);
}

/* It is dead, or never came to life: all of it goes. */
static int load_dead(struct task *t, struct task_state *ret, struct error *err)
{
	task_clear_dead(t);
	*ret = (struct task_state){
		.status = t->lost_exit.pid > 0 ? TASK_STOPPED : TASK_UNKNOWN,
		.pid = t->lost_exit.pid,
		.exit_status = t->lost_exit.status,
		.exited_at = t->lost_exit.exited_at,
	};
	task_destroy(t);
	return error_set(err, ERROR_NOT_FOUND, "the shim of container '%s' is gone", t->id);
}

static int load(struct tasks *m, const char *ns, const char *id, bool pod, struct task **ret,
		struct task_state *ret_state, struct error *err)
{
	CLEANUP(task_unrefp) struct task *t = task_new(m, ns, id);

	read_bootstrap(t);
	int fd = fs_unix_connect(t->socket);
	if (fd == -ECONNREFUSED || fd == -ENOENT || fd == -ENOTDIR)
		return load_dead(t, ret_state, err);
	if (fd < 0)
		return error_set(err, ERROR_UNAVAILABLE, "connect to '%s': %s", t->socket,
				 strerror(-fd));
	task_open(t, fd);
	*ret_state = (struct task_state){ .status = TASK_UNKNOWN };
	if (call_connect(t, err) == 0 &&
	    (task_state(t, "", ret_state, err) == 0 || (pod && error_is(err, ERROR_NOT_FOUND)))) {
		error_done(err);
		*ret = TAKE_PTR(t);
		return 0;
	}
	if (error_is(err, ERROR_NOT_FOUND)) {
		/* Its shim was started, and no container in it yet. */
		task_destroy(t);
		return -1;
	}
	pthread_mutex_lock(&t->lock);
	t->silent = true;
	pthread_mutex_unlock(&t->lock);
	loop_post(m->config.loop, close_on_loop, task_ref(t));
	return -1;
}

int task_load(struct tasks *m, const char *ns, const char *id, struct task **ret,
	      struct task_state *ret_state, struct error *err)
{
	return load(m, ns, id, /* pod */ false, ret, ret_state, err);
}

int task_load_pod(struct tasks *m, const char *ns, const char *id, struct task **ret,
		  struct task_state *ret_state, struct error *err)
{
	return load(m, ns, id, /* pod */ true, ret, ret_state, err);
}

void task_watch(struct task *t, const char *exec_id)
{
	process_watch(t, exec_id);
}
