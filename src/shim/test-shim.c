/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the shim that are plain functions of bytes. */
#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "shim/cgroup.h"
#include "shim/command.h"
#include "shim/detach.h"
#include "shim/io-uri.h"
#include "shim/mountns.h"
#include "shim/runtime.h"
#include "shim/sha256.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Lines */

static void put_json(const struct log_line *line, void *arg)
{
	log_format_json(arg, line, "stdout", NULL);
}

static void expect_json(const char *in, size_t n, size_t step, const char *expected)
{
	autobuf struct buf out = BUF_INIT(1 << 20);
	struct log_cutter c = { 0 };

	for (size_t i = 0; i < n; i += step)
		log_cutter_feed(&c, in + i, MIN(step, n - i), 0, put_json, &out);
	log_cutter_end(&c, put_json, &out);
	assert_string_equal(out.data, expected);
}

#define T "\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}\n"

static void test_json_lines(void **state UNUSED)
{
	static const char two[] = "a\n\nb";

	for (size_t step = 1; step < 5; step++)
		expect_json(two, 4, step,
			    "{\"log\":\"a\\n\"," T "{\"log\":\"\\n\"," T "{\"log\":\"b\"," T);
	expect_json("", 0, 1, "");
}

static void test_json_escapes(void **state UNUSED)
{
	static const char in[] =
		"\"\\/\t\r\x01\x7f<&>\xc3\xa9\xff\xe2\x80\xa8\xed\xa0\x80\xf0\x9f\x98\x80\n";

	expect_json(in, sizeof(in) - 1, 100,
		    "{\"log\":\"\\\"\\\\/\\u0009\\r\\u0001\x7f\\u003c\\u0026\\u003e\xc3\xa9\\ufffd"
		    "\\u2028\\ufffd\\ufffd\\ufffd\xf0\x9f\x98\x80\\n\"," T);
}

struct pieces {
	size_t lens[8];
	bool complete[8];
	int64_t times[8];
	size_t n;
};

static void note_piece(const struct log_line *line, void *arg)
{
	struct pieces *p = arg;

	p->lens[p->n] = line->len;
	p->complete[p->n] = line->complete;
	p->times[p->n++] = line->time;
}

static void test_long_lines_are_cut(void **state UNUSED)
{
	autofree char *in = xmalloc(2 * LOG_LINE_MAX + 11);
	struct log_cutter c = { 0 };
	struct pieces p = { 0 };

	memset(in, 'x', 2 * LOG_LINE_MAX + 10);
	in[2 * LOG_LINE_MAX + 10] = '\n';
	log_cutter_feed(&c, in, 100, 1, note_piece, &p);
	log_cutter_feed(&c, in + 100, 2 * LOG_LINE_MAX + 11 - 100, 2, note_piece, &p);
	assert_int_equal(p.n, 3);
	assert_int_equal(p.lens[0], LOG_LINE_MAX);
	assert_int_equal(p.lens[1], LOG_LINE_MAX);
	assert_int_equal(p.lens[2], 10);
	assert_false(p.complete[0] || p.complete[1]);
	assert_true(p.complete[2]);
	assert_int_equal(p.times[2], 1);
	/* Exactly full: the newline is a piece of its own. */
	p.n = 0;
	log_cutter_feed(&c, in, LOG_LINE_MAX, 3, note_piece, &p);
	log_cutter_feed(&c, "\n", 1, 4, note_piece, &p);
	assert_int_equal(p.n, 2);
	assert_int_equal(p.lens[1], 0);
	assert_true(p.complete[1]);
	assert_null(c.pending);
}

static void test_line_limit(void **state UNUSED)
{
	struct pieces p = { 0 };
	struct log_cutter c = { .max = 10 };

	log_cutter_feed(&c, "123456789012345", 15, 1, note_piece, &p);
	log_cutter_feed(&c, "6\n", 2, 2, note_piece, &p);
	assert_int_equal(p.n, 2);
	assert_int_equal(p.lens[0], 10);
	assert_false(p.complete[0]);
	assert_int_equal(p.lens[1], 6);
	assert_true(p.complete[1]);
	autofree char *in = xmalloc(LOG_LINE_CEILING);
	memset(in, 'x', LOG_LINE_CEILING);
	p.n = 0;
	c.max = SIZE_MAX;
	log_cutter_feed(&c, in, LOG_LINE_CEILING - 1, 1, note_piece, &p);
	assert_int_equal(p.n, 0);
	log_cutter_feed(&c, in, 2, 1, note_piece, &p);
	assert_int_equal(p.n, 1);
	assert_int_equal(p.lens[0], LOG_LINE_CEILING);
	log_cutter_done(&c);
}

