/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/copy-path.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_split(void **state)
{
	static const struct {
		const char *arg, *container, *path;
	} cases[] = {
		{ "c:/x", "c", "/x" },	    { "c:x:y", "c", "x:y" },  { "/c:/x", NULL, "/c:/x" },
		{ "./c:x", NULL, "./c:x" }, { "file", NULL, "file" }, { ":x", "", "x" },
		{ "-", NULL, "-" },	    { "c:", "c", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *container = NULL;
		const char *path;

		assert_int_equal(copy_split(cases[i].arg, &container, &path),
				 cases[i].container != NULL);
		if (container)
			assert_string_equal(container, cases[i].container);
		assert_string_equal(path, cases[i].path);
	}
}

static void test_clean(void **state)
{
	static const char *const cases[][2] = {
		{ "", "." },	     { ".", "." },
		{ "/", "/" },	     { "//", "/" },
		{ "a//b/", "a/b" },  { "a/./b/../c", "a/c" },
		{ "/../x", "/x" },   { "../x", "../x" },
		{ "a/../..", ".." }, { "../../a/..", "../.." },
		{ "/a/..", "/" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *clean = copy_clean(cases[i][0]);

		assert_string_equal(clean, cases[i][1]);
	}
}

static void test_entry(void **state)
{
	static const char *const cases[][3] = {
		{ "/a/b", "/a", "b" },	{ "/a", "/", "a" },	   { "a", ".", "a" },
		{ "/a/b/", "/a", "b" }, { "/a/b/.", "/a/b", "." }, { ".", ".", "." },
		{ "/", "/", "/" },	{ "a/b", "a", "b" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *dir = NULL;
		autofree char *base = NULL;

		copy_split_entry(cases[i][0], &dir, &base);
		assert_string_equal(dir, cases[i][1]);
		assert_string_equal(base, cases[i][2]);
	}
}

/* As cp(1) does it: into a directory that is there, as a name that is not. */
static void test_plan(void **state)
{
	static const struct {
		const char *base;
		bool source_dir;
		const char *to;
		bool exists, dir;
		const char *want_dir, *want_name; /* NULL: refused */
	} cases[] = {
		{ "f", false, "/d", true, true, "/d", "f" },
		{ "f", false, "/d/g", true, false, "/d", "g" },
		{ "f", false, "/d/g", false, false, "/d", "g" },
		{ "f", false, "/d/g/", false, false, NULL, NULL },
		{ "f", false, "/d/g/", true, false, NULL, NULL },
		{ "s", true, "/d", true, true, "/d", "s" },
		{ "s", true, "/d/n", false, false, "/d", "n" },
		{ "s", true, "/d/n/", false, false, "/d", "n" },
		{ "s", true, "/d/file", true, false, NULL, NULL },
		{ ".", true, "/d", true, true, "/d", "." },
		{ ".", true, "/d/n", false, false, "/d", "n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoerror struct error err = ERROR_INIT;
		CLEANUP(copy_plan_done) struct copy_plan plan = { 0 };
		int r = copy_plan(cases[i].base, cases[i].source_dir, cases[i].to, cases[i].exists,
				  cases[i].dir, &plan, &err);

		assert_int_equal(r, cases[i].want_dir ? 0 : -1);
		if (r < 0)
			continue;
		assert_string_equal(plan.dir, cases[i].want_dir);
		assert_string_equal(plan.name, cases[i].want_name);
	}
}

static void test_rename(void **state)
{
	static const char *const cases[][4] = {
		{ "b", "b", "n", "n" },	  { "b/x/y", "b", "n", "n/x/y" },
		{ "b/", "b", "n", "n" },  { "b/x", "b", "b", "b/x" },
		{ "./x", ".", ".", "x" }, { "./", ".", ".", "." },
		{ ".", ".", "n", "n" },	  { "./x", ".", "n", "n/x" },
		{ "x", "/", "n", "n/x" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *path = copy_rename(cases[i][0], cases[i][1], cases[i][2]);

		assert_string_equal(path, cases[i][3]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),  cmocka_unit_test(test_clean),
		cmocka_unit_test(test_entry),  cmocka_unit_test(test_plan),
		cmocka_unit_test(test_rename),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
