/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/decompress.h"

#include "base/buf.h"
#include "base/mem.h"

#include <bzlib.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <zstd.h>

#include <cmocka.h>

#define TEXT_SIZE 300000

static char text[TEXT_SIZE];

static int setup(void **state)
{
	uint32_t x = 1;

	for (size_t i = 0; i < sizeof(text); i++) {
		x = x * 1103515245 + 12345;
		text[i] = i % 1000 < 500 ? "abcdefgh"[x >> 29] : (char)(x >> 24);
	}
	return 0;
}

#define B(name) autobuf struct buf name = BUF_INIT(BUF_NO_LIMIT)

static void put_gzip(struct buf *b, const void *p, size_t n)
{
	autofree struct isal_zstream *z = xnew(struct isal_zstream);
	size_t room = n + n / 8 + 4096;

	isal_deflate_init(z);
	z->gzip_flag = IGZIP_GZIP;
	z->end_of_stream = 1;
	z->next_in = (uint8_t *)p;
	z->avail_in = (uint32_t)n;
	buf_reserve(b, room);
	z->next_out = (uint8_t *)b->data + b->len;
	z->avail_out = (uint32_t)room;
	assert_int_equal(isal_deflate(z), COMP_OK);
	buf_advance(b, room - z->avail_out);
}

static void put_zstd(struct buf *b, const void *p, size_t n)
{
	buf_reserve(b, ZSTD_compressBound(n));
	size_t r = ZSTD_compress(b->data + b->len, ZSTD_compressBound(n), p, n, 3);
	assert_false(ZSTD_isError(r));
	buf_advance(b, r);
}

static void put_xz(struct buf *b, const void *p, size_t n)
{
	size_t room = lzma_stream_buffer_bound(n), at = 0;

	buf_reserve(b, room);
	assert_int_equal(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, NULL, p, n,
						 (uint8_t *)b->data + b->len, &at, room),
			 LZMA_OK);
	buf_advance(b, at);
}

static void put_bzip2(struct buf *b, const void *p, size_t n)
{
	unsigned room = (unsigned)(n + n / 50 + 1024);

	buf_reserve(b, room);
	assert_int_equal(
		BZ2_bzBuffToBuffCompress(b->data + b->len, &room, (char *)p, (unsigned)n, 1, 0, 0),
		BZ_OK);
	buf_advance(b, room);
}

/* Feeds `step` bytes at a time into buffers of `room` bytes. */
static int run(const struct buf *in, size_t step, size_t room, const struct decompress_limits *l,
	       struct buf *out, struct error *err)
{
	CLEANUP(decompress_freep) struct decompress *d = decompress_new(l);
	autofree uint8_t *chunk = xmalloc(room);
	size_t at = 0;

	for (;;) {
		const uint8_t *p = (const uint8_t *)in->data + at;
		size_t n = MIN(step, in->len - at), before = n, got;
		bool eof = at == in->len;
		if (decompress_run(d, &p, &n, eof, chunk, room, &got, err) < 0)
			return -1;
		at += before - n;
		buf_append(out, chunk, got);
		if (eof && got == 0)
			return 0;
	}
}

static const struct decompress_limits all = { .all_formats = true };

static void expect(const struct buf *in, const void *want, size_t len)
{
	static const size_t sizes[][2] = {
		{ 1, 100000 },	 { 7, 4096 },	       { 100, 100 },
		{ 4096, 65536 }, { 1 << 20, 1 << 20 }, { 1 << 20, 777 }
	};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		autoerror struct error err = ERROR_INIT;
		B(out);
		int r = run(in, sizes[i][0], sizes[i][1], &all, &out, &err);
		assert_string_equal(error_msg(&err), "");
		assert_int_equal(r, 0);
		assert_int_equal(out.len, len);
		assert_memory_equal(out.data, want, len);
	}
}

static void expect_error(const struct buf *in, enum error_code code, const char *message)
{
	static const size_t sizes[][2] = { { 1, 100000 }, { 1 << 20, 1 << 20 }, { 100, 100 } };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		autoerror struct error err = ERROR_INIT;
		B(out);
		assert_int_equal(run(in, sizes[i][0], sizes[i][1], &all, &out, &err), -1);
		assert_non_null(strstr(error_msg(&err), message));
		assert_int_equal(err.code, code);
	}
}

