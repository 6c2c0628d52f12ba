/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "engine/filters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ANNOTATION "run.oci.seccomp_bpf_data"

static char dir[64];

static char *at(const char *name)
{
	return path_join(dir, name, NULL);
}

static void put(const char *name, const void *p, size_t n)
{
	assert_int_equal(fs_write_atomic(AT_FDCWD, name, p, n, 0700, /* sync= */ false), 0);
}

static int setup(void **state)
{
	autofree char *id = NULL, *crun = NULL, *runc = NULL, *runtime = NULL, *filter = NULL;

	snprintf(dir, sizeof(dir), "/tmp/test-filters-XXXXXX");
	assert_non_null(mkdtemp(dir));
	id = at("id");
	crun = at("crun");
	runc = at("runc");
	runtime = at("runtime.json");
	filter = at("id/seccomp.bpf");
	autofree char *json = xasprintf("{\"root\":\"%s\"}", dir);
	mkdir(id, 0700);
	put(crun, "x", 1);
	put(runc, "x", 1);
	put(runtime, json, strlen(json));
	put(filter, "\6\0\0\0\0\0\377\177", 8);
	return 0;
}

static int teardown(void **state)
{
	return fs_remove_tree(AT_FDCWD, dir);
}

static struct json *spec_of(const char *text)
{
	struct json *j = json_parse(text, strlen(text), 4096, NULL);

	assert_non_null(j);
	return j;
}

static const char *given(const struct json *spec)
{
	return json_get_string(json_get(spec, "annotations"), ANNOTATION);
}

static const char profile[] = "{\"linux\":{\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\"}}}";

/* The key that a start with this profile would have to learn by. */
static char *ask(struct filters *f, const char *runtime, const char *text)
{
	autojson struct json *spec = spec_of(text);
	autofree char *path = at(runtime);
	char *key = filters_apply(f, path, spec);

	assert_null(given(spec));
	return key;
}

static void test_second_start_has_it(void **state)
{
	struct filters *f = filters_new();
	autofree char *crun = at("crun");
	autofree char *key = ask(f, "crun", profile);
	autojson struct json *spec = spec_of(profile);

	assert_non_null(key);
	filters_learn(f, key, dir, "id");
	assert_null(filters_apply(f, crun, spec));
	assert_string_equal(given(spec), "BgAAAAAA/38=");
	/* Another profile, and another crun, are on their own. */
	autofree char *other =
		ask(f, "crun", "{\"linux\":{\"seccomp\":{\"defaultAction\":\"SCMP_ACT_LOG\"}}}");
	assert_non_null(other);
	put(crun, "yy", 2);
	autofree char *newer = ask(f, "crun", profile);
	assert_non_null(newer);
	assert_string_not_equal(newer, key);
	filters_free(f);
}

static void test_not_for_all(void **state)
{
	static const char *const texts[] = {
		"{\"linux\":{}}",
		"{}",
		"{\"linux\":{\"seccomp\":{\"listenerPath\":\"/x\"}}}",
	};
	struct filters *f = filters_new();

	assert_null(ask(f, "runc", profile));
	assert_null(ask(f, "nowhere/crun", profile));
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_null(ask(f, "crun", texts[i]));
	/* The user's own stays. */
	autojson struct json *spec = spec_of("{\"linux\":{\"seccomp\":{}},\"annotations\":"
					     "{\"" ANNOTATION "\":\"mine\"}}");
	autofree char *crun = at("crun");
	assert_null(filters_apply(f, crun, spec));
	assert_string_equal(given(spec), "mine");
	filters_free(f);
}

static void test_bad_filters_are_not_kept(void **state)
{
	struct filters *f = filters_new();
	autofree char *path = at("id/seccomp.bpf"), *big = xmalloc(64 << 10);
	autofree char *key = ask(f, "crun", profile);
	const size_t sizes[] = { 0, 7, 64 << 10 };

	memset(big, 0, 64 << 10);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		put(path, big, sizes[i]);
		filters_learn(f, key, dir, "id");
		autofree char *again = ask(f, "crun", profile);
		assert_non_null(again);
	}
	filters_learn(f, key, dir, "gone");
	filters_learn(f, NULL, dir, "id");
	autofree char *again = ask(f, "crun", profile);
	assert_non_null(again);
	filters_free(f);
}

static void test_many(void **state)
{
	struct filters *f = filters_new();

	for (int i = 0; i < 40; i++) {
		char key[16];

		snprintf(key, sizeof(key), "key%d", i);
		filters_learn(f, key, dir, "id");
		filters_learn(f, key, dir, "id");
	}
	filters_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_second_start_has_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_for_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_filters_are_not_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
