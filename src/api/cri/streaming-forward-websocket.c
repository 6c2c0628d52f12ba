/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port-forward over WebSocket: one connection for each port of the request, made at once; port i
 * has the channels 2i for its data and 2i + 1 for its errors. On both the port's number comes
 * first.
 */

#include "api/cri/streaming-internal.h"

#include "base/mem.h"

#include <string.h>

struct transport {
	struct conn *conn;
	struct forward *forward;
	struct channels *channels;
	struct pair **pairs; /* by port; NULL: over */
	size_t n_pairs, n_left;
};

static void on_data(unsigned channel, const void *p, size_t n, void *arg)
{
	struct transport *t = arg;

	if (channel % 2 == 0 && channel / 2 < t->n_pairs && t->pairs[channel / 2])
		pair_data(t->pairs[channel / 2], p, n);
}

static void on_end(unsigned channel, void *arg)
{
	struct transport *t = arg;

	if (channel % 2 == 0 && channel / 2 < t->n_pairs && t->pairs[channel / 2])
		pair_client_ends(t->pairs[channel / 2]);
}

static const struct channels_ops channels_ops = { .on_data = on_data, .on_end = on_end };

static void transport_send(void *transport, struct pair *p, const void *data, size_t n)
{
	struct transport *t = transport;

	channels_send(t->channels, p->data_id, data, n);
}

static void transport_end(void *transport UNUSED, struct pair *p)
{
	/* There is no word for the end of a channel: it is the pair's. */
	p->client_ended = true;
}

static void transport_fail(void *transport, struct pair *p, const char *text)
{
	struct transport *t = transport;

	channels_send(t->channels, p->error_id, text, strlen(text));
}

static void transport_close(void *transport, struct pair *p, bool reset UNUSED)
{
	struct transport *t = transport;

	t->pairs[p->data_id / 2] = NULL;
	if (--t->n_left > 0)
		return;
	channels_close(t->channels);
	conn_finish(t->conn, /* shut */ true);
}

static void transport_free(void *transport)
{
	struct transport *t = transport;

	channels_free(t->channels);
	free(t->pairs);
	free(t);
}

static const struct forward_ops forward_ops = {
	.send = transport_send,
	.end = transport_end,
	.fail = transport_fail,
	.close = transport_close,
	.free = transport_free,
};

static int session_feed(void *session, const void *p, size_t n, struct error *err)
{
	struct transport *t = session;

	return channels_feed(t->channels, p, n, err);
}

static bool session_wants_input(void *session)
{
	struct transport *t = session;

	return forward_wants_input(t->forward);
}

static void session_on_room(void *session)
{
	struct transport *t = session;

	forward_on_room(t->forward);
}

static void session_on_gone(void *session)
{
	struct transport *t = session;

	forward_on_gone(t->forward);
}

static void add_port(struct transport *t, size_t i, uint16_t port)
{
	const uint8_t number[2] = { (uint8_t)port, (uint8_t)(port >> 8) };
	struct pair *p = t->pairs[i] = pair_new(t->forward, port);

	p->data_id = (uint32_t)(2 * i);
	p->error_id = (uint32_t)(2 * i + 1);
	channels_send(t->channels, p->data_id, number, sizeof(number));
	channels_send(t->channels, p->error_id, number, sizeof(number));
	pair_connect(p);
}

void forward_websocket_begin(struct conn *conn, struct stream_request *take, bool base64)
{
	static const struct session_ops ops = {
		.feed = session_feed,
		.wants_input = session_wants_input,
		.on_room = session_on_room,
		.on_gone = session_on_gone,
	};
	struct transport *t = xnew(struct transport);

	t->conn = conn;
	t->n_pairs = t->n_left = take->n_ports;
	t->pairs = xnew_array(struct pair *, t->n_pairs);
	t->channels = channels_new(conn, base64, /* with_close */ false, &channels_ops, t);
	t->forward = forward_new(conn, take, &forward_ops, t);
	conn_begin(conn, &ops, t, /* tunnel */ false);
	for (size_t i = 0; i < t->n_pairs; i++)
		add_port(t, i, take->ports[i]);
}
