/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is made in a bounded buffer on the stack and leaves in one write, so that lines of threads
 * and processes that share the descriptor do not mix. What is too long is cut.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 8192
#define CONTEXT_MAX 256

enum style { STYLE_TEXT, STYLE_TTY, STYLE_JOURNAL, STYLE_JSON };

static const char *const level_names[] = {
	[LOG_ERR] = "error",
	[LOG_WARN] = "warn",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

static const char program_default[] = "kistl";
static const char *program = program_default;
static _Atomic enum log_level level_max = LOG_INFO;
static enum style style = STYLE_TEXT;
static __thread char context[CONTEXT_MAX];

struct line {
	char data[LINE_MAX_BYTES];
	size_t len;
};

static void put_char(struct line *l, char c)
{
	/* Room is kept for the end of the line. */
	if (l->len < sizeof(l->data) - 8)
		l->data[l->len++] = c;
}

static void put(struct line *l, const char *s)
{
	while (*s)
		put_char(l, *s++);
}

/* One line stays one line, and nobody's bytes drive the terminal. */
static void put_clean(struct line *l, const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			put(l, "\\n");
		else if ((unsigned char)*s < 0x20 || *s == 0x7f)
			put_char(l, '?');
		else
			put_char(l, *s);
	}
}

static void put_json_n(struct line *l, const char *s, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	put_char(l, '"');
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		/* Whole escapes only, or a cut line would not be JSON. */
		if (l->len > sizeof(l->data) - 64)
			break;
		if (c == '"' || c == '\\') {
			put_char(l, '\\');
			put_char(l, (char)c);
		} else if (c < 0x20) {
			put(l, "\\u00");
			put_char(l, digits[c >> 4]);
			put_char(l, digits[c & 15]);
		} else {
			put_char(l, (char)c);
		}
	}
	put_char(l, '"');
}

static void put_json_member(struct line *l, const char *key, size_t key_len, const char *value,
			    size_t value_len)
{
	if (l->data[l->len - 1] != '{')
		put_char(l, ',');
	put_json_n(l, key, key_len);
	put_char(l, ':');
	put_json_n(l, value, value_len);
}

/* "container=x op=start" as members. */
static void put_json_context(struct line *l, const char *fields)
{
	while (*fields) {
		size_t n = strcspn(fields, " ");
		const char *eq = memchr(fields, '=', n);

		if (eq)
			put_json_member(l, fields, (size_t)(eq - fields), eq + 1,
					n - (size_t)(eq - fields) - 1);
		fields += n + strspn(fields + n, " ");
	}
}

static void render_json(struct line *l, const char *now, enum log_level level, const char *msg)
{
	put_char(l, '{');
	put_json_member(l, "time", 4, now, strlen(now));
	put_json_member(l, "level", 5, level_names[level], strlen(level_names[level]));
	put_json_member(l, "program", 7, program, strlen(program));
	put_json_context(l, context);
	put_json_member(l, "msg", 3, msg, strlen(msg));
	/* put_char() kept this room. */
	l->data[l->len++] = '}';
}

static void render_text(struct line *l, const char *now, enum log_level level, const char *msg)
{
	static const char journal_levels[] = "3467";

	if (style == STYLE_JOURNAL) {
		put_char(l, '<');
		put_char(l, journal_levels[level]);
		put_char(l, '>');
	} else {
		put(l, now);
		put_char(l, ' ');
		put(l, program);
		put_char(l, ' ');
		put(l, level_names[level]);
		put(l, ": ");
	}
	put_clean(l, msg);
	if (*context) {
		put_char(l, ' ');
		put_clean(l, context);
	}
}

void log_setup(const char *name, enum log_level level, enum log_format format)
{
	program = name;
	level_max = level;
	if (format == LOG_FORMAT_JSON)
		style = STYLE_JSON;
	else if (format == LOG_FORMAT_TEXT)
		style = STYLE_TEXT;
	else if (isatty(STDERR_FILENO))
		style = STYLE_TTY;
	else
		style = getenv("JOURNAL_STREAM") ? STYLE_JOURNAL : STYLE_TEXT;
}

void log_set_level(enum log_level level)
{
	level_max = level;
}

int log_level_parse(const char *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
		if (strcmp(s, level_names[i]) == 0)
			return (int)i;
	return -EINVAL;
}

bool log_enabled(enum log_level level)
{
	return level <= level_max;
}

void log_context(const char *fields)
{
	snprintf(context, sizeof(context), "%s", fields ? fields : "");
}

void log_write(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	char msg[LINE_MAX_BYTES - 512], now[TIME_RFC3339_MAX];
	struct line line;
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	line.len = 0;
	time_format_rfc3339_fixed(time_realtime(), now);
	if (style == STYLE_JSON) {
		render_json(&line, now, level, msg);
	} else {
		/* People read the clock, files keep the date. */
		now[23] = '\0';
		render_text(&line, style == STYLE_TTY ? now + 11 : now, level, msg);
	}
	line.data[line.len++] = '\n';
	ssize_t n = write(STDERR_FILENO, line.data, line.len);

	(void)n; /* there is nobody to tell */
	errno = saved;
}
