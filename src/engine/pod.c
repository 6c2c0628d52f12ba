/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers of pods: what is checked and decided at their creation, and their start.
 *
 * CREATED means prepared: snapshot, record, and a specification that has been made once, so that
 * what is wrong with user, profiles, devices or mounts is told by the creation. The OCI runtime
 * sees the container at its start.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/pod-internal.h"
#include "engine/spec-internal.h"
#include "store/snapshots.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define EXIT_START_FAILED 128

/* --- creation --- */

static int check_target(struct engine *e, const char *ns, const struct container_config *k,
			struct error *err)
{
	const char *id = k->pid_mode + strlen("container:");
	CLEANUP(container_unrefp) struct container *other = container_find(e, ns, id, err);

	if (!other || !str_equal(other->config.sandbox_id, k->sandbox_id))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "linux.security_context.namespace_options.target_id: '%s' is not "
				 "a container of this sandbox",
				 id);
	return 0;
}

static int check_modes(struct sandbox *s, const struct container_config *k, struct error *err)
{
	const char *pid = k->pid_mode ? k->pid_mode : "";

	if (k->privileged && !s->config.privileged)
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"linux.security_context.privileged: the sandbox is not privileged");
	if (str_equal(pid, "pod") && s->config.pid != POD_NS_POD)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "linux.security_context.namespace_options.pid: the sandbox has no "
				 "PID namespace to share");
	if (str_equal(pid, "host") && s->config.pid != POD_NS_NODE)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "linux.security_context.namespace_options.pid: the sandbox does "
				 "not use the host's PID namespace");
	if (str_has_prefix(pid, "container:"))
		return check_target(s->e, s->ns, k, err);
	if (pid[0] && !str_equal(pid, "pod") && !str_equal(pid, "host") &&
	    !str_equal(pid, "private"))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid PID mode: %s", pid);
	return 0;
}

static bool same_mapping(const struct id_mappings *a, const struct id_mappings *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].container_id != b->v[i].container_id ||
		    a->v[i].host_id != b->v[i].host_id || a->v[i].length != b->v[i].length)
			return false;
	return true;
}

static int check_mount(const struct sandbox *s, const struct mount_spec *m, size_t i,
		       struct error *err)
{
	bool image = str_equal(m->type, "image");
	bool mapped = m->uid_mappings.n > 0 || m->gid_mappings.n > 0;
	bool private = str_empty(m->propagation) || str_equal(m->propagation, "rprivate") ||
		       str_equal(m->propagation, "private");

	if (str_empty(m->target) || m->target[0] != '/')
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "mounts[%zu].container_path: '%s' is not an absolute path", i,
				 m->target ? m->target : "");
	if (!image && !str_equal(m->type, "bind") && !str_equal(m->type, "tmpfs"))
		return error_set(err, ERROR_INVALID_ARGUMENT, "mounts[%zu]: unknown type '%s'", i,
				 m->type ? m->type : "");
	if (str_equal(m->type, "bind") && (str_empty(m->source) || m->source[0] != '/'))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "mounts[%zu].host_path: '%s' is not an absolute path", i,
				 m->source ? m->source : "");
	if (image && !m->read_only)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "mounts[%zu].readonly: must be true with an image", i);
	if (m->recursive_read_only && (!m->read_only || !private))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "mounts[%zu].recursive_read_only: wants readonly and PRIVATE "
				 "propagation",
				 i);
	if (mapped &&
	    (!s->config.userns || !same_mapping(&m->uid_mappings, &s->config.uid_mappings) ||
	     !same_mapping(&m->gid_mappings, &s->config.gid_mappings)))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "mounts[%zu]: its ID mappings are not the sandbox's", i);
	return 0;
}

static int check_policies(const struct container_config *k, struct error *err)
{
	const char *policy = k->groups_policy;

	if (!str_empty(policy) && !str_equal(policy, "merge") && !str_equal(policy, "strict"))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "supplemental_groups_policy: '%s' is not known", policy);
	if (!str_empty(k->log_path) && k->log_path[0] != '/')
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "log_path: '%s' is not an absolute path", k->log_path);
	if (k->args.n == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "no command specified");
	if ((!str_empty(k->restart_policy) && !str_equal(k->restart_policy, "no")) ||
	    k->auto_remove || k->init || k->volumes_from.n > 0)
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"restart policies, automatic removal, init and volumes from others "
			"are not for containers of sandboxes");
	return 0;
}

