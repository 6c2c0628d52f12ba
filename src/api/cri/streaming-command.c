/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exec and attach. One end of a socket pair goes to the shim, as an attached client's socket; what
 * comes from the other goes to the client's channels, without a terminal taken apart by Docker's
 * stream headers. A client that goes away closes its end: a terminal is hung up then, anything else
 * only loses its input.
 *
 * An exec has ended when its exit code is known and the shim has closed the socket, which it does
 * when all output has been written; the status goes out behind the last byte.
 */

#include "api/cri/streaming-internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

/* A terminal's size comes right behind the streams: worth waiting for, since a program that finds
 * another one at its start may have drawn already. */
#define SIZE_WAIT_MS 200

struct command {
	struct conn *conn; /* NULL: the client is gone */
	struct streaming *s;
	struct stream_request *request;
	int version;
	const struct command_ops *ops;
	void *transport;
	unsigned refs; /* the connection, the exit that is awaited, jobs, the poll handle */
	struct loop_timer *creation, *size_wait;
	int fd; /* < 0: not running */
	uv_poll_t poll;
	int events;
	bool begun, polled, plain; /* plain: no headers */
	struct buf to_container;
	size_t off;
	bool stdin_ended, stdin_shut;
	uint8_t head[ATTACH_HEADER_SIZE];
	size_t n_head;
	uint32_t left;
	bool at_eof, exited, finished;
	int exit_code;
	char exec_id[65];
	struct resize_parser parser;
	unsigned width, height;
	bool size_changed, resizing, started;
};

static void on_poll(uv_poll_t *handle, int status, int events);

static void command_unref(struct command *c)
{
	if (--c->refs > 0)
		return;
	assert(!c->conn && !c->polled);
	closep(&c->fd);
	stream_request_free(c->request);
	buf_done(&c->to_container);
	streaming_unref(c->s);
	free(c);
}

bool command_has(const struct command *c, enum channel channel)
{
	const struct stream_request *r = c->request;

	switch (channel) {
	case CHANNEL_STDIN:
		return r->in;
	case CHANNEL_STDOUT:
		return r->out;
	case CHANNEL_STDERR:
		return r->errs && !r->tty;
	case CHANNEL_ERROR:
		return true;
	case CHANNEL_RESIZE:
		return r->tty && c->version >= 3;
	default:
		return false;
	}
}

static size_t backlog(const struct command *c)
{
	return c->to_container.len - c->off;
}

bool command_wants_input(const struct command *c)
{
	return backlog(c) < STREAM_IN_HIGH;
}

/* --- the container's side --- */

static void on_poll_closed(uv_handle_t *handle)
{
	struct command *c = CONTAINER_OF(handle, struct command, poll);

	c->polled = false;
	command_unref(c);
}

static void stop_container(struct command *c)
{
	if (!c->polled || uv_is_closing((uv_handle_t *)&c->poll))
		return;
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, on_poll_closed);
	/* Now, not when the handle is gone: the shim shall see it. */
	close(TAKE_FD(c->fd));
}

static void update(struct command *c)
{
	int events = 0;

	if (!c->polled || uv_is_closing((uv_handle_t *)&c->poll))
		return;
	if (c->conn && !c->at_eof && !conn_is_full(c->conn))
		events |= UV_READABLE;
	if (backlog(c) > 0)
		events |= UV_WRITABLE;
	if (events == c->events)
		return;
	c->events = events;
	if (events)
		uv_poll_start(&c->poll, events, on_poll);
	else
		uv_poll_stop(&c->poll);
}

