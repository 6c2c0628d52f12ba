/* SPDX-License-Identifier: Apache-2.0 */
/* Exec and attach over SPDY: each channel is a stream, named by its header "streamtype". */

#include "api/cri/streaming-internal.h"

#include "base/mem.h"
#include "http/spdy.h"

#include <string.h>
#include <strings.h>

#define STREAMS_MAX 16

static const char *const names[CHANNEL_MAX] = {
	[CHANNEL_STDIN] = "stdin", [CHANNEL_STDOUT] = "stdout", [CHANNEL_STDERR] = "stderr",
	[CHANNEL_ERROR] = "error", [CHANNEL_RESIZE] = "resize",
};

struct transport {
	struct conn *conn;
	struct command *command;
	struct spdy *spdy;
	uint32_t ids[CHANNEL_MAX]; /* 0: not there */
	bool started;
};

static int channel_of(const struct transport *t, uint32_t id)
{
	for (int i = 0; i < CHANNEL_MAX; i++)
		if (t->ids[i] == id)
			return i;
	return -1;
}

static enum spdy_status on_stream(uint32_t id, const struct spdy_headers *h, void **ret_user UNUSED,
				  void *arg)
{
	struct transport *t = arg;
	const char *type = spdy_header_get(h, "streamtype");

	for (int i = 0; type && i < CHANNEL_MAX; i++) {
		if (strcasecmp(type, names[i]) != 0)
			continue;
		if (t->ids[i] || !command_has(t->command, (enum channel)i))
			break;
		t->ids[i] = id;
		return SPDY_OK;
	}
	return SPDY_REFUSED_STREAM;
}

static void on_data(uint32_t id, void *user UNUSED, const void *p, size_t n, void *arg)
{
	struct transport *t = arg;
	int channel = channel_of(t, id);

	if (channel == CHANNEL_STDIN)
		command_stdin(t->command, p, n);
	else if (channel == CHANNEL_RESIZE)
		command_resize(t->command, p, n);
}

static void on_end(uint32_t id, void *user UNUSED, void *arg)
{
	struct transport *t = arg;

	if (channel_of(t, id) == CHANNEL_STDIN)
		command_stdin_end(t->command);
}

static const struct spdy_ops spdy_ops = {
	.on_stream = on_stream,
	.on_data = on_data,
	.on_end = on_end,
	.on_reset = on_end,
};

static void transport_send(void *transport, enum channel channel, const void *p, size_t n)
{
	struct transport *t = transport;

	spdy_send(t->spdy, t->ids[channel], p, n);
}

static void transport_end(void *transport, enum channel channel)
{
	struct transport *t = transport;

	spdy_end(t->spdy, t->ids[channel]);
}

static void transport_finish(void *transport)
{
	struct transport *t = transport;

	/* Our side of stdin and resize, which carry nothing this way. */
	spdy_end(t->spdy, t->ids[CHANNEL_STDIN]);
	spdy_end(t->spdy, t->ids[CHANNEL_RESIZE]);
	conn_finish(t->conn, /* shut */ false);
}

static void transport_free(void *transport)
{
	struct transport *t = transport;

	spdy_free(t->spdy);
	free(t);
}

static const struct command_ops command_ops = {
	.send = transport_send,
	.end = transport_end,
	.finish = transport_finish,
	.free = transport_free,
};

static bool complete(const struct transport *t)
{
	for (int i = 0; i < CHANNEL_MAX; i++)
		if (command_has(t->command, (enum channel)i) && !t->ids[i])
			return false;
	return true;
}

static int session_feed(void *session, const void *p, size_t n, struct error *err)
{
	struct transport *t = session;
	int r = spdy_feed(t->spdy, p, n, err);

	if (r == 0 && !t->started && complete(t)) {
		t->started = true;
		command_start(t->command);
	}
	return r;
}

static bool session_wants_input(void *session)
{
	struct transport *t = session;

	return command_wants_input(t->command);
}

static void session_on_room(void *session)
{
	struct transport *t = session;

	command_on_room(t->command);
}

static void session_on_gone(void *session)
{
	struct transport *t = session;

	command_on_gone(t->command);
}

void command_spdy_begin(struct conn *conn, struct stream_request *take, int version)
{
	static const struct session_ops ops = {
		.feed = session_feed,
		.wants_input = session_wants_input,
		.on_room = session_on_room,
		.on_gone = session_on_gone,
	};
	struct transport *t = xnew(struct transport);
	const struct spdy_config config = {
		.max_streams = STREAMS_MAX,
		.ops = &spdy_ops,
		.arg = t,
		.out = conn_out(conn),
	};

	t->conn = conn;
	t->spdy = spdy_new(&config);
	t->command = command_new(conn, take, version, &command_ops, t);
	conn_begin(conn, &ops, t, /* tunnel */ false);
}
