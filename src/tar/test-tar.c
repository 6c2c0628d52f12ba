/* SPDX-License-Identifier: Apache-2.0 */
#include "tar/tar.h"

#include "base/mem.h"
#include "tar/testing-tar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/*
 * Reads a whole archive in steps of `step` bytes and writes down what came:
 * "type path link mode uid.gid size mtime.nsec {xattr=value} [offset+len:data]", one entry a line.
 */
static int describe(const struct buf *in, size_t step, struct buf *out, struct error *err)
{
	CLEANUP(tar_freep) struct tar *t = tar_new();
	size_t at = 0;

	for (;;) {
		const uint8_t *p = (const uint8_t *)in->data + at;
		size_t n = MIN(step, in->len - at), before = n;
		struct tar_data d;
		int r = tar_next(t, &p, &n, &d, err);
		at += before - n;
		const struct tar_entry *e = tar_entry(t);
		switch (r) {
		case TAR_ENTRY:
			buf_printf(out, "%d %s %s %o %u.%u %lld %lld.%09u %u:%u", e->type, e->path,
				   e->link, e->mode, e->uid, e->gid, (long long)e->size,
				   (long long)e->mtime, e->mtime_nsec, e->major, e->minor);
			for (size_t i = 0; i < e->n_xattrs; i++)
				buf_printf(out, " {%s=%zu:%s}", e->xattrs[i].name, e->xattrs[i].len,
					   e->xattrs[i].value);
			break;
		case TAR_DATA:
			for (size_t i = 0; i < d.n; i++)
				buf_printf(out, " %lld%c", (long long)d.offset + (long long)i,
					   d.p[i]);
			break;
		case TAR_ENTRY_END:
			buf_putc(out, '\n');
			break;
		case TAR_END:
			return tar_finish(t, err);
		case TAR_NEED_INPUT:
			if (at == in->len)
				return tar_finish(t, err);
			break;
		default:
			return -1;
		}
	}
}

static void expect(const struct buf *in, const char *want)
{
	static const size_t steps[] = { 1, 7, 512, 1 << 20 };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		autoerror struct error err = ERROR_INIT;
		autobuf struct buf out = BUF_INIT(1 << 20);
		int r = describe(in, steps[i], &out, &err);
		assert_string_equal(error_msg(&err), "");
		assert_int_equal(r, 0);
		assert_string_equal(out.data, want);
	}
}

static void expect_error(const struct buf *in, enum error_code code, const char *text)
{
	static const size_t steps[] = { 1, 512, 1 << 20 };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		autoerror struct error err = ERROR_INIT;
		autobuf struct buf out = BUF_INIT(1 << 20);
		assert_int_equal(describe(in, steps[i], &out, &err), -1);
		assert_non_null(strstr(error_msg(&err), text));
		assert_int_equal(err.code, code);
	}
}

#define B(name) autobuf struct buf name = BUF_INIT(8 << 20)

static void test_types(void **state)
{
	B(b);
	TAR_PUT(&b, .type = '5', .name = "d/", .mode = 01777, .mtime = 5);
	TAR_PUT(&b, .name = "d/f", .data = "abc", .size = 3, .uid = 1000, .gid = 100);
	TAR_PUT(&b, .type = '1', .name = "h", .link = "d/f", .size = 3);
	TAR_PUT(&b, .type = '2', .name = "s", .link = "/etc", .mode = 0777);
	TAR_PUT(&b, .type = '3', .name = "c", .major = 5, .minor = 1);
	TAR_PUT(&b, .type = '4', .name = "b", .major = 8, .minor = 0);
	TAR_PUT(&b, .type = '6', .name = "p");
	TAR_PUT(&b, .type = '7', .name = "cont", .data = "x", .size = 1);
	TAR_PUT(&b, .type = '0', .name = "olddir/");
	tar_put_end(&b);
	buf_puts(&b, "whatever follows");
	expect(&b, "5 d/  1777 0.0 0 5.000000000 0:0\n"
		   "0 d/f  644 1000.100 3 0.000000000 0:0 0a 1b 2c\n"
		   "1 h d/f 644 0.0 0 0.000000000 0:0\n"
		   "2 s /etc 777 0.0 0 0.000000000 0:0\n"
		   "3 c  644 0.0 0 0.000000000 5:1\n"
		   "4 b  644 0.0 0 0.000000000 8:0\n"
		   "6 p  644 0.0 0 0.000000000 0:0\n"
		   "0 cont  644 0.0 1 0.000000000 0:0 0x\n"
		   "5 olddir/  644 0.0 0 0.000000000 0:0\n");
}

