#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request memory: everything that is allocated from an arena dies with it in one call. One thread
 * at a time. arena_init() cannot fail; arena_done() may be called twice.
 */

#include "base/macros.h"

struct arena_block;

struct arena {
	struct arena_block *blocks;
	size_t used;
	size_t room;
};

#define ARENA_INIT ((struct arena){ 0 })

void arena_done(struct arena *a);
/* Zeroed, aligned for any type. */
void *arena_alloc(struct arena *a, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define autoarena CLEANUP(arena_done)
