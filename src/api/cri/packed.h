#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * List entries as they were packed last. A kubelet lists everything every second and next to
 * nothing of it changes, so what an object's entry says is encoded once and kept as bytes, until
 * the object is another one. Any thread.
 */

#include "base/arena.h"

#include <protobuf-c/protobuf-c.h>

struct packed_cache;

struct packed_ops {
	/* The whole message; its first field is a string and never empty. */
	ProtobufCMessage *(*encode)(struct arena *a, const void *item);
	/* Keeps what `identity` is alive, so that its address is not used again. NULL: it is gone.
	 */
	void *(*hold)(void *arg, const void *item);
	void (*release)(void *held);
};

struct packed_cache *packed_cache_new(const struct packed_ops *ops, void *arg);
void packed_cache_free(struct packed_cache *c);
/* A message of the type in the arena, which packs to what ops->encode() said of the item whose
 * identity this is; its members can still be set, where that left them at their defaults. */
ProtobufCMessage *packed_get(struct packed_cache *c, struct arena *a,
			     const ProtobufCMessageDescriptor *type, const char *id,
			     const void *identity, const void *item);
/* All that there is has been asked for since the last call: forgets the rest. */
void packed_sweep(struct packed_cache *c, size_t n);
