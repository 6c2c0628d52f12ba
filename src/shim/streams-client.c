/* SPDX-License-Identifier: Apache-2.0 */
/* Attached clients: each has a socket, a bounded backlog, and at most one stdin to feed. */

#include "shim/streams-impl.h"

#include "base/mem.h"

#include <sys/socket.h>

unsigned streams_n_lingering;

unsigned streams_lingering(void)
{
	return streams_n_lingering;
}

void client_drop(struct client *c)
{
	struct streams *s = c->owner;

	if (s)
		list_remove(&c->node);
	else
		streams_n_lingering--;
	/* Others may hold the socket too: the client shall see the end now. */
	if (!c->never_served)
		shutdown(writer_fd(c->writer), SHUT_RDWR);
	writer_free(c->writer);
	free(c);
	if (s)
		streams_resume(s);
}

void client_put(struct client *c, enum log_stream which, const void *p, size_t n)
{
	uint8_t header[ATTACH_HEADER_SIZE];
	bool ok = true;

	if (which == LOG_STDOUT ? !c->want_out : !c->want_err)
		return;
	if (c->mux) {
		attach_header_write(
			header, which == LOG_STDOUT ? ATTACH_STDOUT_HEADER : ATTACH_STDERR_HEADER,
			(uint32_t)n);
		ok = writer_put(c->writer, header, sizeof(header));
	}
	/* A client that is gone is found here; its stdin is not touched: others may attach. */
	if (!ok || !writer_put(c->writer, p, n))
		client_drop(c);
}

void client_update_reading(struct client *c)
{
	struct streams *s = c->owner;
	bool blocked = c->want_in && s && s->to_stdin && writer_is_full(s->to_stdin);

	writer_set_reading(c->writer, s && s->running && !c->at_eof && !blocked);
}

/* It will send no more. */
static void client_input_ends(struct client *c)
{
	struct streams *s = c->owner;

	c->at_eof = true;
	client_update_reading(c);
	if (s && c->want_in && s->out.in == IO_STDIN_ONCE)
		streams_close_stdin(s);
}

static void on_readable(void *arg)
{
	struct client *c = arg;
	struct streams *s = c->owner;
	autobuf struct buf pass = BUF_INIT(8192);
	uint8_t bytes[4096];
	ssize_t n = recv(writer_fd(c->writer), bytes, sizeof(bytes), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_input_ends(c);
		if (n < 0)
			client_drop(c);
		return;
	}
	if (!c->want_in || !s)
		return;
	bool detach = detach_feed(&c->detach, bytes, (size_t)n, &pass);
	streams_put_stdin(s, pass.data, pass.len);
	if (detach)
		client_drop(c);
	else
		client_update_reading(c);
}

static void on_room(void *arg)
{
	struct client *c = arg;

	if (c->owner)
		streams_resume(c->owner);
}

static void on_empty(void *arg)
{
	struct client *c = arg;

	if (!c->owner)
		client_drop(c);
}

static void on_broken(void *arg)
{
	struct client *c = arg;

	if (!c->at_eof)
		client_input_ends(c);
	client_drop(c);
}

static void on_hangup(void *arg)
{
	struct client *c = arg;
	struct streams *s = c->owner;

	if (!s)
		return;
	streams_hang_up(s);
	client_drop(c);
}

static const struct writer_ops client_ops = {
	.on_room = on_room,
	.on_empty = on_empty,
	.on_broken = on_broken,
	.on_readable = on_readable,
	.on_hangup = on_hangup,
};

void client_finish(struct client *c)
{
	list_remove(&c->node);
	c->never_served = !c->owner->running;
	c->owner = NULL;
	streams_n_lingering++;
	client_update_reading(c);
	if (writer_is_empty(c->writer))
		client_drop(c);
}

int streams_attach(struct streams *s, const struct attach_request *r, int fd, struct error *err)
{
	if (!streams_is_kistl(s) || s->exited || s->finished) {
		close(fd);
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 s->exited || s->finished ? "process has ended"
							  : "process cannot be attached to");
	}
	struct client *c = xnew(struct client);

	c->owner = s;
	c->want_in = r->want_in;
	c->want_out = r->want_out;
	c->want_err = r->want_err;
	c->mux = r->mux && !s->terminal;
	c->detach.n_keys = r->n_detach_keys;
	for (size_t i = 0; i < r->n_detach_keys; i++)
		c->detach.keys[i] = r->detach_keys[i];
	c->writer = writer_new(s->loop, fd, &client_ops, c);
	if (!c->writer) {
		free(c);
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "client's descriptor is not a socket");
	}
	list_append(&s->clients, &c->node);
	if (r->hangup && s->terminal)
		writer_watch_hangup(c->writer);
	client_update_reading(c);
	return 0;
}
