/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/http.h"

#include "base/mem.h"
#include "base/parse.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#define URL_MAX (256 * 1024)

void http_parser_init(struct http_parser *p)
{
	*p = (struct http_parser){ .line = BUF_INIT(HTTP_LINE_MAX) };
}

void http_parser_done(struct http_parser *p)
{
	kvs_done(&p->headers);
	buf_done(&p->line);
}

void http_parser_reset(struct http_parser *p, bool head_only)
{
	http_parser_done(p);
	http_parser_init(p);
	p->head_only = head_only;
}

static int bad(struct error *err, const char *what)
{
	return error_set(err, ERROR_INVALID_ARGUMENT, "malformed HTTP response: %s", what);
}

/* Collects a line in p->line. 1: complete (without its end), 0: more is needed, -1: too long. */
static int take_line(struct http_parser *p, const char *data, size_t len, size_t *used,
		     struct error *err)
{
	const char *nl = memchr(data + *used, '\n', len - *used);
	size_t n = nl ? (size_t)(nl - (data + *used)) : len - *used;

	if (buf_append(&p->line, data + *used, n) < 0)
		return bad(err, "line too long");
	*used += n;
	if (!nl)
		return 0;
	*used += 1;
	if (p->line.len && p->line.data[p->line.len - 1] == '\r')
		p->line.data[--p->line.len] = '\0';
	if (memchr(p->line.data, '\0', p->line.len))
		return bad(err, "NUL in a line");
	return 1;
}

static int parse_status_line(struct http_parser *p, struct error *err)
{
	const char *s = p->line.data;

	if (strncmp(s, "HTTP/1.", 7) != 0 || (s[7] != '0' && s[7] != '1') || s[8] != ' ')
		return bad(err, "status line");
	p->keep_alive = s[7] == '1';
	s += 9;
	for (int i = 0; i < 3; i++)
		if (s[i] < '0' || s[i] > '9')
			return bad(err, "status code");
	if (s[3] != ' ' && s[3] != '\0')
		return bad(err, "status code");
	p->status = (s[0] - '0') * 100 + (s[1] - '0') * 10 + (s[2] - '0');
	if (p->status < 100)
		return bad(err, "status code");
	return 0;
}

static int parse_header_line(struct http_parser *p, struct error *err)
{
	char *colon = strchr(p->line.data, ':');
	char *value;

	if (!colon || colon == p->line.data)
		return bad(err, "header line");
	if (p->headers.n >= HTTP_HEADERS_MAX)
		return bad(err, "too many headers");
	*colon = '\0';
	for (char *c = p->line.data; *c; c++) {
		if (*c <= ' ' || *c == 127)
			return bad(err, "header name");
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	}
	value = colon + 1 + strspn(colon + 1, " \t");
	for (size_t n = strlen(value); n && strchr(" \t", value[n - 1]);)
		value[--n] = '\0';
	kvs_set(&p->headers, p->line.data, value);
	return 0;
}

/* Decides from the headers how the body ends (RFC 9112, 6.3). */
static int begin_body(struct http_parser *p, struct error *err)
{
	const char *length = kvs_get(&p->headers, "content-length");
	const char *coding = kvs_get(&p->headers, "transfer-encoding");
	const char *connection = kvs_get(&p->headers, "connection");

	if (connection && strcasecmp(connection, "close") == 0)
		p->keep_alive = false;
	if (p->status == 101) {
		p->state = HTTP_STATE_UNTIL_CLOSE;
		p->keep_alive = false;
	} else if (p->head_only || p->status == 204 || p->status == 304) {
		p->state = HTTP_STATE_END;
	} else if (coding) {
		if (strcasecmp(coding, "chunked") != 0)
			return bad(err, "unknown transfer encoding");
		p->state = HTTP_STATE_CHUNK_SIZE;
	} else if (length) {
		if (*length < '0' || *length > '9' || parse_uint64(length, &p->remaining) < 0)
			return bad(err, "content length");
		p->state = p->remaining ? HTTP_STATE_BODY : HTTP_STATE_END;
	} else {
		p->state = HTTP_STATE_UNTIL_CLOSE;
		p->keep_alive = false;
	}
	return 0;
}

static int parse_chunk_size(struct http_parser *p, struct error *err)
{
	const char *s = p->line.data;
	uint64_t size = 0;
	int digits = 0;

	for (;; s++, digits++) {
		int d;

		if (*s >= '0' && *s <= '9')
			d = *s - '0';
		else if (*s >= 'a' && *s <= 'f')
			d = *s - 'a' + 10;
		else if (*s >= 'A' && *s <= 'F')
			d = *s - 'A' + 10;
		else
			break;
		if (digits >= 15)
			return bad(err, "chunk size");
		size = size * 16 + (uint64_t)d;
	}
	if (!digits || (*s && *s != ';' && *s != ' '))
		return bad(err, "chunk size");
	p->remaining = size;
	p->state = size ? HTTP_STATE_CHUNK_DATA : HTTP_STATE_TRAILER;
	return 0;
}

