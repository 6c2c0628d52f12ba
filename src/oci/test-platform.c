/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "oci/platform.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_parse(void **state)
{
	static const char *const cases[][2] = {
		{ "linux/amd64", "linux/amd64" },
		{ "Linux/x86_64", "linux/amd64" },
		{ "linux/amd64/v1", "linux/amd64" },
		{ "linux/amd64/v3", "linux/amd64/v3" },
		{ "arm64", "linux/arm64" },
		{ "aarch64", "linux/arm64" },
		{ "linux/arm64/v8", "linux/arm64" },
		{ "linux/arm64/9", "linux/arm64/v9" },
		{ "linux/arm", "linux/arm/v7" },
		{ "armel", "linux/arm/v6" },
		{ "linux/arm/6", "linux/arm/v6" },
		{ "i386", "linux/386" },
		{ "macos/arm64", "darwin/arm64" },
		{ "windows(10.0.17763)/amd64", "windows/amd64" },
	};
	static const char *const bad[] = { "",	  "/",	      "linux/",	  "nonsense", "linux/a/b/c",
					   "a b", "linux(/x", "linux//v7" };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoplatform struct platform p = PLATFORM_INIT;

		if (platform_parse(cases[i][0], &p, NULL) < 0)
			fail_msg("refused: %s", cases[i][0]);
		autofree char *text = platform_string(&p);
		assert_string_equal(text, cases[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autoplatform struct platform p = PLATFORM_INIT;

		if (platform_parse(bad[i], &p, NULL) == 0)
			fail_msg("accepted: %s", bad[i]);
	}
	autoplatform struct platform windows = PLATFORM_INIT, host = PLATFORM_INIT,
				     linux_only = PLATFORM_INIT;
	assert_int_equal(platform_parse("windows(10.0)/amd64", &windows, NULL), 0);
	assert_string_equal(windows.os_version, "10.0");
	platform_host(&host);
	assert_int_equal(platform_parse("linux", &linux_only, NULL), 0);
	assert_string_equal(linux_only.architecture, host.architecture);
}

static unsigned rank(const char *want, const char *have)
{
	autoplatform struct platform w = PLATFORM_INIT, h = PLATFORM_INIT;

	assert_int_equal(platform_parse(want, &w, NULL), 0);
	assert_int_equal(platform_parse(have, &h, NULL), 0);
	return platform_rank(&w, &h);
}

/* Each list: best first. */
static void test_order(void **state)
{
	static const char *const lists[][8] = {
		{ "linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386" },
		{ "linux/arm/v7", "linux/arm/v6", "linux/arm/v5" },
		{ "linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5" },
		{ "linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64/v8.1",
		  "linux/arm64", "linux/arm/v8", "linux/arm/v7" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		for (size_t k = 0; k + 1 < 8 && lists[i][k + 1]; k++) {
			assert_true(rank(lists[i][0], lists[i][k]) >
				    rank(lists[i][0], lists[i][k + 1]));
			assert_true(rank(lists[i][0], lists[i][k + 1]) > 0);
		}
	}
}

static void test_no_match(void **state)
{
	static const char *const pairs[][2] = {
		{ "linux/amd64", "linux/amd64/v2" },	{ "linux/amd64", "linux/arm64" },
		{ "linux/amd64", "windows/amd64" },	{ "linux/386", "linux/amd64" },
		{ "linux/arm/v6", "linux/arm/v7" },	{ "linux/arm64", "linux/arm64/v9" },
		{ "linux/amd64", "unknown/unknown" },	{ "linux/arm64/v8.1", "linux/arm64/v8.2" },
		{ "linux/amd64/weird", "linux/amd64" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		if (rank(pairs[i][0], pairs[i][1]))
			fail_msg("%s took %s", pairs[i][0], pairs[i][1]);
	assert_true(rank("linux/s390x", "linux/s390x") > 0);
	assert_true(rank("linux/amd64/weird", "linux/amd64/weird") > 0);
	struct platform none = PLATFORM_INIT;
	assert_int_equal(platform_rank(&none, &none), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_no_match),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
