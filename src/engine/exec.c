/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Execs. Starting one does not take the container's lock: many run side by side, and next to a
 * stop. Their facts are under e->lock, and in <state>/containers/<ns>/<id>/exec-<exec id>.json, so
 * that a client who is attached while the daemon is replaced still learns the exit code.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "engine/internal.h"
#include "engine/restart.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#define EXEC_FILE_MAX (4 << 20)
#define EXIT_UNKNOWN 255

void exec_view_done(struct exec_view *v)
{
	free(v->id);
	free(v->container_id);
	exec_config_done(&v->config);
	*v = (struct exec_view){ 0 };
}

void exec_unref(struct exec *x)
{
	if (!x || --x->refs > 0)
		return;
	container_unref(x->container);
	exec_config_done(&x->config);
	free(x);
}
DEFINE_CLEANUP(struct exec *, exec_unref)

static struct exec *exec_ref(struct exec *x)
{
	if (x)
		x->refs++;
	return x;
}

static char *exec_path(const struct exec *x)
{
	return xasprintf("%s/exec-%s.json", x->container->run_dir, x->id);
}

static void exec_save(struct exec *x)
{
	struct engine *e = x->container->e;
	autojson struct json *j = json_new_object();
	autofree char *path = exec_path(x);

	pthread_mutex_lock(&e->lock);
	json_set(j, "args", json_new_strv(&x->config.args));
	json_set(j, "env", json_new_strv(&x->config.env));
	json_set_string(j, "cwd", x->config.cwd);
	json_set_string(j, "user", x->config.user);
	json_set_string(j, "detachKeys", x->config.detach_keys);
	json_set_bool(j, "tty", x->config.tty);
	json_set_bool(j, "privileged", x->config.privileged);
	json_set_bool(j, "stdin", x->config.attach_stdin);
	json_set_bool(j, "stdout", x->config.attach_stdout);
	json_set_bool(j, "stderr", x->config.attach_stderr);
	json_set_bool(j, "started", x->started);
	json_set_bool(j, "ended", x->ended);
	json_set_int(j, "pid", x->pid);
	json_set_int(j, "exitCode", x->exit_code);
	pthread_mutex_unlock(&e->lock);
	autofree char *text = json_format(j, /* pretty */ false);
	fs_mkdir_p(x->container->run_dir, 0700);
	int r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, /* sync */ false);
	if (r < 0)
		log_warn("write '%s': %s, ignoring", path, strerror(-r));
}

/* e->lock is held: into the tables; the list has a reference. */
static void publish(struct exec *x)
{
	list_append(&x->container->execs, &x->node);
	map_set(&x->container->e->execs, x->id, x);
}

/* e->lock is held; the list's reference is the caller's now. */
static void unpublish(struct exec *x)
{
	list_remove(&x->node);
	map_remove(&x->container->e->execs, x->id);
}

/* The oldest ended ones beyond what is kept. */
static void prune(struct container *c)
{
	for (;;) {
		struct exec *old = NULL;
		size_t ended = 0;

		pthread_mutex_lock(&c->e->lock);
		LIST_FOREACH (x, &c->execs, struct exec, node) {
			if (!x->ended)
				continue;
			if (ended++ == 0)
				old = x;
		}
		if (ended <= EXECS_KEPT)
			old = NULL;
		if (old)
			unpublish(old);
		pthread_mutex_unlock(&c->e->lock);
		if (!old)
			return;
		autofree char *path = exec_path(old);
		unlink(path);
		exec_unref(old);
	}
}

struct exec *exec_new(struct container *c, struct exec_config *config)
{
	struct exec *x = xnew(struct exec);

	x->refs = 2; /* the list's and the caller's */
	x->container = container_ref(c);
	random_hex(32, x->id);
	x->config = *config;
	*config = (struct exec_config){ 0 };
	pthread_mutex_lock(&c->e->lock);
	publish(x);
	pthread_mutex_unlock(&c->e->lock);
	return x;
}

static void exec_emit(struct exec *x, const char *verb)
{
	if (x->hidden)
		return;
	autofree char *args = strv_join(&x->config.args, " ");
	/* The space is Docker's too. */
	autofree char *action = xasprintf("%s: %s%s", verb, args, x->config.args.n == 1 ? " " : "");
	container_emit(x->container, action, "execID", x->id);
}

int exec_admit(struct container *c, const struct exec_config *config, struct error *err)
{
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);

	if (!t)
		return -1;
	pthread_mutex_lock(&c->e->lock);
	bool paused = c->s.status == CONTAINER_PAUSED;
	pthread_mutex_unlock(&c->e->lock);
	if (paused)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "Container %s is paused, unpause the container before exec",
				 c->name);
	if (config->args.n == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "No exec command specified");
	return 0;
}

