/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/test-grpc-client.h"

static void test_unary(void **state)
{
	struct client *c = client_new();
	int32_t ids[20];

	for (int i = 0; i < 20; i++)
		ids[i] = client_call(c, "/test.Test/Check", i % 2 ? "metadata" : "x", NULL);
	for (int i = 0; i < 20; i++) {
		client_expect(c, ids[i], "0", "");
		assert_int_equal(client_stream(c, ids[i])->n_messages, 1);
		assert_int_equal(client_stream(c, ids[i])->messages.v[0][1], i % 2 ? 8 : 1);
	}
	client_expect(c, client_call(c, "/test.Test/Check", "fail", NULL), "6", "100%25 %C3%BC%0A");
	client_expect(c, client_call(c, "/test.Test/Nope", "x", NULL), "12",
		      "unknown method Nope for service test.Test");
	client_expect(c, client_call(c, "/x.Y/Nope", "x", NULL), "12", "unknown service x.Y");
	client_expect(c, client_call(c, "/", "x", NULL), "12", "malformed method name: \"/\"");
	client_expect(c, client_call(c, "/test.Test/Check", NULL, NULL), "13",
		      "the request has no message");
	client_free(c);
}

static void test_malformed(void **state)
{
	struct client *c = client_new();
	int32_t id = client_open(c, &(struct request){ .path = "/test.Test/Check" });
	struct stream *s = client_stream(c, id);

	buf_append(&s->request, "\1\0\0\0\1x", 6);
	s->end = true;
	client_expect(c, id, "13", "grpc: compressed flag set with identity or empty encoding");

	id = client_open(c, &(struct request){ .path = "/test.Test/Check" });
	buf_append(&client_stream(c, id)->request, "\0\1\0\0\1x", 6);
	client_expect(c, id, "8", "grpc: received message larger than max (16777217 vs. 16777216)");

	id = client_open(c, &(struct request){ .path = "/test.Test/Check" });
	buf_append(&client_stream(c, id)->request, "\0\0\0\0\1\xff", 6);
	client_stream(c, id)->end = true;
	client_expect(c, id, "3", "malformed 'grpc.health.v1.HealthCheckRequest' message");

	id = client_open(c, &(struct request){ .path = "/test.Test/Check" });
	buf_append(&client_stream(c, id)->request, "\0\0\0\0\4\xff", 6);
	client_stream(c, id)->end = true;
	client_expect(c, id, "13", "the request ends within a message");

	id = client_open(
		c, &(struct request){ .path = "/test.Test/Check", .type = "application/json" });
	client_stream(c, id)->end = true;
	client_wait(c, id);
	assert_string_equal(client_stream(c, id)->http_status, "415");
	id = client_open(c, &(struct request){ .path = "/test.Test/Check", .method = "PUT" });
	client_stream(c, id)->end = true;
	client_wait(c, id);
	assert_string_equal(client_stream(c, id)->http_status, "405");
	client_expect(c, client_call(c, "/test.Test/Check", "x", "1x"), "13",
		      "malformed grpc-timeout '1x'");
	/* The connection has survived all of it. */
	client_expect(c, client_call(c, "/test.Test/Check", "x", "1H"), "0", "");
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
	int32_t id = client_call(c, "/test.Test/Check", text, NULL);
	client_expect(c, id, "0", "");
	client_free(c);
}

static void test_echo(void **state)
{
	struct client *c = client_new();
	int32_t id = client_open(c, &(struct request){ .path = "/test.Test/Watch" });
	struct stream *s = client_stream(c, id);

	client_put(c, id, "echo");
	client_put(c, id, "one");
	client_put(c, id, "two");
	while (s->n_messages < 2)
		assert_true(client_step(c, PATIENCE_MS));
	client_put(c, id, "three");
	s->end = true;
	client_expect(c, id, "0", "");
	assert_int_equal(s->n_messages, 3);
	assert_string_equal(s->messages.v[2] + 2, "three");
	client_expect(c, client_call(c, "/test.Test/Watch", NULL, NULL), "0", "");
	client_expect(c, client_call(c, "/test.Test/Watch", "forget", NULL), "13",
		      "the call got no answer");
	client_free(c);
}