/* A complete line in p->line. Returns an event; HTTP_MORE means: go on. */
static int on_line(struct http_parser *p, struct error *err)
{
	switch (p->state) {
	case HTTP_STATE_STATUS:
		if (parse_status_line(p, err) < 0)
			return -1;
		p->state = HTTP_STATE_HEADER;
		return HTTP_MORE;
	case HTTP_STATE_HEADER:
		if (p->line.len)
			return parse_header_line(p, err) < 0 ? -1 : HTTP_MORE;
		if (p->status < 200 && p->status != 101) {
			kvs_done(&p->headers);
			p->state = HTTP_STATE_STATUS;
			return HTTP_MORE;
		}
		return begin_body(p, err) < 0 ? -1 : HTTP_HEAD;
	case HTTP_STATE_CHUNK_SIZE:
		return parse_chunk_size(p, err) < 0 ? -1 : HTTP_MORE;
	case HTTP_STATE_CHUNK_CRLF:
		if (p->line.len)
			return bad(err, "chunk end");
		p->state = HTTP_STATE_CHUNK_SIZE;
		return HTTP_MORE;
	default:
		assert(p->state == HTTP_STATE_TRAILER);
		if (!p->line.len)
			p->state = HTTP_STATE_END;
		return HTTP_MORE;
	}
}

static int take_body(struct http_parser *p, const char *data, size_t len, size_t *used,
		     const char **ret_body, size_t *ret_body_len)
{
	size_t n = len - *used;

	*ret_body = data + *used;
	if (p->state != HTTP_STATE_UNTIL_CLOSE) {
		n = MIN(n, p->remaining);
		p->remaining -= n;
	}
	*ret_body_len = n;
	*used += n;
	if (p->state == HTTP_STATE_BODY && !p->remaining)
		p->state = HTTP_STATE_END;
	else if (p->state == HTTP_STATE_CHUNK_DATA && !p->remaining)
		p->state = HTTP_STATE_CHUNK_CRLF;
	return HTTP_BODY;
}

int http_parser_feed(struct http_parser *p, const char *data, size_t len, size_t *ret_used,
		     const char **ret_body, size_t *ret_body_len, struct error *err)
{
	*ret_used = 0;
	*ret_body = NULL;
	*ret_body_len = 0;
	for (;;) {
		int r;

		if (p->state == HTTP_STATE_END)
			return HTTP_END;
		if (*ret_used == len)
			return HTTP_MORE;
		if (p->state == HTTP_STATE_BODY || p->state == HTTP_STATE_UNTIL_CLOSE ||
		    p->state == HTTP_STATE_CHUNK_DATA)
			return take_body(p, data, len, ret_used, ret_body, ret_body_len);
		r = take_line(p, data, len, ret_used, err);
		if (r <= 0)
			return r < 0 ? -1 : HTTP_MORE;
		r = on_line(p, err);
		buf_clear(&p->line);
		if (r != HTTP_MORE)
			return r;
	}
}

int http_parser_eof(struct http_parser *p, struct error *err)
{
	if (p->state == HTTP_STATE_END || p->state == HTTP_STATE_UNTIL_CLOSE) {
		p->state = HTTP_STATE_END;
		return HTTP_END;
	}
	return error_set(err, ERROR_UNAVAILABLE, "the daemon closed the connection");
}

void url_escape(struct buf *b, const char *s, bool query)
{
	const char *keep = query ? "-_.~" : "-_.~/:@";

	for (; *s; s++) {
		if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
		    (*s >= '0' && *s <= '9') || strchr(keep, *s))
			buf_putc(b, *s);
		else
			buf_printf(b, "%%%02X", (unsigned char)*s);
	}
}

void url_query(struct buf *b, const char *key, const char *value)
{
	if (!value)
		return;
	buf_putc(b, strchr(b->data, '?') ? '&' : '?');
	url_escape(b, key, true);
	buf_putc(b, '=');
	url_escape(b, value, true);
}

char *url_format(const char *fmt, ...)
{
	autobuf struct buf b = BUF_INIT(URL_MAX);
	va_list ap;

	va_start(ap, fmt);
	for (const char *s = fmt; *s; s++) {
		if (s[0] == '{' && s[1] == '}') {
			url_escape(&b, va_arg(ap, const char *), false);
			s++;
		} else {
			buf_putc(&b, *s);
		}
	}
	va_end(ap);
	return buf_steal(&b, NULL);
}
