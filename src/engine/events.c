/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring of the last events under a mutex, and subscribers that belong to the loop. Each event has
 * a number, so that a subscriber who has had the ring's content replayed does not get again what
 * was in the ring and still on its way through the loop.
 */

#include "engine/events.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/internal.h"

#define RING 256

struct event {
	atomic_uint refs;
	uint64_t number;
	struct engine_event e; /* strings owned */
	struct event_hub *hub;
};

struct event_hub {
	struct loop *loop;
	pthread_mutex_t lock;
	struct event *ring[RING];
	uint64_t next;		   /* number of the next event; ring[number % RING] */
	struct list subscriptions; /* loop */
	unsigned delivering;	   /* loop */
};

struct event_subscription {
	struct list node;
	struct event_hub *hub;
	uint64_t from; /* first number that it has not had */
	void (*fn)(const struct engine_event *event, void *arg);
	void *arg;
	bool dead;
};

static void event_unref(struct event *ev)
{
	if (!ev || --ev->refs > 0)
		return;
	free((char *)ev->e.ns);
	free((char *)ev->e.type);
	free((char *)ev->e.action);
	free((char *)ev->e.id);
	kvs_done(&ev->e.attributes);
	free(ev);
}

struct event_hub *event_hub_new(struct loop *l)
{
	struct event_hub *h = xnew(struct event_hub);

	h->loop = l;
	pthread_mutex_init(&h->lock, NULL);
	list_init(&h->subscriptions);
	return h;
}

void event_hub_free(struct event_hub *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < RING; i++)
		event_unref(h->ring[i]);
	LIST_FOREACH (s, &h->subscriptions, struct event_subscription, node)
		free(s);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* Those that have left while events were being delivered. */
static void sweep(struct event_hub *h)
{
	if (h->delivering > 0)
		return;
	LIST_FOREACH (s, &h->subscriptions, struct event_subscription, node) {
		if (!s->dead)
			continue;
		list_remove(&s->node);
		free(s);
	}
}

static void deliver(void *arg)
{
	struct event *ev = arg;
	struct event_hub *h = ev->hub;

	h->delivering++;
	LIST_FOREACH (s, &h->subscriptions, struct event_subscription, node)
		if (!s->dead && ev->number >= s->from)
			s->fn(&ev->e, s->arg);
	h->delivering--;
	sweep(h);
	event_unref(ev);
}

void event_hub_emit(struct event_hub *h, const struct engine_event *event)
{
	struct event *ev = xnew(struct event);

	ev->refs = 2; /* the ring's and the delivery's */
	ev->hub = h;
	ev->e = (struct engine_event){
		.ns = xstrdup(event->ns),
		.type = xstrdup(event->type),
		.action = xstrdup(event->action),
		.id = xstrdup(event->id),
	};
	kvs_copy(&ev->e.attributes, &event->attributes);
	pthread_mutex_lock(&h->lock);
	ev->e.time = event->time ? event->time : time_realtime();
	ev->number = h->next++;
	struct event *old = h->ring[ev->number % RING];
	h->ring[ev->number % RING] = ev;
	loop_post(h->loop, deliver, ev);
	pthread_mutex_unlock(&h->lock);
	event_unref(old);
}

/* The kept events, referenced, oldest first. */
static size_t ring_copy(struct event_hub *h, struct event *ret[RING], uint64_t *ret_next)
{
	size_t n = 0;

	pthread_mutex_lock(&h->lock);
	for (uint64_t i = h->next > RING ? h->next - RING : 0; i < h->next; i++) {
		ret[n] = h->ring[i % RING];
		ret[n++]->refs++;
	}
	*ret_next = h->next;
	pthread_mutex_unlock(&h->lock);
	return n;
}

struct event_subscription *event_hub_subscribe(struct event_hub *h, int64_t since,
					       void (*fn)(const struct engine_event *event,
							  void *arg),
					       void *arg)
{
	struct event_subscription *s = xnew(struct event_subscription);
	struct event *kept[RING];

	s->hub = h;
	s->fn = fn;
	s->arg = arg;
	list_append(&h->subscriptions, &s->node);
	size_t n = ring_copy(h, kept, &s->from);
	h->delivering++;
	for (size_t i = 0; i < n; i++) {
		if (since > 0 && kept[i]->e.time >= since && !s->dead)
			fn(&kept[i]->e, arg);
		event_unref(kept[i]);
	}
	h->delivering--;
	return s;
}

void engine_unsubscribe(struct event_subscription *s)
{
	if (!s)
		return;
	s->dead = true;
	sweep(s->hub);
}

void engine_emit(struct engine *e, const struct engine_event *event)
{
	event_hub_emit(e->events, event);
}

struct event_subscription *engine_subscribe(struct engine *e, int64_t since,
					    void (*fn)(const struct engine_event *event, void *arg),
					    void *arg)
{
	return event_hub_subscribe(e->events, since, fn, arg);
}
