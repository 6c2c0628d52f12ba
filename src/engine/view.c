/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of containers for those outside: list and inspect. */

#include "base/fs.h"
#include "base/mem.h"
#include "engine/internal.h"

#include <string.h>

void container_view_free(struct container_view *v)
{
	if (!v)
		return;
	free(v->ns);
	free(v->id);
	free(v->name);
	container_config_done(&v->config);
	free(v->error);
	free(v->health);
	for (size_t i = 0; i < v->n_health_results; i++)
		free(v->health_results[i].output);
	endpoints_done(&v->endpoints);
	free(v->log_path);
	free(v->hosts_path);
	free(v->resolv_conf_path);
	free(v->hostname_path);
	free(v->snapshotter);
	free(v->snapshot_key);
	for (size_t i = 0; i < v->mounts.n; i++) {
		struct mount_view *m = &v->mounts.v[i];

		free(m->type);
		free(m->name);
		free(m->source);
		free(m->destination);
		free(m->driver);
		free(m->propagation);
	}
	free(v->mounts.v);
	strv_done(&v->exec_ids);
	free(v->groups.v);
	json_unref(v->extension);
	free(v);
}

void container_views_done(struct container_views *v)
{
	for (size_t i = 0; i < v->n; i++)
		container_view_free(v->v[i]);
	free(v->v);
	*v = (struct container_views){ 0 };
}

static void add_mount(struct container *c, struct container_view *v, const struct mount_spec *m)
{
	bool volume = str_equal(m->type, "volume");

	if (str_equal(m->type, "tmpfs"))
		return;
	GROW_ARRAY(v->mounts.v, v->mounts.n);
	v->mounts.v[v->mounts.n++] = (struct mount_view){
		.type = xstrdup(m->type),
		.name = xstrdup(volume ? m->source : ""),
		.source = volume ? volume_path(c->e, c->ns, m->source) : xstrdup(m->source),
		.destination = xstrdup(m->target),
		.driver = xstrdup(volume ? "local" : ""),
		.propagation = xstrdup(m->propagation ? m->propagation
				       : volume	      ? ""
						      : "rprivate"),
		.rw = !m->read_only,
		.anonymous = m->anonymous,
	};
}

struct container_view *container_view_make(struct container *c)
{
	struct container_view *v = xnew(struct container_view);

	v->ns = xstrdup(c->ns);
	v->id = xstrdup(c->id);
	v->name = xstrdup(c->name);
	container_config_copy(&v->config, &c->config);
	v->version = c->version;
	v->created_at = c->created_at;
	v->started_at = c->s.started_at;
	v->finished_at = c->s.finished_at;
	v->status = c->s.status;
	v->pid = c->s.pid;
	v->exit_code = c->s.exit_code;
	v->oom_killed = c->s.oom_killed;
	v->error = xstrdup(c->s.error ? c->s.error : "");
	v->restart_count = c->s.restart_count;
	v->health = xstrdup(c->s.health ? c->s.health : "");
	v->health_failures = c->s.health_failures;
	v->n_health_results = c->n_health_results;
	for (size_t i = 0; i < c->n_health_results; i++) {
		v->health_results[i] = c->health_results[i];
		v->health_results[i].output = xstrdup(c->health_results[i].output);
	}
	endpoints_copy(&v->endpoints, &c->s.endpoints);
	autofree char *log_name = xasprintf("%s-json.log", c->id);
	v->log_path = path_join(c->dir, log_name, NULL);
	v->hosts_path = path_join(c->dir, "hosts", NULL);
	v->resolv_conf_path = path_join(c->dir, "resolv.conf", NULL);
	v->hostname_path = path_join(c->dir, "hostname", NULL);
	v->snapshotter = xstrdup(c->snapshotter);
	v->snapshot_key = xstrdup(c->id);
	for (size_t i = 0; i < c->config.mounts.n; i++)
		add_mount(c, v, &c->config.mounts.v[i]);
	LIST_FOREACH (x, &c->execs, struct exec, node)
		if (!x->hidden && !x->ended)
			strv_push(&v->exec_ids, x->id);
	v->start_failed = c->s.start_failed;
	v->uid = c->s.has_user ? c->s.uid : -1;
	v->gid = c->s.has_user ? c->s.gid : -1;
	v->groups.n = c->s.n_groups;
	if (c->s.n_groups > 0)
		v->groups.v = xmemdup(c->s.groups, c->s.n_groups * sizeof(*c->s.groups));
	if (!str_empty(c->config.log_path))
		str_replace(&v->log_path, c->config.log_path);
	if (c->extension)
		v->extension = json_parse(c->extension, strlen(c->extension), SIZE_MAX, NULL);
	return v;
}

