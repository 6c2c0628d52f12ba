/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/test-grpc-client.h"

#include "grpc.health.v1.pb-c.h"

typedef Grpc__Health__V1__HealthCheckRequest text_message; /* one string */

struct fixture fixture;

/*
 * A service of our own behind Health's descriptor, under another name: Check is unary and does what
 * the request's text says; Watch streams.
 */
static int do_check(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *reply,
		    struct error *err)
{
	const char *text = ((const text_message *)m)->service;

	assert_ptr_equal(grpc_call_arg(c), &fixture);
	if (strcmp(text, "fail") == 0)
		return error_set(err, ERROR_ALREADY_EXISTS, "100%% \xc3\xbc\n");
	if (strcmp(text, "metadata") == 0)
		assert_string_equal(grpc_call_metadata(c, "containerd-namespace"), "k8s.io");
	if (strcmp(text, "wait") == 0) {
		struct pollfd p = { .fd = cancel_fd(grpc_call_cancel(c)), .events = POLLIN };

		assert_int_equal(poll(&p, 1, 5000), 1);
		sem_post(&fixture.done);
	}
	((Grpc__Health__V1__HealthCheckResponse *)reply)->status = (int)strlen(text);
	return 0;
}

static void on_message(struct grpc_call *c, const ProtobufCMessage *m, void *arg)
{
	assert_true(loop_is_current(fixture.loop));
	if (m) {
		grpc_call_send(c, m);
		return;
	}
	grpc_call_finish(c, NULL);
	grpc_call_unref(c);
}

static void flood(void *arg)
{
	text_message m = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	autofree char *text = xmalloc(10001);
	int r = 0;

	memset(text, 'x', 10000);
	text[10000] = '\0';
	m.service = text;
	while (r == 0 && fixture.sent < 400) {
		r = grpc_call_send(arg, &m.base);
		fixture.sent++;
	}
	if (r == 1 && fixture.sent < 400) {
		grpc_call_on_drain(arg, flood, arg);
		return;
	}
	grpc_call_finish(arg, NULL);
	grpc_call_unref(arg);
}

static void on_cancel(void *arg)
{
	grpc_call_unref(arg);
	sem_post(&fixture.done);
}

static void send_text(struct grpc_call *c, const char *text)
{
	text_message m = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	m.service = (char *)(uintptr_t)text;
	grpc_call_send(c, &m.base);
}

static void send_large(struct grpc_call *c, size_t n)
{
	autofree char *text = xmalloc(n + 1);

	memset(text, 'x', n);
	text[n] = '\0';
	send_text(c, text);
	grpc_call_finish(c, NULL);
}

/* Echoes on its own thread, until the end. */
static int read_all(struct grpc_call *c, struct error *err)
{
	int r;

	do {
		autoarena struct arena a = ARENA_INIT;
		ProtobufCMessage *m;

		r = grpc_call_read(c, &a, &m, err);
		if (r > 0)
			grpc_call_send(c, m);
	} while (r > 0);
	if (r == 0)
		grpc_call_finish(c, NULL);
	else
		sem_post(&fixture.done);
	return r;
}

static int do_watch(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const char *text = m ? ((const text_message *)m)->service : "none";

	if (strcmp(text, "echo") == 0) {
		grpc_call_on_message(c, on_message, grpc_call_ref(c));
	} else if (strcmp(text, "read") == 0) {
		return read_all(c, err);
	} else if (strcmp(text, "slow") == 0) {
		sem_wait(&fixture.done);
		grpc_call_on_message(c, on_message, grpc_call_ref(c));
	} else if (strcmp(text, "flood") == 0) {
		flood(grpc_call_ref(c));
	} else if (strcmp(text, "cancel") == 0) {
		grpc_call_on_cancel(c, on_cancel, grpc_call_ref(c));
	} else if (strcmp(text, "bytes") == 0) {
		send_text(c, "a\xff\xc3\xbc\xed\xa0\x80z");
		return error_set(err, ERROR_NOT_FOUND, "no \xff\xc3\xbc");
	} else if (strcmp(text, "largest") == 0) {
		send_large(c, GRPC_MESSAGE_MAX - 5);
	} else if (strcmp(text, "too large") == 0) {
		send_large(c, GRPC_MESSAGE_MAX - 4);
	} else if (strcmp(text, "long error") == 0) {
		autofree char *long_text = xmalloc(100001);

		memset(long_text, '%', 100000);
		long_text[100000] = '\0';
		return error_set(err, ERROR_ABORTED, "%s", long_text);
	} else if (strcmp(text, "none") == 0) {
		grpc_call_finish(c, NULL);
	}
	return 0;
}

