/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection is a socket under uv_poll. Between it and the session stand TLS, if configured, and
 * a WebSocket, if the session is tunnelled through one:
 *
 *	socket -> [TLS] -> [WebSocket] -> session -> inner -> [WebSocket] -> out -> [TLS] -> wire
 *
 * Its end has two forms. conn_close() is at once. conn_finish() writes what there is, and then
 * waits for the client to close first: closing with its bytes unread would make the kernel send a
 * reset, at which the client may lose what it has not read yet.
 */

#include "api/cri/streaming-internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "http/parse.h"
#include "http/websocket.h"

#include <assert.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define HEAD_TIMEOUT (30 * NSEC_PER_SEC)
#define LINGER_TIMEOUT (5 * NSEC_PER_SEC)
#define TLS_PIECE (16 << 10)
#define TUNNEL_MESSAGE_MAX (64 << 20)

enum stage {
	STAGE_HEAD,
	STAGE_SESSION,
	STAGE_FINISH, /* writes the rest, drops what comes */
	STAGE_LINGER, /* all is written; the client shall close */
};

struct conn {
	uv_poll_t poll;
	struct list node;
	struct streaming *s;
	int fd, events;
	enum stage stage;
	bool closed, busy, flushing, full;
	bool ended; /* by the client, in its protocol */
	bool shut, tls_shut;
	struct tls *tls;
	struct buf head; /* of the request */
	size_t scan, head_len;
	const struct session_ops *ops;
	void *session;
	struct websocket *tunnel;
	struct buf inner;     /* of the session, when tunnelled */
	struct buf out, wire; /* plain; enciphered */
	size_t out_off, wire_off;
	struct loop_timer *timer;
	int64_t since; /* of the last byte */
	int unsent;    /* in the kernel, at the last look */
};

static void on_poll(uv_poll_t *handle, int status, int events);
static void on_timer(void *arg);

static int64_t limit(const struct conn *c)
{
	switch (c->stage) {
	case STAGE_HEAD:
		return HEAD_TIMEOUT;
	case STAGE_LINGER:
		return LINGER_TIMEOUT;
	default:
		return c->s->config.idle_timeout;
	}
}

static void set_timer(struct conn *c, int64_t ns)
{
	loop_timer_cancel(c->timer);
	c->timer = loop_timer_start(c->s->config.loop, (uint64_t)(ns / NSEC_PER_MSEC) + 1, on_timer,
				    c);
}

static void on_closed(uv_handle_t *handle)
{
	struct conn *c = CONTAINER_OF(handle, struct conn, poll);

	buf_done(&c->head);
	buf_done(&c->inner);
	buf_done(&c->out);
	buf_done(&c->wire);
	websocket_free(c->tunnel);
	tls_free(c->tls);
	free(c);
}

/* The session learns of it when it is not running itself. */
static void release_session(struct conn *c)
{
	const struct session_ops *ops = TAKE_PTR(c->ops);

	if (ops)
		ops->on_gone(TAKE_PTR(c->session));
}

void conn_close(struct conn *c)
{
	if (c->closed)
		return;
	c->closed = true;
	list_remove(&c->node);
	c->s->n_conns--;
	loop_timer_cancel(TAKE_PTR(c->timer));
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, on_closed);
	close(c->fd);
	if (!c->busy)
		release_session(c);
}

void conn_close_all(struct streaming *s)
{
	while (!list_is_empty(&s->conns))
		conn_close(LIST_ENTRY(s->conns.next, struct conn, node));
}

struct streaming *conn_streaming(const struct conn *c)
{
	return c->s;
}

/* --- time --- */

/* A slow client still takes what the kernel has for it. */
static bool still_sending(struct conn *c)
{
	int unsent = 0;

	if (ioctl(c->fd, SIOCOUTQ, &unsent) < 0 || unsent == 0)
		return false;
	bool moves = c->unsent == 0 || unsent < c->unsent;
	c->unsent = unsent;
	return moves;
}

static void on_timer(void *arg)
{
	struct conn *c = arg;
	int64_t left = c->since + limit(c) - time_monotonic();

	c->timer = NULL;
	if (left <= 0 && c->stage == STAGE_LINGER && still_sending(c))
		left = LINGER_TIMEOUT;
	if (left > 0)
		set_timer(c, left);
	else
		conn_close(c);
}

/* --- out --- */

struct buf *conn_out(struct conn *c)
{
	return c->tunnel ? &c->inner : &c->out;
}

static size_t out_left(const struct conn *c)
{
	return c->out.len - c->out_off;
}

static size_t wire_left(const struct conn *c)
{
	return c->wire.len - c->wire_off;
}

bool conn_is_full(const struct conn *c)
{
	return c->full || out_left(c) + wire_left(c) > STREAM_OUT_HIGH;
}

static void drop_sent(struct buf *b, size_t *off)
{
	if (*off == b->len) {
		if (b->alloc > 2 * STREAM_READ_SIZE)
			buf_done(b);
		else
			buf_clear(b);
		*off = 0;
	} else if (*off > STREAM_OUT_HIGH) {
		buf_consume(b, *off);
		*off = 0;
	}
}

