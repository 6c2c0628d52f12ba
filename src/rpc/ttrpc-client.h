#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ttrpc connection to one server (a shim, or the daemon's event service).
 *
 * It lives on the loop; a reference may be held by any thread, and the last one to go closes it.
 * ttrpc_client_call() blocks and is for other threads than the loop's; ttrpc_client_call_async()
 * and ttrpc_client_close() are for the loop's thread. When the connection ends, all outstanding
 * calls fail with UNAVAILABLE "ttrpc: closed", later ones at once, and on_close runs (not after
 * ttrpc_client_close(), nor after the last unref).
 */

#include "base/arena.h"
#include "loop/loop.h"

#include <protobuf-c/protobuf-c.h>

struct ttrpc_client;

/* Takes fd, also on failure. ns (copied, may be NULL) goes with every call as
 * containerd-namespace-ttrpc. Loop thread. */
struct ttrpc_client *ttrpc_client_new(struct loop *l, int fd, const char *ns, struct error *err);
struct ttrpc_client *ttrpc_client_ref(struct ttrpc_client *c);
void ttrpc_client_unref(struct ttrpc_client *c); /* any thread; NULL is fine */
/* Loop thread. */
void ttrpc_client_on_close(struct ttrpc_client *c, void (*fn)(void *arg), void *arg);
void ttrpc_client_close(struct ttrpc_client *c);
/* Any thread; may be out of date when it returns. */
bool ttrpc_client_is_closed(const struct ttrpc_client *c);

/* err is NULL on success, then payload is the packed response, valid during the call only. */
typedef void (*ttrpc_done)(const struct error *err, const void *payload, size_t len, void *arg);

/* timeout_ms <= 0: none. The request is packed before this returns. done runs once, on the loop,
 * never from within this call. */
void ttrpc_client_call_async(struct ttrpc_client *c, const char *service, const char *method,
			     const ProtobufCMessage *request, int timeout_ms, ttrpc_done done,
			     void *arg);

/* The response, if wanted (ret may be NULL), is decoded into the arena as `type`.
 * DEADLINE_EXCEEDED, UNAVAILABLE, or what the server said. */
int ttrpc_client_call(struct ttrpc_client *c, const char *service, const char *method,
		      const ProtobufCMessage *request, int timeout_ms,
		      const ProtobufCMessageDescriptor *type, struct arena *arena,
		      ProtobufCMessage **ret, struct error *err);
