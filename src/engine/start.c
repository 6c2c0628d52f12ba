/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start, as named steps over one struct whose cleanup undoes whatever has been done when a step
 * fails. The shim's process is started first: it comes up while namespace, network and spec are
 * made here. Clients that attached before are handed to the shim between Create and Start, so that
 * they see the first byte.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/internal.h"
#include "engine/restart.h"
#include "engine/sandbox-internal.h"
#include "store/snapshots.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>

struct starting {
	struct container *c;
	struct task *task;
	struct mounts rootfs;
	int rootfs_fd;
	int netns;
	bool attached;
	struct endpoints endpoints;
	struct mount_specs mounts;
	char *netns_path, *pidns_path, *ipcns_path, *utsns_path;
	char *hosts_path, *resolv_conf_path, *hostname_path;
	struct json *spec;
	int pid;
	int64_t started_at;
	bool done;
};

static void starting_done(struct starting *s)
{
	if (!s->done && s->task)
		task_destroy(s->task);
	if (!s->done && s->attached)
		network_detach(s->c->e->config.network, s->c->id, NULL);
	if (!s->done)
		volumes_unmount(s->c);
	task_unref(s->task);
	mounts_done(&s->rootfs);
	closep(&s->rootfs_fd);
	closep(&s->netns);
	endpoints_done(&s->endpoints);
	mount_specs_done(&s->mounts);
	free(s->netns_path);
	free(s->pidns_path);
	free(s->ipcns_path);
	free(s->utsns_path);
	free(s->hosts_path);
	free(s->resolv_conf_path);
	free(s->hostname_path);
	json_unref(s->spec);
}

static int open_rootfs(struct starting *s, struct error *err)
{
	const struct store_ctx ctx = container_store(s->c);

	if (snapshot_mounts(&ctx, s->c->snapshotter, s->c->id, &s->rootfs, err) < 0)
		return -1;
	assert(s->rootfs.n > 0);
	s->rootfs_fd = mount_open_detached(&s->rootfs.v[0], err);
	return s->rootfs_fd < 0 ? error_wrap(err, "mount the root file system") : 0;
}

/* "container:ID" of a namespace mode: /proc/<pid>/ns/<kind> of a running container. NULL for other
 * modes. */
static int joined_namespace(struct starting *s, const char *mode, const char *kind,
			    const char *what, char **ret, struct error *err)
{
	if (!mode || !str_has_prefix(mode, "container:"))
		return 0;
	CLEANUP(container_unrefp)
	struct container *other =
		container_find(s->c->e, s->c->ns, mode + strlen("container:"), err);
	if (!other)
		return -1;
	pthread_mutex_lock(&other->e->lock);
	bool running = other->s.status == CONTAINER_RUNNING || other->s.status == CONTAINER_PAUSED;
	int pid = other->s.pid;
	pthread_mutex_unlock(&other->e->lock);
	if (other == s->c)
		return error_set(err, ERROR_INVALID_ARGUMENT, "cannot join own %s namespace", what);
	if (!running || pid <= 0)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "cannot join %s of a non running container: %s", what, other->id);
	*ret = xasprintf("/proc/%d/ns/%s", pid, kind);
	return 0;
}

static int enter_network(struct starting *s, struct error *err)
{
	const char *mode = s->c->config.network_mode;

	if (str_equal(mode, "host")) {
		s->netns_path = xstrdup("");
		return 0;
	}
	if (joined_namespace(s, mode, "net", "network", &s->netns_path, err) < 0)
		return -1;
	if (s->netns_path)
		return 0;
	s->netns = netns_create(err);
	if (s->netns < 0)
		return -1;
	s->netns_path = xasprintf("/proc/%d/fd/%d", (int)getpid(), s->netns);
	if (str_equal(mode, "none"))
		return 0;
	if (container_join_networks(s->c, s->netns, &s->endpoints, err) < 0)
		return -1;
	s->attached = true;
	return 0;
}