static void test_cri_lines(void **state UNUSED)
{
	autobuf struct buf out = BUF_INIT(1024);
	const struct log_line line = { "hi", 2, true, 1500000000 }, piece = { "p\r", 2, false, 0 };
	const struct log_line tty = { "\r\r", 2, true, 0 }, empty = { "", 0, true, 0 };

	log_format_cri(&out, &line, "stderr");
	log_format_cri(&out, &piece, "stdout");
	log_format_cri(&out, &tty, "stdout");
	log_format_cri(&out, &empty, "stdout");
	assert_string_equal(out.data, "1970-01-01T00:00:01.500000000Z stderr F hi\n"
				      "1970-01-01T00:00:00.000000000Z stdout P p\r\n"
				      "1970-01-01T00:00:00.000000000Z stdout F \r\n"
				      "1970-01-01T00:00:00.000000000Z stdout F \n");
}

static void read_text(const char *dir, const char *name, struct buf *out)
{
	autofree char *path = path_join(dir, name, NULL);

	buf_clear(out);
	assert_int_equal(fs_read(AT_FDCWD, path, out), 0);
}

static void test_rotation(void **state UNUSED)
{
	char dir[] = "/tmp/kistl-test-XXXXXX";
	autobuf struct buf text = BUF_INIT(4096);
	struct logfile *l = NULL;

	assert_non_null(mkdtemp(dir));
	autofree char *path = path_join(dir, "sub", "log", NULL);
	autofree char *sub = path_join(dir, "sub", NULL);
	const struct log_options o = {
		.driver = LOG_DRIVER_JSON_FILE,
		.path = path,
		.max_size = 100,
		.max_files = 2,
	};
	assert_int_equal(logfile_open(&o, &l, NULL), 0);
	/* Two lines of 64 bytes reach the limit; the next one finds it reached. */
	logfile_write(l, LOG_STDOUT, "1\n2\n3\n4\n5\n", 10, 0);
	logfile_write(l, LOG_STDERR, "tail", 4, 0);
	logfile_end(l, LOG_STDERR);
	logfile_free(l);
	read_text(sub, "log", &text);
	assert_non_null(strstr(text.data, "\"5\\n\""));
	assert_non_null(strstr(text.data, "{\"log\":\"tail\",\"stream\":\"stderr\""));
	read_text(sub, "log.1", &text);
	assert_non_null(strstr(text.data, "\"3\\n\""));
	autofree char *two = path_join(sub, "log.2", NULL);
	assert_int_equal(access(two, F_OK), -1);
	fs_remove_tree(AT_FDCWD, dir);
}

/* Detach keys */

static void expect_detach(const char *keys, const char *in, const char *out, bool found)
{
	for (size_t step = 1; step <= strlen(in); step++) {
		struct detach_matcher m = { .n_keys = strlen(keys) };
		autobuf struct buf passed = BUF_INIT(256);
		bool got = false;

		memcpy(m.keys, keys, m.n_keys);
		for (size_t i = 0; i < strlen(in) && !got; i += step)
			got = detach_feed(&m, (const uint8_t *)in + i, MIN(step, strlen(in) - i),
					  &passed);
		assert_int_equal(got, found);
		assert_string_equal(passed.data, out);
	}
}

static void test_detach_keys(void **state UNUSED)
{
	expect_detach("pq", "abc", "abc", false);
	expect_detach("pq", "xpqy", "x", true);
	expect_detach("pq", "xpay", "xpay", false);
	expect_detach("pq", "ppq", "p", true);
	expect_detach("aab", "aaab", "a", true);
	expect_detach("abac", "ababac", "ab", true);
	expect_detach("pq", "p", "", false); /* held back */
	expect_detach("", "pq", "pq", false);
}

/* URIs */

static void expect_uri(const char *text, enum error_code code)
{
	autoerror struct error err = ERROR_INIT;
	CLEANUP(io_uri_done) struct io_uri u = { 0 };

	assert_int_equal(io_uri_parse(text, &u, &err), code == ERROR_OK ? 0 : -1);
	assert_int_equal(err.code, code);
}

