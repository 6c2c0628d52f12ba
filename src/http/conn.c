/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection is a socket under uv_poll. What it polls for follows from its state (want_events):
 *
 *	readable	while a head or a body is expected and there is room for it
 *	disconnect	while it reads nothing: the request runs, or its body queue is full
 *	prioritized	after the client has shut down its writing side, which is level-triggered
 *too: then only a hang-up is worth waking up for, and epoll reports that always
 *
 * A half-closed unix socket still wants its reply. Of TCP's, close(2) and shutdown(2) look the same
 * from here: they count as gone, as they do for Go's server.
 */

#include "http/internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define READ_SIZE (64 << 10)
/* What is unread when the client has to wait, what has been read and not yet cut off, one piece. */
#define STREAM_MAX (HTTP_BODY_QUEUE + HTTP_BODY_QUEUE / 2 + READ_SIZE + HTTP_HEAD_MAX)
#define HEAD_TIMEOUT \
	(60 * NSEC_PER_SEC) /* also of idle connections; Docker's client keeps them 30 s */
#define CLOSE_TIMEOUT (5 * NSEC_PER_SEC)

static void on_poll(uv_poll_t *handle, int status, int events);
static void conn_advance(struct http_conn *c);

static void on_closed(uv_handle_t *handle)
{
	struct http_conn *c = CONTAINER_OF(handle, struct http_conn, poll);

	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

/* The request goes on without its connection. */
static void conn_let_go(struct http_conn *c)
{
	struct http_request *r = TAKE_PTR(c->request);

	if (!r)
		return;
	r->conn = NULL;
	http_signal_gone(r);
	if (!r->dispatched) {
		/* Nobody but the connection has known it. */
		pthread_mutex_lock(&r->lock);
		r->state = HTTP_REPLY_DONE;
		pthread_mutex_unlock(&r->lock);
		http_request_unref(r);
	}
	http_request_release(r);
}

/* Lets go of the socket's handle and of the request; the socket is the caller's then. */
static int conn_detach(struct http_conn *c)
{
	assert(!c->closed);
	c->closed = true;
	list_remove(&c->node);
	http_server_conn_gone(c->server);
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, on_closed);
	int fd = TAKE_FD(c->fd);
	conn_let_go(c);
	return fd;
}

void http_conn_close(struct http_conn *c)
{
	if (!c->closed)
		close(conn_detach(c));
}

static size_t unsent(const struct http_conn *c)
{
	return c->out.len - c->out_off;
}

static bool body_paused(const struct http_conn *c)
{
	struct http_request *r = c->request;

	if (!r || !(r->route->flags & HTTP_STREAM_BODY))
		return false;
	pthread_mutex_lock(&r->lock);
	bool paused = r->body_paused;
	pthread_mutex_unlock(&r->lock);
	return paused;
}

static int want_events(const struct http_conn *c)
{
	bool reading = !c->eof && (c->stage == HTTP_STAGE_HEAD ||
				   (c->stage == HTTP_STAGE_BODY && !body_paused(c)));
	int events;

	if (reading)
		events = UV_READABLE;
	else
		events = c->half_closed || c->eof ? UV_PRIORITIZED : UV_DISCONNECT;
	return unsent(c) > 0 ? events | UV_WRITABLE : events;
}

static void conn_update(struct http_conn *c)
{
	int events = c->closed ? 0 : want_events(c);

	if (c->closed || events == c->events)
		return;
	c->events = events;
	uv_poll_start(&c->poll, events, on_poll);
}

struct http_conn *http_conn_new(struct http_server *s, int fd)
{
	struct http_conn *c = xnew(struct http_conn);
	struct ucred cred = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(cred);
	int domain = 0;

	c->server = s;
	c->fd = fd;
	c->fd_flags = fcntl(fd, F_GETFL);
	c->in = BUF_INIT(HTTP_HEAD_MAX + READ_SIZE);
	c->out = BUF_INIT(HTTP_OUT_MAX * 2);
	c->since = time_monotonic();
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	c->pid = cred.pid;
	c->uid = cred.uid;
	len = sizeof(domain);
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	c->is_unix = domain == AF_UNIX;
	int r = uv_poll_init(loop_uv(s->config.loop), &c->poll, fd);
	if (r < 0) {
		log_warn("cannot poll a connection: %s", uv_strerror(r));
		close(fd);
		free(c);
		return NULL;
	}
	conn_update(c);
	return c;
}

