/* SPDX-License-Identifier: Apache-2.0 */
#include "http/websocket.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MESSAGE_MAX 70000

struct fixture {
	struct websocket *w;
	struct buf out, log, message;
	unsigned messages, closed;
};

static void on_piece(const struct websocket_piece *p, void *arg)
{
	struct fixture *f = arg;

	if (p->first) {
		assert_int_equal(f->message.len, 0);
		buf_printf(&f->log, "%s ", p->type == WEBSOCKET_TEXT ? "text" : "binary");
	}
	buf_append(&f->message, p->data, p->len);
	if (!p->last)
		return;
	f->messages++;
	if (f->message.len < 100)
		buf_append(&f->log, f->message.data, f->message.len);
	else
		buf_printf(&f->log, "%zu", f->message.len);
	buf_putc(&f->log, ';');
	buf_clear(&f->message);
}

static void on_close(unsigned code, void *arg)
{
	struct fixture *f = arg;

	f->closed++;
	buf_printf(&f->log, "close %u;", code);
}

static const struct websocket_ops ops = { .on_piece = on_piece, .on_close = on_close };

static int setup(void **state)
{
	struct fixture *f = xnew(struct fixture);
	const struct websocket_config config = {
		.out = &f->out, .max_message = MESSAGE_MAX, .ops = &ops, .arg = f
	};

	f->out = BUF_INIT(1 << 20);
	f->log = BUF_INIT(1 << 20);
	f->message = BUF_INIT(1 << 20);
	f->w = websocket_new(&config);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	websocket_free(f->w);
	buf_done(&f->out);
	buf_done(&f->log);
	buf_done(&f->message);
	free(f);
	return 0;
}

static void frame(struct buf *b, uint8_t first, const void *p, size_t n)
{
	static const uint8_t mask[] = { 0x37, 0xfa, 0x21, 0x3d };
	const char *bytes = p;

	buf_putc(b, (char)first);
	if (n < 126) {
		buf_putc(b, (char)(0x80 | n));
	} else if (n <= UINT16_MAX) {
		buf_putc(b, (char)(0x80 | 126));
		buf_putc(b, (char)(n >> 8));
		buf_putc(b, (char)n);
	} else {
		buf_putc(b, (char)(0x80 | 127));
		for (int shift = 56; shift >= 0; shift -= 8)
			buf_putc(b, (char)((uint64_t)n >> shift));
	}
	buf_append(b, mask, 4);
	for (size_t i = 0; i < n; i++)
		buf_putc(b, (char)(bytes[i] ^ mask[i % 4]));
}

static void text(struct buf *b, uint8_t first, const char *s)
{
	frame(b, first, s, strlen(s));
}

static void feed(struct fixture *f, const struct buf *in, size_t piece)
{
	for (size_t i = 0; i < in->len; i += piece)
		assert_int_equal(websocket_feed(f->w, in->data + i, MIN(piece, in->len - i), NULL),
				 0);
}

static void test_messages(void **state)
{
	for (size_t piece = 1; piece < 100; piece += 33) {
		struct fixture *f = *state;
		autobuf struct buf in = BUF_INIT(1 << 20);

		buf_clear(&f->log);
		text(&in, 0x81, "hello");
		text(&in, 0x82, "");
		text(&in, 0x01, "in ");
		text(&in, 0x00, "three ");
		text(&in, 0x89, "ping");
		text(&in, 0x00, "");
		text(&in, 0x8a, "unasked pong");
		text(&in, 0x80, "parts");
		text(&in, 0x02, "");
		text(&in, 0x80, "");
		feed(f, &in, piece);
		assert_string_equal(f->log.data, "text hello;binary ;text in three parts;binary ;");
		assert_int_equal(f->out.len, 6);
		assert_memory_equal(f->out.data, "\x8a\4ping", 6);
		buf_clear(&f->out);
	}
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 125, 126, 65535, 65536, MESSAGE_MAX };
	struct fixture *f = *state;
	autofree char *zeros = xcalloc(1, MESSAGE_MAX + 1);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		autobuf struct buf in = BUF_INIT(1 << 20);
		autofree char *expected = xasprintf("binary %zu;", sizes[i]);

		frame(&in, 0x82, zeros, sizes[i]);
		feed(f, &in, 1000);
		assert_string_equal(f->log.data, expected);
		buf_clear(&f->log);
		websocket_send(f->w, WEBSOCKET_BINARY, zeros, sizes[i]);
		size_t head = sizes[i] < 126 ? 2 : sizes[i] <= UINT16_MAX ? 4 : 10;
		assert_int_equal(f->out.len, sizes[i] + head);
		buf_clear(&f->out);
	}
}

