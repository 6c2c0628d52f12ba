#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error that every fallible function above base/ returns: `int f(..., struct error *err)`,
 * 0 or -1, err last, owned by the caller, on its stack:
 *
 *	CLEANUP(error_done) struct error err = ERROR_INIT;
 *
 * Codes are gRPC's, same numbers; each API maps them once. Callers branch on the code (and sys),
 * never on the text. Messages: lower case, no full stop, subject in single quotes. A function
 * either returns an error or logs it, never both. base/ itself returns -errno where it says so.
 * err may be NULL: the caller wants only the result. Any thread; one error belongs to one thread.
 */

#include "base/macros.h"

#include <stdarg.h>

enum error_code {
	ERROR_OK = 0,
	ERROR_CANCELLED = 1,
	ERROR_UNKNOWN = 2,
	ERROR_INVALID_ARGUMENT = 3,
	ERROR_DEADLINE_EXCEEDED = 4,
	ERROR_NOT_FOUND = 5,
	ERROR_ALREADY_EXISTS = 6,
	ERROR_PERMISSION_DENIED = 7,
	ERROR_RESOURCE_EXHAUSTED = 8,
	ERROR_FAILED_PRECONDITION = 9,
	ERROR_ABORTED = 10,
	ERROR_OUT_OF_RANGE = 11,
	ERROR_UNIMPLEMENTED = 12,
	ERROR_INTERNAL = 13,
	ERROR_UNAVAILABLE = 14,
	ERROR_DATA_LOSS = 15,
	ERROR_UNAUTHENTICATED = 16,
	ERROR_CODE_MAX
};

struct error {
	enum error_code code;
	int sys;   /* errno behind it, or 0 */
	char *msg; /* owned; NULL iff code is ERROR_OK */
};

#define ERROR_INIT ((struct error){ 0 })

/* All return -1. Setting an error that is set already replaces it. */
int error_set(struct error *err, enum error_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* "fmt: strerror(sys)"; the code follows from sys (ENOENT -> NOT_FOUND ...). */
int error_errno(struct error *err, int sys, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "fmt: " in front of the message; code and sys stay. */
int error_wrap(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Moves src into dst (src becomes empty). */
int error_move(struct error *dst, struct error *src);

/* Idempotent; leaves ERROR_INIT. */
void error_done(struct error *err);
/* The message, or "" when none is set. Borrowed. */
const char *error_msg(const struct error *err);
bool error_is(const struct error *err, enum error_code code);

/* "NOT_FOUND" etc.; for unknown numbers "UNKNOWN". */
const char *error_code_name(enum error_code code);
enum error_code error_code_from_errno(int sys);

#define autoerror CLEANUP(error_done)
