/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/spec-parse.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

static char *text_of(const struct json *j, int r, const struct error *err)
{
	return r < 0 || !j ? xasprintf("error: %s", error_msg(err))
			   : json_format(j, /* pretty= */ false);
}

#define CHECK_OBJECT(fn, s, expect)                        \
	do {                                               \
		autoerror struct error err_ = ERROR_INIT;  \
		autojson struct json *j_ = fn(s, &err_);   \
		autofree char *t_ = text_of(j_, 0, &err_); \
		assert_string_equal(t_, expect);           \
	} while (0)

#define CHECK_PUBLISH(s, expect)                                                       \
	do {                                                                           \
		autoerror struct error err_ = ERROR_INIT;                              \
		autojson struct json *e_ = json_new_object(), *b_ = json_new_object(); \
		int r_ = spec_publish(s, e_, b_, &err_);                               \
		autofree char *t_ = text_of(b_, r_, &err_);                            \
		assert_string_equal(t_, expect);                                       \
	} while (0)

static void test_volume(void **state)
{
	autojson struct json *binds = json_new_array(), *volumes = json_new_object();
	autofree char *b = NULL;
	autofree char *v = NULL;

	assert_int_equal(spec_volume("/a:/b", binds, volumes, NULL), 0);
	assert_int_equal(spec_volume("name:/b:ro,Z", binds, volumes, NULL), 0);
	assert_int_equal(spec_volume("/anon", binds, volumes, NULL), 0);
	assert_int_equal(spec_volume("", binds, volumes, NULL), -1);
	assert_int_equal(spec_volume("/a::ro", binds, volumes, NULL), -1);
	assert_int_equal(spec_volume("a:b:c:d", binds, volumes, NULL), -1);
	b = json_format(binds, false);
	v = json_format(volumes, false);
	assert_string_equal(b, "[\"/a:/b\",\"name:/b:ro,Z\"]");
	assert_string_equal(v, "{\"/anon\":{}}");
}

static void test_mount(void **state)
{
	CHECK_OBJECT(spec_mount, "type=bind,source=/a,target=/b,readonly,bind-propagation=rslave",
		     "{\"Type\":\"bind\",\"Source\":\"/a\",\"Target\":\"/b\",\"ReadOnly\":true,"
		     "\"BindOptions\":{\"Propagation\":\"rslave\"}}");
	CHECK_OBJECT(
		spec_mount, "src=v,dst=/v,volume-label=a=b,volume-opt=o=p,volume-driver=d",
		"{\"Type\":\"volume\",\"Source\":\"v\",\"Target\":\"/v\",\"VolumeOptions\":"
		"{\"Labels\":{\"a\":\"b\"},\"DriverConfig\":{\"Options\":{\"o\":\"p\"},\"Name\":"
		"\"d\"}}}");
	CHECK_OBJECT(spec_mount, "type=tmpfs,dst=/t,\"volume-nocopy=x\"",
		     "error: invalid value for volume-nocopy: x");
	CHECK_OBJECT(spec_mount, "type=tmpfs,dst=/t,tmpfs-mode=0999",
		     "error: invalid value for tmpfs-mode: 0999");
	CHECK_OBJECT(spec_mount, "type=bind,dst=/t,tmpfs-size=1m",
		     "error: cannot mix 'tmpfs-*' options with mount type 'bind'");
	CHECK_OBJECT(spec_mount, "type=bind", "error: target is required");
	CHECK_OBJECT(spec_mount, "type=,dst=/x", "error: type is required");
	CHECK_OBJECT(spec_mount, "foo=bar,dst=/x", "error: unexpected key 'foo' in 'foo=bar'");
	CHECK_OBJECT(spec_mount, "target",
		     "error: invalid field 'target' must be a key=value pair");
	CHECK_OBJECT(spec_mount, "\"dst=/x",
		     "error: parse error: extraneous or missing \" in "
		     "quoted-field");
	CHECK_OBJECT(spec_mount, "\"dst=/x,y\",RO=0",
		     "{\"Type\":\"volume\",\"Target\":\"/x,y\",\"ReadOnly\":false}");
}

