#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A NULL-terminated array of strings that it owns, argv-shaped: v.v can be passed to execve().
 */

#include "base/macros.h"

struct strv {
	char **v; /* NULL when empty and never filled; use strv_argv() for an array in any case */
	size_t n;
};

#define STRV_INIT ((struct strv){ 0 })

void strv_done(struct strv *s);
/* Copies str. */
void strv_push(struct strv *s, const char *str);
void strv_push_printf(struct strv *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Takes str. */
void strv_take(struct strv *s, char *str);
void strv_extend(struct strv *s, const struct strv *other);
void strv_copy(struct strv *dst, const struct strv *src);
void strv_remove(struct strv *s, size_t index);
bool strv_contains(const struct strv *s, const char *str);
bool strv_equal(const struct strv *a, const struct strv *b);
/* Splits at each of the separator characters; empty parts are kept. */
void strv_split(struct strv *s, const char *str, const char *separators);
/* malloc'ed. */
char *strv_join(const struct strv *s, const char *separator);
void strv_sort(struct strv *s);
/* Never NULL. Borrowed. */
char *const *strv_argv(const struct strv *s);

/* Environment shaped ("KEY=value"): value of key, or NULL; set replaces in place or appends. */
const char *strv_env_get(const struct strv *s, const char *key);
void strv_env_set(struct strv *s, const char *assignment);
void strv_env_unset(struct strv *s, const char *key);

#define autostrv CLEANUP(strv_done)
