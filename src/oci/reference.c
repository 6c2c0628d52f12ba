/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/reference.h"
#include "base/mem.h"
#include "oci/digest.h"

#include <assert.h>
#include <string.h>

#define DEFAULT_DOMAIN "docker.io"
#define LEGACY_DOMAIN "index.docker.io"
#define OFFICIAL_PREFIX "library/"
#define NAME_MAX_BYTES 255
#define REFERENCE_MAX_BYTES 1024

static const char invalid_format[] = "invalid reference format";

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower_alnum(char c)
{
	return is_lower(c) || is_digit(c);
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || is_upper(c);
}

static bool has_upper(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (is_upper(s[i]))
			return true;
	return false;
}

/* "." | "_" | "__" | "-"+ at s: its length, 0 for none. */
static size_t separator_len(const char *s)
{
	if (*s == '.')
		return 1;
	if (*s == '_')
		return s[1] == '_' ? 2 : 1;
	return strspn(s, "-");
}

/* path := component ("/" component)*; component := [a-z0-9]+ (separator [a-z0-9]+)* */
static bool path_valid(const char *s)
{
	for (;;) {
		if (!is_lower_alnum(*s))
			return false;
		while (is_lower_alnum(*s))
			s++;
		if (!*s)
			return true;
		if (*s == '/') {
			s++;
			continue;
		}
		size_t n = separator_len(s);

		if (n == 0)
			return false;
		s += n;
	}
}

/* "[::1]" at s: the end of it, or NULL. */
static const char *skip_ipv6(const char *s)
{
	size_t n = strspn(s + 1, "0123456789abcdefABCDEF:");

	return n > 0 && s[n + 1] == ']' ? s + n + 2 : NULL;
}

/* component ("." component)*; component := alnum ((alnum | "-")* alnum)? */
static const char *skip_domain_name(const char *s)
{
	for (;;) {
		if (!is_alnum(*s))
			return NULL;
		while (is_alnum(*s) || *s == '-')
			s++;
		if (s[-1] == '-')
			return NULL;
		if (*s != '.')
			return s;
		s++;
	}
}

static bool domain_valid(const char *s)
{
	s = *s == '[' ? skip_ipv6(s) : skip_domain_name(s);
	if (!s)
		return false;
	if (*s == '\0')
		return true;
	if (*s != ':' || !is_digit(s[1]))
		return false;
	for (s++; is_digit(*s); s++)
		;
	return *s == '\0';
}

bool reference_tag_valid(const char *tag)
{
	if (!is_alnum(*tag) && *tag != '_')
		return false;
	size_t n = 0;

	while (is_alnum(tag[n]) || (tag[n] && strchr("_.-", tag[n])))
		n++;
	return n <= 128 && tag[n] == '\0';
}

static bool is_identifier(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return n == 64 && s[n] == '\0';
}

/* The length of the first component when it names a registry, else 0. */
static size_t domain_len(const char *s)
{
	const char *slash = strchr(s, '/');

	if (!slash)
		return 0;
	size_t n = (size_t)(slash - s);

	if (memchr(s, '.', n) || memchr(s, ':', n) || has_upper(s, n) ||
	    (n == strlen("localhost") && memcmp(s, "localhost", n) == 0))
		return n;
	return 0;
}

/* Splits "path[:tag][@digest]"; path is cut in place. */
static void split_rest(char *path, char **ret_tag, char **ret_digest)
{
	*ret_digest = strchr(path, '@');
	if (*ret_digest)
		*(*ret_digest)++ = '\0';
	*ret_tag = strchr(path, ':');
	if (*ret_tag)
		*(*ret_tag)++ = '\0';
}

static int check_digest(const char *digest, struct error *err)
{
	if (!digest_grammar_valid(digest))
		return error_set(err, ERROR_INVALID_ARGUMENT, invalid_format);
	if (digest_valid(digest))
		return 0;
	if (str_has_prefix(digest, "sha256:") || str_has_prefix(digest, "sha512:"))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid checksum digest length");
	return error_set(err, ERROR_INVALID_ARGUMENT, "unsupported digest algorithm");
}

static int check_parts(const char *domain, const char *path, const char *tag, const char *digest,
		       struct error *err)
{
	if (has_upper(path, strlen(path)))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "%s: repository name (%s) must be lowercase", invalid_format,
				 path);
	if (!domain_valid(domain) || !path_valid(path) || (tag && !reference_tag_valid(tag)))
		return error_set(err, ERROR_INVALID_ARGUMENT, invalid_format);
	if (strlen(domain) + 1 + strlen(path) > NAME_MAX_BYTES)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "repository name must not be more than %d characters",
				 NAME_MAX_BYTES);
	return digest ? check_digest(digest, err) : 0;
}

int reference_parse(const char *s, struct reference *ret, struct error *err)
{
	if (!*s || strlen(s) > REFERENCE_MAX_BYTES)
		return error_set(err, ERROR_INVALID_ARGUMENT, invalid_format);
	if (is_identifier(s))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid repository name (%s), cannot specify 64-byte "
				 "hexadecimal strings",
				 s);

	size_t n = domain_len(s);
	autofree char *domain = n ? xstrndup(s, n) : xstrdup(DEFAULT_DOMAIN);
	const char *rest = n ? s + n + 1 : s;

	if (strcmp(domain, LEGACY_DOMAIN) == 0)
		str_replace(&domain, DEFAULT_DOMAIN);

	bool official = strcmp(domain, DEFAULT_DOMAIN) == 0 && !strchr(rest, '/');
	autofree char *path = xasprintf("%s%s", official ? OFFICIAL_PREFIX : "", rest);
	char *tag, *digest;

	split_rest(path, &tag, &digest);
	if (check_parts(domain, path, tag, digest, err) < 0)
		return -1;
	*ret = (struct reference){ .domain = TAKE_PTR(domain),
				   .path = xstrdup(path),
				   .tag = xstrdup(tag),
				   .digest = xstrdup(digest) };
	return 0;
}

void reference_done(struct reference *r)
{
	free(r->domain);
	free(r->path);
	free(r->tag);
	free(r->digest);
	*r = REFERENCE_INIT;
}

void reference_default_tag(struct reference *r)
{
	if (!r->tag && !r->digest)
		r->tag = xstrdup("latest");
}

/* Takes name. */
static char *with_suffixes(char *name, const struct reference *r)
{
	autofree char *owned = name;

	return xasprintf("%s%s%s%s%s", owned, r->tag ? ":" : "", r->tag ? r->tag : "",
			 r->digest ? "@" : "", r->digest ? r->digest : "");
}

char *reference_name(const struct reference *r)
{
	assert(r->domain && r->path);
	return xasprintf("%s/%s", r->domain, r->path);
}

char *reference_string(const struct reference *r)
{
	return with_suffixes(reference_name(r), r);
}

char *reference_familiar_name(const struct reference *r)
{
	/* "docker.io/quay.io/a" without its domain would be read as another registry's. */
	if (strcmp(r->domain, DEFAULT_DOMAIN) != 0 || domain_len(r->path) > 0)
		return reference_name(r);
	if (!str_has_prefix(r->path, OFFICIAL_PREFIX))
		return xstrdup(r->path);
	const char *bare = r->path + strlen(OFFICIAL_PREFIX);

	/* A bare identifier would not be read as a name at all. */
	return xstrdup(strchr(bare, '/') || is_identifier(bare) ? r->path : bare);
}

char *reference_familiar(const struct reference *r)
{
	return with_suffixes(reference_familiar_name(r), r);
}