/* A container that asks for nothing has its sandbox's. */
static void inherit_label(struct selinux_label *own, const struct selinux_label *pod)
{
	if (!str_empty(own->user) || !str_empty(own->role) || !str_empty(own->type) ||
	    !str_empty(own->level))
		return;
	str_replace(&own->user, pod->user);
	str_replace(&own->role, pod->role);
	str_replace(&own->type, pod->type);
	str_replace(&own->level, pod->level);
}

/* What it has of the sandbox. */
static void inherit(struct sandbox *s, struct container_config *k)
{
	char own[256] = "";
	bool host = s->config.network == POD_NS_NODE || str_empty(s->config.hostname);

	gethostname(own, sizeof(own) - 1);
	str_replace(&k->sandbox_id, s->id);
	str_replace(&k->hostname, host ? own : s->config.hostname);
	str_replace(&k->network_mode, s->config.network == POD_NS_NODE ? "host" : "pod");
	str_replace(&k->uts_mode, s->config.network == POD_NS_NODE ? "host" : "pod");
	str_replace(&k->ipc_mode, s->config.ipc == POD_NS_NODE ? "host" : "pod");
	str_replace(&k->userns_mode, s->config.userns ? "pod" : "host");
	inherit_label(&k->selinux, &s->config.selinux);
	str_replace(&k->runtime, s->config.runtime);
	str_replace(&k->cgroup_parent, s->config.cgroup_parent);
	str_replace(&k->log_driver, str_empty(k->log_path) ? "none" : "cri");
	if (s->e->config.pod_log_line != 0) {
		autofree char *max = xasprintf("%lld", (long long)s->e->config.pod_log_line);

		kvs_set(&k->log_options, "max-line", max);
	}
}

int pod_prepare_create(struct engine *e, const char *ns, struct container_config *k,
		       struct error *err)
{
	CLEANUP(sandbox_unrefp) struct sandbox *s = sandbox_find(e, ns, k->sandbox_id, err);

	if (!s)
		return -1;
	if (!sandbox_is_ready(s))
		return error_set(err, ERROR_FAILED_PRECONDITION, "sandbox \"%s\" is not ready",
				 s->id);
	inherit(s, k);
	if (check_modes(s, k, err) < 0 || check_policies(k, err) < 0)
		return -1;
	for (size_t i = 0; i < k->mounts.n; i++)
		if (check_mount(s, &k->mounts.v[i], i, err) < 0)
			return -1;
	return 0;
}

bool pod_takes(const struct container *c)
{
	autofree char *key = table_key(c->ns, c->config.sandbox_id);
	const struct sandbox *s = map_get(&c->e->sandboxes, key);

	return s && !s->making && s->state == SANDBOX_READY;
}

/* --- the specification --- */

void pod_starting_done(struct pod_starting *p)
{
	if (!p->done && p->task)
		task_destroy(p->task);
	task_unref(p->task);
	task_unref(p->pod);
	sandbox_unref(p->s);
	mounts_done(&p->rootfs);
	mounts_done(&p->extra);
	mount_specs_done(&p->mounts);
	closep(&p->rootfs_fd);
	for (int i = 0; i < SANDBOX_NS_MAX; i++) {
		closep(&p->ns_fds[i]);
		free(p->ns_paths[i]);
	}
	free(p->pidns);
	json_unref(p->spec);
}

/* For reading only, and not where the shim mounts: the layers below the container's own. That mount
 * takes a grace period of the kernel's to go, so it is avoided where it can be. */
