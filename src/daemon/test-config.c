/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/listener.h"
#include "daemon/options.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int parse(struct config *c, const char *text, struct error *err)
{
	return config_parse(c, text, strlen(text), err);
}

static void test_containerd_v2(void **state)
{
	autoconfig struct config c = { 0 };

	assert_int_equal(
		parse(&c,
		      "version = 2\nroot = '/r'\nstate = '/s'\noom_score = -999\n"
		      "[grpc]\naddress = '/s/x.sock'\nuid = 0\n[debug]\nlevel = 'debug'\n"
		      "[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'pause'\n"
		      "enable_selinux = true\n"
		      "max_concurrent_downloads = 7\n"
		      "[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/a:/b'\n"
		      "[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n"
		      "default_runtime_name = 'my'\n"
		      "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.my]\n"
		      "runtime_type = 'io.containerd.runc.v2'\n"
		      "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.my.options]\n"
		      "BinaryName = '/opt/my'\nSystemdCgroup = true\nIoUid = 3\n",
		      NULL),
		0);
	assert_string_equal(c.root, "/r");
	assert_string_equal(c.state, "/s");
	assert_string_equal(c.socket, "/s/x.sock");
	assert_string_equal(c.log_level, "debug");
	assert_int_equal(c.max_downloads, 7);
	assert_int_equal(c.hosts_dirs.n, 2);
	assert_string_equal(c.hosts_dirs.v[1], "/b");
	assert_string_equal(c.snapshotter, "native");
	assert_string_equal(c.default_runtime, "my");
	assert_string_equal(config_runtime_path(&c, "my"), "/opt/my");
	assert_null(config_runtime_path(&c, "other"));
	autofree char *unknown = strv_join(&c.unknown, " ");
	assert_string_equal(
		unknown,
		"oom_score grpc.uid plugins.\"io.containerd.grpc.v1.cri\".enable_selinux "
		"plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.my.options.IoUid");
	assert_true(config_runtime(&c, "my")->systemd_cgroup);
	assert_string_equal(config_runtime(&c, "my")->type, "io.containerd.runc.v2");
}

static void test_containerd_v3(void **state)
{
	autoconfig struct config c = { 0 };

	assert_int_equal(parse(&c,
			       "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n"
			       "config_path = '/etc/certs.d'\n"
			       "[plugins.'io.containerd.cri.v1.runtime'.containerd]\n"
			       "default_runtime_name = 'runc'\n",
			       NULL),
			 0);
	assert_string_equal(c.hosts_dirs.v[0], "/etc/certs.d");
	assert_string_equal(c.default_runtime, "runc");
	assert_int_equal(c.unknown.n, 0);
}

static void check_cri(const struct config *c)
{
	const struct config_runtime *r = config_runtime(c, "kata");

	assert_int_equal(c->unknown.n, 0);
	assert_string_equal(kvs_get(&c->cri.pinned_images, "sandbox"), "pause:3");
	assert_true(c->cri.pull_timeout == INT64_MAX);
	assert_string_equal(c->cri.cni_conf_dir, "/cni");
	assert_string_equal(c->cri.cni_bin_dirs.v[0], "/bin/cni");
	assert_int_equal(c->cri.max_log_line, -1);
	assert_true(c->cri.disable_cdi);
	assert_string_equal(c->cri.cdi_spec_dirs.v[0], "/cdi");
	assert_string_equal(c->cri.stream_port, "10010");
	assert_true(c->cri.stream_tls);
	assert_string_equal(c->cri.stream_cert, "/cert");
	assert_non_null(r);
	assert_true(r->privileged_without_host_devices);
	assert_string_equal(r->pod_annotations.v[0], "a.*");
	assert_string_equal(r->cni_conf_dir, "/kata");
}

