/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "network/dns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

/* A query for one name; returns its length. */
static size_t query(const char *name, unsigned type, bool edns, uint8_t *out)
{
	static const uint8_t head[12] = { 0x12, 0x34, 1, 0, 0, 1 };
	static const uint8_t opt[11] = { 0, 0, 41, 16, 0 };
	size_t n = sizeof(head);

	memcpy(out, head, sizeof(head));
	while (*name) {
		size_t label = strcspn(name, ".");

		out[n++] = (uint8_t)label;
		memcpy(out + n, name, label);
		n += label;
		name += label + (name[label] == '.');
	}
	out[n++] = 0;
	out[n++] = 0;
	out[n++] = (uint8_t)type;
	out[n++] = 0;
	out[n++] = 1;
	if (edns) {
		out[11] = 1;
		memcpy(out + n, opt, sizeof(opt));
		n += sizeof(opt);
	}
	return n;
}

static void test_query(void **state)
{
	uint8_t m[512];
	struct dns_query q;
	size_t n = query("Web.My_Net", DNS_AAAA, true, m);

	assert_int_equal(dns_query_parse(m, n, &q), 0);
	assert_string_equal(q.name, "web.my_net");
	assert_int_equal(q.id, 0x1234);
	assert_int_equal(q.type, DNS_AAAA);
	assert_int_equal(q.udp_size, 4096);
	/* Every shorter message is bad, but for those that only lack the option. */
	for (size_t i = 0; i < q.question_end; i++)
		assert_int_equal(dns_query_parse(m, i, &q), -EBADMSG);
	assert_int_equal(dns_query_parse(m, n - 1, &q), 0);
	assert_int_equal(q.udp_size, DNS_UDP_MIN);
	m[12] = 0xc0; /* a pointer */
	assert_int_equal(dns_query_parse(m, n, &q), -EBADMSG);
	n = query("a b.c\x01", DNS_A, false, m);
	assert_int_equal(dns_query_parse(m, n, &q), 0);
	assert_string_equal(q.name, "a?b.c?");
	n = query("", DNS_A, false, m);
	assert_int_equal(dns_query_parse(m, n, &q), 0);
	assert_string_equal(q.name, "");
	m[2] |= 0x80;
	assert_int_equal(dns_query_parse(m, n, &q), -EBADMSG);
}

static void test_answer(void **state)
{
	uint8_t m[512], out[512];
	struct dns_query q;
	struct dns_answer a = { .n = 2 };
	size_t n = query("web", DNS_A, false, m);

	assert_int_equal(dns_query_parse(m, n, &q), 0);
	ip_parse("10.0.0.1", &a.addresses[0]);
	ip_parse("10.0.0.2", &a.addresses[1]);
	n = dns_answer_format(m, &q, &a, out, sizeof(out));
	assert_int_equal(n, q.question_end + 2 * 16);
	assert_int_equal(out[7], 2);
	assert_int_equal(out[2], 0x81);
	assert_int_equal(out[3], 0x80);
	assert_memory_equal(out + n - 4, ((uint8_t[]){ 10, 0, 0, 2 }), 4);
	assert_true(dns_answer_matches(m, &q, out, n));
	out[13] ^= 0x20; /* another case */
	assert_true(dns_answer_matches(m, &q, out, n));
	out[13] = 'x';
	assert_false(dns_answer_matches(m, &q, out, n));
	assert_false(dns_answer_matches(m, &q, m, n));
	for (a.n = 0; a.n < DNS_ADDRESSES_MAX; a.n++)
		a.addresses[a.n] = a.addresses[0];
	n = dns_answer_format(m, &q, &a, out, sizeof(out));
	assert_true(n <= sizeof(out) && out[2] & 2 && out[7] < DNS_ADDRESSES_MAX);
	a = (struct dns_answer){ .rcode = DNS_NXDOMAIN };
	n = dns_answer_format(m, &q, &a, out, sizeof(out));
	assert_int_equal(n, q.question_end);
	assert_int_equal(dns_rcode_of(out), DNS_NXDOMAIN);
}

static void test_pointer_answer(void **state)
{
	uint8_t m[512], out[512];
	struct dns_query q;
	struct dns_answer a = { .ptr = "web.net" };
	size_t n = query("2.0.18.172.in-addr.arpa", DNS_PTR, true, m);

	assert_int_equal(dns_query_parse(m, n, &q), 0);
	n = dns_answer_format(m, &q, &a, out, sizeof(out));
	assert_int_equal(out[7], 1);
	assert_int_equal(out[11], 1);
	assert_memory_equal(out + n - 11 - 9, "\3web\3net", 9);
	/* What is no name is left out. */
	memcpy(a.ptr, "a..b", 5);
	n = dns_answer_format(m, &q, &a, out, sizeof(out));
	assert_int_equal(out[7], 0);
}

static void test_reverse(void **state)
{
	static const char *const bad[] = { "1.2.3.in-addr.arpa",
					   "1.2.3.4.5.in-addr.arpa",
					   "256.2.3.4.in-addr.arpa",
					   ".in-addr.arpa",
					   "x.ip6.arpa",
					   "web",
					   "" };
	struct ip a, b;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(dns_reverse_parse(bad[i], &a), -EINVAL);
	assert_int_equal(dns_reverse_parse("4.3.2.1.in-addr.arpa", &a), 0);
	ip_parse("1.2.3.4", &b);
	assert_int_equal(ip_compare(&a, &b), 0);
	assert_int_equal(dns_reverse_parse("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
					   "0.0.0.0.0.0.0.0.0.0.0.0.a.0.d.f.ip6.arpa",
					   &a),
			 0);
	ip_parse("fd0a::2", &b);
	assert_int_equal(ip_compare(&a, &b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_query),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_pointer_answer),
		cmocka_unit_test(test_reverse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