/* Refuses what came and ends the connection. */
static void conn_refuse(struct http_conn *c, int status, const char *reason)
{
	struct error err = { .code = ERROR_INVALID_ARGUMENT, .msg = (char *)(uintptr_t)reason };
	size_t len;
	autofree char *body = http_error_body(c->server, &err, &len);

	buf_printf(&c->out,
		   "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
		   "Content-Length: %zu\r\n\r\n%s",
		   status, http_status_text(status), len, body);
	c->stage = HTTP_STAGE_CLOSE;
}

static void recycle(struct buf *b)
{
	if (b->alloc > READ_SIZE)
		buf_done(b);
	else
		buf_clear(b);
}

/* Writes what it can. */
static void conn_write(struct http_conn *c)
{
	while (!c->closed && unsent(c) > 0) {
		ssize_t n = send(c->fd, c->out.data + c->out_off, unsent(c),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			http_conn_close(c);
			return;
		}
		c->out_off += (size_t)n;
		c->since = time_monotonic();
	}
	if (unsent(c) == 0) {
		recycle(&c->out);
		c->out_off = 0;
	} else if (c->out_off > HTTP_STREAM_HIGH) {
		buf_consume(&c->out, c->out_off);
		c->out_off = 0;
	}
}

/* Takes what the request has for the wire; true when its reply is complete. */
static bool conn_take_output(struct http_conn *c, struct http_request *r)
{
	pthread_mutex_lock(&r->lock);
	buf_append(&c->out, r->out.data, r->out.len);
	recycle(&r->out);
	bool done = r->state == HTTP_REPLY_DONE || r->state == HTTP_REPLY_UPGRADE;
	bool broken = r->broken || c->out.overflow;
	pthread_mutex_unlock(&r->lock);
	conn_write(c);
	if (c->closed)
		return false;
	if (broken) {
		http_conn_close(c);
		return false;
	}
	pthread_mutex_lock(&r->lock);
	r->in_flight = unsent(c);
	pthread_mutex_unlock(&r->lock);
	http_signal_drain(r);
	return done && unsent(c) == 0 && !c->closed;
}

/* Gives the socket away, as it was. */
static void conn_hand_over(struct http_conn *c)
{
	struct http_request *r = c->request;
	size_t n_extra = c->in.len;
	autofree char *extra = buf_steal(&c->in, NULL);
	int flags = c->fd_flags;
	void (*fn)(int, const void *, size_t, void *) = TAKE_PTR(r->on_upgrade);
	void *arg = r->upgrade_arg;
	int fd = conn_detach(c);

	fcntl(fd, F_SETFL, flags);
	fn(fd, extra, n_extra, arg);
}

/* The reply is on its way entirely: what now? */
static void conn_reply_complete(struct http_conn *c)
{
	struct http_request *r = c->request;

	if (r->state == HTTP_REPLY_UPGRADE) {
		conn_hand_over(c);
		return;
	}
	if (!r->keep_alive) {
		http_conn_close(c);
		return;
	}
	conn_let_go(c);
	c->since = time_monotonic();
	/* A body that is still coming goes to nobody. */
	if (c->stage == HTTP_STAGE_REPLY)
		c->stage = HTTP_STAGE_HEAD;
	c->scan = 0;
	buf_done(&c->out);
	if (c->server->draining && c->stage == HTTP_STAGE_HEAD)
		http_conn_close(c);
}

/* Cuts a whole head off the input: its length, 0 when there is none yet or it is refused. */
static size_t conn_find_head(struct http_conn *c)
{
	/* Blank lines before a request line are ignored (RFC 9112 2.2). */
	size_t blank = strspn(c->in.data, "\r\n");

	if (blank > 0) {
		buf_consume(&c->in, blank);
		c->scan = 0;
	}
	size_t len = http_head_end(c->in.data, c->in.len, &c->scan);
	if (len > HTTP_HEAD_MAX || (len == 0 && c->in.len > HTTP_HEAD_MAX)) {
		conn_refuse(c, 431, "request header fields too large");
		return 0;
	}
	return len;
}

