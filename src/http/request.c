/* SPDX-License-Identifier: Apache-2.0 */
#include "http/internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"

#include <assert.h>
#include <string.h>

static const struct http_route nowhere = { .method = "" };

struct http_request *http_request_new(struct http_server *s, struct http_conn *c)
{
	struct http_request *r = xnew(struct http_request);

	r->magic = HTTP_REQUEST_MAGIC;
	r->refs = 2; /* the connection's, and one for all users together */
	r->users = 1;
	r->server = s;
	s->refs++;
	r->conn = c;
	r->route = &nowhere;
	r->pid = c->pid;
	r->uid = c->uid;
	r->start = time_monotonic();
	r->arena = ARENA_INIT;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->body = BUF_INIT(HTTP_BODY_DEFAULT);
	r->out = BUF_INIT(HTTP_OUT_MAX);
	r->headers = BUF_INIT(HTTP_HEAD_MAX);
	return r;
}

static void request_free(struct http_request *r)
{
	struct http_server *s = r->server;

	buf_done(&r->body);
	buf_done(&r->out);
	buf_done(&r->headers);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->changed);
	arena_done(&r->arena);
	r->magic = 0;
	free(r);
	if (--s->refs == 0)
		free(s);
}

void http_request_release(struct http_request *r)
{
	assert(r->magic == HTTP_REQUEST_MAGIC);
	if (--r->refs == 0)
		request_free(r);
}

struct http_request *http_request_ref(struct http_request *r)
{
	assert(r->magic == HTTP_REQUEST_MAGIC && r->users > 0);
	r->users++;
	return r;
}

void http_request_unref(struct http_request *r)
{
	if (!r)
		return;
	assert(r->magic == HTTP_REQUEST_MAGIC && r->users > 0);
	if (--r->users > 0)
		return;
	http_reply_abandoned(r);
	http_request_release(r);
}

int http_request_parse(struct http_request *r, const char *text, size_t len, int *ret_status,
		       const char **ret_reason)
{
	char *copy = arena_strndup(&r->arena, text, len);

	*ret_status = http_head_parse(copy, len, &r->head, ret_reason);
	if (*ret_status != 0)
		return -1;
	r->keep_alive = r->head.keep_alive;

	*ret_status = 400;
	*ret_reason = "malformed URL";
	r->path = arena_strdup(&r->arena, r->head.target);
	r->path[strcspn(r->path, "#")] = '\0';
	char *query = strchr(r->path, '?');
	if (query)
		*query++ = '\0';
	/* The absolute form, as sent to proxies. */
	if (strncasecmp(r->path, "http://", 7) == 0) {
		r->path = strchr(r->path + 7, '/');
		if (!r->path)
			return -1;
	}
	if (r->path[0] != '/' || http_percent_decode(r->path, false) < 0 ||
	    (query && http_parse_query(r, query) < 0))
		return -1;
	*ret_status = 0;
	*ret_reason = NULL;
	return 0;
}

int http_request_route(struct http_request *r, struct error *err)
{
	const struct http_server_config *config = &r->server->config;

	if (config->strip_version) {
		const char *rest = r->path;

		if (config->strip_version(r->path, &rest, r->version, err) < 0)
			return -1;
		r->path += rest - r->path;
	}
	for (const struct http_route *route = config->routes; route->method; route++) {
		if (strcmp(route->method, r->head.method) == 0 &&
		    http_route_match(route->path, r->path, r)) {
			r->route = route;
			return 0;
		}
	}
	return error_set(err, ERROR_NOT_FOUND, "page not found");
}

static void run_handler(void *arg)
{
	struct http_request *r = arg;
	autoerror struct error err = ERROR_INIT;

	if (r->route->handler(r, &err) < 0) {
		if (err.code == ERROR_INTERNAL || err.code == ERROR_UNKNOWN)
			log_err("%s %s: %s", r->head.method, r->path, error_msg(&err));
		else
			log_debug("%s %s: %s", r->head.method, r->path, error_msg(&err));
		http_reply_error(r, &err);
	}
	http_request_unref(r);
}

