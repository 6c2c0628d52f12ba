/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/format.h"

#include "base/mem.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

char *format_ago(int64_t unix_time)
{
	autofree char *s = human_duration(time_realtime() / NSEC_PER_SEC - unix_time);

	return xasprintf("%s ago", s);
}

char *format_time(int64_t unix_time)
{
	time_t t = (time_t)unix_time;
	struct tm tm;
	char s[80];

	if (!localtime_r(&t, &tm) || !strftime(s, sizeof(s), "%Y-%m-%d %H:%M:%S %z %Z", &tm))
		return xstrdup("");
	return xstrdup(s);
}

int64_t format_parse_time(const char *rfc3339)
{
	int64_t ns;

	return rfc3339 && time_parse_rfc3339(rfc3339, &ns) == 0 ? ns / NSEC_PER_SEC : 0;
}

char *format_short_id(const char *id)
{
	const char *colon = strchr(id, ':');

	return xstrndup(colon ? colon + 1 : id, 12);
}

static bool continues(char c)
{
	return (c & 0xc0) == 0x80;
}

static size_t characters(const char *s, size_t n)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += !continues(s[i]);
	return count;
}

char *format_ellipsis(const char *s, size_t max)
{
	size_t n = 0, count = 0;
	autofree char *cut = NULL;

	if (characters(s, strlen(s)) <= max)
		return xstrdup(s);
	while (count + 1 < max) {
		n++;
		while (continues(s[n]))
			n++;
		count++;
	}
	cut = xstrndup(s, n);
	return xasprintf("%s…", cut);
}

char *format_quote(const char *s)
{
	struct buf b = BUF_INIT(BUF_NO_LIMIT);
	static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";

	buf_putc(&b, '"');
	for (; *s; s++) {
		const char *at = strchr(from, *s);

		if (at)
			buf_printf(&b, "\\%c", to[at - from]);
		else if ((unsigned char)*s < ' ' || *s == 127)
			buf_printf(&b, "\\x%02x", (unsigned char)*s);
		else
			buf_putc(&b, *s);
	}
	buf_putc(&b, '"');
	return buf_steal(&b, NULL);
}

static size_t skip_space(const char *p)
{
	return strspn(p, " \t\r\n");
}

/* The length of the string that begins at p. */
static size_t json_string_length(const char *p)
{
	size_t n = 1;

	while (p[n] && p[n] != '"')
		n += p[n] == '\\' && p[n + 1] ? 2 : 1;
	return p[n] ? n + 1 : n;
}

void format_indent(const char *json, struct buf *out)
{
	int depth = 0;

	for (const char *p = json + skip_space(json); *p; p += skip_space(p)) {
		char c = *p;
		size_t n = c == '"' ? json_string_length(p) : 1;
		bool opens = c == '{' || c == '[', closes = c == '}' || c == ']';

		if (closes) {
			depth -= depth > 0;
			buf_printf(out, "\n%*s", 4 * depth, "");
		}
		buf_append(out, p, n);
		p += n;
		if (opens && (p[skip_space(p)] == '}' || p[skip_space(p)] == ']')) {
			p += skip_space(p);
			buf_putc(out, *p++);
		} else if (opens) {
			buf_printf(out, "\n%*s", 4 * ++depth, "");
		} else if (c == ',') {
			buf_printf(out, "\n%*s", 4 * depth, "");
		} else if (c == ':') {
			buf_putc(out, ' ');
		}
	}
	buf_putc(out, '\n');
}

#define TABLE_COLUMNS_MAX 64

void format_table(const char *lines, struct buf *out)
{
	format_table_min(lines, 10, out);
}

void format_table_min(const char *lines, size_t min_width, struct buf *out)
{
	size_t width[TABLE_COLUMNS_MAX] = { 0 };
	size_t col = 0;

	for (const char *p = lines; *p;) {
		size_t n = strcspn(p, "\t\n");

		if (p[n] == '\t' && col < TABLE_COLUMNS_MAX)
			width[col] = MAX(width[col], characters(p, n) + 3);
		col = p[n] == '\t' ? col + 1 : 0;
		p += n + (p[n] != '\0');
	}
	col = 0;
	for (const char *p = lines; *p;) {
		size_t n = strcspn(p, "\t\n");

		buf_append(out, p, n);
		if (p[n] == '\t') {
			size_t w = col < TABLE_COLUMNS_MAX ? width[col] : 0;
			size_t used = characters(p, n);

			w = MAX(w, min_width);
			buf_printf(out, "%*s", w > used ? (int)(w - used) : 1, "");
			col++;
		} else {
			buf_putc(out, '\n');
			col = 0;
		}
		p += n + (p[n] != '\0');
	}
}