int engine_exec_create(struct engine *e, const char *ns, const char *id, struct exec_config *config,
		       char ret_exec_id[65], struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);

	if (!c || exec_admit(c, config, err) < 0)
		return -1;
	CLEANUP(exec_unrefp) struct exec *x = exec_new(c, config);
	memcpy(ret_exec_id, x->id, sizeof(x->id));
	exec_save(x);
	exec_emit(x, "exec_create");
	prune(c);
	return 0;
}

struct exec *exec_find(struct engine *e, const char *id, struct error *err)
{
	pthread_mutex_lock(&e->lock);
	struct exec *x = exec_ref(map_get(&e->execs, id));
	pthread_mutex_unlock(&e->lock);
	if (!x)
		error_set(err, ERROR_NOT_FOUND, "No such exec instance: %s", id);
	return x;
}

int engine_exec_check(struct engine *e, const char *exec_id, bool *ret_tty, struct error *err)
{
	CLEANUP(exec_unrefp) struct exec *x = exec_find(e, exec_id, err);

	if (!x)
		return -1;
	pthread_mutex_lock(&e->lock);
	bool started = x->started;
	pthread_mutex_unlock(&e->lock);
	*ret_tty = x->config.tty;
	return started ? error_set(err, ERROR_ABORTED, "Error: Exec command %s is already running",
				   exec_id)
		       : 0;
}

/* {"process": ...} of what the container runs by. */
static struct json *load_process(struct container *c, struct task *t, struct error *err)
{
	pthread_mutex_lock(&c->e->lock);
	autofree char *text = xstrdup(c->process);
	pthread_mutex_unlock(&c->e->lock);
	if (!text) {
		autofree char *path = path_join(task_bundle(t), "config.json", NULL);

		return json_load_at(AT_FDCWD, path, 16 << 20, err);
	}
	struct json *process = json_parse(text, strlen(text), SIZE_MAX, err);
	if (!process)
		return NULL;
	struct json *spec = json_new_object();
	json_set(spec, "process", process);
	return spec;
}

static int build_process(struct exec *x, struct task *t, struct json **ret, struct error *err)
{
	struct container *c = x->container;
	autojson struct json *spec = load_process(c, t, err);

	if (!spec)
		return -1;
	pthread_mutex_lock(&c->e->lock);
	int pid = c->s.pid;
	pthread_mutex_unlock(&c->e->lock);
	autofree char *root = xasprintf("/proc/%d/root", pid);
	autoclose int rootfs_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rootfs_fd < 0)
		return error_errno(err, errno, "open the root of container %s", c->id);
	const struct spec_inputs in = {
		.config = &c->config,
		.id = c->id,
		.rootfs_fd = rootfs_fd,
	};
	return spec_build_exec(&in, spec, &x->config, ret, err);
}

static int create_in_shim(struct exec *x, struct task *t, const struct attach_options *o,
			  int client_fd, struct error *err)
{
	autojson struct json *process = NULL;
	autofree char *uri = stdio_uri(client_fd >= 0 && o->in, /* once */ true);
	struct attach_request request;

	if (build_process(x, t, &process, err) < 0 ||
	    task_exec(t, x->id, process, x->config.tty, uri, uri, x->config.tty ? NULL : uri, err) <
		    0)
		return -1;
	/* Before it starts, so that it never sees another size. */
	if (x->config.tty && x->height > 0 && x->width > 0 &&
	    task_resize(t, x->id, x->width, x->height, err) < 0)
		return -1;
	if (client_fd < 0)
		return 0;
	if (attach_request_fill(o, x->config.detach_keys, x->config.tty, &request, err) < 0)
		return -1;
	request.exec_id = x->id;
	return task_attach(t, &request, client_fd, err);
}

static void note_failure(struct exec *x, struct task *t, const struct error *err)
{
	int code = start_failure_code(error_msg(err));

	task_delete(t, x->id, NULL, NULL);
	pthread_mutex_lock(&x->container->e->lock);
	x->ended = true;
	x->running = false;
	x->exit_code = code == 128 ? 126 : code; /* Docker's for execs */
	pthread_mutex_unlock(&x->container->e->lock);
}

static int claim(struct exec *x, struct error *err)
{
	pthread_mutex_lock(&x->container->e->lock);
	bool mine = !x->started && !x->ended;
	x->started = true;
	pthread_mutex_unlock(&x->container->e->lock);
	if (!mine)
		return error_set(err, ERROR_ABORTED, "Error: Exec command %s is already running",
				 x->id);
	return 0;
}