static void test_names(void **state)
{
	B(b);
	char long_name[301], hundred[101];

	memset(long_name, 'n', 300);
	long_name[300] = '\0';
	memset(hundred, 'h', 100);
	hundred[100] = '\0';
	TAR_PUT(&b, .name = hundred);
	TAR_PUT(&b, .name = "name", .prefix = "some/prefix");
	TAR_PUT(&b, .name = "name", .prefix = "ignored", .magic = "ustar  ");
	TAR_PUT(&b, .type = 'L', .name = "././@LongLink", .data = long_name, .size = 301);
	TAR_PUT(&b, .type = 'K', .name = "././@LongLink", .data = long_name, .size = 301);
	TAR_PUT(&b, .type = '2', .name = "short", .link = "x", .magic = "ustar  ");
	TAR_PUT(&b, .name = "next");
	autofree char *want = xasprintf("0 %s  644 0.0 0 0.000000000 0:0\n"
					"0 some/prefix/name  644 0.0 0 0.000000000 0:0\n"
					"0 name  644 0.0 0 0.000000000 0:0\n"
					"2 %s %s 644 0.0 0 0.000000000 0:0\n"
					"0 next  644 0.0 0 0.000000000 0:0\n",
					hundred, long_name, long_name);
	expect(&b, want);
}