static void test_sending(void **state)
{
	struct fixture *f = *state;

	websocket_send(f->w, WEBSOCKET_TEXT, "abc", 3);
	websocket_send2(f->w, WEBSOCKET_BINARY, "\1", 1, "xy", 2);
	websocket_close(f->w, WEBSOCKET_NORMAL, "bye");
	websocket_send(f->w, WEBSOCKET_TEXT, "late", 4);
	websocket_close(f->w, WEBSOCKET_NORMAL, "bye");
	assert_int_equal(f->out.len, 5 + 5 + 7);
	assert_memory_equal(f->out.data,
			    "\x81\3abc\x82\3\1xy\x88\5\3\xe8"
			    "bye",
			    17);
	assert_true(websocket_is_closed(f->w));
}

static void test_close_is_answered(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 10);

	text(&in, 0x88, "\x03\xe9going");
	text(&in, 0x81, "dropped");
	feed(f, &in, in.len);
	assert_string_equal(f->log.data, "close 1001;");
	assert_int_equal(f->out.len, 4);
	assert_memory_equal(f->out.data, "\x88\2\x03\xe9", 4);
}

static void test_close_without_code(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 10);

	text(&in, 0x88, "");
	feed(f, &in, 1);
	assert_string_equal(f->log.data, "close 1005;");
	assert_memory_equal(f->out.data, "\x88\0", 2);
}

static void assert_refused(struct fixture *f, const void *bytes, size_t n, unsigned code)
{
	autoerror struct error err = ERROR_INIT;

	assert_int_equal(websocket_feed(f->w, bytes, n, &err), -1);
	assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
	assert_true(f->out.len >= 4);
	const uint8_t *p = (const uint8_t *)f->out.data;
	assert_int_equal(p[0], 0x88);
	assert_int_equal(p[2] << 8 | p[3], code);
	assert_int_equal(websocket_feed(f->w, "x", 1, NULL), -1);
	assert_int_equal(f->closed, 0);
}

#define REFUSED(name, code, ...)                                    \
	static void test_##name(void **state)                       \
	{                                                           \
		static const uint8_t bytes[] = { __VA_ARGS__ };     \
		assert_refused(*state, bytes, sizeof(bytes), code); \
	}

