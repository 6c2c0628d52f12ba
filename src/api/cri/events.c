/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GetContainerEvents. What an event carries is the state of a whole pod, so a subscriber's queue
 * only holds which container of which pod changed how; the state is looked up when the event is
 * sent. So a slow reader costs little, is never waited for, and what it gets late is not stale.
 * When a queue is full, the oldest event goes of which a later one of the same pod follows, since
 * that one says more; the end of a pod or container is never dropped while another one can be.
 *
 * Everything here runs on the loop.
 */
#include "api/cri/encode.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/events.h"

#include <string.h>

#define QUEUE_MAX 1024

struct cri_events {
	struct cri_api *api;
	struct event_subscription *source;
	struct list subscribers;
	struct map pods; /* id: struct sandbox_view as last seen, for what is gone */
	int64_t last;	 /* time of the last event: they are in order */
};

struct subscriber {
	struct list node;
	struct cri_events *owner;
	struct grpc_call *call;
	struct list queue;
	size_t n;
	bool waiting; /* for the client to take what has been sent */
};

struct event {
	struct list node;
	char *pod, *id;
	Runtime__V1__ContainerEventType type;
	int64_t time;
};

static void event_free(struct subscriber *s, struct event *e)
{
	list_remove(&e->node);
	s->n--;
	free(e->pod);
	free(e->id);
	free(e);
}

static void unref_view(void *v)
{
	sandbox_view_unref(v);
}

/* --- sending --- */

static bool is_end(const struct event *e)
{
	return e->type == RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_DELETED_EVENT;
}

/* Once no queue can need it any more: what waits in one will still be sent. */
static void forget_pod(struct cri_events *s, const char *pod)
{
	LIST_FOREACH (sub, &s->subscribers, struct subscriber, node) {
		LIST_FOREACH (e, &sub->queue, struct event, node) {
			if (str_equal(e->pod, pod))
				return;
		}
	}
	sandbox_view_unref(map_remove(&s->pods, pod));
}

/* As it is, or as it was last. Referenced; NULL: nobody knows it. */
static struct sandbox_view *find_pod(struct cri_events *s, const char *id)
{
	struct sandbox_view *v = NULL;

	if (engine_sandbox_get(s->api->engine, CRI_NAMESPACE, id, &v, NULL) == 0)
		return v;
	v = map_get(&s->pods, id);
	return v ? sandbox_view_ref(v) : NULL;
}

static int send_event(struct subscriber *s, const struct event *e)
{
	Runtime__V1__ContainerEventResponse m = RUNTIME__V1__CONTAINER_EVENT_RESPONSE__INIT;
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = find_pod(s->owner, e->pod);
	autoarena struct arena a = ARENA_INIT;

	if (!v)
		return 0;
	m.container_id = e->id;
	m.container_event_type = e->type;
	m.created_at = e->time;
	m.pod_sandbox_status = cri_encode_sandbox_status(&a, v);
	m.containers_statuses =
		cri_pod_statuses(s->owner->api, &a, v->id, &m.n_containers_statuses);
	return grpc_call_send(s->call, &m.base);
}

static void send_queue(void *arg)
{
	struct subscriber *s = arg;

	s->waiting = false;
	while (!list_is_empty(&s->queue) && !s->waiting) {
		struct event *e = LIST_ENTRY(s->queue.next, struct event, node);

		s->waiting = send_event(s, e) > 0;
		autofree char *ended =
			is_end(e) && str_equal(e->pod, e->id) ? xstrdup(e->pod) : NULL;
		event_free(s, e);
		if (ended)
			forget_pod(s->owner, ended);
	}
	if (s->waiting)
		grpc_call_on_drain(s->call, send_queue, s);
}

/* --- queues --- */

static bool is_superseded(const struct subscriber *s, const struct event *e)
{
	for (struct list *l = e->node.next; l != &s->queue; l = l->next)
		if (str_equal(LIST_ENTRY(l, struct event, node)->pod, e->pod))
			return true;
	return false;
}

static void make_room(struct subscriber *s)
{
	LIST_FOREACH (e, &s->queue, struct event, node) {
		if (!is_end(e) && is_superseded(s, e)) {
			event_free(s, e);
			return;
		}
	}
	event_free(s, LIST_ENTRY(s->queue.next, struct event, node));
}

