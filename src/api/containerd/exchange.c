/* SPDX-License-Identifier: Apache-2.0 */
#include "api/containerd/exchange.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "rpc/message.h"

struct exchange {
	struct loop *loop;
	struct list subscriptions; /* loop */
};

struct exchange_subscription {
	struct list node;
	void (*fn)(const Containerd__Types__Envelope *e, void *arg);
	void *arg;
};

/* An envelope on its way to the loop, packed. */
struct posted {
	struct exchange *exchange;
	size_t n;
	uint8_t bytes[];
};

struct exchange *exchange_new(struct loop *l)
{
	struct exchange *x = xnew(struct exchange);

	x->loop = l;
	list_init(&x->subscriptions);
	return x;
}

void exchange_free(struct exchange *x)
{
	free(x);
}

static void deliver(void *arg)
{
	struct posted *p = arg;
	struct exchange *x = p->exchange;
	Containerd__Types__Envelope *e = NULL;

	if (!list_is_empty(&x->subscriptions))
		e = containerd__types__envelope__unpack(NULL, p->n, p->bytes);
	if (e) {
		LIST_FOREACH (s, &x->subscriptions, struct exchange_subscription, node)
			s->fn(e, s->arg);
		containerd__types__envelope__free_unpacked(e, NULL);
	}
	free(p);
}

void exchange_forward(struct exchange *x, const Containerd__Types__Envelope *e)
{
	size_t n = protobuf_c_message_get_packed_size(&e->base);
	struct posted *p = xmalloc(sizeof(*p) + n);

	p->exchange = x;
	p->n = n;
	protobuf_c_message_pack(&e->base, p->bytes);
	loop_post(x->loop, deliver, p);
}

void exchange_publish(struct exchange *x, const char *ns, const char *topic,
		      const ProtobufCMessage *event)
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
	exchange_forward(x, &e);
}

struct exchange_subscription *exchange_subscribe(
	struct exchange *x, void (*fn)(const Containerd__Types__Envelope *e, void *arg), void *arg)
{
	struct exchange_subscription *s = xnew(struct exchange_subscription);

	s->fn = fn;
	s->arg = arg;
	list_append(&x->subscriptions, &s->node);
	return s;
}

void exchange_unsubscribe(struct exchange_subscription *s)
{
	list_remove(&s->node);
	free(s);
}
