/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json-c does the work; a scanner of ours goes over the text before, because json-c, strict as it
 * may be told to be, takes NaN, control characters and repeated keys, and because its objects cost
 * 700 bytes where the text has two: the number of values is bounded before memory is spent.
 *
 * Repeated keys: the scanner counts the members of the text, json-c keeps the last of equal ones,
 * so the counts differ if and only if a key was repeated.
 */
#include "base/json.h"
#include "base/fs.h"
#include "base/mem.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

/* Its types of these names would clash with ours. */
#define json_type jsonc_type
#define json_bool jsonc_bool
#include <json-c/json.h>
#undef json_type
#undef json_bool

#define DEPTH_MAX 64
#define CONTAINERS_MAX (1 << 17)
#define VALUES_MAX (1 << 20)

static struct json_object *to_c(const struct json *j)
{
	return (struct json_object *)j;
}

static struct json *from_c(struct json_object *j)
{
	return (struct json *)j;
}

/* What a text holds. */
struct scan {
	const char *p, *end;
	size_t containers, values, members;
	const char *problem;
};

static bool scan_fail(struct scan *s, const char *problem)
{
	s->problem = problem;
	return false;
}

static bool scan_string(struct scan *s)
{
	for (s->p++; s->p < s->end; s->p++) {
		unsigned char c = (unsigned char)*s->p;

		if (c == '"') {
			s->p++;
			return true;
		}
		if (c < 0x20)
			return scan_fail(s, "control character in a string");
		if (c != '\\')
			continue;
		if (s->end - s->p >= 6 && memcmp(s->p, "\\u0000", 6) == 0)
			return scan_fail(s, "NUL in a string");
		s->p++;
	}
	return scan_fail(s, "unterminated string");
}

static void skip_digits(struct scan *s)
{
	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
}

/* json-c gives the nearest number for an integer that has no room in 64 bits. */
static bool integer_fits(const char *digits, size_t n, bool negative)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		if (__builtin_mul_overflow(v, 10U, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(digits[i] - '0'), &v))
			return false;
	return !negative || v <= (uint64_t)INT64_MAX + 1;
}

static bool scan_number(struct scan *s)
{
	const char *start;
	bool negative = *s->p == '-';

	if (negative)
		s->p++;
	start = s->p;
	skip_digits(s);
	if (s->p == start || (*start == '0' && s->p - start > 1))
		return scan_fail(s, "invalid number");
	if ((s->p == s->end || !memchr(".eE", *s->p, 3)) &&
	    !integer_fits(start, (size_t)(s->p - start), negative))
		return scan_fail(s, "integer out of range");
	if (s->p < s->end && *s->p == '.') {
		start = ++s->p;
		skip_digits(s);
		if (s->p == start)
			return scan_fail(s, "invalid number");
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		start = s->p;
		skip_digits(s);
		if (s->p == start)
			return scan_fail(s, "invalid number");
	}
	return true;
}

static bool scan_word(struct scan *s)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
			s->p += n;
			return true;
		}
	}
	return scan_fail(s, "unexpected character");
}

static bool scan_token(struct scan *s)
{
	char c = *s->p;

	if (c == '{' || c == '[')
		s->containers++;
	if (c == ':')
		s->members++;
	if (memchr(" \t\r\n{}[]:,", c, 10)) {
		s->p++;
		return true;
	}
	s->values++;
	if (c == '"')
		return scan_string(s);
	if (c == '-' || (c >= '0' && c <= '9'))
		return scan_number(s);
	return scan_word(s);
}

static bool scan_text(struct scan *s)
{
	while (s->p < s->end) {
		if (!scan_token(s))
			return false;
		if (s->containers > CONTAINERS_MAX || s->values > VALUES_MAX)
			return scan_fail(s, "too many values");
	}
	return true;
}

/* Members in all objects of a tree whose depth the parser has bounded. */
static size_t count_members(struct json_object *j)
{
	size_t n = 0;

	if (json_object_is_type(j, json_type_object)) {
		json_object_object_foreach(j, key, value)
		{
			(void)key;
			n += 1 + count_members(value);
		}
	} else if (json_object_is_type(j, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(j); i++)
			n += count_members(json_object_array_get_idx(j, i));
	}
	return n;
}

static void free_tokener(struct json_tokener **tok)
{
	if (*tok)
		json_tokener_free(*tok);
}

struct json *json_parse(const char *text, size_t len, size_t max, struct error *err)
{
	struct scan s = { .p = text, .end = text + len };

	if (len > max || len > INT_MAX - 1) {
		error_set(err, ERROR_RESOURCE_EXHAUSTED, "JSON document of %zu bytes is too large",
			  len);
		return NULL;
	}
	if (!scan_text(&s)) {
		error_set(err, ERROR_INVALID_ARGUMENT, "invalid JSON at byte %zu: %s",
			  (size_t)(s.p - text), s.problem);
		return NULL;
	}

