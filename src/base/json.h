#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON documents. The only file that includes json-c is json.c.
 *
 * Parsing is strict (RFC 8259, UTF-8 checked, no trailing bytes, depth and size bounded, duplicate
 * keys refused as I-JSON demands). Values are reference-counted trees; a tree belongs to one thread
 * at a time. "get" borrows; "set" and "add" take the child.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/map.h"
#include "base/strv.h"

struct json;

enum json_type {
	JSON_NULL,
	JSON_BOOL,
	JSON_INT,
	JSON_DOUBLE,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
};

/* INVALID_ARGUMENT when it is not JSON, with the byte offset; RESOURCE_EXHAUSTED beyond max bytes.
 * A document that is only "null", integers beyond 64 bits and NUL in strings are refused too. */
struct json *json_parse(const char *text, size_t len, size_t max, struct error *err);
struct json *json_load_at(int dirfd, const char *path, size_t max, struct error *err);
struct json *json_ref(struct json *j);
void json_unref(struct json *j);
/* Compact or indented text, malloc'ed; slashes are not escaped. */
char *json_format(const struct json *j, bool pretty);

enum json_type json_type(const struct json *j); /* NULL pointer is JSON_NULL */

/* Readers give the default ("" is never one) when j or the member is absent or of another type. */
struct json *json_get(const struct json *obj, const char *key);
const char *json_get_string(const struct json *obj, const char *key); /* NULL when absent */
int64_t json_get_int(const struct json *obj, const char *key, int64_t fallback);
uint64_t json_get_uint(const struct json *obj, const char *key, uint64_t fallback);
double json_get_double(const struct json *obj, const char *key, double fallback);
bool json_get_bool(const struct json *obj, const char *key, bool fallback);
/* Appends the strings of an array member; elements of other types are an error naming key[i]. */
int json_get_strv(const struct json *obj, const char *key, struct strv *ret, struct error *err);
/* Same for an object of strings. null and absent are empty. */
int json_get_kvs(const struct json *obj, const char *key, struct kvs *ret, struct error *err);

const char *json_string(const struct json *j); /* NULL unless a string */
int64_t json_int(const struct json *j, int64_t fallback);
uint64_t json_uint(const struct json *j, uint64_t fallback);
double json_double(const struct json *j, double fallback);
bool json_bool(const struct json *j, bool fallback);
size_t json_array_len(const struct json *j); /* 0 unless an array */
struct json *json_array_get(const struct json *j, size_t index);
size_t json_object_len(const struct json *j);

/* Calls fn for each member in order until it returns non-zero, which is returned. */
int json_object_each(const struct json *obj,
		     int (*fn)(const char *key, struct json *value, void *arg), void *arg);

struct json *json_new_object(void);
struct json *json_new_array(void);
struct json *json_new_string(const char *s); /* NULL gives JSON null */
struct json *json_new_int(int64_t v);
struct json *json_new_uint(uint64_t v);
struct json *json_new_double(double v);
struct json *json_new_bool(bool v);
struct json *json_new_strv(const struct strv *s);
struct json *json_new_kvs(const struct kvs *k);
struct json *json_copy(const struct json *j);

/* Take value; NULL value sets JSON null. */
void json_set(struct json *obj, const char *key, struct json *value);
void json_set_string(struct json *obj, const char *key, const char *value);
void json_set_int(struct json *obj, const char *key, int64_t value);
void json_set_uint(struct json *obj, const char *key, uint64_t value);
void json_set_bool(struct json *obj, const char *key, bool value);
void json_del(struct json *obj, const char *key);
void json_add(struct json *array, struct json *value);

DEFINE_CLEANUP(struct json *, json_unref)
#define autojson CLEANUP(json_unrefp)
