/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim of a pod, and its reaper. The shim's task has the sandbox's id and exists without a
 * container, unless the pod shares its PID namespace: then the reaper is that container, as a pause
 * container would be. A shim without a reaper may die (be killed) without harm to the sandbox: its
 * containers end with it, and the next one gets a new shim.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/program.h"
#include "engine/lsm.h"
#include "engine/sandbox-internal.h"
#include "engine/spec-internal.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_PARENT "/kistl"
#define DEFAULT_SLICE "system.slice"
#define REAPER_OOM_SCORE (-998)
#define PROGRAM_MAX (1 << 20)

/* id NULL: the parent of all. */
char *sandbox_cgroup(const struct sandbox *s, const char *id)
{
	const char *parent = s->config.cgroup_parent;

	if (s->e->config.systemd_cgroup) {
		const char *slice = str_empty(parent) ? DEFAULT_SLICE : path_base(parent);

		return id ? xasprintf("%s:cri-containerd:%s", slice, id) : xstrdup(slice);
	}
	if (str_empty(parent))
		parent = DEFAULT_PARENT;
	return xasprintf("%s%s%s%s", parent[0] == '/' ? "" : "/", parent,
			 id && !str_has_suffix(parent, "/") ? "/" : "", id ? id : "");
}

char *sandbox_mount_label(const struct sandbox *s)
{
	autofree char *process = NULL;
	char *label = NULL;

	if (!selinux_enabled() ||
	    selinux_labels(&s->config.selinux, s->id, &process, &label, NULL) < 0)
		return NULL;
	return label;
}

/* What the pod's containers share besides namespaces. */
static void shared_mounts(const struct sandbox *s, struct mounts *ret)
{
	if (s->config.ipc != POD_NS_POD)
		return;
	struct mount *m = mounts_add(ret, "tmpfs", "shm", "shm");
	autofree char *label = sandbox_mount_label(s);
	strv_split(&m->options, "nosuid,noexec,nodev,mode=1777,size=65536k", ",");
	if (label)
		strv_push_printf(&m->options, "context=%s", label);
	if (!s->config.userns)
		return;
	strv_push_printf(&m->options, "uid=%lld", (long long)s->config.uid_mappings.v[0].host_id);
	strv_push_printf(&m->options, "gid=%lld", (long long)s->config.gid_mappings.v[0].host_id);
}

/* shim_lock is held, or nobody else has the sandbox. */
int sandbox_shim_start(struct sandbox *s, struct error *err)
{
	const struct runtime_entry *runtime = engine_runtime(s->e, s->config.runtime, err);
	automounts struct mounts mounts = MOUNTS_INIT;

	if (!runtime)
		return -1;
	shared_mounts(s, &mounts);
	if (task_prepare_pod(s->e->tasks, s->ns, s->id, runtime->path, &mounts, &s->task, err) < 0)
		return error_wrap(err, "start the shim of sandbox \"%s\"", s->id);
	return 0;
}

struct task *sandbox_shim(struct sandbox *s, struct error *err)
{
	int r = 0;

	pthread_mutex_lock(&s->shim_lock);
	if (s->task && !task_is_alive(s->task) && s->pid == 0) {
		task_destroy(s->task);
		task_unref(TAKE_PTR(s->task));
	}
	if (!sandbox_is_ready(s))
		r = error_set(err, ERROR_FAILED_PRECONDITION, "sandbox \"%s\" is not ready", s->id);
	else if (!s->task)
		r = sandbox_shim_start(s, err);
	struct task *t = r < 0 ? NULL : task_ref(s->task);
	pthread_mutex_unlock(&s->shim_lock);
	return t;
}

void sandbox_shim_end(struct sandbox *s)
{
	pthread_mutex_lock(&s->shim_lock);
	struct task *t = TAKE_PTR(s->task);
	pthread_mutex_unlock(&s->shim_lock);
	if (t)
		task_destroy(t);
	task_unref(t);
	pthread_mutex_lock(&s->e->lock);
	s->pid = 0;
	pthread_mutex_unlock(&s->e->lock);
}

/* --- the reaper --- */

/* <state>/pause: a root file system with nothing but the program; malloc'ed. */
static char *reaper_root(struct engine *e, struct error *err)
{
	static const char *const dirs[] = { "proc", "dev", "sys" };
	autofree char *root = path_join(e->config.state, "pause", NULL);
	autofree char *program = path_join(root, "pause", NULL);
	autobuf struct buf text = BUF_INIT(PROGRAM_MAX);
	struct stat st, own;

	if (stat(program, &st) == 0 && stat(e->config.pause, &own) == 0 &&
	    st.st_size == own.st_size && st.st_mtime >= own.st_mtime)
		return TAKE_PTR(root);
	int r = fs_mkdir_p(root, 0755);
	for (size_t i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++) {
		autofree char *dir = path_join(root, dirs[i], NULL);

		r = fs_mkdir_p(dir, 0755);
	}
	if (r == 0)
		r = fs_read(AT_FDCWD, e->config.pause, &text);
	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, program, text.data, text.len, 0755, false);
	if (r < 0) {
		error_errno(err, -r, "install the reaper '%s'", e->config.pause);
		return NULL;
	}
	return TAKE_PTR(root);
}

