/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "base/jsontab.h"
#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct json *parse(const char *text)
{
	return json_parse(text, strlen(text), 1 << 20, NULL);
}

static void test_refuses(void **state)
{
	static const char *const bad[] = {
		"",
		"  ",
		"{",
		"{}}",
		"[1,]",
		"{\"a\":1,}",
		"{'a':1}",
		"{a:1}",
		"NaN",
		"Infinity",
		"-Infinity",
		"01",
		"1.",
		".5",
		"+1",
		"1e",
		"tru",
		"TRUE",
		"/* c */{}",
		"{}//",
		"\"\x01\"",
		"\"\n\"",
		"\"\xff\"",
		"\"\\u0000\"",
		"\"a",
		"\"\\q\"",
		"[1 2]",
		"{\"a\" 1}",
		"\f[]",
		"null",
		"{\"a\":1,\"a\":2}",
		"[{\"a\":{\"b\":1,\"\\u0062\":1}}]",
		"18446744073709551616",
		"-9223372036854775809",
		"[1],2",
		"{\"a\":1}x",
		"nul",
		"1 1",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autoerror struct error err = ERROR_INIT;
		struct json *j = json_parse(bad[i], strlen(bad[i]), 1000, &err);

		if (j || !error_is(&err, ERROR_INVALID_ARGUMENT))
			fail_msg("accepted: %s", bad[i]);
	}
}

static void test_accepts(void **state)
{
	static const char *const good[] = {
		"{}",
		"[]",
		"0",

		"1.5e-3",
		"\"\"",
		"true",
		"false",
		"[null]",
		"123",
		"{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]}}",
		"[18446744073709551615,-9223372036854775808]",
		"{\"url\":\"http://a/b\"}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		autojson struct json *j = parse(good[i]);

		if (!j)
			fail_msg("refused: %s", good[i]);
		autofree char *text = json_format(j, false);
		assert_string_equal(text, good[i]);
	}
	autojson struct json *blank = parse(" \t\r\n{ \"a\" : [ 1 , 2 ] } \n");
	assert_non_null(blank);
}

static void test_bounds(void **state)
{
	autoerror struct error err = ERROR_INIT;
	autofree char *deep = xmalloc(1 << 20), *wide = xmalloc(1 << 20);

	assert_null(json_parse("[1,2,3]", 7, 6, &err));
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	memset(deep, '[', 1 << 20);
	assert_null(json_parse(deep, 1 << 20, 1 << 20, &err));
	assert_null(json_parse(deep, 100, 1 << 20, &err));
	for (size_t i = 0; i + 3 <= 1 << 20; i += 3)
		memcpy(wide + i, i ? ",{}" : "[{}", 3);
	assert_null(json_parse(wide, (1 << 20) - 1, 1 << 20, &err));
	assert_non_null(strstr(error_msg(&err), "too many values"));
	/* The text need not end with NUL. */
	autojson struct json *number = json_parse("12345", 3, 100, NULL);
	assert_int_equal(json_int(number, 0), 123);
}