static ProtobufCServiceDescriptor test_descriptor;
static const struct grpc_method test_methods[] = {
	{ "Check", .unary = do_check },
	{ "Watch", .streaming = do_watch, .pool = JOB_TRANSFER, .client_streams = true },
	{ NULL },
};
static const struct grpc_service test_service = { &test_descriptor, test_methods, NULL };

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

int grpc_fixture_setup(void **state)
{
	struct fixture *f = &fixture;

	test_descriptor = grpc__health__v1__health__descriptor;
	test_descriptor.name = "test.Test";
	sem_init(&f->done, 0, 0);
	f->sent = 0;
	f->loop = loop_new(NULL);
	f->jobs = jobs_new(f->loop);
	f->server = grpc_server_new(f->loop, f->jobs, f, NULL);
	grpc_server_add(f->server, &test_service);
	f->health = grpc_health_new(f->server, f->loop);
	*state = f;
	return pthread_create(&f->thread, NULL, run_loop, f->loop);
}

int grpc_fixture_teardown(void **state)
{
	struct fixture *f = *state;

	loop_stop(f->loop);
	pthread_join(f->thread, NULL);
	grpc_server_free(f->server);
	jobs_free(f->jobs);
	loop_free(f->loop);
	grpc_health_free(f->health);
	return 0;
}

/* The client. */

struct stream *client_stream(struct client *c, int32_t id)
{
	assert_true(id > 0 && id / 2 < STREAMS);
	return &c->streams[id / 2];
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *arg)
{
	struct stream *s = client_stream(arg, frame->hd.stream_id);
	const char *n = (const char *)name;

	if (strcmp(n, ":status") == 0)
		memcpy(s->http_status, value, 3);
	else if (strcmp(n, "grpc-status") == 0)
		memcpy(s->status, value, MIN(value_len, sizeof(s->status) - 1));
	else if (strcmp(n, "grpc-message") == 0)
		memcpy(s->message, value, MIN(value_len, sizeof(s->message) - 1));
	else if (strcmp(n, "grpc-accept-encoding") == 0)
		memcpy(s->accept_encoding, value, MIN(value_len, sizeof(s->accept_encoding) - 1));
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
		   void *arg)
{
	struct stream *s = client_stream(arg, id);

	while (grpc_deframer_feed(&s->in, &p, &n, NULL) == GRPC_FRAME_MESSAGE) {
		s->n_messages++;
		s->n_bytes += s->in.message.len;
		if (s->messages.n < 100)
			strv_take(&s->messages, buf_steal(&s->in.message, NULL));
		buf_clear(&s->in.message);
	}
	return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	client_stream(arg, id)->closed = true;
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct client *c = arg;

	if (frame->hd.type == NGHTTP2_GOAWAY)
		c->goaways++;
	if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK))
		c->pings++;
	return 0;
}

static void adopt(void *arg)
{
	grpc_server_adopt(fixture.server, (int)(intptr_t)arg);
}

int grpc_fixture_connect(void)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	loop_post(fixture.loop, adopt, (void *)(intptr_t)fds[1]);
	return fds[0];
}

struct client *client_new(void)
{
	struct client *c = xnew(struct client);
	nghttp2_session_callbacks *cb;
	nghttp2_option *option;

	c->fd = grpc_fixture_connect();
	for (int i = 0; i < STREAMS; i++) {
		c->streams[i].request = BUF_INIT(BUF_NO_LIMIT);
		grpc_deframer_init(&c->streams[i].in);
	}
	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_option_new(&option);
	nghttp2_option_set_max_send_header_block_length(option, 1 << 20);
	nghttp2_session_client_new2(&c->session, cb, c, option);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(cb);
	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, NULL, 0);
	return c;
}

void client_free(struct client *c)
{
	nghttp2_session_del(c->session);
	for (int i = 0; i < STREAMS; i++) {
		buf_done(&c->streams[i].request);
		grpc_deframer_done(&c->streams[i].in);
		strv_done(&c->streams[i].messages);
	}
	close(c->fd);
	free(c);
}