/* The same in both versions' places. */
static void test_cri_keys(void **state)
{
	static const char images[] = "image_pull_progress_timeout = '0s'\n"
				     "disable_snapshot_annotations = true\n";
	static const char pinned[] = "sandbox = 'pause:3'\n";
	static const char runtime[] =
		"max_container_log_line_size = -1\nenable_cdi = false\ncdi_spec_dirs = ['/cdi']\n";
	static const char stream[] =
		"stream_server_port = '10010'\nenable_tls_streaming = true\n"
		"x509_key_pair_streaming = { tls_cert_file = '/cert', tls_key_file = '/key' }\n";
	static const char handler[] = "runtime_type = 'io.containerd.kata.v2'\n"
				      "privileged_without_host_devices = true\n"
				      "pod_annotations = ['a.*']\ncni_conf_dir = '/kata'\n";
	autoconfig struct config v2 = { 0 }, v3 = { 0 };
	autofree char *text2 =
		xasprintf("version = 2\n[plugins.'io.containerd.grpc.v1.cri']\n%s%s%s"
			  "[plugins.'io.containerd.grpc.v1.cri'.pinned_images]\n%s"
			  "[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/bin/cni'\n"
			  "conf_dir = '/cni'\n"
			  "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.kata]\n%s",
			  images, runtime, stream, pinned, handler);
	autofree char *text3 =
		xasprintf("version = 3\n[plugins.'io.containerd.cri.v1.images']\n%s"
			  "[plugins.'io.containerd.cri.v1.images'.pinned_images]\n%s"
			  "[plugins.'io.containerd.cri.v1.runtime']\n%s"
			  "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/bin/cni']\n"
			  "conf_dir = '/cni'\n"
			  "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\n%s"
			  "[plugins.'io.containerd.grpc.v1.cri']\n%s",
			  images, pinned, runtime, handler, stream);

	assert_int_equal(parse(&v2, text2, NULL), 0);
	check_cri(&v2);
	assert_int_equal(parse(&v3, text3, NULL), 0);
	check_cri(&v3);
}

/* A runtime by its type alone: the program that containerd's shim would run. */
static void test_runtime_type(void **state)
{
	autoconfig struct config c = { 0 };

	assert_int_equal(
		parse(&c,
		      "root = '/r'\nstate = '/s'\n"
		      "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes]\n"
		      "a.runtime_type = 'io.containerd.nosuch.v2'\nb.runtime_type = 'odd'\n",
		      NULL),
		0);
	assert_int_equal(config_defaults(&c, NULL), 0);
	assert_string_equal(config_runtime_path(&c, "a"), "nosuch");
	assert_string_equal(config_runtime_path(&c, "b"), "b");
}

static void test_our_table(void **state)
{
	autoconfig struct config c = { 0 };

	assert_int_equal(
		parse(&c,
		      "[kistl]\ngroup = 'staff'\ndefault-runtime = 'b'\n"
		      "hosts-dirs = ['/x', '/y']\ninsecure-registries = ['localhost:5000']\n"
		      "log-driver = 'local'\ndns = ['1.1.1.1']\nmax-downloads = 5\n"
		      "pull-progress-timeout = '1m30s'\nidle-exit = 30\n[kistl.log-opts]\nmax-size "
		      "= '10m'\n"
		      "[kistl.runtimes]\na.path = '/a'\nb.path = '/b'\n",
		      NULL),
		0);
	assert_string_equal(c.group, "staff");
	assert_int_equal(c.hosts_dirs.n, 2);
	assert_string_equal(c.insecure_registries.v[0], "localhost:5000");
	assert_string_equal(c.log_driver, "local");
	assert_string_equal(kvs_get(&c.log_options, "max-size"), "10m");
	assert_string_equal(c.dns.v[0], "1.1.1.1");
	assert_int_equal(c.max_downloads, 5);
	assert_int_equal(c.idle_exit, 30);
	assert_int_equal(c.stall_timeout, 90 * NSEC_PER_SEC);
	assert_int_equal(c.runtimes.n, 2);
	assert_string_equal(config_runtime_path(&c, "b"), "/b");
}

static void test_bad_types(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "root = 3", "'root' must be a string" },
		{ "grpc = 3", "'grpc' must be a table" },
		{ "[grpc]\naddress = true", "'grpc.address' must be a string" },
		{ "version = 1", "'version' must be 2 or 3" },
		{ "version = '2'", "'version' must be 2 or 3" },
		{ "[kistl]\npull-progress-timeout = 'soon'",
		  "'kistl.pull-progress-timeout' must be a duration, such as \"1m30s\"" },
		{ "[kistl]\npull-progress-timeout = '-1s'",
		  "'kistl.pull-progress-timeout' must be a duration, such as \"1m30s\"" },
		{ "[kistl]\nmax-downloads = -1",
		  "'kistl.max-downloads' must be a non-negative integer" },
		{ "[kistl]\ndns = 'x'", "'kistl.dns' must be an array of strings" },
		{ "[kistl]\ndns = ['x', 1]", "'kistl.dns' must be an array of strings" },
		{ "[kistl]\nlog-opts = {a = 1}", "'kistl.log-opts' must be a table of strings" },
		{ "[kistl.runtimes.x]\npath = 1", "'kistl.runtimes.x.path' must be a string" },
		{ "[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = []",
		  "'plugins.\"io.containerd.grpc.v1.cri\".registry.config_path' must be a string" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoconfig struct config c = { 0 };
		autoerror struct error err = ERROR_INIT;

		assert_int_equal(parse(&c, cases[i].text, &err), -1);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
		assert_string_equal(error_msg(&err), cases[i].message);
	}
}

