/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a restart of the daemon, or of the host:
 *
 *	1. records and last known states make the table; every container is locked;
 *	2. bundles are connected to, all at once; what their shims say replaces what was known;
 *bundles of runs that were not known to run, and of no container at all, are cleared away;
 *	3. the network forgets who is not there any more;
 *	4. what ended, or was being removed, is settled: restarted, removed.
 *
 * Steps 1 to 3 are over when engine_new() returns; what 4 has to do goes on as jobs. A shim that
 *does not answer is neither trusted nor doubted: the container keeps its state, and is looked for
 *again.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/sandbox-internal.h"
#include "store/gc.h"
#include "store/snapshots.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#define RECORD_MAX (16 << 20)
#define LOOK_AGAIN_MS 2000
#define EXIT_UNKNOWN 255

static struct json *parse_text(const char *text, struct error *err)
{
	return text ? json_parse(text, strlen(text), RECORD_MAX, err) : NULL;
}

/* The state as this boot left it, else as the store has it. */
static void load_state(struct container *c)
{
	const struct store_ctx ctx = container_store(c);
	autofree char *path = path_join(c->run_dir, "state.json", NULL);
	autofree char *text = NULL;
	autojson struct json *j = json_load_at(AT_FDCWD, path, RECORD_MAX, NULL);

	if (j && run_state_from_json(j, &c->s, NULL) == 0 && str_equal(c->s.boot_id, c->e->boot_id))
		return;
	run_state_done(&c->s);
	if (record_get(&ctx, STATE_KIND, c->id, &text, NULL) < 0)
		return;
	json_unref(TAKE_PTR(j));
	j = parse_text(text, NULL);
	if (j && run_state_from_json(j, &c->s, NULL) < 0)
		c->s = (struct run_state){ 0 };
}

static int load_config(struct container *c, const struct container_record *r, struct error *err)
{
	autojson struct json *doc = parse_text(kvs_get(&r->extensions, RECORD_ENGINE), err);

	if (!doc || container_config_from_json(json_get(doc, "config"), &c->config, err) < 0)
		return -1;
	const char *name = json_get_string(doc, "name");
	c->name = xstrdup(name ? name : c->id);
	c->created_at = json_get_int(doc, "createdAt", r->created_at);
	c->snapshotter = xstrdup(r->snapshotter);
	const char *extension = kvs_get(&r->extensions, RECORD_EXTENSION);
	autojson struct json *parsed = parse_text(extension, err);
	if (parsed)
		c->extension = xstrdup(extension);
	return extension && !parsed ? -1 : 0;
}

static bool has_snapshot(struct container *c)
{
	const struct store_ctx ctx = container_store(c);
	CLEANUP(snapshot_info_done) struct snapshot_info info = { 0 };
	autoerror struct error err = ERROR_INIT;

	return snapshot_stat(&ctx, c->snapshotter, c->id, &info, &err) == 0 ||
	       !error_is(&err, ERROR_NOT_FOUND);
}

static void load_container(struct engine *e, const char *ns, const struct container_record *r)
{
	autoerror struct error err = ERROR_INIT;

	if (!kvs_get(&r->extensions, RECORD_ENGINE) || strlen(r->id) > 64)
		return;
	CLEANUP(container_unrefp) struct container *c = container_new(e, ns, r->id);
	if (load_config(c, r, &err) < 0) {
		log_err("record of container '%s': %s, ignoring it", r->id, error_msg(&err));
		return;
	}
	load_state(c);
	/* A creation or a removal that was cut short. */
	if (!has_snapshot(c))
		c->s.status = CONTAINER_REMOVING;
	autofree char *id_key = table_key(ns, c->id);
	autofree char *name_key = table_key(ns, c->name);
	c->busy = true;
	map_set(&e->names, name_key, c);
	map_set(&e->containers, id_key, TAKE_PTR(c));
}

