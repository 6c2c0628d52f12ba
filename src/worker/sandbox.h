#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Confinement of a worker for what it is about to do. Call sandbox_enter() once, in the only
 *thread, before the first byte from outside is read. What each phase may still do:
 *
 *	SANDBOX_NETWORK  TLS and DNS: a read-only view of the files that these need, no other file,
 *no capability, user nobody. Descriptors that it holds already keep working. SANDBOX_UNPACK create,
 *chown and label files below *dir; read below *lower. No network. SANDBOX_ARCHIVE  create nameless
 *files in *dir (if any). No other file, no capability, no network. SANDBOX_READ read everything
 *below *dir and *lower, labels too. No network.
 *
 * When unpacking and reading, dir and lower are replaced by descriptors of the same directories
 *from which no path leads out.
 */

#include "base/error.h"

enum sandbox_phase {
	SANDBOX_NETWORK,
	SANDBOX_UNPACK,
	SANDBOX_ARCHIVE,
	SANDBOX_READ,
	SANDBOX_PHASE_MAX
};

struct sandbox {
	enum sandbox_phase phase;
	int *dir;      /* may be NULL */
	int *lower;    /* may be NULL */
	bool in_place; /* dir's own mounts belong to it: it becomes the root as it is */
};

int sandbox_enter(const struct sandbox *s, struct error *err);

/* sandbox-seccomp.c: the system call filter of a phase, for this and all later threads. */
int sandbox_filter(enum sandbox_phase phase, struct error *err);
/* sandbox-landlock.c: fences by landlock where the kernel has it (no error when it has not): dir
 * may be changed, lower and the paths of a NULL-terminated list may be read, nothing else. */
int sandbox_landlock(int dir, int lower, const char *const *paths, struct error *err);
