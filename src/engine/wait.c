/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waits are continuations. Their handle is a serial number in the shape of a pointer: it names one
 * wait for ever, so that cancelling one that has been called long ago does nothing.
 */

#include "base/mem.h"
#include "engine/internal.h"

struct wait {
	struct list node; /* e->lock */
	struct engine *e;
	uint64_t serial;
	struct container *container; /* weak: for comparison only, NULL once fired */
	enum wait_condition condition;
	void (*fn)(const struct wait_result *r, const struct error *err, void *arg);
	void *arg;
	int exit_code;
	char *error;
};

static void wait_free(struct wait *w)
{
	free(w->error);
	free(w);
}

/* Locked: the wait with this number, or NULL. */
static struct wait *wait_find(struct engine *e, uint64_t serial)
{
	LIST_FOREACH (w, &e->waits, struct wait, node)
		if (w->serial == serial)
			return w;
	return NULL;
}

struct firing {
	struct engine *e;
	uint64_t serial;
};

static void call_on_loop(void *arg)
{
	struct firing *f = arg;
	struct engine *e = f->e;

	pthread_mutex_lock(&e->lock);
	struct wait *w = wait_find(e, f->serial);
	if (w)
		list_remove(&w->node);
	pthread_mutex_unlock(&e->lock);
	free(f);
	if (!w)
		return;
	const struct wait_result r = { .exit_code = w->exit_code, .error = w->error };
	w->fn(&r, NULL, w->arg);
	wait_free(w);
}

static void fire(struct wait *w, const struct run_state *s)
{
	struct firing *f = xnew(struct firing);

	w->container = NULL;
	w->exit_code = s->exit_code;
	w->error = str_empty(s->error) ? NULL : xstrdup(s->error);
	*f = (struct firing){ .e = w->e, .serial = w->serial };
	loop_post(w->e->config.loop, call_on_loop, f);
}

void waits_fire(struct container *c, bool removed)
{
	LIST_FOREACH (w, &c->e->waits, struct wait, node)
		if (w->container == c && (removed || w->condition != WAIT_REMOVED))
			fire(w, &c->s);
}

int engine_wait(struct engine *e, const char *ns, const char *id, enum wait_condition condition,
		void (*fn)(const struct wait_result *r, const struct error *err, void *arg),
		void *arg, struct engine_wait **ret, struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);

	if (!c)
		return -1;
	struct wait *w = xnew(struct wait);
	w->e = e;
	w->container = c;
	w->condition = condition;
	w->fn = fn;
	w->arg = arg;
	pthread_mutex_lock(&e->lock);
	w->serial = ++e->wait_serial;
	if (ret)
		*ret = (struct engine_wait *)(uintptr_t)w->serial;
	list_append(&e->waits, &w->node);
	bool running = c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED ||
		       c->s.status == CONTAINER_RESTARTING;
	if (c->gone || (condition == WAIT_NOT_RUNNING && !running))
		fire(w, &c->s);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

void engine_wait_cancel(struct engine *e, struct engine_wait *handle)
{
	pthread_mutex_lock(&e->lock);
	struct wait *w = wait_find(e, (uint64_t)(uintptr_t)handle);
	if (w)
		list_remove(&w->node);
	pthread_mutex_unlock(&e->lock);
	if (w)
		wait_free(w);
}

void waits_free(struct engine *e)
{
	LIST_FOREACH (w, &e->waits, struct wait, node) {
		list_remove(&w->node);
		wait_free(w);
	}
}
