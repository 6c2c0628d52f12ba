/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between nghttp2's callbacks and calls. The connection's window is given back as bytes come; a
 * stream's as well, until complete messages wait for a handler that is slower than its client.
 */

#include "rpc/grpc-internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"

#include <assert.h>
#include <string.h>

#define CONNECTION_WINDOW (1 << 20)
#define RESETS_BURST (10 * GRPC_STREAMS_MAX)
#define RESETS_A_SECOND GRPC_STREAMS_MAX
/* Of a status, encoded: what clients take by default (gRPC C: 8 KiB for all trailers). */
#define STATUS_MESSAGE_MAX 6144
#define NV(n, v)                                           \
	((nghttp2_nv){ .name = (uint8_t *)(uintptr_t)(n),  \
		       .value = (uint8_t *)(uintptr_t)(v), \
		       .namelen = strlen(n),               \
		       .valuelen = strlen(v) })

static struct grpc_call *call_of(nghttp2_session *session, int32_t stream)
{
	struct grpc_call *c = nghttp2_session_get_stream_user_data(session, stream);

	assert(!c || c->magic == GRPC_CALL_MAGIC);
	return c;
}

void grpc_stream_detach(struct grpc_call *c)
{
	nghttp2_session_set_stream_user_data(c->conn->session, c->stream, NULL);
	c->conn = NULL;
	list_remove(&c->node);
	loop_timer_cancel(TAKE_PTR(c->deadline));
	grpc_call_cancelled(c, ERROR_CANCELLED, "the client went away");
	if (!c->dispatched) {
		c->dispatched = true;
		grpc_call_unref(c);
	}
	grpc_call_release(c);
}

/* Ends a call for what the client sent. */
static void refuse(struct grpc_call *c, const struct error *err)
{
	grpc_call_cancelled(c, err->code, error_msg(err));
	grpc_deframer_done(&c->in);
	if (!c->dispatched) {
		free(TAKE_PTR(c->request));
		grpc_call_let_go(c, &c->held_in, c->held_in);
		c->dispatched = true;
		grpc_call_unref(c);
	}
}

/* Output. */

static size_t status_fields(struct grpc_call *c, nghttp2_nv nv[2], char code[12],
			    struct buf *message)
{
	snprintf(code, 12, "%d", (int)c->status);
	nv[0] = NV("grpc-status", code);
	if (str_empty(c->status_message))
		return 1;
	grpc_status_message_encode(c->status_message, message);
	nv[1] = NV("grpc-message", message->data);
	return 2;
}

static void submit_trailers(struct grpc_call *c)
{
	autobuf struct buf message = BUF_INIT(STATUS_MESSAGE_MAX);
	nghttp2_nv nv[2];
	char code[12];

	nghttp2_submit_trailer(c->conn->session, c->stream, nv,
			       status_fields(c, nv, code, &message));
}

static ssize_t read_output(nghttp2_session *session, int32_t stream, uint8_t *p, size_t max,
			   uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct grpc_call *c = source->ptr;
	size_t n = MIN(c->sending.len - c->sent, max);

	if (n == 0 && !c->ending)
		return NGHTTP2_ERR_DEFERRED;
	memcpy(p, c->sending.data + c->sent, n);
	c->sent += n;
	if (c->sent == c->sending.len) {
		buf_done(&c->sending);
		c->sent = 0;
	}
	size_t left = c->sending.len - c->sent;
	pthread_mutex_lock(&c->lock);
	grpc_call_let_go(c, &c->held_out, n);
	c->in_flight = left;
	pthread_mutex_unlock(&c->lock);
	if (c->ending && left == 0) {
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		submit_trailers(c);
	}
	grpc_call_signal_drain(c);
	return (ssize_t)n;
}

/* A status and nothing else goes as one block of headers ("Trailers-Only"). */
static void submit_headers(struct grpc_call *c)
{
	autobuf struct buf message = BUF_INIT(STATUS_MESSAGE_MAX);
	nghttp2_data_provider output = { .source.ptr = c, .read_callback = read_output };
	nghttp2_nv nv[5] = { NV(":status", "200"), NV("content-type", "application/grpc") };
	bool only_status = c->ending && c->sending.len == 0;
	size_t n = 2;
	char code[12];

	if (c->refuses_encoding)
		nv[n++] = NV("grpc-accept-encoding", "identity");

	if (only_status)
		n += status_fields(c, nv + n, code, &message);
	c->headers_sent = true;
	nghttp2_submit_response(c->conn->session, c->stream, nv, n, only_status ? NULL : &output);
}

