#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories that an instance owns: one daemon a state directory, by a lock that dies with its
 * process. Main thread, before there are others.
 */

#include "base/error.h"

struct state {
	char *path;
	int lock;
	bool mounted; /* by us, or by one of us that crashed */
};

#define STATE_INIT ((struct state){ .lock = -EBADF })

/* Makes root and state, locks, and makes state a private mount of its own. Waits for a daemon that
 * is just leaving or starting; FAILED_PRECONDITION when one is there and serves `socket`. */
int state_open(struct state *s, const char *root, const char *path, const char *socket,
	       struct error *err);
/* The clean exit: unmounts, unlocks. */
void state_close(struct state *s);