static void write_container(struct command *c)
{
	while (c->fd >= 0 && backlog(c) > 0) {
		ssize_t n = send(c->fd, c->to_container.data + c->off, backlog(c),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		/* Nobody reads it any more: the rest is dropped. */
		c->off += n < 0 ? backlog(c) : (size_t)n;
	}
	if (backlog(c) == 0) {
		buf_done(&c->to_container);
		c->off = 0;
	} else if (c->off > STREAM_IN_HIGH) {
		buf_consume(&c->to_container, c->off);
		c->off = 0;
	}
	if (c->fd >= 0 && c->begun && backlog(c) == 0 && c->stdin_ended && !c->stdin_shut) {
		c->stdin_shut = true;
		shutdown(c->fd, SHUT_WR);
	}
}

/* --- its end --- */

static void finish(struct command *c, char *take_status)
{
	autofree char *status = take_status;

	loop_timer_cancel(TAKE_PTR(c->creation));
	loop_timer_cancel(TAKE_PTR(c->size_wait));
	c->finished = true;
	if (!c->conn)
		return;
	for (int i = CHANNEL_STDOUT; i <= CHANNEL_STDERR; i++)
		if (command_has(c, (enum channel)i))
			c->ops->end(c->transport, (enum channel)i);
	if (status[0])
		c->ops->send(c->transport, CHANNEL_ERROR, status, strlen(status));
	c->ops->end(c->transport, CHANNEL_ERROR);
	c->ops->finish(c->transport);
}

/* Protocols before v4 have plain text, and none for a success. */
static char *plain_status(const struct command *c)
{
	if (c->exit_code == 0)
		return xstrdup("");
	return xasprintf("command terminated with non-zero exit code: exit code %d", c->exit_code);
}

static void check_end(struct command *c)
{
	if (c->finished || !c->at_eof || (c->request->kind == STREAM_EXEC && !c->exited))
		return;
	stop_container(c);
	if (c->version < 4)
		finish(c, plain_status(c));
	else
		finish(c, c->exit_code == 0 ? status_success() : status_exit(c->exit_code));
}

static void fail(struct command *c, const char *message)
{
	autofree char *text =
		xasprintf("error %s: %s",
			  c->request->kind == STREAM_EXEC ? "executing command in container"
							  : "attaching to container",
			  message);

	stop_container(c);
	finish(c, c->version < 4 ? TAKE_PTR(text) : status_failure(text));
}

/* --- output --- */

static void pass_on(struct command *c, enum channel channel, const char *p, size_t n)
{
	if (c->conn && command_has(c, channel))
		c->ops->send(c->transport, channel, p, n);
}

static void take_framed(struct command *c, const char *p, size_t n)
{
	while (n > 0) {
		size_t part;

		if (c->left > 0) {
			part = MIN(n, (size_t)c->left);
			pass_on(c,
				c->head[0] == ATTACH_STDERR_HEADER ? CHANNEL_STDERR
								   : CHANNEL_STDOUT,
				p, part);
			c->left -= (uint32_t)part;
		} else {
			part = MIN(n, sizeof(c->head) - c->n_head);
			memcpy(c->head + c->n_head, p, part);
			c->n_head += part;
			if (c->n_head == sizeof(c->head)) {
				c->n_head = 0;
				c->left = (uint32_t)c->head[4] << 24 | (uint32_t)c->head[5] << 16 |
					  (uint32_t)c->head[6] << 8 | c->head[7];
			}
		}
		p += part;
		n -= part;
	}
}

static void read_container(struct command *c)
{
	char bytes[STREAM_READ_SIZE];
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		c->at_eof = true;
		check_end(c);
		return;
	}
	if (c->plain)
		pass_on(c, CHANNEL_STDOUT, bytes, (size_t)n);
	else
		take_framed(c, bytes, (size_t)n);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	struct command *c = CONTAINER_OF(handle, struct command, poll);

	c->refs++;
	if (events & UV_WRITABLE || status < 0) {
		write_container(c);
		if (c->conn)
			conn_update(c->conn);
	}
	if ((events & UV_READABLE || status < 0) && c->conn && c->fd >= 0)
		read_container(c);
	if (c->conn)
		conn_flush(c->conn);
	update(c);
	command_unref(c);
}

void command_on_room(struct command *c)
{
	update(c);
}

/* --- start --- */

struct start {
	struct command *c; /* referenced */
	int fd;
	unsigned width, height;
	bool tty;
	char exec_id[65];
	struct error err;
	int result;
};

static void send_size(struct command *c);

static void on_ended(int exit_code, void *arg)
{
	struct command *c = arg;

	c->exited = true;
	c->exit_code = exit_code;
	check_end(c);
	command_unref(c);
}

static void start_work(void *arg)
{
	struct start *st = arg;
	struct command *c = st->c;

	if (c->request->kind == STREAM_EXEC)
		st->result = c->s->backend->exec(c->s, c->request, st->fd, st->width, st->height,
						 on_ended, c, st->exec_id, &st->err);
	else
		st->result = c->s->backend->attach(c->s, c->request, st->fd, &st->tty, &st->err);
}

static void begin_pump(struct command *c)
{
	c->begun = true;
	if (!c->conn)
		return;
	int r = uv_poll_init(loop_uv(c->s->config.loop), &c->poll, c->fd);
	if (r < 0) {
		fail(c, uv_strerror(r));
		return;
	}
	c->polled = true;
	c->refs++;
	write_container(c);
	conn_update(c->conn);
	update(c);
}