void grpc_stream_flush(struct grpc_call *c)
{
	pthread_mutex_lock(&c->lock);
	c->flush_posted = false;
	if (c->conn) {
		if (c->sent > c->sending.len / 2) {
			buf_consume(&c->sending, c->sent);
			c->sent = 0;
		}
		buf_move(&c->sending, &c->out);
		c->ending = c->finished;
		c->in_flight = c->sending.len - c->sent;
	}
	buf_done(&c->out);
	pthread_mutex_unlock(&c->lock);
	if (!c->conn)
		return;
	if (!c->headers_sent)
		submit_headers(c);
	else
		nghttp2_session_resume_data(c->conn->session, c->stream);
}

void grpc_stream_consumed(struct grpc_call *c)
{
	if (c->conn && c->window > 0)
		nghttp2_session_consume_stream(c->conn->session, c->stream, c->window);
	c->window = 0;
}

/* After our end of the stream the client need not send the rest of its own. */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	int32_t stream = frame->hd.stream_id;

	if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
	    nghttp2_session_get_stream_remote_close(session, stream) == 0)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream, NGHTTP2_NO_ERROR);
	return 0;
}

/* Input. */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct grpc_conn *conn = arg;

	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
		int32_t stream = frame->hd.stream_id;

		nghttp2_session_set_stream_user_data(session, stream, grpc_call_new(conn, stream));
	}
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name_p,
		     size_t name_len, const uint8_t *value_p, size_t value_len, uint8_t flags,
		     void *arg)
{
	struct grpc_call *c = call_of(session, frame->hd.stream_id);
	const char *name = (const char *)name_p, *value = (const char *)value_p;

	if (!c || c->dispatched || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	/* As HPACK counts (RFC 7541 4.1). */
	c->header_bytes += name_len + value_len + 32;
	if (c->header_bytes > GRPC_HEADERS_MAX)
		c->headers_too_large = true;
	if (c->headers_too_large || strlen(name) != name_len || strlen(value) != value_len)
		return 0;
	if (strcmp(name, ":path") == 0)
		str_replace(&c->path, value);
	else if (strcmp(name, ":method") == 0)
		c->is_post = strcmp(value, "POST") == 0;
	else if (strcmp(name, "content-type") == 0)
		c->is_grpc = str_has_prefix(value, "application/grpc") &&
			     (value[16] == '\0' || value[16] == '+' || value[16] == ';');
	else if (strcmp(name, "grpc-timeout") == 0)
		str_replace(&c->timeout, value);
	else if (strcmp(name, "grpc-encoding") == 0 && strcmp(value, "identity") != 0)
		str_replace(&c->encoding, value);
	else if (name[0] != ':')
		kvs_set(&c->metadata, name, value);
	return 0;
}

static void on_deadline(void *arg)
{
	struct grpc_call *c = arg;

	c->deadline = NULL;
	grpc_call_cancelled(c, ERROR_DEADLINE_EXCEEDED, "context deadline exceeded");
}

static int start_deadline(struct grpc_call *c, struct error *err)
{
	int64_t ns;

	if (!c->timeout)
		return 0;
	if (grpc_timeout_parse(c->timeout, &ns) < 0)
		return error_set(err, ERROR_INTERNAL, "malformed grpc-timeout '%s'", c->timeout);
	c->deadline = loop_timer_start(c->server->loop, (uint64_t)(ns / NSEC_PER_MSEC) + 1,
				       on_deadline, c);
	return 0;
}

static int check_headers(struct grpc_call *c, struct error *err)
{
	if (c->headers_too_large)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "headers larger than max (%d)",
				 GRPC_HEADERS_MAX);
	if (c->server->refs > GRPC_CALLS_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "more than %d calls at once",
				 GRPC_CALLS_MAX);
	return 0;
}

static int check_encoding(struct grpc_call *c, struct error *err)
{
	if (str_empty(c->encoding))
		return 0;
	c->refuses_encoding = true;
	return error_set(err, ERROR_UNIMPLEMENTED,
			 "grpc: Decompressor is not installed for grpc-encoding \"%s\"",
			 c->encoding);
}

/* Something that is no gRPC request: an answer in plain HTTP. */
static void reply_http(struct grpc_call *c, const char *status)
{
	nghttp2_nv nv = NV(":status", status);

	pthread_mutex_lock(&c->lock);
	c->finished = true;
	pthread_mutex_unlock(&c->lock);
	c->headers_sent = true;
	c->dispatched = true;
	nghttp2_submit_response(c->conn->session, c->stream, &nv, 1, NULL);
	grpc_call_unref(c);
}

