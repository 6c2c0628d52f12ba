#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector's picture of the database: objects as nodes, references as edges, and marking.
 * Internal to store/. One thread.
 */

#include "store/internal.h"

enum gc_mark { GC_DEAD, GC_FLAT, GC_LIVE }; /* FLAT: labels' references are not followed */

struct gc_node {
	enum gc_kind kind;
	const char *key; /* the map's */
	bool exists;	 /* else it is only referred to */
	bool root, expired, flat;
	enum gc_mark mark;
	int64_t id; /* snapshots */
	struct gc_edge {
		struct gc_node *to;
		bool label;
	} * edges;
	size_t n_edges;
	struct gc_node *next; /* still to be followed */
	bool queued;
};

struct gc_graph {
	struct map nodes;
	struct gc_node *queue;
	int64_t now, next_expiry;
};

/* A key splits into these; borrowed from text, a copy of the key that is modified. */
struct gc_key {
	enum gc_kind kind;
	const char *ns, *sn, *id;
};

char *gc_key_format(enum gc_kind kind, const char *ns, const char *sn, const char *id);
void gc_key_split(char *text, struct gc_key *ret);

void gc_graph_done(struct gc_graph *g);
/* Everything the transaction sees. */
int gc_graph_load(struct gc_graph *g, const struct db_tx *tx, struct error *err);
/* One object again as it is now: it and what it refers to is live, unless it has expired or is
 * gone. gc_graph_follow() afterwards. */
int gc_graph_touch(struct gc_graph *g, const struct db_tx *tx, const char *key, struct error *err);
void gc_graph_mark_roots(struct gc_graph *g);
void gc_graph_mark(struct gc_graph *g, struct gc_node *n, enum gc_mark mark);
/* Marks what marked nodes refer to. */
void gc_graph_follow(struct gc_graph *g);
