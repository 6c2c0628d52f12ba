#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ttrpc server on the loop, for the shim (Task service) and the daemon (events). Loop thread only.
 *
 * Services are protobuf-c service descriptors with a parallel table of handlers. A handler may
 * reply at once or keep the call and reply later (Wait does); each call gets exactly one reply or
 * failure, which frees it. Request and everything in the call's arena live until then. When the
 * client goes away first, on_cancel runs if the handler has set one; the reply is still due, and
 * goes nowhere.
 *
 * Peers must have our own uid (SO_PEERCRED). Ceilings: 4 MiB a message, 1024 open calls a
 * connection.
 */

#include "base/arena.h"
#include "loop/loop.h"

#include <protobuf-c/protobuf-c.h>

struct ttrpc_server;
struct ttrpc_call;

typedef void (*ttrpc_handler)(struct ttrpc_call *call, const ProtobufCMessage *request, void *arg);

struct ttrpc_service {
	const ProtobufCServiceDescriptor *descriptor;
	const ttrpc_handler *handlers; /* as descriptor->methods; NULL: UNIMPLEMENTED */
	void *arg;
};

struct ttrpc_server *ttrpc_server_new(struct loop *l);
/* The service is borrowed. */
void ttrpc_server_add(struct ttrpc_server *s, const struct ttrpc_service *service);
/* Connections whose first byte is not 0 (no ttrpc frame begins otherwise) go to fn, which takes the
 * descriptor (non-blocking, nothing read yet). Set before listening. */
void ttrpc_server_set_other(struct ttrpc_server *s, void (*fn)(int fd, void *arg), void *arg);
/* Takes a listening socket, also on failure. Once only. */
int ttrpc_server_listen(struct ttrpc_server *s, int fd, struct error *err);
/* Takes a connected socket, also on failure. PERMISSION_DENIED: another user's. */
int ttrpc_server_adopt(struct ttrpc_server *s, int fd, struct error *err);
unsigned ttrpc_server_connections(const struct ttrpc_server *s);
/* Closes the socket and all connections; calls still open are answered into the void. NULL is fine.
 */
void ttrpc_server_free(struct ttrpc_server *s);

/* The response is packed before this returns: it may live on the stack. */
void ttrpc_call_reply(struct ttrpc_call *c, const ProtobufCMessage *response);
void ttrpc_call_fail(struct ttrpc_call *c, const struct error *err);
struct arena *ttrpc_call_arena(struct ttrpc_call *c);
/* First value of a metadata key, or NULL. */
const char *ttrpc_call_metadata(const struct ttrpc_call *c, const char *key);
/* fn may reply. NULL unsets. */
void ttrpc_call_on_cancel(struct ttrpc_call *c, void (*fn)(struct ttrpc_call *c, void *arg),
			  void *arg);
