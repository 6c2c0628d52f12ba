/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers for lists. What does not change with a container's state is copied once and shared by
 * all who list it, until its configuration is changed (container_config_changed()).
 */

#include "base/mem.h"
#include "engine/sandbox-internal.h"

#include <string.h>

static void shared_unref(struct container_shared *s)
{
	if (!s || --s->refs > 0)
		return;
	container_config_done(&s->config);
	free(s->ns);
	free(s->id);
	free(s->name);
	json_unref(s->extension);
	free(s);
}

void container_config_changed(struct container *c)
{
	shared_unref(TAKE_PTR(c->shared));
}

/* e->lock is held. */
static struct container_shared *shared_of(struct container *c)
{
	struct container_shared *s = c->shared;

	if (!s) {
		s = xnew(struct container_shared);
		s->refs = 1;
		s->ns = xstrdup(c->ns);
		s->id = xstrdup(c->id);
		s->name = xstrdup(c->name);
		container_config_copy(&s->config, &c->config);
		s->created_at = c->created_at;
		if (c->extension)
			s->extension =
				json_parse(c->extension, strlen(c->extension), SIZE_MAX, NULL);
		c->shared = s;
	}
	s->refs++;
	return s;
}

void container_share(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	shared_unref(shared_of(c));
	pthread_mutex_unlock(&c->e->lock);
}

static void add(struct container_briefs *ret, struct container *c)
{
	GROW_ARRAY(ret->v, ret->n);
	ret->v[ret->n++] = (struct container_brief){
		.shared = shared_of(c),
		.status = c->s.status,
		.pid = c->s.pid,
		.exit_code = c->s.exit_code,
		.oom_killed = c->s.oom_killed,
		.start_failed = c->s.start_failed,
		.started_at = c->s.started_at,
		.finished_at = c->s.finished_at,
	};
}

void container_briefs_done(struct container_briefs *b)
{
	for (size_t i = 0; i < b->n; i++)
		shared_unref(b->v[i].shared);
	free(b->v);
	*b = (struct container_briefs){ 0 };
}

static int by_age(const void *a, const void *b)
{
	int64_t x = ((const struct container_brief *)a)->shared->created_at;
	int64_t y = ((const struct container_brief *)b)->shared->created_at;

	return x > y ? -1 : x < y;
}

void engine_briefs(struct engine *e, const char *ns, const char *sandbox_id,
		   struct container_briefs *ret)
{
	*ret = (struct container_briefs){ 0 };
	pthread_mutex_lock(&e->lock);
	MAP_FOREACH (item, &e->containers) {
		struct container *c = map_value(item);

		if (str_equal(c->ns, ns) &&
		    (!sandbox_id || str_equal(c->config.sandbox_id, sandbox_id)))
			add(ret, c);
	}
	pthread_mutex_unlock(&e->lock);
	if (ret->n > 1)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_age);
}

int engine_brief(struct engine *e, const char *ns, const char *id, struct container_briefs *ret,
		 struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);

	*ret = (struct container_briefs){ 0 };
	if (!c)
		return -1;
	pthread_mutex_lock(&e->lock);
	add(ret, c);
	pthread_mutex_unlock(&e->lock);
	return 0;
}
