#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ExecSync: runs a command in a container and collects what it writes. No thread waits for it.
 */

#include "base/buf.h"
#include "base/strv.h"
#include "engine/engine.h"

/* Of each stream; what goes beyond is dropped. */
#define EXECSYNC_OUTPUT_MAX (16 << 20)

struct execsync_result {
	int exit_code;
	struct buf out, errs;
};

/* Pool thread; blocks while the command is being started. -1: it has not been started, and fn is
 * not called. Else fn is called once, on the loop: the command has ended, and so has its output, or
 * nothing came for a moment; what result holds may be taken (buf_steal). After timeout seconds (0:
 * none) the command and its children are killed, and err is DEADLINE_EXCEEDED (result NULL). */
int execsync(struct engine *e, const char *ns, const char *container_id, const struct strv *cmd,
	     int64_t timeout,
	     void (*fn)(struct execsync_result *result, const struct error *err, void *arg),
	     void *arg, struct error *err);
