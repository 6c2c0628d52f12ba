/* SPDX-License-Identifier: Apache-2.0 */
#include "base/parse.h"
#include "base/time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define HOUR (3600 * NSEC_PER_SEC)

static void test_integers(void **state)
{
	static const char *const bad[] = { "", "-", "+", " 1", "1 ", "0x1", "1.0", "--1", "1a" };
	int64_t i;
	uint64_t u;

	assert_int_equal(parse_int64("-9223372036854775808", &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(parse_int64("9223372036854775807", &i), 0);
	assert_true(i == INT64_MAX);
	assert_int_equal(parse_int64("9223372036854775808", &i), -ERANGE);
	assert_int_equal(parse_int64("-9223372036854775809", &i), -ERANGE);
	assert_int_equal(parse_uint64("18446744073709551615", &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(parse_uint64("18446744073709551616", &u), -ERANGE);
	assert_int_equal(parse_uint64("99999999999999999999999", &u), -ERANGE);
	assert_int_equal(parse_uint64("-1", &u), -EINVAL);
	for (size_t k = 0; k < ARRAY_SIZE(bad); k++)
		assert_int_equal(parse_int64(bad[k], &i), -EINVAL);
}

static void test_double_and_bool(void **state)
{
	double d;
	bool b;

	assert_int_equal(parse_double("1.5e2", &d), 0);
	assert_true(d == 150);
	assert_int_equal(parse_double("nan", &d), -EINVAL);
	assert_int_equal(parse_double("0x10", &d), -EINVAL);
	assert_int_equal(parse_double("1e", &d), -EINVAL);
	assert_int_equal(parse_double("", &d), -EINVAL);
	assert_int_equal(parse_double("1e999", &d), -ERANGE);
	assert_int_equal(parse_bool("True", &b), 0);
	assert_true(b);
	assert_int_equal(parse_bool("f", &b), 0);
	assert_false(b);
	assert_int_equal(parse_bool("yes", &b), -EINVAL);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *s;
		int64_t v;
	} good[] = {
		{ "0", 0 },	     { "512", 512 },	   { "512b", 512 },
		{ "10m", 10 << 20 }, { "10MB", 10 << 20 }, { "1.5GiB", 3LL << 29 },
		{ "2 kib", 2048 },   { "1t", 1LL << 40 },  { "9223372036854775807", INT64_MAX },
	};
	static const char *const bad[] = {
		"", "m", "-1", "1x", "1kk", "1mi", "1.2.3", "1 0", "1  k"
	};
	int64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse_size(good[i].s, &v), 0);
		assert_true(v == good[i].v);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse_size(bad[i], &v), -EINVAL);
	assert_int_equal(parse_size("9000000t", &v), -ERANGE);
	assert_int_equal(parse_size("9000.5p", &v), -ERANGE);
}

static void test_rfc3339(void **state)
{
	static const char *const same[] = {
		"1970-01-01T00:00:00Z",	  "2024-02-29T23:59:59.123456789Z",
		"2026-11-23T10:00:00.5Z", "1969-12-31T23:59:59.999999999Z",
		"1900-03-01T00:00:00Z",	  "2262-04-11T23:47:16.854775807Z",
	};
	static const char *const bad[] = {
		"",
		"2026-11-23",
		"2026-13-01T00:00:00Z",
		"2023-02-29T00:00:00Z",
		"2026-11-23T24:00:00Z",
		"2026-11-23T10:00:00",
		"2026-11-23T10:00:00.Z",
		"2026-11-23T10:00:00Zx",
		"2026-11-23 10:00:00Z",
		"2026-11-23T10:00:00+1:00",
	};
	char out[TIME_RFC3339_MAX];
	int64_t t;

	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		assert_int_equal(time_parse_rfc3339(same[i], &t), 0);
		time_format_rfc3339(t, out);
		assert_string_equal(out, same[i]);
	}
	assert_int_equal(time_parse_rfc3339("2026-11-23T10:00:00+01:30", &t), 0);
	time_format_rfc3339_fixed(t, out);
	assert_string_equal(out, "2026-11-23T08:30:00.000000000Z");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(time_parse_rfc3339(bad[i], &t), -EINVAL);
	assert_int_equal(time_parse_rfc3339("0001-01-01T00:00:00Z", &t), -ERANGE);
	time_format_rfc3339(INT64_MIN, out);
	assert_string_equal(out, "1677-09-21T00:12:43.145224192Z");
}

static void test_durations(void **state)
{
	static const struct {
		const char *s;
		int64_t ns;
	} good[] = {
		{ "0", 0 },
		{ "5s", 5 * NSEC_PER_SEC },
		{ "1h2m3.5s", HOUR + 123500 * NSEC_PER_MSEC },
		{ "300ms", 300 * NSEC_PER_MSEC },
		{ "-1.5h", -HOUR * 3 / 2 },
		{ "1us", 1000 },
		{ "2\xc2\xb5s", 2000 },
		{ ".5s", NSEC_PER_SEC / 2 },
		{ "1.s", NSEC_PER_SEC },
	};
	static const char *const bad[] = { "",	 "-",	"1",	       "s",  ".s",
					   "1d", "1h2", "9999999999h", "1 s" };
	int64_t ns;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(time_parse_duration(good[i].s, &ns), 0);
		assert_true(ns == good[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(time_parse_duration(bad[i], &ns), -EINVAL);
}

static void test_docker_times(void **state)
{
	const int64_t now = 1763892000 * NSEC_PER_SEC;
	int64_t t;

	assert_int_equal(time_parse_docker("0", now, &t), 0);
	assert_true(t == 0);
	assert_int_equal(time_parse_docker("1763892000.25", now, &t), 0);
	assert_true(t == now + NSEC_PER_SEC / 4);
	assert_int_equal(time_parse_docker("10m", now, &t), 0);
	assert_true(t == now - 600 * NSEC_PER_SEC);
	assert_int_equal(time_parse_docker("1970-01-01T01:00:00Z", now, &t), 0);
	assert_true(t == HOUR);
	assert_int_equal(time_parse_docker("1970-01-02", now, &t), 0);
	assert_true(t == 24 * HOUR);
	assert_int_equal(time_parse_docker("yesterday", now, &t), -EINVAL);
	assert_int_equal(time_parse_docker("99999999999", now, &t), -ERANGE);
	assert_true(time_monotonic() > 0 && time_realtime() > now);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers),  cmocka_unit_test(test_double_and_bool),
		cmocka_unit_test(test_sizes),	  cmocka_unit_test(test_rfc3339),
		cmocka_unit_test(test_durations), cmocka_unit_test(test_docker_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
