/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "network/cni-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

static void test_addresses(void **state)
{
	static const char *const bad[] = { "",	      "10.0.0.1",   "10.0.0.1/33", "10.0.0.1/-1",
					   "a/8",     "fd00::/129", "/8",	   "10.0.0.1/8x",
					   "1.2.3/8", "010.0.0.1/8" };
	struct cni_net n;
	struct ip a, b;
	char text[CNI_NET_STRING_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cni_net_parse(bad[i], &n), -EINVAL);
	assert_int_equal(cni_net_parse(NULL, &n), -EINVAL);
	assert_int_equal(cni_net_parse("10.1.2.3/20", &n), 0);
	a = cni_net_base(&n);
	ip_format(&a, text);
	assert_string_equal(text, "10.1.0.0");
	a = cni_net_last(&n);
	ip_format(&a, text);
	assert_string_equal(text, "10.1.15.255");
	assert_true(cni_net_contains(&n, &a));
	a = cni_net_next(&a);
	assert_false(cni_net_contains(&n, &a));
	cni_net_format(&n, text);
	assert_string_equal(text, "10.1.2.3/20");
	assert_int_equal(ip_parse("fd00::ffff", &a), 0);
	b = cni_net_next(&a);
	ip_format(&b, text);
	assert_string_equal(text, "fd00::1:0");
	assert_true(ip_compare(&a, &b) < 0);
	assert_int_equal(ip_parse("::", &a), 0);
	assert_true(ip_is_any(&a));
	assert_false(cni_net_contains(&n, &a));
}

static void test_names(void **state)
{
	static const char *const bad[] = { NULL, "", ".x", "-x", "a/b", "a b", "a\n", "ä" };
	static const char *const bad_ifnames[] = {
		"", ".", "..", "a/b", "a:b", "a b", "sixteen-letters-"
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(cni_name_valid(bad[i]));
	assert_true(cni_name_valid("k8s-pod_network.1"));
	for (size_t i = 0; i < ARRAY_SIZE(bad_ifnames); i++)
		assert_false(cni_ifname_valid(bad_ifnames[i]));
	assert_true(cni_ifname_valid("fifteen-letters"));
}

static void test_lists(void **state)
{
	static const struct {
		const char *text;
		bool single;
		const char *message;
	} bad[] = {
		{ "[]", false, "expected an object" },
		{ "{}", false, "missing 'name'" },
		{ "{\"name\":\"a/b\"}", false, "invalid 'name': a/b" },
		{ "{\"name\":\"a\",\"plugins\":[]}", false, "at least one plugin" },
		{ "{\"name\":\"a\",\"plugins\":{}}", false, "expected an array" },
		{ "{\"name\":\"a\",\"plugins\":[{}]}", false, "plugins[0]: missing 'type'" },
		{ "{\"name\":\"a\",\"plugins\":[1]}", false, "plugins[0]: missing 'type'" },
		{ "{\"name\":\"a\",\"plugins\":[{\"type\":\"../x\"}]}", false, "invalid 'type'" },
		{ "{\"name\":\"a\",\"cniVersion\":1}", false, "cniVersion: expected a string" },
		{ "{\"name\":\"a\",\"cniVersion\":\"1.2.0\"}", false, "'1.2.0' is not supported" },
		{ "{\"name\":\"a\",\"cniVersions\":[1]}", false, "cniVersions[0]" },
		{ "{\"name\":\"a\",\"disableCheck\":3}", false,
		  "disableCheck: expected a boolean" },
		{ "{\"name\":\"a\",\"loadOnlyInlinedPlugins\":true}", false, "without 'plugins'" },
		{ "{\"name\":\"a\",\"plugins\":[{\"type\":\"x\"}]}", true, "not a .conflist" },
		{ "{\"name\":\"a\"}", true, "missing 'type'" },
		{ "{\"name\":", true, "" },
	};
	static const char good[] = "{\"name\":\"a\",\"cniVersion\":\"0.4.0\",\"cniVersions\":["
				   "\"1.0.0\",\"9.0.0\"],\"disableCheck\":\"TRUE\",\"plugins\":["
				   "{\"type\":\"x\",\"k\":1},{\"type\":\"y\"}]}";
	CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT, again = CNI_LIST_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autoerror struct error err = ERROR_INIT;

		assert_int_equal(
			cni_list_parse(bad[i].text, strlen(bad[i].text), bad[i].single, &l, &err),
			-1);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
		if (!strstr(err.msg, bad[i].message))
			fail_msg("%s: %s", bad[i].text, err.msg);
	}
	assert_int_equal(cni_list_parse(good, strlen(good), false, &l, NULL), 0);
	assert_int_equal(l.version, CNI_1_0_0);
	assert_true(l.disable_check);
	assert_false(l.inlined_only);
	assert_int_equal(cni_list_add(&l, "{\"type\":\"z\"}", 12, NULL), 0);
	autofree char *text = cni_list_format(&l);

	assert_int_equal(cni_list_parse(text, strlen(text), false, &again, NULL), 0);
	assert_int_equal(again.n, 3);
	assert_true(again.inlined_only);
	assert_true(again.disable_check);
	assert_string_equal(again.v[2].type, "z");
	assert_int_equal(json_get_int(again.v[0].config, "k", 0), 1);
}

