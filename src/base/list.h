#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked list. A node that is in no list points to itself after list_init(). */

#include "base/macros.h"

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(name)          \
	{                        \
		&(name), &(name) \
	}

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert(struct list *after, struct list *node)
{
	node->prev = after;
	node->next = after->next;
	after->next->prev = node;
	after->next = node;
}

static inline void list_append(struct list *head, struct list *node)
{
	list_insert(head->prev, node);
}

/* Idempotent. */
static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)

/* The body may remove (and free) `pos`. */
#define LIST_FOREACH(pos, head, type, member)                               \
	for (type *pos = LIST_ENTRY((head)->next, type, member),            \
		  *pos##_next = LIST_ENTRY(pos->member.next, type, member); \
	     &pos->member != (head);                                        \
	     pos = pos##_next, pos##_next = LIST_ENTRY(pos->member.next, type, member))
