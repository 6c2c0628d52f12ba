/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/log-line.h"

#include "base/mem.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

static void give_out(struct log_cutter *c, const char *p, size_t n, bool complete, log_line_fn fn,
		     void *arg)
{
	fn(&(struct log_line){ n ? p : "", n, complete, c->time }, arg);
	c->len = 0;
	c->continues = !complete;
}

static size_t limit_of(const struct log_cutter *c)
{
	return c->max > 0 ? MIN(c->max, LOG_LINE_CEILING) : LOG_LINE_MAX;
}

static void make_room(struct log_cutter *c, size_t n)
{
	if (c->len + n <= c->room)
		return;
	c->room = MIN(MAX(MAX(c->room * 2, LOG_LINE_MAX), c->len + n), limit_of(c));
	c->pending = xreallocarray(c->pending, c->room, 1);
}

/* Adds to what is pending; gives out a piece whenever it is full. */
static void stash(struct log_cutter *c, const char *p, size_t n, log_line_fn fn, void *arg)
{
	while (n > 0) {
		size_t take = MIN(n, limit_of(c) - c->len);

		make_room(c, take);
		memcpy(c->pending + c->len, p, take);
		c->len += take;
		p += take;
		n -= take;
		if (c->len == limit_of(c))
			give_out(c, c->pending, c->len, /* complete= */ false, fn, arg);
	}
}

void log_cutter_feed(struct log_cutter *c, const char *p, size_t n, int64_t now, log_line_fn fn,
		     void *arg)
{
	const char *end = p + n;

	while (p < end) {
		const char *newline = memchr(p, '\n', (size_t)(end - p));
		size_t len = (size_t)((newline ? newline : end) - p);

		if (c->len == 0 && !c->continues)
			c->time = now;
		if (newline && c->len == 0 && len < limit_of(c)) {
			give_out(c, p, len, /* complete= */ true, fn, arg);
		} else {
			stash(c, p, len, fn, arg);
			if (newline)
				give_out(c, c->pending, c->len, /* complete= */ true, fn, arg);
		}
		p += len + (newline != NULL);
	}
	if (c->len == 0)
		log_cutter_done(c);
}

void log_cutter_end(struct log_cutter *c, log_line_fn fn, void *arg)
{
	if (c->len > 0)
		give_out(c, c->pending, c->len, /* complete= */ false, fn, arg);
	c->continues = false;
	log_cutter_done(c);
}

void log_cutter_done(struct log_cutter *c)
{
	free(c->pending);
	c->pending = NULL;
	c->len = c->room = 0;
}

/* Length of the valid UTF-8 sequence at p, 0 if there is none. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
	static const struct {
		unsigned char mask, lead, lo, hi;
		size_t len;
	} forms[] = {
		{ 0xff, 0xe0, 0xa0, 0xbf, 3 }, { 0xff, 0xed, 0x80, 0x9f, 3 },
		{ 0xff, 0xf0, 0x90, 0xbf, 4 }, { 0xff, 0xf4, 0x80, 0x8f, 4 },
		{ 0xe0, 0xc0, 0x80, 0xbf, 2 }, { 0xf0, 0xe0, 0x80, 0xbf, 3 },
		{ 0xfc, 0xf0, 0x80, 0xbf, 4 },
	};

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if ((p[0] & forms[i].mask) != forms[i].lead)
			continue;
		if (n < forms[i].len || p[1] < forms[i].lo || p[1] > forms[i].hi)
			return 0;
		for (size_t k = 2; k < forms[i].len; k++)
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].len;
	}
	return 0;
}

static bool is_plain(unsigned char ch)
{
	return ch >= 0x20 && ch < 0x80 && ch != '"' && ch != '\\' && ch != '<' && ch != '>' &&
	       ch != '&';
}

/* As Go's encoding of a string with HTML escaping, which dockerd uses. */
static void put_escaped(struct buf *out, const unsigned char *p, size_t n)
{
	while (n > 0) {
		size_t plain = 0;

		while (plain < n && is_plain(p[plain]))
			plain++;
		if (plain > 0) {
			buf_append(out, p, plain);
			p += plain;
			n -= plain;
			continue;
		}
		size_t len = utf8_length(p, n);
		if (len == 0) {
			buf_puts(out, "\\ufffd");
			len = 1;
		} else if (len == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] & 0xfe) == 0xa8) {
			buf_printf(out, "\\u202%x", p[2] & 0xf);
		} else if (len > 1) {
			buf_append(out, p, len);
		} else if (*p == '"' || *p == '\\') {
			buf_putc(out, '\\');
			buf_putc(out, (char)*p);
		} else if (*p == '\r') {
			buf_puts(out, "\\r");
		} else {
			buf_printf(out, "\\u%04x", *p);
		}
		p += len;
		n -= len;
	}
}

void log_format_json(struct buf *out, const struct log_line *line, const char *stream,
		     const char *attrs)
{
	char when[TIME_RFC3339_MAX];

	time_format_rfc3339(line->time, when);
	buf_puts(out, "{\"log\":\"");
	put_escaped(out, (const unsigned char *)line->data, line->len);
	if (line->complete)
		buf_puts(out, "\\n");
	buf_puts(out, "\",\"stream\":\"");
	buf_puts(out, stream);
	if (attrs) {
		buf_puts(out, "\",\"attrs\":");
		buf_puts(out, attrs);
		buf_puts(out, ",\"time\":\"");
	} else {
		buf_puts(out, "\",\"time\":\"");
	}
	buf_puts(out, when);
	buf_puts(out, "\"}\n");
}

void log_format_cri(struct buf *out, const struct log_line *line, const char *stream)
{
	size_t len = line->len;
	char when[TIME_RFC3339_MAX];

	time_format_rfc3339_fixed(line->time, when);
	buf_puts(out, when);
	buf_putc(out, ' ');
	buf_puts(out, stream);
	buf_puts(out, line->complete ? " F " : " P ");
	if (line->complete && len > 0 && line->data[len - 1] == '\r')
		len--;
	buf_append(out, line->data, len);
	buf_putc(out, '\n');
}
