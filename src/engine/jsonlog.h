#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a json-file log (Docker's format) over its rotated files: PATH.2, PATH.1, PATH, oldest
 * first. The writer is another process, and rotates while we read. Lines that cannot be understood
 * are skipped; a last line that is not complete yet waits for its rest. One thread at a time.
 */

#include "base/buf.h"
#include "engine/engine.h"

/* 16 KiB of text, each byte escaped as \u00XX, attributes, and room */
#define JSONLOG_LINE_MAX (256 << 10)

/* Sans-IO: one line without its newline. text gets the unescaped log member (it may hold NULs), to
 * which ret points. -EINVAL. */
int jsonlog_parse(const char *line, size_t len, struct buf *text, struct log_line *ret);

struct jsonlog;

/* A log that does not exist (yet) is empty. */
int jsonlog_open(const char *path, const struct log_options *o, struct jsonlog **ret,
		 struct error *err);
/* 1: a line, valid until the next call; 0: no more for now; -1: error. */
int jsonlog_next(struct jsonlog *l, struct log_line *ret, struct error *err);
/* A line after `until` has been seen: no more will come. */
bool jsonlog_is_past(const struct jsonlog *l);
void jsonlog_close(struct jsonlog *l);
DEFINE_CLEANUP(struct jsonlog *, jsonlog_close)
