/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port-forward over SPDY: the client opens two streams for each of its connections, with the
 * headers "streamtype" (error, data), "port" and "requestid".
 */

#include "api/cri/streaming-internal.h"

#include "base/mem.h"
#include "base/parse.h"
#include "http/spdy.h"

#include <string.h>
#include <strings.h>

#define STREAMS_MAX 4096
#define REQUEST_ID_MAX 64

struct transport {
	struct conn *conn;
	struct forward *forward;
	struct spdy *spdy;
	struct map pairs; /* by request id; those that wait for their other half */
};

/* Old clients have no ids: the error stream's own number, which the data stream follows. */
static bool request_id_of(uint32_t id, bool is_data, const struct spdy_headers *h, char **ret)
{
	const char *text = spdy_header_get(h, "requestid");

	if (str_empty(text)) {
		*ret = xasprintf("#%u", is_data ? id - 2 : id);
		return true;
	}
	*ret = strlen(text) <= REQUEST_ID_MAX ? xstrdup(text) : NULL;
	return *ret;
}

static bool parse_headers(const struct spdy_headers *h, bool *ret_data, uint16_t *ret_port)
{
	const char *type = spdy_header_get(h, "streamtype"), *text = spdy_header_get(h, "port");
	uint64_t port;

	if (!type || !text || parse_uint64(text, &port) < 0 || port == 0 || port > UINT16_MAX)
		return false;
	*ret_data = strcasecmp(type, "data") == 0;
	*ret_port = (uint16_t)port;
	return *ret_data || strcasecmp(type, "error") == 0;
}

static enum spdy_status on_stream(uint32_t id, const struct spdy_headers *h, void **ret_user,
				  void *arg)
{
	struct transport *t = arg;
	autofree char *request_id = NULL;
	uint16_t port;
	bool is_data;

	if (!parse_headers(h, &is_data, &port) || !request_id_of(id, is_data, h, &request_id))
		return SPDY_REFUSED_STREAM;
	struct pair *p = map_get(&t->pairs, request_id);
	if (p && (p->port != port || (is_data ? p->has_data : p->has_error)))
		return SPDY_REFUSED_STREAM;
	if (!p) {
		p = pair_new(t->forward, port);
		if (!p)
			return SPDY_REFUSED_STREAM;
		p->request_id = xstrdup(request_id);
		map_set(&t->pairs, request_id, p);
	}
	if (is_data) {
		p->data_id = id;
		p->has_data = true;
	} else {
		p->error_id = id;
		p->has_error = true;
	}
	*ret_user = p;
	if (p->has_data && p->has_error) {
		map_remove(&t->pairs, request_id);
		pair_connect(p);
	}
	return SPDY_OK;
}

static void on_data(uint32_t id, void *user, const void *p, size_t n, void *arg UNUSED)
{
	struct pair *pair = user;

	if (pair->has_data && id == pair->data_id)
		pair_data(pair, p, n);
}

static void on_end(uint32_t id, void *user, void *arg UNUSED)
{
	struct pair *pair = user;

	if (pair->has_data && id == pair->data_id)
		pair_client_ends(pair);
}

static void on_reset(uint32_t id, void *user, void *arg UNUSED)
{
	struct pair *pair = user;

	/* Nobody reads errors: that is no reason to end the data. */
	if (pair->has_data && id == pair->data_id)
		pair_client_resets(pair);
}

static const struct spdy_ops spdy_ops = {
	.on_stream = on_stream,
	.on_data = on_data,
	.on_end = on_end,
	.on_reset = on_reset,
};

static void transport_send(void *transport, struct pair *p, const void *data, size_t n)
{
	struct transport *t = transport;

	spdy_send(t->spdy, p->data_id, data, n);
}

static void transport_end(void *transport, struct pair *p)
{
	struct transport *t = transport;

	spdy_end(t->spdy, p->data_id);
}

static void transport_fail(void *transport, struct pair *p, const char *text)
{
	struct transport *t = transport;

	spdy_send(t->spdy, p->error_id, text, strlen(text));
}

/* No stream may be left that has p for its user. */
static void transport_close(void *transport, struct pair *p, bool reset)
{
	struct transport *t = transport;

	if (map_get(&t->pairs, p->request_id) == p)
		map_remove(&t->pairs, p->request_id);
	if (!reset) {
		spdy_end(t->spdy, p->data_id);
		spdy_end(t->spdy, p->error_id);
	}
	/* Those that have ended are not there any more. */
	spdy_reset(t->spdy, p->data_id, SPDY_CANCEL);
	spdy_reset(t->spdy, p->error_id, SPDY_CANCEL);
}

static void transport_free(void *transport)
{
	struct transport *t = transport;

	map_done(&t->pairs);
	spdy_free(t->spdy);
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

	return spdy_feed(t->spdy, p, n, err);
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

void forward_spdy_begin(struct conn *conn, struct stream_request *take, bool tunnel)
{
	static const struct session_ops ops = {
		.feed = session_feed,
		.wants_input = session_wants_input,
		.on_room = session_on_room,
		.on_gone = session_on_gone,
	};
	struct transport *t = xnew(struct transport);
	struct spdy_config config = { .max_streams = STREAMS_MAX, .ops = &spdy_ops, .arg = t };

	t->conn = conn;
	t->forward = forward_new(conn, take, &forward_ops, t);
	conn_begin(conn, &ops, t, tunnel);
	config.out = conn_out(conn);
	t->spdy = spdy_new(&config);
}