static void test_numbers(void **state)
{
	B(b);
	/* uid 3000000 and mtime -2 in base-256; spaces around octal */
	TAR_PUT(&b, .name = "a", .magic = "ustar  ", .raw_at = 108, .raw_len = 8,
		.raw = "\x80\0\0\0\0\x2d\xc6\xc0");
	TAR_PUT(&b, .name = "b", .raw_at = 136, .raw_len = 12,
		.raw = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe");
	TAR_PUT(&b, .name = "c", .data = "xy", .size_field = "         2  ", .size = 2);
	expect(&b, "0 a  644 3000000.0 0 0.000000000 0:0\n"
		   "0 b  644 0.0 0 -2.000000000 0:0\n"
		   "0 c  644 0.0 2 0.000000000 0:0 0x 1y\n");
}

static void test_pax(void **state)
{
	B(b);
	B(r);
	TAR_PUT(&b, .type = 'g', .name = "pax_global_header", .data = "17 path=global!\n",
		.size = 17);
	tar_pax_record(&r, "path", "from/pax", 8);
	tar_pax_record(&r, "mtime", "1700000000.123456789999", 23);
	tar_pax_record(&r, "uid", "2147483647", 10);
	tar_pax_record(&r, "gid", "70000", 5);
	tar_pax_record(&r, "SCHILY.xattr.user.a", "v\0w", 3);
	tar_pax_record(&r, "SCHILY.xattr.user.b", "", 0);
	tar_pax_record(&r, "LIBARCHIVE.xattr.user.%63%3d", "aGVsbG8", 7);
	tar_pax_record(&r, "comment", "no matter", 9);
	tar_put_pax(&b, &r);
	TAR_PUT(&b, .name = "short", .data = "z", .size = 1);
	tar_pax_record(&r, "mtime", "-1.25", 5);
	tar_pax_record(&r, "path", "x", 1);
	tar_pax_record(&r, "path", "", 0);
	tar_pax_record(&r, "linkpath", "target", 6);
	tar_put_pax(&b, &r);
	TAR_PUT(&b, .type = '2', .name = "back");
	tar_pax_record(&r, "size", "4", 1);
	tar_put_pax(&b, &r);
	TAR_PUT(&b, .name = "sized", .data = "1234", .size_field = "00000000000", .size = 4);
	expect(&b, "0 from/pax  644 2147483647.70000 1 1700000000.123456789 0:0 {user.a=3:v} "
		   "{user.b=0:} {user.c==5:hello} 0z\n"
		   "2 back target 644 0.0 0 -2.750000000 0:0\n"
		   "0 sized  644 0.0 4 0.000000000 0:0 01 12 23 34\n");
}

static void put_sparse_pair(char *at, unsigned offset, unsigned len)
{
	memcpy(at,
	       "00000000000\0"
	       "00000000000",
	       24);
	for (int i = 10; offset; i--, offset >>= 3)
		at[i] = (char)('0' + (offset & 7));
	for (int i = 22; len; i--, len >>= 3)
		at[i] = (char)('0' + (len & 7));
}

static void test_old_sparse(void **state)
{
	B(b);
	char raw[4 * 24 + 13] = { 0 };
	char more[512] = { 0 };

	for (unsigned i = 0; i < 4; i++)
		put_sparse_pair(raw + i * 24, 10 * i, 1);
	raw[96] = 1;
	memcpy(raw + 97, "00000000100", 12);
	put_sparse_pair(more, 40, 2);
	put_sparse_pair(more + 24, 64, 0);
	TAR_PUT(&b, .type = 'S', .name = "sparse", .size = 6, .magic = "ustar  ", .raw_at = 386,
		.raw_len = sizeof(raw), .raw = raw);
	buf_append(&b, more, 512);
	buf_append(&b, "abcdef", 6);
	char pad[506] = { 0 };
	buf_append(&b, pad, sizeof(pad));
	TAR_PUT(&b, .name = "next");
	expect(&b, "0 sparse  644 0.0 64 0.000000000 0:0 0a 10b 20c 30d 40e 41f\n"
		   "0 next  644 0.0 0 0.000000000 0:0\n");
}

static void test_pax_sparse(void **state)
{
	B(b);
	B(r);
	char map[512] = "2\n5\n2\n20\n1\n";
	char body[512 + 3];

	/* 0.0 */
	tar_pax_record(&r, "GNU.sparse.size", "30", 2);
	tar_pax_record(&r, "GNU.sparse.numblocks", "2", 1);
	tar_pax_record(&r, "GNU.sparse.offset", "5", 1);
	tar_pax_record(&r, "GNU.sparse.numbytes", "2", 1);
	tar_pax_record(&r, "GNU.sparse.offset", "20", 2);
	tar_pax_record(&r, "GNU.sparse.numbytes", "1", 1);
	tar_put_pax(&b, &r);
	TAR_PUT(&b, .name = "s00", .data = "abc", .size = 3);
	/* 0.1 */
	tar_pax_record(&r, "GNU.sparse.size", "30", 2);
	tar_pax_record(&r, "GNU.sparse.name", "s01", 3);
	tar_pax_record(&r, "GNU.sparse.map", "5,2,20,1", 8);
	tar_put_pax(&b, &r);
	TAR_PUT(&b, .name = "GNUSparseFile.1/s01", .data = "abc", .size = 3);
	/* 1.0 */
	memcpy(body, map, 512);
	memcpy(body + 512, "abc", 3);
	tar_pax_record(&r, "GNU.sparse.major", "1", 1);
	tar_pax_record(&r, "GNU.sparse.minor", "0", 1);
	tar_pax_record(&r, "GNU.sparse.name", "s10", 3);
	tar_pax_record(&r, "GNU.sparse.realsize", "30", 2);
	tar_put_pax(&b, &r);
	TAR_PUT(&b, .name = "GNUSparseFile.1/s10", .data = body, .size = sizeof(body));
	TAR_PUT(&b, .name = "next");
	expect(&b, "0 s00  644 0.0 30 0.000000000 0:0 5a 6b 20c\n"
		   "0 s01  644 0.0 30 0.000000000 0:0 5a 6b 20c\n"
		   "0 s10  644 0.0 30 0.000000000 0:0 5a 6b 20c\n"
		   "0 next  644 0.0 0 0.000000000 0:0\n");
}

static void test_ends(void **state)
{
	B(empty);
	expect(&empty, "");
	tar_put_end(&empty);
	expect(&empty, "");

	B(b);
	TAR_PUT(&b, .name = "f", .data = "abc", .size = 3);
	size_t whole = b.len;
	for (size_t cut = 1; cut < whole; cut += 100) {
		b.len = cut;
		expect_error(&b, ERROR_DATA_LOSS, "truncated");
	}
	b.len = whole;
	buf_append(&b, (char[512]){ 0 }, 512);
	expect(&b, "0 f  644 0.0 3 0.000000000 0:0 0a 1b 2c\n");
	TAR_PUT(&b, .name = "late");
	expect_error(&b, ERROR_INVALID_ARGUMENT, "follows a block of zeros");
}

static void test_bad_headers(void **state)
{
	static const struct {
		struct tar_spec spec;
		const char *text;
	} cases[] = {
		{ { .name = "f", .bad_checksum = true }, "checksum" },
		{ { .name = "f", .size_field = "0000000000x" }, "size" },
		{ { .name = "f", .size_field = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" },
		  "size" },
		{ { .name = "f", .size_field = "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff" },
		  "size" },
		{ { .name = "f", .size_field = "\x80\0\0\1\0\0\0\0\0\0\0\0" }, "size" },
		{ { .name = "f", .type = 'Z' }, "unknown type" },
		{ { .name = "f",
		    .raw = "\xff\xff\xff\xff\xff\xff\xff\xff",
		    .raw_at = 108,
		    .raw_len = 8 },
		  "owner is out of range" },
		{ { .name = "f", .raw = "\x80\0\0\0\x80\0\0\0", .raw_at = 108, .raw_len = 8 },
		  "owner is out of range" },
		{ { .name = "f", .type = 'x', .size_field = "77777777777" }, "extended header" },
		{ { .name = "f", .type = 'L', .size_field = "00000020000" }, "extended header" },
		{ { .name = "f", .type = 'S', .magic = "ustar  ", .size_field = "00000000005" },
		  "sparse map" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		B(b);
		tar_put(&b, &cases[i].spec);
		expect_error(&b, ERROR_INVALID_ARGUMENT, cases[i].text);
	}
}

static void test_bad_pax(void **state)
{
	static const char *const raw[] = {
		"x",
		"3 a",
		"5 a=b\n",
		"999999999 a=b\n",
		"6 a=b",
		"6 =ab\n",
		"6 abc\n",
		" 6 a=b\n",
		"-6 a=b\n",
		"0 a=b\n",
		"2 a=b\n",
		"9 uid=-1\n",
		"9 size=x\n",
		"10 mtime=x\n",
		"12 mtime=1.x\n",
		"14 size=999999999999999999999\n",
		"22 GNU.sparse.offset=5\n",
		"23 GNU.sparse.map=5,2,1\n",
		"25 GNU.sparse.map=5,9,6,1\n",
		"24 GNU.sparse.map=5;2,1\n",
		"26 GNU.sparse.numbytes=10\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(raw); i++) {
		B(b);
		TAR_PUT(&b, .type = 'x', .name = "pax", .data = raw[i], .size = strlen(raw[i]));
		TAR_PUT(&b, .name = "f");
		expect_error(&b, ERROR_INVALID_ARGUMENT, "");
	}

	B(b);
	B(r);
	tar_pax_record(&r, "path", "a\0b", 3);
	tar_put_pax(&b, &r);
	expect_error(&b, ERROR_INVALID_ARGUMENT, "path");
	buf_clear(&b);
	autofree char *big = xmalloc(TAR_XATTR_MAX + 1);
	memset(big, 'x', TAR_XATTR_MAX + 1);
	tar_pax_record(&r, "SCHILY.xattr.user.big", big, TAR_XATTR_MAX + 1);
	tar_put_pax(&b, &r);
	expect_error(&b, ERROR_INVALID_ARGUMENT, "user.big");
	buf_clear(&b);
	for (int i = 0; i < 300; i++) {
		autofree char *key = xasprintf("SCHILY.xattr.user.%d", i);
		tar_pax_record(&r, key, "v", 1);
	}
	tar_put_pax(&b, &r);
	expect_error(&b, ERROR_INVALID_ARGUMENT, "extended attributes");
	buf_clear(&b);
	tar_pax_record(&r, "path", big, TAR_PATH_MAX + 1);
	tar_put_pax(&b, &r);
	expect_error(&b, ERROR_INVALID_ARGUMENT, "longer than");
}

static void test_bad_sparse(void **state)
{
	static const char *const maps[] = {
		"0,9",			 /* more than is stored */
		"0,2",			 /* less */
		"0,3,1,1",		 /* overlap */
		"28,3",			 /* beyond the size */
		"9223372036854775807,3", /* overflow */
	};

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		B(b);
		B(r);
		tar_pax_record(&r, "GNU.sparse.size", "30", 2);
		tar_pax_record(&r, "GNU.sparse.map", maps[i], strlen(maps[i]));
		tar_put_pax(&b, &r);
		TAR_PUT(&b, .name = "s", .data = "abc", .size = 3);
		expect_error(&b, ERROR_INVALID_ARGUMENT, "sparse map");
	}

	static const char *const texts[] = { "x", "1\n\n", "1\n0\n99999999999999999999\n",
					     "999999999\n", "-1\n" };
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		B(b);
		B(r);
		char block[512] = { 0 };
		memcpy(block, texts[i], strlen(texts[i]));
		tar_pax_record(&r, "GNU.sparse.major", "1", 1);
		tar_pax_record(&r, "GNU.sparse.minor", "0", 1);
		tar_pax_record(&r, "GNU.sparse.realsize", "30", 2);
		tar_put_pax(&b, &r);
		TAR_PUT(&b, .name = "s", .data = block, .size = 512);
		expect_error(&b, ERROR_INVALID_ARGUMENT, "sparse map");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),	   cmocka_unit_test(test_names),
		cmocka_unit_test(test_numbers),	   cmocka_unit_test(test_pax),
		cmocka_unit_test(test_old_sparse), cmocka_unit_test(test_pax_sparse),
		cmocka_unit_test(test_ends),	   cmocka_unit_test(test_bad_headers),
		cmocka_unit_test(test_bad_pax),	   cmocka_unit_test(test_bad_sparse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
