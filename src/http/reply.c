/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies are formatted by whichever thread gives them, into r->out under the request's lock; a
 * post tells the connection to take them. The connection counts what it took and has not written
 * yet (in_flight): together with r->out that is what a writer waits for.
 */

#include "http/internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#define STREAM_PIECE (64 << 10)

static const struct {
	short status;
	const char *text;
} status_texts[] = {
	{ 101, "UPGRADED" }, /* as Docker words it */
	{ 200, "OK" },
	{ 201, "Created" },
	{ 202, "Accepted" },
	{ 204, "No Content" },
	{ 304, "Not Modified" },
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 406, "Not Acceptable" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 413, "Request Entity Too Large" },
	{ 415, "Unsupported Media Type" },
	{ 431, "Request Header Fields Too Large" },
	{ 499, "Client Closed Request" },
	{ 500, "Internal Server Error" },
	{ 501, "Not Implemented" },
	{ 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" },
	{ 505, "HTTP Version Not Supported" },
};

const char *http_status_text(int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_texts); i++) {
		if (status_texts[i].status == status)
			return status_texts[i].text;
	}
	return "Status";
}

static void put_date(struct buf *b)
{
	time_t now = time(NULL);
	struct tm tm;
	char text[40];

	/* The daemon never leaves the C locale. */
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
	buf_printf(b, "Date: %s\r\n", text);
}

/* All below that begin with emit_ or post_: with the lock held. */
static void post_flush(struct http_request *r)
{
	if (r->flush_posted)
		return;
	r->flush_posted = true;
	r->refs++;
	loop_post(r->server->config.loop, http_conn_flush_post, r);
}

