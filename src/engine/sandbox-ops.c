/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run, stop and remove. Stop is the undoing of run as well: every step of it may be repeated, and
 * does nothing where there is nothing to be undone.
 *
 * The record is written first, as "making"; recovery takes one that is still so for a run that was
 * cut short and undoes it. Order: shim (it comes up meanwhile), namespaces, network, files, reaper.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"
#include "engine/lsm.h"
#include "engine/sandbox-internal.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

/* --- run --- */

static int check(struct engine *e, const struct sandbox_config *c, struct error *err)
{
	const char *parent = c->cgroup_parent;

	if (sandbox_config_validate(c, err) < 0)
		return -1;
	if (!engine_runtime(e, c->runtime, NULL))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "runtime_handler: no runtime for \"%s\" is configured",
				 c->runtime);
	if (e->config.systemd_cgroup && !str_empty(parent) && !str_has_suffix(parent, ".slice"))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "linux.cgroup_parent: '%s' is not a systemd slice", parent);
	if (selinux_enabled()) {
		autofree char *process = NULL, *mount = NULL;

		if (selinux_labels(&c->selinux, "", &process, &mount, err) < 0)
			return error_wrap(err, "linux.security_context");
	}
	if (c->userns) {
		struct engine_features f;

		engine_features(e, &f);
		if (!f.user_namespaces)
			return error_set(err, ERROR_FAILED_PRECONDITION,
					 "linux.security_context.namespace_options.userns_options: "
					 "this host has no ID-mapped mounts for root file systems");
	}
	return 0;
}

static int make(struct sandbox *s, struct error *err)
{
	if (sandbox_save(s, err) < 0 || sandbox_shim_start(s, err) < 0 ||
	    sandbox_ns_make(s, err) < 0 || sandbox_net_attach(s, err) < 0 ||
	    sandbox_ns_apply(s, err) < 0 || sandbox_files_write(s, err) < 0)
		return -1;
	sandbox_marker_make(s);
	return sandbox_reaper_start(s, err);
}

/* Nothing is left of it, or a NOTREADY one that can be stopped. */
static void undo(struct sandbox *s, struct error *why)
{
	autoerror struct error err = ERROR_INIT;

	if (sandbox_stop(s, &err) == 0 && sandbox_remove(s, &err) == 0)
		return;
	pthread_mutex_lock(&s->e->lock);
	s->making = false;
	pthread_mutex_unlock(&s->e->lock);
	if (sandbox_save(s, NULL) < 0)
		log_err("save the state of sandbox '%s': ignoring", s->id);
	error_set(why, why->code, "%s (and: %s; sandbox \"%s\" is left, not ready)", error_msg(why),
		  error_msg(&err), s->id);
}

int engine_sandbox_run(struct engine *e, const char *ns, struct sandbox_config *config,
		       struct json *extension, char ret_id[65], struct error *err)
{
	autoerror struct error why = ERROR_INIT;
	char id[65];

	if (check(e, config, err) < 0)
		return -1;
	random_hex(32, id);
	CLEANUP(sandbox_releasep) struct sandbox *s = sandbox_new(e, ns, id);
	s->busy = true;
	s->making = true;
	s->created_at = time_realtime();
	s->boot_id = xstrdup(e->boot_id);
	s->extension = extension ? json_format(extension, /* pretty */ false) : NULL;
	sandbox_config_copy(&s->config, config);
	sandbox_publish(s);
	if (make(s, &why) < 0) {
		undo(s, &why);
		return error_move(err, &why);
	}
	pthread_mutex_lock(&e->lock);
	s->making = false;
	s->state = SANDBOX_READY;
	pthread_mutex_unlock(&e->lock);
	if (sandbox_save(s, &why) < 0) {
		undo(s, &why);
		return error_move(err, &why);
	}
	memcpy(ret_id, s->id, sizeof(s->id));
	sandbox_config_done(config);
	json_unref(extension);
	sandbox_emit(s, "create");
	sandbox_emit(s, "start");
	return 0;
}

/* --- stop --- */

/* References of its containers. */
struct members {
	struct container **v;
	size_t n;
};

static void members_done(struct members *m)
{
	for (size_t i = 0; i < m->n; i++)
		container_unref(m->v[i]);
	free(m->v);
}

static void members_of(struct sandbox *s, struct members *ret)
{
	pthread_mutex_lock(&s->e->lock);
	MAP_FOREACH (item, &s->e->containers) {
		struct container *c = map_value(item);

		if (!str_equal(c->ns, s->ns) || !str_equal(c->config.sandbox_id, s->id))
			continue;
		GROW_ARRAY(ret->v, ret->n);
		ret->v[ret->n++] = container_ref(c);
	}
	pthread_mutex_unlock(&s->e->lock);
}

