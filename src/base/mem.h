#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation that cannot fail: out of memory aborts. Therefore every size that comes from outside
 * is bounded before it is allocated. Any thread. Results are freed with free().
 */

#include "base/macros.h"

#include <stdarg.h>

void *xmalloc(size_t size) __attribute__((malloc));
void *xcalloc(size_t n, size_t size) __attribute__((malloc));
/* Overflow of n * size aborts. */
void *xreallocarray(void *p, size_t n, size_t size) MUST_CHECK;
void *xmemdup(const void *p, size_t size);
/* NULL in, NULL out. */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);
char *xvasprintf(const char *fmt, va_list ap) PRINTF_LIKE(1, 0);

#define xnew(type) ((type *)xcalloc(1, sizeof(type)))
#define xnew_array(type, n) ((type *)xcalloc((n), sizeof(type)))

/* Makes room for one more element in an array that grows by doubling: n elements are in use. */
#define GROW_ARRAY(array, n)                                                                 \
	do {                                                                                 \
		if (((n) & ((n)-1)) == 0)                                                    \
			(array) = xreallocarray((array), (n) ? (n)*2 : 1, sizeof(*(array))); \
	} while (0)

/* str_equal(NULL, NULL) is true. */
bool str_equal(const char *a, const char *b);
/* s NULL: false. */
bool str_has_prefix(const char *s, const char *prefix);
bool str_has_suffix(const char *s, const char *suffix);
/* True for NULL and "". */
bool str_empty(const char *s);
/* Frees *p and sets it to a copy of s (which may be NULL or lie within *p). */
void str_replace(char **p, const char *s);
