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
	autofree char *text =
		hosts_format(&extra, "172.18.0.1", "172.18.0.2", "box", "example.org");
	assert_non_null(strstr(text, "127.0.0.1\tlocalhost\n"));
	assert_non_null(strstr(text, "10.0.0.5\tdb\n"));
	assert_non_null(strstr(text, "172.18.0.1\tgw\n"));
	assert_non_null(strstr(text, "fe80::1\tsix\n"));
	assert_non_null(strstr(text, "172.18.0.2\tbox.example.org box\n"));
}

static const struct {
	const char *host, *dns, *search;
	bool host_network;
	const char *expected;
} cases[] = {
	{ "nameserver 192.0.2.1\nsearch a.b\n", NULL, NULL, false,
	  "nameserver 192.0.2.1\nsearch a.b\n" },
	{ "# x\nnameserver 127.0.0.1\nnameserver 192.0.2.2\noptions ndots:2\n", NULL, NULL, false,
	  "nameserver 192.0.2.2\noptions ndots:2\n" },
	{ "nameserver 127.0.0.1\n", NULL, NULL, true, "nameserver 127.0.0.1\n" },
	{ "nameserver 127.0.0.1\n", NULL, NULL, false, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n" },
	{ "nameserver 192.0.2.1\nsearch a\n", "1.1.1.1", ".", false, "nameserver 1.1.1.1\n" },
	{ NULL, "1.1.1.1", "x.y", false, "nameserver 1.1.1.1\nsearch x.y\n" },
	{ "nameservers 1.2.3.4\nsearching\n", NULL, NULL, true, "" },
};

static void test_resolv(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autostrv struct strv dns = STRV_INIT, search = STRV_INIT, none = STRV_INIT;

		if (cases[i].dns)
			strv_push(&dns, cases[i].dns);
		if (cases[i].search)
			strv_push(&search, cases[i].search);
		autofree char *text = resolv_conf_format(cases[i].host, &dns, &search, &none,
							 cases[i].host_network);
		assert_string_equal(text, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_resolv),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
