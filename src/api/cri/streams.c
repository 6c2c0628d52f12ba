/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streaming lists: the items are there already, in the call's arena, a snapshot that no lock
 * guards; they go out piece by piece as the client takes them, so that no reply grows beyond what
 * a client accepts.
 */
#include "api/cri/internal.h"

#include "base/mem.h"

#define CHUNK_BYTES (128 << 10)

/* Any reply of a streaming list: one repeated message is all that it has. */
struct items_reply {
	ProtobufCMessage base;
	size_t n;
	ProtobufCMessage **items;
};

_Static_assert(sizeof(struct items_reply) == sizeof(Runtime__V1__StreamImagesResponse) &&
		       offsetof(struct items_reply, items) ==
			       offsetof(Runtime__V1__StreamImagesResponse, images),
	       "streaming lists have replies of this shape");

struct item_stream {
	struct grpc_call *call;
	const ProtobufCMessageDescriptor *reply;
	ProtobufCMessage **items;
	size_t n, next;
	bool released;
};

static int send_chunk(struct item_stream *s)
{
	struct items_reply reply;
	size_t bytes = 0;

	s->reply->message_init(&reply.base);
	reply.items = s->items + s->next;
	while (s->next < s->n && bytes < CHUNK_BYTES) {
		bytes += protobuf_c_message_get_packed_size(s->items[s->next++]);
		reply.n++;
	}
	return grpc_call_send(s->call, &reply.base);
}

/* The stream lies in the call's arena, which the caller sees to that it lives. */
static void release(struct item_stream *s)
{
	if (!s->released) {
		s->released = true;
		grpc_call_unref(s->call);
	}
}

static void send_more(void *arg)
{
	struct item_stream *s = arg;

	while (s->next < s->n) {
		int r = send_chunk(s);

		if (r == 0)
			continue;
		if (r > 0 && s->next < s->n) {
			grpc_call_on_drain(s->call, send_more, s);
			return;
		}
		break;
	}
	grpc_call_finish(s->call, NULL);
	release(s);
}

static void on_cancel(void *arg)
{
	release(arg);
}

static void start(void *arg)
{
	struct item_stream *s = arg;

	struct grpc_call *c = grpc_call_ref(s->call);

	grpc_call_on_cancel(c, on_cancel, s);
	send_more(s);
	grpc_call_unref(c);
}

void cri_stream_items(struct grpc_call *c, const ProtobufCMessageDescriptor *reply, void *items,
		      size_t n)
{
	struct item_stream *s = arena_new(grpc_call_arena(c), struct item_stream);

	*s = (struct item_stream){
		.call = grpc_call_ref(c), .reply = reply, .items = items, .n = n
	};
	loop_post(cri_of(c)->config.loop, start, s);
}
