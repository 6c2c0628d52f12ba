/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct create_request *ret, struct error *err)
{
	autojson struct json *body = json_parse(text, strlen(text), 1 << 20, NULL);

	assert_non_null(body);
	return create_request_parse(body, ret, err);
}

static void test_full(void **state)
{
	static const char text[] =
		"{\"Image\":\"busybox\",\"Cmd\":[\"sh\",\"-c\",\"true\"],\"Tty\":true,\"Env\":[\"A="
		"1\"],"
		"\"Volumes\":{\"/v\":{},\"/data\":{}},\"ExposedPorts\":{\"80/tcp\":{}},"
		"\"HostConfig\":{\"Binds\":[\"/tmp:/data:ro,rslave\",\"vol:/vol:nocopy\"],"
		"\"Tmpfs\":{\"/t\":\"size=1m\"},\"PortBindings\":{\"80/"
		"tcp\":[{\"HostPort\":\"8080\"}]},"
		"\"Memory\":67108864,\"PidsLimit\":10,\"MemorySwappiness\":null,\"NetworkMode\":"
		"\"default\","
		"\"RestartPolicy\":{\"Name\":\"on-failure\",\"MaximumRetryCount\":3},"
		"\"MaskedPaths\":[]},"
		"\"NetworkingConfig\":{\"EndpointsConfig\":{\"bridge\":{\"Aliases\":[\"web\"]}}}}";
	struct create_request c;
	const struct mount_spec *m;

	assert_int_equal(parse(text, &c, NULL), 0);
	assert_int_equal(c.cmd.n, 3);
	assert_false(c.entrypoint_set);
	assert_string_equal(c.config.network_mode, "bridge");
	assert_string_equal(c.config.endpoints.v[0].aliases.v[0], "web");
	assert_int_equal(c.config.resources.memory, 67108864);
	assert_int_equal(c.config.resources.memory_swappiness, -1);
	assert_int_equal(c.config.ports.v[0].host_port, 8080);
	assert_int_equal(c.config.restart_max_retries, 3);
	assert_string_equal(c.config.security_opt.v[0], "systempaths=unconfined");
	assert_int_equal(c.config.mounts.n, 4); /* /data is bound, so only /v is anonymous */
	m = c.config.mounts.v;
	assert_true(m[0].read_only && m[0].create_source);
	assert_string_equal(m[0].propagation, "rslave");
	assert_string_equal(m[1].type, "volume");
	assert_true(m[1].no_copy);
	assert_string_equal(m[2].options.v[0], "size=1m");
	assert_true(m[3].anonymous);
	assert_string_equal(json_get_string(json_get(c.extension, "HostConfig"), "NetworkMode"),
			    "bridge");
	create_request_done(&c);
}

static void test_entrypoint(void **state)
{
	struct create_request c;

	assert_int_equal(parse("{\"Image\":\"x\",\"Entrypoint\":[\"\"]}", &c, NULL), 0);
	assert_true(c.entrypoint_set && c.entrypoint.n == 0);
	create_request_done(&c);
	assert_int_equal(parse("{\"Image\":\"x\",\"Entrypoint\":[]}", &c, NULL), 0);
	assert_false(c.entrypoint_set);
	create_request_done(&c);
	assert_int_equal(parse("{\"Image\":\"x\",\"Entrypoint\":\"/bin/sh\"}", &c, NULL), 0);
	assert_string_equal(c.entrypoint.v[0], "/bin/sh");
	create_request_done(&c);
}

static const struct {
	const char *text, *message;
} bad[] = {
	{ "[]", "Config cannot be empty" },
	{ "{}", "Config.Image: no image" },
	{ "{\"Image\":\"x\",\"Tty\":\"yes\"}", "Tty" },
	{ "{\"Image\":\"x\",\"HostConfig\":{\"Memory\":\"1\"}}", "Memory" },
	{ "{\"Image\":\"x\",\"HostConfig\":{\"Binds\":[\"/a:/b:nope\"]}}",
	  "invalid mode: /a:/b:nope" },
	{ "{\"Image\":\"x\",\"HostConfig\":{\"Binds\":[\":/b\"]}}",
	  "invalid volume specification" },
	{ "{\"Image\":\"x\",\"HostConfig\":{\"Binds\":[\"a/b:/c\"]}}",
	  "includes invalid characters" },
	{ "{\"Image\":\"x\",\"HostConfig\":{\"PortBindings\":{\"x/tcp\":[{}]}}}", "invalid port" },
	{ "{\"Image\":\"x\",\"HostConfig\":{\"PortBindings\":{\"80/"
	  "tcp\":[{\"HostPort\":\"70000\"}]}}}",
	  "invalid port specification: \"70000\"" },
	{ "{\"Image\":\"x\",\"NetworkingConfig\":{\"EndpointsConfig\":{\"a\":{\"Aliases\":1}}}}",
	  "NetworkingConfig.EndpointsConfig.a: Aliases" },
	{ "{\"Image\":\"x\",\"HostConfig\":{\"PortBindings\":{\"80\":[{\"HostPort\":\"9-8\"}]}}}",
	  "invalid port specification: \"9-8\"" },
};

static void test_bad(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autoerror struct error err = ERROR_INIT;
		struct create_request c;

		assert_int_equal(parse(bad[i].text, &c, &err), -1);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
		assert_non_null(strstr(err.msg, bad[i].message));
	}
}

static void test_status(void **state)
{
	struct container_view v = { .status = CONTAINER_RUNNING, .started_at = 1 };
	autofree char *up = container_status_text(&v, 125 * NSEC_PER_SEC);
	autofree char *gone = NULL;

	assert_string_equal(up, "Up 2 minutes");
	v.status = CONTAINER_EXITED;
	v.exit_code = 137;
	v.finished_at = 100 * NSEC_PER_SEC;
	gone = container_status_text(&v, 105 * NSEC_PER_SEC);
	assert_string_equal(gone, "Exited (137) 5 seconds ago");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_entrypoint),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_status),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
