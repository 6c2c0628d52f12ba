/* SPDX-License-Identifier: Apache-2.0 */
#include "http/spdy.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

struct fixture {
	struct spdy *s;
	struct buf out, log;
	z_stream deflate;
	z_stream inflate;
};

static enum spdy_status on_stream(uint32_t id, const struct spdy_headers *h, void **ret_user,
				  void *arg)
{
	struct fixture *f = arg;
	const char *type = spdy_header_get(h, "StreamType");

	buf_printf(&f->log, "open %u %s;", id, type ? type : "-");
	*ret_user = f;
	return type && strcmp(type, "bad") == 0 ? SPDY_REFUSED_STREAM : SPDY_OK;
}

static void on_data(uint32_t id, void *user, const void *p, size_t n, void *arg)
{
	struct fixture *f = arg;

	assert_ptr_equal(user, f);
	buf_printf(&f->log, "data %u %.*s;", id, (int)n, (const char *)p);
}

static void on_end(uint32_t id, void *user UNUSED, void *arg)
{
	struct fixture *f = arg;

	buf_printf(&f->log, "end %u;", id);
}

static void on_reset(uint32_t id, void *user UNUSED, void *arg)
{
	struct fixture *f = arg;

	buf_printf(&f->log, "reset %u;", id);
}

static const struct spdy_ops ops = {
	.on_stream = on_stream,
	.on_data = on_data,
	.on_end = on_end,
	.on_reset = on_reset,
};

static int setup(void **state)
{
	struct fixture *f = xnew(struct fixture);
	const struct spdy_config config = {
		.out = &f->out, .max_streams = 4, .ops = &ops, .arg = f
	};
	size_t n;

	f->out = BUF_INIT(1 << 20);
	f->log = BUF_INIT(1 << 20);
	f->s = spdy_new(&config);
	deflateInit(&f->deflate, Z_BEST_COMPRESSION);
	const void *dictionary = spdy_dictionary(&n);
	deflateSetDictionary(&f->deflate, dictionary, (uInt)n);
	inflateInit(&f->inflate);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	spdy_free(f->s);
	buf_done(&f->out);
	buf_done(&f->log);
	deflateEnd(&f->deflate);
	inflateEnd(&f->inflate);
	free(f);
	return 0;
}

static void put32(struct buf *b, uint32_t v)
{
	for (int shift = 24; shift >= 0; shift -= 8)
		buf_putc(b, (char)(v >> shift));
}

static void put_string(struct buf *b, const char *s)
{
	put32(b, (uint32_t)strlen(s));
	buf_puts(b, s);
}

static void deflate_block(struct fixture *f, const struct buf *plain, struct buf *out)
{
	buf_reserve(out, plain->len + 256);
	f->deflate.next_in = (Bytef *)plain->data;
	f->deflate.avail_in = (uInt)plain->len;
	f->deflate.next_out = (Bytef *)out->data + out->len;
	f->deflate.avail_out = (uInt)plain->len + 256;
	assert_int_equal(deflate(&f->deflate, Z_SYNC_FLUSH), Z_OK);
	buf_advance(out, plain->len + 256 - f->deflate.avail_out);
}

static void put_frame(struct buf *out, uint32_t first, uint8_t flags, const struct buf *payload)
{
	put32(out, first);
	put32(out, (uint32_t)flags << 24 | (uint32_t)payload->len);
	buf_append(out, payload->data, payload->len);
}

static void syn_stream(struct fixture *f, struct buf *out, uint32_t id, uint8_t flags,
		       const struct buf *headers)
{
	autobuf struct buf payload = BUF_INIT(1 << 20);

	put32(&payload, id);
	put32(&payload, 0);
	buf_append(&payload, "\0\0", 2);
	deflate_block(f, headers, &payload);
	put_frame(out, 0x80030001, flags, &payload);
}

static void open_stream(struct fixture *f, struct buf *out, uint32_t id, uint8_t flags,
			const char *type)
{
	autobuf struct buf headers = BUF_INIT(1 << 20);

	put32(&headers, 2);
	put_string(&headers, "streamtype");
	put_string(&headers, type);
	put_string(&headers, "port");
	put_string(&headers, "80");
	syn_stream(f, out, id, flags, &headers);
}

static void data(struct buf *out, uint32_t id, uint8_t flags, const char *text)
{
	struct buf payload = { .data = (char *)(uintptr_t)text, .len = strlen(text) };

	put_frame(out, id, flags, &payload);
}

static void control(struct buf *out, uint32_t type, uint32_t a, uint32_t b, size_t n)
{
	autobuf struct buf payload = BUF_INIT(64);

	put32(&payload, a);
	put32(&payload, b);
	payload.len = n;
	put_frame(out, 0x80030000 | type, 0, &payload);
}

static void feed(struct fixture *f, const struct buf *in, size_t piece)
{
	for (size_t i = 0; i < in->len; i += piece)
		assert_int_equal(spdy_feed(f->s, in->data + i, MIN(piece, in->len - i), NULL), 0);
}

