/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

char buf_empty[1];

void buf_done(struct buf *b)
{
	if (b->data != buf_empty)
		free(b->data);
	*b = BUF_INIT(b->max);
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->overflow = false;
	if (b->data != buf_empty)
		b->data[0] = '\0';
}

char *buf_steal(struct buf *b, size_t *ret_len)
{
	char *data = b->data == buf_empty ? xstrdup("") : b->data;

	if (ret_len)
		*ret_len = b->len;
	*b = BUF_INIT(b->max);
	return data;
}

int buf_reserve(struct buf *b, size_t n)
{
	if (b->overflow || n > b->max - b->len || n >= SIZE_MAX / 2 - b->len) {
		b->overflow = true;
		return -ENOBUFS;
	}
	size_t need = b->len + n + 1;

	if (need <= b->alloc)
		return 0;
	size_t want = MAX(b->alloc + b->alloc / 2, (size_t)64);

	want = MAX(want, need);
	if (b->max < SIZE_MAX)
		want = MIN(want, b->max + 1);
	bool fresh = b->data == buf_empty;

	b->data = xreallocarray(fresh ? NULL : b->data, want, 1);
	b->data[b->len] = '\0';
	b->alloc = want;
	return 0;
}

void buf_advance(struct buf *b, size_t n)
{
	if (n == 0)
		return;
	assert(n < b->alloc - b->len);
	b->len += n;
	b->data[b->len] = '\0';
}

int buf_append(struct buf *b, const void *p, size_t n)
{
	int r = buf_reserve(b, n);

	if (r < 0)
		return r;
	if (n) {
		memcpy(b->data + b->len, p, n);
		buf_advance(b, n);
	}
	return 0;
}

int buf_move(struct buf *b, struct buf *from)
{
	int r = 0;

	if (b->len > 0 || b->overflow || from->len > b->max) {
		r = buf_append(b, from->data, from->len);
		if (r == 0)
			buf_clear(from);
		return r;
	}
	buf_done(b);
	b->data = from->data;
	b->len = from->len;
	b->alloc = from->alloc;
	*from = BUF_INIT(from->max);
	return 0;
}

int buf_puts(struct buf *b, const char *s)
{
	return buf_append(b, s, strlen(s));
}

int buf_putc(struct buf *b, char c)
{
	return buf_append(b, &c, 1);
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;

	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	assert(n >= 0);

	int r = buf_reserve(b, (size_t)n);

	if (r < 0)
		return r;
	vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	buf_advance(b, (size_t)n);
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int r = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return r;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->len);
	if (n == 0)
		return;
	b->len -= n;
	memmove(b->data, b->data + n, b->len + 1);
}
