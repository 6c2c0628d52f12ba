/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/toml-lex.h"
#include "base/mem.h"
#include "base/parse.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#define SCALAR_MAX 100

int toml_fail(const struct toml_lex *l, const char *fmt, ...)
{
	size_t line = 1;
	const char *line_start = l->start;
	va_list ap;

	for (const char *p = l->start; p < l->p; p++) {
		if (*p == '\n') {
			line++;
			line_start = p + 1;
		}
	}
	va_start(ap, fmt);
	autofree char *text = xvasprintf(fmt, ap);
	va_end(ap);
	return error_set(l->err, ERROR_INVALID_ARGUMENT, "line %zu, column %zu: %s", line,
			 (size_t)(l->p - line_start) + 1, text);
}

/* Length of the UTF-8 sequence at p, 0 when it is none (overlong, surrogate, cut). */
static size_t utf8_len(const char *p, const char *end)
{
	const unsigned char *s = (const unsigned char *)p;
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (n == 0 || s[0] > 0xf4 || (size_t)(end - p) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

int toml_check_text(struct toml_lex *l)
{
	const char *begin = l->p;

	while (l->p < l->end) {
		unsigned char c = (unsigned char)*l->p;
		size_t n = utf8_len(l->p, l->end);

		if (n == 0)
			return toml_fail(l, "invalid UTF-8");
		if (c == '\r' && !(l->end - l->p > 1 && l->p[1] == '\n'))
			return toml_fail(l, "carriage return without a newline");
		if ((c < 0x20 && !strchr("\t\r\n", c)) || c == 0 || c == 0x7f)
			return toml_fail(l, "control character");
		l->p += n;
	}
	l->p = begin;
	return 0;
}

void toml_skip_blanks(struct toml_lex *l)
{
	while (toml_peek(l) == ' ' || toml_peek(l) == '\t')
		l->p++;
}

static void skip_comment(struct toml_lex *l)
{
	if (toml_peek(l) != '#')
		return;
	while (l->p < l->end && *l->p != '\n' && *l->p != '\r')
		l->p++;
}

static bool take_newline(struct toml_lex *l)
{
	if (toml_peek(l) == '\r')
		l->p++; /* a newline follows, that has been checked */
	if (toml_peek(l) != '\n')
		return false;
	l->p++;
	return true;
}

void toml_skip_lines(struct toml_lex *l)
{
	do {
		toml_skip_blanks(l);
		skip_comment(l);
	} while (take_newline(l));
}

int toml_end_line(struct toml_lex *l)
{
	toml_skip_blanks(l);
	skip_comment(l);
	if (l->p == l->end || take_newline(l))
		return 0;
	return toml_fail(l, "expected the end of the line");
}

static void put_utf8(struct buf *b, uint32_t c)
{
	char out[4];
	size_t n = 0;

	if (c < 0x80) {
		out[n++] = (char)c;
	} else if (c < 0x800) {
		out[n++] = (char)(0xc0 | c >> 6);
	} else if (c < 0x10000) {
		out[n++] = (char)(0xe0 | c >> 12);
		out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
	} else {
		out[n++] = (char)(0xf0 | c >> 18);
		out[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
	}
	if (c >= 0x80)
		out[n++] = (char)(0x80 | (c & 0x3f));
	buf_append(b, out, n);
}

static int take_unicode(struct toml_lex *l, int digits, struct buf *b)
{
	uint32_t c = 0;

	for (int i = 0; i < digits; i++, l->p++) {
		static const char hex[] = "0123456789abcdef";
		char d = toml_peek(l);
		const char *at = d ? strchr(hex, d >= 'A' && d <= 'F' ? d | 0x20 : d) : NULL;

		if (!at)
			return toml_fail(l, "expected %d hexadecimal digits", digits);
		c = c << 4 | (uint32_t)(at - hex);
	}
	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return toml_fail(l, "not a Unicode scalar value");
	if (c == 0)
		return toml_fail(l, "NUL in a string");
	put_utf8(b, c);
	return 0;
}

/* What follows a backslash. */
static int take_escape(struct toml_lex *l, struct buf *b)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	char c = toml_peek(l);
	const char *at = c ? strchr(from, c) : NULL;

	if (at) {
		l->p++;
		buf_putc(b, to[at - from]);
		return 0;
	}
	if (c != 'u' && c != 'U')
		return toml_fail(l, "unknown escape");
	l->p++;
	return take_unicode(l, c == 'u' ? 4 : 8, b);
}

/* A backslash at the end of a line takes all blanks and newlines after it. */
static bool take_line_continuation(struct toml_lex *l)
{
	const char *before = l->p;

	toml_skip_blanks(l);
	if (!take_newline(l)) {
		l->p = before;
		return false;
	}
	do
		toml_skip_blanks(l);
	while (take_newline(l));
	return true;
}

static int single_line_string(struct toml_lex *l, char quote, struct buf *b)
{
	for (;;) {
		char c = toml_peek(l);

		if (c == '\0' || c == '\n' || c == '\r')
			return toml_fail(l, "unterminated string");
		l->p++;
		if (c == quote)
			return 0;
		if (c == '\\' && quote == '"') {
			if (take_escape(l, b) < 0)
				return -1;
		} else {
			buf_putc(b, c);
		}
	}
}

static size_t count_quotes(const struct toml_lex *l, char quote)
{
	size_t n = 0;

	while (l->p + n < l->end && l->p[n] == quote)
		n++;
	return n;
}

static int multi_line_string(struct toml_lex *l, char quote, struct buf *b)
{
	take_newline(l); /* one right after the opening is not part of it */
	for (;;) {
		size_t quotes = count_quotes(l, quote);
		char c = toml_peek(l);

		if (c == '\0')
			return toml_fail(l, "unterminated string");
		if (quotes >= 3) {
			/* Up to two quotes may stand before the closing ones. */
			if (quotes > 5)
				return toml_fail(l, "too many quotes");
			buf_append(b, l->p, quotes - 3);
			l->p += quotes;
			return 0;
		}
		l->p++;
		if (c == '\\' && quote == '"') {
			if (!take_line_continuation(l) && take_escape(l, b) < 0)
				return -1;
		} else if (c != '\r' || toml_peek(l) != '\n') {
			buf_putc(b, c);
		}
	}
}

int toml_string(struct toml_lex *l, bool multi_line, char **ret)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT); /* no longer than the document */
	char quote = *l->p;
	size_t quotes = count_quotes(l, quote);
	int r;

	if (quotes >= 3 && multi_line) {
		l->p += 3;
		r = multi_line_string(l, quote, &b);
	} else {
		l->p++;
		r = single_line_string(l, quote, &b);
	}
	if (r == 0)
		*ret = buf_steal(&b, NULL);
	return r;
}