	CLEANUP(free_tokener) struct json_tokener *tok = json_tokener_new_ex(DEPTH_MAX);

	if (!tok)
		abort();
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	struct json_object *root = len ? json_tokener_parse_ex(tok, text, (int)len) : NULL;
	size_t at = json_tokener_get_parse_end(tok);

	/* A NUL tells it that the text ends here; a number may go on otherwise. */
	if (len == 0 || json_tokener_get_error(tok) == json_tokener_continue)
		root = json_tokener_parse_ex(tok, "", 1);

	enum json_tokener_error problem = json_tokener_get_error(tok);

	if (problem != json_tokener_success) {
		json_object_put(root);
		error_set(err, ERROR_INVALID_ARGUMENT, "invalid JSON at byte %zu: %s", at,
			  json_tokener_error_desc(problem));
		return NULL;
	}
	if (!root) {
		error_set(err, ERROR_INVALID_ARGUMENT, "invalid JSON: the document is null");
		return NULL;
	}
	while (at < len && memchr(" \t\r\n", text[at], 4))
		at++;
	if (at < len) {
		json_object_put(root);
		error_set(err, ERROR_INVALID_ARGUMENT, "invalid JSON at byte %zu: trailing bytes",
			  at);
		return NULL;
	}
	if (count_members(root) != s.members) {
		json_object_put(root);
		error_set(err, ERROR_INVALID_ARGUMENT, "invalid JSON: duplicate key in an object");
		return NULL;
	}
	return from_c(root);
}

struct json *json_load_at(int dirfd, const char *path, size_t max, struct error *err)
{
	autobuf struct buf text = BUF_INIT(max);
	int r = fs_read(dirfd, path, &text);

	if (r < 0) {
		error_errno(err, -r, "read '%s'", path);
		return NULL;
	}
	struct json *j = json_parse(text.data, text.len, max, err);

	if (!j)
		error_wrap(err, "'%s'", path);
	return j;
}

struct json *json_ref(struct json *j)
{
	return from_c(json_object_get(to_c(j)));
}

void json_unref(struct json *j)
{
	json_object_put(to_c(j));
}

char *json_format(const struct json *j, bool pretty)
{
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE;

	if (pretty)
		flags |= JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED;
	size_t len;
	const char *text = json_object_to_json_string_length(to_c(j), flags, &len);

	if (!text)
		abort();
	return xmemdup(text, len + 1);
}

enum json_type json_type(const struct json *j)
{
	switch (json_object_get_type(to_c(j))) {
	case json_type_null:
		return JSON_NULL;
	case json_type_boolean:
		return JSON_BOOL;
	case json_type_double:
		return JSON_DOUBLE;
	case json_type_int:
		return JSON_INT;
	case json_type_object:
		return JSON_OBJECT;
	case json_type_array:
		return JSON_ARRAY;
	case json_type_string:
		return JSON_STRING;
	}
	assert(!"unknown JSON type");
	return JSON_NULL;
}

struct json *json_get(const struct json *obj, const char *key)
{
	struct json_object *value;

	if (json_type(obj) != JSON_OBJECT || !json_object_object_get_ex(to_c(obj), key, &value))
		return NULL;
	return from_c(value);
}

const char *json_get_string(const struct json *obj, const char *key)
{
	return json_string(json_get(obj, key));
}

int64_t json_get_int(const struct json *obj, const char *key, int64_t fallback)
{
	return json_int(json_get(obj, key), fallback);
}

uint64_t json_get_uint(const struct json *obj, const char *key, uint64_t fallback)
{
	return json_uint(json_get(obj, key), fallback);
}

double json_get_double(const struct json *obj, const char *key, double fallback)
{
	return json_double(json_get(obj, key), fallback);
}

bool json_get_bool(const struct json *obj, const char *key, bool fallback)
{
	return json_bool(json_get(obj, key), fallback);
}

int json_get_strv(const struct json *obj, const char *key, struct strv *ret, struct error *err)
{
	const struct json *array = json_get(obj, key);

	if (!array)
		return 0;
	if (json_type(array) != JSON_ARRAY)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s: expected array", key);
	for (size_t i = 0; i < json_array_len(array); i++) {
		const char *s = json_string(json_array_get(array, i));

		if (!s)
			return error_set(err, ERROR_INVALID_ARGUMENT, "%s[%zu]: expected string",
					 key, i);
		strv_push(ret, s);
	}
	return 0;
}

