#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Container output to log lines, sans-IO: cutting a stream into lines of at most 16 KiB (if nobody
 * asks for another limit), and
 * writing a line in Docker's json-file or in the CRI's format.
 */

#include "base/buf.h"

#define LOG_LINE_MAX ((size_t)16 << 10)
/* The most that can be asked for in its place. */
#define LOG_LINE_CEILING ((size_t)1 << 20)

struct log_line {
	const char *data; /* without its newline */
	size_t len;
	bool complete; /* a newline ended it; false: a piece of a longer line, or the stream's end
			*/
	int64_t time;  /* that of the line's first piece */
};

/* Keeps what is not a line yet; allocates only then. */
struct log_cutter {
	size_t max;    /* of a line's piece; 0: LOG_LINE_MAX */
	char *pending; /* NULL: nothing */
	size_t len, room;
	bool continues; /* pieces of the present line have been given out */
	int64_t time;
};

typedef void (*log_line_fn)(const struct log_line *line, void *arg);

void log_cutter_feed(struct log_cutter *c, const char *p, size_t n, int64_t now, log_line_fn fn,
		     void *arg);
/* The stream has ended: gives out what is left. */
void log_cutter_end(struct log_cutter *c, log_line_fn fn, void *arg);
void log_cutter_done(struct log_cutter *c);

/* attrs (may be NULL): a JSON object.
 * {"log":"text\n","stream":"stdout","attrs":{},"time":"2026-11-23T10:00:00.123456789Z"}\n, escaped
 * as dockerd does. */
void log_format_json(struct buf *out, const struct log_line *line, const char *stream,
		     const char *attrs);
/* 2026-11-23T10:00:00.123456789Z stdout F text\n; P for what no newline ended, as containerd and
 * conmon have it for the last piece of a stream too; of a terminal's "\r\n" the "\r" goes. */
void log_format_cri(struct buf *out, const struct log_line *line, const char *stream);
/* Room that one line takes at most in either format. */
#define LOG_FORMATTED_MAX (LOG_LINE_MAX * 6 + 256)