/* True when there was a whole head. */
static bool conn_take_head(struct http_conn *c)
{
	autoerror struct error err = ERROR_INIT;
	const char *reason;
	int status;
	size_t len = conn_find_head(c);

	if (len == 0)
		return false;
	struct http_request *r = c->request = http_request_new(c->server, c);
	int parsed = http_request_parse(r, c->in.data, len, &status, &reason);
	buf_consume(&c->in, len);
	c->scan = 0;
	c->since = time_monotonic();
	if (parsed < 0) {
		conn_refuse(c, status, reason);
		return false;
	}
	http_body_init(&c->body, &r->head);
	c->discarded = 0;
	c->stage = HTTP_STAGE_BODY;
	if (http_request_route(r, &err) < 0) {
		/* Whether a client that expects 100 sends its body after this nobody knows. */
		if (r->head.expect_continue)
			r->keep_alive = false;
		r->dispatched = true;
		http_reply_error(r, &err);
		http_request_unref(r);
	}
	return true;
}

static bool replied(struct http_request *r)
{
	pthread_mutex_lock(&r->lock);
	bool done = r->state == HTTP_REPLY_DONE;
	pthread_mutex_unlock(&r->lock);
	return done;
}

/* Begins with the body: the request may run at once, or have to wait, or be too large. */
static void conn_begin_body(struct http_conn *c)
{
	struct http_request *r = c->request;
	size_t max = r->route->max_body ? r->route->max_body : HTTP_BODY_DEFAULT;
	bool stream = r->route->flags & HTTP_STREAM_BODY;

	if (r->dispatched)
		return;
	if (!stream && r->head.content_length > (int64_t)max) {
		conn_refuse(c, 413, "request body too large");
		return;
	}
	r->body = BUF_INIT(stream ? STREAM_MAX : max);
	if (r->head.expect_continue && c->body.state != HTTP_BODY_END) {
		buf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
		conn_write(c);
	}
	if (stream && !c->closed)
		http_request_dispatch(r);
}

/* Body bytes for the request; false: the connection has been refused or closed. */
static bool conn_deliver(struct http_conn *c, const char *p, size_t n)
{
	struct http_request *r = c->request;

	if (!r || replied(r)) {
		c->discarded += n;
		if (c->discarded > HTTP_DISCARD_MAX) {
			http_conn_close(c);
			return false;
		}
		return true;
	}
	pthread_mutex_lock(&r->lock);
	int failed = buf_append(&r->body, p, n);
	if (r->route->flags & HTTP_STREAM_BODY) {
		r->body_paused = r->body.len - r->body_off > HTTP_BODY_QUEUE;
		pthread_cond_broadcast(&r->changed);
	}
	pthread_mutex_unlock(&r->lock);
	if (failed) {
		conn_refuse(c, 413, "request body too large");
		return false;
	}
	return true;
}

static void conn_end_body(struct http_conn *c)
{
	struct http_request *r = c->request;

	c->stage = r ? HTTP_STAGE_REPLY : HTTP_STAGE_HEAD;
	c->scan = 0;
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->body_end = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (!r->dispatched)
		http_request_dispatch(r);
}

/* True when it got on. */
static bool conn_take_body(struct http_conn *c)
{
	if (c->body.state == HTTP_BODY_END) {
		conn_end_body(c);
		return true;
	}
	if (c->in.len == 0 || body_paused(c))
		return false;

	const char *piece;
	size_t len;
	ssize_t used = http_body_feed(&c->body, c->in.data, c->in.len, &piece, &len);

	if (used < 0) {
		if (c->request && (c->request->route->flags & HTTP_STREAM_BODY))
			http_conn_close(c);
		else
			conn_refuse(c, 400, "malformed chunked body");
		return false;
	}
	if (len > 0 && !conn_deliver(c, piece, len))
		return false;
	buf_consume(&c->in, (size_t)used);
	return true;
}

