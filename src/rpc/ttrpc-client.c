/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any thread may take a reference; they are only dropped on the loop. When the last one goes, an
 * open connection is closed first and its close callback frees the client.
 */

#include "rpc/ttrpc-client.h"

#include "base/list.h"
#include "base/mem.h"
#include "rpc/protobuf.h"
#include "rpc/ttrpc-conn.h"
#include "ttrpc.pb-c.h"

#include <assert.h>
#include <semaphore.h>
#include <stdatomic.h>

struct ttrpc_client {
	atomic_uint refs;
	atomic_bool closed;
	struct loop *loop;
	struct ttrpc_conn *conn; /* NULL once closed */
	char *ns;
	uint32_t next_stream;
	struct list calls;
	void (*on_close)(void *arg);
	void *on_close_arg;
};

struct client_call {
	struct list node;
	struct ttrpc_client *client;
	uint32_t stream;
	struct loop_timer *timer;
	ttrpc_done done;
	void *arg;
	struct error failed; /* before it was sent */
};

static void call_finish(struct client_call *call, const struct error *err, const void *payload,
			size_t len)
{
	list_remove(&call->node);
	loop_timer_cancel(call->timer);
	call->done(err, payload, len, call->arg);
	error_done(&call->failed);
	free(call);
}

static void put(struct ttrpc_client *c)
{
	if (--c->refs > 0)
		return;
	if (c->conn) {
		ttrpc_client_close(c);
		return;
	}
	assert(list_is_empty(&c->calls));
	free(c->ns);
	free(c);
}

static struct client_call *find_call(struct ttrpc_client *c, uint32_t stream)
{
	LIST_FOREACH (call, &c->calls, struct client_call, node)
		if (call->stream == stream)
			return call;
	return NULL;
}

static void on_frame(void *arg, const struct ttrpc_frame *f)
{
	autoerror struct error err = ERROR_INIT;
	autoarena struct arena arena = ARENA_INIT;
	struct client_call *call = find_call(arg, f->stream);
	ProtobufCMessage *m = NULL;

	/* None: it timed out before. */
	if (!call || f->type != TTRPC_RESPONSE)
		return;
	if (f->too_large) {
		error_set(&err, ERROR_RESOURCE_EXHAUSTED, "response exceeds the maximum of 4 MiB");
		call_finish(call, &err, NULL, 0);
		return;
	}
	if (protobuf_unpack(&arena, &ttrpc__response__descriptor, f->payload, f->len, &m, &err) <
	    0) {
		call_finish(call, &err, NULL, 0);
		return;
	}
	const Ttrpc__Response *r = (Ttrpc__Response *)m;
	if (r->status && r->status->code != 0) {
		error_set(&err,
			  r->status->code > 0 && r->status->code < ERROR_CODE_MAX
				  ? (enum error_code)r->status->code
				  : ERROR_UNKNOWN,
			  "%s", r->status->message);
		call_finish(call, &err, NULL, 0);
		return;
	}
	call_finish(call, NULL, r->payload.data, r->payload.len);
}

static void on_closed(void *arg)
{
	autoerror struct error err = ERROR_INIT;
	struct ttrpc_client *c = arg;

	c->refs++;
	c->closed = true;
	c->conn = NULL;
	error_set(&err, ERROR_UNAVAILABLE, "ttrpc: closed");
	/* Those that failed before they were sent have a post on its way. */
	LIST_FOREACH (call, &c->calls, struct client_call, node)
		if (error_is(&call->failed, ERROR_OK))
			call_finish(call, &err, NULL, 0);
	if (c->on_close)
		c->on_close(c->on_close_arg);
	put(c);
}

static const struct ttrpc_conn_ops client_ops = {
	.on_frame = on_frame,
	.on_closed = on_closed,
};

struct ttrpc_client *ttrpc_client_new(struct loop *l, int fd, const char *ns, struct error *err)
{
	struct ttrpc_client *c = xnew(struct ttrpc_client);

	c->conn = ttrpc_conn_new(l, fd, &client_ops, c, err);
	if (!c->conn) {
		free(c);
		return NULL;
	}
	c->refs = 1;
	c->loop = l;
	c->ns = xstrdup(ns);
	c->next_stream = 1;
	list_init(&c->calls);
	return c;
}

struct ttrpc_client *ttrpc_client_ref(struct ttrpc_client *c)
{
	c->refs++;
	return c;
}

void ttrpc_client_close(struct ttrpc_client *c)
{
	assert(loop_is_current(c->loop));
	c->on_close = NULL;
	c->closed = true;
	if (c->conn)
		ttrpc_conn_close(c->conn);
}

static void drop(void *arg)
{
	put(arg);
}

void ttrpc_client_unref(struct ttrpc_client *c)
{
	if (c)
		loop_post(c->loop, drop, c);
}

