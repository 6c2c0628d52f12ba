/* SPDX-License-Identifier: Apache-2.0 */
/* The server in a loop of its own thread, the test as a client on nghttp2 with a blocking socket.
 */
#include "rpc/grpc-health.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strv.h"
#include "rpc/grpc-frame.h"

#include "grpc.health.v1.pb-c.h"

#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

typedef Grpc__Health__V1__HealthCheckRequest text_message; /* one string */

struct fixture {
	struct loop *loop;
	struct jobs *jobs;
	struct grpc_server *server;
	struct grpc_health *health;
	pthread_t thread;
	sem_t done;
	atomic_int sent;
};

static struct fixture fixture;

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

static int do_watch(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const char *text = m ? ((const text_message *)m)->service : "none";

	if (strcmp(text, "echo") == 0) {
		grpc_call_on_message(c, on_message, grpc_call_ref(c));
	} else if (strcmp(text, "slow") == 0) {
		sem_wait(&fixture.done);
		grpc_call_on_message(c, on_message, grpc_call_ref(c));
	} else if (strcmp(text, "flood") == 0) {
		flood(grpc_call_ref(c));
	} else if (strcmp(text, "cancel") == 0) {
		grpc_call_on_cancel(c, on_cancel, grpc_call_ref(c));
	} else if (strcmp(text, "none") == 0) {
		grpc_call_finish(c, NULL);
	}
	return 0;
}

static ProtobufCServiceDescriptor test_descriptor;
static const struct grpc_method test_methods[] = {
	{ "Check", .unary = do_check },
	{ "Watch", .streaming = do_watch, .pool = JOB_TRANSFER },
	{ NULL },
};
static const struct grpc_service test_service = { &test_descriptor, test_methods, NULL };

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static int setup(void **state)
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

static int teardown(void **state)
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

#define STREAMS 64

struct stream {
	struct buf request;
	bool end; /* of the request, after what is in there */
	struct grpc_deframer in;
	struct strv messages; /* raw, text as far as it goes */
	size_t n_messages;
	char http_status[4];
	char status[4];
	char message[200];
	bool closed;
};

struct client {
	nghttp2_session *session;
	int fd;
	struct stream streams[STREAMS];
	bool goaway;
};

static struct stream *stream_of(struct client *c, int32_t id)
{
	assert_true(id > 0 && id / 2 < STREAMS);
	return &c->streams[id / 2];
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *arg)
{
	struct stream *s = stream_of(arg, frame->hd.stream_id);
	const char *n = (const char *)name;

	if (strcmp(n, ":status") == 0)
		memcpy(s->http_status, value, 3);
	else if (strcmp(n, "grpc-status") == 0)
		memcpy(s->status, value, MIN(value_len, sizeof(s->status) - 1));
	else if (strcmp(n, "grpc-message") == 0)
		memcpy(s->message, value, MIN(value_len, sizeof(s->message) - 1));
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
		   void *arg)
{
	struct stream *s = stream_of(arg, id);

	while (grpc_deframer_feed(&s->in, &p, &n, NULL) == GRPC_FRAME_MESSAGE) {
		s->n_messages++;
		if (s->messages.n < 100)
			strv_take(&s->messages, buf_steal(&s->in.message, NULL));
		buf_clear(&s->in.message);
	}
	return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	stream_of(arg, id)->closed = true;
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct client *c = arg;

	if (frame->hd.type == NGHTTP2_GOAWAY)
		c->goaway = true;
	return 0;
}

static void adopt(void *arg)
{
	grpc_server_adopt(fixture.server, (int)(intptr_t)arg);
}

static struct client *client_new(void)
{
	struct client *c = xnew(struct client);
	nghttp2_session_callbacks *cb;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	c->fd = fds[0];
	loop_post(fixture.loop, adopt, (void *)(intptr_t)fds[1]);
	for (int i = 0; i < STREAMS; i++) {
		c->streams[i].request = BUF_INIT(BUF_NO_LIMIT);
		grpc_deframer_init(&c->streams[i].in);
	}
	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_client_new(&c->session, cb, c);
	nghttp2_session_callbacks_del(cb);
	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, NULL, 0);
	return c;
}

static void client_free(struct client *c)
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

static void client_write(struct client *c)
{
	const uint8_t *p;

	for (ssize_t n; (n = nghttp2_session_mem_send(c->session, &p)) > 0;)
		assert_int_equal(fs_write_all(c->fd, p, (size_t)n), 0);
}

