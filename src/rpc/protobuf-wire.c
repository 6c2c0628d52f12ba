/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/protobuf-wire.h"

#include "base/mem.h"

#include <string.h>

#define DEPTH_MAX 64
/* What protobuf-c takes for a field while it unpacks, roughly. */
#define FIELD_COST 64

struct walk {
	bool repair;
	size_t left; /* memory */
	struct error *err;
};

struct cursor {
	uint8_t *p;
	size_t len;
};

size_t utf8_sequence(const unsigned char *s, size_t len)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t min;
	} kinds[] = { { 0x80, 0x00, 0 },
		      { 0xe0, 0xc0, 0x80 },
		      { 0xf0, 0xe0, 0x800 },
		      { 0xf8, 0xf0, 0x10000 } };

	for (size_t i = 0; i < ARRAY_SIZE(kinds) && i < len; i++) {
		if ((s[0] & kinds[i].mask) != kinds[i].lead)
			continue;
		uint32_t c = s[0] & (unsigned char)~kinds[i].mask;
		for (size_t j = 1; j <= i; j++) {
			if ((s[j] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (s[j] & 0x3f);
		}
		return c >= kinds[i].min && c <= 0x10ffff && (c & 0xfffff800) != 0xd800 ? i + 1 : 0;
	}
	return 0;
}

/* Bytes of ASCII at the beginning, as far as whole words go. */
static size_t plain(const uint8_t *s, size_t len)
{
	size_t n = 0;

	for (uint64_t word; n + sizeof(word) <= len; n += sizeof(word)) {
		memcpy(&word, s + n, sizeof(word));
		if (word & 0x8080808080808080)
			break;
	}
	return n;
}

static int walk_string(struct walk *w, const ProtobufCMessageDescriptor *d,
		       const ProtobufCFieldDescriptor *f, struct cursor s)
{
	if (!w->repair && memchr(s.p, '\0', s.len))
		return error_set(w->err, ERROR_INVALID_ARGUMENT,
				 "field '%s.%s' has a NUL byte in its text", d->name, f->name);
	for (size_t n; s.len > 0; s.p += n, s.len -= n) {
		n = plain(s.p, s.len);
		if (n == 0)
			n = utf8_sequence(s.p, s.len);
		if (n > 0)
			continue;
		if (!w->repair)
			return error_set(w->err, ERROR_INVALID_ARGUMENT,
					 "field '%s.%s' is not valid UTF-8", d->name, f->name);
		*s.p = '?';
		n = 1;
	}
	return 0;
}

static bool take_varint(struct cursor *c, uint64_t *ret)
{
	*ret = 0;
	for (unsigned i = 0; i < 10 && c->len > 0; i++) {
		uint8_t b = *c->p++;

		c->len--;
		*ret |= (uint64_t)(b & 0x7f) << (7 * i);
		if (!(b & 0x80))
			return true;
	}
	return false;
}

/* One field's value, by its wire type; for what has a length, the part behind that. */
static bool take_value(struct cursor *c, unsigned type, struct cursor *ret)
{
	uint64_t n = 0;

	switch (type) {
	case PROTOBUF_C_WIRE_TYPE_VARINT:
		*ret = (struct cursor){ c->p, 0 };
		return take_varint(c, &n);
	case PROTOBUF_C_WIRE_TYPE_64BIT:
		n = 8;
		break;
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		n = 4;
		break;
	case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
		if (!take_varint(c, &n))
			return false;
		break;
	default: /* groups */
		return false;
	}
	if (n > c->len)
		return false;
	*ret = (struct cursor){ c->p, (size_t)n };
	c->p += n;
	c->len -= (size_t)n;
	return true;
}

static bool spend(struct walk *w, size_t n)
{
	if (n > w->left) {
		error_set(w->err, ERROR_RESOURCE_EXHAUSTED, "the message has too many parts");
		return false;
	}
	w->left -= n;
	return true;
}

/* A packed element of a byte can become a number of eight. */
static size_t value_cost(const ProtobufCFieldDescriptor *f, size_t len)
{
	bool packed =
		f && f->label == PROTOBUF_C_LABEL_REPEATED && f->type < PROTOBUF_C_TYPE_STRING;

	return FIELD_COST + (packed ? len * 8 : len);
}

static int walk_message(struct walk *w, const ProtobufCMessageDescriptor *d, struct cursor c,
			unsigned depth)
{
	const unsigned with_length = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
	uint64_t tag;

	if (depth > DEPTH_MAX)
		return error_set(w->err, ERROR_INVALID_ARGUMENT, "'%s' is nested too deeply",
				 d->name);
	if (!spend(w, d->sizeof_message))
		return -1;
	while (c.len > 0) {
		struct cursor value;
		int r = 0;

		if (!take_varint(&c, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX >> 3 ||
		    !take_value(&c, tag & 7, &value))
			return error_set(w->err, ERROR_INVALID_ARGUMENT, "malformed '%s' message",
					 d->name);
		const ProtobufCFieldDescriptor *f =
			protobuf_c_message_descriptor_get_field(d, (unsigned)(tag >> 3));
		if (f && (tag & 7) == with_length && f->type == PROTOBUF_C_TYPE_MESSAGE)
			r = spend(w, FIELD_COST) ? walk_message(w, f->descriptor, value, depth + 1)
						 : -1;
		else if (!spend(w, value_cost(f, value.len)))
			r = -1;
		else if (f && (tag & 7) == with_length && f->type == PROTOBUF_C_TYPE_STRING)
			r = walk_string(w, d, f, value);
		if (r < 0)
			return -1;
	}
	return 0;
}

int protobuf_check(const ProtobufCMessageDescriptor *d, const void *p, size_t len,
		   size_t max_memory, struct error *err)
{
	struct walk w = { .left = max_memory, .err = err };

	return walk_message(&w, d, (struct cursor){ (uint8_t *)(uintptr_t)p, len }, 0);
}

void protobuf_repair(const ProtobufCMessageDescriptor *d, void *p, size_t len)
{
	struct walk w = { .repair = true, .left = SIZE_MAX };

	walk_message(&w, d, (struct cursor){ p, len }, 0);
}