static void test_publish(void **state)
{
	CHECK_PUBLISH("80", "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"\"}]}");
	CHECK_PUBLISH("8080:80/UDP", "{\"80/udp\":[{\"HostIp\":\"\",\"HostPort\":\"8080\"}]}");
	CHECK_PUBLISH("[::1]:8080:80", "{\"80/tcp\":[{\"HostIp\":\"::1\",\"HostPort\":\"8080\"}]}");
	CHECK_PUBLISH("127.0.0.1::80",
		      "{\"80/tcp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"\"}]}");
	CHECK_PUBLISH("8000-8001:80-81", "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8000\"}],"
					 "\"81/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8001\"}]}");
	CHECK_PUBLISH("8000-8010:80",
		      "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8000-8010\"}]}");
	CHECK_PUBLISH("99999:1", "error: invalid hostPort: 99999");
	CHECK_PUBLISH("1:x", "error: invalid containerPort: x");
	CHECK_PUBLISH("1:2-1", "error: invalid containerPort: 2-1");
	CHECK_PUBLISH("80/foo", "error: invalid proto: foo");
	CHECK_PUBLISH("300.0.0.1:1:2", "error: invalid IP address: 300.0.0.1");
	CHECK_PUBLISH("1-3:1-2",
		      "error: invalid ranges specified for container and host Ports: 1-2 "
		      "and 1-3");
	CHECK_PUBLISH("80:", "error: no port specified: 80:<empty>");
}

static void test_ulimit_device_restart(void **state)
{
	CHECK_OBJECT(spec_ulimit, "nofile=1:2", "{\"Name\":\"nofile\",\"Hard\":2,\"Soft\":1}");
	CHECK_OBJECT(spec_ulimit, "core=-1", "{\"Name\":\"core\",\"Hard\":-1,\"Soft\":-1}");
	CHECK_OBJECT(spec_ulimit, "nofile=3:2",
		     "error: ulimit soft limit must be less than or equal to hard limit: 3 > 2");
	CHECK_OBJECT(spec_ulimit, "nope=1", "error: invalid ulimit type: nope");
	CHECK_OBJECT(spec_ulimit, "nofile", "error: invalid ulimit argument: nofile");
	CHECK_OBJECT(spec_device, "/dev/x",
		     "{\"PathOnHost\":\"/dev/x\",\"PathInContainer\":\"/dev/x\","
		     "\"CgroupPermissions\":\"rwm\"}");
	CHECK_OBJECT(spec_device, "/dev/x:rw",
		     "{\"PathOnHost\":\"/dev/x\",\"PathInContainer\":\"/dev/x\","
		     "\"CgroupPermissions\":\"rw\"}");
	CHECK_OBJECT(spec_device, "/dev/x:/y:z", "error: bad mode specified: z");
	CHECK_OBJECT(spec_device, "a:b:c:d", "error: invalid device specification: a:b:c:d");
	assert_true(spec_is_cdi_device("vendor.com/gpu=0"));
	assert_false(spec_is_cdi_device("/dev/a=b"));
	CHECK_OBJECT(spec_restart, "on-failure:3",
		     "{\"Name\":\"on-failure\",\"MaximumRetryCount\":3}");
	CHECK_OBJECT(
		spec_restart, "on-failure:x",
		"error: invalid restart policy format: maximum retry count must be an integer");
	CHECK_OBJECT(spec_restart, ":3",
		     "error: invalid restart policy format: no policy provided before colon");
}

static void test_env_file(void **state)
{
	static const char text[] =
		"\xef\xbb\xbf# c\n  A=1 # kept \r\n\nB=\nKISTL_TEST_ENV\nNOT_SET_X\n";
	autostrv struct strv env = STRV_INIT, labels = STRV_INIT;

	setenv("KISTL_TEST_ENV", "yes", 1);
	assert_int_equal(spec_env_lines(text, strlen(text), true, &env, NULL), 0);
	assert_int_equal(env.n, 3);
	assert_string_equal(env.v[0], "A=1 # kept ");
	assert_string_equal(env.v[1], "B=");
	assert_string_equal(env.v[2], "KISTL_TEST_ENV=yes");
	assert_int_equal(spec_env_lines("x\n", 2, false, &labels, NULL), 0);
	assert_string_equal(labels.v[0], "x");
	assert_int_equal(spec_env_lines("=x", 2, true, &env, NULL), -1);
	assert_int_equal(spec_env_lines("a b=x", 5, true, &env, NULL), -1);
	assert_int_equal(spec_env_lines("a\0b", 3, true, &env, NULL), -1);
	unsetenv("KISTL_TEST_ENV");
}

