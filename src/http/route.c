/* SPDX-License-Identifier: Apache-2.0 */
#include "http/internal.h"

#include "base/mem.h"

#include <string.h>

/* "{name}" or "{name...}" at p: its end, and the name. */
static const char *placeholder(const char *p, const char **ret_name, size_t *ret_len,
			       bool *ret_multi)
{
	const char *end = strchr(p, '}');

	*ret_name = p + 1;
	*ret_len = (size_t)(end - p - 1);
	*ret_multi = *ret_len > 3 && memcmp(end - 3, "...", 3) == 0;
	if (*ret_multi)
		*ret_len -= 3;
	return end + 1;
}

/* The longest value first, so that image names keep their slashes. */
bool http_route_match(const char *pattern, const char *path, struct http_request *r)
{
	for (; *pattern && *pattern != '{'; pattern++, path++) {
		if (*pattern != *path)
			return false;
	}
	if (!*pattern)
		return *path == '\0';

	const char *name;
	size_t name_len;
	bool multi;
	const char *rest = placeholder(pattern, &name, &name_len, &multi);
	size_t len = multi ? strlen(path) : strcspn(path, "/");
	size_t slot = r->n_params;

	if (slot == HTTP_PARAMS_MAX)
		return false;
	for (; len > 0; len--) {
		r->n_params = slot + 1;
		if (http_route_match(rest, path + len, r)) {
			r->params[slot] = (struct http_pair){
				.name = arena_strndup(&r->arena, name, name_len),
				.value = arena_strndup(&r->arena, path, len),
			};
			return true;
		}
		if (!multi && (*rest == '\0' || *rest == '/'))
			break;
	}
	r->n_params = slot;
	return false;
}

int http_parse_query(struct http_request *r, char *query)
{
	size_t n = 1;

	for (const char *p = query; *p; p++)
		n += *p == '&';
	if (n > HTTP_QUERY_MAX)
		return -E2BIG;
	r->query = arena_alloc(&r->arena, n * sizeof(*r->query));
	for (char *next; query; query = next) {
		next = strchr(query, '&');
		if (next)
			*next++ = '\0';
		if (!*query)
			continue;
		char *value = strchr(query, '=');
		if (value)
			*value++ = '\0';
		if (http_percent_decode(query, true) < 0 ||
		    (value && http_percent_decode(value, true) < 0))
			return -EINVAL;
		r->query[r->n_query++] = (struct http_pair){ query, value ? value : "" };
	}
	return 0;
}

static const short statuses[ERROR_CODE_MAX] = {
	[ERROR_OK] = 200,
	[ERROR_CANCELLED] = 499,
	[ERROR_UNKNOWN] = 500,
	[ERROR_INVALID_ARGUMENT] = 400,
	[ERROR_DEADLINE_EXCEEDED] = 504,
	[ERROR_NOT_FOUND] = 404,
	[ERROR_ALREADY_EXISTS] = 409,
	[ERROR_PERMISSION_DENIED] = 403,
	[ERROR_RESOURCE_EXHAUSTED] = 413,
	[ERROR_FAILED_PRECONDITION] = 409,
	[ERROR_ABORTED] = 409,
	[ERROR_OUT_OF_RANGE] = 400,
	[ERROR_UNIMPLEMENTED] = 501,
	[ERROR_INTERNAL] = 500,
	[ERROR_UNAVAILABLE] = 503,
	[ERROR_DATA_LOSS] = 500,
	[ERROR_UNAUTHENTICATED] = 401,
};

int http_status_of(const struct http_server *s, const struct error *err)
{
	if (s->config.status_of)
		return s->config.status_of(err);
	return (unsigned)err->code < ERROR_CODE_MAX ? statuses[err->code] : 500;
}

char *http_error_body(const struct http_server *s, const struct error *err, size_t *ret_len)
{
	autojson struct json *j = NULL;

	if (s->config.encode_error) {
		j = s->config.encode_error(err);
	} else {
		j = json_new_object();
		json_set_string(j, "message", error_msg(err));
	}
	autofree char *text = json_format(j, false);
	char *body = xasprintf("%s\n", text);

	*ret_len = strlen(body);
	return body;
}