static void test_readers(void **state)
{
	autojson struct json *j = parse("{\"s\":\"x\",\"i\":-5,\"u\":18446744073709551615,"
					"\"d\":1.5,\"b\":true,\"n\":null,\"a\":[\"p\",\"q\"],"
					"\"o\":{\"k\":\"v\"},\"bad\":[\"p\",1]}");
	autoerror struct error err = ERROR_INIT;
	autostrv struct strv s = STRV_INIT;
	autokvs struct kvs k = KVS_INIT;

	assert_string_equal(json_get_string(j, "s"), "x");
	assert_null(json_get_string(j, "i"));
	assert_int_equal(json_get_int(j, "i", 0), -5);
	assert_true(json_get_uint(j, "u", 0) == UINT64_MAX);
	assert_int_equal(json_get_int(j, "u", 7), 7);
	assert_int_equal(json_get_uint(j, "i", 7), 7);
	assert_int_equal(json_get_int(j, "s", 7), 7);
	assert_true(json_get_double(j, "d", 0) == 1.5);
	assert_int_equal(json_get_int(j, "d", 7), 7);
	assert_true(json_get_bool(j, "b", false));
	assert_int_equal(json_type(json_get(j, "n")), JSON_NULL);
	assert_int_equal(json_type(NULL), JSON_NULL);
	assert_null(json_get(NULL, "x"));
	assert_int_equal(json_array_len(json_get(j, "a")), 2);
	assert_null(json_array_get(json_get(j, "a"), 2));
	assert_int_equal(json_object_len(j), 9);
	assert_int_equal(json_get_strv(j, "a", &s, &err), 0);
	assert_int_equal(s.n, 2);
	assert_int_equal(json_get_strv(j, "none", &s, &err), 0);
	assert_int_equal(json_get_strv(j, "n", &s, &err), 0);
	assert_int_equal(json_get_strv(j, "bad", &s, &err), -1);
	assert_string_equal(error_msg(&err), "bad[1]: expected string");
	assert_int_equal(json_get_kvs(j, "o", &k, &err), 0);
	assert_string_equal(kvs_get(&k, "k"), "v");
	assert_int_equal(json_get_kvs(j, "a", &k, &err), -1);
}

static int count_until_b(const char *key, struct json *value, void *arg)
{
	++*(int *)arg;
	return strcmp(key, "b") == 0 ? 42 : 0;
}

static void test_builders(void **state)
{
	autojson struct json *j = json_new_object();
	struct json *array = json_new_array();
	int n = 0;

	json_add(array, json_new_int(1));
	json_add(array, json_new_string(NULL));
	json_set_string(j, "a", "x/y");
	json_set(j, "b", array);
	json_set_uint(j, "c", UINT64_MAX);
	json_set_bool(j, "d", false);
	json_set_int(j, "e", 1);
	json_del(j, "e");
	autofree char *text = json_format(j, false);
	assert_string_equal(
		text, "{\"a\":\"x/y\",\"b\":[1,null],\"c\":18446744073709551615,\"d\":false}");
	assert_int_equal(json_object_each(j, count_until_b, &n), 42);
	assert_int_equal(n, 2);
	autojson struct json *copy = json_copy(j);
	json_set_string(copy, "a", "changed");
	assert_string_equal(json_get_string(j, "a"), "x/y");
	assert_null(json_copy(NULL));
	autofree char *nothing = json_format(NULL, false);
	assert_string_equal(nothing, "null");
}

struct inner {
	char *name;
	int64_t size;
};

struct outer {
	char *id;
	bool on;
	int small;
	uint64_t big;
	double ratio;
	struct strv names;
	struct kvs labels;
	struct json *raw;
	struct inner inner;
	struct inner *ptr;
	struct {
		struct inner *v;
		size_t n;
	} list;
};

static const struct json_field inner_fields[] = {
	JSON_FIELD("name", FIELD_STRING, struct inner, name, JSON_REQUIRED),
	JSON_FIELD("size", FIELD_INT, struct inner, size, JSON_ALWAYS),
	JSON_END,
};

static const struct json_field outer_fields[] = {
	JSON_FIELD("id", FIELD_STRING, struct outer, id, 0),
	JSON_FIELD("on", FIELD_BOOL, struct outer, on, 0),
	JSON_FIELD("small", FIELD_INT32, struct outer, small, 0),
	JSON_FIELD("big", FIELD_UINT, struct outer, big, 0),
	JSON_FIELD("ratio", FIELD_DOUBLE, struct outer, ratio, 0),
	JSON_FIELD("names", FIELD_STRV, struct outer, names, 0),
	JSON_FIELD("labels", FIELD_KVS, struct outer, labels, 0),
	JSON_FIELD("raw", FIELD_JSON, struct outer, raw, 0),
	JSON_SUB("inner", FIELD_OBJECT, struct outer, inner, inner_fields, struct inner, 0),
	JSON_SUB("ptr", FIELD_OBJECT_PTR, struct outer, ptr, inner_fields, struct inner, 0),
	JSON_SUB("list", FIELD_ARRAY, struct outer, list, inner_fields, struct inner, 0),
	JSON_END,
};

