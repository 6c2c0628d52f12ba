#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creations that outlive the client that asked for them. A client that gave up cannot know whether
 * its request went through; it asks again, with the same words. So the work is done once under a
 * name, whoever waits for it, and what nobody was there to take is kept for the one who comes back.
 *
 *	same name, same request, work under way		joins it, gets its result or its error
 *	same name, same request, result there		gets the result, if it is still usable
 *	same name, other request, result not taken	the result is discarded, then its own work
 *	same name, other request, result taken		its own work, which finds the name in use
 *	a result that nobody comes for			discarded after the lifetime
 *
 * Requests are the same when all their fields are, in whatever order their maps came. A request
 *whose client has gone before its work began is not begun. Any thread; callbacks are called without
 *locks.
 *
 * A gRPC method uses this from a `streaming` handler, which may leave without an answer:
 *
 *	struct creation *c = creation_new(grpc_call_ref(call), request);
 *	retry_request(cri->sandboxes, name, request, c);
 *	return 0;
 *
 * and answers in `answer`, by grpc_call_send() and grpc_call_finish(). The work must not look at
 *the call's cancellation.
 */

#include "loop/job.h"
#include "oci/digest.h"

#include <protobuf-c/protobuf-c.h>

struct retry;

struct retry_ops {
	/* Blocking. On success the id of what was made, malloc'ed. */
	int (*work)(void *arg, void *waiter, char **ret_id, struct error *err);
	/* Consumes the waiter. id NULL: err says why. */
	void (*answer)(void *arg, void *waiter, const char *id, const struct error *err);
	/* The waiter's client has gone: its answer would reach nobody. */
	bool (*gone)(void *arg, void *waiter);
	/* The result still is as `work` left it, so that another may take it for its own. */
	bool (*usable)(void *arg, const char *id);
	/* Blocking: removes what nobody took (and is usable: what somebody found and used stays).
	 */
	void (*discard)(void *arg, const char *id);
};

#define RETRY_LIFETIME_MS (2 * 60 * 1000)

struct retry *retry_new(struct loop *loop, struct jobs *jobs, const struct retry_ops *ops,
			void *arg, uint64_t lifetime_ms);
/* Loop thread, after the jobs have ended. What nobody took stays: it is whole, and clients see it.
 */
void retry_free(struct retry *r);
/* May run the work in the calling thread (a pool's). The request is borrowed for this call; the
 * order of its maps' entries may change. */
void retry_request(struct retry *r, const char *name, ProtobufCMessage *request, void *waiter);
/* True for a result that nobody has taken yet: lists leave it out, or clients would use what is
 * about to be discarded. Cheap. */
bool retry_hides(struct retry *r, const char *id);
/* Results that are kept, and work under way. */
unsigned retry_count(struct retry *r);
/* Equal for requests that are the same in the sense above; to be stored with what they made, for
 * those who ask again after a restart. */
void retry_digest(ProtobufCMessage *request, char out[DIGEST_MAX]);
