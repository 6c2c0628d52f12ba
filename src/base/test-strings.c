/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/buf.h"
#include "base/hex.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/strv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_buf_grows_to_its_ceiling(void **state)
{
	autobuf struct buf b = BUF_INIT(10);

	assert_string_equal(b.data, "");
	assert_int_equal(buf_puts(&b, "12345"), 0);
	assert_int_equal(buf_printf(&b, "%d", 67890), 0);
	assert_string_equal(b.data, "1234567890");
	assert_int_equal(b.len, 10);
	assert_int_equal(buf_putc(&b, 'x'), -ENOBUFS);
	assert_true(b.overflow);
	assert_string_equal(b.data, "1234567890");
	buf_consume(&b, 10);
	assert_int_equal(buf_puts(&b, "a"), -ENOBUFS); /* overflow is remembered */
	buf_clear(&b);
	assert_int_equal(buf_puts(&b, "a"), 0);
}

static void test_buf_move(void **state)
{
	autobuf struct buf a = BUF_INIT(8), b = BUF_INIT(20);

	assert_int_equal(buf_puts(&b, "one"), 0);
	const char *data = b.data;
	assert_int_equal(buf_move(&a, &b), 0);
	assert_ptr_equal(a.data, data);
	assert_string_equal(a.data, "one");
	assert_int_equal(b.len, 0);
	assert_int_equal(a.max, 8);
	assert_int_equal(buf_puts(&b, "two"), 0);
	assert_int_equal(buf_move(&a, &b), 0);
	assert_string_equal(a.data, "onetwo");
	assert_string_equal(b.data, "");
	assert_int_equal(buf_move(&a, &b), 0);
	assert_int_equal(buf_puts(&b, "three"), 0);
	assert_int_equal(buf_move(&a, &b), -ENOBUFS);
	assert_string_equal(b.data, "three");
	buf_done(&a);
	assert_int_equal(buf_puts(&b, " is too long"), 0);
	assert_int_equal(buf_move(&a, &b), -ENOBUFS);
	assert_true(a.overflow);
}

static void test_buf_steal_and_consume(void **state)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);
	size_t len;

	autofree char *none = buf_steal(&b, &len);
	assert_string_equal(none, "");
	assert_int_equal(len, 0);
	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%04d", i);
	assert_int_equal(b.len, 4000);
	buf_consume(&b, 3996);
	assert_string_equal(b.data, "0999");
	assert_int_equal(buf_append(&b, "\0x", 2), 0);
	autofree char *some = buf_steal(&b, &len);
	assert_int_equal(len, 6);
	assert_memory_equal(some, "0999\0x", 7);
	assert_string_equal(b.data, "");
}

static void test_arena(void **state)
{
	autoarena struct arena a = ARENA_INIT;
	static const char zero[512];

	for (size_t size = 0; size < 512; size++) {
		char *p = arena_alloc(&a, size);
		assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
		assert_memory_equal(p, zero, size);
		memset(p, 0xff, size);
	}
	char *small = arena_strdup(&a, "small");
	memset(arena_alloc(&a, 1 << 20), 1, 1 << 20);
	assert_string_equal(small, "small");
	assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
	assert_string_equal(arena_printf(&a, "%s-%d", "x", 7), "x-7");
	assert_null(arena_strdup(&a, NULL));
	arena_done(&a);
	assert_null(a.blocks);
}

static void test_strv(void **state)
{
	autostrv struct strv s = STRV_INIT, copy = STRV_INIT;

	assert_non_null(strv_argv(&s));
	assert_null(strv_argv(&s)[0]);
	strv_split(&s, "a:b,,c", ":,");
	assert_int_equal(s.n, 4);
	autofree char *joined = strv_join(&s, "--");
	assert_string_equal(joined, "a--b----c");
	strv_copy(&copy, &s);
	assert_true(strv_equal(&s, &copy));
	strv_remove(&s, 0);
	assert_false(strv_equal(&s, &copy));
	assert_false(strv_contains(&s, "a"));
	for (int i = 0; i < 100; i++)
		strv_push_printf(&s, "%d", i);
	while (s.n > 1) {
		strv_remove(&s, s.n - 1);
		assert_null(s.v[s.n]);
	}
	strv_push(&s, "z");
	strv_push(&s, "a");
	strv_sort(&s);
	assert_string_equal(s.v[0], "a");
	assert_null(s.v[3]);
}

static void test_strv_env(void **state)
{
	autostrv struct strv s = STRV_INIT;

	strv_env_set(&s, "A=1");
	strv_env_set(&s, "AB=2");
	strv_env_set(&s, "A=3=4");
	assert_int_equal(s.n, 2);
	assert_string_equal(strv_env_get(&s, "A"), "3=4");
	assert_string_equal(strv_env_get(&s, "AB"), "2");
	assert_null(strv_env_get(&s, ""));
	strv_env_unset(&s, "A");
	assert_null(strv_env_get(&s, "A"));
	assert_int_equal(s.n, 1);
}

