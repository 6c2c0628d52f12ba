/* SPDX-License-Identifier: Apache-2.0 */
/* What the gRPC server does at its limits, and with what no gRPC library sends. */
#include "rpc/test-grpc-client.h"

#include "rpc/grpc-filter.h"
#include "rpc/protobuf-wire.h"

#include "grpc.health.v1.pb-c.h"
#include "runtime.v1.pb-c.h"

#define CHECK "/test.Test/Check"
#define WATCH "/test.Test/Watch"
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* The server still serves, on the connection and on a new one. */
static void still_serves(struct client *c)
{
	if (c)
		client_expect(c, client_call(c, CHECK, "x", NULL), "0", "");
	c = client_new();
	client_expect(c, client_call(c, CHECK, "x", NULL), "0", "");
	client_free(c);
}

static void test_encoding(void **state UNUSED)
{
	struct client *c = client_new();
	struct request gzip = { .path = CHECK, .name = "grpc-encoding", .value = "gzip" };
	struct request identity = { .path = CHECK, .name = "grpc-encoding", .value = "identity" };

	int32_t id = client_open(c, &gzip);
	buf_append(&client_stream(c, id)->request, "\1\0\0\0\1x", 6);
	client_stream(c, id)->end = true;
	client_expect(c, id, "12",
		      "grpc: Decompressor is not installed for grpc-encoding \"gzip\"");
	assert_string_equal(client_stream(c, id)->accept_encoding, "identity");
	id = client_open(c, &identity);
	client_put(c, id, "x");
	client_stream(c, id)->end = true;
	client_expect(c, id, "0", "");
	id = client_open(c, &identity);
	buf_append(&client_stream(c, id)->request, "\2\0\0\0\1x", 6);
	client_expect(c, id, "13", "grpc: received unexpected payload format 2");
	still_serves(c);
	client_free(c);
}

static void test_large_headers(void **state UNUSED)
{
	struct client *c = client_new();
	autofree char *value = xmalloc(40001);
	struct request r = { .path = CHECK, .name = "x-large", .value = value };

	memset(value, 'v', 40000);
	value[40000] = '\0';
	int32_t id = client_open(c, &r);
	client_put(c, id, "x");
	client_stream(c, id)->end = true;
	client_expect(c, id, "0", "");
	/* The same again through HPACK's table and a timeout as large as that. */
	r.timeout = value;
	id = client_open(c, &r);
	client_stream(c, id)->end = true;
	client_expect(c, id, "8", "headers larger than max (65536)");
	still_serves(c);
	client_free(c);
}

static void test_text(void **state UNUSED)
{
	static const char not_utf8[] =
		"field 'grpc.health.v1.HealthCheckRequest.service' is not valid UTF-8";
	struct client *c = client_new();
	int32_t id = client_call(c, CHECK, "\xc3\xbc\xf0\x9f\x93\xa6 is fine", NULL);

	client_expect(c, id, "0", "");
	client_expect(c, client_call(c, CHECK, "a\xff", NULL), "3", not_utf8);
	client_expect(c, client_call(c, WATCH, "eight be\xc3", NULL), "3", not_utf8);
	id = client_open(c, &(struct request){ .path = CHECK });
	client_put_bytes(c, id, "a\0b", 3);
	client_stream(c, id)->end = true;
	client_expect(
		c, id, "3",
		"field 'grpc.health.v1.HealthCheckRequest.service' has a NUL byte in its text");
	/* And what we say is text whatever it was made from. */
	id = client_call(c, WATCH, "bytes", NULL);
	client_expect(c, id, "5", "no ?%C3%BC");
	assert_string_equal(client_stream(c, id)->messages.v[0] + 2, "a?\xc3\xbc???z");
	client_free(c);
}

