#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1 request grammar (RFC 9112), sans-IO: heads are parsed in place in memory of the
 * caller, bodies are decoded piece by piece. Strict where leniency lets two parsers disagree
 * (duplicate lengths, folded lines, blanks before colons, stray control characters); a bare LF ends
 * a line too. Any thread.
 */

#include "base/error.h"

#define HTTP_HEAD_MAX (32 << 10)
#define HTTP_FIELDS_MAX 100

struct http_field {
	const char *name;
	const char *value;
};

struct http_head {
	const char *method;
	const char *target;
	int minor; /* HTTP/1.minor: 0 or 1 */
	struct http_field fields[HTTP_FIELDS_MAX];
	size_t n_fields;
	int64_t content_length; /* -1: none given */
	bool chunked;
	bool keep_alive;
	bool expect_continue;
	const char *upgrade; /* value of Upgrade, NULL when absent */
};

/* Length of the head with its empty line, 0 while that has not come. *scan (0 at first) remembers
 * how far earlier calls on the same bytes have looked. */
size_t http_head_end(const char *text, size_t len, size_t *scan);
/* Parses text[0..len) in place (the strings of *ret point into it; it gets changed). Returns 0, or
 * the status to refuse with (400, 431, 501, 505) and a reason for the client. */
int http_head_parse(char *text, size_t len, struct http_head *ret, const char **ret_reason);
/* Value of a field, case-insensitive, the first one; NULL when absent. */
const char *http_head_field(const struct http_head *h, const char *name);

/* Decodes %XX (and + as blank) in place; -EINVAL for broken escapes and for NUL. */
int http_percent_decode(char *s, bool plus);

enum http_body_state {
	HTTP_BODY_END, /* first: a zeroed decoder is of an empty body */
	HTTP_BODY_LENGTH,
	HTTP_BODY_CHUNK_SIZE,
	HTTP_BODY_CHUNK_EXTENSION,
	HTTP_BODY_CHUNK_DATA,
	HTTP_BODY_CHUNK_DATA_END,
	HTTP_BODY_TRAILER,
};

struct http_body {
	enum http_body_state state;
	uint64_t left;	   /* of the body or of the chunk */
	unsigned digits;   /* of a chunk size */
	unsigned overhead; /* bytes of the extension or the trailers, bounded */
	bool line_empty;   /* in the trailers */
};

void http_body_init(struct http_body *b, const struct http_head *h);
/* Decodes a prefix of p: returns how many bytes it used (at least one while the body has not ended
 * and n > 0), with the body bytes among them in *ret_data, *ret_n. -1: malformed. */
ssize_t http_body_feed(struct http_body *b, const char *p, size_t n, const char **ret_data,
		       size_t *ret_n);
