/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "network/network.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

static void test_hosts(void **state)
{
	autostrv struct strv extra = STRV_INIT;

	strv_push(&extra, "db:10.0.0.5");
	strv_push(&extra, "gw:host-gateway");
	strv_push(&extra, "six:fe80::1");
	strv_push(&extra, "eq=10.0.0.6");
	strv_push(&extra, "br:[fe80::2]");
	const struct host_entry own[] = { { "172.18.0.2", "box.example.org box" },
					  { "fd00::2", "box" } };
	autofree char *text = hosts_format(NULL, &extra, "172.18.0.1", own, ARRAY_SIZE(own));
	assert_non_null(strstr(text, "127.0.0.1\tlocalhost\n"));
	assert_non_null(strstr(text, "10.0.0.5\tdb\n"));
	assert_non_null(strstr(text, "172.18.0.1\tgw\n"));
	assert_non_null(strstr(text, "fe80::1\tsix\n"));
	assert_non_null(strstr(text, "10.0.0.6\teq\n"));
	assert_non_null(strstr(text, "fe80::2\tbr\n"));
	assert_non_null(strstr(text, "172.18.0.2\tbox.example.org box\nfd00::2\tbox\n"));
	autofree char *based = hosts_format("1.2.3.4 x", NULL, NULL, NULL, 0);
	assert_string_equal(based, "1.2.3.4 x\n");
}

static const struct {
	const char *host, *dns, *search;
	enum resolv_mode mode;
	const char *expected;
} cases[] = {
	{ "nameserver 192.0.2.1\nsearch a.b\n", NULL, NULL, RESOLV_BRIDGE,
	  "nameserver 192.0.2.1\nsearch a.b\n" },
	{ "# x\nnameserver 127.0.0.1\nnameserver 192.0.2.2\noptions ndots:2\n", NULL, NULL,
	  RESOLV_BRIDGE, "nameserver 192.0.2.2\noptions ndots:2\n" },
	{ "nameserver 127.0.0.1\n", NULL, NULL, RESOLV_HOST, "nameserver 127.0.0.1\n" },
	{ "nameserver 127.0.0.1\n", NULL, NULL, RESOLV_BRIDGE,
	  "nameserver 8.8.8.8\nnameserver 8.8.4.4\n" },
	{ "nameserver 192.0.2.1\nsearch a\n", "1.1.1.1", ".", RESOLV_BRIDGE,
	  "nameserver 1.1.1.1\n" },
	{ NULL, "1.1.1.1", "x.y", RESOLV_BRIDGE, "nameserver 1.1.1.1\nsearch x.y\n" },
	{ "nameserver 127.0.0.53\nsearch a\noptions edns0\n", NULL, NULL, RESOLV_OWN,
	  "nameserver 127.0.0.11\nsearch a\noptions edns0\noptions ndots:0\n"
	  "\n# Names of this network, else asked from: [host(127.0.0.53)]\n" },
	{ "nameserver 192.0.2.1\noptions ndots:3\n", "1.1.1.1", NULL, RESOLV_OWN,
	  "nameserver 127.0.0.11\noptions ndots:3\n"
	  "\n# Names of this network, else asked from: [1.1.1.1]\n" },
	{ "nameservers 1.2.3.4\nsearching\n", NULL, NULL, RESOLV_HOST, "" },
};

static void test_resolv(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autostrv struct strv dns = STRV_INIT, search = STRV_INIT, none = STRV_INIT;

		if (cases[i].dns)
			strv_push(&dns, cases[i].dns);
		if (cases[i].search)
			strv_push(&search, cases[i].search);
		autofree char *text =
			resolv_conf_format(cases[i].host, &dns, &search, &none, cases[i].mode);
		assert_string_equal(text, cases[i].expected);
	}
}

static void test_servers(void **state)
{
	autostrv struct strv servers = STRV_INIT;

	resolv_conf_servers("# x\nnameserver 127.0.0.53\nnameserver\t192.0.2.1 # y\nsearch a\n"
			    "nameserver fe80::1%eth0\nnameserver\n",
			    &servers);
	assert_int_equal(servers.n, 3);
	assert_string_equal(servers.v[0], "127.0.0.53");
	assert_string_equal(servers.v[1], "192.0.2.1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_resolv),
		cmocka_unit_test(test_servers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
