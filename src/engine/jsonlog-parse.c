/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A parser for this one shape of line, an object of strings, since a log's text may hold NULs
 * (which base/json.h does not give out) and there are millions of them.
 */

#include "base/time.h"
#include "engine/jsonlog.h"

#include <ctype.h>
#include <string.h>

#define ATTRS_MAX ((size_t)128 << 10)

struct cursor {
	const char *p, *end;
};

static void skip_space(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
		c->p++;
}

static bool eat(struct cursor *c, char want)
{
	skip_space(c);
	if (c->p == c->end || *c->p != want)
		return false;
	c->p++;
	return true;
}

static int parse_hex4(struct cursor *c, uint32_t *ret)
{
	uint32_t v = 0;

	if (c->end - c->p < 4)
		return -EINVAL;
	for (int i = 0; i < 4; i++, c->p++) {
		char h = *c->p;

		v <<= 4;
		if (h >= '0' && h <= '9')
			v |= (uint32_t)(h - '0');
		else if (h >= 'a' && h <= 'f')
			v |= (uint32_t)(h - 'a' + 10);
		else if (h >= 'A' && h <= 'F')
			v |= (uint32_t)(h - 'A' + 10);
		else
			return -EINVAL;
	}
	*ret = v;
	return 0;
}

static int put_utf8(struct buf *b, uint32_t c)
{
	char out[4];
	size_t n;

	if (c < 0x80) {
		out[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		n = 2;
	} else if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		n = 3;
	} else {
		out[0] = (char)(0xf0 | c >> 18);
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		out[i] = (char)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3f));
	return buf_append(b, out, n);
}

/* After the backslash and the u. A surrogate without its other half becomes U+FFFD. */
static int parse_unicode(struct cursor *c, struct buf *b)
{
	uint32_t high, low;

	if (parse_hex4(c, &high) < 0)
		return -EINVAL;
	if (high < 0xd800 || high > 0xdfff)
		return put_utf8(b, high);
	struct cursor ahead = *c;
	if (high < 0xdc00 && ahead.end - ahead.p >= 6 && ahead.p[0] == '\\' && ahead.p[1] == 'u') {
		ahead.p += 2;
		if (parse_hex4(&ahead, &low) == 0 && low >= 0xdc00 && low <= 0xdfff) {
			*c = ahead;
			return put_utf8(b, 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
		}
	}
	return put_utf8(b, 0xfffd);
}

static int parse_escape(struct cursor *c, struct buf *b)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

	if (c->p == c->end)
		return -EINVAL;
	char e = *c->p++;
	if (e == 'u')
		return parse_unicode(c, b);
	const char *at = memchr(from, e, sizeof(from) - 1);
	return at ? buf_putc(b, to[at - from]) : -EINVAL;
}

static int parse_string(struct cursor *c, struct buf *b)
{
	if (!eat(c, '"'))
		return -EINVAL;
	while (c->p < c->end) {
		const char *from = c->p;

		while (c->p < c->end && *c->p != '"' && *c->p != '\\')
			c->p++;
		if (buf_append(b, from, (size_t)(c->p - from)) < 0 || c->p == c->end)
			return -EINVAL;
		if (*c->p++ == '"')
			return 0;
		if (parse_escape(c, b) < 0)
			return -EINVAL;
	}
	return -EINVAL;
}

/* As in a URL's query. */
static int put_escaped(struct cursor *c, struct buf *out)
{
	autobuf struct buf text = BUF_INIT(ATTRS_MAX);

	if (parse_string(c, &text) < 0)
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char ch = (unsigned char)text.data[i];

		if (isalnum(ch) || (ch && strchr("-_.~", ch)))
			buf_putc(out, (char)ch);
		else if (ch == ' ')
			buf_putc(out, '+');
		else
			buf_printf(out, "%%%02X", ch);
	}
	return out->overflow ? -EINVAL : 0;
}

/* {"k":"v",...} as "k=v,k2=v2", as `docker logs --details` shows it. */
static int parse_attrs(struct cursor *c, struct buf *attrs)
{
	if (!eat(c, '{'))
		return -EINVAL;
	if (eat(c, '}'))
		return 0;
	do {
		if (attrs->len > 0)
			buf_putc(attrs, ',');
		if (put_escaped(c, attrs) < 0 || !eat(c, ':'))
			return -EINVAL;
		buf_putc(attrs, '=');
		if (put_escaped(c, attrs) < 0)
			return -EINVAL;
	} while (eat(c, ','));
	return eat(c, '}') ? 0 : -EINVAL;
}

static int parse_member(struct cursor *c, struct buf *text, struct buf *attrs, struct log_line *ret,
			bool *has_time)
{
	autobuf struct buf key = BUF_INIT(64);
	autobuf struct buf value = BUF_INIT(64);

	if (parse_string(c, &key) < 0 || !eat(c, ':'))
		return -EINVAL;
	if (strcmp(key.data, "log") == 0) {
		buf_clear(text);
		return parse_string(c, text);
	}
	if (strcmp(key.data, "attrs") == 0) {
		buf_clear(attrs);
		return parse_attrs(c, attrs);
	}
	if (parse_string(c, &value) < 0)
		return -EINVAL;
	if (strcmp(key.data, "stream") == 0)
		ret->is_stderr = strcmp(value.data, "stderr") == 0;
	if (strcmp(key.data, "time") == 0) {
		if (time_parse_rfc3339(value.data, &ret->time) < 0)
			return -EINVAL;
		*has_time = true;
	}
	return 0;
}

int jsonlog_parse(const char *line, size_t len, struct buf *text, struct log_line *ret)
{
	struct cursor c = { .p = line, .end = line + len };
	autobuf struct buf attrs = BUF_INIT(ATTRS_MAX);
	bool has_time = false;
	size_t text_len;

	*ret = (struct log_line){ 0 };
	buf_clear(text);
	if (!eat(&c, '{'))
		return -EINVAL;
	do {
		if (parse_member(&c, text, &attrs, ret, &has_time) < 0)
			return -EINVAL;
	} while (eat(&c, ','));
	if (!eat(&c, '}') || !has_time)
		return -EINVAL;
	skip_space(&c);
	if (c.p != c.end)
		return -EINVAL;
	/* Both live in the caller's buffer, a NUL between them. */
	text_len = text->len;
	if (buf_putc(text, '\0') < 0 || buf_append(text, attrs.data, attrs.len) < 0)
		return -EINVAL;
	ret->data = text->data;
	ret->len = text_len;
	ret->attrs = text->data + text_len + 1;
	return 0;
}