static void test_table_round_trip(void **state)
{
	const char *text =
		"{\"id\":\"x\",\"on\":true,\"small\":-3,\"big\":18446744073709551615,"
		"\"ratio\":0.5,\"names\":[\"a\"],\"labels\":{\"k\":\"v\"},\"raw\":[1],"
		"\"inner\":{\"name\":\"n\",\"size\":0},\"ptr\":{\"name\":\"p\",\"size\":2},"
		"\"list\":[{\"name\":\"1\",\"size\":1},{\"name\":\"2\",\"size\":2}]}";
	autojson struct json *j = parse(text);
	struct outer o = { 0 };

	assert_non_null(j);
	/* Twice: earlier values are replaced. */
	assert_int_equal(jsontab_decode(outer_fields, j, &o, NULL), 0);
	assert_int_equal(jsontab_decode(outer_fields, j, &o, NULL), 0);
	assert_true(o.big == UINT64_MAX);
	assert_int_equal(o.small, -3);
	assert_int_equal(o.list.n, 2);
	assert_string_equal(o.list.v[1].name, "2");
	autojson struct json *again = jsontab_encode(outer_fields, &o);
	autofree char *encoded = json_format(again, false);
	assert_string_equal(encoded, text);
	jsontab_done(outer_fields, &o);
	assert_null(o.id);
	assert_null(o.ptr);
	assert_int_equal(o.list.n, 0);
	autojson struct json *empty = jsontab_encode(outer_fields, &o);
	autofree char *nothing = json_format(empty, false);
	assert_string_equal(nothing, "{\"inner\":{\"size\":0}}");
}

static void test_table_errors(void **state)
{
	static const char *const cases[][2] = {
		{ "[]", "expected object, got array" },
		{ "{\"id\":1}", "id: expected string, got integer" },
		{ "{\"small\":3000000000}", "small: integer out of range" },
		{ "{\"big\":-1}", "big: integer out of range" },
		{ "{\"big\":1.0}", "big: expected integer, got number" },
		{ "{\"names\":[\"a\",null]}", "names[1]: expected string, got null" },
		{ "{\"labels\":{\"k\":1}}", "labels[k]: expected string, got integer" },
		{ "{\"inner\":{}}", "inner.name: required member is missing" },
		{ "{\"list\":[{\"name\":\"x\"},{\"name\":true}]}",
		  "list[1].name: expected string, got boolean" },
		{ "{\"list\":[1]}", "list[0]: expected object, got integer" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoerror struct error err = ERROR_INIT;
		autojson struct json *j = parse(cases[i][0]);
		struct outer o = { 0 };

		assert_int_equal(jsontab_decode(outer_fields, j, &o, &err), -1);
		assert_string_equal(error_msg(&err), cases[i][1]);
		assert_int_equal(jsontab_decode(outer_fields, j, &o, NULL), -1);
		jsontab_done(outer_fields, &o);
	}
	autojson struct json *nulls =
		parse("{\"id\":null,\"list\":null,\"ptr\":null,\"unknown\":1}");
	struct outer o = { 0 };
	assert_int_equal(jsontab_decode(outer_fields, nulls, &o, NULL), 0);
	assert_null(o.ptr);
}

static void test_load(void **state)
{
	autoerror struct error err = ERROR_INIT;

	assert_null(json_load_at(AT_FDCWD, "/nonexistent/x.json", 100, &err));
	assert_int_equal(err.code, ERROR_NOT_FOUND);
	assert_null(json_load_at(AT_FDCWD, "/proc/self/status", 1 << 16, &err));
	assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses),	     cmocka_unit_test(test_accepts),
		cmocka_unit_test(test_bounds),	     cmocka_unit_test(test_readers),
		cmocka_unit_test(test_builders),     cmocka_unit_test(test_table_round_trip),
		cmocka_unit_test(test_table_errors), cmocka_unit_test(test_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