int exec_start(struct exec *x, const struct attach_options *o, int client_fd, struct error *err)
{
	struct engine *e = x->container->e;
	CLEANUP(task_unrefp) struct task *t = container_task(x->container, err);
	autoerror struct error why = ERROR_INIT;
	int pid = 0;

	if (!t || claim(x, err) < 0)
		return -1;
	if (create_in_shim(x, t, o, client_fd, &why) < 0 || task_start(t, x->id, &pid, &why) < 0) {
		note_failure(x, t, &why);
		if (!x->hidden)
			exec_save(x);
		return error_move(err, &why);
	}
	/* Its end may have been told already. */
	pthread_mutex_lock(&e->lock);
	x->pid = pid;
	x->running = !x->ended;
	pthread_mutex_unlock(&e->lock);
	if (!x->hidden)
		exec_save(x);
	exec_emit(x, "exec_start");
	return 0;
}

int engine_exec_start(struct engine *e, const char *exec_id, const struct attach_options *o,
		      int client_fd, unsigned height, unsigned width, struct error *err)
{
	autoclose int fd = client_fd;
	CLEANUP(exec_unrefp) struct exec *x = exec_find(e, exec_id, err);

	if (!x)
		return -1;
	x->height = height;
	x->width = width;
	return exec_start(x, o, fd, err);
}

/* A client whose stream has ended asks at once for the exit code; the shim knows it then, though
 * its word of it may still be on the way. */
static void view_state(struct exec *x, struct exec_view *ret)
{
	struct engine *e = x->container->e;
	struct task_state state;

	pthread_mutex_lock(&e->lock);
	ret->running = x->running;
	ret->started = x->started;
	ret->exit_code = x->exit_code;
	ret->pid = x->pid;
	pthread_mutex_unlock(&e->lock);
	CLEANUP(task_unrefp)
	struct task *t = ret->running ? container_task(x->container, NULL) : NULL;
	if (!t || task_state(t, x->id, &state, NULL) < 0 || state.status != TASK_STOPPED)
		return;
	ret->running = false;
	ret->exit_code = (int)state.exit_status;
}

int engine_exec_inspect(struct engine *e, const char *exec_id, struct exec_view *ret,
			struct error *err)
{
	CLEANUP(exec_unrefp) struct exec *x = exec_find(e, exec_id, err);

	if (!x)
		return -1;
	const struct exec_config *k = &x->config;
	*ret = (struct exec_view){
		.id = xstrdup(x->id),
		.container_id = xstrdup(x->container->id),
		.config = {
			.cwd = xstrdup(k->cwd),
			.user = xstrdup(k->user),
			.detach_keys = xstrdup(k->detach_keys),
			.tty = k->tty,
			.privileged = k->privileged,
			.attach_stdin = k->attach_stdin,
			.attach_stdout = k->attach_stdout,
			.attach_stderr = k->attach_stderr,
		},
	};
	strv_copy(&ret->config.args, &k->args);
	strv_copy(&ret->config.env, &k->env);
	view_state(x, ret);
	return 0;
}

int engine_exec_resize(struct engine *e, const char *exec_id, unsigned height, unsigned width,
		       struct error *err)
{
	CLEANUP(exec_unrefp) struct exec *x = exec_find(e, exec_id, err);

	if (!x)
		return -1;
	CLEANUP(task_unrefp) struct task *t = container_task(x->container, err);
	return t ? task_resize(t, x->id, width, height, err) : -1;
}

/* After the end, on a thread: the shim forgets it, the world learns of it. Owns a reference. */
static void after_end(void *arg)
{
	struct exec *x = arg;
	struct container *c = x->container;
	CLEANUP(task_unrefp) struct task *t = container_task(c, NULL);

	exec_tell_exit(x);
	if (t)
		task_delete(t, x->id, NULL, NULL);
	if (!x->hidden) {
		struct engine_event event = {
			.ns = c->ns, .type = "container", .action = "exec_die", .id = c->id
		};
		autofree char *code = xasprintf("%d", x->exit_code);

		exec_save(x);
		pthread_mutex_lock(&c->e->lock);
		kvs_copy(&event.attributes, &c->config.labels);
		kvs_set(&event.attributes, "image", c->config.image ? c->config.image : "");
		kvs_set(&event.attributes, "name", c->name);
		pthread_mutex_unlock(&c->e->lock);
		kvs_set(&event.attributes, "execID", x->id);
		kvs_set(&event.attributes, "exitCode", code);
		engine_emit(c->e, &event);
		kvs_done(&event.attributes);
	}
	if (x->once)
		exec_forget(x);
	exec_unref(x);
}

/* e->lock is held. */
static bool mark_ended(struct exec *x, unsigned status)
{
	if (x->ended)
		return false;
	x->ended = true;
	x->running = false;
	x->exit_code = (int)status;
	return true;
}