static void test_message_sizes(void **state UNUSED)
{
	struct client *c = client_new();
	size_t size = GRPC_MESSAGE_MAX - 5; /* tag and length take five bytes */
	autofree char *text = xmalloc(size + 1);
	int32_t id = client_call(c, WATCH, "largest", NULL);

	client_expect(c, id, "0", "");
	assert_int_equal(client_stream(c, id)->n_bytes, GRPC_MESSAGE_MAX);
	client_expect(c, client_call(c, WATCH, "too large", NULL), "8",
		      "grpc: trying to send message larger than max (16777217 vs. 16777216)");

	memset(text, 'b', size);
	text[size] = '\0';
	id = client_call(c, CHECK, text, NULL);
	client_expect(c, id, "0", "");
	id = client_open(c, &(struct request){ .path = CHECK });
	client_put_bytes(c, id, text, size + 1);
	client_stream(c, id)->end = true;
	client_expect(c, id, "8", "grpc: received message larger than max (16777217 vs. 16777216)");
	id = client_call(c, WATCH, "long error", NULL);
	client_wait(c, id);
	assert_int_equal(strlen(client_stream(c, id)->message), 6144);
	still_serves(c);
	client_free(c);
}

/* More bytes than the server keeps for all its clients together. */
static void test_held(void **state UNUSED)
{
	struct client *c = client_new();
	size_t size = 15 << 20;
	autofree char *text = xmalloc(size);
	int32_t ids[20];
	unsigned refused = 0;

	memset(text, 'h', size);
	for (int i = 0; i < 20; i++) {
		ids[i] = client_open(c, &(struct request){ .path = CHECK });
		client_put_bytes(c, ids[i], text, size);
	}
	while (refused == 0 && client_step(c, PATIENCE_MS)) {
		for (int i = 0; i < 20; i++)
			refused += client_stream(c, ids[i])->closed;
	}
	assert_true(refused > 0);
	for (int i = 0; i < 20; i++)
		client_stream(c, ids[i])->end = true;
	refused = 0;
	for (int i = 0; i < 20; i++) {
		nghttp2_session_resume_data(c->session, ids[i]);
		client_wait(c, ids[i]);
		refused += strcmp(client_stream(c, ids[i])->status, "8") == 0;
	}
	assert_in_range(refused, 1, 10);
	still_serves(c);
	client_free(c);
}

static void test_many_streams(void **state UNUSED)
{
	struct client *c = client_new();
	int32_t ids[900];

	for (int i = 0; i < 900; i++) {
		ids[i] = client_open(c, &(struct request){ .path = WATCH });
		client_put(c, ids[i], "echo");
		client_put(c, ids[i], "one");
	}
	for (int i = 0; i < 900; i++) {
		while (client_stream(c, ids[i])->n_messages < 1)
			assert_true(client_step(c, PATIENCE_MS));
	}
	for (int i = 0; i < 900; i++) {
		client_put(c, ids[i], "two");
		client_stream(c, ids[i])->end = true;
	}
	for (int i = 899; i >= 0; i--) {
		client_expect(c, ids[i], "0", "");
		assert_int_equal(client_stream(c, ids[i])->n_messages, 2);
	}
	client_free(c);
}

/* Calls that are reset at once, faster than they can be served. */
static void test_reset_flood(void **state UNUSED)
{
	struct client *c = client_new();

	for (int i = 0; i < STREAMS - 20; i++) {
		int32_t id = client_call(c, CHECK, "x", NULL);

		client_write(c);
		nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
		client_step(c, 0);
	}
	while (client_step(c, 300))
		;
	client_free(c);
	still_serves(NULL);
}

static void test_ping(void **state UNUSED)
{
	struct client *c = client_new();

	for (int i = 0; i < 100; i++)
		nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
	while (c->pings < 100)
		assert_true(client_step(c, PATIENCE_MS));
	still_serves(c);
	client_free(c);
}

static void test_one_message(void **state UNUSED)
{
	static const char watch[] = "/grpc.health.v1.Health/Watch";
	struct client *c = client_new();

	client_expect(c, client_call(c, watch, NULL, NULL), "13", "the request has no message");
	int32_t id = client_open(c, &(struct request){ .path = watch });
	client_put(c, id, "");
	client_put(c, id, "x");
	client_expect(c, id, "13", "the request has more than one message");
	/* A message without fields has no bytes. */
	id = client_open(c, &(struct request){ .path = CHECK });
	buf_append(&client_stream(c, id)->request, "\0\0\0\0\0", 5);
	client_stream(c, id)->end = true;
	client_expect(c, id, "0", "");
	client_free(c);
}