static void test_uris(void **state UNUSED)
{
	CLEANUP(io_uri_done) struct io_uri u = { 0 };

	assert_int_equal(io_uri_parse("kistl-log:///var/lib/a%20b?driver=json-file&max-size=10m"
				      "&max-file=3&stdin=once",
				      &u, NULL),
			 0);
	assert_int_equal(u.kind, IO_KISTL);
	assert_string_equal(u.log.path, "/var/lib/a b");
	assert_int_equal(u.log.driver, LOG_DRIVER_JSON_FILE);
	assert_int_equal(u.log.max_size, 10 << 20);
	assert_int_equal(u.log.max_files, 3);
	assert_int_equal(u.in, IO_STDIN_ONCE);
	io_uri_done(&u);
	assert_int_equal(io_uri_parse("binary:///bin/x?a=b+c&d", &u, NULL), 0);
	assert_string_equal(kvs_get(&u.query, "a"), "b c");
	assert_string_equal(kvs_get(&u.query, "d"), "");

	expect_uri(NULL, ERROR_OK);
	expect_uri("/run/fifo", ERROR_OK);
	expect_uri("kistl-log:///?driver=none", ERROR_OK);
	expect_uri("kistl-log:///?driver=json-file", ERROR_INVALID_ARGUMENT);
	expect_uri("kistl-log:///x?driver=syslog", ERROR_INVALID_ARGUMENT);
	expect_uri("kistl-log:///x?max-file=0", ERROR_INVALID_ARGUMENT);
	expect_uri("kistl-log:///x?max-size=lots", ERROR_INVALID_ARGUMENT);
	expect_uri("file:///x%0", ERROR_INVALID_ARGUMENT);
	expect_uri("file:///x%00y", ERROR_INVALID_ARGUMENT);
	expect_uri("file://x", ERROR_INVALID_ARGUMENT);
	expect_uri("relative", ERROR_INVALID_ARGUMENT);
	expect_uri("ttrpc+unix:///x", ERROR_UNIMPLEMENTED);
}

/* Attach requests */

static void test_attach_requests(void **state UNUSED)
{
	autobuf struct buf line = BUF_INIT(CONTROL_MAX);
	autoerror struct error err = ERROR_INIT;
	char id[] = "abc", exec[] = "e1";
	const struct attach_request r = {
		.id = id,
		.exec_id = exec,
		.want_in = true,
		.want_err = true,
		.detach_keys = { 16, 17 },
		.n_detach_keys = 2,
	};
	CLEANUP(attach_request_done) struct attach_request got = { 0 };
	size_t verb = strlen(ATTACH_VERB);

	assert_int_equal(attach_request_format(&r, &line, NULL), 0);
	assert_memory_equal(line.data, ATTACH_VERB, verb);
	assert_int_equal(line.data[line.len - 1], '\n');
	assert_int_equal(attach_request_parse(line.data + verb, line.len - verb, &got, NULL), 0);
	assert_string_equal(got.id, "abc");
	assert_string_equal(got.exec_id, "e1");
	assert_true(got.want_in && !got.want_out && got.want_err && !got.mux);
	assert_int_equal(got.n_detach_keys, 2);
	assert_int_equal(got.detach_keys[1], 17);

	static const char *const bad[] = { "",
					   "{}",
					   "[1]",
					   "{\"id\":\"\"}",
					   "{\"id\":\"x\",\"detach_keys\":\"1\"}",
					   "{\"id\":\"x\",\"detach_keys\":\"zz\"}",
					   "{\"id\":\"x\"" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(attach_request_parse(bad[i], strlen(bad[i]), &got, &err), -1);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
	}
}

/* Command line */

static int parse(struct command *c, const char *words, struct error *err)
{
	static struct strv kept;

	strv_done(&kept);
	strv_split(&kept, words, " ");
	return command_parse(c, (int)kept.n, kept.v, err);
}

