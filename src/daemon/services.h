#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon's sockets are in front of: store, images, networks, engine and the API over them,
 * made and ended in the order of their needs.
 */

#include "daemon/config.h"
#include "http/server.h"
#include "rpc/grpc.h"
#include "rpc/ttrpc-server.h"

struct containerd_api;
struct engine;
struct services;

/* Blocks, for a pool thread while the loop runs: it recovers what an earlier daemon left. */
struct services *services_start(const struct config *config, struct loop *loop, struct jobs *jobs,
				struct error *err);
/* Routes and what belongs to them. */
void services_http_config(struct services *s, struct http_server_config *ret);
/* Services of gRPC; they live as long as s. Loop thread. */
void services_grpc(struct services *s, struct grpc_server *server);
/* Whether nothing that runs needs the daemon. Loop thread. */
bool services_idle(struct services *s);
/* With no request running any more; the loop stands. NULL is fine. */
void services_stop(struct services *s);

/* containerd's ttrpc event service, through which shims report. Lives as long as s. */
const struct ttrpc_service *services_shim_events(struct services *s);

/* Who is told of them. */
struct shim_events {
	struct engine *engine;
	struct containerd_api *containerd;
};

void shim_events_service(const struct shim_events *to, struct ttrpc_service *ret);