void http_request_dispatch(struct http_request *r)
{
	r->dispatched = true;
	if (r->route->flags & HTTP_ON_LOOP) {
		run_handler(r);
		return;
	}
	job_submit(r->server->config.jobs, r->route->flags & HTTP_TRANSFER ? JOB_TRANSFER : JOB_OPS,
		   run_handler, NULL, r);
}

void *http_request_arg(const struct http_request *r)
{
	return r->server->config.arg;
}

struct arena *http_arena(struct http_request *r)
{
	return &r->arena;
}

const char *http_method(const struct http_request *r)
{
	return r->head.method;
}

const char *http_path(const struct http_request *r)
{
	return r->path;
}

const char *http_api_version(const struct http_request *r)
{
	return r->version;
}

const char *http_param(const struct http_request *r, const char *name)
{
	for (size_t i = 0; i < r->n_params; i++) {
		if (strcmp(r->params[i].name, name) == 0)
			return r->params[i].value;
	}
	return NULL;
}

const char *http_query(const struct http_request *r, const char *name)
{
	const char *value = NULL;

	http_query_all(r, name, &value, 1);
	return value;
}

size_t http_query_all(const struct http_request *r, const char *name, const char **ret, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_query && n < max; i++) {
		if (strcmp(r->query[i].name, name) == 0)
			ret[n++] = r->query[i].value;
	}
	return n;
}

/* Docker's rule (httputils.BoolValue): all but these is true. */
bool http_query_bool(const struct http_request *r, const char *name, bool fallback)
{
	static const char *const falses[] = { "", "0", "no", "false", "none" };
	const char *value = http_query(r, name);

	if (!value)
		return fallback;
	for (size_t i = 0; i < ARRAY_SIZE(falses); i++) {
		if (strcasecmp(value, falses[i]) == 0)
			return false;
	}
	return true;
}

const char *http_header(const struct http_request *r, const char *name)
{
	return http_head_field(&r->head, name);
}

void http_peer(const struct http_request *r, pid_t *ret_pid, uid_t *ret_uid)
{
	if (ret_pid)
		*ret_pid = r->pid;
	if (ret_uid)
		*ret_uid = r->uid;
}

const char *http_body(const struct http_request *r, size_t *ret_len)
{
	assert(!(r->route->flags & HTTP_STREAM_BODY));
	if (ret_len)
		*ret_len = r->body.len;
	return r->body.data;
}

int http_body_json(struct http_request *r, struct json **ret, struct error *err)
{
	size_t len;
	const char *text = http_body(r, &len);

	*ret = NULL;
	while (len > 0 && strchr(" \t\r\n", text[len - 1]))
		len--;
	if (len == 0)
		return 0;
	*ret = json_parse(text, len, len, err);
	if (!*ret) {
		err->code = ERROR_INVALID_ARGUMENT;
		return error_wrap(err, "invalid JSON in the request body");
	}
	return 0;
}

ssize_t http_body_read(struct http_request *r, void *p, size_t n, struct error *err)
{
	bool resume = false;

	pthread_mutex_lock(&r->lock);
	while (r->body.len == 0 && !r->body_end && !r->gone) {
		assert(!loop_is_current(r->server->config.loop));
		pthread_cond_wait(&r->changed, &r->lock);
	}
	bool lost = r->body.len == 0 && !r->body_end;
	size_t have = r->body.len - r->body_off;
	if (n > have)
		n = have;
	memcpy(p, r->body.data + r->body_off, n);
	r->body_off += n;
	if (r->body_off == r->body.len) {
		buf_clear(&r->body);
		r->body_off = 0;
	} else if (r->body_off > HTTP_BODY_QUEUE / 2) {
		buf_consume(&r->body, r->body_off);
		r->body_off = 0;
	}
	if (r->body_paused && r->body.len - r->body_off < HTTP_BODY_QUEUE / 2) {
		r->body_paused = false;
		resume = true;
		r->refs++;
	}
	pthread_mutex_unlock(&r->lock);
	if (resume)
		loop_post(r->server->config.loop, http_conn_resume_post, r);
	if (lost)
		return error_set(err, ERROR_CANCELLED, "the client went away");
	return (ssize_t)n;
}
