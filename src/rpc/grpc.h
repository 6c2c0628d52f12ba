#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC server on nghttp2, driven by the daemon's loop. Dispatches protobuf-c service descriptors.
 * Unary handlers run on a job pool as blocking functions with request memory in an arena; streaming
 * ones get a stream object. Limits: 16 MiB a message, 1000 streams a connection, 64 KiB of headers,
 * and for the whole server what is in grpc-internal.h; what is over a limit ends its own call with
 * RESOURCE_EXHAUSTED. Messages that come in have been checked (protobuf-wire.h), strings of those
 * that go out become UTF-8.
 */

#include "base/arena.h"
#include "base/error.h"
#include "loop/job.h"

#include <protobuf-c/protobuf-c.h>

struct grpc_server;
struct grpc_call;

/* Fills *reply (initialised, memory from the call's arena) or returns an error. */
typedef int (*grpc_unary)(struct grpc_call *call, const ProtobufCMessage *request,
			  ProtobufCMessage *reply, struct error *err);
/* Server streaming: the first message has arrived; keeps the call (grpc_call_ref) and replies from
 * any thread with grpc_call_send() and grpc_call_finish(). Also for unary methods that must not
 * hold a thread while they wait: one grpc_call_send(). Client streaming: the messages after the
 * first come by grpc_call_on_message(); request is NULL when the client sent none at all. A call
 * whose last reference goes without a status ends with INTERNAL. */
typedef int (*grpc_streaming)(struct grpc_call *call, const ProtobufCMessage *request,
			      struct error *err);

struct grpc_method {
	const char *name; /* bare method name; must exist in the descriptor */
	grpc_unary unary;
	grpc_streaming streaming;
	enum job_pool pool;
	bool client_streams; /* else there is exactly one request, as a handler may rely on */
};

struct grpc_service {
	const ProtobufCServiceDescriptor *descriptor;
	const struct grpc_method *methods; /* ends with name NULL */
	void *arg;			   /* grpc_call_arg(); NULL: the server's */
};

struct grpc_server *grpc_server_new(struct loop *loop, struct jobs *jobs, void *arg,
				    struct error *err);
/* The service is borrowed. */
void grpc_server_add(struct grpc_server *s, const struct grpc_service *service);
/* Takes a connected socket whose first bytes are the HTTP/2 preface (not yet read). Loop thread. */
void grpc_server_adopt(struct grpc_server *s, int fd);
unsigned grpc_server_connections(const struct grpc_server *s);
/* GOAWAY to all clients: no new calls, connections end with their last one. */
void grpc_server_drain(struct grpc_server *s);
/* Ends all connections. Calls that handlers still hold are cancelled. */
void grpc_server_free(struct grpc_server *s);

void *grpc_call_arg(const struct grpc_call *c);
struct arena *grpc_call_arena(struct grpc_call *c);
ProtobufCAllocator *grpc_call_allocator(struct grpc_call *c);
const char *grpc_call_metadata(const struct grpc_call *c, const char *key);
struct grpc_call *grpc_call_ref(struct grpc_call *c);
void grpc_call_unref(struct grpc_call *c);
struct cancel *grpc_call_cancel(struct grpc_call *c); /* client gone or deadline over; borrowed */
/* Any thread, never blocks. 1: above the high-water mark, wait for on_drain; -1: gone, or ended
 * since the message is over a limit. */
int grpc_call_send(struct grpc_call *c, const ProtobufCMessage *m);
void grpc_call_on_drain(struct grpc_call *c, void (*fn)(void *arg), void *arg);
/* err NULL or OK: success. Ignored when the call has a status already (deadline, client gone). The
 * callbacks are not called any more once this has returned, if it was called on the loop. */
void grpc_call_finish(struct grpc_call *c, const struct error *err);
/* All callbacks run on the loop; on_drain and on_cancel once. */
void grpc_call_on_message(struct grpc_call *c,
			  void (*fn)(struct grpc_call *c, const ProtobufCMessage *m, void *arg),
			  void *arg); /* m NULL: half-closed */
/* The same for a handler that is written as a blocking function: the next message, in the given
 * arena. 1: one, 0: the client has half-closed, -1. While it waits the job has no place in its pool
 * (job_wait_begin). Not with on_message, and from one thread at a time. */
int grpc_call_read(struct grpc_call *c, struct arena *a, ProtobufCMessage **ret, struct error *err);
/* Sends, and waits in the same way while the client is slow. */
int grpc_call_write(struct grpc_call *c, const ProtobufCMessage *m, struct error *err);
void grpc_call_on_cancel(struct grpc_call *c, void (*fn)(void *arg), void *arg);
