#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one libuv loop of a daemon, and the way between it and threads.
 *
 * The loop's thread owns every socket, timer and signal and never blocks. Operations run as plain
 * blocking functions on pool threads (job.h). loop_post() is how a thread gets something done on
 * the loop; posts run in order.
 */

#include "base/error.h"

#include <uv.h>

struct loop;

struct loop *loop_new(struct error *err);
/* Runs until loop_stop(); may be called again. The calling thread becomes the loop's. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l); /* any thread; what was posted before it still runs */
/* After the owners of handles have closed theirs: runs the posts that are left, closes the handles
 * that are left (without a callback: their memory stays with their owner). NULL is fine. */
void loop_free(struct loop *l);
uv_loop_t *loop_uv(struct loop *l);
bool loop_is_current(const struct loop *l);
/* Any thread. */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

/* One-shot timer, loop thread only; the handle belongs to the loop and is gone after fn or cancel.
 */
struct loop_timer;
struct loop_timer *loop_timer_start(struct loop *l, uint64_t ms, void (*fn)(void *arg), void *arg);
void loop_timer_cancel(struct loop_timer *t); /* NULL is fine */
