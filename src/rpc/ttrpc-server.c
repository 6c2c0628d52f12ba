/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting is done by hand rather than with uv_listen(): a connection that is not ttrpc may carry
 * descriptors with its first byte, which libuv's read() would drop. So the first byte is peeked at.
 */

#include "rpc/ttrpc-server.h"

#include "base/fs.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "rpc/protobuf.h"
#include "rpc/ttrpc-conn.h"
#include "ttrpc.pb-c.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#define SERVICES_MAX 8
#define CALLS_MAX 1024
#define CALL_MAGIC 0x7474727063616c6cULL

struct ttrpc_server {
	struct loop *loop;
	const struct ttrpc_service *services[SERVICES_MAX];
	size_t n_services;
	void (*other)(int fd, void *arg);
	void *other_arg;
	struct listener *listener;
	struct list peers;
	struct list sniffers;
	unsigned refs; /* the owner, and one for each peer */
	unsigned n_peers;
};

struct listener {
	uv_poll_t poll;
	struct ttrpc_server *server;
	struct loop_timer *pause;
	int fd;
};

/* A connection that has not yet said what it is. */
struct sniffer {
	uv_poll_t poll;
	struct list node;
	struct ttrpc_server *server;
	int fd;
};

struct peer {
	struct list node;
	struct ttrpc_server *server;
	struct ttrpc_conn *conn;
	struct list calls;
	unsigned n_calls;
	uint32_t last_stream;
};

struct ttrpc_call {
	uint64_t magic;
	struct list node;
	struct peer *peer; /* NULL: the client is gone */
	uint32_t stream;
	struct arena arena;
	Ttrpc__Request *request;
	void (*on_cancel)(struct ttrpc_call *c, void *arg);
	void *cancel_arg;
};

struct ttrpc_server *ttrpc_server_new(struct loop *l)
{
	struct ttrpc_server *s = xnew(struct ttrpc_server);

	s->loop = l;
	s->refs = 1;
	list_init(&s->peers);
	list_init(&s->sniffers);
	return s;
}

static void server_unref(struct ttrpc_server *s)
{
	if (--s->refs == 0)
		free(s);
}

void ttrpc_server_add(struct ttrpc_server *s, const struct ttrpc_service *service)
{
	assert(s->n_services < SERVICES_MAX);
	s->services[s->n_services++] = service;
}

void ttrpc_server_set_other(struct ttrpc_server *s, void (*fn)(int fd, void *arg), void *arg)
{
	s->other = fn;
	s->other_arg = arg;
}

/* Calls */

static void call_free(struct ttrpc_call *c)
{
	if (c->peer)
		c->peer->n_calls--;
	list_remove(&c->node);
	arena_done(&c->arena);
	c->magic = 0;
	free(c);
}

static void send_status(struct peer *p, uint32_t stream, enum error_code code, const char *msg)
{
	Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;

	status.code = (int)code;
	status.message = (char *)(uintptr_t)msg;
	response.status = &status;
	/* A failure here means that the connection is going; there is nobody to tell. */
	ttrpc_conn_send(p->conn, TTRPC_RESPONSE, stream, &response.base, NULL);
}

void ttrpc_call_fail(struct ttrpc_call *c, const struct error *err)
{
	assert(c->magic == CALL_MAGIC);
	if (c->peer)
		send_status(c->peer, c->stream, error_is(err, ERROR_OK) ? ERROR_UNKNOWN : err->code,
			    error_msg(err));
	call_free(c);
}

void ttrpc_call_reply(struct ttrpc_call *c, const ProtobufCMessage *message)
{
	assert(c->magic == CALL_MAGIC);
	if (c->peer) {
		autoerror struct error err = ERROR_INIT;
		Ttrpc__Response response = TTRPC__RESPONSE__INIT;

		response.payload = protobuf_pack(&c->arena, message);
		if (ttrpc_conn_send(c->peer->conn, TTRPC_RESPONSE, c->stream, &response.base,
				    &err) < 0)
			send_status(c->peer, c->stream, err.code, error_msg(&err));
	}
	call_free(c);
}

struct arena *ttrpc_call_arena(struct ttrpc_call *c)
{
	assert(c->magic == CALL_MAGIC);
	return &c->arena;
}

const char *ttrpc_call_metadata(const struct ttrpc_call *c, const char *key)
{
	for (size_t i = 0; i < c->request->n_metadata; i++)
		if (strcmp(c->request->metadata[i]->key, key) == 0)
			return c->request->metadata[i]->value;
	return NULL;
}

