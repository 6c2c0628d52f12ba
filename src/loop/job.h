#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded pools of operation threads. A job belongs to exactly one side at a time: job_submit()
 * moves it to a thread, `done` (may be NULL) runs on the loop afterwards. Jobs of one pool start
 * in order of submission. Pools: JOB_OPS for requests, JOB_TRANSFER for pulls and pushes (so that
 * they never delay a kill or an inspect), JOB_DISK for removal and garbage collection,
 * JOB_QUICK for what is answered from memory, so that lists never wait behind operations.
 * Threads are made on demand and leave after a while without work.
 */

#include "loop/loop.h"

enum job_pool { JOB_OPS, JOB_TRANSFER, JOB_DISK, JOB_QUICK, JOB_POOL_MAX };

struct jobs;

struct jobs *jobs_new(struct loop *l);
/* Waits for all running jobs; queued ones are run too. */
void jobs_free(struct jobs *j);
void job_submit(struct jobs *j, enum job_pool pool, void (*work)(void *arg),
		void (*done)(void *arg), void *arg);
/* Around a job's long wait for what others do and that costs nothing meanwhile, such as a process
 * that is asked to end. The thread does not count against its pool's limit then, so that a hundred
 * stops with a grace period do not keep an inspect waiting. No-ops on other threads; do not nest.
 */
void job_wait_begin(void);
void job_wait_end(void);
/* Queued and running, all pools: the daemon may leave only at 0. */
unsigned jobs_active(const struct jobs *j);

/*
 * Cancellation: an eventfd with a deadline. Every blocking wait of an operation polls it.
 * Reference-counted, since the side that cancels and the one that waits live on two threads.
 */
struct cancel;
struct cancel *cancel_new(void);
struct cancel *cancel_ref(struct cancel *c);
void cancel_unref(struct cancel *c);
void cancel_trigger(struct cancel *c);
bool cancel_is_set(const struct cancel *c);
int cancel_fd(const struct cancel *c); /* readable once triggered */