static int parse(const char *text, struct cni_info *ret, struct error *err)
{
	autojson struct json *j = json_parse(text, strlen(text), 1 << 20, NULL);

	assert_non_null(j);
	return cni_info_parse(j, ret, err);
}

static void test_results(void **state)
{
	static const char *const bad[] = {
		"[]",
		"{\"cniVersion\":\"2.0.0\"}",
		"{\"cniVersion\":\"1.0.0\",\"ips\":[{}]}",
		"{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.1\"}]}",
		"{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"1::/8\",\"gateway\":\"x\"}]}",
		"{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"mac\":\"x\"}]}",
		"{\"cniVersion\":\"1.0.0\",\"routes\":[{\"gw\":\"10.0.0.1\"}]}",
		"{\"ip4\":{\"ip\":\"10.0.0.1\"}}",
	};
	static const char v1[] = "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\","
				 "\"mac\":\"02:00:00:00:00:01\",\"sandbox\":\"/n\"}],\"ips\":["
				 "{\"interface\":0,\"address\":\"10.0.0.2/8\",\"gateway\":"
				 "\"10.0.0.1\"},{\"interface\":7,\"address\":\"fd00::2/64\"}],"
				 "\"routes\":[{\"dst\":\"0.0.0.0/0\"},{\"dst\":\"10.9.1.1/16\","
				 "\"gw\":\"10.0.0.9\",\"mtu\":1400}],"
				 "\"dns\":{\"nameservers\":[\"1.1.1.1\"]}}";
	autocniinfo struct cni_info i = CNI_INFO_INIT, old = CNI_INFO_INIT, routes = CNI_INFO_INIT;

	for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
		autoerror struct error err = ERROR_INIT;

		assert_int_equal(parse(bad[k], &i, &err), -1);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
	}
	assert_int_equal(parse(v1, &i, NULL), 0);
	assert_int_equal(i.ips.n, 2);
	assert_int_equal(i.ips.v[0].interface, 0);
	/* An index that leads nowhere is none. */
	assert_int_equal(i.ips.v[1].interface, -1);
	assert_int_equal(i.routes.n, 2);
	autojson struct json *j = cni_info_encode(&i);
	autofree char *text = json_format(j, false);

	assert_non_null(strstr(text, "\"dst\":\"10.9.0.0/16\",\"gw\":\"10.0.0.9\""));
	assert_null(strstr(text, "\"version\""));
	i.version = CNI_0_4_0;
	autojson struct json *j4 = cni_info_encode(&i);

	assert_string_equal(json_get_string(json_array_get(json_get(j4, "ips"), 1), "version"),
			    "6");
	assert_string_equal(json_get_string(j4, "cniVersion"), "0.4.0");
	/* What the built-in plugins must not pass over. */
	autojson struct json *given = json_parse(v1, strlen(v1), 1 << 20, NULL);

	assert_int_equal(cni_routes_parse(json_get(given, "routes"), &routes, true, NULL), -1);

	assert_int_equal(
		parse("{\"ip4\":{\"ip\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\",\"routes\":"
		      "[{\"dst\":\"0.0.0.0/0\"}]},\"ip6\":{\"ip\":\"fd00::2/64\"}}",
		      &old, NULL),
		0);
	assert_int_equal(old.version, CNI_0_1_0);
	assert_int_equal(old.ips.n, 2);
	assert_int_equal(old.routes.n, 1);
}

static void test_quantities(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
	} good[] = {
		{ "1", 1 },	  { "10M", 10000000 }, { "1Gi", 1073741824 },
		{ "1.5k", 1500 }, { "1e3", 1000 },     { "1E", 1000000000000000000 },
		{ "100m", 1 },	  { "1E3", 1000 },     { "5e-1", 1 },
	};
	static const char *const bad[] = {
		"", "M", "1x", "1MB", "-1", "1e", "1.2.3", "99E", "nan"
	};
	uint64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(cni_quantity_parse(good[i].text, &v), 0);
		assert_int_equal(v, good[i].value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(cni_quantity_parse(bad[i], &v) < 0);
	assert_true(cni_quantity_parse(NULL, &v) < 0);
}