#define FRAME(type, flags, stream, len) \
	"\0"                            \
	"\0" len type flags "\0\0\0" stream
#define SETTINGS FRAME("\4", "\0", "\0", "\0")

/* Frames behind the preface. All of them must leave the server as it was. */
static const struct {
	const char *bytes;
	size_t n;
} hostile[] = {
#define RAW(s)                   \
	{                        \
		s, sizeof(s) - 1 \
	}
	RAW(""),
	RAW(SETTINGS),
	RAW(SETTINGS FRAME("\0", "\1", "\1", "\1") "x"),     /* DATA on an idle stream */
	RAW(SETTINGS FRAME("\0", "\1", "\0", "\1") "x"),     /* on stream 0 */
	RAW(SETTINGS FRAME("\0", "\10", "\1", "\1") "\xff"), /* padding longer than the frame */
	RAW(SETTINGS FRAME("\1", "\5", "\1", "\1") "\xff"),  /* HEADERS, HPACK without end */
	RAW(SETTINGS FRAME("\1", "\5", "\2", "\1") "\x82"),  /* a stream of the server's parity */
	RAW(SETTINGS FRAME("\1", "\5", "\1", "\1") "\x80"),  /* index 0 */
	RAW(SETTINGS FRAME("\1", "\5", "\1", "\1") "\x82"),  /* a request without a path */
	RAW(SETTINGS FRAME("\1", "\45", "\1", "\5") "\x80\0\0\1\20"), /* depends on itself */
	RAW(SETTINGS FRAME("\1", "\1", "\1", "\1") "\x82" SETTINGS),  /* not CONTINUATION */
	RAW(SETTINGS FRAME("\11", "\4", "\1", "\1") "\x82"),	      /* CONTINUATION of nothing */
	RAW(SETTINGS FRAME("\4", "\1", "\0", "\6") "\0\4\0\0\0\1"),   /* ACK with a body */
	RAW(SETTINGS FRAME("\4", "\0", "\0", "\5") "\0\4\0\0\0"),
	RAW(SETTINGS FRAME("\4", "\0", "\0", "\6") "\0\4\xff\xff\xff\xff"), /* window too large */
	RAW(SETTINGS FRAME("\4", "\0", "\0", "\6") "\0\5\0\0\0\1"), /* frame size too small */
	RAW(SETTINGS FRAME("\5", "\4", "\1", "\5") "\0\0\0\2\x82"), /* PUSH_PROMISE */
	RAW(SETTINGS FRAME("\6", "\0", "\0", "\7") "1234567"),
	RAW(SETTINGS FRAME("\6", "\0", "\1", "\10") "12345678"),
	RAW(SETTINGS FRAME("\7", "\0", "\0", "\10") "\0\0\0\0\0\0\0\0"), /* GOAWAY */
	RAW(SETTINGS FRAME("\10", "\0", "\0", "\4") "\0\0\0\0"),	 /* WINDOW_UPDATE by 0 */
	RAW(SETTINGS FRAME("\10", "\0", "\0", "\4") "\x7f\xff\xff\xff"), /* and beyond 2^31 */
	RAW(SETTINGS FRAME("\x77", "\xff", "\1", "\4") "\x7f\xff\xff\xff"),
	RAW(SETTINGS "\xff\xff\xff\0\0\0\0\0\1"), /* a frame of 16 MiB */
#undef RAW
};

static void test_hostile_frames(void **state UNUSED)
{
	char p[4096];

	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		autoclose int fd = grpc_fixture_connect();

		assert_int_equal(fs_write_all(fd, PREFACE, strlen(PREFACE)), 0);
		assert_int_equal(fs_write_all(fd, hostile[i].bytes, hostile[i].n), 0);
		shutdown(fd, SHUT_WR);
		while (recv(fd, p, sizeof(p), 0) > 0)
			;
	}
	still_serves(NULL);
}