static uint32_t get32(const char *p)
{
	const uint8_t *b = (const uint8_t *)p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Whatever was sent, in words; replies' headers are inflated as a client would. */
static char *sent(struct fixture *f)
{
	struct buf b = BUF_INIT(1 << 20);
	size_t pos = 0;

	while (pos < f->out.len) {
		const char *p = f->out.data + pos;
		uint32_t first = get32(p), len = get32(p + 4) & 0xffffff;
		bool fin = p[4] & 1;

		pos += 8 + len;
		assert_true(pos <= f->out.len);
		if (first >> 31 == 0) {
			buf_printf(&b, "data %u %.*s%s;", first, (int)len, p + 8,
				   fin ? " fin" : "");
			continue;
		}
		assert_int_equal(first >> 16, 0x8003);
		buf_printf(&b, "%u:%u", first & 0xffff, get32(p + 8));
		if ((first & 0xffff) == 2) {
			char plain[64];
			size_t n;
			const void *dictionary = spdy_dictionary(&n);

			f->inflate.next_in = (Bytef *)(uintptr_t)p + 12;
			f->inflate.avail_in = len - 4;
			f->inflate.next_out = (Bytef *)plain;
			f->inflate.avail_out = sizeof(plain);
			int r = inflate(&f->inflate, Z_SYNC_FLUSH);
			if (r == Z_NEED_DICT) {
				inflateSetDictionary(&f->inflate, dictionary, (uInt)n);
				r = inflate(&f->inflate, Z_SYNC_FLUSH);
			}
			assert_int_equal(r, Z_OK);
			assert_int_equal(f->inflate.avail_in, 0);
			assert_int_equal(sizeof(plain) - f->inflate.avail_out, 4);
			assert_int_equal(get32(plain), 0);
		} else if (len == 8) {
			buf_printf(&b, ",%u", get32(p + 12));
		}
		buf_putc(&b, ';');
	}
	buf_clear(&f->out);
	return buf_steal(&b, NULL);
}

static void assert_sent(struct fixture *f, const char *expected)
{
	autofree char *text = sent(f);

	assert_string_equal(text, expected);
}

static void test_streams_open_and_end(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 20);

	open_stream(f, &in, 1, 0, "error");
	open_stream(f, &in, 3, 0, "stdin");
	data(&in, 3, 0, "hello");
	data(&in, 3, 1, "");
	open_stream(f, &in, 5, 1, "stdout");
	feed(f, &in, in.len);
	assert_string_equal(f->log.data,
			    "open 1 error;open 3 stdin;data 3 hello;end 3;open 5 stdout;end 5;");
	assert_sent(f, "2:1;2:3;2:5;");
	assert_int_equal(spdy_streams(f->s), 3);
	spdy_send(f->s, 5, "out", 3);
	spdy_end(f->s, 5);
	spdy_send(f->s, 5, "late", 4);
	spdy_end(f->s, 1);
	spdy_end(f->s, 1);
	assert_sent(f, "data 5 out;data 5  fin;data 1  fin;");
	assert_int_equal(spdy_streams(f->s), 2);
}

static void test_pieces_of_any_size(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 20);

	open_stream(f, &in, 1, 0, "error");
	control(&in, 6, 7, 0, 4);
	open_stream(f, &in, 3, 0, "data");
	data(&in, 3, 0, "x");
	data(&in, 3, 0, "y");
	control(&in, 3, 3, 5, 8);
	feed(f, &in, 1);
	assert_string_equal(f->log.data, "open 1 error;open 3 data;data 3 x;data 3 y;reset 3;");
	assert_sent(f, "2:1;6:7;2:3;");
}

static void test_refused_streams_keep_the_context(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 20);

	open_stream(f, &in, 1, 0, "bad");
	data(&in, 1, 1, "to nobody");
	open_stream(f, &in, 3, 0, "good");
	feed(f, &in, in.len);
	assert_string_equal(f->log.data, "open 1 bad;open 3 good;");
	assert_sent(f, "3:1,3;2:3;");
}

static void test_too_many_streams(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 20);

	for (uint32_t id = 1; id <= 11; id += 2)
		open_stream(f, &in, id, 0, "x");
	feed(f, &in, in.len);
	assert_int_equal(spdy_streams(f->s), 4);
	assert_sent(f, "2:1;2:3;2:5;2:7;3:9,3;3:11,3;");
	/* One that goes makes room. */
	spdy_reset(f->s, 3, SPDY_CANCEL);
	buf_clear(&in);
	open_stream(f, &in, 13, 0, "x");
	feed(f, &in, in.len);
	assert_sent(f, "3:3,5;2:13;");
}