static int load_records(struct engine *e, struct error *err)
{
	autostrv struct strv namespaces = STRV_INIT;

	if (namespace_list(e->config.store, &namespaces, err) < 0)
		return -1;
	for (size_t i = 0; i < namespaces.n; i++) {
		const struct store_ctx ctx = { .store = e->config.store, .ns = namespaces.v[i] };
		struct container_records records = { 0 };

		if (container_record_list(&ctx, &records, err) < 0)
			return -1;
		for (size_t k = 0; k < records.n; k++)
			load_container(e, namespaces.v[i], &records.v[k]);
		container_records_done(&records);
	}
	return 0;
}

/* What is in no table any more. */
static void remove_orphans(struct engine *e, const char *parent, const char *ns)
{
	DIR *d = opendir(parent);

	if (!d)
		return;
	for (struct dirent *entry; (entry = readdir(d));) {
		bool known = entry->d_name[0] == '.';

		MAP_FOREACH (item, &e->containers) {
			const struct container *c = map_value(item);

			if (str_equal(c->id, entry->d_name) && (!ns || str_equal(c->ns, ns)))
				known = true;
		}
		if (!known)
			fs_remove_tree(dirfd(d), entry->d_name);
	}
	closedir(d);
}

static void remove_orphaned_dirs(struct engine *e)
{
	autofree char *durable = path_join(e->config.root, "containers", NULL);
	autofree char *state = path_join(e->config.state, "containers", NULL);
	DIR *d = opendir(state);

	remove_orphans(e, durable, NULL);
	if (!d)
		return;
	for (struct dirent *entry; (entry = readdir(d));) {
		autofree char *path = path_join(state, entry->d_name, NULL);

		if (entry->d_name[0] != '.')
			remove_orphans(e, path, entry->d_name);
	}
	closedir(d);
}

/* --- one container --- */

/* The run has ended, and there is nothing left of it to clear up. */
static void note_end(struct container *c, unsigned status, int64_t exited_at)
{
	pthread_mutex_lock(&c->e->lock);
	container_note_end(c, (int)status, exited_at > 0 ? exited_at : time_realtime());
	endpoints_done(&c->s.endpoints);
	pthread_mutex_unlock(&c->e->lock);
	container_save(c);
	autofree char *code = xasprintf("%u", status);
	container_emit(c, "die", "exitCode", code);
	container_settle(c, /* booted */ false);
}

static void adopt(struct container *c, struct task *t, const struct task_state *state)
{
	bool stopped = state->status == TASK_STOPPED;

	pthread_mutex_lock(&c->e->lock);
	c->task = task_ref(t);
	c->exited = stopped;
	c->exit_status = state->exit_status;
	c->exited_at = state->exited_at > 0 ? state->exited_at : time_realtime();
	c->s.pid = state->pid;
	if (!stopped)
		c->s.status = state->status == TASK_PAUSED ? CONTAINER_PAUSED : CONTAINER_RUNNING;
	pthread_mutex_unlock(&c->e->lock);
	execs_load(c);
	if (stopped) {
		container_finish(c);
		return;
	}
	task_watch(t, "");
	health_start(c, /* fresh */ false);
}

/* Of a container that is known to run: what does its shim say? */
void container_reconnect(struct container *c)
{
	struct task_state state = { 0 };
	autoerror struct error err = ERROR_INIT;
	struct task *t = NULL;

	if (c->task)
		return;
	if (task_load(c->e->tasks, c->ns, c->id, &t, &state, &err) == 0) {
		if (state.status == TASK_CREATED) {
			task_destroy(t);
			note_end(c, EXIT_UNKNOWN, 0);
		} else {
			adopt(c, t, &state);
		}
		task_unref(t);
	} else if (error_is(&err, ERROR_NOT_FOUND)) {
		bool known = state.status == TASK_STOPPED;

		note_end(c, known ? state.exit_status : EXIT_UNKNOWN, state.exited_at);
	} else {
		log_warn("container '%s': %s, trying again", c->id, error_msg(&err));
		container_start_timer(c, LOOK_AGAIN_MS);
	}
}

