/* SPDX-License-Identifier: Apache-2.0 */
#include "base/jsontab.h"
#include "base/mem.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

/* The shape of a FIELD_ARRAY member. */
struct array {
	void *v;
	size_t n;
};

static const char *const type_names[] = {
	[JSON_NULL] = "null",	  [JSON_BOOL] = "boolean",  [JSON_INT] = "integer",
	[JSON_DOUBLE] = "number", [JSON_STRING] = "string", [JSON_ARRAY] = "array",
	[JSON_OBJECT] = "object",
};

static int mismatch(struct error *err, const char *expected, const struct json *j)
{
	return error_set(err, ERROR_INVALID_ARGUMENT, "expected %s, got %s", expected,
			 type_names[json_type(j)]);
}

/* A message is "path: text" or only "text" while it is at the member itself. */
struct failure {
	struct error error;
	char *path;
};

static void failure_done(struct failure *f)
{
	error_done(&f->error);
	free(f->path);
}

static int prefix_path(struct failure *f, char *part)
{
	if (!f->path) {
		f->path = part;
		return -1;
	}
	char *path = xasprintf("%s%s%s", part, f->path[0] == '[' ? "" : ".", f->path);

	free(part);
	free(f->path);
	f->path = path;
	return -1;
}

static int decode_object(const struct json_field *table, const struct json *j, void *st,
			 struct failure *f);

static int decode_strv(const struct json *j, struct strv *ret, struct failure *f)
{
	if (json_type(j) != JSON_ARRAY)
		return mismatch(&f->error, "array", j);
	strv_done(ret);
	for (size_t i = 0; i < json_array_len(j); i++) {
		const struct json *item = json_array_get(j, i);

		if (json_type(item) != JSON_STRING) {
			mismatch(&f->error, "string", item);
			return prefix_path(f, xasprintf("[%zu]", i));
		}
		strv_push(ret, json_string(item));
	}
	return 0;
}

struct kvs_decode {
	struct kvs *ret;
	struct failure *f;
};

static int decode_kv(const char *key, struct json *value, void *arg)
{
	struct kvs_decode *d = arg;

	if (json_type(value) != JSON_STRING) {
		mismatch(&d->f->error, "string", value);
		return prefix_path(d->f, xasprintf("[%s]", key));
	}
	/* Keys are unique in an object: no search for an equal one. */
	GROW_ARRAY(d->ret->v, d->ret->n);
	d->ret->v[d->ret->n++] =
		(struct kv){ .key = xstrdup(key), .value = xstrdup(json_string(value)) };
	return 0;
}

static int decode_kvs(const struct json *j, struct kvs *ret, struct failure *f)
{
	struct kvs_decode d = { .ret = ret, .f = f };

	if (json_type(j) != JSON_OBJECT)
		return mismatch(&f->error, "object", j);
	kvs_done(ret);
	return json_object_each(j, decode_kv, &d);
}

static void release_array(const struct json_field *field, struct array *a)
{
	for (size_t i = 0; i < a->n; i++)
		jsontab_done(field->sub, (char *)a->v + i * field->sub_size);
	free(a->v);
	*a = (struct array){ 0 };
}

static int decode_array(const struct json_field *field, const struct json *j, struct array *ret,
			struct failure *f)
{
	if (json_type(j) != JSON_ARRAY)
		return mismatch(&f->error, "array", j);
	release_array(field, ret);
	if (json_array_len(j) == 0)
		return 0;
	ret->v = xcalloc(json_array_len(j), field->sub_size);
	for (; ret->n < json_array_len(j); ret->n++) {
		void *item = (char *)ret->v + ret->n * field->sub_size;

		if (decode_object(field->sub, json_array_get(j, ret->n), item, f) < 0) {
			prefix_path(f, xasprintf("[%zu]", ret->n));
			ret->n++; /* what it holds so far is released with the rest */
			return -1;
		}
	}
	return 0;
}