REFUSED(unmasked, 1002, 0x81, 0x01, 'x')
REFUSED(reserved_bits, 1002, 0xc1, 0x81, 0, 0, 0, 0, 'x')
REFUSED(unknown_opcode, 1002, 0x83, 0x80, 0, 0, 0, 0)
REFUSED(fragmented_ping, 1002, 0x09, 0x80, 0, 0, 0, 0)
REFUSED(long_ping, 1002, 0x89, 0xfe, 0, 126)
REFUSED(stray_continuation, 1002, 0x80, 0x80, 0, 0, 0, 0)
REFUSED(message_within_message, 1002, 0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0)
REFUSED(lengths_not_minimal, 1002, 0x82, 0xfe, 0, 125, 0, 0, 0, 0)
REFUSED(lengths_not_minimal_64, 1002, 0x82, 0xff, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0)
REFUSED(negative_length, 1002, 0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
REFUSED(too_big, 1009, 0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0)
REFUSED(close_of_one_byte, 1002, 0x88, 0x81, 0, 0, 0, 0, 3)
REFUSED(close_code_1005, 1002, 0x88, 0x82, 0, 0, 0, 0, 3, 237)
REFUSED(close_code_999, 1002, 0x88, 0x82, 0, 0, 0, 0, 3, 231)
REFUSED(close_code_5000, 1002, 0x88, 0x82, 0, 0, 0, 0, 0x13, 0x88)
REFUSED(close_reason_not_utf8, 1007, 0x88, 0x83, 0, 0, 0, 0, 3, 232, 0xff)
REFUSED(utf8_stray, 1007, 0x81, 0x81, 0, 0, 0, 0, 0x80)
REFUSED(utf8_overlong, 1007, 0x81, 0x82, 0, 0, 0, 0, 0xc0, 0x80)
REFUSED(utf8_surrogate, 1007, 0x81, 0x83, 0, 0, 0, 0, 0xed, 0xa0, 0x80)
REFUSED(utf8_too_high, 1007, 0x81, 0x84, 0, 0, 0, 0, 0xf4, 0x90, 0x80, 0x80)
REFUSED(utf8_cut_off, 1007, 0x81, 0x82, 0, 0, 0, 0, 0xe2, 0x82)

static void test_fragments_beyond_the_ceiling(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 20);
	autofree char *zeros = xcalloc(1, MESSAGE_MAX);

	frame(&in, 0x02, zeros, MESSAGE_MAX);
	frame(&in, 0x80, zeros, 1);
	assert_refused(f, in.data, in.len, 1009);
}

static void test_utf8_across_frames(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 10);

	text(&in, 0x01, "\xf0\x9f");
	text(&in, 0x00, "\x98");
	text(&in, 0x80, "\x80 \xed\x9f\xbf \xf4\x8f\xbf\xbf");
	feed(f, &in, 1);
	assert_string_equal(f->log.data, "text \xf0\x9f\x98\x80 \xed\x9f\xbf \xf4\x8f\xbf\xbf;");
}

static void test_handshake(void **state UNUSED)
{
	static const char *const supported[] = { "v5.channel.k8s.io", "channel.k8s.io", NULL };
	char accept[WEBSOCKET_ACCEPT_SIZE];

	assert_int_equal(websocket_accept("dGhlIHNhbXBsZSBub25jZQ==", accept, NULL), 0);
	assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	assert_int_equal(websocket_accept("dGhlIHNhbXBsZSBub25jZQ=", accept, NULL), -1);
	assert_int_equal(websocket_accept("dGhlIHNhbXBsZSBub25jZQ!!", accept, NULL), -1);
	assert_int_equal(websocket_accept("", accept, NULL), -1);
	assert_int_equal(websocket_accept(NULL, accept, NULL), -1);
	assert_true(websocket_has_token("keep-alive, Upgrade", "upgrade"));
	assert_true(websocket_has_token(" ,upgrade ", "Upgrade"));
	assert_false(websocket_has_token("upgrades", "upgrade"));
	assert_false(websocket_has_token(NULL, "upgrade"));
	assert_string_equal(websocket_choose("x, channel.k8s.io,v5.channel.k8s.io", supported),
			    "channel.k8s.io");
	assert_null(websocket_choose("v6.channel.k8s.io", supported));
	assert_null(websocket_choose(NULL, supported));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(messages),
		TEST(sizes),
		TEST(sending),
		TEST(close_is_answered),
		TEST(close_without_code),
		TEST(unmasked),
		TEST(reserved_bits),
		TEST(unknown_opcode),
		TEST(fragmented_ping),
		TEST(long_ping),
		TEST(stray_continuation),
		TEST(message_within_message),
		TEST(lengths_not_minimal),
		TEST(lengths_not_minimal_64),
		TEST(negative_length),
		TEST(too_big),
		TEST(close_of_one_byte),
		TEST(close_code_1005),
		TEST(close_code_999),
		TEST(close_code_5000),
		TEST(close_reason_not_utf8),
		TEST(utf8_stray),
		TEST(utf8_overlong),
		TEST(utf8_surrogate),
		TEST(utf8_too_high),
		TEST(utf8_cut_off),
		TEST(fragments_beyond_the_ceiling),
		TEST(utf8_across_frames),
		TEST(handshake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
