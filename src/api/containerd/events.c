/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events. A filter may look into an event ("event.container_id"), so its message is unpacked for
 * the match, by the descriptors of the messages that containerd publishes.
 */
#include "api/containerd/internal.h"

#include "base/mem.h"
#include "base/time.h"
#include "rpc/protobuf.h"

#include "containerd.events.pb-c.h"
#include "containerd.services.events.v1.pb-c.h"
#include "containerd.services.images.v1.pb-c.h"

#include <string.h>

static const ProtobufCMessageDescriptor *const known[] = {
	&containerd__events__container_create__descriptor,
	&containerd__events__container_delete__descriptor,
	&containerd__events__container_update__descriptor,
	&containerd__events__content_create__descriptor,
	&containerd__events__content_delete__descriptor,
	&containerd__events__namespace_create__descriptor,
	&containerd__events__namespace_delete__descriptor,
	&containerd__events__namespace_update__descriptor,
	&containerd__events__snapshot_commit__descriptor,
	&containerd__events__snapshot_prepare__descriptor,
	&containerd__events__snapshot_remove__descriptor,
	&containerd__events__task_checkpointed__descriptor,
	&containerd__events__task_create__descriptor,
	&containerd__events__task_delete__descriptor,
	&containerd__events__task_exec_added__descriptor,
	&containerd__events__task_exec_started__descriptor,
	&containerd__events__task_exit__descriptor,
	&containerd__events__task_oom__descriptor,
	&containerd__events__task_paused__descriptor,
	&containerd__events__task_resumed__descriptor,
	&containerd__events__task_start__descriptor,
	&containerd__services__images__v1__image_create__descriptor,
	&containerd__services__images__v1__image_delete__descriptor,
	&containerd__services__images__v1__image_update__descriptor,
};

struct subscriber {
	struct grpc_call *call;
	struct exchange *exchange;
	struct exchange_subscription *subscription;
	struct filter *filter;
};

/* What a filter is asked about: the event is unpacked when one asks for it. */
struct candidate {
	const Containerd__Types__Envelope *envelope;
	struct arena *arena;
	ProtobufCMessage *event;
	bool looked;
};

static ProtobufCMessage *unpack(struct arena *a, const Google__Protobuf__Any *any)
{
	ProtobufCMessage *m = NULL;

	for (size_t i = 0; any && i < ARRAY_SIZE(known); i++) {
		if (strcmp(known[i]->name, any->type_url) == 0 &&
		    protobuf_unpack(a, known[i], any->value.data, any->value.len, &m, NULL) == 0)
			return m;
	}
	return NULL;
}

/* A string field of a message, by the rest of the path. */
static const char *message_field(const ProtobufCMessage *m, const struct strv *path, size_t at)
{
	const ProtobufCFieldDescriptor *f =
		m && at < path->n ? protobuf_c_message_descriptor_get_field_by_name(m->descriptor,
										    path->v[at])
				  : NULL;

	if (!f || f->label == PROTOBUF_C_LABEL_REPEATED)
		return NULL;
	const void *member = (const char *)m + f->offset;
	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		return message_field(*(ProtobufCMessage *const *)member, path, at + 1);
	return f->type == PROTOBUF_C_TYPE_STRING && at + 1 == path->n ? *(const char *const *)member
								      : NULL;
}

static const char *envelope_field(const void *object, const struct strv *path)
{
	struct candidate *c = (struct candidate *)(uintptr_t)object;

	if (path->n == 1 && str_equal(path->v[0], "namespace"))
		return c->envelope->namespace_;
	if (path->n == 1 && str_equal(path->v[0], "topic"))
		return c->envelope->topic;
	if (path->n < 2 || !str_equal(path->v[0], "event"))
		return NULL;
	if (!c->looked)
		c->event = unpack(c->arena, c->envelope->event);
	c->looked = true;
	return message_field(c->event, path, 1);
}

static void on_event(const Containerd__Types__Envelope *e, void *arg)
{
	struct subscriber *s = arg;
	autoarena struct arena arena = ARENA_INIT;
	struct candidate candidate = { .envelope = e, .arena = &arena };

	/* One that does not read has its call ended by the server, when too much waits. */
	if (filter_match(s->filter, envelope_field, &candidate))
		grpc_call_send(s->call, &e->base);
}

static void on_cancel(void *arg)
{
	struct subscriber *s = arg;

	exchange_unsubscribe(s->subscription);
	grpc_call_unref(s->call);
	filter_free(s->filter);
	free(s);
}

static void start(void *arg)
{
	struct subscriber *s = arg;

	s->subscription = exchange_subscribe(s->exchange, on_event, s);
	grpc_call_on_cancel(s->call, on_cancel, s);
}

static int subscribe(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const Containerd__Services__Events__V1__SubscribeRequest *request =
		(const Containerd__Services__Events__V1__SubscribeRequest *)m;
	struct filter *f = NULL;

	if (filter_parse(request ? request->filters : NULL, request ? request->n_filters : 0, &f,
			 err) < 0)
		return -1;
	struct subscriber *s = xnew(struct subscriber);
	s->call = grpc_call_ref(c);
	s->exchange = ctrd_of(c)->exchange;
	s->filter = f;
	loop_post(ctrd_of(c)->config.loop, start, s);
	return 0;
}

/* "/" and identifiers between slashes. */
static int check_topic(const char *topic, struct error *err)
{
	autostrv struct strv parts = STRV_INIT;

	strv_split(&parts, topic, "/");
	bool ok = topic[0] == '/' && parts.n > 0;
	for (size_t i = topic[0] == '/' ? 1 : 0; ok && i < parts.n; i++)
		ok = identifier_valid(parts.v[i]);
	return ok ? 0
		  : error_set(err, ERROR_INVALID_ARGUMENT, "topic '%.128s' is not valid", topic);
}

static int publish(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		   struct error *err)
{
	const Containerd__Services__Events__V1__PublishRequest *request =
		(const Containerd__Services__Events__V1__PublishRequest *)m;
	Containerd__Types__Envelope e = CONTAINERD__TYPES__ENVELOPE__INIT;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 || check_topic(request->topic, err) < 0)
		return -1;
	e.timestamp = ctrd_time(grpc_call_arena(c), time_realtime());
	e.namespace_ = message_text(grpc_call_arena(c), ctx.ns);
	e.topic = request->topic;
	e.event = request->event;
	exchange_forward(ctrd_of(c)->exchange, &e);
	return 0;
}

static int forward(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		   struct error *err)
{
	const Containerd__Types__Envelope *e =
		((const Containerd__Services__Events__V1__ForwardRequest *)m)->envelope;

	if (!e || !e->timestamp || !identifier_valid(e->namespace_))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "envelope must have a namespace and a timestamp");
	if (check_topic(e->topic, err) < 0)
		return -1;
	exchange_forward(ctrd_of(c)->exchange, e);
	return 0;
}

const struct grpc_method events_methods[] = {
	{ "Publish", .unary = publish, .pool = JOB_OPS },
	{ "Forward", .unary = forward, .pool = JOB_OPS },
	{ "Subscribe", .streaming = subscribe, .pool = JOB_OPS },
	{ NULL },
};
