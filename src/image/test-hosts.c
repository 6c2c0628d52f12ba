/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "image/hosts.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void check_default(const char *domain, const struct strv *insecure, const char *first,
			  bool skip, const char *second)
{
	autohosts struct registry_hosts h = REGISTRY_HOSTS_INIT;

	hosts_default(domain, insecure, &h);
	assert_int_equal(h.n, second ? 2 : 1);
	assert_string_equal(h.v[0].url, first);
	assert_int_equal(h.v[0].skip_verify, skip);
	assert_int_equal(h.v[0].can, HOST_ALL);
	if (second)
		assert_string_equal(h.v[1].url, second);
}

static void test_default(void **state)
{
	autostrv struct strv insecure = STRV_INIT;

	strv_push(&insecure, "10.1.0.0/16");
	strv_push(&insecure, "plain.example:5000");
	strv_push(&insecure, "fd00::/8");
	check_default("docker.io", NULL, "https://registry-1.docker.io/v2", false, NULL);
	check_default("ghcr.io", &insecure, "https://ghcr.io/v2", false, NULL);
	check_default("localhost:5000", NULL, "http://localhost:5000/v2", false,
		      "https://localhost:5000/v2");
	check_default("localhost:443", NULL, "https://localhost:443/v2", true,
		      "http://localhost:443/v2");
	check_default("127.9.8.7:80", NULL, "http://127.9.8.7:80/v2", false,
		      "https://127.9.8.7:80/v2");
	check_default("[::1]:5000", NULL, "http://[::1]:5000/v2", false, "https://[::1]:5000/v2");
	check_default("10.1.2.3:5000", &insecure, "https://10.1.2.3:5000/v2", true,
		      "http://10.1.2.3:5000/v2");
	check_default("10.2.2.3:5000", &insecure, "https://10.2.2.3:5000/v2", false, NULL);
	check_default("plain.example:5000", &insecure, "https://plain.example:5000/v2", true,
		      "http://plain.example:5000/v2");
	check_default("plain.example:5001", &insecure, "https://plain.example:5001/v2", false,
		      NULL);
	check_default("[fd12::1]:1", &insecure, "https://[fd12::1]:1/v2", true,
		      "http://[fd12::1]:1/v2");
	check_default("127.0.0.1.example.com", NULL, "https://127.0.0.1.example.com/v2", false,
		      NULL);
}

static int parse(const char *text, struct registry_hosts *h, struct error *err)
{
	return hosts_parse(text, strlen(text), "docker.io", "/certs/docker.io", NULL, h, err);
}

static void test_parse(void **state)
{
	autohosts struct registry_hosts h = REGISTRY_HOSTS_INIT;
	autoerror struct error err = ERROR_INIT;
	static const char text[] = "server = \"https://upstream.example\"\n"
				   "ca = \"/etc/ca.pem\"\n"
				   "[host.\"https://mirror.example/us\"]\n"
				   "capabilities = [\"pull\", \"resolve\"]\n"
				   "ca = [\"a.pem\", \"b.pem\"]\n"
				   "client = [[\"c.cert\", \"c.key\"]]\n"
				   "dial_timeout = \"1m500ms\"\n"
				   "  [host.\"https://mirror.example/us\".header]\n"
				   "  x-one = \"1\"\n"
				   "  x-two = [\"2\", \"3\"]\n"
				   "[host.\"second.example:5000\"]\n"
				   "skip_verify = true\n"
				   "override_path = true\n"
				   "[host.\"http://plain.example:81\"]\n"
				   "ca = \"p.pem\"\n";

	assert_int_equal(parse(text, &h, &err), 0);
	assert_int_equal(h.n, 5);
	assert_string_equal(h.v[0].url, "https://mirror.example/us/v2");
	assert_string_equal(h.v[0].host, "mirror.example");
	assert_int_equal(h.v[0].can, HOST_PULL | HOST_RESOLVE);
	assert_string_equal(h.v[0].ca.v[0], "/certs/docker.io/a.pem");
	assert_int_equal(h.v[0].ca.n, 2);
	assert_string_equal(h.v[0].client_cert, "/certs/docker.io/c.cert");
	assert_string_equal(h.v[0].client_key, "/certs/docker.io/c.key");
	assert_true(h.v[0].dial_timeout == 60500 * NSEC_PER_MSEC);
	assert_int_equal(h.v[0].header_names.n, 3);
	assert_string_equal(h.v[0].header_values.v[2], "3");
	assert_string_equal(h.v[1].url, "https://second.example:5000");
	assert_true(h.v[1].skip_verify);
	assert_int_equal(h.v[1].can, HOST_ALL);
	assert_string_equal(h.v[2].url, "https://plain.example:81/v2");
	assert_string_equal(h.v[3].url, "http://plain.example:81/v2");
	assert_int_equal(h.v[3].ca.n, 0);
	assert_string_equal(h.v[4].url, "https://upstream.example/v2");
	assert_string_equal(h.v[4].ca.v[0], "/etc/ca.pem");
}

