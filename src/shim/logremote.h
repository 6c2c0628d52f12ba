#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a container's lines go besides the log file: the journal or a syslog server. Nothing ever
 * waits for them: what a socket does not take at once is lost, as on a full disk; a connection that
 * broke is made again every few seconds. Loop thread only.
 */

#include "base/error.h"
#include "base/map.h"
#include "shim/log-line.h"

struct logremote;

/* Options of the kistl-log URI: remote=journald|syslog, address, facility, format, tag, and
 * field.NAME for the journal. Fails when nothing can be reached at first. */
int logremote_open(const struct kvs *options, struct logremote **ret, struct error *err);
void logremote_line(struct logremote *r, const struct log_line *line, bool is_stderr);
void logremote_free(struct logremote *r);

/* Sans-IO: one line as it goes out. */
void journal_format(struct buf *out, const struct kvs *fields, const struct log_line *line,
		    bool is_stderr);
enum syslog_format { SYSLOG_UNIX, SYSLOG_RFC3164, SYSLOG_RFC5424, SYSLOG_RFC5424_MICRO };
void syslog_format(struct buf *out, enum syslog_format format, unsigned facility, const char *host,
		   const char *tag, const struct log_line *line, bool is_stderr);