/* All get the signal before the first is waited for. */
static void signal_all(const struct members *m)
{
	for (size_t i = 0; i < m->n; i++) {
		CLEANUP(task_unrefp) struct task *t = container_task(m->v[i], NULL);

		if (t)
			task_kill(t, "", SIGKILL, /* all */ false, NULL);
	}
}

static int end_container(struct container *c, struct error *err)
{
	int r = 0;

	container_lock(c);
	container_finish(c);
	if (!c->gone && (c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED))
		r = container_kill_wait(c, err);
	container_unlock(c);
	return r;
}

static int end_containers(struct sandbox *s, struct error *err)
{
	CLEANUP(members_done) struct members members = { 0 };
	int r = 0;

	members_of(s, &members);
	signal_all(&members);
	for (size_t i = 0; i < members.n; i++)
		if (end_container(members.v[i], r == 0 ? err : NULL) < 0)
			r = -1;
	return r;
}

int sandbox_stop(struct sandbox *s, struct error *err)
{
	sandbox_note_lost(s);
	if (s->let_go)
		return 0;
	if (end_containers(s, err) < 0 || sandbox_net_detach(s, err) < 0)
		return -1;
	sandbox_shim_end(s);
	sandbox_marker_remove(s);
	if (sandbox_ns_release(s, err) < 0)
		return -1;
	pthread_mutex_lock(&s->e->lock);
	s->let_go = true;
	pthread_mutex_unlock(&s->e->lock);
	return sandbox_save(s, err);
}

static struct sandbox *acquire(struct engine *e, const char *ns, const char *id, struct error *err)
{
	struct sandbox *s = sandbox_find(e, ns, id, err);

	if (!s)
		return NULL;
	sandbox_lock(s);
	if (!s->gone)
		return s;
	sandbox_release(s);
	error_set(err, ERROR_NOT_FOUND, "sandbox \"%s\" not found", id);
	return NULL;
}

int engine_sandbox_stop(struct engine *e, const char *ns, const char *id, struct error *err)
{
	CLEANUP(sandbox_releasep) struct sandbox *s = acquire(e, ns, id, err);

	return s ? sandbox_stop(s, err) : -1;
}

/* --- remove --- */

static int remove_containers(struct sandbox *s, struct error *err)
{
	CLEANUP(members_done) struct members members = { 0 };

	members_of(s, &members);
	for (size_t i = 0; i < members.n; i++) {
		struct container *c = members.v[i];

		container_lock(c);
		int r = c->gone ? 0 : container_remove(c, /* volumes */ true, err);
		container_unlock(c);
		if (r < 0)
			return -1;
	}
	return 0;
}

int sandbox_remove(struct sandbox *s, struct error *err)
{
	const struct store_ctx ctx = { .store = s->e->config.store, .ns = s->ns };
	autofree char *key = table_key(s->ns, s->id);
	autoerror struct error why = ERROR_INIT;
	bool told = !s->making;

	if (remove_containers(s, err) < 0)
		return -1;
	int r = fs_remove_tree(AT_FDCWD, s->dir);
	if (r < 0)
		return error_errno(err, -r, "remove '%s'", s->dir);
	if (record_delete(&ctx, SANDBOX_KIND, s->id, &why) < 0 && !error_is(&why, ERROR_NOT_FOUND))
		return error_move(err, &why);
	pthread_mutex_lock(&s->e->lock);
	bool listed = map_remove(&s->e->sandboxes, key) != NULL;
	s->gone = true;
	pthread_mutex_unlock(&s->e->lock);
	if (told)
		sandbox_emit(s, "destroy");
	if (listed)
		sandbox_unref(s);
	return 0;
}

int engine_sandbox_remove(struct engine *e, const char *ns, const char *id, struct error *err)
{
	CLEANUP(sandbox_releasep) struct sandbox *s = acquire(e, ns, id, err);

	return s && sandbox_stop(s, err) == 0 ? sandbox_remove(s, err) : -1;
}

int engine_sandbox_open_netns(struct engine *e, const char *ns, const char *id, struct error *err)
{
	CLEANUP(sandbox_unrefp) struct sandbox *s = sandbox_find(e, ns, id, err);

	if (!s)
		return -1;
	int fd = -1;
	if (sandbox_is_ready(s))
		fd = s->config.network == POD_NS_NODE
			     ? open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)
			     : sandbox_ns_open(s, SANDBOX_NET);
	if (fd < 0)
		error_set(err, ERROR_FAILED_PRECONDITION, "sandbox \"%s\" is not ready", s->id);
	return fd;
}
