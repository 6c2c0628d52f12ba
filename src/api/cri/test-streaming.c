/* SPDX-License-Identifier: Apache-2.0 */
/* The small documents; everything else is tests/integration/test_streaming.py's. */
#include "api/cri/streaming-internal.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_status(void **state UNUSED)
{
	autofree char *success = status_success();
	autofree char *code = status_exit(7);
	autofree char *failure = status_failure("no \"such\" thing");

	assert_string_equal(success, "{\"metadata\":{},\"status\":\"Success\"}");
	assert_string_equal(code, "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"command "
				  "terminated with non-zero exit code: exit code 7\",\"reason\":"
				  "\"NonZeroExitCode\",\"details\":{\"causes\":[{\"reason\":"
				  "\"ExitCode\",\"message\":\"7\"}]}}");
	assert_string_equal(failure,
			    "{\"metadata\":{},\"status\":\"Failure\",\"message\":"
			    "\"Internal error occurred: no \\\"such\\\" thing\",\"reason\":"
			    "\"InternalError\",\"details\":{\"causes\":[{\"message\":"
			    "\"no \\\"such\\\" thing\"}]},\"code\":500}");
}

static void test_sizes(void **state UNUSED)
{
	static const struct {
		const char *text;
		unsigned width, height; /* 0: none came */
	} cases[] = {
		{ "{\"Width\":80,\"Height\":24}\n", 80, 24 },
		{ "{\"Width\":80,\"Height\":24}{\"Width\":100,\"Height\":30}", 100, 30 },
		{ " \n{\"Height\":24,\"Width\":80}", 80, 24 },
		{ "{\"Width\":65535,\"Height\":1}", 65535, 1 },
		{ "{\"Width\":80,\"Height\":24", 0, 0 },
		{ "{\"Width\":0,\"Height\":24}", 0, 0 },
		{ "{\"Width\":65536,\"Height\":24}", 0, 0 },
		{ "{\"Width\":-1,\"Height\":24}", 0, 0 },
		{ "{\"Width\":\"80\",\"Height\":24}", 0, 0 },
		{ "{\"Width\":80}", 0, 0 },
		{ "{}", 0, 0 },
		{ "}}}}{{", 0, 0 },
		{ "{nonsense}{\"Width\":80,\"Height\":24}", 0, 0 },
		{ "", 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (size_t piece = 1; piece < 100; piece += 98) {
			struct resize_parser p = { 0 };
			unsigned width = 0, height = 0;
			size_t len = strlen(cases[i].text);

			for (size_t at = 0; at < len; at += piece)
				resize_feed(&p, cases[i].text + at, MIN(piece, len - at), &width,
					    &height);
			assert_int_equal(width, cases[i].width);
			assert_int_equal(height, cases[i].height);
		}
	}
}

static void test_sizes_are_bounded(void **state UNUSED)
{
	static const char good[] = "{\"Width\":80,\"Height\":24}";
	struct resize_parser p = { 0 };
	unsigned width = 0, height = 0;

	for (int i = 0; i < 1000; i++)
		assert_false(resize_feed(&p, "{", 1, &width, &height));
	assert_true(p.broken);
	assert_false(resize_feed(&p, good, strlen(good), &width, &height));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_sizes_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