static bool is_bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

int toml_key_part(struct toml_lex *l, char **ret)
{
	const char *from = l->p;

	if (toml_peek(l) == '"' || toml_peek(l) == '\'')
		return toml_string(l, /* multi_line= */ false, ret);
	while (is_bare(toml_peek(l)))
		l->p++;
	if (l->p == from)
		return toml_fail(l, "expected a key");
	*ret = xstrndup(from, (size_t)(l->p - from));
	return 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Exactly the shape: d is a digit, all else itself. Advances. */
static bool take_shape(const char **s, const char *shape)
{
	const char *p = *s;

	for (; *shape; shape++, p++)
		if (*shape == 'd' ? !is_digit(*p) : *p != *shape)
			return false;
	*s = p;
	return true;
}

static int two(const char *s)
{
	return (s[0] - '0') * 10 + s[1] - '0';
}

static bool date_ok(const char *s)
{
	static const char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year = two(s) * 100 + two(s + 2), month = two(s + 5), day = two(s + 8);
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month >= 1 && month <= 12 && day >= 1 &&
	       day <= days[month - 1] + (month == 2 && leap);
}

static bool take_time(const char **s)
{
	const char *p = *s;

	if (!take_shape(s, "dd:dd:dd") || two(p) > 23 || two(p + 3) > 59 || two(p + 6) > 60)
		return false;
	if (**s != '.')
		return true;
	(*s)++;
	if (!is_digit(**s))
		return false;
	while (is_digit(**s))
		(*s)++;
	return true;
}

/* Date, time or both, with an offset only when there are both. */
static bool is_date_time(const char *s)
{
	const char *p = s;

	if (!take_shape(&p, "dddd-dd-dd"))
		return take_time(&p) && !*p;
	if (!date_ok(s))
		return false;
	if (!*p)
		return true;
	if (!strchr("Tt ", *p))
		return false;
	p++;
	if (!take_time(&p))
		return false;
	if (*p == 'Z' || *p == 'z')
		return !p[1];
	if (*p == '+' || *p == '-') {
		const char *zone = ++p;

		if (!take_shape(&p, "dd:dd") || two(zone) > 23 || two(zone + 3) > 59)
			return false;
	}
	return !*p;
}

/* Drops underscores that stand between digits; false for one that stands elsewhere. */
static bool strip_underscores(char *s, const char *digits)
{
	char *out = s;

	for (char *p = s; *p; p++) {
		if (*p != '_') {
			*out++ = *p;
			continue;
		}
		if (p == s || !strchr(digits, p[-1]) || !p[1] || !strchr(digits, p[1]))
			return false;
	}
	*out = '\0';
	return true;
}

static struct json *based_integer(char *s)
{
	static const struct {
		char mark;
		const char *digits;
		unsigned base;
	} bases[] = {
		{ 'x', "0123456789abcdefABCDEF", 16 },
		{ 'o', "01234567", 8 },
		{ 'b', "01", 2 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		uint64_t v = 0;

		if (s[1] != bases[i].mark)
			continue;
		s += 2;
		if (!*s || !strip_underscores(s, bases[i].digits) || s[strspn(s, bases[i].digits)])
			return NULL;
		for (; *s; s++) {
			char c = *s > '9' ? (char)((*s | 0x20) - 'a' + 10) : (char)(*s - '0');

			if (v > (uint64_t)INT64_MAX / bases[i].base)
				return NULL;
			v = v * bases[i].base + (unsigned)c;
		}
		return v <= INT64_MAX ? json_new_int((int64_t)v) : NULL;
	}
	return NULL;
}

/* digits [. digits] [e [sign] digits], no superfluous zero in front. */
static bool decimal_shape(const char *s, bool *ret_float)
{
	size_t n;

	*ret_float = false;
	s += *s == '-' || *s == '+';
	n = strspn(s, "0123456789");
	if (n == 0 || (*s == '0' && n > 1))
		return false;
	s += n;
	if (*s == '.') {
		*ret_float = true;
		n = strspn(++s, "0123456789");
		if (n == 0)
			return false;
		s += n;
	}
	if (*s == 'e' || *s == 'E') {
		*ret_float = true;
		s++;
		s += *s == '-' || *s == '+';
		n = strspn(s, "0123456789");
		if (n == 0)
			return false;
		s += n;
	}
	return !*s;
}

static struct json *number(char *s)
{
	const char *bare = s + (*s == '-' || *s == '+');
	bool is_float;
	int64_t i;
	double d;

	if (strcmp(bare, "inf") == 0)
		return json_new_double(*s == '-' ? -INFINITY : INFINITY);
	if (strcmp(bare, "nan") == 0)
		return json_new_double(NAN);
	if (s[0] == '0' && s[1] && strchr("xob", s[1]))
		return based_integer(s);
	if (!strip_underscores(s, "0123456789") || !decimal_shape(s, &is_float))
		return NULL;
	if (!is_float)
		return parse_int64(s, &i) == 0 ? json_new_int(i) : NULL;
	return parse_double(s, &d) == 0 ? json_new_double(d) : NULL;
}

/* RFC 3339 as everybody else writes it. */
static struct json *date_time(char *s)
{
	for (char *p = s; *p; p++) {
		if (*p == ' ' || *p == 't')
			*p = 'T';
		else if (*p == 'z')
			*p = 'Z';
	}
	return json_new_string(s);
}

static bool is_scalar_char(char c)
{
	return is_bare(c) || c == '+' || c == '.' || c == ':';
}

/* The text of a scalar; a date and a time may have one space between them. */
static char *scalar_text(const struct toml_lex *l)
{
	size_t n = 0, room = (size_t)(l->end - l->p);

	while (n < room && is_scalar_char(l->p[n]))
		n++;
	if (n == strlen("2006-01-02") && room > n + 2 && l->p[4] == '-' && l->p[n] == ' ' &&
	    is_digit(l->p[n + 1]))
		for (n++; n < room && is_scalar_char(l->p[n]); n++)
			;
	return xstrndup(l->p, n);
}

int toml_scalar(struct toml_lex *l, struct json **ret)
{
	autofree char *s = scalar_text(l);
	size_t n = strlen(s);

	if (n == 0)
		return toml_fail(l, "expected a value");
	if (n > SCALAR_MAX)
		return toml_fail(l, "value is too long");
	if (strcmp(s, "true") == 0 || strcmp(s, "false") == 0)
		*ret = json_new_bool(*s == 't');
	else if (is_date_time(s))
		*ret = date_time(s);
	else
		*ret = number(s);
	if (!*ret)
		return toml_fail(l, "invalid value '%s'", s);
	l->p += n;
	return 0;
}