static void test_map_order_and_removal(void **state)
{
	struct map m = MAP_INIT;
	static char values[1000];
	char key[16];
	size_t i = 0;

	assert_null(map_get(&m, "0"));
	assert_null(map_remove(&m, "0"));
	for (i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "%zu", i);
		assert_null(map_set(&m, key, &values[i]));
	}
	assert_ptr_equal(map_set(&m, "7", &values[8]), &values[7]);
	assert_ptr_equal(map_set(&m, "7", &values[7]), &values[8]);
	assert_int_equal(m.n, 1000);
	i = 0;
	MAP_FOREACH (e, &m) {
		assert_ptr_equal(map_value(e), &values[i]);
		if (i++ % 2)
			map_remove(&m, map_key(e));
	}
	assert_int_equal(m.n, 500);
	assert_null(map_get(&m, "1"));
	assert_ptr_equal(map_get(&m, "998"), &values[998]);
	assert_string_equal(map_key(map_first(&m)), "0");
	map_done(&m);
	assert_null(map_first(&m));
	MAP_FOREACH (e, &m)
		fail();
}

static void test_map_frees_values(void **state)
{
	struct map m = MAP_INIT;

	map_set(&m, "a", xstrdup("1"));
	map_set(&m, "b", xstrdup("2"));
	free(map_set(&m, "a", xstrdup("3")));
	map_done_values(&m, free);
	assert_int_equal(m.n, 0);
}

static void test_kvs(void **state)
{
	autokvs struct kvs a = KVS_INIT, b = KVS_INIT;

	for (int i = 0; i < 20; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i % 10);
		kvs_set(&a, key, i < 10 ? "old" : "new");
	}
	assert_int_equal(a.n, 10);
	assert_string_equal(a.v[0].key, "k0");
	assert_string_equal(kvs_get(&a, "k9"), "new");
	kvs_copy(&b, &a);
	assert_true(kvs_unset(&b, "k0"));
	assert_false(kvs_unset(&b, "k0"));
	assert_false(kvs_equal(&a, &b));
	kvs_set(&b, "k0", "new");
	assert_true(kvs_equal(&a, &b)); /* order does not matter */
}

static void test_hex(void **state)
{
	unsigned char raw[4];
	char text[9], id[65];

	hex_encode("\x00\xff\x1a\x80", 4, text);
	assert_string_equal(text, "00ff1a80");
	assert_int_equal(hex_decode("00FF1a80", raw, 4), 0);
	assert_memory_equal(raw, "\x00\xff\x1a\x80", 4);
	assert_int_equal(hex_decode("00ff1a8", raw, 4), -EINVAL);
	assert_int_equal(hex_decode("00ff1a800", raw, 4), -EINVAL);
	assert_int_equal(hex_decode("00ff1a8g", raw, 4), -EINVAL);
	random_hex(32, id);
	assert_int_equal(strlen(id), 64);
	assert_int_equal(strspn(id, "0123456789abcdef"), 64);
	assert_true(random_u64() != random_u64());
}

static void test_base64(void **state)
{
	static const char *const cases[][3] = {
		{ "", "", "" },
		{ "f", "Zg==", "Zg" },
		{ "fo", "Zm8=", "Zm8" },
		{ "foo", "Zm9v", "Zm9v" },
		{ "\xfb\xff", "+/8=", "-_8" },
	};
	static const char *const bad[] = { "Z", "Zg=", "Zh==", "Zg===", "Z*==", "=", "Zm9vY" };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autobuf struct buf b = BUF_INIT(strlen(cases[i][1]));

		assert_int_equal(base64_encode(cases[i][0], strlen(cases[i][0]), &b), 0);
		assert_string_equal(b.data, cases[i][1]);
		buf_clear(&b);
		assert_int_equal(base64url_encode(cases[i][0], strlen(cases[i][0]), &b), 0);
		assert_string_equal(b.data, cases[i][2]);
		for (size_t k = 1; k < 3; k++) {
			buf_clear(&b);
			assert_int_equal(base64_decode(cases[i][k], strlen(cases[i][k]), &b), 0);
			assert_string_equal(b.data, cases[i][0]);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autobuf struct buf b = BUF_INIT(100);

		assert_int_equal(base64_decode(bad[i], strlen(bad[i]), &b), -EINVAL);
	}
}

static void test_str(void **state)
{
	autofree char *s = xstrdup("abc");

	str_replace(&s, s + 1);
	assert_string_equal(s, "bc");
	assert_true(str_equal(NULL, NULL));
	assert_false(str_equal("", NULL));
	assert_true(str_has_prefix("abc", "ab"));
	assert_false(str_has_prefix("a", "ab"));
	assert_true(str_has_suffix("abc", "bc"));
	assert_false(str_has_suffix("c", "bc"));
	assert_true(str_empty(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf_grows_to_its_ceiling),
		cmocka_unit_test(test_buf_steal_and_consume),
		cmocka_unit_test(test_buf_move),
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_strv),
		cmocka_unit_test(test_strv_env),
		cmocka_unit_test(test_map_order_and_removal),
		cmocka_unit_test(test_map_frees_values),
		cmocka_unit_test(test_kvs),
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_str),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