int engine_inspect(struct engine *e, const char *ns, const char *id, struct container_view **ret,
		   struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);

	if (!c)
		return -1;
	pthread_mutex_lock(&e->lock);
	*ret = container_view_make(c);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

static int by_age(const void *a, const void *b)
{
	const struct container_view *x = *(struct container_view *const *)a;
	const struct container_view *y = *(struct container_view *const *)b;

	return x->created_at > y->created_at ? -1 : x->created_at < y->created_at;
}

int engine_list(struct engine *e, const char *ns, struct container_views *ret,
		struct error *err UNUSED)
{
	*ret = (struct container_views){ 0 };
	pthread_mutex_lock(&e->lock);
	MAP_FOREACH (entry, &e->containers) {
		struct container *c = map_value(entry);

		if (!str_equal(c->ns, ns))
			continue;
		GROW_ARRAY(ret->v, ret->n);
		ret->v[ret->n++] = container_view_make(c);
	}
	pthread_mutex_unlock(&e->lock);
	if (ret->n > 1)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_age);
	return 0;
}

int engine_image_users(struct engine *e, const char *ns, const char *image_id, struct strv *ret,
		       struct error *err UNUSED)
{
	pthread_mutex_lock(&e->lock);
	MAP_FOREACH (entry, &e->containers) {
		struct container *c = map_value(entry);

		if (str_equal(c->ns, ns) && str_equal(c->config.image_id, image_id))
			strv_push(ret, c->id);
	}
	pthread_mutex_unlock(&e->lock);
	return 0;
}

void container_glances_done(struct container_glances *b)
{
	free(b->v);
	*b = (struct container_glances){ 0 };
}

/* Nothing is copied: it lives as long as e->lock is held. */
static void borrow(const struct container *c, struct container_view *v, struct mount_view *mounts)
{
	*v = (struct container_view){
		.ns = c->ns,
		.id = (char *)(uintptr_t)c->id,
		.name = c->name,
		.config = c->config,
		.created_at = c->created_at,
		.started_at = c->s.started_at,
		.finished_at = c->s.finished_at,
		.status = c->s.status,
		.pid = c->s.pid,
		.exit_code = c->s.exit_code,
		.health = c->s.health ? c->s.health : (char *)(uintptr_t) "",
		.endpoints = c->s.endpoints,
		.version = c->version,
	};
	v->mounts.v = mounts;
	for (size_t i = 0; i < c->config.mounts.n; i++) {
		const struct mount_spec *m = &c->config.mounts.v[i];

		if (str_equal(m->type, "tmpfs"))
			continue;
		mounts[v->mounts.n++] = (struct mount_view){
			.type = m->type,
			.name = str_equal(m->type, "volume") ? m->source : (char *)(uintptr_t) "",
			.source = m->source,
			.destination = m->target,
		};
	}
}

static void add_glance(struct container_glances *ret, const struct container *c)
{
	GROW_ARRAY(ret->v, ret->n);
	struct container_glance *b = &ret->v[ret->n++];

	*b = (struct container_glance){
		.version = c->version,
		.status = c->s.status,
		.exit_code = c->s.exit_code,
		.created_at = c->created_at,
		.started_at = c->s.started_at,
		.finished_at = c->s.finished_at,
	};
	memcpy(b->id, c->id, sizeof(b->id));
	if (c->s.health)
		memcpy(b->health, c->s.health, MIN(strlen(c->s.health), sizeof(b->health) - 1));
}

static int glances_by_age(const void *a, const void *b)
{
	const struct container_glance *x = a, *y = b;

	return x->created_at > y->created_at ? -1 : x->created_at < y->created_at;
}

static bool selected(const struct container *c,
		     bool (*match)(const struct container_view *v, void *arg), void *arg)
{
	struct container_view v;

	if (!match)
		return true;
	autofree struct mount_view *mounts =
		c->config.mounts.n ? xnew_array(struct mount_view, c->config.mounts.n) : NULL;
	borrow(c, &v, mounts);
	return match(&v, arg);
}

void engine_select(struct engine *e, const char *ns,
		   bool (*match)(const struct container_view *v, void *arg), void *arg,
		   struct container_glances *ret)
{
	*ret = (struct container_glances){ 0 };
	pthread_mutex_lock(&e->lock);
	MAP_FOREACH (entry, &e->containers) {
		const struct container *c = map_value(entry);

		if (str_equal(c->ns, ns) && selected(c, match, arg))
			add_glance(ret, c);
	}
	pthread_mutex_unlock(&e->lock);
	if (ret->n > 1)
		qsort(ret->v, ret->n, sizeof(*ret->v), glances_by_age);
}