static void test_stray_data_and_control(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 20);

	data(&in, 9, 0, "nobody");
	open_stream(f, &in, 1, 1, "x");
	data(&in, 1, 0, "after the end");
	control(&in, 4, 0, 0, 4);   /* SETTINGS */
	control(&in, 9, 1, 100, 8); /* WINDOW_UPDATE */
	control(&in, 6, 2, 0, 4);   /* somebody else's PING */
	control(&in, 77, 2, 0, 4);
	feed(f, &in, in.len);
	assert_string_equal(f->log.data, "open 1 x;end 1;reset 1;");
	assert_sent(f, "3:9,2;2:1;3:1,9;");
	control(&in, 7, 0, 0, 8);
	buf_clear(&in);
	control(&in, 7, 0, 0, 8); /* GOAWAY: no new streams */
	open_stream(f, &in, 3, 0, "x");
	feed(f, &in, in.len);
	assert_sent(f, "3:3,3;");
}

static void assert_broken(struct fixture *f, const struct buf *in)
{
	autoerror struct error err = ERROR_INIT;

	assert_int_equal(spdy_feed(f->s, in->data, in->len, &err), -1);
	assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
	autofree char *text = sent(f);
	assert_non_null(strstr(text, "7:"));
	assert_int_equal(spdy_feed(f->s, "x", 1, NULL), -1);
}

static void test_wrong_version(void **state)
{
	autobuf struct buf in = BUF_INIT(64);

	put32(&in, 0x80020006);
	put32(&in, 4);
	assert_broken(*state, &in);
}

static void test_ids_must_ascend(void **state)
{
	autobuf struct buf in = BUF_INIT(1 << 20);

	open_stream(*state, &in, 5, 0, "x");
	open_stream(*state, &in, 5, 0, "x");
	assert_broken(*state, &in);
}

static void test_even_id(void **state)
{
	autobuf struct buf in = BUF_INIT(1 << 20);

	open_stream(*state, &in, 2, 0, "x");
	assert_broken(*state, &in);
}

static void test_long_control_frame(void **state)
{
	autobuf struct buf in = BUF_INIT(64);

	put32(&in, 0x80030001);
	put32(&in, SPDY_HEADERS_MAX + 1);
	assert_broken(*state, &in);
}

static void test_garbage_block(void **state)
{
	autobuf struct buf in = BUF_INIT(64), payload = BUF_INIT(64);

	put32(&payload, 1);
	put32(&payload, 0);
	buf_append(&payload, "\0\0garbage!", 10);
	put_frame(&in, 0x80030001, 0, &payload);
	assert_broken(*state, &in);
	buf_done(&payload);
}

static void test_block_that_grows(void **state)
{
	struct fixture *f = *state;
	autobuf struct buf in = BUF_INIT(1 << 20), headers = BUF_INIT(1 << 20);
	autofree char *zeros = xcalloc(1, SPDY_HEADERS_MAX * 8);

	put32(&headers, 1);
	put_string(&headers, "name");
	put32(&headers, SPDY_HEADERS_MAX * 8);
	buf_append(&headers, zeros, SPDY_HEADERS_MAX * 8);
	syn_stream(f, &in, 1, 0, &headers);
	assert_true(in.len < SPDY_HEADERS_MAX);
	assert_broken(f, &in);
}

static void test_malformed_headers_reset_the_stream(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{ "", 0 },
		{ "\0\0\0\1", 4 },
		{ "\0\0\0\1\0\0\0\1a", 9 },
		{ "\0\0\0\1\0\0\0\1a\0\0\0\2b", 14 },
		{ "\0\0\0\1\377\377\377\377a\0\0\0\1b", 14 },
		{ "\0\0\0\1\0\0\0\0\0\0\0\1b", 13 }, /* no name */
		{ "\0\0\0\0x", 5 },
		{ "\0\0\1\0\0\0\0\1a\0\0\0\1b", 14 },
	};
	struct fixture *f = *state;
	uint32_t id = 1;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++, id += 2) {
		struct buf block = { .data = (char *)(uintptr_t)cases[i].bytes,
				     .len = cases[i].len };
		autobuf struct buf in = BUF_INIT(1 << 20);
		autofree char *expected = xasprintf("3:%u,1;", id);

		syn_stream(f, &in, id, 0, &block);
		feed(f, &in, in.len);
		assert_sent(f, expected);
	}
	autobuf struct buf in = BUF_INIT(1 << 20);
	open_stream(f, &in, id, 0, "fine");
	feed(f, &in, in.len);
	assert_string_equal(f->log.data, "open 17 fine;");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_streams_open_and_end),
		TEST(test_pieces_of_any_size),
		TEST(test_refused_streams_keep_the_context),
		TEST(test_too_many_streams),
		TEST(test_stray_data_and_control),
		TEST(test_wrong_version),
		TEST(test_ids_must_ascend),
		TEST(test_even_id),
		TEST(test_long_control_frame),
		TEST(test_garbage_block),
		TEST(test_block_that_grows),
		TEST(test_malformed_headers_reset_the_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
