/* SPDX-License-Identifier: Apache-2.0 */
#include "api/containerd/exchange.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "rpc/message.h"

#define MISSED_FOR (60 * NSEC_PER_SEC)
#define MISSED_MAX 4096

struct exchange {
	struct loop *loop;
	int64_t made_at;	   /* monotonic */
	struct list subscriptions; /* loop */
	struct list missed;	   /* loop: of struct posted */
	unsigned n_missed;
};

struct exchange_subscription {
	struct list node;
	void (*fn)(const Containerd__Types__Envelope *e, void *arg);
	void *arg;
};

/* An envelope on its way to the loop, packed. */
struct posted {
	struct list node;
	struct exchange *exchange;
	bool missed;
	size_t n;
	uint8_t bytes[];
};

struct exchange *exchange_new(struct loop *l)
{
	struct exchange *x = xnew(struct exchange);

	x->loop = l;
	x->made_at = time_monotonic();
	list_init(&x->subscriptions);
	list_init(&x->missed);
	return x;
}

static void drop_missed(struct exchange *x)
{
	LIST_FOREACH (p, &x->missed, struct posted, node) {
		list_remove(&p->node);
		free(p);
	}
	x->n_missed = 0;
}

void exchange_free(struct exchange *x)
{
	drop_missed(x);
	free(x);
}

static bool is_young(const struct exchange *x)
{
	return time_monotonic() - x->made_at < MISSED_FOR;
}

/* To one subscriber, or (NULL) to all. */
static void tell(const struct posted *p, const struct exchange_subscription *only)
{
	struct exchange *x = p->exchange;
	Containerd__Types__Envelope *e = NULL;

	if (!list_is_empty(&x->subscriptions))
		e = containerd__types__envelope__unpack(NULL, p->n, p->bytes);
	if (!e)
		return;
	LIST_FOREACH (s, &x->subscriptions, struct exchange_subscription, node) {
		if (!only || s == only)
			s->fn(e, s->arg);
	}
	containerd__types__envelope__free_unpacked(e, NULL);
}

static void deliver(void *arg)
{
	struct posted *p = arg;
	struct exchange *x = p->exchange;

	tell(p, NULL);
	if (!p->missed || !is_young(x) || x->n_missed == MISSED_MAX) {
		free(p);
		return;
	}
	list_append(&x->missed, &p->node);
	x->n_missed++;
}

static void post(struct exchange *x, const Containerd__Types__Envelope *e, bool missed)
{
	size_t n = protobuf_c_message_get_packed_size(&e->base);
	struct posted *p = xmalloc(sizeof(*p) + n);

	p->exchange = x;
	p->missed = missed;
	p->n = n;
	protobuf_c_message_pack(&e->base, p->bytes);
	loop_post(x->loop, deliver, p);
}

void exchange_forward(struct exchange *x, const Containerd__Types__Envelope *e)
{
	post(x, e, /* missed */ false);
}

static void publish(struct exchange *x, const char *ns, const char *topic,
		    const ProtobufCMessage *event, bool missed)
{
	Containerd__Types__Envelope e = CONTAINERD__TYPES__ENVELOPE__INIT;
	Google__Protobuf__Timestamp t = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	size_t n = protobuf_c_message_get_packed_size(event);
	autofree uint8_t *packed = xmalloc(n + 1);
	int64_t now = time_realtime();

	protobuf_c_message_pack(event, packed);
	t.seconds = now / NSEC_PER_SEC;
	t.nanos = (int32_t)(now % NSEC_PER_SEC);
	any.type_url = (char *)(uintptr_t)event->descriptor->name;
	any.value = (ProtobufCBinaryData){ n, packed };
	e.timestamp = &t;
	e.namespace_ = (char *)(uintptr_t)ns;
	e.topic = (char *)(uintptr_t)topic;
	e.event = &any;
	post(x, &e, missed);
}

void exchange_publish(struct exchange *x, const char *ns, const char *topic,
		      const ProtobufCMessage *event)
{
	publish(x, ns, topic, event, /* missed */ false);
}

void exchange_publish_missed(struct exchange *x, const char *ns, const char *topic,
			     const ProtobufCMessage *event)
{
	publish(x, ns, topic, event, /* missed */ true);
}

struct exchange_subscription *exchange_subscribe(
	struct exchange *x, void (*fn)(const Containerd__Types__Envelope *e, void *arg), void *arg)
{
	struct exchange_subscription *s = xnew(struct exchange_subscription);

	s->fn = fn;
	s->arg = arg;
	list_append(&x->subscriptions, &s->node);
	if (!is_young(x))
		drop_missed(x);
	LIST_FOREACH (p, &x->missed, struct posted, node)
		tell(p, s);
	return s;
}

void exchange_unsubscribe(struct exchange_subscription *s)
{
	list_remove(&s->node);
	free(s);
}
