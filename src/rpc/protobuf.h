#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf-c with request arenas: what is decoded or packed here lives in the arena and dies with
 * it; nothing is freed one by one. One thread at a time, as the arena.
 */

#include "base/arena.h"
#include "base/error.h"

#include <protobuf-c/protobuf-c.h>

/* free() of this allocator does nothing. The arena must outlive it. */
ProtobufCAllocator protobuf_allocator(struct arena *a);
/* INVALID_ARGUMENT naming the message type. */
int protobuf_unpack(struct arena *a, const ProtobufCMessageDescriptor *d, const void *p, size_t len,
		    ProtobufCMessage **ret, struct error *err);
ProtobufCBinaryData protobuf_pack(struct arena *a, const ProtobufCMessage *m);
/* Brings the entries of maps with string keys into order, so that equal messages pack equally. */
void protobuf_sort_maps(ProtobufCMessage *m);
