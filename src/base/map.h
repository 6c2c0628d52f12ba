#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String-keyed hash map; keys are copied, values belong to the caller. Iteration is in insertion
 * order and survives removal of the current entry. Not locked. Hashing is seeded (SipHash or
 * alike), so that keys from outside cannot collide by design.
 */

#include "base/macros.h"

struct map_entry;

struct map {
	struct map_entry **buckets;
	size_t n_buckets;
	size_t n;
	struct map_entry *first, *last;
};

#define MAP_INIT ((struct map){ 0 })

/* Frees the entries, not the values. */
void map_done(struct map *m);
/* Also hands every value to free_value. */
void map_done_values(struct map *m, void (*free_value)(void *));
void *map_get(const struct map *m, const char *key);
/* Returns the value that was replaced, or NULL. */
void *map_set(struct map *m, const char *key, void *value);
/* Returns the removed value, or NULL. */
void *map_remove(struct map *m, const char *key);

struct map_entry *map_first(const struct map *m);
struct map_entry *map_next(const struct map_entry *e);
const char *map_key(const struct map_entry *e);
void *map_value(const struct map_entry *e);

#define MAP_FOREACH(e, m)                                                               \
	for (struct map_entry *e = map_first(m), *e##_next = e ? map_next(e) : NULL; e; \
	     e = e##_next, e##_next = e ? map_next(e) : NULL)

/* String to string, in order; used for labels, annotations, options. */
struct kv {
	char *key;
	char *value;
};

struct kvs {
	struct kv *v;
	size_t n;
};

#define KVS_INIT ((struct kvs){ 0 })

void kvs_done(struct kvs *k);
/* Replaces an equal key in place, else appends. Copies. */
void kvs_set(struct kvs *k, const char *key, const char *value);
/* NULL when absent. Borrowed. */
const char *kvs_get(const struct kvs *k, const char *key);
bool kvs_unset(struct kvs *k, const char *key);
void kvs_copy(struct kvs *dst, const struct kvs *src);
bool kvs_equal(const struct kvs *a, const struct kvs *b);

#define autokvs CLEANUP(kvs_done)
