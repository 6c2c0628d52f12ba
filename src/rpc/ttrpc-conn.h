#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ttrpc connection on the loop: what the server and the client share. Loop thread only.
 *
 * The owner gets each frame, and on_closed exactly once, from the loop, when the connection is gone
 * for whatever reason (also after ttrpc_conn_close()); the connection frees itself right after it.
 */

#include "loop/loop.h"
#include "rpc/ttrpc-frame.h"

#include <protobuf-c/protobuf-c.h>

struct ttrpc_conn;

struct ttrpc_conn_ops {
	void (*on_frame)(void *arg, const struct ttrpc_frame *frame);
	void (*on_closed)(void *arg);
};

/* Takes fd, also on failure (then NULL is returned and no callback comes). */
struct ttrpc_conn *ttrpc_conn_new(struct loop *l, int fd, const struct ttrpc_conn_ops *ops,
				  void *arg, struct error *err);
/* Idempotent; frames stop at once, on_closed follows from the loop. */
void ttrpc_conn_close(struct ttrpc_conn *c);
/* RESOURCE_EXHAUSTED when the message is over 4 MiB, UNAVAILABLE when the connection is closing. A
 * peer that takes nothing while 16 MiB wait for it is cut off. */
int ttrpc_conn_send(struct ttrpc_conn *c, enum ttrpc_frame_type type, uint32_t stream,
		    const ProtobufCMessage *m, struct error *err);