/* What has come, if anything; false at the end. */
static bool client_read(struct client *c)
{
	uint8_t bytes[65536];
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	assert_int_equal(nghttp2_session_mem_recv(c->session, bytes, (size_t)n), n);
	return true;
}

/* Reads while the server takes nothing: it stops when nobody takes what it writes. That is told,
 * for what is waited for may have come by it. */
static bool client_send(struct client *c, const uint8_t *p, size_t n, bool *has_read)
{
	while (n > 0) {
		ssize_t sent = send(c->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		struct pollfd pfd = { .fd = c->fd, .events = POLLIN | POLLOUT };

		if (sent < 0 && errno != EAGAIN)
			return false;
		if (sent > 0) {
			p += sent;
			n -= (size_t)sent;
			continue;
		}
		assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
		*has_read = true;
		if (!client_read(c))
			return false;
	}
	return true;
}

static bool client_write_all(struct client *c)
{
	bool has_read = false;
	const uint8_t *p;

	for (ssize_t n; (n = nghttp2_session_mem_send(c->session, &p)) > 0;) {
		if (!client_send(c, p, (size_t)n, &has_read))
			break;
	}
	return has_read;
}

void client_write(struct client *c)
{
	client_write_all(c);
}

bool client_step(struct client *c, int ms)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	if (client_write_all(c))
		return true;
	if (poll(&p, 1, ms) <= 0 || !client_read(c))
		return false;
	client_write(c);
	return true;
}

void client_wait(struct client *c, int32_t id)
{
	while (!client_stream(c, id)->closed)
		assert_true(client_step(c, PATIENCE_MS));
}

static ssize_t read_request(nghttp2_session *session, int32_t id, uint8_t *p, size_t max,
			    uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct stream *s = client_stream(arg, id);
	size_t n = MIN(max, s->request.len - s->request_sent);

	if (n == 0 && !s->end)
		return NGHTTP2_ERR_DEFERRED;
	memcpy(p, s->request.data + s->request_sent, n);
	s->request_sent += n;
	if (s->end && s->request.len == s->request_sent)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

void client_put_bytes(struct client *c, int32_t id, const char *text, size_t n)
{
	struct stream *s = client_stream(c, id);
	autobuf struct buf m = BUF_INIT(BUF_NO_LIMIT);

	buf_putc(&m, 0x0a);
	for (size_t left = n;; left >>= 7) {
		buf_putc(&m, (char)((left & 0x7f) | (left > 0x7f ? 0x80 : 0)));
		if (left <= 0x7f)
			break;
	}
	buf_append(&m, text, n);
	grpc_frame(&s->request, m.data, m.len);
	nghttp2_session_resume_data(c->session, id);
}

void client_put(struct client *c, int32_t id, const char *text)
{
	client_put_bytes(c, id, text, strlen(text));
}

static nghttp2_nv header(const char *name, const char *value)
{
	return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
			     strlen(value), 0 };
}

int32_t client_open(struct client *c, const struct request *r)
{
	nghttp2_data_provider body = { .read_callback = read_request };
	nghttp2_nv nv[9] = {
		header(":method", r->method ? r->method : "POST"),
		header(":scheme", "http"),
		header(":path", r->path),
		header(":authority", "localhost"),
		header("content-type", r->type ? r->type : "application/grpc"),
		header("te", "trailers"),
		header("containerd-namespace", "k8s.io"),
	};
	size_t n = 7;

	if (r->timeout)
		nv[n++] = header("grpc-timeout", r->timeout);
	if (r->name)
		nv[n++] = header(r->name, r->value);
	int32_t id = nghttp2_submit_request(c->session, NULL, nv, n, &body, NULL);
	assert_true(id > 0);
	return id;
}

int32_t client_call(struct client *c, const char *path, const char *text, const char *timeout)
{
	int32_t id = client_open(c, &(struct request){ .path = path, .timeout = timeout });

	if (text)
		client_put(c, id, text);
	client_stream(c, id)->end = true;
	return id;
}

void client_expect(struct client *c, int32_t id, const char *status, const char *message)
{
	client_wait(c, id);
	struct stream *s = client_stream(c, id);
	assert_string_equal(s->http_status, "200");
	assert_string_equal(s->status, status);
	assert_string_equal(s->message, message);
}