/* A bundle that should not be there: a start, or a clearing up, that was cut short. */
static void clear_bundle(struct engine *e, const char *ns, const char *id)
{
	struct task_state state = { 0 };
	autoerror struct error err = ERROR_INIT;
	struct task *t = NULL;

	if (task_load(e->tasks, ns, id, &t, &state, &err) < 0) {
		if (!error_is(&err, ERROR_NOT_FOUND))
			log_warn("clear the remains of '%s': %s, ignoring", id, error_msg(&err));
		return;
	}
	task_destroy(t);
	task_unref(t);
}

static void recover_container(struct container *c, bool has_bundle)
{
	bool running = c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED;
	bool booted = !str_equal(c->s.boot_id, c->e->boot_id);

	if (container_in_pod(c))
		container_share(c);
	if (running && has_bundle) {
		container_reconnect(c);
		return;
	}
	if (has_bundle)
		clear_bundle(c->e, c->ns, c->id);
	pthread_mutex_lock(&c->e->lock);
	if (has_bundle && c->s.status == CONTAINER_CREATED && c->config.auto_remove)
		c->s.status = CONTAINER_REMOVING; /* its client has gone with the start */
	if (running) {
		c->s.status = CONTAINER_EXITED;
		c->s.exit_code = EXIT_UNKNOWN;
		c->s.finished_at = time_realtime();
		c->s.pid = 0;
		endpoints_done(&c->s.endpoints);
	}
	if (running || c->s.status == CONTAINER_RESTARTING ||
	    (booted && c->s.status == CONTAINER_EXITED))
		c->s.unsettled = true;
	pthread_mutex_unlock(&c->e->lock);
	if (running)
		container_save(c);
}

struct recovery {
	struct engine *e;
	struct container *c; /* referenced and locked */
	struct sandbox *s;   /* the same; both NULL: a bundle of no one */
	bool has_bundle;
	char *ns, *id;
};

static void recovery_work(void *arg)
{
	struct recovery *r = arg;

	if (r->c)
		recover_container(r->c, r->has_bundle);
	else if (r->s)
		sandbox_recover(r->s, r->has_bundle);
	else
		clear_bundle(r->e, r->ns, r->id);
}

static void recovery_done(void *arg)
{
	struct recovery *r = arg;
	struct engine *e = r->e;

	if (r->c)
		container_release(r->c);
	if (r->s)
		sandbox_release(r->s);
	free(r->ns);
	free(r->id);
	free(r);
	pthread_mutex_lock(&e->lock);
	e->recovering--;
	pthread_cond_broadcast(&e->recovered);
	pthread_mutex_unlock(&e->lock);
}

static void submit(struct engine *e, struct container *c, struct sandbox *s, const char *ns,
		   const char *id, bool has_bundle)
{
	struct recovery *r = xnew(struct recovery);

	*r = (struct recovery){
		.e = e,
		.c = container_ref(c),
		.s = sandbox_ref(s),
		.has_bundle = has_bundle,
		.ns = xstrdup(ns),
		.id = xstrdup(id),
	};
	pthread_mutex_lock(&e->lock);
	e->recovering++;
	pthread_mutex_unlock(&e->lock);
	job_submit(e->config.jobs, JOB_OPS, recovery_work, recovery_done, r);
}

/* Is it somebody's whose records are not the engine's? */
static bool is_foreign(struct engine *e, const char *ns, const char *id)
{
	const struct store_ctx ctx = { .store = e->config.store, .ns = ns };
	struct container_record r = { 0 };

	if (container_record_get(&ctx, id, &r, NULL) < 0)
		return false;
	container_record_done(&r);
	return true;
}

