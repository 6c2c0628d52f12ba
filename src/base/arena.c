/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks come zeroed from calloc and double in size, up to a limit. What is large for a block gets
 * a block of its own behind the current one, so that the current one's room is not lost.
 */
#include "base/arena.h"
#include "base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

#define BLOCK_MIN 2048
#define BLOCK_MAX (64 << 10)

struct arena_block {
	struct arena_block *next;
	_Alignas(max_align_t) char data[];
};

void arena_done(struct arena *a)
{
	for (struct arena_block *b = a->blocks, *next; b; b = next) {
		next = b->next;
		free(b);
	}
	*a = ARENA_INIT;
}

static struct arena_block *block_new(size_t size)
{
	assert(size <= SIZE_MAX / 2);
	return xcalloc(1, sizeof(struct arena_block) + size);
}

void *arena_alloc(struct arena *a, size_t size)
{
	const size_t align = _Alignof(max_align_t);

	assert(size <= SIZE_MAX / 2);
	size = (MAX(size, (size_t)1) + align - 1) & ~(align - 1);
	if (size <= a->room - a->used) {
		void *p = a->blocks->data + a->used;

		a->used += size;
		return p;
	}
	if (a->blocks && size > BLOCK_MAX / 4) {
		struct arena_block *b = block_new(size);

		b->next = a->blocks->next;
		a->blocks->next = b;
		return b->data;
	}
	size_t room = a->room ? MIN(a->room * 2, (size_t)BLOCK_MAX) : (size_t)BLOCK_MIN;
	struct arena_block *b;

	room = MAX(room, size);
	b = block_new(room);
	b->next = a->blocks;
	a->blocks = b;
	a->room = room;
	a->used = size;
	return b->data;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	if (!s)
		return NULL;
	size_t len = strnlen(s, MIN(n, SIZE_MAX / 2));
	char *copy = arena_alloc(a, len + 1);

	memcpy(copy, s, len);
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, SIZE_MAX);
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	autofree char *s = xvasprintf(fmt, ap);
	va_end(ap);
	return arena_strdup(a, s);
}
