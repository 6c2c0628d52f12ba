/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include "base/mem.h"
#include "cli/format.h"

#include <string.h>

#define BAR_WIDTH 50

void progress_init(struct progress *p, bool terminal, unsigned width)
{
	*p = (struct progress){ .terminal = terminal, .width = width, .lines = MAP_INIT };
}

void progress_done(struct progress *p)
{
	map_done(&p->lines);
}

void progress_bar(const struct json *detail, unsigned width, struct buf *out)
{
	int64_t current = json_get_int(detail, "current", 0);
	int64_t total = json_get_int(detail, "total", 0);
	const char *units = json_get_string(detail, "units");
	bool hide_counts = json_get_bool(detail, "hidecounts", false);
	autofree char *now = NULL;
	autofree char *all = NULL;
	int done;

	if (current <= 0 && total <= 0)
		return;
	now = str_empty(units) ? human_size((double)current, 4)
			       : xasprintf("%lld %s", (long long)current, units);
	if (total <= 0) {
		buf_printf(out, "%8s", now);
		return;
	}
	all = str_empty(units) ? human_size((double)total, 4)
			       : xasprintf("%lld", (long long)total);
	done = (int)((double)current / (double)total * 100) / 2;
	done = MIN(done, BAR_WIDTH);
	done = MAX(done, 0);
	if (width > 110) {
		buf_putc(out, '[');
		for (int i = 0; i < done; i++)
			buf_putc(out, '=');
		buf_printf(out, ">%*s] ", BAR_WIDTH - done, "");
	}
	if (hide_counts)
		return;
	if (current > total)
		buf_printf(out, "%8s", now);
	else
		buf_printf(out, "%8s/%s", now, all);
}

/* Text that a terminal must not take for commands. */
static void put_text(struct buf *out, const char *s)
{
	for (; s && *s; s++)
		if ((unsigned char)*s >= ' ' || *s == '\n' || *s == '\t' || *s == '\r')
			buf_putc(out, *s);
}

/* The line of an id counted from the top; a new one begins with an empty line. */
static size_t line_of(struct progress *p, const char *id, struct buf *out)
{
	uintptr_t line = (uintptr_t)map_get(&p->lines, id);

	if (line)
		return line - 1;
	if (p->n_lines >= PROGRESS_IDS_MAX)
		return p->n_lines - 1;
	map_set(&p->lines, id, (void *)(p->n_lines + 1));
	buf_putc(out, '\n');
	return p->n_lines++;
}

static void show_plain(const struct json *m, const char *id, struct buf *out)
{
	const char *stream = json_get_string(m, "stream");

	if (stream) {
		put_text(out, stream);
		return;
	}
	if (!str_empty(id)) {
		put_text(out, id);
		buf_puts(out, ": ");
	}
	put_text(out, json_get_string(m, "status"));
	buf_putc(out, '\n');
}

static void show_in_place(struct progress *p, const struct json *m, const char *id,
			  const struct json *detail, struct buf *out)
{
	size_t line = line_of(p, id, out);
	size_t up = p->n_lines - line;

	buf_printf(out, "\x1b[%zuA\x1b[2K\r", up);
	put_text(out, id);
	buf_puts(out, ": ");
	put_text(out, json_get_string(m, "status"));
	buf_putc(out, ' ');
	progress_bar(detail, p->width, out);
	buf_printf(out, "\r\x1b[%zuB", up);
}

int progress_message(struct progress *p, const struct json *message, struct buf *out,
		     struct error *err)
{
	const char *text = json_get_string(json_get(message, "errorDetail"), "message");
	const char *id = json_get_string(message, "id");
	const struct json *detail = json_get(message, "progressDetail");

	if (!text)
		text = json_get_string(message, "error");
	if (text)
		return error_set(err, ERROR_UNKNOWN, "%s", text);
	if (!json_get_string(message, "status") && !json_get_string(message, "stream"))
		return 0;
	if (!detail || str_empty(id)) {
		/* What follows begins a block of lines of its own. */
		map_done(&p->lines);
		p->lines = MAP_INIT;
		p->n_lines = 0;
		show_plain(message, id, out);
	} else if (p->terminal) {
		show_in_place(p, message, id, detail, out);
	} else if (json_get_int(detail, "current", 0) <= 0 &&
		   json_get_int(detail, "total", 0) <= 0) {
		show_plain(message, id, out);
	}
	return 0;
}