static int open_layers(struct pod_starting *p, struct error *err)
{
	const struct store_ctx ctx = container_store(p->c);
	automounts struct mounts mounts = MOUNTS_INIT;
	const char *lower = NULL;

	if (snapshot_mounts(&ctx, p->c->snapshotter, p->c->id, &p->rootfs, err) < 0)
		return -1;
	const struct mount *own = &p->rootfs.v[0];
	if (!str_equal(own->type, "overlay")) {
		p->rootfs_fd = open(own->source, O_PATH | O_DIRECTORY | O_CLOEXEC);
		return p->rootfs_fd < 0 ? error_errno(err, errno, "open '%s'", own->source) : 0;
	}
	struct mount *m = mounts_add(&mounts, "overlay", "overlay", NULL);
	for (size_t i = 0; i < own->options.n; i++) {
		const char *option = own->options.v[i];

		if (str_has_prefix(option, "lowerdir="))
			lower = option + strlen("lowerdir=");
		if (!str_has_prefix(option, "upperdir=") && !str_has_prefix(option, "workdir="))
			strv_push(&m->options, option);
	}
	if (lower && !strpbrk(lower, ":\\"))
		p->rootfs_fd = open(lower, O_PATH | O_DIRECTORY | O_CLOEXEC);
	else
		p->rootfs_fd = mount_open_detached(m, err);
	return p->rootfs_fd < 0 ? error_wrap(err, "open the image's layers") : 0;
}

/* Shims have given the pins up, so they are named by descriptors of ours. */
static int open_namespaces(struct pod_starting *p, struct error *err)
{
	const struct sandbox_config *k = &p->s->config;
	const bool wanted[SANDBOX_NS_MAX] = {
		[SANDBOX_NET] = k->network == POD_NS_POD,
		[SANDBOX_UTS] = k->network == POD_NS_POD,
		[SANDBOX_IPC] = k->ipc == POD_NS_POD,
		[SANDBOX_USER] = k->userns,
	};

	for (int i = 0; i < SANDBOX_NS_MAX; i++) {
		if (!wanted[i]) {
			p->ns_paths[i] = xstrdup("");
			continue;
		}
		p->ns_fds[i] = sandbox_ns_open(p->s, (enum sandbox_ns)i);
		if (p->ns_fds[i] < 0)
			return error_set(err, ERROR_FAILED_PRECONDITION,
					 "sandbox \"%s\" has lost a namespace", p->s->id);
		p->ns_paths[i] = xasprintf("/proc/%d/fd/%d", (int)getpid(), p->ns_fds[i]);
	}
	return 0;
}

static int find_pidns(struct pod_starting *p, struct error *err)
{
	const char *mode = p->c->config.pid_mode ? p->c->config.pid_mode : "";
	int pid = 0;

	if (str_equal(mode, "pod")) {
		pthread_mutex_lock(&p->c->e->lock);
		pid = p->s->pid;
		pthread_mutex_unlock(&p->c->e->lock);
	} else if (str_has_prefix(mode, "container:")) {
		CLEANUP(container_unrefp)
		struct container *other =
			container_find(p->c->e, p->c->ns, mode + strlen("container:"), err);

		if (!other)
			return -1;
		pthread_mutex_lock(&p->c->e->lock);
		pid = other->s.pid;
		pthread_mutex_unlock(&p->c->e->lock);
	} else {
		return 0;
	}
	if (pid <= 0)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "the process whose PID namespace is to be joined does not run");
	p->pidns = xasprintf("/proc/%d/ns/pid", pid);
	return 0;
}

static void add_annotations(struct pod_starting *p)
{
	const struct sandbox_config *k = &p->s->config;
	struct json *list = json_get(p->spec, "annotations");
	const struct {
		const char *key, *value;
	} own[] = {
		{ "io.kubernetes.cri.container-type", "container" },
		{ "io.kubernetes.cri.sandbox-id", p->s->id },
		{ "io.kubernetes.cri.sandbox-name", k->name },
		{ "io.kubernetes.cri.sandbox-namespace", k->namespace_ },
		{ "io.kubernetes.cri.sandbox-uid", k->uid },
		{ "io.kubernetes.cri.image-name", p->c->config.image },
	};

	if (!list) {
		list = json_new_object();
		json_set(p->spec, "annotations", list);
	}
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		json_set_string(list, own[i].key, own[i].value ? own[i].value : "");
}

/* As the creation has found it. */
static void known_user(struct container *c, struct user_ids *ret)
{
	pthread_mutex_lock(&c->e->lock);
	ret->uid = (uint32_t)c->s.uid;
	ret->gid = (uint32_t)c->s.gid;
	ret->n_groups = MIN(c->s.n_groups, (size_t)USER_GROUPS_MAX);
	if (ret->n_groups > 0)
		memcpy(ret->groups, c->s.groups, ret->n_groups * sizeof(ret->groups[0]));
	ret->home = xstrdup(c->s.home);
	pthread_mutex_unlock(&c->e->lock);
}

