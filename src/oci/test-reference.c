/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "oci/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void test_good(void **state)
{
	/* what is written, normal, familiar */
	static const char *const cases[][3] = {
		{ "busybox", "docker.io/library/busybox", "busybox" },
		{ "busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36" },
		{ "a/b", "docker.io/a/b", "a/b" },
		{ "docker.io/a", "docker.io/library/a", "a" },
		{ "index.docker.io/a/b:t", "docker.io/a/b:t", "a/b:t" },
		{ "docker.io/library/a/b", "docker.io/library/a/b", "library/a/b" },
		{ "docker.io/quay.io/a", "docker.io/quay.io/a", "docker.io/quay.io/a" },
		{ "library/" HEX, "docker.io/library/" HEX, "library/" HEX },
		{ "localhost/a", "localhost/a", "localhost/a" },
		{ "localhost:5000/a:t", "localhost:5000/a:t", "localhost:5000/a:t" },
		{ "example.com", "docker.io/library/example.com", "example.com" },
		{ "Registry/a", "Registry/a", "Registry/a" },
		{ "[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a" },
		{ "quay.io/a/b__c/d-----e.f:T_1", "quay.io/a/b__c/d-----e.f:T_1",
		  "quay.io/a/b__c/d-----e.f:T_1" },
		{ "a:t@sha256:" HEX, "docker.io/library/a:t@sha256:" HEX, "a:t@sha256:" HEX },
		{ "a@sha256:" HEX, "docker.io/library/a@sha256:" HEX, "a@sha256:" HEX },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoreference struct reference r = REFERENCE_INIT, again = REFERENCE_INIT;
		autoerror struct error err = ERROR_INIT;

		if (reference_parse(cases[i][0], &r, &err) < 0)
			fail_msg("%s: %s", cases[i][0], error_msg(&err));
		autofree char *normal = reference_string(&r);
		autofree char *familiar = reference_familiar(&r);
		assert_string_equal(normal, cases[i][1]);
		assert_string_equal(familiar, cases[i][2]);
		assert_int_equal(reference_parse(familiar, &again, NULL), 0);
		autofree char *round = reference_string(&again);
		assert_string_equal(round, normal);
	}
}

static void test_bad(void **state)
{
	static const char *const cases[][2] = {
		{ "", "invalid reference format" },
		{ "library/Foo", "invalid reference format: repository name (library/Foo) "
				 "must be lowercase" },
		{ "Foo:t", "invalid reference format: repository name (library/Foo) "
			   "must be lowercase" },
		{ HEX, "invalid repository name (" HEX "), cannot specify 64-byte hexadecimal "
		       "strings" },
		{ "a@sha256:1234567890abcdef1234567890abcdef", "invalid checksum digest length" },
		{ "a@x:1234567890abcdef1234567890abcdef", "unsupported digest algorithm" },
		{ "a@sha256:", "invalid reference format" },
		{ "a:", "invalid reference format" },
		{ "a:-x", "invalid reference format" },
		{ "a b", "invalid reference format" },
		{ "a/", "invalid reference format" },
		{ "/a", "invalid reference format" },
		{ "a//b", "invalid reference format" },
		{ "a..b", "invalid reference format" },
		{ "a___b", "invalid reference format" },
		{ "-a", "invalid reference format" },
		{ "a-", "invalid reference format" },
		{ "a.b-/c", "invalid reference format" },
		{ "a.b:x/c", "invalid reference format" },
		{ "[fe80::1%25eth0]:5000/a", "invalid reference format" },
		{ "http://a.b/c", "invalid reference format" },
		{ "../a", "invalid reference format" },
		{ "a:t:u", "invalid reference format" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoreference struct reference r = REFERENCE_INIT;
		autoerror struct error err = ERROR_INIT;

		if (reference_parse(cases[i][0], &r, &err) == 0)
			fail_msg("accepted '%s'", cases[i][0]);
		assert_string_equal(error_msg(&err), cases[i][1]);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
		assert_null(r.domain);
	}
}

static void test_limits_and_tags(void **state)
{
	autoreference struct reference r = REFERENCE_INIT;
	char name[400], tag[130];

	memset(name, 'a', sizeof(name));
	name[255 - strlen("docker.io/library/")] = '\0';
	assert_int_equal(reference_parse(name, &r, NULL), 0);
	reference_default_tag(&r);
	reference_default_tag(&r);
	assert_string_equal(r.tag, "latest");
	name[strlen(name)] = 'a';
	name[256 - strlen("docker.io/library/")] = '\0';
	assert_int_equal(reference_parse(name, &r, NULL), -1);
	memset(tag, 't', sizeof(tag));
	tag[129] = '\0';
	assert_false(reference_tag_valid(tag));
	tag[128] = '\0';
	assert_true(reference_tag_valid(tag));
	assert_true(reference_tag_valid("_"));
	assert_false(reference_tag_valid(""));
	assert_false(reference_tag_valid(".a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_limits_and_tags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
