/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls as their handlers see them. Messages are packed by whichever thread sends them, into c->out
 * under the call's lock; a post tells the connection to take them. A status ends a call for its
 * users at once: what they send later goes nowhere.
 */

#include "rpc/grpc-internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "rpc/protobuf-wire.h"
#include "rpc/protobuf.h"

#include <assert.h>
#include <string.h>

struct grpc_call *grpc_call_new(struct grpc_conn *conn, int32_t stream)
{
	struct grpc_call *c = xnew(struct grpc_call);

	c->magic = GRPC_CALL_MAGIC;
	c->refs = 2; /* the stream's, and one for all users together */
	c->users = 1;
	c->server = conn->server;
	c->server->refs++;
	c->conn = conn;
	c->stream = stream;
	c->metadata = KVS_INIT;
	c->arena = ARENA_INIT;
	c->allocator = protobuf_allocator(&c->arena);
	grpc_deframer_init(&c->in);
	list_init(&c->messages);
	list_append(&conn->calls, &c->node);
	c->sending = BUF_INIT(BUF_NO_LIMIT); /* grpc_call_send() bounds it */
	c->out = BUF_INIT(GRPC_SEND_MAX);
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

bool grpc_call_hold(struct grpc_call *c, size_t *held, size_t n)
{
	if (atomic_fetch_add(&c->server->held, n) + n > GRPC_HELD_MAX) {
		c->server->held -= n;
		return false;
	}
	*held += n;
	return true;
}

void grpc_call_let_go(struct grpc_call *c, size_t *held, size_t n)
{
	assert(n <= *held);
	*held -= n;
	c->server->held -= n;
}

static void drop_messages(struct grpc_call *c)
{
	LIST_FOREACH (m, &c->messages, struct grpc_message, node) {
		list_remove(&m->node);
		grpc_call_let_go(c, &c->held_in, GRPC_PREFIX + m->len);
		free(m->data);
		free(m);
	}
}

void grpc_call_release(struct grpc_call *c)
{
	assert(c->magic == GRPC_CALL_MAGIC);
	if (--c->refs > 0)
		return;
	assert(!c->conn);
	c->magic = 0;
	drop_messages(c);
	grpc_pull_free(c->pull);
	c->server->held -= c->held_in + c->held_out;
	grpc_deframer_done(&c->in);
	buf_done(&c->sending);
	buf_done(&c->out);
	kvs_done(&c->metadata);
	arena_done(&c->arena);
	cancel_unref(c->cancel);
	pthread_mutex_destroy(&c->lock);
	free(c->path);
	free(c->timeout);
	free(c->encoding);
	free(c->request);
	free(c->status_message);
	grpc_server_unref(c->server);
	free(c);
}

struct grpc_call *grpc_call_ref(struct grpc_call *c)
{
	assert(c->magic == GRPC_CALL_MAGIC && c->users > 0);
	c->users++;
	return c;
}

void grpc_call_unref(struct grpc_call *c)
{
	static const struct error err = { .code = ERROR_INTERNAL,
					  .msg = (char *)(uintptr_t) "the call got no answer" };

	if (!c)
		return;
	assert(c->magic == GRPC_CALL_MAGIC && c->users > 0);
	if (--c->users > 0)
		return;
	grpc_call_finish(c, &err);
	grpc_call_release(c);
}

/* With the lock held. */
static void post_flush(struct grpc_call *c)
{
	if (c->flush_posted)
		return;
	c->flush_posted = true;
	c->refs++;
	loop_post(c->server->loop, grpc_conn_flush_post, c);
}

/* With the lock held. */
static void set_status(struct grpc_call *c, enum error_code code, const char *message)
{
	c->finished = true;
	c->status = code;
	c->status_message = xstrdup(message);
	c->on_drain = NULL;
	c->on_cancel = NULL;
	c->on_message = NULL;
	grpc_pull_wake(c);
	post_flush(c);
}

void grpc_call_finish(struct grpc_call *c, const struct error *err)
{
	pthread_mutex_lock(&c->lock);
	if (!c->finished)
		set_status(c, err ? err->code : ERROR_OK, err ? error_msg(err) : "");
	pthread_mutex_unlock(&c->lock);
}

static int refuse_large(struct grpc_call *c, size_t len)
{
	autoerror struct error err = ERROR_INIT;

	error_set(&err, ERROR_RESOURCE_EXHAUSTED,
		  "grpc: trying to send message larger than max (%zu vs. %d)", len,
		  GRPC_MESSAGE_MAX);
	log_warn("%s: %s", c->path, error_msg(&err));
	grpc_call_finish(c, &err);
	return -1;
}

static void pack(const ProtobufCMessage *m, size_t len, struct buf *out)
{
	grpc_frame_prefix(out, len);
	buf_reserve(out, len);
	protobuf_c_message_pack(m, (uint8_t *)out->data + out->len);
	protobuf_repair(m->descriptor, out->data + out->len, len);
	buf_advance(out, len);
}

int grpc_call_send(struct grpc_call *c, const ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	int result = -1;

	if (len > GRPC_MESSAGE_MAX)
		return refuse_large(c, len);
	autobuf struct buf framed = BUF_INIT(GRPC_SEND_MAX);
	pack(m, len, &framed);
	pthread_mutex_lock(&c->lock);
	if (!c->finished && !c->cancelled) {
		if (c->in_flight + c->out.len + len > GRPC_SEND_MAX ||
		    !grpc_call_hold(c, &c->held_out, framed.len) || buf_move(&c->out, &framed) < 0)
			set_status(c, ERROR_RESOURCE_EXHAUSTED, "too much waits for the client");
		else
			result = c->in_flight + c->out.len > GRPC_SEND_HIGH;
		post_flush(c);
	}
	pthread_mutex_unlock(&c->lock);
	return result;
}

static void fail(struct grpc_call *c, const struct error *err)
{
	if (err->code == ERROR_INTERNAL || err->code == ERROR_UNKNOWN)
		log_err("%s: %s", c->path, error_msg(err));
	else
		log_debug("%s: %s", c->path, error_msg(err));
	grpc_call_finish(c, err);
}

static int run_unary(struct grpc_call *c, const ProtobufCMessage *request, struct error *err)
{
	const ProtobufCMessageDescriptor *type = c->descriptor->output;
	ProtobufCMessage *reply = arena_alloc(&c->arena, type->sizeof_message);

	type->message_init(reply);
	if (c->method->unary(c, request, reply, err) < 0)
		return -1;
	grpc_call_send(c, reply);
	grpc_call_finish(c, NULL);
	log_debug("%s: ok", c->path);
	return 0;
}

int grpc_call_decode(struct arena *a, const ProtobufCMessageDescriptor *d, const char *p,
		     size_t len, ProtobufCMessage **ret, struct error *err)
{
	if (protobuf_check(d, p, len, GRPC_UNPACKED_MAX, err) < 0)
		return -1;
	return protobuf_unpack(a, d, p, len, ret, err);
}

static void run_handler(void *arg)
{
	struct grpc_call *c = arg;
	autoerror struct error err = ERROR_INIT;
	ProtobufCMessage *request = NULL;
	int r = 0;

	if (c->has_request)
		r = grpc_call_decode(&c->arena, c->descriptor->input, c->request, c->request_len,
				     &request, &err);
	free(TAKE_PTR(c->request));
	if (r == 0 && c->method->unary)
		r = run_unary(c, request, &err);
	else if (r == 0)
		r = c->method->streaming(c, request, &err);
	if (r < 0)
		fail(c, &err);
	grpc_call_unref(c);
}

void grpc_call_dispatch(struct grpc_call *c)
{
	assert(!c->dispatched);
	c->dispatched = true;
	job_submit(c->server->jobs, c->method->pool, run_handler, NULL, c);
}

void grpc_call_cancelled(struct grpc_call *c, enum error_code status, const char *why)
{
	void (*fn)(void *arg) = NULL;

	pthread_mutex_lock(&c->lock);
	void *arg = c->cancel_arg;
	if (!c->finished) {
		fn = c->on_cancel;
		c->cancelled = true;
		cancel_trigger(c->cancel);
		set_status(c, status, why);
	}
	pthread_mutex_unlock(&c->lock);
	drop_messages(c);
	if (fn)
		fn(arg);
}

static void call_cancel(void *arg)
{
	struct grpc_call *c = arg;

	pthread_mutex_lock(&c->lock);
	void (*fn)(void *arg) = TAKE_PTR(c->on_cancel);
	pthread_mutex_unlock(&c->lock);
	if (fn)
		fn(c->cancel_arg);
	grpc_call_release(c);
}

void grpc_call_on_cancel(struct grpc_call *c, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&c->lock);
	if (c->cancelled || !c->finished) {
		c->on_cancel = fn;
		c->cancel_arg = arg;
	}
	if (fn && c->cancelled) {
		c->refs++;
		loop_post(c->server->loop, call_cancel, c);
	}
	pthread_mutex_unlock(&c->lock);
}