void ttrpc_client_on_close(struct ttrpc_client *c, void (*fn)(void *arg), void *arg)
{
	assert(loop_is_current(c->loop));
	c->on_close = fn;
	c->on_close_arg = arg;
}

bool ttrpc_client_is_closed(const struct ttrpc_client *c)
{
	return c->closed;
}

static void on_timeout(void *arg)
{
	autoerror struct error err = ERROR_INIT;
	struct client_call *call = arg;

	call->timer = NULL;
	error_set(&err, ERROR_DEADLINE_EXCEEDED, "ttrpc: no answer in time");
	call_finish(call, &err, NULL, 0);
}

static void report_failed(void *arg)
{
	struct client_call *call = arg;
	struct ttrpc_client *c = call->client;

	call_finish(call, &call->failed, NULL, 0);
	put(c);
}

static int send_request(struct ttrpc_client *c, uint32_t stream, const char *service,
			const char *method, ProtobufCBinaryData payload, int timeout_ms,
			struct error *err)
{
	Ttrpc__Request r = TTRPC__REQUEST__INIT;
	Ttrpc__KeyValue ns = TTRPC__KEY_VALUE__INIT;
	Ttrpc__KeyValue *metadata[] = { &ns };

	if (!c->conn || c->closed)
		return error_set(err, ERROR_UNAVAILABLE, "ttrpc: closed");
	r.service = (char *)(uintptr_t)service;
	r.method = (char *)(uintptr_t)method;
	r.payload = payload;
	if (timeout_ms > 0)
		r.timeout_nano = timeout_ms * 1000000LL;
	if (c->ns) {
		ns.key = (char *)(uintptr_t) "containerd-namespace-ttrpc";
		ns.value = c->ns;
		r.metadata = metadata;
		r.n_metadata = 1;
	}
	return ttrpc_conn_send(c->conn, TTRPC_REQUEST, stream, &r.base, err);
}

static void start_call(struct ttrpc_client *c, const char *service, const char *method,
		       ProtobufCBinaryData payload, int timeout_ms, ttrpc_done done, void *arg)
{
	assert(loop_is_current(c->loop));
	struct client_call *call = xnew(struct client_call);

	call->client = c;
	call->stream = c->next_stream;
	call->done = done;
	call->arg = arg;
	c->next_stream += 2;
	list_append(&c->calls, &call->node);
	if (send_request(c, call->stream, service, method, payload, timeout_ms, &call->failed) <
	    0) {
		loop_post(c->loop, report_failed, call);
		c->refs++;
	} else if (timeout_ms > 0) {
		call->timer = loop_timer_start(c->loop, (uint64_t)timeout_ms, on_timeout, call);
	}
}

void ttrpc_client_call_async(struct ttrpc_client *c, const char *service, const char *method,
			     const ProtobufCMessage *request, int timeout_ms, ttrpc_done done,
			     void *arg)
{
	autoarena struct arena arena = ARENA_INIT;

	start_call(c, service, method, protobuf_pack(&arena, request), timeout_ms, done, arg);
}

/* A thread waits; everything lives on its stack and in its arena. */
struct blocking_call {
	struct ttrpc_client *client;
	const char *service, *method;
	ProtobufCBinaryData request;
	int timeout_ms;
	struct buf response;
	struct error err;
	sem_t done;
};

static void on_blocking_done(const struct error *err, const void *payload, size_t len, void *arg)
{
	struct blocking_call *b = arg;

	if (err)
		error_set(&b->err, err->code, "%s", error_msg(err));
	else
		buf_append(&b->response, payload, len);
	sem_post(&b->done);
}

static void start_blocking(void *arg)
{
	struct blocking_call *b = arg;

	start_call(b->client, b->service, b->method, b->request, b->timeout_ms, on_blocking_done,
		   b);
}

int ttrpc_client_call(struct ttrpc_client *c, const char *service, const char *method,
		      const ProtobufCMessage *request, int timeout_ms,
		      const ProtobufCMessageDescriptor *type, struct arena *arena,
		      ProtobufCMessage **ret, struct error *err)
{
	assert(!loop_is_current(c->loop));
	autoarena struct arena scratch = ARENA_INIT;
	struct blocking_call b = {
		.client = c,
		.service = service,
		.method = method,
		.request = protobuf_pack(&scratch, request),
		.timeout_ms = timeout_ms,
		.response = BUF_INIT(TTRPC_PAYLOAD_MAX),
		.err = ERROR_INIT,
	};

	sem_init(&b.done, 0, 0);
	loop_post(c->loop, start_blocking, &b);
	while (sem_wait(&b.done) < 0)
		;
	sem_destroy(&b.done);

	autobuf struct buf response = b.response;
	if (b.err.code != ERROR_OK)
		return error_move(err, &b.err);
	if (!ret)
		return 0;
	return protobuf_unpack(arena, type, response.data, response.len, ret, err);
}