static void encipher(struct conn *c)
{
	while (out_left(c) > 0 && wire_left(c) < 2 * TLS_PIECE) {
		size_t n = MIN(out_left(c), (size_t)TLS_PIECE);

		if (tls_write(c->tls, c->out.data + c->out_off, n) < 0) {
			c->out_off = c->out.len;
			break;
		}
		c->out_off += n;
		tls_take(c->tls, &c->wire);
	}
	drop_sent(&c->out, &c->out_off);
	tls_take(c->tls, &c->wire);
}

/* False: nothing more can be written now. */
static bool write_some(struct conn *c)
{
	struct buf *b = c->tls ? &c->wire : &c->out;
	size_t *off = c->tls ? &c->wire_off : &c->out_off;

	if (c->tls)
		encipher(c);
	if (b->len == *off)
		return false;
	ssize_t n = send(c->fd, b->data + *off, b->len - *off, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0) {
		conn_close(c);
		return false;
	}
	*off += (size_t)n;
	c->since = time_monotonic();
	drop_sent(b, off);
	return true;
}

static void begin_linger(struct conn *c)
{
	c->stage = STAGE_LINGER;
	c->since = time_monotonic();
	if (c->shut)
		shutdown(c->fd, SHUT_WR);
	set_timer(c, LINGER_TIMEOUT);
}

/* A session that is woken shall have something to do: not at the first byte of room. */
static void notice_room(struct conn *c)
{
	size_t left = out_left(c) + wire_left(c);

	if (left > STREAM_OUT_HIGH) {
		c->full = true;
	} else if (c->full && left <= STREAM_OUT_HIGH / 2) {
		c->full = false;
		if (c->ops && c->stage == STAGE_SESSION)
			c->ops->on_room(c->session);
	}
}

/* All is on its way but for TLS's own end. */
static void end_tls(struct conn *c)
{
	if (!c->tls || !c->shut || c->tls_shut || c->stage != STAGE_FINISH || out_left(c) > 0)
		return;
	c->tls_shut = true;
	tls_shutdown(c->tls);
	tls_take(c->tls, &c->wire);
}

void conn_flush(struct conn *c)
{
	if (c->closed || c->flushing)
		return;
	c->flushing = true;
	do {
		if (c->tunnel && c->inner.len > 0) {
			websocket_send(c->tunnel, WEBSOCKET_BINARY, c->inner.data, c->inner.len);
			buf_clear(&c->inner);
		}
		end_tls(c);
	} while (write_some(c));
	if (!c->closed)
		notice_room(c);
	c->flushing = false;
	if (c->closed)
		return;
	if (c->out.overflow || c->inner.overflow || c->wire.overflow) {
		log_warn("streaming server: a client's buffer has overflowed, ending it");
		conn_close(c);
		return;
	}
	if (c->stage == STAGE_FINISH && out_left(c) + wire_left(c) == 0 && c->inner.len == 0)
		begin_linger(c);
	conn_update(c);
}

void conn_finish(struct conn *c, bool shut)
{
	if (c->closed || c->stage >= STAGE_FINISH)
		return;
	c->stage = STAGE_FINISH;
	c->shut = shut;
	if (c->tunnel) {
		conn_flush(c);
		if (c->closed)
			return;
		websocket_close(c->tunnel, WEBSOCKET_NORMAL, "");
		c->shut = true;
	}
	conn_flush(c);
}

static const char *status_text(int status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 426:
		return "Upgrade Required";
	case 431:
		return "Request Header Fields Too Large";
	default:
		return "Error";
	}
}

void conn_refuse(struct conn *c, int status, const char *headers, const char *text)
{
	buf_printf(&c->out,
		   "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
		   "X-Content-Type-Options: nosniff\r\nConnection: close\r\n%s"
		   "Content-Length: %zu\r\n\r\n%s\n",
		   status, status_text(status), headers, strlen(text) + 1, text);
	conn_finish(c, /* shut */ true);
}

/* --- in --- */

static bool wants_input(struct conn *c)
{
	if (c->stage == STAGE_SESSION)
		return !conn_is_full(c) && (!c->ops || c->ops->wants_input(c->session));
	return true;
}

void conn_update(struct conn *c)
{
	if (c->closed || c->busy)
		return;
	int events = wants_input(c) ? UV_READABLE : UV_DISCONNECT;
	if ((c->tls ? wire_left(c) : out_left(c)) > 0)
		events |= UV_WRITABLE;
	if (events == c->events)
		return;
	c->events = events;
	uv_poll_start(&c->poll, events, on_poll);
}

static int feed_session(struct conn *c, const void *p, size_t n, struct error *err)
{
	return c->stage == STAGE_SESSION && c->ops ? c->ops->feed(c->session, p, n, err) : 0;
}

static void on_tunnel_piece(const struct websocket_piece *p, void *arg)
{
	struct conn *c = arg;
	autoerror struct error err = ERROR_INIT;

	if (p->len > 0 && !c->ended && feed_session(c, p->data, p->len, &err) < 0)
		c->ended = true;
}

