/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/bridge.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "http/websocket.h"

#include <sys/socket.h>

#define CHUNK (32 << 10)
/* Beyond it, the other side is not read. */
#define HIGH ((size_t)256 << 10)
#define MESSAGE_MAX ((uint64_t)1 << 40)

struct side {
	struct bridge *bridge;
	uv_poll_t poll;
	int fd;
	struct buf out; /* on its way to this side */
	bool ended;	/* it sends no more */
	bool told;	/* that the other one sends no more */
};

struct bridge {
	struct side client, inner;
	struct websocket *ws; /* NULL: bytes as they are */
	bool closing;
	unsigned handles;
};

static void on_event(uv_poll_t *h, int status, int events);

static void on_closed(uv_handle_t *h)
{
	struct side *s = h->data;
	struct bridge *b = s->bridge;

	close(s->fd);
	if (--b->handles > 0)
		return;
	websocket_free(b->ws);
	buf_done(&b->client.out);
	buf_done(&b->inner.out);
	free(b);
}

static void finish(struct bridge *b)
{
	if (b->closing)
		return;
	b->closing = true;
	uv_close((uv_handle_t *)&b->client.poll, on_closed);
	uv_close((uv_handle_t *)&b->inner.poll, on_closed);
}

static struct side *other_side(struct side *s)
{
	return s == &s->bridge->client ? &s->bridge->inner : &s->bridge->client;
}

static void on_piece(const struct websocket_piece *p, void *arg)
{
	struct bridge *b = arg;

	buf_append(&b->inner.out, p->data, p->len);
}

static void on_close(unsigned code, void *arg)
{
	struct bridge *b = arg;

	b->client.ended = true;
}

static const struct websocket_ops ops = { .on_piece = on_piece, .on_close = on_close };

/* Bytes that one side has sent, to the other. */
static void pass(struct side *from, const void *p, size_t n)
{
	struct bridge *b = from->bridge;

	if (!b->ws)
		buf_append(&other_side(from)->out, p, n);
	else if (from == &b->inner)
		websocket_send(b->ws, WEBSOCKET_BINARY, p, n);
	else if (websocket_feed(b->ws, p, n, NULL) < 0)
		b->client.ended = true;
}

static void end_of(struct side *s)
{
	struct bridge *b = s->bridge;

	s->ended = true;
	if (b->ws && s == &b->inner && !websocket_is_closed(b->ws))
		websocket_close(b->ws, WEBSOCKET_NORMAL, "");
}

static void read_side(struct side *s)
{
	char chunk[CHUNK];
	ssize_t n = read(s->fd, chunk, sizeof(chunk));

	if (n > 0)
		pass(s, chunk, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		end_of(s);
}

/* False: that side is gone. */
static bool write_side(struct side *s)
{
	while (s->out.len > 0) {
		ssize_t n = send(s->fd, s->out.data, s->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		buf_consume(&s->out, (size_t)n);
	}
	return true;
}

static void watch(struct side *s)
{
	int events = 0;

	if (!s->ended && other_side(s)->out.len < HIGH)
		events |= UV_READABLE;
	if (s->out.len > 0)
		events |= UV_WRITABLE;
	if (events)
		uv_poll_start(&s->poll, events, on_event);
	else
		uv_poll_stop(&s->poll);
}

/* What ends when all before it has been passed on. */
static void settle(struct bridge *b)
{
	if (!write_side(&b->client) || !write_side(&b->inner)) {
		finish(b);
		return;
	}
	bool client_over = b->client.ended && b->inner.out.len == 0;
	if (client_over && !b->inner.told) {
		b->inner.told = true;
		shutdown(b->inner.fd, SHUT_WR);
	}
	bool over = b->inner.ended || (b->ws && b->client.ended);
	if (over && b->client.out.len == 0 && (b->inner.ended || client_over)) {
		finish(b);
		return;
	}
	watch(&b->client);
	watch(&b->inner);
}

static void on_event(uv_poll_t *h, int status, int events)
{
	struct side *s = h->data;

	if (status < 0)
		end_of(s);
	else if (events & UV_READABLE)
		read_side(s);
	settle(s->bridge);
}

static void side_init(struct bridge *b, struct side *s, struct loop *l, int fd)
{
	*s = (struct side){ .bridge = b, .fd = fd, .out = BUF_INIT(BUF_NO_LIMIT) };
	fs_set_nonblock(fd, true);
	uv_poll_init(loop_uv(l), &s->poll, fd);
	s->poll.data = s;
	b->handles++;
}

void bridge_start(struct loop *l, int client, int inner, bool websocket, const void *extra,
		  size_t n_extra)
{
	struct bridge *b = xnew(struct bridge);

	side_init(b, &b->client, l, client);
	side_init(b, &b->inner, l, inner);
	if (websocket) {
		const struct websocket_config config = {
			.out = &b->client.out, .max_message = MESSAGE_MAX, .ops = &ops, .arg = b
		};

		b->ws = websocket_new(&config);
	}
	if (n_extra > 0)
		pass(&b->client, extra, n_extra);
	settle(b);
}