/* One round; false when nothing came in time, or the server closed. */
static bool client_step(struct client *c, int ms)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	uint8_t bytes[65536];

	client_write(c);
	if (poll(&p, 1, ms) <= 0)
		return false;
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), 0);
	if (n <= 0)
		return false;
	assert_int_equal(nghttp2_session_mem_recv(c->session, bytes, (size_t)n), n);
	client_write(c);
	return true;
}

static void client_wait(struct client *c, int32_t id)
{
	while (!stream_of(c, id)->closed)
		assert_true(client_step(c, 5000));
}

static ssize_t read_request(nghttp2_session *session, int32_t id, uint8_t *p, size_t max,
			    uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct stream *s = stream_of(arg, id);
	size_t n = MIN(max, s->request.len);

	if (n == 0 && !s->end)
		return NGHTTP2_ERR_DEFERRED;
	memcpy(p, s->request.data, n);
	buf_consume(&s->request, n);
	if (s->end && s->request.len == 0)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

static void put(struct client *c, int32_t id, const char *text)
{
	text_message m = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct stream *s = stream_of(c, id);

	m.service = (char *)(uintptr_t)text;
	size_t len = grpc__health__v1__health_check_request__get_packed_size(&m);
	autofree uint8_t *packed = xmalloc(len + 1);
	grpc__health__v1__health_check_request__pack(&m, packed);
	grpc_frame(&s->request, packed, len);
	nghttp2_session_resume_data(c->session, id);
}

#define NV(n, v)                                                                              \
	{                                                                                     \
		(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), 0 \
	}

static int32_t open_call(struct client *c, const char *method, const char *path, const char *type,
			 const char *timeout)
{
	nghttp2_nv nv[] = {
		NV(":method", method),
		NV(":scheme", "http"),
		NV(":path", path),
		NV(":authority", "localhost"),
		NV("content-type", type),
		NV("te", "trailers"),
		NV("containerd-namespace", "k8s.io"),
		NV("grpc-timeout", timeout ? timeout : ""),
	};
	nghttp2_data_provider body = { .read_callback = read_request };
	int32_t id = nghttp2_submit_request(c->session, NULL, nv, ARRAY_SIZE(nv) - !timeout, &body,
					    NULL);

	assert_true(id > 0);
	return id;
}

static int32_t call_text(struct client *c, const char *path, const char *text, const char *timeout)
{
	int32_t id = open_call(c, "POST", path, "application/grpc+proto", timeout);

	if (text)
		put(c, id, text);
	stream_of(c, id)->end = true;
	return id;
}

static void expect(struct client *c, int32_t id, const char *status, const char *message)
{
	client_wait(c, id);
	struct stream *s = stream_of(c, id);
	assert_string_equal(s->http_status, "200");
	assert_string_equal(s->status, status);
	assert_string_equal(s->message, message);
}

static void test_unary(void **state)
{
	struct client *c = client_new();
	int32_t ids[20];

	for (int i = 0; i < 20; i++)
		ids[i] = call_text(c, "/test.Test/Check", i % 2 ? "metadata" : "x", NULL);
	for (int i = 0; i < 20; i++) {
		expect(c, ids[i], "0", "");
		assert_int_equal(stream_of(c, ids[i])->n_messages, 1);
		assert_int_equal(stream_of(c, ids[i])->messages.v[0][1], i % 2 ? 8 : 1);
	}
	expect(c, call_text(c, "/test.Test/Check", "fail", NULL), "6", "100%25 %C3%BC%0A");
	expect(c, call_text(c, "/test.Test/Nope", "x", NULL), "12",
	       "unknown method Nope for service test.Test");
	expect(c, call_text(c, "/x.Y/Nope", "x", NULL), "12", "unknown service x.Y");
	expect(c, call_text(c, "/", "x", NULL), "12", "malformed method name: \"/\"");
	expect(c, call_text(c, "/test.Test/Check", NULL, NULL), "13", "the request has no message");
	client_free(c);
}

static void test_malformed(void **state)
{
	struct client *c = client_new();
	int32_t id = open_call(c, "POST", "/test.Test/Check", "application/grpc", NULL);
	struct stream *s = stream_of(c, id);

	buf_append(&s->request, "\1\0\0\0\1x", 6);
	s->end = true;
	expect(c, id, "12", "compressed messages are not supported");

	id = open_call(c, "POST", "/test.Test/Check", "application/grpc", NULL);
	buf_append(&stream_of(c, id)->request, "\0\1\0\0\1x", 6);
	expect(c, id, "8", "received message larger than max (16777217 vs. 16777216)");

	id = open_call(c, "POST", "/test.Test/Check", "application/grpc", NULL);
	buf_append(&stream_of(c, id)->request, "\0\0\0\0\1\xff", 6);
	stream_of(c, id)->end = true;
	expect(c, id, "3", "malformed 'grpc.health.v1.HealthCheckRequest' message");

	id = open_call(c, "POST", "/test.Test/Check", "application/grpc", NULL);
	buf_append(&stream_of(c, id)->request, "\0\0\0\0\4\xff", 6);
	stream_of(c, id)->end = true;
	expect(c, id, "13", "the request ends within a message");

	id = open_call(c, "POST", "/test.Test/Check", "application/json", NULL);
	stream_of(c, id)->end = true;
	client_wait(c, id);
	assert_string_equal(stream_of(c, id)->http_status, "415");
	id = open_call(c, "PUT", "/test.Test/Check", "application/grpc", NULL);
	stream_of(c, id)->end = true;
	client_wait(c, id);
	assert_string_equal(stream_of(c, id)->http_status, "405");
	expect(c, call_text(c, "/test.Test/Check", "x", "1x"), "13", "malformed grpc-timeout '1x'");
	/* The connection has survived all of it. */
	expect(c, call_text(c, "/test.Test/Check", "x", "1H"), "0", "");
	client_free(c);
}

static void test_not_http2(void **state)
{
	struct client *c = client_new();
	char p[1000];

	assert_int_equal(fs_write_all(c->fd, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 24), 0);
	while (recv(c->fd, p, sizeof(p), 0) > 0)
		;
	client_free(c);
}

static void test_big_message(void **state)
{
	struct client *c = client_new();
	size_t size = 5 << 20;
	autofree char *text = xmalloc(size + 1);

	memset(text, 'b', size);
	text[size] = '\0';
	int32_t id = call_text(c, "/test.Test/Check", text, NULL);
	expect(c, id, "0", "");
	client_free(c);
}

static void test_echo(void **state)
{
	struct client *c = client_new();
	int32_t id = open_call(c, "POST", "/test.Test/Watch", "application/grpc", NULL);
	struct stream *s = stream_of(c, id);

	put(c, id, "echo");
	put(c, id, "one");
	put(c, id, "two");
	while (s->n_messages < 2)
		assert_true(client_step(c, 5000));
	put(c, id, "three");
	s->end = true;
	expect(c, id, "0", "");
	assert_int_equal(s->n_messages, 3);
	assert_string_equal(s->messages.v[2] + 2, "three");
	expect(c, call_text(c, "/test.Test/Watch", NULL, NULL), "0", "");
	expect(c, call_text(c, "/test.Test/Watch", "forget", NULL), "13", "the call got no answer");
	client_free(c);
}

/* A handler that does not take messages stops its client, and only its own stream. */
static void test_receive_back_pressure(void **state)
{
	struct client *c = client_new();
	int32_t id = open_call(c, "POST", "/test.Test/Watch", "application/grpc", NULL);
	struct stream *s = stream_of(c, id);
	autofree char *text = xmalloc(10001);

	memset(text, 'y', 10000);
	text[10000] = '\0';
	put(c, id, "slow");
	for (int i = 0; i < 200; i++)
		put(c, id, text);
	while (client_step(c, 200))
		;
	assert_in_range(s->request.len, 1600000, 1900000);
	expect(c, call_text(c, "/test.Test/Check", "x", NULL), "0", "");
	s->end = true;
	sem_post(&fixture.done);
	expect(c, id, "0", "");
	assert_int_equal(s->n_messages, 200);
	client_free(c);
}

static void test_send_back_pressure(void **state)
{
	struct client *c = client_new();
	int32_t id = call_text(c, "/test.Test/Watch", "flood", NULL);

	client_write(c);
	usleep(200000);
	assert_in_range(fixture.sent, 20, 100);
	expect(c, id, "0", "");
	assert_int_equal(stream_of(c, id)->n_messages, 400);
	client_free(c);
}

static void test_deadline(void **state)
{
	struct client *c = client_new();

	expect(c, call_text(c, "/test.Test/Check", "wait", "50m"), "4",
	       "context deadline exceeded");
	sem_wait(&fixture.done);
	expect(c, call_text(c, "/test.Test/Watch", "cancel", "50m"), "4",
	       "context deadline exceeded");
	sem_wait(&fixture.done);
	client_free(c);
}

static void test_client_cancels(void **state)
{
	struct client *c = client_new();
	int32_t id = call_text(c, "/test.Test/Watch", "cancel", NULL);

	client_step(c, 50);
	nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
	client_write(c);
	sem_wait(&fixture.done);
	call_text(c, "/test.Test/Watch", "cancel", NULL);
	call_text(c, "/test.Test/Check", "wait", NULL);
	client_step(c, 50);
	client_free(c);
	sem_wait(&fixture.done);
	sem_wait(&fixture.done);
}

static void set_health(void *arg)
{
	grpc_health_set(fixture.health, "x", arg != NULL);
}

static void test_health(void **state)
{
	static const char check[] = "/grpc.health.v1.Health/Check";
	struct client *c = client_new();
	int32_t id = call_text(c, check, "", NULL);

	expect(c, id, "0", "");
	assert_string_equal(stream_of(c, id)->messages.v[0], "\x08\x01");
	expect(c, call_text(c, check, "x", NULL), "5", "unknown service");

	int32_t watch = call_text(c, "/grpc.health.v1.Health/Watch", "x", NULL);
	struct stream *s = stream_of(c, watch);
	while (s->n_messages < 1)
		assert_true(client_step(c, 5000));
	loop_post(fixture.loop, set_health, c);
	while (s->n_messages < 2)
		assert_true(client_step(c, 5000));
	loop_post(fixture.loop, set_health, NULL);
	while (s->n_messages < 3)
		assert_true(client_step(c, 5000));
	assert_string_equal(s->messages.v[0], "\x08\x03");
	assert_string_equal(s->messages.v[1], "\x08\x01");
	assert_string_equal(s->messages.v[2], "\x08\x02");
	client_free(c);
}

static void drain(void *arg)
{
	grpc_server_drain(fixture.server);
}

static void test_drain(void **state)
{
	struct client *c = client_new();
	int32_t id = open_call(c, "POST", "/test.Test/Watch", "application/grpc", NULL);
	struct stream *s = stream_of(c, id);

	put(c, id, "echo");
	put(c, id, "one");
	while (s->n_messages < 1)
		assert_true(client_step(c, 5000));
	loop_post(fixture.loop, drain, NULL);
	while (!c->goaway)
		assert_true(client_step(c, 5000));
	put(c, id, "two");
	s->end = true;
	expect(c, id, "0", "");
	while (client_step(c, 5000))
		;
	char p;
	assert_int_equal(recv(c->fd, &p, 1, 0), 0);
	client_free(c);
}

static void test_free_with_calls(void **state)
{
	struct client *c = client_new();

	call_text(c, "/test.Test/Watch", "cancel", NULL);
	call_text(c, "/grpc.health.v1.Health/Watch", "", NULL);
	open_call(c, "POST", "/test.Test/Check", "application/grpc", "1H");
	client_step(c, 100);
	client_step(c, 50);
	client_free(c);
}

static void test_timeouts(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} cases[] = {
		{ "1n", 1 },
		{ "20u", 20000 },
		{ "3m", 3000000 },
		{ "4S", 4000000000 },
		{ "1M", 60000000000 },
		{ "2H", 7200000000000 },
		{ "99999999H", INT64_MAX },
	};
	static const char *const bad[] = { "", "1", "m", "-1m", "100000000m", "1mm", "1 m", "1h" };
	int64_t ns;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(grpc_timeout_parse(cases[i].text, &ns), 0);
		assert_int_equal(ns, cases[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(grpc_timeout_parse(bad[i], &ns), -EINVAL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unary),
		TEST(test_malformed),
		TEST(test_not_http2),
		TEST(test_big_message),
		TEST(test_echo),
		TEST(test_receive_back_pressure),
		TEST(test_send_back_pressure),
		TEST(test_deadline),
		TEST(test_client_cancels),
		TEST(test_health),
		TEST(test_drain),
		TEST(test_free_with_calls),
		cmocka_unit_test(test_timeouts),
	};

	log_setup("test", LOG_ERR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