static void on_tunnel_close(unsigned code UNUSED, void *arg)
{
	struct conn *c = arg;

	c->ended = true;
}

void conn_begin(struct conn *c, const struct session_ops *ops, void *session, bool tunnel)
{
	static const struct websocket_ops tunnel_ops = {
		.on_piece = on_tunnel_piece,
		.on_close = on_tunnel_close,
	};

	assert(c->stage == STAGE_HEAD);
	c->stage = STAGE_SESSION;
	c->ops = ops;
	c->session = session;
	if (tunnel) {
		const struct websocket_config config = {
			.out = &c->out,
			.max_message = TUNNEL_MESSAGE_MAX,
			.ops = &tunnel_ops,
			.arg = c,
		};

		c->tunnel = websocket_new(&config);
	}
	set_timer(c, c->s->config.idle_timeout);
}

static void take_head(struct conn *c)
{
	struct http_head head;
	const char *reason = NULL;
	size_t len = http_head_end(c->head.data, c->head.len, &c->scan);

	if (len > HTTP_HEAD_MAX || (len == 0 && c->head.len > HTTP_HEAD_MAX)) {
		conn_refuse(c, 431, "", "request header fields too large");
		return;
	}
	if (len == 0)
		return;
	c->head_len = len;
	int status = http_head_parse(c->head.data, len, &head, &reason);
	if (status == 0 && (head.content_length > 0 || head.chunked)) {
		status = 400;
		reason = "a body is not expected";
	}
	if (status != 0) {
		conn_refuse(c, status, "", reason);
		return;
	}
	autofree char *path = xstrndup(head.target, strcspn(head.target, "?#"));
	stream_upgrade(c, &head, path);
}

static int feed(struct conn *c, const char *p, size_t n, struct error *err);

/* What came behind the head belongs to the session. */
static int feed_head(struct conn *c, const char *p, size_t n, struct error *err)
{
	size_t before = c->head.len;

	buf_append(&c->head, p, n);
	take_head(c);
	if (c->stage == STAGE_HEAD)
		return 0;
	size_t used = c->head_len > before ? c->head_len - before : 0;
	buf_done(&c->head);
	return c->stage == STAGE_SESSION && used < n ? feed(c, p + used, n - used, err) : 0;
}

static int feed(struct conn *c, const char *p, size_t n, struct error *err)
{
	if (c->stage == STAGE_HEAD)
		return feed_head(c, p, n, err);
	if (c->stage != STAGE_SESSION)
		return 0;
	return c->tunnel ? websocket_feed(c->tunnel, p, n, err) : feed_session(c, p, n, err);
}

/* Plain bytes; -1: the client has ended. */
static int read_plain(struct conn *c, const char *p, size_t n, struct error *err)
{
	char plain[TLS_PIECE];
	ssize_t r;

	if (!c->tls)
		return feed(c, p, n, err);
	tls_feed(c->tls, p, n);
	while ((r = tls_read(c->tls, plain, sizeof(plain))) > 0)
		if (!c->closed && feed(c, plain, (size_t)r, err) < 0)
			return -1;
	return r < 0 ? error_set(err, ERROR_CANCELLED, "the client has closed") : 0;
}

static void conn_read(struct conn *c)
{
	autoerror struct error err = ERROR_INIT;
	char bytes[STREAM_READ_SIZE];
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	if (c->stage != STAGE_LINGER)
		c->since = time_monotonic();
	c->busy = true;
	int r = read_plain(c, bytes, (size_t)n, &err);
	c->busy = false;
	if (r < 0 && !c->closed) {
		log_debug("streaming server: %s", error_msg(&err));
		c->ended = true;
	}
	if (c->closed || c->ended)
		release_session(c);
	if (c->ended && c->stage == STAGE_LINGER)
		conn_close(c);
	else if (c->ended)
		conn_finish(c, /* shut */ true);
	if (!c->closed)
		conn_flush(c);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	struct conn *c = CONTAINER_OF(handle, struct conn, poll);

	if (status < 0 || (events & UV_DISCONNECT)) {
		conn_close(c);
		return;
	}
	if (events & UV_READABLE)
		conn_read(c);
	if (!c->closed && (events & UV_WRITABLE))
		conn_flush(c);
}

struct conn *conn_new(struct streaming *s, int fd)
{
	struct conn *c = xnew(struct conn);

	c->s = s;
	c->fd = fd;
	c->head = BUF_INIT(HTTP_HEAD_MAX + STREAM_READ_SIZE);
	c->inner = c->out = c->wire = BUF_INIT(STREAM_BUF_MAX);
	c->since = time_monotonic();
	int r = uv_poll_init(loop_uv(s->config.loop), &c->poll, fd);
	if (r < 0) {
		log_warn("streaming server: %s", uv_strerror(r));
		close(fd);
		free(c);
		return NULL;
	}
	if (s->tls)
		c->tls = tls_new(s->tls);
	list_append(&s->conns, &c->node);
	s->n_conns++;
	set_timer(c, HEAD_TIMEOUT);
	conn_update(c);
	return c;
}