struct cancel *grpc_call_cancel(struct grpc_call *c)
{
	pthread_mutex_lock(&c->lock);
	if (!c->cancel) {
		c->cancel = cancel_new();
		if (c->cancelled)
			cancel_trigger(c->cancel);
	}
	pthread_mutex_unlock(&c->lock);
	return c->cancel;
}

void grpc_call_signal_drain(struct grpc_call *c)
{
	void (*fn)(void *arg) = NULL;

	pthread_mutex_lock(&c->lock);
	void *arg = c->drain_arg;
	if (c->in_flight + c->out.len <= GRPC_SEND_HIGH / 2)
		fn = TAKE_PTR(c->on_drain);
	pthread_mutex_unlock(&c->lock);
	if (fn)
		fn(arg);
}

static void call_drain(void *arg)
{
	struct grpc_call *c = arg;

	grpc_call_signal_drain(c);
	grpc_call_release(c);
}

void grpc_call_on_drain(struct grpc_call *c, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&c->lock);
	if (!c->finished) {
		c->on_drain = fn;
		c->drain_arg = arg;
		c->refs++;
		loop_post(c->server->loop, call_drain, c);
	}
	pthread_mutex_unlock(&c->lock);
}

/* One message to fn; its memory lives as long as the call of fn. */
static int deliver_one(struct grpc_call *c, struct grpc_message *m,
		       void (*fn)(struct grpc_call *c, const ProtobufCMessage *m, void *arg))
{
	autoerror struct error err = ERROR_INIT;
	autoarena struct arena arena = ARENA_INIT;
	ProtobufCMessage *message;
	int r = grpc_call_decode(&arena, c->descriptor->input, m->data, m->len, &message, &err);

	grpc_call_let_go(c, &c->held_in, GRPC_PREFIX + m->len);
	free(m->data);
	free(m);
	if (r == 0)
		fn(c, message, c->message_arg);
	else
		fail(c, &err);
	return r;
}

