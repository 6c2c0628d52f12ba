/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of containers, which clients ask for all the time. What a container's entry says hardly
 * changes but for its state and the minutes that it is up; so the text in front of these and behind
 * them is kept, and made again when the engine's version of the container is another.
 */

#include "api/docker/internal.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

struct summary {
	uint64_t version;
	char *head, *tail;
};

static void summary_free(void *arg)
{
	struct summary *s = arg;

	if (!s)
		return;
	free(s->head);
	free(s->tail);
	free(s);
}

void summaries_init(struct summaries *s)
{
	pthread_mutex_init(&s->lock, NULL);
	s->map = MAP_INIT;
}

void summaries_done(struct summaries *s)
{
	map_done_values(&s->map, summary_free);
	pthread_mutex_destroy(&s->lock);
}

/* The document is written with marks where State and Status go; they stand side by side. */
#define STATE_MARK "\"State\":\"@\",\"Status\":\"@\""

static struct summary *summary_make(const struct container_view *v)
{
	struct summary *s = xnew(struct summary);
	autojson struct json *j = container_summary_document(v);

	json_set_string(j, "State", "@");
	json_set_string(j, "Status", "@");
	autofree char *text = json_format(j, /* pretty */ false);
	/* Quotes within strings are escaped, so that only the members themselves look so. */
	char *mark = strstr(text, STATE_MARK);
	assert(mark);
	s->version = v->version;
	s->head = xstrndup(text, (size_t)(mark - text));
	s->tail = xstrdup(mark + strlen(STATE_MARK));
	return s;
}

static void put_state(const struct container_glance *b, int64_t now, struct buf *out)
{
	const struct container_view v = {
		.status = b->status,
		.exit_code = b->exit_code,
		.started_at = b->started_at,
		.finished_at = b->finished_at,
		.health = (char *)(uintptr_t)b->health,
	};
	autofree char *status = container_status_text(&v, now);

	buf_printf(out, "\"State\":\"%s\",\"Status\":\"%s\"", container_status_name(b->status),
		   status);
}

static void put(const struct summary *s, const struct container_glance *b, int64_t now,
		struct buf *out)
{
	buf_puts(out, out->len > 1 ? "," : "");
	buf_puts(out, s->head);
	put_state(b, now, out);
	buf_puts(out, s->tail);
}

/* Locked by the caller, but not while a document is made. */
static void put_missing(const struct docker_api *d, struct summaries *s, const char *ns,
			const struct container_glance *b, int64_t now, struct buf *out)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;

	pthread_mutex_unlock(&s->lock);
	int r = engine_inspect(d->engine, ns, b->id, &v, NULL);
	struct summary *fresh = r == 0 ? summary_make(v) : NULL;
	pthread_mutex_lock(&s->lock);
	if (!fresh)
		return; /* it has just gone */
	put(fresh, b, now, out);
	summary_free(map_set(&s->map, b->id, fresh));
}

/* Those of containers that are no more. */
static void forget_gone(struct summaries *s, const struct docker_api *d, const char *ns)
{
	CLEANUP(container_glances_done) struct container_glances all = { 0 };
	struct map kept = MAP_INIT;

	engine_select(d->engine, ns, NULL, NULL, &all);
	if (s->map.n <= 2 * all.n + 64)
		return;
	for (size_t i = 0; i < all.n; i++) {
		struct summary *one = map_remove(&s->map, all.v[i].id);

		if (one)
			map_set(&kept, all.v[i].id, one);
	}
	map_done_values(&s->map, summary_free);
	s->map = kept;
}

void summaries_format(struct docker_api *d, const char *ns, const struct container_glances *glances,
		      struct buf *out)
{
	struct summaries *s = &d->summaries;
	int64_t now = time_realtime();

	buf_putc(out, '[');
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < glances->n; i++) {
		const struct container_glance *b = &glances->v[i];
		const struct summary *known = map_get(&s->map, b->id);

		if (known && known->version == b->version)
			put(known, b, now, out);
		else
			put_missing(d, s, ns, b, now, out);
	}
	if (s->map.n > 2 * glances->n + 64)
		forget_gone(s, d, ns);
	pthread_mutex_unlock(&s->lock);
	buf_puts(out, "]\n");
}
