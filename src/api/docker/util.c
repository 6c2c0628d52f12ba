/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/hex.h"
#include "base/mem.h"

#include <string.h>

#define FILTERS_MAX (64 << 10)
#define AUTH_MAX (64 << 10)

static int check_filter(const char *key, struct json *value, void *arg)
{
	const char *const *allowed = arg;
	bool shaped = json_type(value) == JSON_ARRAY || json_type(value) == JSON_OBJECT;

	for (; *allowed; allowed++) {
		if (str_equal(*allowed, key))
			return shaped ? 0 : 2;
	}
	return 1;
}

struct unknown {
	const char *const *allowed;
	char name[64];
};

static int find_unknown(const char *key, struct json *value, void *arg)
{
	struct unknown *u = arg;
	int r = check_filter(key, value, (void *)u->allowed);

	if (r)
		memcpy(u->name, key, MIN(strlen(key), sizeof(u->name) - 1));
	return r;
}

int filters_parse(const struct http_request *r, const char *const *allowed, struct filters *ret,
		  struct error *err)
{
	const char *text = api_query(r, "filters");
	struct unknown u = { .allowed = allowed };

	ret->doc = NULL;
	if (!text)
		return 0;
	ret->doc = json_parse(text, strlen(text), FILTERS_MAX, err);
	if (!ret->doc)
		return error_wrap(err, "invalid filters");
	if (json_type(ret->doc) != JSON_OBJECT || json_object_each(ret->doc, find_unknown, &u)) {
		json_unref(TAKE_PTR(ret->doc));
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid filter '%s'", u.name);
	}
	return 0;
}

void filters_done(struct filters *f)
{
	json_unref(f->doc);
	f->doc = NULL;
}

bool filters_has(const struct filters *f, const char *name)
{
	return f->doc && json_get(f->doc, name);
}

struct any {
	bool (*fn)(const char *value, const void *arg);
	const void *arg;
};

static int any_member(const char *key, struct json *value, void *arg)
{
	struct any *a = arg;

	return json_bool(value, true) && a->fn(key, a->arg);
}

bool filters_any(const struct filters *f, const char *name,
		 bool (*fn)(const char *value, const void *arg), const void *arg)
{
	struct json *values = f->doc ? json_get(f->doc, name) : NULL;
	struct any a = { fn, arg };

	if (!values)
		return true;
	if (json_type(values) == JSON_OBJECT)
		return json_object_each(values, any_member, &a) != 0;
	for (size_t i = 0; i < json_array_len(values); i++) {
		const char *value = json_string(json_array_get(values, i));

		if (value && fn(value, arg))
			return true;
	}
	return false;
}

static bool same_string(const char *value, const void *arg)
{
	return str_equal(value, arg);
}

bool filters_match(const struct filters *f, const char *name, const char *value)
{
	return filters_any(f, name, same_string, value ? value : "");
}

static bool label_matches(const char *filter, const struct kvs *labels)
{
	const char *eq = strchr(filter, '=');
	autofree char *key = eq ? xstrndup(filter, (size_t)(eq - filter)) : xstrdup(filter);
	const char *value = kvs_get(labels, key);

	return value && (!eq || str_equal(value, eq + 1));
}

static bool label_missing(const char *filter, const void *labels)
{
	return !label_matches(filter, labels);
}

/* Unlike the other filters, all labels must match. */
bool filters_labels(const struct filters *f, const struct kvs *labels)
{
	if (filters_has(f, "label") && filters_any(f, "label", label_missing, labels))
		return false;
	/* "label!": those that have them all are out. */
	return !filters_has(f, "label!") || filters_any(f, "label!", label_missing, labels);
}

void json_set_time(struct json *obj, const char *key, int64_t ns)
{
	char text[TIME_RFC3339_MAX];

	if (ns == 0) {
		json_set_string(obj, key, "0001-01-01T00:00:00Z");
		return;
	}
	time_format_rfc3339(ns, text);
	json_set_string(obj, key, text);
}

struct json *json_new_keys(const struct strv *keys)
{
	struct json *j = json_new_object();

	for (size_t i = 0; i < keys->n; i++)
		json_set(j, keys->v[i], json_new_object());
	return j;
}

struct json *json_strv_or_null(const struct strv *s)
{
	return s->n > 0 ? json_new_strv(s) : NULL;
}

char *exposed_key(const char *spec)
{
	return strchr(spec, '/') ? xstrdup(spec) : xasprintf("%s/tcp", spec);
}

int registry_auth_parse(const char *header, struct registry_auth *ret, bool *ret_given,
			struct error *err)
{
	autobuf struct buf text = BUF_INIT(AUTH_MAX);

	*ret = (struct registry_auth){ 0 };
	*ret_given = false;
	if (str_empty(header))
		return 0;
	if (base64_decode(header, strlen(header), &text) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid X-Registry-Auth header: it is not base64");
	if (text.len == 0 || str_equal(text.data, "{}") || str_equal(text.data, "null"))
		return 0;
	autojson struct json *j = json_parse(text.data, text.len, AUTH_MAX, err);
	if (!j)
		return error_wrap(err, "invalid X-Registry-Auth header");
	ret->username = xstrdup(json_get_string(j, "username"));
	ret->password = xstrdup(json_get_string(j, "password"));
	ret->identity_token = xstrdup(json_get_string(j, "identitytoken"));
	ret->registry_token = xstrdup(json_get_string(j, "registrytoken"));
	ret->server = xstrdup(json_get_string(j, "serveraddress"));
	*ret_given = !str_empty(ret->username) || !str_empty(ret->identity_token) ||
		     !str_empty(ret->registry_token);
	return 0;
}
