#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON to struct and back by table: one table a type, used both ways. Decoding names the path of a
 * wrong member ("HostConfig.Memory: expected integer, got string"). Unknown members are ignored;
 * null is the same as absent. The struct must be zeroed (or hold valid earlier values, which are
 * replaced) before decoding and is released with jsontab_done().
 *
 *	static const struct json_field point_fields[] = {
 *		JSON_FIELD("x", FIELD_INT, struct point, x, JSON_REQUIRED),
 *		JSON_FIELD("names", FIELD_STRV, struct point, names, 0),
 *		JSON_SUB("inner", FIELD_OBJECT, struct point, inner, inner_fields, struct inner, 0),
 *		JSON_END,
 *	};
 */

#include "base/error.h"
#include "base/json.h"

enum json_field_type {
	FIELD_END,
	FIELD_STRING,	  /* char * */
	FIELD_BOOL,	  /* bool */
	FIELD_INT,	  /* int64_t */
	FIELD_UINT,	  /* uint64_t */
	FIELD_INT32,	  /* int; out of range is an error */
	FIELD_DOUBLE,	  /* double */
	FIELD_STRV,	  /* struct strv */
	FIELD_KVS,	  /* struct kvs */
	FIELD_JSON,	  /* struct json * (a reference) */
	FIELD_OBJECT,	  /* embedded struct, sub table */
	FIELD_OBJECT_PTR, /* struct *, allocated, sub table; NULL when absent */
	FIELD_ARRAY,	  /* pointer, then size_t count; sub table */
};

enum {
	JSON_REQUIRED = 1 << 0,
	JSON_ALWAYS = 1 << 1, /* encode also when zero or empty */
};

struct json_field {
	const char *name;
	enum json_field_type type;
	unsigned flags;
	size_t offset;
	const struct json_field *sub;
	size_t sub_size;
};

#define JSON_FIELD(n, t, st, m, f)                                                \
	{                                                                         \
		.name = (n), .type = (t), .flags = (f), .offset = offsetof(st, m) \
	}
#define JSON_SUB(n, t, st, m, tab, subtype, f)                                                   \
	{                                                                                        \
		.name = (n), .type = (t), .flags = (f), .offset = offsetof(st, m), .sub = (tab), \
		.sub_size = sizeof(subtype)                                                      \
	}
#define JSON_END                  \
	{                         \
		.type = FIELD_END \
	}

int jsontab_decode(const struct json_field *table, const struct json *j, void *ret_struct,
		   struct error *err);
/* A new object. Zero, false, NULL and empty members are left out unless JSON_ALWAYS. */
struct json *jsontab_encode(const struct json_field *table, const void *st);
/* Releases what the members own and zeroes them; not the struct itself. */
void jsontab_done(const struct json_field *table, void *st);
