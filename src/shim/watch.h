#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor in the loop: owns both the uv_poll_t and the descriptor, which are gone (the
 * descriptor at once, the handle after libuv has let go of it) with watch_free(). Loop thread only.
 */

#include "loop/loop.h"

struct watch;

/* Makes fd non-blocking and takes it, also on failure (NULL: it cannot be polled). Not started. */
struct watch *watch_new(struct loop *l, int fd, void (*fn)(int events, void *arg), void *arg);
/* UV_READABLE | UV_WRITABLE; 0 stops. */
void watch_set(struct watch *w, int events);
int watch_fd(const struct watch *w);
/* NULL is fine; allowed from within fn. */
void watch_free(struct watch *w);