void ttrpc_call_on_cancel(struct ttrpc_call *c, void (*fn)(struct ttrpc_call *c, void *arg),
			  void *arg)
{
	assert(c->magic == CALL_MAGIC);
	c->on_cancel = fn;
	c->cancel_arg = arg;
}

static void dispatch(struct ttrpc_server *s, struct ttrpc_call *c)
{
	autoerror struct error err = ERROR_INIT;
	const Ttrpc__Request *r = c->request;
	const struct ttrpc_service *service = NULL;

	for (size_t i = 0; i < s->n_services && !service; i++)
		if (strcmp(s->services[i]->descriptor->name, r->service) == 0)
			service = s->services[i];
	const ProtobufCMethodDescriptor *method =
		service ? protobuf_c_service_descriptor_get_method_by_name(service->descriptor,
									   r->method)
			: NULL;
	ttrpc_handler handler =
		method ? service->handlers[method - service->descriptor->methods] : NULL;
	if (!handler) {
		error_set(&err, ERROR_UNIMPLEMENTED, "/%s/%s is not implemented", r->service,
			  r->method);
		ttrpc_call_fail(c, &err);
		return;
	}
	ProtobufCMessage *m = NULL;
	if (protobuf_unpack(&c->arena, method->input, r->payload.data, r->payload.len, &m, &err) <
	    0) {
		ttrpc_call_fail(c, &err);
		return;
	}
	handler(c, m, service->arg);
}

static void on_request(struct peer *p, const struct ttrpc_frame *f)
{
	autoerror struct error err = ERROR_INIT;
	struct ttrpc_call *c = xnew(struct ttrpc_call);
	ProtobufCMessage *m = NULL;

	c->magic = CALL_MAGIC;
	c->peer = p;
	c->stream = f->stream;
	list_append(&p->calls, &c->node);
	p->n_calls++;
	if (protobuf_unpack(&c->arena, &ttrpc__request__descriptor, f->payload, f->len, &m, &err) <
	    0) {
		ttrpc_call_fail(c, &err);
		return;
	}
	c->request = (Ttrpc__Request *)m;
	dispatch(p->server, c);
}

static void on_frame(void *arg, const struct ttrpc_frame *f)
{
	struct peer *p = arg;

	if (f->too_large) {
		send_status(p, f->stream, ERROR_RESOURCE_EXHAUSTED,
			    "message exceeds the maximum of 4 MiB");
	} else if (f->type == TTRPC_DATA) {
		/* The tail of a stream that was refused: its end has been told already. */
	} else if (f->type != TTRPC_REQUEST) {
		send_status(p, f->stream, ERROR_INVALID_ARGUMENT, "unexpected type of frame");
	} else if (f->stream % 2 == 0 || f->stream <= p->last_stream) {
		send_status(p, f->stream, ERROR_INVALID_ARGUMENT,
			    "stream ids must be odd and increasing");
	} else {
		p->last_stream = f->stream;
		if (f->flags & (TTRPC_REMOTE_OPEN | TTRPC_REMOTE_CLOSED))
			send_status(p, f->stream, ERROR_UNIMPLEMENTED, "no streaming here");
		else if (p->n_calls >= CALLS_MAX)
			send_status(p, f->stream, ERROR_RESOURCE_EXHAUSTED, "too many open calls");
		else
			on_request(p, f);
	}
}

/* Connections */

static void cancel_calls(struct peer *p)
{
	/* on_cancel may reply to its own call, which frees that one: so the walk is safe. */
	LIST_FOREACH (c, &p->calls, struct ttrpc_call, node) {
		list_remove(&c->node);
		c->peer = NULL;
		if (c->on_cancel)
			c->on_cancel(c, c->cancel_arg);
	}
}

static void on_conn_closed(void *arg)
{
	struct peer *p = arg;

	cancel_calls(p);
	list_remove(&p->node);
	p->server->n_peers--;
	server_unref(p->server);
	free(p);
}

static const struct ttrpc_conn_ops peer_ops = {
	.on_frame = on_frame,
	.on_closed = on_conn_closed,
};

static int add_peer(struct ttrpc_server *s, int fd, struct error *err)
{
	struct peer *p = xnew(struct peer);

	p->conn = ttrpc_conn_new(s->loop, fd, &peer_ops, p, err);
	if (!p->conn) {
		free(p);
		return -1;
	}
	p->server = s;
	s->refs++;
	s->n_peers++;
	list_init(&p->calls);
	list_append(&s->peers, &p->node);
	return 0;
}

