#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log that the shim writes for a container: json-file with rotation by size (PATH, PATH.1, ...
 * as dockerd names them) or the CRI's format (rotated from outside, then logfile_reopen()). Writes
 * go to the page cache; a full disk loses lines, never blocks. Loop thread only.
 */

#include "base/error.h"
#include "base/map.h"
#include "shim/log-line.h"

enum log_driver {
	LOG_DRIVER_NONE,
	LOG_DRIVER_JSON_FILE,
	LOG_DRIVER_CRI,
};

enum log_stream { LOG_STDOUT, LOG_STDERR, LOG_STREAM_MAX };

struct log_options {
	enum log_driver driver;
	char *path;
	int64_t max_size;  /* 0: no rotation */
	int64_t max_files; /* at least 1: with 1, a full log is emptied */
	int64_t max_line;  /* CRI: bytes of a line's piece; 0: 16 KiB, -1: LOG_LINE_CEILING */
	const char *attrs; /* JSON object for each line of json-file; NULL: none. Borrowed */
	/* Where lines go, too (logremote.h); NULL: nowhere. Borrowed until logfile_open(). */
	const struct kvs *remote;
};

struct logfile;

/* Takes nothing; copies options. The directory is made if missing. */
int logfile_open(const struct log_options *options, struct logfile **ret, struct error *err);
void logfile_write(struct logfile *l, enum log_stream stream, const char *p, size_t n, int64_t now);
/* The stream has ended: its last, unfinished line is written. */
void logfile_end(struct logfile *l, enum log_stream stream);
int logfile_reopen(struct logfile *l, struct error *err);
void logfile_free(struct logfile *l);
