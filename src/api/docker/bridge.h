#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between a client that the shim cannot serve itself and the socket that it does serve: WebSockets,
 * and clients that sent bytes ahead of the answer to their upgrade. Loop thread.
 */

#include "loop/loop.h"

/* Takes both descriptors. extra: what the client has sent already. */
void bridge_start(struct loop *l, int client, int inner, bool websocket, const void *extra,
		  size_t n_extra);
