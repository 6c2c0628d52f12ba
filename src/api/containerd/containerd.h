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
	const char *root, *state;
	const char *shim;    /* path of kistl-shim */
	const char *address; /* the daemon's socket, for shims' events */
	/* Binary of the OCI runtime with this name, "" for the default one; NULL: unknown. */
	const char *(*runtime)(void *arg, const char *name);
	void *runtime_arg;
	struct containerd_view pods;
};

/* What config points to is borrowed for the life of the API. Blocks: takes over the tasks that an
 * earlier daemon left. */
struct containerd_api *containerd_api_new(const struct containerd_config *config,
					  struct error *err);
void containerd_api_add(struct containerd_api *a, struct grpc_server *server);
/* What shims report, for subscribers. Any thread. */
struct Containerd__Types__Envelope;
void containerd_api_event(struct containerd_api *a, const struct Containerd__Types__Envelope *e);
/* Loop thread, after the server's end. NULL is fine. */
void containerd_api_free(struct containerd_api *a);
