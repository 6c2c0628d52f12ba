/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf-c writes a message's unknown fields as they are: a tag, then bytes that it does not look
 * at. So one unknown field with the tag of the first field and all the rest as its bytes is the
 * packed message again, and costs a copy.
 */
#include "api/cri/packed.h"

#include "base/map.h"
#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#define FIRST_TAG ((uint8_t)(1 << 3 | PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED))

struct packed {
	const void *identity;
	void *held;
	uint64_t round;
	size_t len;
	uint8_t data[];
};

struct packed_cache {
	const struct packed_ops *ops;
	void *arg;
	pthread_mutex_t lock;
	struct map entries;
	uint64_t round;
};

struct packed_cache *packed_cache_new(const struct packed_ops *ops, void *arg)
{
	struct packed_cache *c = xnew(struct packed_cache);

	c->ops = ops;
	c->arg = arg;
	c->entries = MAP_INIT;
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

static void packed_free(struct packed_cache *c, struct packed *p)
{
	if (!p)
		return;
	c->ops->release(p->held);
	free(p);
}

void packed_cache_free(struct packed_cache *c)
{
	if (!c)
		return;
	MAP_FOREACH (e, &c->entries)
		packed_free(c, map_value(e));
	map_done(&c->entries);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* A message that packs to these bytes, which live as long as the arena. */
static ProtobufCMessage *wrap(struct arena *a, const ProtobufCMessageDescriptor *type,
			      uint8_t *data, size_t len)
{
	ProtobufCMessage *m = arena_alloc(a, type->sizeof_message);
	ProtobufCMessageUnknownField *rest = arena_new(a, ProtobufCMessageUnknownField);

	type->message_init(m);
	assert(len > 0 && data[0] == FIRST_TAG);
	rest->tag = 1;
	rest->wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
	rest->data = data + 1;
	rest->len = len - 1;
	m->n_unknown_fields = 1;
	m->unknown_fields = rest;
	return m;
}

static ProtobufCMessage *from_cache(struct packed_cache *c, struct arena *a,
				    const ProtobufCMessageDescriptor *type, const char *id,
				    const void *identity)
{
	uint8_t *copy = NULL;
	size_t len = 0;

	pthread_mutex_lock(&c->lock);
	struct packed *p = map_get(&c->entries, id);
	if (p && p->identity == identity) {
		p->round = c->round;
		len = p->len;
		copy = arena_alloc(a, len);
		memcpy(copy, p->data, len);
	}
	pthread_mutex_unlock(&c->lock);
	return copy ? wrap(a, type, copy, len) : NULL;
}

ProtobufCMessage *packed_get(struct packed_cache *c, struct arena *a,
			     const ProtobufCMessageDescriptor *type, const char *id,
			     const void *identity, const void *item)
{
	ProtobufCMessage *m = from_cache(c, a, type, id, identity);

	if (m)
		return m;
	m = c->ops->encode(a, item);
	void *held = c->ops->hold(c->arg, item);
	if (!held)
		return m;
	size_t len = protobuf_c_message_get_packed_size(m);
	struct packed *p = xmalloc(sizeof(*p) + len);
	*p = (struct packed){ .identity = identity, .held = held, .len = len };
	protobuf_c_message_pack(m, p->data);
	pthread_mutex_lock(&c->lock);
	p->round = c->round;
	struct packed *old = map_set(&c->entries, id, p);
	pthread_mutex_unlock(&c->lock);
	packed_free(c, old);
	return m;
}

void packed_sweep(struct packed_cache *c, size_t n)
{
	pthread_mutex_lock(&c->lock);
	uint64_t round = c->round++;
	if (c->entries.n > n) {
		MAP_FOREACH (e, &c->entries) {
			struct packed *p = map_value(e);

			if (p->round < round) {
				map_remove(&c->entries, map_key(e));
				packed_free(c, p);
			}
		}
	}
	pthread_mutex_unlock(&c->lock);
}