static void add_namespace(struct json *list, const char *type, const char *path)
{
	struct json *j = json_new_object();

	json_set_string(j, "type", type);
	if (path)
		json_set_string(j, "path", path);
	json_add(list, j);
}

struct pins {
	int fds[SANDBOX_NS_MAX];
};

static void pins_done(struct pins *p)
{
	for (int i = 0; i < SANDBOX_NS_MAX; i++)
		closep(&p->fds[i]);
}

static struct json *reaper_namespaces(const struct sandbox *s, struct pins *pins)
{
	static const char *const types[] = { "network", "ipc", "uts", "user" };
	struct json *list = json_new_array();

	add_namespace(list, "pid", NULL);
	add_namespace(list, "mount", NULL);
	for (int i = 0; i < SANDBOX_NS_MAX; i++) {
		pins->fds[i] = sandbox_ns_open(s, (enum sandbox_ns)i);
		if (pins->fds[i] < 0)
			continue;
		autofree char *path = xasprintf("/proc/%d/fd/%d", (int)getpid(), pins->fds[i]);
		add_namespace(list, types[i], path);
	}
	return list;
}

static void add_mount(struct json *list, const char *target, const char *type, const char *options)
{
	struct json *m = json_new_object();
	autostrv struct strv words = STRV_INIT;

	strv_split(&words, options, ",");
	json_set_string(m, "destination", target);
	json_set_string(m, "type", type);
	json_set_string(m, "source", type);
	json_set(m, "options", json_new_strv(&words));
	json_add(list, m);
}

static struct json *reaper_process(void)
{
	struct json *process = json_new_object();
	autostrv struct strv args = STRV_INIT;
	struct json *user = json_new_object();

	strv_push(&args, "/pause");
	json_set_int(user, "uid", 0);
	json_set_int(user, "gid", 0);
	json_set(process, "user", user);
	json_set(process, "args", json_new_strv(&args));
	json_set_string(process, "cwd", "/");
	json_set(process, "capabilities", json_new_object());
	json_set_bool(process, "noNewPrivileges", true);
	json_set_int(process, "oomScoreAdj", spec_oom_score(REAPER_OOM_SCORE));
	return process;
}

static struct json *reaper_spec(const struct sandbox *s, struct pins *pins)
{
	struct json *spec = json_new_object();
	struct json *root = json_new_object();
	struct json *linux_ = json_new_object();
	struct json *mounts = json_new_array();
	autofree char *cgroup = sandbox_cgroup(s, s->id);

	json_set_string(root, "path", "rootfs");
	json_set_bool(root, "readonly", true);
	add_mount(mounts, "/proc", "proc", "nosuid,noexec,nodev");
	add_mount(mounts, "/dev", "tmpfs", "nosuid,noexec,mode=755,size=64k");
	json_set_string(linux_, "cgroupsPath", cgroup);
	json_set(linux_, "namespaces", reaper_namespaces(s, pins));
	if (s->config.userns) {
		json_set(linux_, "uidMappings", spec_id_mappings(&s->config.uid_mappings));
		json_set(linux_, "gidMappings", spec_id_mappings(&s->config.gid_mappings));
	}
	json_set_string(spec, "ociVersion", "1.0.2");
	json_set(spec, "process", reaper_process());
	json_set(spec, "root", root);
	json_set(spec, "mounts", mounts);
	json_set(spec, "linux", linux_);
	return spec;
}

int sandbox_reaper_start(struct sandbox *s, struct error *err)
{
	const struct runtime_entry *runtime = engine_runtime(s->e, s->config.runtime, err);
	CLEANUP(pins_done) struct pins pins = { { -1, -1, -1, -1 } };
	automounts struct mounts rootfs = MOUNTS_INIT;
	int pid = 0;

	if (s->config.pid != POD_NS_POD)
		return 0;
	autofree char *root = runtime ? reaper_root(s->e, err) : NULL;
	if (!root)
		return -1;
	struct mount *m = mounts_add(&rootfs, "bind", root, NULL);
	strv_split(&m->options, "bind,ro", ",");
	autojson struct json *spec = reaper_spec(s, &pins);
	const struct task_create request = {
		.spec = spec,
		.rootfs = &rootfs,
		.runtime = runtime->path,
		.systemd_cgroup = s->e->config.systemd_cgroup,
	};
	if (s->config.userns && chmod(task_bundle(s->task), 0711) < 0)
		return error_errno(err, errno, "open the bundle to the pod's users");
	if (task_create(s->task, &request, &pid, err) < 0 || task_start(s->task, "", &pid, err) < 0)
		return error_wrap(err, "start the reaper of sandbox \"%s\"", s->id);
	pthread_mutex_lock(&s->e->lock);
	s->pid = pid;
	pthread_mutex_unlock(&s->e->lock);
	return 0;
}

/* --- its end --- */

static void lost_work(void *arg)
{
	struct sandbox *s = arg;

	sandbox_lock(s);
	if (!s->gone && s->config.pid == POD_NS_POD && !s->making) {
		log_warn("the reaper of sandbox '%s' has ended", s->id);
		sandbox_note_lost(s);
	}
	sandbox_release(s);
}

void sandbox_on_exit(struct sandbox *s)
{
	job_submit(s->e->config.jobs, JOB_OPS, lost_work, NULL, sandbox_ref(s));
}
