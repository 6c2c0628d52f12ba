/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/protobuf.h"

#include "base/mem.h"

#include <string.h>

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

/* protobuf-c keeps no mark of a map, but protoc names its entries so. */
static bool is_map_entry(const ProtobufCMessageDescriptor *d)
{
	return d->n_fields == 2 && str_has_suffix(d->short_name, "Entry") &&
	       str_equal(d->fields[0].name, "key") && d->fields[0].type == PROTOBUF_C_TYPE_STRING &&
	       str_equal(d->fields[1].name, "value");
}

static const void *member(const ProtobufCMessage *m, unsigned offset)
{
	return (const char *)m + offset;
}

static int compare_keys(const void *a, const void *b)
{
	const ProtobufCMessage *x = *(ProtobufCMessage *const *)a;
	const ProtobufCMessage *y = *(ProtobufCMessage *const *)b;
	unsigned offset = x->descriptor->fields[0].offset;

	return strcmp(*(char *const *)member(x, offset), *(char *const *)member(y, offset));
}

static void sort_field(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	ProtobufCMessage **all = (ProtobufCMessage **)(uintptr_t)member(m, f->offset);
	size_t n = 1;

	if (f->label == PROTOBUF_C_LABEL_REPEATED) {
		all = *(ProtobufCMessage ***)all;
		n = *(const size_t *)member(m, f->quantifier_offset);
		if (n > 1 && is_map_entry(f->descriptor))
			qsort(all, n, sizeof(*all), compare_keys);
	} else if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
		   *(const uint32_t *)member(m, f->quantifier_offset) != f->id) {
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (all[i])
			protobuf_sort_maps(all[i]);
	}
}

void protobuf_sort_maps(ProtobufCMessage *m)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		if (m->descriptor->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
			sort_field(m, &m->descriptor->fields[i]);
	}
}
