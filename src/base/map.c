/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"
#include "base/mem.h"
#include "base/random.h"

#include <assert.h>
#include <endian.h>
#include <pthread.h>
#include <string.h>

#define BUCKETS_MIN 8

struct map_entry {
	struct map_entry *chain; /* next in the bucket */
	struct map_entry *prev, *next;
	uint64_t hash;
	void *value;
	char key[];
};

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void make_seed(void)
{
	random_bytes(seed, sizeof(seed));
}

static inline uint64_t rotate(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

static inline void sip_rounds(uint64_t v[4], unsigned n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

/* SipHash-1-3, as Rust's and Python's tables use it. */
static uint64_t hash_key(const char *key, size_t len)
{
	pthread_once(&seed_once, make_seed);

	uint64_t v[4] = {
		seed[0] ^ 0x736f6d6570736575ULL,
		seed[1] ^ 0x646f72616e646f6dULL,
		seed[0] ^ 0x6c7967656e657261ULL,
		seed[1] ^ 0x7465646279746573ULL,
	};
	uint64_t last = (uint64_t)len << 56, m;

	for (; len >= 8; key += 8, len -= 8) {
		memcpy(&m, key, 8);
		m = le64toh(m);
		v[3] ^= m;
		sip_rounds(v, 1);
		v[0] ^= m;
	}
	for (size_t i = 0; i < len; i++)
		last |= (uint64_t)(unsigned char)key[i] << (8 * i);
	v[3] ^= last;
	sip_rounds(v, 1);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_rounds(v, 3);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_done(struct map *m)
{
	map_done_values(m, NULL);
}

void map_done_values(struct map *m, void (*free_value)(void *))
{
	for (struct map_entry *e = m->first, *next; e; e = next) {
		next = e->next;
		if (free_value)
			free_value(e->value);
		free(e);
	}
	free(m->buckets);
	*m = MAP_INIT;
}

/* The link that points to the entry, or to the NULL at the end of its bucket. */
static struct map_entry **find(const struct map *m, const char *key, uint64_t hash)
{
	struct map_entry **link = &m->buckets[hash & (m->n_buckets - 1)];

	while (*link && ((*link)->hash != hash || strcmp((*link)->key, key) != 0))
		link = &(*link)->chain;
	return link;
}

static void resize(struct map *m, size_t n_buckets)
{
	struct map_entry **buckets = xcalloc(n_buckets, sizeof(struct map_entry *));

	for (struct map_entry *e = m->first; e; e = e->next) {
		struct map_entry **head = &buckets[e->hash & (n_buckets - 1)];

		e->chain = *head;
		*head = e;
	}
	free(m->buckets);
	m->buckets = buckets;
	m->n_buckets = n_buckets;
}

void *map_get(const struct map *m, const char *key)
{
	if (m->n == 0)
		return NULL;
	struct map_entry *e = *find(m, key, hash_key(key, strlen(key)));

	return e ? e->value : NULL;
}

void *map_set(struct map *m, const char *key, void *value)
{
	size_t len = strlen(key);
	uint64_t hash = hash_key(key, len);

	if (m->n >= m->n_buckets)
		resize(m, m->n_buckets ? m->n_buckets * 2 : BUCKETS_MIN);

	struct map_entry **link = find(m, key, hash), *e = *link;

	if (e) {
		void *old = e->value;

		e->value = value;
		return old;
	}
	e = xcalloc(1, sizeof(*e) + len + 1);
	memcpy(e->key, key, len);
	e->hash = hash;
	e->value = value;
	e->prev = m->last;
	*link = e;
	if (m->last)
		m->last->next = e;
	else
		m->first = e;
	m->last = e;
	m->n++;
	return NULL;
}

void *map_remove(struct map *m, const char *key)
{
	if (m->n == 0)
		return NULL;
	struct map_entry **link = find(m, key, hash_key(key, strlen(key))), *e = *link;

	if (!e)
		return NULL;
	void *value = e->value;

	*link = e->chain;
	if (e->prev)
		e->prev->next = e->next;
	else
		m->first = e->next;
	if (e->next)
		e->next->prev = e->prev;
	else
		m->last = e->prev;
	m->n--;
	free(e);
	return value;
}

struct map_entry *map_first(const struct map *m)
{
	return m->first;
}

struct map_entry *map_next(const struct map_entry *e)
{
	return e->next;
}

const char *map_key(const struct map_entry *e)
{
	return e->key;
}

void *map_value(const struct map_entry *e)
{
	return e->value;
}

void kvs_done(struct kvs *k)
{
	for (size_t i = 0; i < k->n; i++) {
		free(k->v[i].key);
		free(k->v[i].value);
	}
	free(k->v);
	*k = KVS_INIT;
}

static struct kv *kvs_find(const struct kvs *k, const char *key)
{
	for (size_t i = 0; i < k->n; i++)
		if (strcmp(k->v[i].key, key) == 0)
			return &k->v[i];
	return NULL;
}

void kvs_set(struct kvs *k, const char *key, const char *value)
{
	struct kv *kv = kvs_find(k, key);

	assert(key && value);
	if (kv) {
		str_replace(&kv->value, value);
		return;
	}
	GROW_ARRAY(k->v, k->n);
	k->v[k->n++] = (struct kv){ .key = xstrdup(key), .value = xstrdup(value) };
}

const char *kvs_get(const struct kvs *k, const char *key)
{
	const struct kv *kv = kvs_find(k, key);

	return kv ? kv->value : NULL;
}

bool kvs_unset(struct kvs *k, const char *key)
{
	struct kv *kv = kvs_find(k, key);

	if (!kv)
		return false;
	free(kv->key);
	free(kv->value);
	memmove(kv, kv + 1, (size_t)(k->v + k->n - kv - 1) * sizeof(*kv));
	k->n--;
	return true;
}

void kvs_copy(struct kvs *dst, const struct kvs *src)
{
	if (dst == src)
		return;
	kvs_done(dst);
	if (src->n == 0)
		return;
	for (size_t i = 0; i < src->n; i++) {
		GROW_ARRAY(dst->v, dst->n);
		dst->v[dst->n++] = (struct kv){ .key = xstrdup(src->v[i].key),
						.value = xstrdup(src->v[i].value) };
	}
}

bool kvs_equal(const struct kvs *a, const struct kvs *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const char *value = kvs_get(b, a->v[i].key);

		if (!value || strcmp(value, a->v[i].value) != 0)
			return false;
	}
	return true;
}