static void test_load(void **state)
{
	autoconfig struct config c = { 0 };
	autoerror struct error err = ERROR_INIT;
	char dir[] = "/tmp/kistl-test-XXXXXX";

	assert_non_null(mkdtemp(dir));
	autofree char *path = path_join(dir, "c.toml", NULL);
	assert_int_equal(config_load(&c, path, &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
	assert_int_equal(fs_write_atomic(AT_FDCWD, path, "root = [", 8, 0600, false), 0);
	assert_int_equal(config_load(&c, path, &err), -1);
	assert_true(str_has_prefix(error_msg(&err), path));
	unlink(path);
	rmdir(dir);
}

static void test_options_over_file(void **state)
{
	const char *argv[] = { "kistld",      "--root=/flag", "--idle-exit", "0",
			       "--log-level", "warn",	      NULL };
	autooptions struct options o = OPTIONS_INIT;
	autoconfig struct config c = { 0 };

	assert_int_equal(options_parse(6, argv, &o, NULL), 0);
	assert_int_equal(
		parse(&c, "root='/f'\nstate='st'\n[kistl]\nidle-exit=9\nshim='/s'\n", NULL), 0);
	options_apply(&o, &c);
	assert_string_equal(c.root, "/flag");
	assert_string_equal(c.state, "st");
	assert_int_equal(c.idle_exit, 0);
	assert_string_equal(c.log_level, "warn");
	assert_int_equal(config_defaults(&c, NULL), 0);
	assert_true(c.state[0] == '/' && str_has_suffix(c.socket, "/st/kistl.sock"));
	assert_string_equal(c.shim, "/s");
	assert_true(c.hosts_dirs.n >= 3);
}

static void test_bad_options(void **state)
{
	static const struct {
		const char *argv[4];
		const char *message;
	} cases[] = {
		{ { "kistld", "--nope" }, "unknown option '--nope'" },
		{ { "kistld", "--roo=x" }, "unknown option '--roo=x'" },
		{ { "kistld", "-x" }, "unknown option '-x'" },
		{ { "kistld", "run" }, "unexpected argument 'run'" },
		{ { "kistld", "--root" }, "'--root' needs a value" },
		{ { "kistld", "--root=" }, "empty value for '--root'" },
		{ { "kistld", "--help=x" }, "'--help' takes no value" },
		{ { "kistld", "--idle-exit", "1s" }, "bad value '1s' for '--idle-exit'" },
		{ { "kistld", "--idle-exit", "-1" }, "bad value '-1' for '--idle-exit'" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autooptions struct options o = OPTIONS_INIT;
		autoerror struct error err = ERROR_INIT;
		int argc = 0;

		while (cases[i].argv[argc])
			argc++;
		assert_int_equal(options_parse(argc, cases[i].argv, &o, &err), -1);
		assert_string_equal(error_msg(&err), cases[i].message);
	}
}

static void test_unknown_default_runtime(void **state)
{
	autoconfig struct config c = { 0 };
	autoerror struct error err = ERROR_INIT;

	assert_int_equal(parse(&c, "root='/r'\nstate='/s'\n[kistl]\ndefault-runtime='nope'", NULL),
			 0);
	assert_int_equal(config_defaults(&c, &err), -1);
	assert_string_equal(error_msg(&err), "unknown default runtime 'nope'");
}

static void test_protocols(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		enum protocol protocol;
	} cases[] = {
		{ "", 0, PROTOCOL_UNKNOWN },	  { "\0\0\0\1", 4, PROTOCOL_TTRPC },
		{ "P", 1, PROTOCOL_UNKNOWN },	  { "PRI", 3, PROTOCOL_UNKNOWN },
		{ "PRI ", 4, PROTOCOL_GRPC },	  { "PO", 2, PROTOCOL_HTTP },
		{ "PRIX", 4, PROTOCOL_HTTP },	  { "G", 1, PROTOCOL_HTTP },
		{ "\x16\x03", 2, PROTOCOL_HTTP },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(protocol_guess(cases[i].bytes, cases[i].n), cases[i].protocol);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_containerd_v2),
		cmocka_unit_test(test_containerd_v3),
		cmocka_unit_test(test_cri_keys),
		cmocka_unit_test(test_runtime_type),
		cmocka_unit_test(test_our_table),
		cmocka_unit_test(test_bad_types),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_options_over_file),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_unknown_default_runtime),
		cmocka_unit_test(test_protocols),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