static void emit_head(struct http_request *r, int status, const char *content_type)
{
	const char *const *h = r->server->config.headers;

	r->status = status;
	buf_printf(&r->out, "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
	if (content_type)
		buf_printf(&r->out, "Content-Type: %s\r\n", content_type);
	for (; h && h[0]; h += 2)
		buf_printf(&r->out, "%s: %s\r\n", h[0], h[1]);
	buf_append(&r->out, r->headers.data, r->headers.len);
	put_date(&r->out);
	if (r->server->draining)
		r->keep_alive = false;
	if (!r->keep_alive)
		buf_puts(&r->out, "Connection: close\r\n");
	else if (r->head.minor == 0)
		buf_puts(&r->out, "Connection: keep-alive\r\n");
}

static size_t waiting(const struct http_request *r)
{
	return r->in_flight + r->out.len;
}

static void finish(struct http_request *r, enum http_reply_state state)
{
	r->state = state;
	r->on_disconnect = NULL;
	r->on_drain = NULL;
	if (r->out.overflow)
		r->broken = true;
	post_flush(r);
}

/* A whole reply; body NULL: none. */
static void emit_reply(struct http_request *r, int status, const char *content_type, const void *p,
		       size_t n)
{
	assert(r->state == HTTP_REPLY_NONE);
	emit_head(r, status, content_type);
	if (status != 204 && status != 304)
		buf_printf(&r->out, "Content-Length: %zu\r\n", n);
	buf_puts(&r->out, "\r\n");
	if (strcmp(r->head.method, "HEAD") != 0)
		buf_append(&r->out, p, n);
	finish(r, HTTP_REPLY_DONE);
	log_debug("%s %s: %d, %lld us", r->head.method, r->path, status,
		  (long long)(time_monotonic() - r->start) / 1000);
}

void http_set_header(struct http_request *r, const char *name, const char *value)
{
	for (const char *p = value; *p; p++) {
		if ((unsigned char)*p < 0x20 && *p != '\t')
			return;
	}
	pthread_mutex_lock(&r->lock);
	buf_printf(&r->headers, "%s: %s\r\n", name, value);
	pthread_mutex_unlock(&r->lock);
}

void http_reply(struct http_request *r, int status, const char *content_type, const void *p,
		size_t n)
{
	pthread_mutex_lock(&r->lock);
	emit_reply(r, status, content_type, p, n);
	pthread_mutex_unlock(&r->lock);
}

void http_reply_json(struct http_request *r, int status, struct json *take)
{
	autofree char *text = json_format(take, false);
	size_t len = strlen(text);

	json_unref(take);
	text[len] = '\n'; /* in the place of the NUL */
	http_reply(r, status, "application/json", text, len + 1);
}

void http_reply_empty(struct http_request *r, int status)
{
	http_reply(r, status, NULL, "", 0);
}

void http_reply_error(struct http_request *r, const struct error *err)
{
	size_t len;
	autofree char *body = http_error_body(r->server, err, &len);
	int status = http_status_of(r->server, err);

	pthread_mutex_lock(&r->lock);
	if (r->state == HTTP_REPLY_NONE) {
		if (status == 304)
			emit_reply(r, status, NULL, "", 0);
		else
			emit_reply(r, status, "application/json", body, len);
	} else if (r->state == HTTP_REPLY_STREAM) {
		/* Too late for a status: a client sees an incomplete body. */
		r->broken = true;
		finish(r, HTTP_REPLY_DONE);
	}
	pthread_mutex_unlock(&r->lock);
}

void http_reply_abandoned(struct http_request *r)
{
	static const struct error err = { .code = ERROR_INTERNAL,
					  .msg = (char *)(uintptr_t) "the request got no answer" };

	http_reply_error(r, &err);
}

void http_stream_start(struct http_request *r, int status, const char *content_type)
{
	pthread_mutex_lock(&r->lock);
	assert(r->state == HTTP_REPLY_NONE);
	r->chunked = r->head.minor > 0;
	if (!r->chunked)
		r->keep_alive = false;
	emit_head(r, status, content_type);
	buf_puts(&r->out, r->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
	r->state = HTTP_REPLY_STREAM;
	post_flush(r);
	pthread_mutex_unlock(&r->lock);
}

static void emit_piece(struct http_request *r, const char *p, size_t n)
{
	if (strcmp(r->head.method, "HEAD") == 0)
		return;
	if (r->chunked)
		buf_printf(&r->out, "%zx\r\n", n);
	buf_append(&r->out, p, n);
	if (r->chunked)
		buf_puts(&r->out, "\r\n");
	if (r->out.overflow)
		r->broken = true;
	post_flush(r);
}

int http_stream_write(struct http_request *r, const void *p, size_t n)
{
	bool on_loop = loop_is_current(r->server->config.loop);
	const char *bytes = p;

	pthread_mutex_lock(&r->lock);
	assert(r->state == HTTP_REPLY_STREAM);
	while (n > 0 && !r->gone && !r->broken) {
		if (!on_loop && waiting(r) > HTTP_STREAM_HIGH) {
			pthread_cond_wait(&r->changed, &r->lock);
			continue;
		}
		size_t piece = MIN(n, (size_t)STREAM_PIECE);

		emit_piece(r, bytes, piece);
		bytes += piece;
		n -= piece;
	}
	int result = waiting(r) > HTTP_STREAM_HIGH;
	if (r->gone || r->broken)
		result = -1;
	else if (!on_loop)
		result = 0;
	pthread_mutex_unlock(&r->lock);
	return result;
}

void http_stream_end(struct http_request *r)
{
	pthread_mutex_lock(&r->lock);
	assert(r->state == HTTP_REPLY_STREAM);
	if (r->chunked && strcmp(r->head.method, "HEAD") != 0)
		buf_puts(&r->out, "0\r\n\r\n");
	finish(r, HTTP_REPLY_DONE);
	pthread_mutex_unlock(&r->lock);
}

void http_upgrade(struct http_request *r, const char *content_type,
		  void (*fn)(int fd, const void *extra, size_t n_extra, void *arg), void *arg)
{
	pthread_mutex_lock(&r->lock);
	assert(r->state == HTTP_REPLY_NONE && !(r->route->flags & HTTP_STREAM_BODY));
	r->status = r->head.upgrade ? 101 : 200;
	r->keep_alive = false;
	buf_printf(&r->out, "HTTP/1.1 %d %s\r\n", r->status, http_status_text(r->status));
	if (content_type)
		buf_printf(&r->out, "Content-Type: %s\r\n", content_type);
	buf_append(&r->out, r->headers.data, r->headers.len);
	if (r->head.upgrade)
		buf_printf(&r->out, "Connection: Upgrade\r\nUpgrade: %s\r\n\r\n", r->head.upgrade);
	else
		buf_puts(&r->out, "Connection: close\r\n\r\n");
	r->on_upgrade = fn;
	r->upgrade_arg = arg;
	finish(r, HTTP_REPLY_UPGRADE);
	pthread_mutex_unlock(&r->lock);
}

static void call_drain(void *arg)
{
	struct http_request *r = arg;

	http_signal_drain(r);
	http_request_release(r);
}

void http_stream_on_drain(struct http_request *r, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&r->lock);
	r->on_drain = fn;
	r->drain_arg = arg;
	if (fn && waiting(r) <= HTTP_STREAM_HIGH / 2) {
		r->refs++;
		loop_post(r->server->config.loop, call_drain, r);
	}
	pthread_mutex_unlock(&r->lock);
}

void http_signal_drain(struct http_request *r)
{
	void (*fn)(void *arg) = NULL;

	pthread_mutex_lock(&r->lock);
	void *arg = r->drain_arg;
	if (waiting(r) <= HTTP_STREAM_HIGH / 2 && !r->gone) {
		pthread_cond_broadcast(&r->changed);
		fn = r->on_drain;
		r->on_drain = NULL;
	}
	pthread_mutex_unlock(&r->lock);
	if (fn)
		fn(arg);
}

static void fail_upgrade(struct http_request *r)
{
	pthread_mutex_lock(&r->lock);
	void (*fn)(int, const void *, size_t, void *) = TAKE_PTR(r->on_upgrade);
	pthread_mutex_unlock(&r->lock);
	if (fn)
		fn(-EBADF, NULL, 0, r->upgrade_arg);
}

void http_drop_output(struct http_request *r)
{
	pthread_mutex_lock(&r->lock);
	buf_clear(&r->out);
	r->in_flight = 0;
	pthread_mutex_unlock(&r->lock);
	fail_upgrade(r);
}

/* Sets `gone` and calls on_disconnect; also the late call for a client that was gone already. */
void http_signal_gone(struct http_request *r)
{
	pthread_mutex_lock(&r->lock);
	void (*fn)(void *arg) = r->on_disconnect;
	void *arg = r->disconnect_arg;
	r->gone = true;
	r->on_disconnect = NULL;
	r->on_drain = NULL;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (fn)
		fn(arg);
	fail_upgrade(r);
}

static void call_gone(void *arg)
{
	struct http_request *r = arg;

	http_signal_gone(r);
	http_request_release(r);
}

void http_on_disconnect(struct http_request *r, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&r->lock);
	if (r->state == HTTP_REPLY_NONE || r->state == HTTP_REPLY_STREAM) {
		r->on_disconnect = fn;
		r->disconnect_arg = arg;
		if (fn && r->gone) {
			r->refs++;
			loop_post(r->server->config.loop, call_gone, r);
		}
	}
	pthread_mutex_unlock(&r->lock);
}

bool http_disconnected(const struct http_request *r)
{
	struct http_request *mutable_r = (struct http_request *)(uintptr_t)r;

	pthread_mutex_lock(&mutable_r->lock);
	bool gone = r->gone;
	pthread_mutex_unlock(&mutable_r->lock);
	return gone;
}
