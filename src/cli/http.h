#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 client side, sans-IO: a response parser that is fed bytes and tells events, and the
 * pieces of requests. A hijacked (upgraded) connection is simply a body that ends with the
 * connection. Interim replies (1xx but 101) are skipped. One parser handles one response at a time;
 * http_parser_reset() makes it ready for the next on the same connection.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/map.h"

#define HTTP_LINE_MAX (64 * 1024)
#define HTTP_HEADERS_MAX 128

enum http_event {
	HTTP_MORE, /* everything was taken, give more */
	HTTP_HEAD, /* status and headers are complete */
	HTTP_BODY, /* a piece of the body */
	HTTP_END,  /* the response is complete */
};

enum http_state {
	HTTP_STATE_STATUS,
	HTTP_STATE_HEADER,
	HTTP_STATE_BODY,
	HTTP_STATE_UNTIL_CLOSE,
	HTTP_STATE_CHUNK_SIZE,
	HTTP_STATE_CHUNK_DATA,
	HTTP_STATE_CHUNK_CRLF,
	HTTP_STATE_TRAILER,
	HTTP_STATE_END,
};

struct http_parser {
	enum http_state state;
	int status;
	struct kvs headers; /* names in lower case */
	bool head_only;	    /* the answer to a HEAD request: no body follows */
	bool keep_alive;
	uint64_t remaining; /* of the body or the chunk */
	struct buf line;
};

void http_parser_init(struct http_parser *p);
void http_parser_done(struct http_parser *p);
void http_parser_reset(struct http_parser *p, bool head_only);
/* Takes bytes up to the next event, which it returns; *ret_used says how many it took. *ret_body
 * and *ret_body_len are set (into data) with HTTP_BODY. -1: INVALID_ARGUMENT, not HTTP. */
int http_parser_feed(struct http_parser *p, const char *data, size_t len, size_t *ret_used,
		     const char **ret_body, size_t *ret_body_len, struct error *err);
/* The connection has ended: HTTP_END when the response may end so, else -1, UNAVAILABLE. */
int http_parser_eof(struct http_parser *p, struct error *err);

/* Appends s with everything escaped that a path (or, with query, a query value) must not hold. */
void url_escape(struct buf *b, const char *s, bool query);
/* Appends "?key=value" or "&key=value". NULL value: nothing. */
void url_query(struct buf *b, const char *key, const char *value);
/* malloc'ed: fmt in which each "{}" is replaced by the next argument, escaped. */
char *url_format(const char *fmt, ...);