#define RST(stream) FRAME("\3", "\0", stream, "\4") "\0\0\0\10"

/* As gRPC C does for calls that are cancelled before they are written. */
static void test_reset_before_begin(void **state UNUSED)
{
	struct client *c = client_new();

	client_expect(c, client_call(c, CHECK, "x", NULL), "0", "");
	assert_int_equal(fs_write_all(c->fd, RST("\3"), 13), 0);
	assert_int_equal(fs_write_all(c->fd, RST("\11"), 13), 0);
	for (int i = 0; i < 10; i++)
		client_expect(c, client_call(c, CHECK, "x", NULL), "0", "");
	assert_int_equal(c->goaways, 0);
	client_free(c);
}

#define BEGIN(stream) FRAME("\1", "\5", stream, "\1") "h"

static void test_filter(void **state UNUSED)
{
	static const char in[] =
		PREFACE SETTINGS RST("\1") BEGIN("\3") RST("\3") RST("\1") RST("\5") RST("\2")
			FRAME("\3", "\0", "\7", "\5") "12345" BEGIN("\5") RST("\5") "\0\0";
	static const char out[] = PREFACE SETTINGS BEGIN("\3") RST("\3") RST("\1") RST("\2")
		FRAME("\3", "\0", "\7", "\5") "12345" BEGIN("\5") RST("\5");

	for (size_t step = 1; step < sizeof(in); step++) {
		struct grpc_filter f = { 0 };
		autobuf struct buf passed = BUF_INIT(sizeof(in));

		for (size_t pos = 0; pos < sizeof(in) - 1; pos += step) {
			uint8_t bytes[GRPC_FILTER_HEAD + sizeof(in)];
			size_t n = MIN(step, sizeof(in) - 1 - pos), held = f.n_held;

			memcpy(bytes, f.held, held);
			memcpy(bytes + held, in + pos, n);
			buf_append(&passed, bytes, grpc_filter_run(&f, bytes, n));
		}
		assert_int_equal(f.n_held, 2);
		assert_int_equal(passed.len, sizeof(out) - 1);
		assert_memory_equal(passed.data, out, passed.len);
	}
}

/* A client that writes and never reads. */
static void test_deaf_client(void **state UNUSED)
{
	autoclose int fd = grpc_fixture_connect();
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	static const char ping[] = FRAME("\6", "\0", "\0", "\10") "12345678";
	size_t sent = 0;

	assert_int_equal(fs_write_all(fd, PREFACE SETTINGS, strlen(PREFACE) + 9), 0);
	while (sent < (64 << 20) && poll(&pfd, 1, 300) > 0 && !(pfd.revents & POLLHUP)) {
		ssize_t n = send(fd, ping, sizeof(ping) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n != sizeof(ping) - 1)
			break;
		sent += (size_t)n;
	}
	assert_true(sent < (16 << 20));
	still_serves(NULL);
}

static int check(const ProtobufCMessageDescriptor *d, const char *p, size_t n, char *text)
{
	autoerror struct error err = ERROR_INIT;

	protobuf_check(d, p, n, 1 << 20, &err);
	snprintf(text, 200, "%s", error_msg(&err));
	return (int)err.code;
}