static void test_command_line(void **state UNUSED)
{
	struct command c;

	assert_int_equal(
		parse(&c, "shim -namespace k8s.io --id abc -address=/run/x -debug start", NULL), 0);
	assert_string_equal(c.ns, "k8s.io");
	assert_string_equal(c.id, "abc");
	assert_string_equal(c.address, "/run/x");
	assert_string_equal(c.action, "start");
	assert_true(c.debug);
	assert_int_equal(parse(&c, "shim -v", NULL), 0);
	assert_true(c.version);
	static const char *const bad[] = { "shim start",
					   "shim -namespace n start",
					   "shim -namespace n -id .. start",
					   "shim -namespace n -id a/b start",
					   "shim -namespace n -id a start stop",
					   "shim -what",
					   "shim -id" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse(&c, bad[i], NULL), -1);
	parse(&c, "shim -v", NULL);
}

static void test_socket_path(void **state UNUSED)
{
	autofree char *path = shim_socket_path("unix:///run/kistl/kistl.sock", "n", "i");
	char hex[65];

	assert_true(str_has_prefix(path, "/run/kistl/s/"));
	assert_int_equal(strlen(path), strlen("/run/kistl/s/") + 64);
	sha256_hex("abc", 3, hex);
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_hex("", 0, hex);
	assert_string_equal(hex,
			    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
	assert_string_equal(hex,
			    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* Files of the kernel and of runtimes */

static void expect_path(const char *membership, const char *mountinfo, const char *controller,
			const char *expected)
{
	autofree char *path = cgroup_path(membership, mountinfo, controller);

	if (expected)
		assert_string_equal(path, expected);
	else
		assert_null(path);
}

static void test_cgroup_paths(void **state UNUSED)
{
	static const char v1[] = "4:memory:/kistl/a\n3:cpu,cpuacct:/kistl/b\n0::/\n";
	static const char m1[] =
		"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
		"36 31 0:33 /kistl /mnt/cpu rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n";
	static const char m2[] = "31 23 0:28 / /sys/fs/cgroup rw shared:1 - cgroup2 cgroup2 rw\n";

	expect_path(v1, m1, "memory", "/sys/fs/cgroup/memory/kistl/a");
	expect_path(v1, m1, "cpuacct", "/mnt/cpu/b");
	expect_path(v1, m1, "pids", NULL);
	expect_path(v1, m1, "", NULL);
	expect_path("0::/x.slice/y\n", m2, "", "/sys/fs/cgroup/x.slice/y");
	expect_path("", m2, "", NULL);
	assert_int_equal(cgroup_flat_value("oom 1\noom_kill 7\n", "oom_kill"), 7);
	assert_int_equal(cgroup_flat_value("oom 1\n", "oom_kill"), 0);
	assert_int_equal(cgroup_flat_value("oom_kill x\n", "oom_kill"), 0);
}

static void test_shared_mounts(void **state UNUSED)
{
	static const char text[] = "27 1 254:0 / / rw - ext4 /dev/vda rw\n"
				   "28 27 0:1 / /run/a\\040b rw shared:5 master:1 - tmpfs t rw\n";
	autofree char *point = NULL;

	assert_false(mountinfo_is_shared(text, 27, &point));
	assert_false(mountinfo_is_shared(text, 99, &point));
	assert_true(mountinfo_is_shared(text, 28, &point));
	assert_string_equal(point, "/run/a b");
}

static void test_runtime_messages(void **state UNUSED)
{
	static const char log[] = "{\"msg\":\"first\",\"level\":\"error\"}\nnot json\n"
				  "{\"msg\":\"no such file\",\"level\":\"error\"}\n"
				  "{\"msg\":\"beware\",\"level\":\"warning\"}\n";
	autofree char *msg = runtime_log_message(log, sizeof(log) - 1);

	assert_string_equal(msg, "no such file");
	assert_null(runtime_log_message("", 0));
	assert_null(runtime_log_message("{\"level\":\"error\"}", 17));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_lines),	   cmocka_unit_test(test_json_escapes),
		cmocka_unit_test(test_long_lines_are_cut), cmocka_unit_test(test_cri_lines),
		cmocka_unit_test(test_line_limit),	   cmocka_unit_test(test_rotation),
		cmocka_unit_test(test_detach_keys),	   cmocka_unit_test(test_uris),
		cmocka_unit_test(test_attach_requests),	   cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_socket_path),	   cmocka_unit_test(test_cgroup_paths),
		cmocka_unit_test(test_shared_mounts),	   cmocka_unit_test(test_runtime_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