static int check_peer(int fd, struct error *err)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return error_errno(err, errno, "ask for the peer's user");
	if (cred.uid != geteuid())
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "connection from another user (%u) refused", cred.uid);
	return 0;
}

int ttrpc_server_adopt(struct ttrpc_server *s, int fd, struct error *err)
{
	if (check_peer(fd, err) < 0) {
		close(fd);
		return -1;
	}
	return add_peer(s, fd, err);
}

unsigned ttrpc_server_connections(const struct ttrpc_server *s)
{
	return s->n_peers;
}

/* Listening and sniffing */

static void on_sniffer_closed(uv_handle_t *handle)
{
	struct sniffer *n = handle->data;

	if (n->fd >= 0)
		close(n->fd);
	server_unref(n->server);
	free(n);
}

static void sniffer_close(struct sniffer *n)
{
	list_remove(&n->node);
	uv_close((uv_handle_t *)&n->poll, on_sniffer_closed);
}

static void on_first_byte(uv_poll_t *handle, int status, int events UNUSED)
{
	autoerror struct error err = ERROR_INIT;
	struct sniffer *n = handle->data;
	struct ttrpc_server *s = n->server;
	char first;
	ssize_t got = status < 0 ? -1 : recv(n->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

	if (got < 0 && status == 0 && (errno == EAGAIN || errno == EINTR))
		return;
	uv_poll_stop(handle);
	int fd = got == 1 ? TAKE_FD(n->fd) : -1;
	sniffer_close(n);
	if (fd < 0)
		return;
	if (first != 0)
		s->other(fd, s->other_arg);
	else if (add_peer(s, fd, &err) < 0)
		log_warn("%s", error_msg(&err));
}

static void sniff(struct ttrpc_server *s, int fd)
{
	struct sniffer *n = xnew(struct sniffer);

	n->fd = fd;
	n->server = s;
	if (uv_poll_init(loop_uv(s->loop), &n->poll, fd) < 0) {
		close(fd);
		free(n);
		return;
	}
	n->poll.data = n;
	s->refs++;
	list_append(&s->sniffers, &n->node);
	uv_poll_start(&n->poll, UV_READABLE, on_first_byte);
}

static void on_connection(uv_poll_t *handle, int status, int events);

static void resume_listening(void *arg)
{
	struct listener *l = arg;

	l->pause = NULL;
	uv_poll_start(&l->poll, UV_READABLE, on_connection);
}

static void on_connection(uv_poll_t *handle, int status UNUSED, int events UNUSED)
{
	struct listener *l = handle->data;
	struct ttrpc_server *s = l->server;
	autoerror struct error err = ERROR_INIT;
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* It stays readable: wait a little rather than spin. */
			uv_poll_stop(handle);
			l->pause = loop_timer_start(s->loop, 100, resume_listening, l);
		}
		return;
	}
	if (!s->other) {
		if (ttrpc_server_adopt(s, fd, &err) < 0)
			log_warn("%s", error_msg(&err));
	} else if (check_peer(fd, &err) < 0) {
		log_warn("%s", error_msg(&err));
		close(fd);
	} else {
		sniff(s, fd);
	}
}

static void on_listener_closed(uv_handle_t *handle)
{
	struct listener *l = handle->data;

	close(l->fd);
	free(l);
}

int ttrpc_server_listen(struct ttrpc_server *s, int fd, struct error *err)
{
	assert(!s->listener);
	struct listener *l = xnew(struct listener);

	l->server = s;
	l->fd = fd;
	fs_set_nonblock(fd, true);
	int r = uv_poll_init(loop_uv(s->loop), &l->poll, fd);
	if (r < 0) {
		close(fd);
		free(l);
		return error_errno(err, -r, "listen for ttrpc connections");
	}
	l->poll.data = l;
	s->listener = l;
	uv_poll_start(&l->poll, UV_READABLE, on_connection);
	return 0;
}

void ttrpc_server_free(struct ttrpc_server *s)
{
	if (!s)
		return;
	if (s->listener) {
		loop_timer_cancel(s->listener->pause);
		uv_close((uv_handle_t *)&s->listener->poll, on_listener_closed);
		s->listener = NULL;
	}
	LIST_FOREACH (n, &s->sniffers, struct sniffer, node)
		sniffer_close(n);
	LIST_FOREACH (p, &s->peers, struct peer, node)
		ttrpc_conn_close(p->conn);
	server_unref(s);
}