static int decode_integer(const struct json_field *field, const struct json *j, void *member,
			  struct failure *f)
{
	if (json_type(j) != JSON_INT)
		return mismatch(&f->error, "integer", j);
	if (field->type == FIELD_UINT) {
		/* Two fallbacks tell absence of a value from a value that equals one. */
		if (json_uint(j, 0) != json_uint(j, 1))
			return error_set(&f->error, ERROR_INVALID_ARGUMENT, "integer out of range");
		*(uint64_t *)member = json_uint(j, 0);
		return 0;
	}
	int64_t v = json_int(j, 0);

	if (v != json_int(j, 1) || (field->type == FIELD_INT32 && (v < INT_MIN || v > INT_MAX)))
		return error_set(&f->error, ERROR_INVALID_ARGUMENT, "integer out of range");
	if (field->type == FIELD_INT32)
		*(int *)member = (int)v;
	else
		*(int64_t *)member = v;
	return 0;
}

static int decode_pointer(const struct json_field *field, const struct json *j, void **member,
			  struct failure *f)
{
	if (!*member)
		*member = xcalloc(1, field->sub_size);
	return decode_object(field->sub, j, *member, f);
}

static int decode_member(const struct json_field *field, const struct json *j, void *member,
			 struct failure *f)
{
	switch (field->type) {
	case FIELD_STRING:
		if (json_type(j) != JSON_STRING)
			return mismatch(&f->error, "string", j);
		str_replace(member, json_string(j));
		return 0;
	case FIELD_BOOL:
		if (json_type(j) != JSON_BOOL)
			return mismatch(&f->error, "boolean", j);
		*(bool *)member = json_bool(j, false);
		return 0;
	case FIELD_INT:
	case FIELD_UINT:
	case FIELD_INT32:
		return decode_integer(field, j, member, f);
	case FIELD_DOUBLE:
		if (json_type(j) != JSON_DOUBLE && json_type(j) != JSON_INT)
			return mismatch(&f->error, "number", j);
		*(double *)member = json_double(j, 0);
		return 0;
	case FIELD_STRV:
		return decode_strv(j, member, f);
	case FIELD_KVS:
		return decode_kvs(j, member, f);
	case FIELD_JSON:
		json_unref(*(struct json **)member);
		*(struct json **)member = json_ref((struct json *)j);
		return 0;
	case FIELD_OBJECT:
		return decode_object(field->sub, j, member, f);
	case FIELD_OBJECT_PTR:
		return decode_pointer(field, j, member, f);
	case FIELD_ARRAY:
		return decode_array(field, j, member, f);
	case FIELD_END:
		break;
	}
	assert(!"unknown field type");
	return -1;
}

static int decode_object(const struct json_field *table, const struct json *j, void *st,
			 struct failure *f)
{
	if (json_type(j) != JSON_OBJECT)
		return mismatch(&f->error, "object", j);
	for (const struct json_field *field = table; field->type != FIELD_END; field++) {
		const struct json *value = json_get(j, field->name);

		if (!value) {
			if (!(field->flags & JSON_REQUIRED))
				continue;
			error_set(&f->error, ERROR_INVALID_ARGUMENT, "required member is missing");
			return prefix_path(f, xstrdup(field->name));
		}
		if (decode_member(field, value, (char *)st + field->offset, f) < 0)
			return prefix_path(f, xstrdup(field->name));
	}
	return 0;
}

int jsontab_decode(const struct json_field *table, const struct json *j, void *ret_struct,
		   struct error *err)
{
	CLEANUP(failure_done) struct failure f = { .error = ERROR_INIT };

	if (decode_object(table, j, ret_struct, &f) == 0)
		return 0;
	if (f.path)
		error_wrap(&f.error, "%s", f.path);
	return error_move(err, &f.error);
}

static struct json *encode_array(const struct json_field *field, const struct array *a)
{
	struct json *array = json_new_array();