static const struct {
	const char *name;
	void (*put)(struct buf *b, const void *p, size_t n);
} formats[] = {
	{ "gzip", put_gzip }, { "zstd", put_zstd }, { "xz", put_xz }, { "bzip2", put_bzip2 }
};

static void test_formats(void **state)
{
	B(plain);

	buf_append(&plain, text, sizeof(text));
	expect(&plain, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		B(b);
		formats[i].put(&b, text, sizeof(text));
		expect(&b, text, sizeof(text));
		/* several members, an empty one among them */
		formats[i].put(&b, "", 0);
		buf_clear(&b);
		formats[i].put(&b, text, 1000);
		formats[i].put(&b, "", 0);
		formats[i].put(&b, text + 1000, sizeof(text) - 1000);
		expect(&b, text, sizeof(text));
		/* zeros to the end of a tape's block */
		buf_append(&b, (char[512]){ 0 }, 512);
		expect(&b, text, sizeof(text));
	}
}

static void test_short(void **state)
{
	B(b);

	expect(&b, "", 0);
	buf_puts(&b, "\x1f\x8b");
	expect(&b, "\x1f\x8b", 2);
	buf_clear(&b);
	put_gzip(&b, "", 0);
	expect(&b, "", 0);
}

static void test_gzip_header(void **state)
{
	static const char header[] = "\x1f\x8b\x08\x1e\0\0\0\0\0\xff"
				     "\x03\x00"
				     "xyz"
				     "name\0"
				     "a comment\0"
				     "\x12\x34";
	B(plain);
	B(b);

	put_gzip(&plain, text, 5000);
	buf_append(&b, header, sizeof(header) - 1);
	buf_append(&b, plain.data + 10, plain.len - 10);
	expect(&b, text, 5000);
	b.data[3] = (char)0xe0;
	expect_error(&b, ERROR_DATA_LOSS, "header flags");
}

static void test_zstd_skippable(void **state)
{
	B(b);

	buf_append(&b, "\x50\x2a\x4d\x18\x05\0\0\0hello", 13);
	put_zstd(&b, text, 100);
	buf_append(&b, "\x5f\x2a\x4d\x18\x00\0\0\0", 8);
	put_zstd(&b, text + 100, 100);
	expect(&b, text, 200);
}

static void test_truncated(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		B(b);
		formats[i].put(&b, text, 20000);
		size_t whole = b.len;
		for (size_t cut = 6; cut < whole; cut += 997) {
			b.len = cut;
			expect_error(&b, ERROR_DATA_LOSS, "truncated");
		}
		b.len = whole - 1;
		expect_error(&b, ERROR_DATA_LOSS, "truncated");
	}
}

static void test_corrupt(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		B(b);
		formats[i].put(&b, text, 20000);
		buf_puts(&b, "garbage");
		expect_error(&b, ERROR_DATA_LOSS, "");
		b.len -= 7;
		b.data[b.len - (i == 0 ? 6 : 4)] ^= 1; /* a checksum */
		if (i != 1)			       /* zstd has none by default */
			expect_error(&b, ERROR_DATA_LOSS, "");
	}
}

static void test_limits(void **state)
{
	autofree char *zeros = xcalloc(1, 100 << 20);
	B(b);
	B(out);
	autoerror struct error err = ERROR_INIT;

	put_gzip(&b, zeros, 100 << 20);
	struct decompress_limits bytes = { .max_bytes = 1 << 20 };
	assert_int_equal(run(&b, 4096, 1 << 16, &bytes, &out, &err), -1);
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	assert_true(out.len <= 1 << 20);
	buf_clear(&out);
	struct decompress_limits ratio = { .max_ratio = 20 };
	assert_int_equal(run(&b, 4096, 1 << 16, &ratio, &out, &err), -1);
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	/* Layers are never xz. */
	buf_clear(&b);
	buf_clear(&out);
	put_xz(&b, "text", 4);
	assert_int_equal(run(&b, 4096, 1 << 16, NULL, &out, &err), 0);
	assert_int_equal(out.len, b.len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),	    cmocka_unit_test(test_short),
		cmocka_unit_test(test_gzip_header), cmocka_unit_test(test_zstd_skippable),
		cmocka_unit_test(test_truncated),   cmocka_unit_test(test_corrupt),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
