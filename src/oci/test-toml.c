/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "oci/toml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_documents(void **state)
{
	/* text, JSON */
	static const char *const cases[][2] = {
		{ "", "{}" },
		{ "\xef\xbb\xbf# c\r\na = 1 # d\r\n", "{\"a\":1}" },
		{ "a.b = 1\na . 'c.d' = 2", "{\"a\":{\"b\":1,\"c.d\":2}}" },
		{ "1.2 = 3\n\"\" = 4", "{\"1\":{\"2\":3},\"\":4}" },
		{ "[a.b]\nx=1\n[a]\ny=2\n", "{\"a\":{\"b\":{\"x\":1},\"y\":2}}" },
		{ "[[a]]\nx=1\n[a.s]\n[[a]]\n[[a.t]]",
		  "{\"a\":[{\"x\":1,\"s\":{}},{\"t\":[{}]}]}" },
		{ "a=[1,\n # c\n 'x',[ ],]", "{\"a\":[1,\"x\",[]]}" },
		{ "a={b=1, c.d=2, e.f={}}", "{\"a\":{\"b\":1,\"c\":{\"d\":2},\"e\":{\"f\":{}}}}" },
		{ "a=0xdead_BEEF\nb=0o17\nc=0b11\nd=-1_0",
		  "{\"a\":3735928559,\"b\":15,\"c\":3,\"d\":-10}" },
		{ "a=-9223372036854775808\nb=1.5e1\nc=true",
		  "{\"a\":-9223372036854775808,\"b\":15.0,\"c\":true}" },
		{ "a=\"\\u00e9\\t\\\"\"\nb='\\u'", "{\"a\":\"\xc3\xa9\\t\\\"\",\"b\":\"\\\\u\"}" },
		{ "a=\"\"\"\nx\\\n  y\"\"\"\"\"", "{\"a\":\"xy\\\"\\\"\"}" },
		{ "a='''\r\nx\r\n'y'''", "{\"a\":\"x\\n'y\"}" },
		{ "a=1979-05-27 07:32:00z\nb=07:32:00.5",
		  "{\"a\":\"1979-05-27T07:32:00Z\",\"b\":\"07:32:00.5\"}" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoerror struct error err = ERROR_INIT;
		autojson struct json *j = toml_parse(cases[i][0], strlen(cases[i][0]), 1000, &err);

		if (!j)
			fail_msg("%s: %s", cases[i][0], error_msg(&err));
		autofree char *text = json_format(j, false);
		assert_string_equal(text, cases[i][1]);
	}
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"a",
		"a=",
		"=1",
		"a=1 b=2",
		"a=1\na=2",
		"a.b=1\na=2",
		"a=1\na.b=2",
		"[a]\n[a]",
		"a.b=1\n[a]",
		"[a]\nb.c=1\n[a.b]",
		"[a.b]\n[a]\nb.c=1",
		"[[a]]\n[a]",
		"[a]\n[[a]]",
		"a=[]\n[[a]]",
		"a={}\n[a.b]",
		"a={}\na.b=1",
		"a={b=1,}",
		"a={b=1\n}",
		"a={b={},b.c=1}",
		"[a",
		"[a]]",
		"[[a]",
		"[]",
		"a=01",
		"a=1__0",
		"a=_1",
		"a=1_",
		"a=.5",
		"a=5.",
		"a=+0x1",
		"a=0x",
		"a=0b2",
		"a=9223372036854775808",
		"a=1e",
		"a=tru",
		"a=\"",
		"a='\n'",
		"a=\"\\x\"",
		"a=\"\\ud800\"",
		"a=\"\\u0000\"",
		"a='''",
		"a=\"\"\"\"\"\"\"\"\"",
		"a\rb=1",
		"a='\x01'",
		"# \x7f",
		"a='\xff'",
		"\"\"\"a\"\"\"=1",
		"a=2023-02-29",
		"a=1979-05-27T25:00:00Z",
		"a=07:32",
		"a=1979-05-27T07:32:00+1:00",
		"a=[1 2]",
		"a=[,]",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autoerror struct error err = ERROR_INIT;

		if (toml_parse(bad[i], strlen(bad[i]), 1000, &err))
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
	}
}

static void test_errors_and_bounds(void **state)
{
	autoerror struct error err = ERROR_INIT;
	autofree char *deep = xmalloc(100000);

	assert_null(toml_parse("a = 1\n\n  b = x\n", 15, 100, &err));
	assert_string_equal(error_msg(&err), "line 3, column 7: invalid value 'x'");
	assert_null(toml_parse("a = 1", 5, 4, &err));
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	memset(deep, '[', 100000);
	memcpy(deep, "a=", 2);
	assert_null(toml_parse(deep, 100000, 100000, &err));
	assert_non_null(strstr(error_msg(&err), "nested too deeply"));
	for (size_t i = 0; i + 1 < 100000; i += 2)
		memcpy(deep + i, "a.", 2);
	assert_null(toml_parse(deep, 100000, 100000, &err));
	assert_non_null(strstr(error_msg(&err), "too many parts"));
	assert_null(toml_parse("a=\0", 3, 10, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_errors_and_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