static void begin(struct grpc_call *c)
{
	autoerror struct error err = ERROR_INIT;

	if (check_headers(c, &err) < 0)
		refuse(c, &err);
	else if (!c->is_post)
		reply_http(c, "405");
	else if (!c->is_grpc)
		reply_http(c, "415");
	else if (grpc_server_resolve(c, &err) < 0 || check_encoding(c, &err) < 0 ||
		 start_deadline(c, &err) < 0)
		refuse(c, &err);
}

static bool is_finished(struct grpc_call *c)
{
	pthread_mutex_lock(&c->lock);
	bool finished = c->finished;
	pthread_mutex_unlock(&c->lock);
	return finished;
}

static void end_of_request(struct grpc_call *c)
{
	autoerror struct error err = ERROR_INIT;

	c->remote_end = true;
	if (is_finished(c))
		return;
	if (!grpc_deframer_is_empty(&c->in)) {
		error_set(&err, ERROR_INTERNAL, "the request ends within a message");
		refuse(c, &err);
	} else if (c->dispatched) {
		grpc_call_deliver(c);
	} else if (!c->method->client_streams && !c->has_request) {
		error_set(&err, ERROR_INTERNAL, "the request has no message");
		refuse(c, &err);
	} else {
		grpc_call_dispatch(c);
	}
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct grpc_conn *conn = arg;

	if (frame->hd.type == NGHTTP2_SETTINGS)
		grpc_conn_greeted(conn);
	if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK))
		grpc_conn_drained(conn);
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	struct grpc_call *c = call_of(session, frame->hd.stream_id);
	if (!c)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		begin(c);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		end_of_request(c);
	return 0;
}

/* d->message is complete. */
static int take_message(struct grpc_call *c, struct error *err)
{
	size_t len = c->in.message.len;
	char *data = buf_steal(&c->in.message, NULL);

	if (!c->has_request && !c->dispatched) {
		c->has_request = true;
		c->request = data;
		c->request_len = len;
		if (c->method->streaming)
			grpc_call_dispatch(c);
		return 0;
	}
	if (!c->method->client_streams) {
		free(data);
		return error_set(err, ERROR_INTERNAL, "the request has more than one message");
	}
	struct grpc_message *m = xnew(struct grpc_message);
	m->data = data;
	m->len = len;
	list_append(&c->messages, &m->node);
	return 0;
}

static void receive(struct grpc_call *c, const uint8_t *p, size_t n)
{
	autoerror struct error err = ERROR_INIT;
	enum grpc_frame_result r;

	if (!grpc_call_hold(c, &c->held_in, n)) {
		error_set(&err, ERROR_RESOURCE_EXHAUSTED, "too much waits to be handled");
		refuse(c, &err);
		return;
	}
	while ((r = grpc_deframer_feed(&c->in, &p, &n, &err)) == GRPC_FRAME_MESSAGE) {
		if (take_message(c, &err) < 0) {
			r = GRPC_FRAME_ERROR;
			break;
		}
	}
	if (r == GRPC_FRAME_ERROR)
		refuse(c, &err);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *p,
		   size_t n, void *arg)
{
	struct grpc_call *c = call_of(session, stream);

	nghttp2_session_consume_connection(session, n);
	if (c && !is_finished(c)) {
		receive(c, p, n);
		grpc_call_deliver(c);
		if (!list_is_empty(&c->messages) && !is_finished(c)) {
			c->window += n;
			return 0;
		}
	}
	nghttp2_session_consume_stream(session, stream, n);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error_code, void *arg)
{
	struct grpc_call *c = call_of(session, stream);

	if (c)
		grpc_stream_detach(c);
	return 0;
}

static nghttp2_session_callbacks *make_callbacks(void)
{
	nghttp2_session_callbacks *cb = NULL;

	if (nghttp2_session_callbacks_new(&cb) != 0)
		abort();
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	return cb;
}

int grpc_session_new(struct grpc_conn *c, struct error *err)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, GRPC_STREAMS_MAX },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GRPC_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GRPC_HEADERS_MAX },
	};
	nghttp2_session_callbacks *callbacks = make_callbacks();
	nghttp2_option *option = NULL;

	if (nghttp2_option_new(&option) != 0)
		abort();
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	/* Against floods of resets (CVE-2023-44487). What they could make is bounded by
	 * GRPC_CALLS_MAX, so this need not hit who cancels a few hundred watches at once. */
	nghttp2_option_set_stream_reset_rate_limit(option, RESETS_BURST, RESETS_A_SECOND);
	int r = nghttp2_session_server_new2(&c->session, callbacks, c, option);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	if (r != 0)
		return error_set(err, ERROR_INTERNAL, "make an HTTP/2 session: %s",
				 nghttp2_strerror(r));
	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
	nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
	return 0;
}
