/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "engine/jsonlog.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char dir[] = "/tmp/test-jsonlog-XXXXXX";
static char *path;

static void append_raw(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

/* A line at second n of the epoch; odd ones are stderr's. */
static void append(const char *file, int n)
{
	autofree char *line = xasprintf(
		"{\"log\":\"%d\\n\",\"stream\":\"%s\",\"time\":\"1970-01-01T00:00:%02dZ\"}\n", n,
		n % 2 ? "stderr" : "stdout", n);

	append_raw(file, line);
}

static int setup(void **state UNUSED)
{
	memset(dir + sizeof(dir) - 7, 'X', 6);
	assert_non_null(mkdtemp(dir));
	path = path_join(dir, "x-json.log", NULL);
	return 0;
}

/* What is to be read now, the newlines as spaces. */
static char *rest(struct jsonlog *l)
{
	struct buf b = BUF_INIT(1 << 20);
	struct log_line line;
	struct error err = ERROR_INIT;
	int r;

	while ((r = jsonlog_next(l, &line, &err)) == 1) {
		buf_append(&b, line.data, line.len - 1);
		buf_putc(&b, ' ');
	}
	assert_int_equal(r, 0);
	return buf_steal(&b, NULL);
}

static struct jsonlog *open_log(struct log_options o)
{
	struct error err = ERROR_INIT;
	struct jsonlog *l = NULL;

	assert_int_equal(jsonlog_open(path, &o, &l, &err), 0);
	return l;
}

#define ALL .out = true, .errs = true

static void assert_reads(struct log_options o, const char *want)
{
	CLEANUP(jsonlog_closep) struct jsonlog *l = open_log(o);
	autofree char *got = rest(l);

	assert_string_equal(got, want);
}

static void rotate(void)
{
	for (int k = 8; k >= 0; k--) {
		autofree char *from = k ? xasprintf("%s.%d", path, k) : xstrdup(path);
		autofree char *to = xasprintf("%s.%d", path, k + 1);

		rename(from, to);
	}
}

static void test_parse(void **state UNUSED)
{
	static const char line[] = "{\"log\":\"a\\u0000\\\"\\u00e4\\ud83d\\ude00\\ud83dx\\t\","
				   "\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:01.5Z\"}";
	static const char want[] = "a\0\"\xc3\xa4\xf0\x9f\x98\x80\xef\xbf\xbdx\t";
	autobuf struct buf text = BUF_INIT(1000);
	struct log_line l;

	assert_int_equal(jsonlog_parse(line, sizeof(line) - 1, &text, &l), 0);
	assert_true(l.is_stderr);
	assert_int_equal(l.time, 1500000000);
	assert_int_equal(l.len, sizeof(want) - 1);
	assert_memory_equal(l.data, want, l.len);
}

static void test_parse_refused(void **state UNUSED)
{
	static const char *const bad[] = {
		"",
		"{}",
		"null",
		"{\"log\":\"x\"}",
		"{\"log\":\"x\",\"time\":\"yesterday\"}",
		"{\"log\":\"x\\q\",\"time\":\"1970-01-01T00:00:01Z\"}",
		"{\"log\":\"x\\u12\",\"time\":\"1970-01-01T00:00:01Z\"}",
		"{\"log\":\"x,\"time\":\"1970-01-01T00:00:01Z\"}",
		"{\"log\":\"x\",\"time\":\"1970-01-01T00:00:01Z\"",
		"{\"log\":\"x\",\"time\":\"1970-01-01T00:00:01Z\"}x",
		"{\"log\":{},\"time\":\"1970-01-01T00:00:01Z\"}",
	};
	autobuf struct buf text = BUF_INIT(1000);
	struct log_line l;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(jsonlog_parse(bad[i], strlen(bad[i]), &text, &l), -EINVAL);
	/* Every way to be cut short. */
	static const char good[] = "{\"log\":\"x\\n\",\"time\":\"1970-01-01T00:00:01Z\"}";
	for (size_t n = 0; n < sizeof(good) - 1; n++)
		assert_int_equal(jsonlog_parse(good, n, &text, &l), -EINVAL);
}

static void test_filters(void **state UNUSED)
{
	for (int i = 1; i <= 6; i++)
		append(path, i);
	append_raw(path, "garbage\n");
	append(path, 7);
	assert_reads((struct log_options){ ALL, .tail = -1 }, "1 2 3 4 5 6 7 ");
	assert_reads((struct log_options){ .out = true, .tail = -1 }, "2 4 6 ");
	assert_reads((struct log_options){ .errs = true, .tail = -1 }, "1 3 5 7 ");
	assert_reads((struct log_options){ ALL, .tail = -1, .since = 5000000000 }, "5 6 7 ");
	assert_reads((struct log_options){ ALL, .tail = -1, .until = 2000000000 }, "1 2 ");
	assert_reads((struct log_options){ ALL, .tail = 3 }, "6 7 ");
	assert_reads((struct log_options){ ALL, .tail = 0 }, "");
	assert_reads((struct log_options){ ALL, .tail = 100 }, "1 2 3 4 5 6 7 ");
}

static void test_rotated(void **state UNUSED)
{
	for (int i = 1; i <= 9; i++) {
		append(path, i);
		if (i % 3 == 0)
			rotate();
	}
	append(path, 10);
	assert_reads((struct log_options){ ALL, .tail = -1 }, "1 2 3 4 5 6 7 8 9 10 ");
	assert_reads((struct log_options){ ALL, .tail = 1 }, "10 ");
	assert_reads((struct log_options){ ALL, .tail = 2 }, "9 10 ");
	assert_reads((struct log_options){ ALL, .tail = 4 }, "7 8 9 10 ");
	assert_reads((struct log_options){ ALL, .tail = 6 }, "5 6 7 8 9 10 ");
	assert_reads((struct log_options){ ALL, .tail = 10 }, "1 2 3 4 5 6 7 8 9 10 ");
}

static void test_followed_over_rotation(void **state UNUSED)
{
	append(path, 1);
	CLEANUP(jsonlog_closep)
	struct jsonlog *l = open_log((struct log_options){ ALL, .tail = -1 });
	autofree char *one = rest(l);
	assert_string_equal(one, "1 ");
	append(path, 2);
	rotate();
	append(path, 3);
	rotate();
	append(path, 4);
	autofree char *more = rest(l);
	assert_string_equal(more, "2 3 4 ");
	/* Rotated out of existence under the reader. */
	append(path, 5);
	rotate();
	append(path, 6);
	rotate();
	autofree char *name = xasprintf("%s.2", path);
	unlink(name);
	autofree char *last = rest(l);
	assert_string_equal(last, "5 6 ");
	append(path, 7);
	autofree char *end = rest(l);
	assert_string_equal(end, "7 ");
}

static void test_torn_line(void **state UNUSED)
{
	append(path, 1);
	append_raw(path, "{\"log\":\"2\\n\",\"stream\":\"stdout\",");
	CLEANUP(jsonlog_closep)
	struct jsonlog *l = open_log((struct log_options){ ALL, .tail = -1 });
	autofree char *before = rest(l);
	assert_string_equal(before, "1 ");
	append_raw(path, "\"time\":\"1970-01-01T00:00:02Z\"}\n");
	append(path, 3);
	autofree char *after = rest(l);
	assert_string_equal(after, "2 3 ");

	/* In a file that is left it is lost, and harms no other. */
	append_raw(path, "{\"log\":\"lost");
	rotate();
	append(path, 4);
	autofree char *next = rest(l);
	assert_string_equal(next, "4 ");
	assert_reads((struct log_options){ ALL, .tail = -1 }, "1 2 3 4 ");
}

static void test_absent_and_huge(void **state UNUSED)
{
	CLEANUP(jsonlog_closep)
	struct jsonlog *l = open_log((struct log_options){ ALL, .tail = -1 });
	autofree char *nothing = rest(l);
	assert_string_equal(nothing, "");

	autofree char *huge = xmalloc(3 * JSONLOG_LINE_MAX);
	memset(huge, 'x', 3 * JSONLOG_LINE_MAX);
	memcpy(huge + 3 * JSONLOG_LINE_MAX - 2, "\n", 2);
	append(path, 1);
	append_raw(path, huge);
	append(path, 2);
	autofree char *got = rest(l);
	assert_string_equal(got, "1 2 ");
	assert_reads((struct log_options){ ALL, .tail = 2 }, "2 ");
	assert_reads((struct log_options){ ALL, .tail = 3 }, "1 2 ");
}

static int teardown(void **state UNUSED)
{
	fs_remove_tree(AT_FDCWD, dir);
	free(path);
	return 0;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_refused),
		T(test_filters),
		T(test_rotated),
		T(test_followed_over_rotation),
		T(test_torn_line),
		T(test_absent_and_huge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