void grpc_call_deliver(struct grpc_call *c)
{
	grpc_pull_deliver(c);
	for (;;) {
		pthread_mutex_lock(&c->lock);
		void (*fn)(struct grpc_call *, const ProtobufCMessage *, void *) = c->on_message;
		pthread_mutex_unlock(&c->lock);
		if (!fn || c->end_told)
			return;
		if (list_is_empty(&c->messages)) {
			grpc_stream_consumed(c);
			if (!c->remote_end)
				return;
			c->end_told = true;
			fn(c, NULL, c->message_arg);
			return;
		}
		struct grpc_message *m = LIST_ENTRY(c->messages.next, struct grpc_message, node);
		list_remove(&m->node);
		if (deliver_one(c, m, fn) < 0)
			return;
	}
}

static void call_deliver(void *arg)
{
	struct grpc_call *c = arg;

	grpc_call_deliver(c);
	if (c->conn)
		grpc_conn_write(c->conn);
	grpc_call_release(c);
}

void grpc_call_on_message(struct grpc_call *c,
			  void (*fn)(struct grpc_call *c, const ProtobufCMessage *m, void *arg),
			  void *arg)
{
	pthread_mutex_lock(&c->lock);
	if (!c->finished) {
		c->on_message = fn;
		c->message_arg = arg;
		c->refs++;
		loop_post(c->server->loop, call_deliver, c);
	}
	pthread_mutex_unlock(&c->lock);
}

void *grpc_call_arg(const struct grpc_call *c)
{
	return c->service->arg ? c->service->arg : c->server->arg;
}

struct arena *grpc_call_arena(struct grpc_call *c)
{
	return &c->arena;
}

ProtobufCAllocator *grpc_call_allocator(struct grpc_call *c)
{
	return &c->allocator;
}

const char *grpc_call_metadata(const struct grpc_call *c, const char *key)
{
	return kvs_get(&c->metadata, key);
}