static void submit_all(struct engine *e, const struct strv *bundles)
{
	MAP_FOREACH (item, &e->containers) {
		struct container *c = map_value(item);

		submit(e, c, NULL, c->ns, c->id, strv_contains(bundles, map_key(item)));
	}
	MAP_FOREACH (item, &e->sandboxes) {
		struct sandbox *s = map_value(item);

		submit(e, NULL, s, s->ns, s->id, strv_contains(bundles, map_key(item)));
	}
	for (size_t i = 0; i < bundles->n; i++) {
		const char *slash = strchr(bundles->v[i], '/');

		if (map_get(&e->containers, bundles->v[i]) || map_get(&e->sandboxes, bundles->v[i]))
			continue;
		autofree char *ns = xstrndup(bundles->v[i], (size_t)(slash - bundles->v[i]));
		if (!is_foreign(e, ns, slash + 1))
			submit(e, NULL, NULL, ns, slash + 1, /* has_bundle */ true);
	}
}

/* The engine's maker is mostly the loop's thread itself, before it runs: then it has to turn. */
static void wait_for_all(struct engine *e)
{
	bool on_loop = loop_is_current(e->config.loop);

	pthread_mutex_lock(&e->lock);
	while (e->recovering > 1) {
		if (!on_loop) {
			pthread_cond_wait(&e->recovered, &e->lock);
			continue;
		}
		pthread_mutex_unlock(&e->lock);
		uv_run(loop_uv(e->config.loop), UV_RUN_ONCE);
		pthread_mutex_lock(&e->lock);
	}
	pthread_mutex_unlock(&e->lock);
}

static void reconcile_network(struct engine *e)
{
	autofree struct network_alive *alive = NULL;
	autostrv struct strv ids = STRV_INIT;
	autoerror struct error err = ERROR_INIT;
	size_t n = 0;

	pthread_mutex_lock(&e->lock);
	alive = xnew_array(struct network_alive, e->containers.n + 1);
	MAP_FOREACH (item, &e->containers) {
		const struct container *c = map_value(item);

		if (c->s.status != CONTAINER_RUNNING && c->s.status != CONTAINER_PAUSED)
			continue;
		strv_push(&ids, c->id);
		alive[n++] =
			(struct network_alive){ .container_id = ids.v[ids.n - 1], .pid = c->s.pid };
	}
	pthread_mutex_unlock(&e->lock);
	if (network_reconcile(e->config.network, alive, n, &err) < 0)
		log_err("put the networks in order: %s, ignoring", error_msg(&err));
}

/* A job; owns a reference. */
static void settle_work(void *arg)
{
	struct container *c = arg;
	autoerror struct error err = ERROR_INIT;

	container_lock(c);
	bool booted = !str_equal(c->s.boot_id, c->e->boot_id);
	if (c->gone) {
		/* nothing is left to do */
	} else if (c->s.status == CONTAINER_REMOVING) {
		if (container_remove(c, c->config.auto_remove, &err) < 0)
			log_err("%s", error_msg(&err));
	} else if (c->s.unsettled) {
		container_settle(c, booted);
	}
	container_release(c);
}

/* From here on the policies are applied at once. */
static void settle_all(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	e->recovering--;
	MAP_FOREACH (item, &e->containers) {
		struct container *c = map_value(item);

		if (c->s.unsettled || c->s.status == CONTAINER_REMOVING)
			job_submit(e->config.jobs, JOB_OPS, settle_work, NULL, container_ref(c));
	}
	pthread_mutex_unlock(&e->lock);
}

int engine_recover(struct engine *e, struct error *err)
{
	autostrv struct strv bundles = STRV_INIT;

	if (load_records(e, err) < 0 || sandboxes_load(e, err) < 0 ||
	    tasks_scan(e->tasks, &bundles, err) < 0)
		return error_wrap(err, "recover containers");
	/* One of the count is for this function: nothing is settled before it says so. */
	e->recovering = 1;
	submit_all(e, &bundles);
	remove_orphaned_dirs(e);
	wait_for_all(e);
	sandbox_ns_sweep(e);
	reconcile_network(e);
	volumes_recover(e);
	settle_all(e);
	gc_schedule(e->config.store);
	return 0;
}
