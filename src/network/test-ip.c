/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "network/ip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_addresses(void **state)
{
	static const char *const bad[] = { "",	     "1.2.3", "1.2.3.4.5", "256.1.1.1",
					   "::1%lo", "[::1]", "x" };
	struct ip a, b;
	char text[IP_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(ip_parse(bad[i], &a), -EINVAL);
	assert_int_equal(ip_parse("10.0.0.255", &a), 0);
	ip_increment(&a);
	ip_format(&a, text);
	assert_string_equal(text, "10.0.1.0");
	assert_int_equal(ip_to_v4(&a), 0x0a000100);
	assert_int_equal(ip_parse("fd00::ffff", &b), 0);
	ip_increment(&b);
	ip_format(&b, text);
	assert_string_equal(text, "fd00::1:0");
	assert_true(ip_compare(&a, &b) < 0);
	assert_int_equal(ip_parse("255.255.255.255", &a), 0);
	ip_increment(&a);
	assert_true(ip_is_any(&a));
	assert_int_equal(ip_parse("::1", &a), 0);
	assert_true(ip_is_loopback(&a) && !ip_is_any(&a));
	assert_int_equal(ip_parse("::", &a), 0);
	assert_true(ip_is_any(&a));
	assert_null(ip_string(&(struct ip){ 0 }));
}

static void test_subnets(void **state)
{
	static const char *const bad[] = { "",	   "10.0.0.0",	  "10.0.0.0/33", "fd00::/129",
					   "x/24", "10.0.0.0/-1", "10.0.0.0/24x" };
	struct subnet s, t;
	struct ip a;
	char text[SUBNET_TEXT_MAX];
	bool host_bits;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(subnet_parse(bad[i], &s, NULL), -EINVAL);
	assert_int_equal(subnet_parse("10.1.2.3/20", &s, &host_bits), 0);
	assert_true(host_bits);
	subnet_format(&s, text);
	assert_string_equal(text, "10.1.0.0/20");
	a = subnet_last(&s);
	ip_format(&a, text);
	assert_string_equal(text, "10.1.15.255");
	assert_int_equal(subnet_parse("10.0.0.0/8", &t, &host_bits), 0);
	assert_false(host_bits);
	assert_true(subnet_overlaps(&s, &t) && subnet_overlaps(&t, &s));
	assert_int_equal(subnet_parse("11.0.0.0/16", &t, NULL), 0);
	assert_false(subnet_overlaps(&s, &t));
	assert_int_equal(subnet_parse("fd00:1::/64", &t, NULL), 0);
	assert_false(subnet_overlaps(&s, &t));
	assert_int_equal(ip_parse("fd00:1::ffff:0:0:1", &a), 0);
	assert_true(subnet_contains(&t, &a));
	assert_int_equal(ip_parse("fd00:1:0:1::1", &a), 0);
	assert_false(subnet_contains(&t, &a));
	assert_int_equal(subnet_parse("0.0.0.0/0", &t, NULL), 0);
	assert_int_equal(ip_parse("1.2.3.4", &a), 0);
	assert_true(subnet_contains(&t, &a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_subnets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
