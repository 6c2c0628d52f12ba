/* SPDX-License-Identifier: Apache-2.0 */
/* Exec and attach over WebSocket: the channels are numbers at the beginning of each message. */

#include "api/cri/streaming-internal.h"

#include "base/mem.h"

struct transport {
	struct conn *conn;
	struct command *command;
	struct channels *channels;
};

static void on_data(unsigned channel, const void *p, size_t n, void *arg)
{
	struct transport *t = arg;

	if (channel == CHANNEL_STDIN)
		command_stdin(t->command, p, n);
	else if (channel == CHANNEL_RESIZE)
		command_resize(t->command, p, n);
}

static void on_end(unsigned channel, void *arg)
{
	struct transport *t = arg;

	if (channel == CHANNEL_STDIN)
		command_stdin_end(t->command);
}

static const struct channels_ops channels_ops = { .on_data = on_data, .on_end = on_end };

static void transport_send(void *transport, enum channel channel, const void *p, size_t n)
{
	struct transport *t = transport;

	channels_send(t->channels, channel, p, n);
}

static void transport_end(void *transport UNUSED, enum channel channel UNUSED)
{
	/* Messages have no end of a channel, in this direction. */
}

static void transport_finish(void *transport)
{
	struct transport *t = transport;

	channels_close(t->channels);
	conn_finish(t->conn, /* shut */ true);
}

static void transport_free(void *transport)
{
	struct transport *t = transport;

	channels_free(t->channels);
	free(t);
}

static const struct command_ops command_ops = {
	.send = transport_send,
	.end = transport_end,
	.finish = transport_finish,
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

/* Tells a client that it is there, before the command has said anything. */
static void greet(struct transport *t)
{
	for (int i = CHANNEL_STDOUT; i <= CHANNEL_ERROR; i++) {
		if (!command_has(t->command, (enum channel)i))
			continue;
		channels_send(t->channels, (unsigned)i, "", 0);
		return;
	}
}

void command_websocket_begin(struct conn *conn, struct stream_request *take, int version,
			     bool base64)
{
	static const struct session_ops ops = {
		.feed = session_feed,
		.wants_input = session_wants_input,
		.on_room = session_on_room,
		.on_gone = session_on_gone,
	};
	struct transport *t = xnew(struct transport);

	t->conn = conn;
	t->channels = channels_new(conn, base64, /* with_close */ version >= 5, &channels_ops, t);
	t->command = command_new(conn, take, version, &command_ops, t);
	conn_begin(conn, &ops, t, /* tunnel */ false);
	greet(t);
	command_start(t->command);
}