/* One step; false: nothing more can be done now. */
static bool conn_step(struct http_conn *c)
{
	bool on = false;

	switch (c->stage) {
	case HTTP_STAGE_HEAD:
		on = conn_take_head(c);
		if (on)
			conn_begin_body(c);
		break;
	case HTTP_STAGE_BODY:
		on = conn_take_body(c);
		break;
	case HTTP_STAGE_REPLY:
	case HTTP_STAGE_CLOSE:
		break;
	}
	if (!c->closed && c->stage == HTTP_STAGE_CLOSE) {
		conn_let_go(c);
		conn_write(c);
		if (!c->closed && unsent(c) == 0)
			http_conn_close(c);
		return false;
	}
	return on && !c->closed;
}

/* The client's end has been read: is there anything to wait for? */
static void conn_at_eof(struct http_conn *c)
{
	if (c->closed || !c->eof)
		return;
	if (c->stage == HTTP_STAGE_HEAD && unsent(c) == 0)
		http_conn_close(c);
	else if (c->stage == HTTP_STAGE_BODY && !body_paused(c))
		http_conn_close(c);
}

static void conn_advance(struct http_conn *c)
{
	if (c->busy)
		return;
	c->busy = true;
	while (!c->closed && conn_step(c))
		;
	c->busy = false;
	conn_at_eof(c);
	if (!c->closed && c->in.len == 0 && !c->request)
		buf_done(&c->in);
	conn_update(c);
}

static void conn_read(struct http_conn *c)
{
	size_t room = c->in.max - c->in.len;

	if (room > READ_SIZE)
		room = READ_SIZE;
	if (room == 0 || buf_reserve(&c->in, room) < 0)
		return;
	ssize_t n = recv(c->fd, c->in.data + c->in.len, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		http_conn_close(c);
		return;
	}
	if (n == 0)
		c->eof = true;
	else
		buf_advance(&c->in, (size_t)n);
	if (c->stage == HTTP_STAGE_BODY)
		c->since = time_monotonic();
	conn_advance(c);
}

static void conn_on_hangup(struct http_conn *c)
{
	struct pollfd p = { .fd = c->fd };

	if (c->is_unix && poll(&p, 1, 0) >= 0 && !(p.revents & (POLLHUP | POLLERR)))
		c->half_closed = true;
	else
		http_conn_close(c);
}

static void conn_flush(struct http_conn *c)
{
	if (conn_take_output(c, c->request))
		conn_reply_complete(c);
	if (!c->closed)
		conn_advance(c);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	struct http_conn *c = CONTAINER_OF(handle, struct http_conn, poll);

	if (status < 0) {
		http_conn_close(c);
		return;
	}
	if (events & UV_READABLE)
		conn_read(c);
	if (!c->closed && (events & UV_WRITABLE)) {
		if (c->request)
			conn_flush(c);
		else
			conn_write(c);
		if (!c->closed)
			conn_advance(c);
	}
	if (!c->closed && (events & (UV_DISCONNECT | UV_PRIORITIZED)))
		conn_on_hangup(c);
	conn_update(c);
}

void http_conn_flush_post(void *request)
{
	struct http_request *r = request;

	pthread_mutex_lock(&r->lock);
	r->flush_posted = false;
	pthread_mutex_unlock(&r->lock);
	if (r->conn)
		conn_flush(r->conn);
	else
		http_drop_output(r);
	http_request_release(r);
}

void http_conn_resume_post(void *request)
{
	struct http_request *r = request;

	if (r->conn)
		conn_advance(r->conn);
	http_request_release(r);
}

static bool conn_idle(const struct http_conn *c)
{
	return c->stage == HTTP_STAGE_HEAD && !c->request && unsent(c) == 0;
}

void http_conn_drain(struct http_conn *c)
{
	if (conn_idle(c) && c->in.len == 0)
		http_conn_close(c);
}

void http_conn_check_timeout(struct http_conn *c, int64_t now)
{
	int64_t limit = INT64_MAX;

	if (conn_idle(c) || (c->stage == HTTP_STAGE_BODY && c->request && !c->request->dispatched))
		limit = HEAD_TIMEOUT;
	else if (c->stage == HTTP_STAGE_CLOSE || !c->request)
		limit = CLOSE_TIMEOUT;
	if (now - c->since > limit)
		http_conn_close(c);
}
