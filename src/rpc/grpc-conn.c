/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the gRPC server. While the client does not take what has been written, nothing more is
 * read from it: that bounds what a session queues (headers and acknowledgements have no flow
 * control).
 */

#include "rpc/grpc-internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#define READ_SIZE (64 << 10)
#define READS_AT_ONCE 4
#define HANDSHAKE_MS 60000

static void on_poll(uv_poll_t *handle, int status, int events);

static void on_closed(uv_handle_t *handle)
{
	free(CONTAINER_OF(handle, struct grpc_conn, poll));
}

void grpc_conn_close(struct grpc_conn *c)
{
	if (c->closed)
		return;
	c->closed = true;
	list_remove(&c->node);
	c->server->n_conns--;
	loop_timer_cancel(TAKE_PTR(c->handshake));
	uv_poll_stop(&c->poll);
	close(TAKE_FD(c->fd));
	LIST_FOREACH (call, &c->calls, struct grpc_call, node)
		grpc_stream_detach(call);
	nghttp2_session_del(c->session);
	uv_close((uv_handle_t *)&c->poll, on_closed);
}

static void conn_update(struct grpc_conn *c)
{
	int events = c->n_pending > 0 ? UV_WRITABLE : UV_READABLE;

	if (c->closed || events == c->events)
		return;
	c->events = events;
	uv_poll_start(&c->poll, events, on_poll);
}

/* False when the socket takes no more, or is broken (then the connection is closed). */
static bool write_pending(struct grpc_conn *c)
{
	while (c->n_pending > 0) {
		ssize_t n = send(c->fd, c->pending, c->n_pending, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0 || errno != EAGAIN)
				grpc_conn_close(c);
			return false;
		}
		c->pending += n;
		c->n_pending -= (size_t)n;
	}
	return true;
}

void grpc_conn_write(struct grpc_conn *c)
{
	while (!c->closed && write_pending(c)) {
		ssize_t n = nghttp2_session_mem_send(c->session, &c->pending);

		if (n < 0) {
			log_debug("grpc: %s", nghttp2_strerror((int)n));
			grpc_conn_close(c);
			return;
		}
		if (n == 0)
			break;
		c->n_pending = (size_t)n;
	}
	if (!c->closed && c->n_pending == 0 && !nghttp2_session_want_read(c->session) &&
	    !nghttp2_session_want_write(c->session))
		grpc_conn_close(c);
	conn_update(c);
}

static void conn_read(struct grpc_conn *c)
{
	uint8_t bytes[GRPC_FILTER_HEAD + READ_SIZE];

	for (int i = 0; i < READS_AT_ONCE; i++) {
		size_t held = c->filter.n_held;
		ssize_t n = recv(c->fd, bytes + held, READ_SIZE, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n > 0) {
			memcpy(bytes, c->filter.held, held);
			size_t len = grpc_filter_run(&c->filter, bytes, (size_t)n);
			ssize_t used = nghttp2_session_mem_recv(c->session, bytes, len);

			if (used == (ssize_t)len && n < READ_SIZE)
				return;
			if (used == (ssize_t)len)
				continue;
			log_debug("grpc: %s", nghttp2_strerror((int)used));
		}
		grpc_conn_close(c);
		return;
	}
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	struct grpc_conn *c = CONTAINER_OF(handle, struct grpc_conn, poll);

	if (status < 0) {
		grpc_conn_close(c);
		return;
	}
	if (events & UV_READABLE)
		conn_read(c);
	if (!c->closed)
		grpc_conn_write(c);
}

static void on_handshake_timeout(void *arg)
{
	struct grpc_conn *c = arg;

	c->handshake = NULL;
	grpc_conn_close(c);
}

void grpc_conn_greeted(struct grpc_conn *c)
{
	loop_timer_cancel(TAKE_PTR(c->handshake));
}

struct grpc_conn *grpc_conn_new(struct grpc_server *s, int fd)
{
	autoerror struct error err = ERROR_INIT;
	struct grpc_conn *c = xnew(struct grpc_conn);

	c->server = s;
	c->fd = fd;
	list_init(&c->calls);
	list_init(&c->node);
	int r = grpc_session_new(c, &err);
	if (r == 0) {
		r = uv_poll_init(loop_uv(s->loop), &c->poll, fd);
		if (r < 0) {
			error_errno(&err, -r, "poll a socket");
			nghttp2_session_del(c->session);
		}
	}
	if (r < 0) {
		log_warn("cannot take a gRPC connection: %s", error_msg(&err));
		close(fd);
		free(c);
		return NULL;
	}
	c->handshake = loop_timer_start(s->loop, HANDSHAKE_MS, on_handshake_timeout, c);
	conn_update(c);
	return c;
}

/* In two steps (RFC 9113 6.8): calls that were on their way when the first GOAWAY left are still
 * served. The answer to the PING shows that the client has seen it. */
void grpc_conn_drain(struct grpc_conn *c)
{
	nghttp2_submit_shutdown_notice(c->session);
	nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
	c->draining = true;
	grpc_conn_write(c);
}

void grpc_conn_drained(struct grpc_conn *c)
{
	if (!c->draining)
		return;
	c->draining = false;
	nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
			      nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR,
			      NULL, 0);
}

void grpc_conn_flush_post(void *call)
{
	struct grpc_call *c = call;
	struct grpc_conn *conn = c->conn;

	grpc_stream_flush(c);
	if (conn)
		grpc_conn_write(conn);
	grpc_call_release(c);
}
