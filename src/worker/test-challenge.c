/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/mem.h"
#include "worker/challenge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *param(const struct challenges *c, const char *scheme, const char *key)
{
	const struct challenge *ch = challenges_find(c, scheme);

	return ch ? kvs_get(&ch->params, key) : NULL;
}

static void test_bearer(void **state)
{
	autochallenges struct challenges c = CHALLENGES_INIT;

	assert_int_equal(challenges_parse(&c, "Bearer realm=\"https://auth.docker.io/token\","
					      "service=\"registry.docker.io\",scope=\"repository:"
					      "library/busybox:pull,push\""),
			 0);
	assert_int_equal(c.n, 1);
	assert_string_equal(param(&c, "bearer", "realm"), "https://auth.docker.io/token");
	assert_string_equal(param(&c, "bearer", "service"), "registry.docker.io");
	assert_string_equal(param(&c, "bearer", "scope"), "repository:library/busybox:pull,push");
	assert_null(param(&c, "bearer", "error"));
}

static void test_several(void **state)
{
	autochallenges struct challenges c = CHALLENGES_INIT;

	assert_int_equal(challenges_parse(&c,
					  "Negotiate, BASIC realm=\"a \\\"b\\\"\", charset=UTF-8 "
					  ", bearer Realm = https://x/t?y=z , Service=s"),
			 0);
	assert_int_equal(challenges_parse(&c, "Digest a=b"), 0);
	assert_int_equal(c.n, 4);
	assert_string_equal(c.v[0].scheme, "negotiate");
	assert_string_equal(param(&c, "basic", "realm"), "a \"b\"");
	assert_string_equal(param(&c, "basic", "charset"), "UTF-8");
	assert_string_equal(param(&c, "bearer", "realm"), "https://x/t?y=z");
	assert_string_equal(param(&c, "bearer", "service"), "s");
	assert_non_null(challenges_find(&c, "digest"));
}

static void test_token68(void **state)
{
	autochallenges struct challenges c = CHALLENGES_INIT;

	assert_int_equal(challenges_parse(&c, "Negotiate YWJj/+==, Basic realm=x"), 0);
	assert_int_equal(c.n, 2);
	assert_string_equal(param(&c, "basic", "realm"), "x");
}

static void test_first_of_equal_keys(void **state)
{
	autochallenges struct challenges c = CHALLENGES_INIT;

	assert_int_equal(challenges_parse(&c, "Bearer realm=\"a\",realm=\"b\""), 0);
	assert_string_equal(param(&c, "bearer", "realm"), "a");
}

static void test_bad(void **state)
{
	static const char *const bad[] = {
		"Bearer realm=\"open", "Bearer realm=\"a\\", "=x", "Bearer/x", "\"",
		"Bearer a=\"\x01\"",   "Bearer \x7f",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autochallenges struct challenges c = CHALLENGES_INIT;

		assert_int_equal(challenges_parse(&c, bad[i]), -EINVAL);
	}
}

static void test_bounds(void **state)
{
	autochallenges struct challenges c = CHALLENGES_INIT;
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	for (int i = 0; i < 20; i++)
		buf_printf(&b, "%sS%d a=b", i ? "," : "", i);
	assert_int_equal(challenges_parse(&c, b.data), -EINVAL);
	assert_int_equal(c.n, CHALLENGES_MAX);
	challenges_done(&c);
	buf_clear(&b);
	buf_puts(&b, "Bearer ");
	for (int i = 0; i < 20; i++)
		buf_printf(&b, "%sp%d=v", i ? "," : "", i);
	assert_int_equal(challenges_parse(&c, b.data), -EINVAL);
	assert_int_equal(c.v[0].params.n, CHALLENGE_PARAMS_MAX);
	challenges_done(&c);
	buf_clear(&b);
	for (int i = 0; i < CHALLENGE_HEADER_MAX; i++)
		buf_puts(&b, "ab");
	assert_int_equal(challenges_parse(&c, b.data), -EINVAL);
	assert_int_equal(challenges_parse(&c, ""), 0);
	assert_int_equal(challenges_parse(&c, " , ,"), 0);
	assert_int_equal(c.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bearer),	cmocka_unit_test(test_several),
		cmocka_unit_test(test_token68), cmocka_unit_test(test_first_of_equal_keys),
		cmocka_unit_test(test_bad),	cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