static void push(struct subscriber *s, const char *pod, const char *id,
		 Runtime__V1__ContainerEventType type, int64_t time)
{
	struct event *e = xnew(struct event);

	if (s->n >= QUEUE_MAX)
		make_room(s);
	e->pod = xstrdup(pod);
	e->id = xstrdup(id);
	e->type = type;
	e->time = time;
	list_append(&s->queue, &e->node);
	s->n++;
	if (!s->waiting)
		send_queue(s);
}

/* --- the engine's events --- */

static const struct {
	const char *type, *action;
	Runtime__V1__ContainerEventType means;
} actions[] = {
	{ "sandbox", "create", RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_CREATED_EVENT },
	{ "sandbox", "start", RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STARTED_EVENT },
	{ "sandbox", "stop", RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STOPPED_EVENT },
	{ "sandbox", "destroy", RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_DELETED_EVENT },
	{ "container", "create", RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_CREATED_EVENT },
	{ "container", "start", RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STARTED_EVENT },
	{ "container", "die", RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STOPPED_EVENT },
	{ "container", "destroy", RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_DELETED_EVENT },
};

static void remember_pod(struct cri_events *s, const char *id)
{
	struct sandbox_view *v;

	if (engine_sandbox_get(s->api->engine, CRI_NAMESPACE, id, &v, NULL) == 0)
		sandbox_view_unref(map_set(&s->pods, id, v));
}

static void on_event(const struct engine_event *event, void *arg)
{
	struct cri_events *s = arg;
	bool is_pod = str_equal(event->type, "sandbox");
	const char *pod = is_pod ? event->id : kvs_get(&event->attributes, "sandboxID");
	size_t i = 0;

	if (!str_equal(event->ns, CRI_NAMESPACE) || str_empty(pod))
		return;
	while (i < ARRAY_SIZE(actions) && (!str_equal(actions[i].type, event->type) ||
					   !str_equal(actions[i].action, event->action)))
		i++;
	if (i == ARRAY_SIZE(actions))
		return;
	remember_pod(s, pod);
	s->last = MAX(s->last + 1, event->time ? event->time : time_realtime());
	LIST_FOREACH (sub, &s->subscribers, struct subscriber, node)
		push(sub, pod, event->id, actions[i].means, s->last);
	if (is_pod &&
	    actions[i].means == RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_DELETED_EVENT)
		forget_pod(s, pod);
}

/* --- subscribers --- */

static void on_gone(void *arg)
{
	struct subscriber *s = arg;

	list_remove(&s->node);
	while (!list_is_empty(&s->queue))
		event_free(s, LIST_ENTRY(s->queue.next, struct event, node));
	grpc_call_unref(s->call);
	free(s);
}

static void subscribe(void *arg)
{
	struct subscriber *s = arg;

	list_append(&s->owner->subscribers, &s->node);
	grpc_call_on_cancel(s->call, on_gone, s);
}

static int get_container_events(struct grpc_call *c, const ProtobufCMessage *m UNUSED,
				struct error *err UNUSED)
{
	struct subscriber *s = xnew(struct subscriber);

	s->owner = cri_of(c)->events;
	s->call = grpc_call_ref(c);
	list_init(&s->node);
	list_init(&s->queue);
	loop_post(s->owner->api->config.loop, subscribe, s);
	return 0;
}

const struct grpc_method cri_event_methods[] = {
	{ "GetContainerEvents", .streaming = get_container_events, .pool = JOB_QUICK },
	{ NULL },
};

/* What is there already is known before it is gone. */
struct cri_events *cri_events_new(struct cri_api *api)
{
	CLEANUP(sandbox_views_done) struct sandbox_views views = { 0 };
	struct cri_events *s = xnew(struct cri_events);

	s->api = api;
	s->pods = MAP_INIT;
	list_init(&s->subscribers);
	engine_sandbox_list(api->engine, CRI_NAMESPACE, &views);
	for (size_t i = 0; i < views.n; i++)
		sandbox_view_unref(map_set(&s->pods, views.v[i]->id, sandbox_view_ref(views.v[i])));
	return s;
}

void cri_events_start(struct cri_events *s)
{
	s->source = engine_subscribe(s->api->engine, 0, on_event, s);
}

void cri_events_free(struct cri_events *s)
{
	if (!s)
		return;
	if (s->source)
		engine_unsubscribe(s->source);
	map_done_values(&s->pods, unref_view);
	free(s);
}
