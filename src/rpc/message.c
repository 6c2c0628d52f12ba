/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists are there already when they are sent, in the call's arena, a snapshot that no lock guards;
 * they go out piece by piece as the client takes them, so that no reply grows beyond what a client
 * accepts.
 */

#include "rpc/message.h"

#include "base/mem.h"

#include <assert.h>

#define CHUNK_BYTES (128 << 10)

/* What protoc-gen-c makes of an entry of any map<string, string>. */
struct text_entry {
	ProtobufCMessage base;
	char *key;
	char *value;
};

/* ... and of a message whose one field is a repeated message. */
struct items_reply {
	ProtobufCMessage base;
	size_t n;
	ProtobufCMessage **items;
};

struct item_stream {
	struct grpc_call *call;
	const ProtobufCMessageDescriptor *reply;
	ProtobufCMessage **items;
	size_t n, next;
	bool released;
};

void *message_new(struct arena *a, const ProtobufCMessageDescriptor *d)
{
	ProtobufCMessage *m = arena_alloc(a, d->sizeof_message);

	d->message_init(m);
	return m;
}

void *message_array(struct arena *a, size_t n)
{
	return arena_alloc(a, (n + 1) * sizeof(void *));
}

char *message_text(struct arena *a, const char *s)
{
	return arena_strdup(a, s ? s : "");
}

char **message_texts(struct arena *a, const struct strv *s)
{
	char **out = message_array(a, s->n);

	for (size_t i = 0; i < s->n; i++)
		out[i] = message_text(a, s->v[i]);
	return out;
}

void *message_map(struct arena *a, const ProtobufCMessageDescriptor *entry, const struct kvs *k,
		  size_t *ret_n)
{
	struct text_entry **out = message_array(a, k->n);

	assert(entry->sizeof_message == sizeof(struct text_entry));
	for (size_t i = 0; i < k->n; i++) {
		out[i] = message_new(a, entry);
		out[i]->key = message_text(a, k->v[i].key);
		out[i]->value = message_text(a, k->v[i].value);
	}
	*ret_n = k->n;
	return out;
}

void message_kvs(struct kvs *ret, void *entries, size_t n)
{
	struct text_entry **e = entries;

	for (size_t i = 0; i < n; i++)
		kvs_set(ret, e[i]->key, e[i]->value);
}

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

/* The stream lies in the call's arena. */
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

void grpc_call_send_items(struct grpc_call *c, struct loop *l,
			  const ProtobufCMessageDescriptor *reply, void *items, size_t n)
{
	struct item_stream *s = arena_new(grpc_call_arena(c), struct item_stream);

	assert(reply->sizeof_message == sizeof(struct items_reply));
	*s = (struct item_stream){
		.call = grpc_call_ref(c), .reply = reply, .items = items, .n = n
	};
	loop_post(l, start, s);
}