static void test_checks(void **state)
{
	assert_int_equal(spec_check_extra_host("h:1.2.3.4", NULL), 0);
	assert_int_equal(spec_check_extra_host("h:::1", NULL), 0);
	assert_int_equal(spec_check_extra_host("h=[::1]", NULL), 0);
	assert_int_equal(spec_check_extra_host("h:host-gateway", NULL), 0);
	assert_int_equal(spec_check_extra_host("h", NULL), -1);
	assert_int_equal(spec_check_extra_host("h:x", NULL), -1);
	assert_int_equal(spec_check_sysctl("net.core.somaxconn=1", NULL), 0);
	assert_int_equal(spec_check_sysctl("kernel.shmmax=1", NULL), 0);
	assert_int_equal(spec_check_sysctl("kernel.panic=1", NULL), -1);
	assert_int_equal(spec_check_sysctl("net.x", NULL), -1);
	assert_int_equal(spec_check_attach("STDIN", NULL), 0);
	assert_int_equal(spec_check_attach("x", NULL), -1);
	assert_int_equal(spec_check_label("=x", NULL), -1);
}

static void check_json(struct json *(*parse)(const char *s, struct error *err), const char *s,
		       const char *want)
{
	autojson struct json *j = parse(s, NULL);
	autofree char *text = j ? json_format(j, /* pretty= */ false) : NULL;

	if (want)
		assert_string_equal(text, want);
	else
		assert_null(j);
}

static void test_block_devices(void **state)
{
	check_json(spec_weight_device, "/dev/sda:20", "{\"Path\":\"/dev/sda\",\"Weight\":20}");
	check_json(spec_weight_device, "/dev/sda:0", "{\"Path\":\"/dev/sda\",\"Weight\":0}");
	check_json(spec_rate_device, "/dev/sda:1mb", "{\"Path\":\"/dev/sda\",\"Rate\":1048576}");
	check_json(spec_iops_device, "/dev/sda:9", "{\"Path\":\"/dev/sda\",\"Rate\":9}");
	check_json(spec_weight_device, "/dev/sda:5", NULL);
	check_json(spec_weight_device, "/dev/sda:1001", NULL);
	check_json(spec_weight_device, "/sda:20", NULL);
	check_json(spec_rate_device, "/dev/sda", NULL);
	check_json(spec_rate_device, "/dev/sda:", NULL);
	check_json(spec_rate_device, "/dev/sda:-1", NULL);
	check_json(spec_rate_device, "/dev/sda:1:2", NULL);
	check_json(spec_iops_device, "/dev/sda:1mb", NULL);
}

static void test_gpus(void **state)
{
	check_json(spec_gpus, "all", "{\"Capabilities\":[[\"gpu\"]],\"Options\":{},\"Count\":-1}");
	check_json(spec_gpus, "2", "{\"Capabilities\":[[\"gpu\"]],\"Options\":{},\"Count\":2}");
	check_json(spec_gpus, "driver=x,\"device=0,1\",\"capabilities=gpu,utility\"",
		   "{\"Capabilities\":[[\"gpu\",\"utility\"]],\"Options\":{},\"Driver\":\"x\","
		   "\"DeviceIDs\":[\"0\",\"1\"]}");
	check_json(spec_gpus, "driver=x,\"options=a=1,b\"",
		   "{\"Capabilities\":[[\"gpu\"]],\"Options\":{\"a\":\"1\",\"b\":\"\"},"
		   "\"Driver\":\"x\",\"Count\":1}");
	check_json(spec_gpus, "some", NULL);
	check_json(spec_gpus, "-2", NULL);
	check_json(spec_gpus, "x=y", NULL);
}

static void test_security_opts(void **state)
{
	autojson struct json *opts = json_new_array();
	bool unmasked = false;

	assert_int_equal(spec_security_opt("no-new-privileges", opts, &unmasked, NULL), 0);
	assert_int_equal(spec_security_opt("seccomp=unconfined", opts, &unmasked, NULL), 0);
	assert_int_equal(spec_security_opt("apparmor:x", opts, &unmasked, NULL), 0);
	assert_false(unmasked);
	assert_int_equal(spec_security_opt("systempaths=unconfined", opts, &unmasked, NULL), 0);
	assert_true(unmasked);
	assert_int_equal(json_array_len(opts), 3);
	assert_int_equal(spec_security_opt("foo", opts, &unmasked, NULL), -1);
	assert_int_equal(spec_security_opt("seccomp=/nope", opts, &unmasked, NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_volume),	      cmocka_unit_test(test_mount),
		cmocka_unit_test(test_publish),	      cmocka_unit_test(test_ulimit_device_restart),
		cmocka_unit_test(test_env_file),      cmocka_unit_test(test_checks),
		cmocka_unit_test(test_security_opts), cmocka_unit_test(test_block_devices),
		cmocka_unit_test(test_gpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
