/* SPDX-License-Identifier: Apache-2.0 */
#include "api/cri/sample.h"

#include "base/mem.h"
#include "base/time.h"
#include "store/snapshots.h"

#include <pthread.h>

#define RATE_SPAN (500 * NSEC_PER_MSEC) /* a rate over less would jump */
#define LAYER_AGE (10 * NSEC_PER_SEC)
#define LAYER_DUTY 100 /* a walk may take a hundredth of the time */

struct entry {
	int64_t started_at; /* of the run that this is of */
	int64_t at;	    /* of the usage that the next rate is taken from */
	uint64_t cpu;
	uint64_t nano_cores;
	bool seen; /* by samples_prune() */

	bool has_layer, walking;
	int64_t layer_at, layer_cost;
	uint64_t layer_bytes, layer_inodes;
};

struct samples {
	struct cri_api *api;
	pthread_mutex_t lock;
	struct map entries; /* by id */
};

struct samples *samples_new(struct cri_api *api)
{
	struct samples *s = xnew(struct samples);

	s->api = api;
	s->entries = MAP_INIT;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void samples_free(struct samples *s)
{
	if (!s)
		return;
	map_done_values(&s->entries, free);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* The lock is held. */
static struct entry *entry_of(struct samples *s, const char *id, int64_t started_at)
{
	struct entry *e = map_get(&s->entries, id);

	if (!e) {
		e = xnew(struct entry);
		map_set(&s->entries, id, e);
	}
	if (e->started_at != started_at)
		*e = (struct entry){ .started_at = started_at };
	return e;
}

/* Without a sample before it is the average since the start. */
static void take_rate(struct entry *e, const struct usage *u)
{
	int64_t since = e->at ? e->at : e->started_at;
	int64_t span = u->at - since;

	if (span < RATE_SPAN && e->at)
		return;
	if (span > 0 && u->cpu >= e->cpu)
		e->nano_cores = (uint64_t)((double)(u->cpu - e->cpu) * NSEC_PER_SEC / (double)span);
	e->at = u->at;
	e->cpu = u->cpu;
}

/* --- the layer of its own --- */

struct walk {
	struct samples *samples;
	char *id;
};

static void do_walk(struct samples *s, const char *id)
{
	const struct store_ctx c = { .store = s->api->store, .ns = CRI_NAMESPACE };
	int64_t began = time_monotonic();
	struct snapshot_usage usage;
	int r = snapshot_usage(&c, NULL, id, &usage, NULL);

	pthread_mutex_lock(&s->lock);
	struct entry *e = map_get(&s->entries, id);
	if (e)
		e->walking = false;
	if (e && r == 0) {
		e->has_layer = true;
		e->layer_at = time_realtime();
		e->layer_cost = time_monotonic() - began;
		e->layer_bytes = (uint64_t)usage.size;
		e->layer_inodes = (uint64_t)usage.inodes;
	}
	pthread_mutex_unlock(&s->lock);
}

static void walk_job(void *arg)
{
	struct walk *w = arg;

	do_walk(w->samples, w->id);
	free(w->id);
	free(w);
}

/* The first time at once, since a new container has written little; later in the background. */
static void refresh_layer(struct samples *s, const char *id)
{
	pthread_mutex_lock(&s->lock);
	struct entry *e = map_get(&s->entries, id);
	bool first = e && !e->has_layer && !e->walking;
	bool stale = e && e->has_layer && !e->walking &&
		     time_realtime() - e->layer_at > MAX(LAYER_AGE, e->layer_cost * LAYER_DUTY);
	if (first || stale)
		e->walking = true;
	pthread_mutex_unlock(&s->lock);
	if (first) {
		do_walk(s, id);
	} else if (stale) {
		struct walk *w = xnew(struct walk);

		w->samples = s;
		w->id = xstrdup(id);
		job_submit(s->api->config.jobs, JOB_DISK, walk_job, NULL, w);
	}
}

/* --- samples --- */

static int take(struct samples *s, const char *id, int64_t started_at,
		const struct cgroup_dirs *dirs, bool layer, struct sample *ret, struct error *err)
{
	*ret = (struct sample){ 0 };
	if (usage_read(dirs, &ret->usage, err) < 0)
		return -1;
	pthread_mutex_lock(&s->lock);
	take_rate(entry_of(s, id, started_at), &ret->usage);
	pthread_mutex_unlock(&s->lock);
	if (layer)
		refresh_layer(s, id);
	pthread_mutex_lock(&s->lock);
	const struct entry *e = map_get(&s->entries, id);
	if (e) {
		ret->nano_cores = e->nano_cores;
		ret->has_layer = e->has_layer;
		ret->layer_at = e->layer_at;
		ret->layer_bytes = e->layer_bytes;
		ret->layer_inodes = e->layer_inodes;
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int samples_container(struct samples *s, const struct container_brief *b, struct sample *ret,
		      struct cgroup_dirs *ret_dirs, struct error *err)
{
	CLEANUP(cgroup_dirs_done) struct cgroup_dirs dirs = { 0 };

	if (cgroup_dirs_of_pid(b->pid, &dirs, err) < 0 ||
	    take(s, b->shared->id, b->started_at, &dirs, /* layer= */ true, ret, err) < 0)
		return error_wrap(err, "container \"%s\"", b->shared->id);
	if (ret_dirs) {
		*ret_dirs = dirs;
		dirs = (struct cgroup_dirs){ 0 };
	}
	return 0;
}

int samples_pod(struct samples *s, const struct sandbox_view *v, struct sample *ret,
		struct cgroup_dirs *ret_dirs, struct error *err)
{
	CLEANUP(cgroup_dirs_done) struct cgroup_dirs dirs = { 0 };

	/* The default parent is that of many pods. */
	if (str_empty(v->config.cgroup_parent))
		return error_set(err, ERROR_NOT_FOUND, "sandbox \"%s\" has no cgroup of its own",
				 v->id);
	cgroup_dirs_of_path(v->cgroup, &dirs);
	if (take(s, v->id, v->created_at, &dirs, /* layer= */ false, ret, err) < 0)
		return error_wrap(err, "sandbox \"%s\"", v->id);
	if (ret_dirs) {
		*ret_dirs = dirs;
		dirs = (struct cgroup_dirs){ 0 };
	}
	return 0;
}

void samples_prune(struct samples *s)
{
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	CLEANUP(sandbox_views_done) struct sandbox_views views = { 0 };
	struct entry *e;

	engine_briefs(s->api->engine, CRI_NAMESPACE, NULL, &b);
	engine_sandbox_list(s->api->engine, CRI_NAMESPACE, &views);
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < b.n; i++)
		if ((e = map_get(&s->entries, b.v[i].shared->id)))
			e->seen = true;
	for (size_t i = 0; i < views.n; i++)
		if ((e = map_get(&s->entries, views.v[i]->id)))
			e->seen = true;
	MAP_FOREACH (m, &s->entries) {
		e = map_value(m);
		if (!e->seen)
			free(map_remove(&s->entries, map_key(m)));
		else
			e->seen = false;
	}
	pthread_mutex_unlock(&s->lock);
}