	for (size_t i = 0; i < a->n; i++)
		json_add(array,
			 jsontab_encode(field->sub, (const char *)a->v + i * field->sub_size));
	return array;
}

/* The member's value, or NULL when it is empty. */
static struct json *encode_member(const struct json_field *field, const void *member)
{
	bool always = field->flags & JSON_ALWAYS;

	switch (field->type) {
	case FIELD_STRING: {
		const char *s = *(char *const *)member;

		return str_empty(s) && !always ? NULL : json_new_string(s ? s : "");
	}
	case FIELD_BOOL:
		return *(const bool *)member || always ? json_new_bool(*(const bool *)member)
						       : NULL;
	case FIELD_INT:
		return *(const int64_t *)member || always ? json_new_int(*(const int64_t *)member)
							  : NULL;
	case FIELD_UINT:
		return *(const uint64_t *)member || always
			       ? json_new_uint(*(const uint64_t *)member)
			       : NULL;
	case FIELD_INT32:
		return *(const int *)member || always ? json_new_int(*(const int *)member) : NULL;
	case FIELD_DOUBLE:
		return *(const double *)member != 0 || always
			       ? json_new_double(*(const double *)member)
			       : NULL;
	case FIELD_STRV: {
		const struct strv *s = member;

		return s->n || always ? json_new_strv(s) : NULL;
	}
	case FIELD_KVS: {
		const struct kvs *k = member;

		return k->n || always ? json_new_kvs(k) : NULL;
	}
	case FIELD_JSON:
		return json_ref(*(struct json *const *)member);
	case FIELD_OBJECT: {
		struct json *obj = jsontab_encode(field->sub, member);

		if (always || json_object_len(obj) > 0)
			return obj;
		json_unref(obj);
		return NULL;
	}
	case FIELD_OBJECT_PTR: {
		const void *st = *(void *const *)member;

		return st ? jsontab_encode(field->sub, st) : NULL;
	}
	case FIELD_ARRAY: {
		const struct array *a = member;

		return a->n || always ? encode_array(field, a) : NULL;
	}
	case FIELD_END:
		break;
	}
	assert(!"unknown field type");
	return NULL;
}

struct json *jsontab_encode(const struct json_field *table, const void *st)
{
	struct json *obj = json_new_object();

	for (const struct json_field *field = table; field->type != FIELD_END; field++) {
		struct json *value = encode_member(field, (const char *)st + field->offset);

		if (value || field->flags & JSON_ALWAYS)
			json_set(obj, field->name, value);
	}
	return obj;
}

static void release_member(const struct json_field *field, void *member)
{
	switch (field->type) {
	case FIELD_STRING:
		str_replace(member, NULL);
		break;
	case FIELD_BOOL:
		*(bool *)member = false;
		break;
	case FIELD_INT:
	case FIELD_UINT:
		*(int64_t *)member = 0;
		break;
	case FIELD_INT32:
		*(int *)member = 0;
		break;
	case FIELD_DOUBLE:
		*(double *)member = 0;
		break;
	case FIELD_STRV:
		strv_done(member);
		break;
	case FIELD_KVS:
		kvs_done(member);
		break;
	case FIELD_JSON:
		json_unref(*(struct json **)member);
		*(struct json **)member = NULL;
		break;
	case FIELD_OBJECT:
		jsontab_done(field->sub, member);
		break;
	case FIELD_OBJECT_PTR:
		if (*(void **)member)
			jsontab_done(field->sub, *(void **)member);
		str_replace(member, NULL);
		break;
	case FIELD_ARRAY:
		release_array(field, member);
		break;
	case FIELD_END:
		break;
	}
}

void jsontab_done(const struct json_field *table, void *st)
{
	for (const struct json_field *field = table; field->type != FIELD_END; field++)
		release_member(field, (char *)st + field->offset);
}
