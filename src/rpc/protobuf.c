/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/protobuf.h"

static void *alloc_from_arena(void *arena, size_t size)
{
	return arena_alloc(arena, size);
}

static void free_nothing(void *arena UNUSED, void *p UNUSED)
{
}

ProtobufCAllocator protobuf_allocator(struct arena *a)
{
	return (ProtobufCAllocator){
		.alloc = alloc_from_arena,
		.free = free_nothing,
		.allocator_data = a,
	};
}

int protobuf_unpack(struct arena *a, const ProtobufCMessageDescriptor *d, const void *p, size_t len,
		    ProtobufCMessage **ret, struct error *err)
{
	ProtobufCAllocator allocator = protobuf_allocator(a);
	ProtobufCMessage *m = protobuf_c_message_unpack(d, &allocator, len, p);

	if (!m)
		return error_set(err, ERROR_INVALID_ARGUMENT, "malformed '%s' message", d->name);
	*ret = m;
	return 0;
}

ProtobufCBinaryData protobuf_pack(struct arena *a, const ProtobufCMessage *m)
{
	ProtobufCBinaryData out = { .len = protobuf_c_message_get_packed_size(m) };

	out.data = arena_alloc(a, MAX(out.len, (size_t)1));
	protobuf_c_message_pack(m, out.data);
	return out;
}
