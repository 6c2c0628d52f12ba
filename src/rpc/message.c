/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists are there already when they are sent, in the call's arena, a snapshot that no lock guards;
 * they go out piece by piece as the client takes them, so that no reply grows beyond what a client
 * accepts.
 */

#include "rpc/message.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

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

/* Length of the sequence at s, 0 when it is none (RFC 3629: no surrogates, nothing overlong). */
static size_t utf8_sequence(const unsigned char *s)
{
	static const unsigned char first[] = { 0xc2, 0xe0, 0xf0 }, last[] = { 0xdf, 0xef, 0xf4 };
	unsigned char low = 0x80, high = 0xbf;

	if (s[0] < 0x80)
		return 1;
	for (size_t more = 1; more <= 3; more++) {
		if (s[0] < first[more - 1] || s[0] > last[more - 1])
			continue;
		low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : low;
		high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : high;
		for (size_t i = 1; i <= more; i++, low = 0x80, high = 0xbf) {
			if (s[i] < low || s[i] > high)
				return 0;
		}
		return more + 1;
	}
	return 0;
}

bool message_text_valid(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	for (size_t step = 1; *p && step > 0; p += step)
		step = utf8_sequence(p);
	return *p == '\0';
}

char *message_text(struct arena *a, const char *s)
{
	const unsigned char *p = (const unsigned char *)(s ? s : "");
	size_t n = 0, bad = 0;

	while (p[n]) {
		size_t step = utf8_sequence(p + n);

		bad += step == 0;
		n += step ? step : 1;
	}
	char *out = arena_alloc(a, n + 2 * bad + 1), *o = out;
	while (*p) {
		size_t step = utf8_sequence(p);

		memcpy(o, step ? (const char *)p : "\xef\xbf\xbd", step ? step : 3);
		o += step ? step : 3;
		p += step ? step : 1;
	}
	return out;
}

char **message_texts(struct arena *a, const struct strv *s)
{
	char **out = message_array(a, s->n);

	for (size_t i = 0; i < s->n; i++)
		out[i] = message_text(a, s->v[i]);
	return out;
}

void *message_entry(struct arena *a, const ProtobufCMessageDescriptor *d, const char *key,
		    const char *value)
{
	struct text_entry *e = message_new(a, d);

	assert(d->sizeof_message == sizeof(*e));
	e->key = message_text(a, key);
	e->value = message_text(a, value);
	return e;
}

void *message_map(struct arena *a, const ProtobufCMessageDescriptor *entry, const struct kvs *k,
		  size_t *ret_n)
{
	struct text_entry **out = message_array(a, k->n);

	for (size_t i = 0; i < k->n; i++)
		out[i] = message_entry(a, entry, k->v[i].key, k->v[i].value);
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
