#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing byte string with a ceiling. data is always NUL-terminated (the NUL is not counted in
 * len), never NULL. Appending past max sets `overflow`, appends nothing and returns -ENOBUFS; once
 * overflowed, every later append fails too, so a builder may check once at its end.
 */

#include "base/macros.h"

#include <stdarg.h>

struct buf {
	char *data;
	size_t len;
	size_t alloc;
	size_t max;
	bool overflow;
};

extern char buf_empty[1];

#define BUF_INIT(max_bytes) ((struct buf){ .data = buf_empty, .max = (max_bytes) })
#define BUF_NO_LIMIT SIZE_MAX /* only for strings that the program itself bounds */

void buf_done(struct buf *b);
void buf_clear(struct buf *b);
/* Detaches the bytes (malloc'ed, NUL-terminated); the buffer becomes empty. */
char *buf_steal(struct buf *b, size_t *ret_len);
int buf_append(struct buf *b, const void *p, size_t n);
/* As buf_append() of all that `from` has; without a copy when b is empty. `from` becomes empty,
 * unless this fails. */
int buf_move(struct buf *b, struct buf *from);
int buf_puts(struct buf *b, const char *s);
int buf_putc(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* Room for n more bytes, to be filled at data + len; then add to len with buf_advance(). */
int buf_reserve(struct buf *b, size_t n);
void buf_advance(struct buf *b, size_t n);
/* Drops n bytes from the front. */
void buf_consume(struct buf *b, size_t n);

#define autobuf CLEANUP(buf_done)
