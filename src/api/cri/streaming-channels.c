/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages whose first byte is a channel: a number, or in the base64 protocols a digit with the
 * rest in base64. Clients send text and binary as they like (Python's takes text for both).
 */

#include "api/cri/streaming-internal.h"

#include "base/hex.h"
#include "base/mem.h"
#include "http/websocket.h"

#include <string.h>

#define MESSAGE_MAX ((uint64_t)64 << 20)
#define CLOSE_CHANNEL 255
#define SEND_PIECE 24576 /* in base64 it makes 32 KiB */

struct channels {
	struct conn *conn;
	struct websocket *w;
	bool base64, with_close;
	const struct channels_ops *ops;
	void *arg;
	/* The message under way. */
	bool has_channel, bad;
	unsigned channel;
	char carry[4]; /* of a group of four that is not complete */
	size_t n_carry;
	bool ended;
};

static void deliver(struct channels *c, const char *p, size_t n)
{
	if (c->channel != CLOSE_CHANNEL || !c->with_close) {
		c->ops->on_data(c->channel, p, n, c->arg);
		return;
	}
	for (size_t i = 0; i < n; i++)
		c->ops->on_end((unsigned char)p[i], c->arg);
}

static void decode(struct channels *c, const char *p, size_t n)
{
	autobuf struct buf out = BUF_INIT(BUF_NO_LIMIT);

	if (n == 0)
		return;
	if (base64_decode(p, n, &out) < 0)
		c->bad = true;
	else if (out.len > 0)
		deliver(c, out.data, out.len);
}

/* Whole groups at once, the rest with the next piece or at the end. */
static void deliver_base64(struct channels *c, const char *p, size_t n, bool last)
{
	while (c->n_carry > 0 && c->n_carry < 4 && n > 0) {
		c->carry[c->n_carry++] = *p++;
		n--;
	}
	if (c->n_carry == 4) {
		decode(c, c->carry, 4);
		c->n_carry = 0;
	}
	size_t whole = c->n_carry > 0 ? 0 : n / 4 * 4;
	decode(c, p, whole);
	memcpy(c->carry + c->n_carry, p + whole, n - whole);
	c->n_carry += n - whole;
	if (last) {
		decode(c, c->carry, c->n_carry);
		c->n_carry = 0;
	}
}

static void on_piece(const struct websocket_piece *piece, void *arg)
{
	struct channels *c = arg;
	const char *p = piece->data;
	size_t n = piece->len;

	if (piece->first)
		c->has_channel = false;
	if (!c->has_channel && n > 0) {
		unsigned char first = (unsigned char)*p++;

		n--;
		c->has_channel = true;
		c->n_carry = 0;
		c->channel = c->base64 ? (unsigned)first - '0' : first;
	}
	if (!c->has_channel || c->bad || c->ended)
		return;
	if (c->base64)
		deliver_base64(c, p, n, piece->last);
	else if (n > 0)
		deliver(c, p, n);
}

static void on_close(unsigned code UNUSED, void *arg)
{
	struct channels *c = arg;

	c->ended = true;
}

int channels_feed(struct channels *c, const void *p, size_t n, struct error *err)
{
	if (websocket_feed(c->w, p, n, err) < 0)
		return -1;
	if (c->bad) {
		websocket_close(c->w, WEBSOCKET_BAD_DATA, "malformed base64");
		return error_set(err, ERROR_INVALID_ARGUMENT, "malformed base64");
	}
	return c->ended ? error_set(err, ERROR_CANCELLED, "the client has closed") : 0;
}

static void send_base64(struct channels *c, unsigned channel, const char *p, size_t n)
{
	autobuf struct buf text = BUF_INIT(SEND_PIECE * 2);
	char first = (char)('0' + channel);

	base64_encode(p, n, &text);
	websocket_send2(c->w, WEBSOCKET_TEXT, &first, 1, text.data, text.len);
}

void channels_send(struct channels *c, unsigned channel, const void *p, size_t n)
{
	const char *bytes = p;
	char first = (char)channel;

	do {
		size_t piece = MIN(n, (size_t)SEND_PIECE);

		if (c->base64)
			send_base64(c, channel, bytes, piece);
		else
			websocket_send2(c->w, WEBSOCKET_BINARY, &first, 1, bytes, piece);
		bytes += piece;
		n -= piece;
	} while (n > 0);
}

void channels_close(struct channels *c)
{
	websocket_close(c->w, WEBSOCKET_NORMAL, "");
}

struct channels *channels_new(struct conn *conn, bool base64, bool with_close,
			      const struct channels_ops *ops, void *arg)
{
	static const struct websocket_ops websocket_ops = {
		.on_piece = on_piece,
		.on_close = on_close,
	};
	struct channels *c = xnew(struct channels);
	const struct websocket_config config = {
		.out = conn_out(conn),
		.max_message = MESSAGE_MAX,
		.ops = &websocket_ops,
		.arg = c,
	};

	c->conn = conn;
	c->base64 = base64;
	c->with_close = with_close;
	c->ops = ops;
	c->arg = arg;
	c->w = websocket_new(&config);
	return c;
}

void channels_free(struct channels *c)
{
	if (!c)
		return;
	websocket_free(c->w);
	free(c);
}
