/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "engine/spec-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>

static int build(struct container_config *c, struct json **ret, struct error *err)
{
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct spec_inputs in = {
		.config = c,
		.id = "x",
		.rootfs_fd = root,
		.rootfs_path = "rootfs",
		.cgroups_path = "/kistl/x",
		.netns_path = "/proc/1/ns/net",
		.mounts = c->mounts.v,
		.n_mounts = c->mounts.n,
	};
	int r;

	assert_true(root >= 0);
	r = spec_build(&in, ret, err);
	close(root);
	return r;
}

static struct container_config minimal(void)
{
	struct container_config c = { .default_paths = true };

	strv_push(&c.args, "true");
	c.hostname = xstrdup("box");
	return c;
}

static void test_defaults(void **state)
{
	struct container_config c = minimal();
	autojson struct json *spec = NULL;
	struct json *linux_, *process;

	assert_int_equal(build(&c, &spec, NULL), 0);
	linux_ = json_get(spec, "linux");
	process = json_get(spec, "process");
	assert_string_equal(json_get_string(spec, "hostname"), "box");
	assert_int_equal(json_array_len(json_get(json_get(process, "capabilities"), "bounding")),
			 14);
	assert_int_equal(json_array_len(json_get(spec, "mounts")), 7);
	assert_true(json_array_len(json_get(linux_, "maskedPaths")) > 5);
	assert_non_null(json_get(linux_, "seccomp"));
	assert_string_equal(json_string(json_array_get(json_get(process, "env"), 1)),
			    "HOSTNAME=box");
	container_config_done(&c);
}

static void test_privileged(void **state)
{
	struct container_config c = minimal();
	autojson struct json *spec = NULL;
	struct json *linux_;

	c.privileged = true;
	assert_int_equal(build(&c, &spec, NULL), 0);
	linux_ = json_get(spec, "linux");
	assert_null(json_get(linux_, "seccomp"));
	assert_null(json_get(linux_, "maskedPaths"));
	assert_true(json_array_len(json_get(linux_, "devices")) > 3);
	container_config_done(&c);
}

static void test_capabilities(void **state)
{
	struct container_config c = { 0 };
	autostrv struct strv caps = STRV_INIT;
	autoerror struct error err = ERROR_INIT;

	strv_push(&c.cap_drop, "ALL");
	strv_push(&c.cap_add, "net_bind_service");
	assert_int_equal(caps_resolve(&c, &caps, NULL), 0);
	assert_int_equal(caps.n, 1);
	assert_string_equal(caps.v[0], "CAP_NET_BIND_SERVICE");
	strv_push(&c.cap_add, "FLY");
	assert_int_equal(caps_resolve(&c, &caps, &err), -1);
	assert_string_equal(err.msg, "invalid CapAdd: unknown capability: \"FLY\"");
	container_config_done(&c);
}

static void test_mount_order(void **state)
{
	static const char *const targets[] = { "/a/b/c", "/a", "/a/b" };
	struct container_config c = minimal();
	autojson struct json *spec = NULL;
	struct json *mounts;
	size_t n;

	for (size_t i = 0; i < 3; i++) {
		GROW_ARRAY(c.mounts.v, c.mounts.n);
		c.mounts.v[c.mounts.n++] = (struct mount_spec){ .type = xstrdup("bind"),
								.source = xstrdup("/tmp"),
								.target = xstrdup(targets[i]) };
	}
	assert_int_equal(build(&c, &spec, NULL), 0);
	mounts = json_get(spec, "mounts");
	n = json_array_len(mounts);
	assert_string_equal(json_get_string(json_array_get(mounts, n - 3), "destination"), "/a");
	assert_string_equal(json_get_string(json_array_get(mounts, n - 2), "destination"), "/a/b");
	assert_string_equal(json_get_string(json_array_get(mounts, n - 1), "destination"),
			    "/a/b/c");
	container_config_done(&c);
}

static void expect_error(struct container_config *c, const char *message)
{
	autoerror struct error err = ERROR_INIT;
	autojson struct json *spec = NULL;

	assert_int_equal(build(c, &spec, &err), -1);
	assert_non_null(strstr(err.msg, message));
	container_config_done(c);
}

static void test_errors(void **state)
{
	struct container_config c = minimal();

	strv_push(&c.device_cgroup_rules, "c 1:3");
	expect_error(&c, "invalid device cgroup rule 'c 1:3'");
	c = minimal();
	c.devices.v = xnew(struct device_spec);
	c.devices.v[c.devices.n++].host_path = xstrdup("/dev/no-such-device");
	expect_error(&c, "/dev/no-such-device");
	c = minimal();
	c.ulimits.v = xnew(struct ulimit_spec);
	c.ulimits.v[c.ulimits.n++].name = xstrdup("bogus");
	expect_error(&c, "invalid ulimit type: bogus");
	c = minimal();
	strv_push(&c.security_opt, "seccomp={\"syscalls\":[]}");
	expect_error(&c, "'defaultAction' is missing");
	c = minimal();
	c.user = xstrdup("no-such-user");
	expect_error(&c, "unable to find user no-such-user");
}

static void test_signals(void **state)
{
	assert_int_equal(signal_parse("TERM"), 15);
	assert_int_equal(signal_parse("sigkill"), 9);
	assert_int_equal(signal_parse("9"), 9);
	assert_int_equal(signal_parse("SIGRTMIN+3"), 37);
	assert_int_equal(signal_parse("RTMAX-1"), 63);
	assert_int_equal(signal_parse("0"), -1);
	assert_int_equal(signal_parse("65"), -1);
	assert_int_equal(signal_parse("NOPE"), -1);
	assert_int_equal(signal_parse(""), -1);
}

static void test_profile(void **state)
{
	static const char text[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"archMap\":[{\"architecture\":\"SCMP_ARCH_"
		"X86_64\","
		"\"subArchitectures\":[\"SCMP_ARCH_X86\"]}],\"syscalls\":["
		"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"},"
		"{\"names\":[\"bpf\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_"
		"BPF\"]}},"
		"{\"names\":[\"clone3\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38,"
		"\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}}]}";
	autojson struct json *profile = json_parse(text, strlen(text), 1 << 20, NULL);
	autojson struct json *out = NULL;
	autostrv struct strv caps = STRV_INIT;

	assert_non_null(profile);
	strv_push(&caps, "CAP_SYS_ADMIN");
	assert_int_equal(seccomp_from_profile(profile, &caps, &out, NULL), 0);
	assert_int_equal(json_array_len(json_get(out, "syscalls")), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),     cmocka_unit_test(test_privileged),
		cmocka_unit_test(test_capabilities), cmocka_unit_test(test_mount_order),
		cmocka_unit_test(test_errors),	     cmocka_unit_test(test_signals),
		cmocka_unit_test(test_profile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
