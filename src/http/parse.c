/* SPDX-License-Identifier: Apache-2.0 */
#include "http/parse.h"

#include "base/hex.h"
#include "base/parse.h"

#include <string.h>
#include <strings.h>

#define CHUNK_OVERHEAD_MAX 8192

size_t http_head_end(const char *text, size_t len, size_t *scan)
{
	for (size_t i = *scan; i < len; i++) {
		const char *nl = memchr(text + i, '\n', len - i);

		if (!nl)
			break;
		i = nl - text;
		if (i + 1 < len && text[i + 1] == '\n')
			return i + 2;
		if (i + 2 < len && text[i + 1] == '\r' && text[i + 2] == '\n')
			return i + 3;
	}
	*scan = len > 3 ? len - 3 : 0;
	return 0;
}

/* RFC 9110 5.6.2 */
static bool is_token(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++) {
		bool alnum = (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') ||
			     (*s >= 'A' && *s <= 'Z');

		if (!alnum && !strchr("!#$%&'*+-.^_`|~", *s))
			return false;
	}
	return true;
}

static bool is_text(const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* Cuts the next line off *p; NULL when none is left. The end has a line feed by construction. */
static char *next_line(char **p, char *end)
{
	char *line = *p;

	if (line >= end)
		return NULL;
	char *nl = memchr(line, '\n', end - line);
	if (!nl)
		return NULL;
	*p = nl + 1;
	if (nl > line && nl[-1] == '\r')
		nl--;
	*nl = '\0';
	return line;
}

static char *trim(char *s)
{
	s += strspn(s, " \t");
	for (size_t n = strlen(s); n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'); n--)
		s[n - 1] = '\0';
	return s;
}

static int parse_request_line(char *line, struct http_head *h, const char **reason)
{
	char *target = strchr(line, ' ');
	char *version = target ? strrchr(target + 1, ' ') : NULL;

	*reason = "malformed request line";
	if (!version)
		return 400;
	*target++ = '\0';
	*version++ = '\0';
	if (!is_token(line) || !*target || strpbrk(target, " \t") || !is_text(target))
		return 400;
	if (strncmp(version, "HTTP/", 5) != 0)
		return 400;
	if (strcmp(version, "HTTP/1.1") == 0) {
		h->minor = 1;
	} else if (strcmp(version, "HTTP/1.0") != 0) {
		*reason = "unsupported HTTP version";
		return 505;
	}
	h->method = line;
	h->target = target;
	h->keep_alive = h->minor == 1;
	return 0;
}

/* Whether a comma-separated list has the token. */
static bool has_token(const char *list, const char *token)
{
	size_t want = strlen(token);

	while (*list) {
		list += strspn(list, ", \t");
		size_t n = strcspn(list, ",");
		size_t used = n;

		while (used > 0 && (list[used - 1] == ' ' || list[used - 1] == '\t'))
			used--;
		if (used == want && strncasecmp(list, token, want) == 0)
			return true;
		list += n;
	}
	return false;
}

static int apply_length(struct http_head *h, const char *value, const char **reason)
{
	uint64_t n;

	*reason = "malformed Content-Length";
	if (!*value || strspn(value, "0123456789") != strlen(value) ||
	    parse_uint64(value, &n) < 0 || n > INT64_MAX)
		return 400;
	if (h->content_length >= 0 && (uint64_t)h->content_length != n)
		return 400;
	h->content_length = (int64_t)n;
	return 0;
}

/* The fields that decide about framing and the connection. */
static int apply_field(struct http_head *h, const char *name, const char *value,
		       const char **reason)
{
	if (strcasecmp(name, "Content-Length") == 0)
		return apply_length(h, value, reason);
	if (strcasecmp(name, "Transfer-Encoding") == 0) {
		*reason = "unsupported Transfer-Encoding";
		if (strcasecmp(value, "chunked") != 0 || h->chunked || h->minor == 0)
			return 501;
		h->chunked = true;
	} else if (strcasecmp(name, "Connection") == 0) {
		if (has_token(value, "close"))
			h->keep_alive = false;
		else if (h->minor == 0 && has_token(value, "keep-alive"))
			h->keep_alive = true;
	} else if (strcasecmp(name, "Expect") == 0) {
		h->expect_continue = strcasecmp(value, "100-continue") == 0;
	} else if (strcasecmp(name, "Upgrade") == 0 && !h->upgrade) {
		h->upgrade = value;
	}
	return 0;
}

static int parse_field(char *line, struct http_head *h, const char **reason)
{
	char *colon = strchr(line, ':');

	*reason = "malformed header";
	if (!colon)
		return 400;
	*colon = '\0';
	char *value = trim(colon + 1);
	if (!is_token(line) || !is_text(value))
		return 400;
	if (h->n_fields == HTTP_FIELDS_MAX) {
		*reason = "too many headers";
		return 431;
	}
	h->fields[h->n_fields++] = (struct http_field){ line, value };
	return apply_field(h, line, value, reason);
}

int http_head_parse(char *text, size_t len, struct http_head *ret, const char **ret_reason)
{
	char *end = text + len;
	char *line;
	int status;

	*ret = (struct http_head){ .content_length = -1 };
	*ret_reason = "malformed request";
	if (len == 0 || end[-1] != '\n' || memchr(text, '\0', len))
		return 400;
	line = next_line(&text, end);
	status = parse_request_line(line, ret, ret_reason);
	while (status == 0 && (line = next_line(&text, end)) && *line)
		status = parse_field(line, ret, ret_reason);
	if (status != 0)
		return status;
	if (ret->chunked && ret->content_length >= 0) {
		*ret_reason = "both Content-Length and Transfer-Encoding";
		return 400;
	}
	if (ret->minor == 1 && !http_head_field(ret, "Host")) {
		*ret_reason = "missing required Host header";
		return 400;
	}
	*ret_reason = NULL;
	return 0;
}

const char *http_head_field(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->n_fields; i++) {
		if (strcasecmp(h->fields[i].name, name) == 0)
			return h->fields[i].value;
	}
	return NULL;
}

int http_percent_decode(char *s, bool plus)
{
	char *out = s;

	for (; *s; s++) {
		if (*s == '%') {
			char pair[3] = { s[1], s[1] ? s[2] : '\0', '\0' };
			char c;

			if (hex_decode(pair, &c, 1) < 0 || c == '\0')
				return -EINVAL;
			*out++ = c;
			s += 2;
		} else {
			*out++ = plus && *s == '+' ? ' ' : *s;
		}
	}
	*out = '\0';
	return 0;
}

void http_body_init(struct http_body *b, const struct http_head *h)
{
	*b = (struct http_body){ .state = HTTP_BODY_END };
	if (h->chunked) {
		b->state = HTTP_BODY_CHUNK_SIZE;
	} else if (h->content_length > 0) {
		b->state = HTTP_BODY_LENGTH;
		b->left = (uint64_t)h->content_length;
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int end_of_chunk_size(struct http_body *b)
{
	if (b->digits == 0)
		return -1;
	b->state = b->left > 0 ? HTTP_BODY_CHUNK_DATA : HTTP_BODY_TRAILER;
	b->line_empty = true;
	b->digits = 0;
	b->overhead = 0;
	return 0;
}

static int feed_chunk_size(struct http_body *b, char c)
{
	int digit = hex_digit(c);

	if (digit >= 0) {
		if (++b->digits > 15)
			return -1;
		b->left = b->left << 4 | (unsigned)digit;
		return 0;
	}
	if (c == '\n')
		return end_of_chunk_size(b);
	if (c != ';' && c != '\r' && c != ' ' && c != '\t')
		return -1;
	b->state = HTTP_BODY_CHUNK_EXTENSION;
	return 0;
}

/* One byte outside of data. */
static int feed_framing(struct http_body *b, char c)
{
	switch (b->state) {
	case HTTP_BODY_CHUNK_SIZE:
		return feed_chunk_size(b, c);
	case HTTP_BODY_CHUNK_EXTENSION:
		if (++b->overhead > CHUNK_OVERHEAD_MAX)
			return -1;
		return c == '\n' ? end_of_chunk_size(b) : 0;
	case HTTP_BODY_CHUNK_DATA_END:
		if (c == '\n') {
			b->state = HTTP_BODY_CHUNK_SIZE;
			return 0;
		}
		return c == '\r' && b->digits++ == 0 ? 0 : -1;
	case HTTP_BODY_TRAILER:
		if (++b->overhead > CHUNK_OVERHEAD_MAX)
			return -1;
		if (c == '\n') {
			if (b->line_empty)
				b->state = HTTP_BODY_END;
			b->line_empty = true;
		} else if (c != '\r') {
			b->line_empty = false;
		}
		return 0;
	default:
		return -1;
	}
}

ssize_t http_body_feed(struct http_body *b, const char *p, size_t n, const char **ret_data,
		       size_t *ret_n)
{
	size_t used = 0;

	*ret_data = p;
	*ret_n = 0;
	while (used < n && b->state != HTTP_BODY_END) {
		if (b->state != HTTP_BODY_LENGTH && b->state != HTTP_BODY_CHUNK_DATA) {
			if (b->state == HTTP_BODY_CHUNK_DATA_END && p[used] == '\n')
				b->digits = 0;
			if (feed_framing(b, p[used++]) < 0)
				return -1;
			continue;
		}
		size_t take = b->left < n - used ? (size_t)b->left : n - used;

		*ret_data = p + used;
		*ret_n = take;
		used += take;
		b->left -= take;
		if (b->left == 0)
			b->state = b->state == HTTP_BODY_LENGTH ? HTTP_BODY_END
								: HTTP_BODY_CHUNK_DATA_END;
		return (ssize_t)used;
	}
	return (ssize_t)used;
}
