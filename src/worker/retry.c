/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/retry.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"
#include "worker/headers.h"

#include <string.h>
#include <time.h>

#define ERROR_TEXT_MAX 512
#define DELAY_MAX_MS 30000

static bool status_retryable(int status)
{
	return status == 408 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

bool retry_wanted(int rc, const struct http_response *r, bool reached)
{
	if (rc == 0)
		return status_retryable(r->status);
	return r->failure == HTTP_BROKEN || (r->failure == HTTP_UNREACHABLE && reached);
}

int64_t retry_delay_ms(unsigned n, const struct http_response *r)
{
	int64_t base = r->status == 429 ? 500 : 250;
	unsigned doublings = MIN(n - 1, 10u);
	int64_t delay = MIN(base << doublings, (int64_t)DELAY_MAX_MS);
	const char *after = http_header(r, "retry-after");
	int64_t told = header_retry_after(after, time_realtime()) / NSEC_PER_MSEC;

	if (told > 0)
		return MIN(told, (int64_t)RETRY_AFTER_MAX_MS);
	return delay / 2 + (int64_t)(random_u64() % (uint64_t)delay);
}

void retry_sleep(int64_t ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * NSEC_PER_MSEC };

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
		;
}

/* "MANIFEST_UNKNOWN", "manifest unknown" -> "manifest unknown" */
static char *join_code(const char *code, const char *message)
{
	char *words = xstrdup(code ? code : "");
	char *text;

	for (char *c = words; *c; c++)
		*c = *c == '_' ? ' ' : *c >= 'A' && *c <= 'Z' ? (char)(*c + 'a' - 'A') : *c;
	if (str_empty(message) || str_equal(words, message))
		return words;
	if (!*words) {
		free(words);
		return xstrdup(message);
	}
	text = xasprintf("%s: %s", words, message);
	free(words);
	return text;
}

static char *error_text_json(const struct json *j)
{
	static const char *const keys[] = { "details", "message", "error_description", "error" };
	const struct json *first = json_array_get(json_get(j, "errors"), 0);

	if (first)
		return join_code(json_get_string(first, "code"), json_get_string(first, "message"));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (json_get_string(j, keys[i]))
			return xstrdup(json_get_string(j, keys[i]));
	return xstrdup("");
}

char *http_error_text(const struct http_response *r)
{
	autojson struct json *j = json_parse(r->body.data, r->body.len, HTTP_ERROR_BODY_MAX, NULL);
	autofree char *type = header_media_type(http_header(r, "content-type"));
	char *text;

	if (j)
		text = error_text_json(j);
	else if (str_equal(type, "text/plain"))
		text = xstrndup(r->body.data, r->body.len);
	else
		text = xstrdup(""); /* a proxy's HTML page says nothing on one line */
	text_clean(text, ERROR_TEXT_MAX);
	while (*text && text[strlen(text) - 1] == ' ')
		text[strlen(text) - 1] = '\0';
	return text;
}

static enum error_code status_code(int status)
{
	switch (status) {
	case 400:
		return ERROR_INVALID_ARGUMENT;
	case 401:
		return ERROR_UNAUTHENTICATED;
	case 403:
		return ERROR_PERMISSION_DENIED;
	case 404:
	case 410:
		return ERROR_NOT_FOUND;
	case 408:
		return ERROR_UNAVAILABLE;
	case 413:
	case 429:
		return ERROR_RESOURCE_EXHAUSTED;
	case 416:
		return ERROR_OUT_OF_RANGE;
	case 405:
	case 501:
		return ERROR_UNIMPLEMENTED;
	default:
		return status >= 500 ? ERROR_UNAVAILABLE : ERROR_UNKNOWN;
	}
}

static const char *status_words(int status)
{
	static const struct {
		int status;
		const char *words;
	} table[] = {
		{ 400, "Bad Request" },	       { 401, "Unauthorized" },
		{ 403, "Forbidden" },	       { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 408, "Request Timeout" },
		{ 413, "Content Too Large" },  { 416, "Range Not Satisfiable" },
		{ 429, "Too Many Requests" },  { 500, "Internal Server Error" },
		{ 502, "Bad Gateway" },	       { 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].status == status)
			return table[i].words;
	return "unexpected status";
}

int http_status_error(const struct http_request *q, const struct http_response *r,
		      struct error *err)
{
	autofree char *url = url_public(q->url);
	autofree char *text = http_error_text(r);
	enum error_code code = status_code(r->status);

	if (str_has_prefix(text, "denied"))
		code = ERROR_PERMISSION_DENIED;
	return error_set(err, code, "%s %s: %d %s%s%s", q->method, url, r->status,
			 status_words(r->status), *text ? ": " : "", text);
}