static void on_started(void *arg)
{
	struct start *st = arg;
	struct command *c = st->c;

	memcpy(c->exec_id, st->exec_id, sizeof(c->exec_id));
	c->plain = c->request->kind == STREAM_EXEC ? c->request->tty : st->tty;
	if (st->result < 0) {
		/* Its exit will never be told. */
		if (c->request->kind == STREAM_EXEC)
			command_unref(c);
		fail(c, error_msg(&st->err));
	} else {
		c->started = true;
		begin_pump(c);
		send_size(c);
	}
	if (c->conn)
		conn_flush(c->conn);
	error_done(&st->err);
	free(st);
	command_unref(c);
}

static void run(struct command *c)
{
	int pair[2];

	loop_timer_cancel(TAKE_PTR(c->size_wait));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		fail(c, strerror(errno));
		return;
	}
	struct start *st = xnew(struct start);
	c->fd = pair[0];
	c->refs++;
	if (c->request->kind == STREAM_EXEC)
		c->refs++; /* of on_ended */
	*st = (struct start){ .c = c, .fd = pair[1], .width = c->width, .height = c->height };
	if (c->request->kind == STREAM_EXEC)
		c->size_changed = false;
	job_submit(c->s->config.jobs, JOB_OPS, start_work, on_started, st);
}

static void on_size_wait(void *arg)
{
	struct command *c = arg;

	c->size_wait = NULL;
	run(c);
}

void command_start(struct command *c)
{
	loop_timer_cancel(TAKE_PTR(c->creation));
	if (c->request->kind == STREAM_EXEC && command_has(c, CHANNEL_RESIZE) && c->width == 0)
		c->size_wait = loop_timer_start(c->s->config.loop, SIZE_WAIT_MS, on_size_wait, c);
	else
		run(c);
}

/* --- input --- */

void command_stdin(struct command *c, const void *p, size_t n)
{
	if (c->finished || c->stdin_ended || !c->request->in)
		return;
	buf_append(&c->to_container, p, n);
	if (c->begun)
		write_container(c);
	update(c);
}

void command_stdin_end(struct command *c)
{
	if (c->stdin_ended || !c->request->in)
		return;
	c->stdin_ended = true;
	if (c->begun)
		write_container(c);
	update(c);
}

/* --- size --- */

struct resize {
	struct command *c; /* referenced */
	unsigned width, height;
};

static void resize_work(void *arg)
{
	struct resize *r = arg;
	struct command *c = r->c;
	autoerror struct error err = ERROR_INIT;

	if (c->s->backend->resize(c->s, c->request, c->exec_id, r->width, r->height, &err) < 0)
		log_debug("resize the terminal of '%s': %s", c->request->id, error_msg(&err));
}

static void on_resized(void *arg)
{
	struct resize *r = arg;

	r->c->resizing = false;
	send_size(r->c);
	command_unref(r->c);
	free(r);
}

/* One at a time, so that the last one wins; those between are left out. */
static void send_size(struct command *c)
{
	if (!c->started || c->resizing || !c->size_changed || c->finished || c->at_eof)
		return;
	struct resize *r = xnew(struct resize);
	*r = (struct resize){ .c = c, .width = c->width, .height = c->height };
	c->refs++;
	c->resizing = true;
	c->size_changed = false;
	job_submit(c->s->config.jobs, JOB_OPS, resize_work, on_resized, r);
}

void command_resize(struct command *c, const void *p, size_t n)
{
	if (!resize_feed(&c->parser, p, n, &c->width, &c->height))
		return;
	c->size_changed = true;
	if (c->size_wait)
		run(c);
	else
		send_size(c);
}

/* --- life --- */

static void on_creation_timeout(void *arg)
{
	struct command *c = arg;

	c->creation = NULL;
	log_debug("streaming server: the client's streams did not come, ending it");
	conn_close(c->conn);
}

void command_on_gone(struct command *c)
{
	c->conn = NULL;
	loop_timer_cancel(TAKE_PTR(c->creation));
	loop_timer_cancel(TAKE_PTR(c->size_wait));
	/* What it has typed last may still go. */
	if (c->begun)
		write_container(c);
	stop_container(c);
	c->ops->free(c->transport);
	command_unref(c);
}

struct command *command_new(struct conn *conn, struct stream_request *take, int version,
			    const struct command_ops *ops, void *transport)
{
	struct command *c = xnew(struct command);

	c->conn = conn;
	c->s = streaming_ref(conn_streaming(conn));
	c->request = take;
	c->version = version;
	c->ops = ops;
	c->transport = transport;
	c->refs = 1;
	c->fd = -EBADF;
	c->to_container = BUF_INIT(STREAM_BUF_MAX);
	c->creation = loop_timer_start(c->s->config.loop,
				       (uint64_t)(c->s->config.creation_timeout / NSEC_PER_MSEC),
				       on_creation_timeout, c);
	return c;
}
