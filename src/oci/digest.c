/* SPDX-License-Identifier: Apache-2.0 */
/* The names of digests; hashing is in digester.c, so that who only reads names needs no libcrypto.
 */
#include "oci/digest.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

static const struct algorithm {
	const char *prefix;
	size_t hex_len;
} algorithms[] = {
	{ .prefix = "sha256:", .hex_len = 64 },
	{ .prefix = "sha512:", .hex_len = 128 },
};

static const struct algorithm *algorithm_of(const char *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++)
		if (str_has_prefix(s, algorithms[i].prefix))
			return &algorithms[i];
	return NULL;
}

bool digest_valid(const char *s)
{
	const struct algorithm *a = s ? algorithm_of(s) : NULL;

	if (!a)
		return false;
	s += strlen(a->prefix);
	size_t n = strspn(s, "0123456789abcdef");

	return n == a->hex_len && s[n] == '\0';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_alnum(char c)
{
	return is_letter(c) || (c >= '0' && c <= '9');
}

bool digest_grammar_valid(const char *s)
{
	/* algorithm := letter alnum* ([+._-] letter alnum*)* */
	for (;;) {
		if (!is_letter(*s))
			return false;
		while (is_alnum(*s))
			s++;
		if (*s == ':')
			break;
		if (!*s || !strchr("+._-", *s))
			return false;
		s++;
	}
	s++;
	size_t n = strspn(s, "0123456789abcdefABCDEF");

	return n >= 32 && s[n] == '\0';
}

const char *digest_hex(const char *digest)
{
	const char *colon = strchr(digest, ':');

	assert(colon);
	return colon + 1;
}

char *digest_blob_path(const char *digest)
{
	assert(digest_valid(digest));
	const char *hex = digest_hex(digest);

	return xasprintf("blobs/%.*s/%s", (int)(hex - digest - 1), digest, hex);
}