static void test_requests(void **state)
{
	char bogus[] = "icmp", tcp[] = "tcp", ip[] = "1.2.3";
	struct port_mapping m = { .protocol = bogus, .host_port = 1, .container_port = 1 };
	struct cni_request r = { .id = "a", .pod_name = "a;b", .ports = &m, .n_ports = 1 };
	autoerror struct error err = ERROR_INIT;
	autostrv struct strv args = STRV_INIT;
	autokvs struct kvs annotations = KVS_INIT;
	struct json *j = NULL;

	assert_int_equal(cni_request_args(&r, &args, &err), -1);
	assert_non_null(strstr(err.msg, "K8S_POD_NAME: 'a;b'"));
	assert_int_equal(cni_request_capabilities(&r, &j, &err), -1);
	assert_non_null(strstr(err.msg, "unknown protocol 'icmp'"));
	m.protocol = tcp;
	m.host_port = 65536;
	assert_int_equal(cni_request_capabilities(&r, &j, &err), -1);
	m.host_port = 80;
	m.host_ip = ip;
	assert_int_equal(cni_request_capabilities(&r, &j, &err), -1);
	assert_non_null(strstr(err.msg, "invalid host address '1.2.3'"));
	r.n_ports = 0;
	r.annotations = &annotations;
	kvs_set(&annotations, "kubernetes.io/egress-bandwidth", "12");
	assert_int_equal(cni_request_capabilities(&r, &j, &err), -1);
	assert_non_null(strstr(err.msg, "egress-bandwidth: '12'"));
	assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
}

/* Which configurations the built-in plugins take on: whole, or not at all. */
static void test_supports(void **state)
{
	static const struct {
		const char *config;
		bool expected;
	} cases[] = {
		{ "{\"type\":\"loopback\"}", true },
		{ "{\"type\":\"loopback\",\"x\":1}", false },
		{ "{\"type\":\"bridge\",\"ipam\":{}}", true },
		{ "{\"type\":\"bridge\",\"vlan\":0,\"macspoofchk\":false}", true },
		{ "{\"type\":\"bridge\",\"vlan\":5}", false },
		{ "{\"type\":\"bridge\",\"macspoofchk\":true}", false },
		{ "{\"type\":\"bridge\",\"ipMasqBackend\":\"iptables\"}", false },
		{ "{\"type\":\"bridge\",\"args\":{}}", false },
		{ "{\"type\":\"host-local\",\"ipam\":{\"subnet\":\"10.0.0.0/8\"}}", true },
		{ "{\"type\":\"host-local\",\"ipam\":{\"resolvConf\":\"/x\"}}", false },
		{ "{\"type\":\"host-local\",\"ipam\":{\"routes\":[{\"dst\":\"10.0.0.0/8\","
		  "\"mtu\":1}]}}",
		  false },
		{ "{\"type\":\"host-local\",\"ipam\":{\"ranges\":[[{\"x\":1}]]}}", false },
		{ "{\"type\":\"host-local\"}", false },
		{ "{\"type\":\"portmap\",\"snat\":true,\"conditionsV4\":[]}", true },
		{ "{\"type\":\"portmap\",\"conditionsV4\":[\"-d\"]}", false },
		{ "{\"type\":\"portmap\",\"markMasqBit\":3}", false },
		{ "{\"type\":\"portmap\",\"backend\":\"iptables\"}", false },
		{ "{\"type\":\"firewall\",\"backend\":\"firewalld\"}", false },
		{ "{\"type\":\"firewall\",\"ingressPolicy\":\"same-bridge\"}", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autojson struct json *j =
			json_parse(cases[i].config, strlen(cases[i].config), 1 << 20, NULL);
		const struct cni_builtin *b = cni_builtin_find(json_get_string(j, "type"));

		if (b->supports(j) != cases[i].expected)
			fail_msg("%s", cases[i].config);
	}
	assert_null(cni_builtin_find("tuning"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),  cmocka_unit_test(test_names),
		cmocka_unit_test(test_lists),	   cmocka_unit_test(test_results),
		cmocka_unit_test(test_quantities), cmocka_unit_test(test_requests),
		cmocka_unit_test(test_supports),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
