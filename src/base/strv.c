/* SPDX-License-Identifier: Apache-2.0 */
/* The room of an array follows from n alone (a power of two), so no capacity is stored. */
#include "base/strv.h"
#include "base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

static size_t room_for(size_t n)
{
	size_t room = 4;

	while (room < n + 1)
		room *= 2;
	return room;
}

void strv_done(struct strv *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = STRV_INIT;
}

void strv_take(struct strv *s, char *str)
{
	assert(str);
	if (!s->v || room_for(s->n + 1) != room_for(s->n))
		s->v = xreallocarray(s->v, room_for(s->n + 1), sizeof(*s->v));
	s->v[s->n++] = str;
	s->v[s->n] = NULL;
}

void strv_push(struct strv *s, const char *str)
{
	strv_take(s, xstrdup(str));
}

void strv_push_printf(struct strv *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strv_take(s, xvasprintf(fmt, ap));
	va_end(ap);
}

void strv_extend(struct strv *s, const struct strv *other)
{
	for (size_t i = 0, n = other->n; i < n; i++)
		strv_push(s, other->v[i]);
}

void strv_copy(struct strv *dst, const struct strv *src)
{
	if (dst == src)
		return;
	strv_done(dst);
	strv_extend(dst, src);
}

void strv_remove(struct strv *s, size_t index)
{
	assert(index < s->n);
	free(s->v[index]);
	memmove(s->v + index, s->v + index + 1, (s->n - index) * sizeof(*s->v));
	s->n--;
	/* Later growth reckons with the room that n implies. */
	s->v = xreallocarray(s->v, room_for(s->n), sizeof(*s->v));
}

bool strv_contains(const struct strv *s, const char *str)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->v[i], str) == 0)
			return true;
	return false;
}

bool strv_equal(const struct strv *a, const struct strv *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	return true;
}

void strv_split(struct strv *s, const char *str, const char *separators)
{
	for (;;) {
		size_t n = strcspn(str, separators);

		strv_take(s, xstrndup(str, n));
		if (!str[n])
			return;
		str += n + 1;
	}
}

char *strv_join(const struct strv *s, const char *separator)
{
	size_t gap = strlen(separator), len = 1;

	for (size_t i = 0; i < s->n; i++)
		len += strlen(s->v[i]) + gap;

	char *out = xmalloc(len), *p = out;

	for (size_t i = 0; i < s->n; i++) {
		if (i > 0)
			p = mempcpy(p, separator, gap);
		p = mempcpy(p, s->v[i], strlen(s->v[i]));
	}
	*p = '\0';
	return out;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void strv_sort(struct strv *s)
{
	if (s->n > 1)
		qsort(s->v, s->n, sizeof(*s->v), compare);
}

char *const *strv_argv(const struct strv *s)
{
	static char *const none[1];

	return s->v ? s->v : none;
}

/* Index of the assignment to key[0..len), or n. */
static size_t env_find(const struct strv *s, const char *key, size_t len)
{
	for (size_t i = 0; i < s->n; i++)
		if (strncmp(s->v[i], key, len) == 0 && s->v[i][len] == '=')
			return i;
	return s->n;
}

const char *strv_env_get(const struct strv *s, const char *key)
{
	size_t len = strlen(key), i = env_find(s, key, len);

	return i < s->n ? s->v[i] + len + 1 : NULL;
}

void strv_env_set(struct strv *s, const char *assignment)
{
	const char *eq = strchr(assignment, '=');

	assert(eq);
	size_t i = env_find(s, assignment, (size_t)(eq - assignment));

	if (i < s->n)
		str_replace(&s->v[i], assignment);
	else
		strv_push(s, assignment);
}

void strv_env_unset(struct strv *s, const char *key)
{
	for (size_t i; (i = env_find(s, key, strlen(key))) < s->n;)
		strv_remove(s, i);
}
