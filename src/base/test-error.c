/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_set_wrap_move(void **state)
{
	autoerror struct error err = ERROR_INIT, other = ERROR_INIT;

	assert_string_equal(error_msg(&err), "");
	assert_int_equal(error_set(&err, ERROR_NOT_FOUND, "no '%s'", "x"), -1);
	assert_int_equal(error_wrap(&err, "load %d", 3), -1);
	assert_string_equal(error_msg(&err), "load 3: no 'x'");
	assert_int_equal(error_errno(&err, ENOSPC, "write '%s'", "f"), -1);
	assert_string_equal(error_msg(&err), "write 'f': No space left on device");
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	assert_int_equal(err.sys, ENOSPC);
	assert_int_equal(error_move(&other, &err), -1);
	assert_true(error_is(&other, ERROR_RESOURCE_EXHAUSTED));
	assert_int_equal(err.code, ERROR_OK);
	assert_null(err.msg);
	assert_int_equal(error_move(NULL, &other), -1);
	assert_null(other.msg);
	assert_int_equal(error_set(NULL, ERROR_INTERNAL, "x"), -1);
	assert_int_equal(error_wrap(NULL, "x"), -1);
}

static void test_codes(void **state)
{
	assert_string_equal(error_code_name(ERROR_UNAUTHENTICATED), "UNAUTHENTICATED");
	assert_string_equal(error_code_name((enum error_code)99), "UNKNOWN");
	assert_int_equal(error_code_from_errno(ENOENT), ERROR_NOT_FOUND);
	assert_int_equal(error_code_from_errno(EACCES), ERROR_PERMISSION_DENIED);
	assert_int_equal(error_code_from_errno(99999), ERROR_UNKNOWN);
}

/* What is written to stderr while log is called with msg. */
static size_t capture(char *out, size_t size, enum log_format format, const char *msg)
{
	int fds[2], saved = dup(STDERR_FILENO);

	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	dup2(fds[1], STDERR_FILENO);
	log_setup("test", LOG_INFO, format);
	log_debug("not this");
	log_warn("%s", msg);
	dup2(saved, STDERR_FILENO);
	ssize_t n = read(fds[0], out, size - 1);
	assert_true(n >= 0);
	out[n] = '\0';
	close(fds[0]);
	close(fds[1]);
	close(saved);
	return (size_t)n;
}

static void test_log_text(void **state)
{
	char out[16384];

	log_context("container=x");
	capture(out, sizeof(out), LOG_FORMAT_TEXT, "a\nb\033[1m");
	assert_non_null(strstr(out, " test warn: a\\nb?[1m container=x\n"));
	log_context(NULL);
	assert_int_equal(log_level_parse("debug"), LOG_DEBUG);
	assert_int_equal(log_level_parse("loud"), -EINVAL);
	assert_false(log_enabled(LOG_DEBUG));
}

static void test_log_json(void **state)
{
	char out[16384], msg[12000];

	log_context("container=x op=start");
	size_t n = capture(out, sizeof(out), LOG_FORMAT_JSON, "say \"hi\"\n");
	autojson struct json *j = json_parse(out, n, sizeof(out), NULL);
	assert_non_null(j);
	assert_string_equal(json_get_string(j, "msg"), "say \"hi\"\n");
	assert_string_equal(json_get_string(j, "op"), "start");
	assert_string_equal(json_get_string(j, "level"), "warn");

	/* A line that is cut is one line of JSON all the same. */
	memset(msg, '"', sizeof(msg) - 1);
	msg[sizeof(msg) - 1] = '\0';
	n = capture(out, sizeof(out), LOG_FORMAT_JSON, msg);
	autojson struct json *cut = json_parse(out, n, sizeof(out), NULL);
	assert_non_null(cut);
	assert_int_equal(out[n - 1], '\n');
	memset(msg, 1, sizeof(msg) - 1);
	n = capture(out, sizeof(out), LOG_FORMAT_JSON, msg);
	autojson struct json *control = json_parse(out, n, sizeof(out), NULL);
	assert_non_null(control);
	log_context(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_wrap_move),
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_log_text),
		cmocka_unit_test(test_log_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
