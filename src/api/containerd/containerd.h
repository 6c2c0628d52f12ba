#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd's gRPC API over the core: store, images, tasks (containerd-api.md 1). One file a
 * service; each translates, and what it promises the core does. Namespace and lease come from the
 * call's metadata.
 */

#include "image/service.h"
#include "loop/job.h"
#include "rpc/grpc.h"
#include "store/store.h"

struct containerd_api;

/* Another front end's containers in a namespace, which have no records of containerd's: asked
 * first. NOT_FOUND: not one of its own. */
struct containerd_view {
	const char *ns;
	int (*container)(void *arg, struct grpc_call *c, const ProtobufCMessage *request,
			 ProtobufCMessage *reply, struct error *err);
	int (*task)(void *arg, struct grpc_call *c, const ProtobufCMessage *request,
		    ProtobufCMessage *reply, struct error *err);
	void *arg;
};

struct containerd_config {
	struct loop *loop;
	struct jobs *jobs;
	struct store *store;
	struct image_service *images;
	struct containerd_view pods;
};

/* What config points to is borrowed for the life of the API. */
struct containerd_api *containerd_api_new(const struct containerd_config *config,
					  struct error *err);
void containerd_api_add(struct containerd_api *a, struct grpc_server *server);
/* Loop thread, after the server's end. NULL is fine. */
void containerd_api_free(struct containerd_api *a);
