#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.health.v1.Health: Check and Watch. A service that nobody has set is unknown; "" is the
 * server as a whole. Loop thread, except that handlers run as all handlers do.
 */

#include "rpc/grpc.h"

struct grpc_health;

/* Adds itself to the server; "" is serving. */
struct grpc_health *grpc_health_new(struct grpc_server *s, struct loop *l);
void grpc_health_set(struct grpc_health *h, const char *service, bool serving);
/* After loop_free(): until then calls may still be on their way. */
void grpc_health_free(struct grpc_health *h);
