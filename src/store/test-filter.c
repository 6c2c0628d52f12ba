/* SPDX-License-Identifier: Apache-2.0 */
#include "store/filter.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct object {
	const char *name;
	struct kvs labels;
};

static const char *field(const void *object, const struct strv *path)
{
	const struct object *o = object;

	if (str_equal(path->v[0], "labels"))
		return filter_label(&o->labels, path);
	if (str_equal(path->v[0], "name") && path->n == 1)
		return o->name;
	return NULL;
}

static bool match(const struct object *o, const char *text)
{
	char *texts[] = { (char *)(uintptr_t)text };
	autoerror struct error err = ERROR_INIT;
	autofilter struct filter *f = NULL;

	if (filter_parse(texts, 1, &f, &err) < 0)
		fail_msg("%s", error_msg(&err));
	return filter_match(f, field, o);
}

static const struct {
	const char *text;
	bool expected;
} cases[] = {
	{ "", true },
	{ "  ", true },
	{ "name", true },
	{ "other", false },
	{ "name==docker.io/library/alpine:latest", true },
	{ "name == \"docker.io/library/alpine:latest\" ", true },
	{ "name==docker.io", false },
	{ "name!=docker.io", true },
	{ "other!=x", true },
	{ "other==x", false },
	{ "name~=^docker\\.io/", true },
	{ "name~=\"^docker\\\\.io/\"", true },
	{ "name~=/alpine:[a-z]{6}$/", true },
	{ "name~=|^/tasks/|", false },
	{ "name~=(?i)ALPINE", true },
	{ "name~=/a,b/", false },
	{ "name,labels.a", true },
	{ "name, labels.a==1", true },
	{ "name,labels.a==2", false },
	{ "labels.foo.bar==x", true },
	{ "labels.\"foo.bar\"==x", true },
	{ "labels.\"containerd.io/restart.status\"", true },
	{ "labels.\"containerd.io/restart.status\"==running,name", true },
	{ "labels.\"a\\x41\\u00e4\\101\"==y", true },
	{ "labels.absent", false },
	{ "labels", false },
	{ "name.x", false },
};

static void test_matches(void **state UNUSED)
{
	struct object o = { .name = "docker.io/library/alpine:latest" };

	kvs_set(&o.labels, "a", "1");
	kvs_set(&o.labels, "foo.bar", "x");
	kvs_set(&o.labels, "containerd.io/restart.status", "running");
	kvs_set(&o.labels, "aAäA", "y");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (match(&o, cases[i].text) != cases[i].expected)
			fail_msg("'%s' should %smatch", cases[i].text,
				 cases[i].expected ? "" : "not ");
	}
	kvs_done(&o.labels);
}

static void test_any_of_several(void **state UNUSED)
{
	struct object o = { .name = "b" };
	char *texts[] = { (char *)(uintptr_t) "name==a", (char *)(uintptr_t) "name==b" };
	autofilter struct filter *f = NULL, *none = NULL;

	assert_int_equal(filter_parse(texts, 2, &f, NULL), 0);
	assert_true(filter_match(f, field, &o));
	o.name = "c";
	assert_false(filter_match(f, field, &o));
	assert_int_equal(filter_parse(NULL, 0, &none, NULL), 0);
	assert_true(filter_match(none, field, &o));
}

static void test_refuses(void **state UNUSED)
{
	static const char *const bad[] = {
		"==x",
		"name==",
		"name=x",
		"name==a b",
		"name,",
		"name==\"x",
		"name~=/x",
		"name~=(",
		"name.",
		".name",
		"name==,x",
		"na-me",
		"name==\"\\q\"",
		"name==\"\\x0\"",
		"name==\"\\ud800\"",
		"name~=\"\\\\C\"",
		"name==\"\\000\"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *texts[] = { (char *)(uintptr_t)bad[i] };
		autoerror struct error err = ERROR_INIT;
		struct filter *f = NULL;

		if (filter_parse(texts, 1, &f, &err) == 0)
			fail_msg("'%s' should be refused", bad[i]);
		assert_true(error_is(&err, ERROR_INVALID_ARGUMENT));
		assert_non_null(strstr(error_msg(&err), "filter '"));
	}
}

/* Exponential for a matcher that tries everything. */
static void test_hostile_expression_ends(void **state UNUSED)
{
	struct object o = {
		.name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"
	};

	assert_false(match(&o, "name~=^(a+)+$"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_any_of_several),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_hostile_expression_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
