/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "oci/digest.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define EMPTY "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void test_valid(void **state)
{
	static const char *const bad[] = {
		"",
		"sha256:",
		"sha256:../../etc/passwd",
		"md5:d41d8cd98f00b204e9800998ecf8427e",
		"sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
		EMPTY "0",
		"sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	};

	assert_true(digest_valid(EMPTY));
	assert_false(digest_valid(NULL));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(digest_valid(bad[i]));
	assert_true(digest_grammar_valid("blake3+x.y:0123456789abcdef0123456789ABCDEF"));
	assert_false(digest_grammar_valid("blake3:0123456789abcdef"));
	assert_false(digest_grammar_valid("3b:0123456789abcdef0123456789abcdef"));
	assert_false(digest_grammar_valid("a+:0123456789abcdef0123456789abcdef"));
	assert_string_equal(digest_hex("sha256:abc"), "abc");
	autofree char *path = digest_blob_path(EMPTY);
	assert_string_equal(path, "blobs/sha256/e3b0c44298fc1c149afbf4c8996fb924"
				  "27ae41e4649b934ca495991b7852b855");
}

static void test_digester(void **state)
{
	CLEANUP(digester_freep) struct digester *d = digester_new(NULL);
	CLEANUP(digester_freep) struct digester *long_one = digester_new("sha512:");
	char out[DIGEST_MAX];

	digester_peek(d, out);
	assert_string_equal(out, EMPTY);
	digester_update(d, "ab", 2);
	digester_peek(d, out);
	digester_update(d, "c", 1);
	digester_peek(d, out);
	assert_string_equal(out, ABC);
	digest_bytes("abc", 3, out);
	assert_string_equal(out, ABC);
	digester_peek(long_one, out);
	assert_true(digest_valid(out));
	assert_int_equal(strlen(out), 7 + 128);
	autoclose int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(digester_update_fd(d, fd, NULL), 0);
	assert_int_equal(digester_update_fd(d, -1, NULL), -1);
}

static void test_chain(void **state)
{
	char chain[DIGEST_MAX], expected[DIGEST_MAX];

	digest_chain(NULL, EMPTY, chain);
	assert_string_equal(chain, EMPTY);
	digest_chain("", EMPTY, chain);
	assert_string_equal(chain, EMPTY);
	digest_bytes(EMPTY " " ABC, strlen(EMPTY " " ABC), expected);
	digest_chain(chain, ABC, chain);
	assert_string_equal(chain, expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_digester),
		cmocka_unit_test(test_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
