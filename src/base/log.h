#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging for people, to stderr: text on a terminal, "<3>"-prefixed under systemd (JOURNAL_STREAM),
 * JSON lines on request. Only boundaries log: the dispatcher, a loop callback, main. Any thread.
 */

#include "base/macros.h"

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Call once, before threads start. */
void log_setup(const char *program, enum log_level level, enum log_format format);
/* Any time. */
void log_set_level(enum log_level level);
/* "error", "warn", "info", "debug"; -EINVAL for others. */
int log_level_parse(const char *s);
bool log_enabled(enum log_level level);
/* Fields of each line of this thread until changed: "container=x op=start"; NULL clears. */
void log_context(const char *fields);
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_err(...) log_write(LOG_ERR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                     \
	do {                                               \
		if (log_enabled(LOG_DEBUG))                \
			log_write(LOG_DEBUG, __VA_ARGS__); \
	} while (0)