static int build_spec(struct pod_starting *p, struct error *err)
{
	struct container *c = p->c;
	CLEANUP(user_ids_done) struct user_ids user = { 0 };
	const struct sandbox_config *k = &p->s->config;
	autofree char *cgroup = sandbox_cgroup(p->s, c->id);
	autofree char *hosts = path_join(p->s->dir, "hosts", NULL);
	autofree char *hostname = path_join(p->s->dir, "hostname", NULL);
	autofree char *resolv = path_join(p->s->dir, "resolv.conf", NULL);
	autofree char *shm = k->ipc == POD_NS_POD && p->pod ? task_mount_path(p->pod, "shm")
							    : xstrdup("/dev/shm");
	if (p->task)
		known_user(c, &user);
	const struct spec_inputs in = {
		.config = &c->config,
		.id = c->id,
		.rootfs_fd = p->rootfs_fd,
		.user = p->task ? &user : NULL,
		.rootfs_path = "rootfs",
		.cgroups_path = cgroup,
		.netns_path = p->ns_paths[SANDBOX_NET],
		.ipcns_path = p->ns_paths[SANDBOX_IPC],
		.utsns_path = p->ns_paths[SANDBOX_UTS],
		.userns_path = k->userns ? p->ns_paths[SANDBOX_USER] : NULL,
		.uid_mappings = &k->uid_mappings,
		.gid_mappings = &k->gid_mappings,
		.pidns_path = p->pidns,
		.hosts_path = hosts,
		.hostname_path = hostname,
		.resolv_conf_path = resolv,
		.shm_path = shm,
		.mounts = p->mounts.v,
		.n_mounts = p->mounts.n,
		.cgroup_v2 = c->e->cgroup_v2,
		.cdi_dirs = c->e->config.cdi_dirs,
		.systemd_cgroup = c->e->config.systemd_cgroup,
	};
	if (spec_build(&in, &p->spec, err) < 0)
		return -1;
	add_annotations(p);
	return 0;
}

/* Whom it will run as: told with its status from the beginning. */
static void note_user(struct pod_starting *p)
{
	const struct json *user = json_get(json_get(p->spec, "process"), "user");
	const struct json *groups = json_get(user, "additionalGids");
	autostrv struct strv env = STRV_INIT;
	struct run_state *s = &p->c->s;
	size_t n = json_array_len(groups);

	json_get_strv(json_get(p->spec, "process"), "env", &env, NULL);
	pthread_mutex_lock(&p->c->e->lock);
	free(s->groups);
	str_replace(&s->home, strv_env_get(&env, "HOME"));
	s->has_user = true;
	s->uid = json_get_int(user, "uid", 0);
	s->gid = json_get_int(user, "gid", 0);
	s->groups = xnew_array(uint32_t, n + 1);
	s->n_groups = n;
	for (size_t i = 0; i < n; i++)
		s->groups[i] = (uint32_t)json_int(json_array_get(groups, i), 0);
	pthread_mutex_unlock(&p->c->e->lock);
}

#define POD_STARTING(container)                                                     \
	{                                                                           \
		.c = (container), .rootfs_fd = -EBADF, .ns_fds = { -1, -1, -1, -1 } \
	}

/* The upper layer of overlay is not mapped. */
static int own_upper(const struct pod_starting *p, struct error *err)
{
	const struct sandbox_config *k = &p->s->config;

	for (size_t i = 0; i < p->rootfs.n && k->userns; i++) {
		const struct strv *options = &p->rootfs.v[i].options;

		for (size_t n = 0; n < options->n; n++) {
			const char *upper = options->v[n] + strlen("upperdir=");

			if (str_has_prefix(options->v[n], "upperdir=") &&
			    chown(upper, (uid_t)k->uid_mappings.v[0].host_id,
				  (gid_t)k->gid_mappings.v[0].host_id) < 0)
				return error_errno(err, errno, "give '%s' to the pod", upper);
		}
	}
	return 0;
}