int json_get_kvs(const struct json *obj, const char *key, struct kvs *ret, struct error *err)
{
	const struct json *map = json_get(obj, key);

	if (!map)
		return 0;
	if (json_type(map) != JSON_OBJECT)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s: expected object", key);
	json_object_object_foreach(to_c(map), name, value)
	{
		const char *s = json_string(from_c(value));

		if (!s)
			return error_set(err, ERROR_INVALID_ARGUMENT, "%s[%s]: expected string",
					 key, name);
		kvs_set(ret, name, s);
	}
	return 0;
}

const char *json_string(const struct json *j)
{
	return json_type(j) == JSON_STRING ? json_object_get_string(to_c(j)) : NULL;
}

int64_t json_int(const struct json *j, int64_t fallback)
{
	if (json_type(j) != JSON_INT || json_object_get_uint64(to_c(j)) > INT64_MAX)
		return fallback;
	return json_object_get_int64(to_c(j));
}

uint64_t json_uint(const struct json *j, uint64_t fallback)
{
	if (json_type(j) != JSON_INT || json_object_get_int64(to_c(j)) < 0)
		return fallback;
	return json_object_get_uint64(to_c(j));
}

double json_double(const struct json *j, double fallback)
{
	if (json_type(j) != JSON_DOUBLE && json_type(j) != JSON_INT)
		return fallback;
	return json_object_get_double(to_c(j));
}

bool json_bool(const struct json *j, bool fallback)
{
	return json_type(j) == JSON_BOOL ? json_object_get_boolean(to_c(j)) : fallback;
}

size_t json_array_len(const struct json *j)
{
	return json_type(j) == JSON_ARRAY ? json_object_array_length(to_c(j)) : 0;
}

struct json *json_array_get(const struct json *j, size_t index)
{
	if (index >= json_array_len(j))
		return NULL;
	return from_c(json_object_array_get_idx(to_c(j), index));
}

size_t json_object_len(const struct json *j)
{
	return json_type(j) == JSON_OBJECT ? (size_t)json_object_object_length(to_c(j)) : 0;
}

int json_object_each(const struct json *obj,
		     int (*fn)(const char *key, struct json *value, void *arg), void *arg)
{
	if (json_type(obj) != JSON_OBJECT)
		return 0;
	json_object_object_foreach(to_c(obj), key, value)
	{
		int r = fn(key, from_c(value), arg);

		if (r != 0)
			return r;
	}
	return 0;
}

static struct json *made(struct json_object *j)
{
	if (!j)
		abort();
	return from_c(j);
}

struct json *json_new_object(void)
{
	return made(json_object_new_object());
}

struct json *json_new_array(void)
{
	return made(json_object_new_array());
}

struct json *json_new_string(const char *s)
{
	return s ? made(json_object_new_string(s)) : NULL;
}

struct json *json_new_int(int64_t v)
{
	return made(json_object_new_int64(v));
}

struct json *json_new_uint(uint64_t v)
{
	return made(json_object_new_uint64(v));
}

struct json *json_new_double(double v)
{
	return made(json_object_new_double(v));
}

struct json *json_new_bool(bool v)
{
	return made(json_object_new_boolean(v));
}

struct json *json_new_strv(const struct strv *s)
{
	struct json *array = json_new_array();

	for (size_t i = 0; i < s->n; i++)
		json_add(array, json_new_string(s->v[i]));
	return array;
}

struct json *json_new_kvs(const struct kvs *k)
{
	struct json *obj = json_new_object();

	for (size_t i = 0; i < k->n; i++)
		json_set_string(obj, k->v[i].key, k->v[i].value);
	return obj;
}

struct json *json_copy(const struct json *j)
{
	struct json_object *copy = NULL;

	if (j && json_object_deep_copy(to_c(j), &copy, NULL) < 0)
		abort();
	return from_c(copy);
}

void json_set(struct json *obj, const char *key, struct json *value)
{
	assert(json_type(obj) == JSON_OBJECT);
	if (json_object_object_add(to_c(obj), key, to_c(value)) < 0)
		abort();
}

void json_set_string(struct json *obj, const char *key, const char *value)
{
	json_set(obj, key, json_new_string(value));
}

void json_set_int(struct json *obj, const char *key, int64_t value)
{
	json_set(obj, key, json_new_int(value));
}

void json_set_uint(struct json *obj, const char *key, uint64_t value)
{
	json_set(obj, key, json_new_uint(value));
}

void json_set_bool(struct json *obj, const char *key, bool value)
{
	json_set(obj, key, json_new_bool(value));
}

void json_del(struct json *obj, const char *key)
{
	if (json_type(obj) == JSON_OBJECT)
		json_object_object_del(to_c(obj), key);
}

void json_add(struct json *array, struct json *value)
{
	assert(json_type(array) == JSON_ARRAY);
	if (json_object_array_add(to_c(array), to_c(value)) < 0)
		abort();
}