static void test_parse_without_server(void **state)
{
	autohosts struct registry_hosts h = REGISTRY_HOSTS_INIT;

	assert_int_equal(parse("[host.\"https://m/v2\"]\n", &h, NULL), 0);
	assert_int_equal(h.n, 2);
	assert_string_equal(h.v[0].url, "https://m/v2");
	assert_string_equal(h.v[1].url, "https://registry-1.docker.io/v2");
}

static void test_parse_errors(void **state)
{
	static const char *const bad[] = {
		"server = ",
		"host = 1",
		"server = \"ftp://x\"",
		"server = \"https://user@x\"",
		"server = \"https://\"",
		"capabilities = [\"fly\"]",
		"capabilities = \"pull\"",
		"dial_timeout = \"soon\"",
		"dial_timeout = \"-1s\"",
		"client = 1",
		"ca = 1",
		"header = 1",
		"[header]\nx = 1",
		"[host.\"https://a\".host.\"https://b\"]",
		"[host]\na = 1",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autohosts struct registry_hosts h = REGISTRY_HOSTS_INIT;
		autoerror struct error err = ERROR_INIT;

		if (parse(bad[i], &h, &err) == 0)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
	}
}

static void put(const char *root, const char *dir, const char *file, const char *text)
{
	autofree char *d = path_join(root, dir, NULL);
	autofree char *path = path_join(d, file, NULL);

	assert_int_equal(fs_mkdir_p(d, 0755), 0);
	assert_int_equal(fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, false), 0);
}

static const char *load_first(const struct strv *roots, const char *domain,
			      struct registry_hosts *h)
{
	registry_hosts_done(h);
	assert_int_equal(hosts_load(roots, domain, NULL, h, NULL), 0);
	return h->v[0].url;
}

static void test_load(void **state)
{
	char dir[] = "/tmp/test-hosts-XXXXXX";
	autohosts struct registry_hosts h = REGISTRY_HOSTS_INIT;
	autostrv struct strv roots = STRV_INIT;
	autofree char *empty = NULL;

	assert_non_null(mkdtemp(dir));
	strv_push(&roots, "/nonexistent/certs.d");
	strv_push(&roots, dir);
	assert_string_equal(load_first(&roots, "r.example:5000", &h), "https://r.example:5000/v2");

	put(dir, "_default", "hosts.toml", "[host.\"https://default.example\"]\n");
	assert_string_equal(load_first(&roots, "r.example:5000", &h), "https://default.example/v2");
	empty = path_join(dir, "r.example:5000", NULL);
	assert_int_equal(fs_mkdir_p(empty, 0755), 0);
	assert_string_equal(load_first(&roots, "r.example:5000", &h), "https://default.example/v2");

	put(dir, "r.example:5000", "ca.crt", "");
	put(dir, "r.example:5000", "me.cert", "");
	put(dir, "r.example:5000", "me.key", "");
	assert_string_equal(load_first(&roots, "r.example:5000", &h), "https://r.example:5000/v2");
	assert_int_equal(h.v[0].ca.n, 1);
	assert_true(str_has_suffix(h.v[0].client_cert, "/me.cert"));
	assert_true(str_has_suffix(h.v[0].client_key, "/me.key"));

	put(dir, "r.example_5000_", "hosts.toml", "server = \"https://underscored.example\"\n");
	assert_string_equal(load_first(&roots, "r.example:5000", &h),
			    "https://underscored.example/v2");
	put(dir, "r.example_5000_", "hosts.toml", "server = ");
	registry_hosts_done(&h);
	assert_int_equal(hosts_load(&roots, "r.example:5000", NULL, &h, NULL), -1);
	assert_int_equal(fs_remove_tree(AT_FDCWD, dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_without_server),
		cmocka_unit_test(test_parse_errors),
		cmocka_unit_test(test_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