int pod_check_create(struct container *c, struct error *err)
{
	CLEANUP(pod_starting_done) struct pod_starting p = POD_STARTING(c);

	p.s = sandbox_find(c->e, c->ns, c->config.sandbox_id, err);
	if (!p.s || pod_make_volumes(c, err) < 0 || open_layers(&p, err) < 0 ||
	    open_namespaces(&p, err) < 0 || pod_resolve_mounts(&p, err) < 0 ||
	    build_spec(&p, err) < 0 || own_upper(&p, err) < 0)
		return -1;
	note_user(&p);
	container_save(c);
	return 0;
}

/* --- start --- */

static int create_task(struct pod_starting *p, struct error *err)
{
	struct container *c = p->c;
	const struct container_config *k = &c->config;
	const struct runtime_entry *runtime = engine_runtime(c->e, k->runtime, err);

	if (!runtime)
		return -1;
	autofree char *uri = container_log_uri(c, err);
	if (!uri)
		return -1;
	for (size_t i = 0; i < p->rootfs.n && p->s->config.userns; i++)
		strv_push_printf(&p->rootfs.v[i].options, MOUNT_IDMAP_OPTION "%s",
				 p->ns_paths[SANDBOX_USER]);
	/* The runtime labels what it mounts itself; the root is ours. */
	const char *label = json_get_string(json_get(p->spec, "linux"), "mountLabel");
	if (label && str_equal(p->rootfs.v[0].type, "overlay"))
		strv_push_printf(&p->rootfs.v[0].options, "context=%s", label);
	const struct task_create request = {
		.spec = p->spec,
		.mounts = &p->extra,
		.rootfs = &p->rootfs,
		.terminal = k->tty,
		.stdin_uri = uri,
		.stdout_uri = uri,
		.stderr_uri = k->tty ? NULL : uri,
		.runtime = runtime->path,
		.systemd_cgroup = c->e->config.systemd_cgroup,
	};
	if (p->s->config.userns && chmod(task_bundle(p->task), 0711) < 0)
		return error_errno(err, errno, "open the bundle to the pod's users");
	return task_create(p->task, &request, &p->pid, err);
}

static int start_steps(struct pod_starting *p, struct error *err)
{
	struct container *c = p->c;
	const struct store_ctx ctx = container_store(c);

	p->s = sandbox_find(c->e, c->ns, c->config.sandbox_id, err);
	p->pod = p->s ? sandbox_shim(p->s, err) : NULL;
	if (!p->pod || task_prepare_in(p->pod, c->id, &p->task, err) < 0 ||
	    open_namespaces(p, err) < 0 || find_pidns(p, err) < 0 ||
	    snapshot_mounts(&ctx, c->snapshotter, c->id, &p->rootfs, err) < 0 ||
	    pod_resolve_mounts(p, err) < 0 || build_spec(p, err) < 0 || create_task(p, err) < 0)
		return -1;
	return container_run_task(c, p->task, &p->pid, &p->started_at, err);
}

static void note_failure(struct container *c, const struct error *err)
{
	pthread_mutex_lock(&c->e->lock);
	c->s.status = CONTAINER_EXITED;
	c->s.start_failed = true;
	c->s.exit_code = EXIT_START_FAILED;
	c->s.finished_at = time_realtime();
	c->s.pid = 0;
	str_replace(&c->s.error, error_msg(err));
	waits_fire(c, /* removed */ false);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->e->lock);
	container_drop_attaches(c);
	container_save(c);
	container_save_record(c);
	container_emit(c, "die", "exitCode", "128");
}

int pod_start(struct container *c, struct error *err)
{
	CLEANUP(pod_starting_done) struct pod_starting p = POD_STARTING(c);
	autoerror struct error why = ERROR_INIT;

	if (c->s.status != CONTAINER_CREATED)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "container \"%s\" is not in created state: %s", c->id,
				 container_status_name(c->s.status));
	if (start_steps(&p, &why) < 0) {
		note_failure(c, &why);
		return error_move(err, &why);
	}
	p.done = true;
	container_started(c, p.spec, p.pid, p.started_at);
	return 0;
}

int engine_reopen_log(struct engine *e, const char *ns, const char *id, struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);

	if (!c)
		return -1;
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	return t ? task_reopen_log(t, err) : -1;
}