/* A handler that does not take messages stops its client, and only its own stream. */
static void test_receive_back_pressure(void **state)
{
	struct client *c = client_new();
	int32_t id = client_open(c, &(struct request){ .path = "/test.Test/Watch" });
	struct stream *s = client_stream(c, id);
	autofree char *text = xmalloc(10001);

	memset(text, 'y', 10000);
	text[10000] = '\0';
	client_put(c, id, "slow");
	for (int i = 0; i < 200; i++)
		client_put(c, id, text);
	while (client_step(c, 200))
		;
	assert_in_range(s->request.len - s->request_sent, 1600000, 1900000);
	client_expect(c, client_call(c, "/test.Test/Check", "x", NULL), "0", "");
	s->end = true;
	sem_post(&fixture.done);
	client_expect(c, id, "0", "");
	assert_int_equal(s->n_messages, 200);
	client_free(c);
}

/* Handlers that read on their own threads, more than there are, and one that its client leaves. */
static void test_blocking_reader(void **state)
{
	struct client *c = client_new();
	struct request watch = { .path = "/test.Test/Watch" };
	int32_t ids[48], left = client_open(c, &watch);

	client_put(c, left, "read");
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		ids[i] = client_open(c, &watch);
		client_put(c, ids[i], "read");
		client_put(c, ids[i], "one");
	}
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		while (client_stream(c, ids[i])->n_messages < 1)
			client_step(c, 1000);
		client_put(c, ids[i], "two");
		client_stream(c, ids[i])->end = true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		client_expect(c, ids[i], "0", "");
		assert_int_equal(client_stream(c, ids[i])->n_messages, 2);
	}
	client_free(c);
	sem_wait(&fixture.done);
}

static void test_send_back_pressure(void **state)
{
	struct client *c = client_new();
	int32_t id = client_call(c, "/test.Test/Watch", "flood", NULL);

	client_write(c);
	usleep(200000);
	assert_in_range(fixture.sent, 20, 100);
	client_expect(c, id, "0", "");
	assert_int_equal(client_stream(c, id)->n_messages, 400);
	client_free(c);
}

static void test_deadline(void **state)
{
	struct client *c = client_new();

	client_expect(c, client_call(c, "/test.Test/Check", "wait", "50m"), "4",
		      "context deadline exceeded");
	sem_wait(&fixture.done);
	client_expect(c, client_call(c, "/test.Test/Watch", "cancel", "50m"), "4",
		      "context deadline exceeded");
	sem_wait(&fixture.done);
	client_free(c);
}

static void test_client_cancels(void **state)
{
	struct client *c = client_new();
	int32_t id = client_call(c, "/test.Test/Watch", "cancel", NULL);

	client_step(c, 50);
	nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
	client_write(c);
	sem_wait(&fixture.done);
	client_call(c, "/test.Test/Watch", "cancel", NULL);
	client_call(c, "/test.Test/Check", "wait", NULL);
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
	int32_t id = client_call(c, check, "", NULL);

	client_expect(c, id, "0", "");
	assert_string_equal(client_stream(c, id)->messages.v[0], "\x08\x01");
	client_expect(c, client_call(c, check, "x", NULL), "5", "unknown service");

	int32_t watch = client_call(c, "/grpc.health.v1.Health/Watch", "x", NULL);
	struct stream *s = client_stream(c, watch);
	while (s->n_messages < 1)
		assert_true(client_step(c, PATIENCE_MS));
	loop_post(fixture.loop, set_health, c);
	while (s->n_messages < 2)
		assert_true(client_step(c, PATIENCE_MS));
	loop_post(fixture.loop, set_health, NULL);
	while (s->n_messages < 3)
		assert_true(client_step(c, PATIENCE_MS));
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
	int32_t id = client_open(c, &(struct request){ .path = "/test.Test/Watch" });
	struct stream *s = client_stream(c, id);

	client_put(c, id, "echo");
	client_put(c, id, "one");
	while (s->n_messages < 1)
		assert_true(client_step(c, PATIENCE_MS));
	loop_post(fixture.loop, drain, NULL);
	while (c->goaways < 2)
		assert_true(client_step(c, PATIENCE_MS));
	client_put(c, id, "two");
	s->end = true;
	client_expect(c, id, "0", "");
	while (client_step(c, 5000))
		;
	char p;
	assert_int_equal(recv(c->fd, &p, 1, 0), 0);
	client_free(c);
}

static void test_free_with_calls(void **state)
{
	struct client *c = client_new();

	client_call(c, "/test.Test/Watch", "cancel", NULL);
	client_call(c, "/grpc.health.v1.Health/Watch", "", NULL);
	client_open(c, &(struct request){ .path = "/test.Test/Check", .timeout = "1H" });
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

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, grpc_fixture_setup, grpc_fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unary),
		TEST(test_malformed),
		TEST(test_not_http2),
		TEST(test_big_message),
		TEST(test_echo),
		TEST(test_receive_back_pressure),
		TEST(test_blocking_reader),
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
