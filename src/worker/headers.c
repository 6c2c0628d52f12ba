/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/headers.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "worker/curl.h"

#include <string.h>
#include <strings.h>

#define URL_MAX (16 << 10)

DEFINE_CLEANUP(CURLU *, curl_url_cleanup)
DEFINE_CLEANUP(char *, curl_free)

/* Digits at *p; -EINVAL when there is none or it does not fit. */
static int take_int(const char **p, int64_t *ret)
{
	int64_t v = 0;
	const char *s = *p;

	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s - '0', &v))
			return -EINVAL;
	if (s == *p)
		return -EINVAL;
	*p = s;
	*ret = v;
	return 0;
}

int64_t header_retry_after(const char *value, int64_t now)
{
	const char *p = value;
	int64_t v;
	time_t date;

	if (!value)
		return 0;
	while (*p == ' ')
		p++;
	if (take_int(&p, &v) == 0) {
		while (*p == ' ')
			p++;
		if (*p)
			return 0;
		return MIN(v, (int64_t)365 * 86400) * NSEC_PER_SEC;
	}
	if (strlen(value) > 64)
		return 0;
	date = curl_getdate(value, NULL);
	if (date < 0 || (int64_t)date > INT64_MAX / NSEC_PER_SEC)
		return 0;
	return MAX((int64_t)date * NSEC_PER_SEC - now, (int64_t)0);
}

int header_content_range(const char *value, int64_t *ret_first, int64_t *ret_last,
			 int64_t *ret_total)
{
	const char *p = value;
	int64_t first, last, total = -1;

	if (!value || strncasecmp(p, "bytes ", 6) != 0)
		return -EINVAL;
	p += 6;
	if (take_int(&p, &first) < 0 || *p++ != '-' || take_int(&p, &last) < 0 || *p++ != '/')
		return -EINVAL;
	if (*p == '*')
		p++;
	else if (take_int(&p, &total) < 0)
		return -EINVAL;
	if (*p || last < first || (total >= 0 && last >= total))
		return -EINVAL;
	*ret_first = first;
	*ret_last = last;
	*ret_total = total;
	return 0;
}

int header_upload_range(const char *value, int64_t *ret_have)
{
	const char *p = value;
	int64_t first, last;

	if (!value)
		return -EINVAL;
	if (strncasecmp(p, "bytes=", 6) == 0)
		p += 6;
	if (take_int(&p, &first) < 0 || *p++ != '-' || take_int(&p, &last) < 0 || *p)
		return -EINVAL;
	if (first != 0 || last == INT64_MAX)
		return -EINVAL;
	/* An empty session is "0-0" as well as one byte is (distribution-spec): call it empty,
	 * the registry corrects us with 416 if that was wrong. */
	*ret_have = last == 0 ? 0 : last + 1;
	return 0;
}

/* Does the parameter list behind a link's ">" say rel="next"? Sets *end behind it. */
static bool link_params_next(const char *p, const char **end)
{
	bool next = false, quoted = false;
	const char *start = p;

	for (; *p && (quoted || *p != ','); p++) {
		if (*p == '\\' && quoted && p[1])
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (!quoted && strncasecmp(p, "rel=", 4) == 0 &&
			 (p == start || strchr("; \t", p[-1]))) {
			const char *v = p + 4 + (p[4] == '"');

			next |= strncasecmp(v, "next", 4) == 0 &&
				(!v[4] || strchr("\" ;,\t", v[4]));
		}
	}
	*end = p;
	return next;
}

char *header_link_next(const char *value)
{
	const char *p = value;

	if (!value || strlen(value) > URL_MAX)
		return NULL;
	while ((p = strchr(p, '<'))) {
		const char *close = strchr(p, '>');
		const char *end;

		if (!close)
			return NULL;
		if (link_params_next(close + 1, &end))
			return xstrndup(p + 1, (size_t)(close - p - 1));
		p = end;
	}
	return NULL;
}

char *header_media_type(const char *value)
{
	char *type;
	size_t n;

	if (!value)
		return xstrdup("");
	while (*value == ' ')
		value++;
	n = strcspn(value, "; \t");
	type = xstrndup(value, n);
	for (char *c = type; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
	return type;
}

/* Takes over u's absolute form when it is what we speak. */
static char *url_checked(CURLU *u)
{
	CLEANUP(curl_freep) char *scheme = NULL;
	CLEANUP(curl_freep) char *host = NULL;
	CLEANUP(curl_freep) char *full = NULL;

	if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0))
		return NULL;
	if (curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK || !*host)
		return NULL;
	curl_url_set(u, CURLUPART_USER, NULL, 0);
	curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
	curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	if (curl_url_get(u, CURLUPART_URL, &full, 0) != CURLUE_OK || strlen(full) > URL_MAX)
		return NULL;
	for (const char *c = full; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			return NULL;
	return xstrdup(full);
}

char *url_resolve(const char *base, const char *location)
{
	CLEANUP(curl_url_cleanupp) CURLU *u = curl_url();

	if (!u || strlen(location) > URL_MAX)
		return NULL;
	if (curl_url_set(u, CURLUPART_URL, base, 0) != CURLUE_OK)
		return NULL;
	if (curl_url_set(u, CURLUPART_URL, location, CURLU_URLENCODE) != CURLUE_OK)
		return NULL;
	return url_checked(u);
}

char *url_origin(const char *url)
{
	CLEANUP(curl_url_cleanupp) CURLU *u = curl_url();
	CLEANUP(curl_freep) char *scheme = NULL;
	CLEANUP(curl_freep) char *host = NULL;
	CLEANUP(curl_freep) char *port = NULL;
	char *origin;

	if (!u || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
		return NULL;
	origin = xasprintf("%s://%s:%s", scheme, host, port);
	for (char *c = origin; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
	return origin;
}

bool url_is_https(const char *url)
{
	return strncasecmp(url, "https://", 8) == 0;
}

char *url_public(const char *url)
{
	char *s = xstrndup(url, strcspn(url, "?#"));

	text_clean(s, 1024);
	return s;
}

char *url_with_query(const char *url, const char *name, const char *value)
{
	CLEANUP(curl_freep) char *escaped = curl_easy_escape(NULL, value, 0);

	return xasprintf("%s%s%s=%s", url, strchr(url, '?') ? "&" : "?", name,
			 escaped ? escaped : "");
}

bool header_value_valid(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

void text_clean(char *s, size_t max)
{
	size_t n = strnlen(s, max + 1);

	if (n > max) {
		/* Not in the middle of a UTF-8 sequence. */
		while (max > 0 && ((unsigned char)s[max] & 0xc0) == 0x80)
			max--;
		s[max] = '\0';
	}
	for (; *s; s++) {
		/* C1 controls are U+0080 to U+009F: 0xc2 0x80..0x9f. */
		if ((unsigned char)*s < ' ' || *s == 0x7f) {
			*s = ' ';
		} else if ((unsigned char)*s == 0xc2 && (unsigned char)s[1] >= 0x80 &&
			   (unsigned char)s[1] <= 0x9f) {
			*s = ' ';
			*++s = ' ';
		}
	}
}
