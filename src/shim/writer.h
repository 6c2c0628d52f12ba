#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A non-blocking output (client socket, fifo, stdin pipe) with a bounded backlog. Loop thread only.
 * The owner looks at writer_is_full() before it reads more for it.
 */

#include "shim/watch.h"

#define WRITER_FULL ((size_t)256 << 10)
/* What may still come when it is full: the rest of the pipes of a process that has ended. */
#define WRITER_MAX ((size_t)4 << 20)

struct writer;

struct writer_ops {
	/* It was full and is not any more. */
	void (*on_room)(void *arg);
	/* All is written. */
	void (*on_empty)(void *arg);
	/* The reader has gone; nothing can be written any more. */
	void (*on_broken)(void *arg);
	/* Readable, if asked for with writer_set_reading(). */
	void (*on_readable)(void *arg);
	/* The peer has closed both ways; once, if asked for with writer_watch_hangup(). */
	void (*on_hangup)(void *arg);
};

/* Takes fd, also on failure (NULL). Members of ops may be NULL. */
struct writer *writer_new(struct loop *l, int fd, const struct writer_ops *ops, void *arg);
void writer_free(struct writer *w);
void writer_set_owner(struct writer *w, const struct writer_ops *ops, void *arg);
int writer_fd(const struct writer *w);
/* Never calls back. False: broken (or past WRITER_MAX), now or before. */
bool writer_put(struct writer *w, const void *p, size_t n);
bool writer_is_full(const struct writer *w);
bool writer_is_empty(const struct writer *w);
void writer_set_reading(struct writer *w, bool on);
void writer_watch_hangup(struct writer *w);