void exec_ended(struct container *c, const char *exec_id, unsigned status)
{
	struct engine *e = c->e;

	pthread_mutex_lock(&e->lock);
	struct exec *x = exec_ref(map_get(&e->execs, exec_id));
	bool first = x && mark_ended(x, status);
	pthread_mutex_unlock(&e->lock);
	if (first) {
		if (x->on_end)
			x->on_end(x, x->arg);
		exec_tell_exit(x);
		job_submit(e->config.jobs, JOB_OPS, after_end, NULL, exec_ref(x));
	}
	exec_unref(x);
}

void container_end_execs(struct container *c)
{
	for (;;) {
		struct exec *found = NULL;

		pthread_mutex_lock(&c->e->lock);
		LIST_FOREACH (x, &c->execs, struct exec, node)
			if (!found && x->running && mark_ended(x, 128 + SIGKILL))
				found = exec_ref(x);
		pthread_mutex_unlock(&c->e->lock);
		if (!found)
			return;
		after_end(found);
	}
}

void container_drop_execs(struct container *c)
{
	for (;;) {
		pthread_mutex_lock(&c->e->lock);
		struct exec *x = list_is_empty(&c->execs)
					 ? NULL
					 : LIST_ENTRY(c->execs.next, struct exec, node);
		if (x)
			unpublish(x);
		pthread_mutex_unlock(&c->e->lock);
		if (!x)
			return;
		exec_unref(x);
	}
}

void exec_forget(struct exec *x)
{
	pthread_mutex_lock(&x->container->e->lock);
	bool listed = !list_is_empty(&x->node);
	if (listed)
		unpublish(x);
	pthread_mutex_unlock(&x->container->e->lock);
	if (listed)
		exec_unref(x);
}

/* --- after a restart --- */

static struct exec *exec_parse(struct container *c, const char *id, const struct json *j)
{
	struct exec *x = xnew(struct exec);

	x->refs = 1;
	x->container = container_ref(c);
	memcpy(x->id, id, sizeof(x->id) - 1);
	json_get_strv(j, "args", &x->config.args, NULL);
	json_get_strv(j, "env", &x->config.env, NULL);
	x->config.cwd = xstrdup(json_get_string(j, "cwd"));
	x->config.user = xstrdup(json_get_string(j, "user"));
	x->config.detach_keys = xstrdup(json_get_string(j, "detachKeys"));
	x->config.tty = json_get_bool(j, "tty", false);
	x->config.privileged = json_get_bool(j, "privileged", false);
	x->config.attach_stdin = json_get_bool(j, "stdin", false);
	x->config.attach_stdout = json_get_bool(j, "stdout", false);
	x->config.attach_stderr = json_get_bool(j, "stderr", false);
	x->started = json_get_bool(j, "started", false);
	x->ended = json_get_bool(j, "ended", false);
	x->pid = (int)json_get_int(j, "pid", 0);
	x->exit_code = (int)json_get_int(j, "exitCode", 0);
	return x;
}

/* Where an exec of an earlier daemon is by now. One that was being started when that daemon died
 * has no file that says so, and the shim may run it all the same. */
static void reconcile(struct exec *x, struct task *t)
{
	struct task_state state = { 0 };

	if (x->ended)
		return;
	bool known = task_state(t, x->id, &state, NULL) == 0 && state.status != TASK_CREATED;
	pthread_mutex_lock(&x->container->e->lock);
	if (known) {
		x->started = true;
		x->running = true;
		x->pid = state.pid;
	} else if (x->started) {
		x->ended = true;
		x->exit_code = EXIT_UNKNOWN;
	}
	pthread_mutex_unlock(&x->container->e->lock);
	if (known)
		task_watch(t, x->id);
}

static bool exec_id_of(const char *file, char ret[65])
{
	if (!str_has_prefix(file, "exec-") || strlen(file) != 5 + 64 + 5 ||
	    !str_has_suffix(file, ".json"))
		return false;
	memcpy(ret, file + 5, 64);
	ret[64] = '\0';
	return true;
}

void execs_load(struct container *c)
{
	DIR *d = opendir(c->run_dir);

	if (!d)
		return;
	for (struct dirent *entry; (entry = readdir(d));) {
		char id[65];

		if (!exec_id_of(entry->d_name, id))
			continue;
		autojson struct json *j =
			json_load_at(dirfd(d), entry->d_name, EXEC_FILE_MAX, NULL);
		if (!j)
			continue;
		struct exec *x = exec_parse(c, id, j);
		pthread_mutex_lock(&c->e->lock);
		publish(x);
		pthread_mutex_unlock(&c->e->lock);
		if (c->task)
			reconcile(x, c->task);
	}
	closedir(d);
}