static int build_spec(struct starting *s, struct error *err)
{
	struct container *c = s->c;
	struct container_config linked = c->config; /* borrowed, but for the environment */
	const struct container_config *k = &linked;
	autostrv struct strv env = STRV_INIT;
	const char *parent = str_empty(k->cgroup_parent) ? "/kistl" : k->cgroup_parent;
	autofree char *cgroup = xasprintf("%s%s/%s", parent[0] == '/' ? "" : "/", parent, c->id);

	if (joined_namespace(s, k->pid_mode, "pid", "PID", &s->pidns_path, err) < 0 ||
	    joined_namespace(s, k->ipc_mode, "ipc", "IPC", &s->ipcns_path, err) < 0 ||
	    joined_namespace(s, k->uts_mode, "uts", "UTS", &s->utsns_path, err) < 0)
		return -1;
	if (k->links.n > 0) {
		if (container_link_env(c, &env, err) < 0)
			return -1;
		strv_extend(&env, &k->env);
		linked.env = env;
	}
	const struct spec_inputs in = {
		.config = k,
		.id = c->id,
		.rootfs_fd = s->rootfs_fd,
		.rootfs_path = "rootfs",
		.cgroups_path = cgroup,
		.netns_path = s->netns_path,
		.pidns_path = s->pidns_path,
		.ipcns_path = s->ipcns_path,
		.utsns_path = s->utsns_path,
		.hosts_path = s->hosts_path,
		.resolv_conf_path = s->resolv_conf_path,
		.hostname_path = s->hostname_path,
		.init_path = k->init ? c->e->config.init : NULL,
		.mounts = s->mounts.v,
		.n_mounts = s->mounts.n,
		.cdi_dirs = c->e->config.cdi_dirs,
		.cgroup_v2 = c->e->cgroup_v2,
	};
	return spec_build(&in, &s->spec, err);
}

static int create_task(struct starting *s, struct error *err)
{
	struct container *c = s->c;
	const struct container_config *k = &c->config;
	const struct runtime_entry *runtime = engine_runtime(c->e, k->runtime, err);

	if (!runtime)
		return -1;
	autofree char *uri = container_log_uri(c, err);

	if (!uri)
		return -1;
	const struct task_create request = {
		.spec = s->spec,
		.rootfs = &s->rootfs,
		.terminal = k->tty,
		.stdin_uri = uri,
		.stdout_uri = uri,
		.stderr_uri = k->tty ? NULL : uri,
		.runtime = runtime->path,
	};
	/* The shim mounts the same directories: ours goes first. */
	closep(&s->rootfs_fd);
	s->rootfs_fd = -EBADF;
	if (task_create(s->task, &request, &s->pid, err) < 0)
		return error_wrap(err, "failed to create task for container");
	return 0;
}

int container_run_task(struct container *c, struct task *t, int *ret_pid, int64_t *ret_started_at,
		       struct error *err)
{
	/* From here on the end of init is taken note of. */
	pthread_mutex_lock(&c->e->lock);
	c->task = task_ref(t);
	c->exited = false;
	pthread_mutex_unlock(&c->e->lock);
	*ret_started_at = time_realtime();
	if (container_attach_pending(c, t, err) == 0 && task_start(t, "", ret_pid, err) == 0)
		return 0;
	pthread_mutex_lock(&c->e->lock);
	struct task *mine = TAKE_PTR(c->task);
	c->exited = false;
	pthread_mutex_unlock(&c->e->lock);
	task_unref(mine);
	return error_wrap(err, "failed to start task for container");
}

static int start_steps(struct starting *s, struct error *err)
{
	struct container *c = s->c;

	const struct runtime_entry *runtime = engine_runtime(c->e, c->config.runtime, err);

	if (!str_empty(c->config.unmet_request))
		return error_set(err, ERROR_UNKNOWN, "%s", c->config.unmet_request);
	/* Before the shim takes its view of the host's mounts. */
	if (!runtime || volumes_mount(c, err) < 0 ||
	    task_prepare(c->e->tasks, c->ns, c->id, runtime->path, &s->task, err) < 0 ||
	    enter_network(s, err) < 0 || open_rootfs(s, err) < 0 ||
	    volumes_resolve(c, s->rootfs_fd, &s->mounts, err) < 0 ||
	    container_write_files(c, &s->endpoints, &s->hosts_path, &s->resolv_conf_path,
				  &s->hostname_path, err) < 0 ||
	    build_spec(s, err) < 0 || create_task(s, err) < 0 ||
	    volumes_verify(&s->mounts, s->pid, err) < 0)
		return -1;
	return container_run_task(c, s->task, &s->pid, &s->started_at, err);
}

