#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's end of a kistl-image process (oci/worker-proto.h). One thread at a time. */

#include "base/process.h"
#include "loop/job.h"
#include "oci/worker-proto.h"

struct worker {
	const char *verb;
	pid_t pid; /* 0: none */
	int pidfd, sock;
	bool done; /* it said so */
};

#define WORKER_INIT ((struct worker){ .pidfd = -1, .sock = -1 })

/* verb is borrowed. */
int worker_spawn(struct worker *w, const char *program, const char *verb, struct error *err);
/* Takes json, borrows fds. */
int worker_tell(struct worker *w, struct json *json, const int *fds, size_t n_fds,
		struct error *err);
/* The next message, once poll() says that there is one. What the worker reports as its error is
 * returned as such; a worker that ends without a last word is INTERNAL and names the signal. */
int worker_read(struct worker *w, struct worker_message *ret, struct error *err);
/* Waits for it. CANCELLED. cancel may be NULL. */
int worker_next(struct worker *w, struct cancel *cancel, struct worker_message *ret,
		struct error *err);
/* Ends it, whatever it is doing, and reaps it. Idempotent. */
void worker_end(struct worker *w);

const char *worker_event(const struct worker_message *m);

#define autoworker CLEANUP(worker_end)
