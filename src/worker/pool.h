#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transfers of one worker process on a bounded number of threads, in order of submission, while the
 * main thread goes on reading the socket. The first failure ends the process (main() reports it),
 * so nothing is ever torn down.
 */

#include "base/error.h"

struct pool;

/* run: one transfer; item is its alone. */
struct pool *pool_new(unsigned threads, int (*run)(void *item, struct error *err));
void pool_submit(struct pool *p, void *item);
/* Items that are done. On failure of any: -1 and its error. */
int pool_check(struct pool *p, size_t *ret_done, struct error *err);
/* Readable after an item is done (an eventfd; pool_check() resets it). */
int pool_fd(const struct pool *p);
/* Blocks until at most n items are waiting or running. -1 as pool_check(). */
int pool_wait(struct pool *p, size_t n, struct error *err);