static void test_wire(void **state UNUSED)
{
	const ProtobufCMessageDescriptor *pod = &runtime__v1__pod_sandbox_config__descriptor;
	static const struct {
		const char *bytes;
		size_t n;
		int code;
		const char *text;
	} cases[] = {
#define CASE(s, ...) { s, sizeof(s) - 1, __VA_ARGS__ }
		CASE("", 0, ""),
		CASE("\x0a\3\x0a\1n", 0, ""),
		CASE("\x0a\3\x0a\1\xc0", 3,
		     "field 'runtime.v1.PodSandboxMetadata.name' is not valid UTF-8"),
		CASE("\x32\6\x0a\1k\x12\1\xff", 3,
		     "field 'runtime.v1.PodSandboxConfig.LabelsEntry.value' is not valid UTF-8"),
		CASE("\x0a\4\x0a\1n", 3, "malformed 'runtime.v1.PodSandboxConfig' message"),
		CASE("\x0a\3\x0a\2n", 3, "malformed 'runtime.v1.PodSandboxMetadata' message"),
		CASE("\x0b", 3, "malformed 'runtime.v1.PodSandboxConfig' message"),
		CASE("\x00\x00", 3, "malformed 'runtime.v1.PodSandboxConfig' message"),
		CASE("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 3,
		     "malformed 'runtime.v1.PodSandboxConfig' message"),
		/* Fields that nobody knows. */
		CASE("\x98\6\1\xa1\6"
		     "12345678\xa5\6"
		     "1234\xaa\6\1\xff",
		     0, ""),
#undef CASE
	};
	char text[200];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(check(pod, cases[i].bytes, cases[i].n, text), cases[i].code);
		assert_string_equal(text, cases[i].text);
	}
	/* Two bytes that make a message of two hundred. */
	autofree char *many = xmalloc(65536);
	for (size_t i = 0; i < 65536; i += 2)
		memcpy(many + i, "\x2a", 2);
	assert_int_equal(check(pod, many, 65536, text), 8);
	assert_string_equal(text, "the message has too many parts");
}

static void test_repair(void **state UNUSED)
{
	char pod[] = "\x0a\x10\x0a\xe"
		     "longer than a \xff\x32\6\x0a\1\xfe\x12\1\xc3";

	pod[3] = 0xe;
	pod[1] = 0x11;
	pod[3] = 0xf;
	protobuf_repair(&runtime__v1__pod_sandbox_config__descriptor, pod, sizeof(pod) - 1);
	assert_string_equal(pod + 4, "longer than a ?\x32\6\x0a\1?\x12\1?");
}

static void test_utf8(void **state UNUSED)
{
	static const struct {
		const char *s;
		size_t n;
	} cases[] = {
		{ "a", 1 },
		{ "\x7f", 1 },
		{ "\x80", 0 },
		{ "\xc2\x80", 2 },
		{ "\xc1\xbf", 0 }, /* overlong */
		{ "\xe0\xa0\x80", 3 },
		{ "\xe0\x9f\xbf", 0 },
		{ "\xed\x9f\xbf", 3 },
		{ "\xed\xa0\x80", 0 }, /* surrogates */
		{ "\xed\xbf\xbf", 0 },
		{ "\xee\x80\x80", 3 },
		{ "\xf0\x90\x80\x80", 4 },
		{ "\xf0\x8f\xbf\xbf", 0 },
		{ "\xf4\x8f\xbf\xbf", 4 },
		{ "\xf4\x90\x80\x80", 0 },
		{ "\xf8\x88\x80\x80\x80", 0 },
		{ "\xe2\x82", 0 }, /* cut off */
		{ "\xe2\x28\xa1", 0 },
		{ "\xff", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(
			utf8_sequence((const unsigned char *)cases[i].s, strlen(cases[i].s)),
			cases[i].n);
}

static void test_status_message(void **state UNUSED)
{
	static const struct {
		const char *text, *encoded;
	} cases[] = {
		{ "", "" },
		{ "plain ~text", "plain ~text" },
		{ "100%", "100%25" },
		{ "a\nb\x7f", "a%0Ab%7F" },
		{ "\xe2\x82\xac", "%E2%82%AC" },
		{ "x\xe2\x82", "x??" },
		{ "123456789012345678\xe2\x82\xac", "123456789012345678" }, /* no room */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autobuf struct buf b = BUF_INIT(26);

		grpc_status_message_encode(cases[i].text, &b);
		assert_string_equal(b.data, cases[i].encoded);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, grpc_fixture_setup, grpc_fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_encoding),
		TEST(test_large_headers),
		TEST(test_text),
		TEST(test_message_sizes),
		TEST(test_held),
		TEST(test_many_streams),
		TEST(test_reset_flood),
		TEST(test_ping),
		TEST(test_one_message),
		TEST(test_hostile_frames),
		TEST(test_reset_before_begin),
		TEST(test_deaf_client),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_wire),
		cmocka_unit_test(test_repair),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_status_message),
	};

	log_setup("test", LOG_ERR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