void container_started(struct container *c, const struct json *spec, int pid, int64_t started_at)
{
	autofree char *process = json_format(json_get(spec, "process"), /* pretty */ false);

	pthread_mutex_lock(&c->e->lock);
	str_replace(&c->process, process);
	c->s.status = CONTAINER_RUNNING;
	c->s.pid = pid;
	c->s.started_at = started_at;
	c->stopping = false;
	c->s.exit_code = 0;
	c->s.oom_killed = false;
	c->s.stopped_by_user = false;
	str_replace(&c->s.error, NULL);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->e->lock);
	container_save(c);
	networks_emit(c, &c->s.endpoints, "connect");
	container_emit(c, "start", NULL, NULL);
	container_relink(c);
}

static void commit(struct starting *s)
{
	struct container *c = s->c;

	s->done = true;
	pthread_mutex_lock(&c->e->lock);
	endpoints_done(&c->s.endpoints);
	c->s.endpoints = s->endpoints;
	container_note_change(c);
	s->endpoints = (struct endpoints){ 0 };
	pthread_mutex_unlock(&c->e->lock);
	container_started(c, s->spec, s->pid, s->started_at);
}

/* Docker's clients turn these words into the exit codes 127 and 126. What the runtime did not say
 * is not about the program. */
static void add_known_words(const struct container *c, struct error *err)
{
	static const char *const words[] = { "permission denied",
					     "executable file not found in $PATH" };
	int code = start_failure_code(error_msg(err));
	const char *text = code == 127 ? words[1] : words[0];

	if (!strstr(error_msg(err), "OCI runtime"))
		return;
	if (code != 128 && !strstr(error_msg(err), text) && c->config.args.n > 0)
		error_set(err, err->code, "%s: exec: \"%s\": %s", error_msg(err),
			  c->config.args.v[0], text);
}

static void note_failure(struct container *c, struct error *err)
{
	add_known_words(c, err);
	pthread_mutex_lock(&c->e->lock);
	c->s.exit_code = start_failure_code(error_msg(err));
	c->s.pid = 0;
	str_replace(&c->s.error, error_msg(err));
	pthread_mutex_unlock(&c->e->lock);
	container_drop_attaches(c);
	container_save(c);
}

int container_start(struct container *c, struct error *err)
{
	if (container_in_pod(c))
		return pod_start(c, err);

	CLEANUP(starting_done)
	struct starting s = { .c = c, .rootfs_fd = -EBADF, .netns = -EBADF };
	autoerror struct error why = ERROR_INIT;

	if (start_steps(&s, &why) < 0) {
		note_failure(c, &why);
		return error_move(err, &why);
	}
	commit(&s);
	health_start(c, /* fresh */ true);
	return 0;
}

/* What a reboot should find; after the reply, since no one waits for it. */
static void save_later(void *arg)
{
	struct container *c = arg;

	container_lock(c);
	if (!c->gone)
		container_save_record(c);
	container_release(c);
}

int engine_start(struct engine *e, const char *ns, const char *id, bool *ret_changed,
		 struct error *err)
{
	CLEANUP(container_unrefp) struct container *found = container_find(e, ns, id, err);

	if (!found)
		return -1;
	container_await_announced(found);
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, found->id, err);
	if (!c)
		return -1;
	if (ret_changed)
		*ret_changed = false;
	switch (c->s.status) {
	case CONTAINER_RUNNING:
		return container_in_pod(c) ? pod_start(c, err) : 0;
	case CONTAINER_PAUSED:
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "cannot start a paused container, try unpause instead");
	case CONTAINER_REMOVING:
	case CONTAINER_DEAD:
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "container is marked for removal and cannot be started");
	default:
		break;
	}
	container_cancel_timer(c);
	pthread_mutex_lock(&e->lock);
	c->s.restart_count = 0;
	c->s.restart_delay = 0;
	if (c->s.status == CONTAINER_RESTARTING)
		c->s.status = CONTAINER_EXITED;
	pthread_mutex_unlock(&e->lock);
	if (container_start(c, err) < 0) {
		if (c->config.auto_remove)
			container_remove(c, /* volumes */ true, NULL);
		return -1;
	}
	if (ret_changed)
		*ret_changed = true;
	if (!c->config.auto_remove)
		job_submit(e->config.jobs, JOB_OPS, save_later, NULL, container_ref(c));
	return 0;
}
