#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of api/cri/ share. Handlers are grpc_unary functions: the reply's memory is the
 * call's arena, except for what they keep.
 */

#include "api/cri/cri.h"
#include "api/cri/packed.h"
#include "base/list.h"
#include "engine/sandbox.h"
#include "image/service.h"
#include "rpc/message.h"

#include "runtime.v1.pb-c.h"

struct cri_api {
	struct cri_config config;
	struct engine_features features;
	struct engine *engine;
	struct image_service *images;
	struct store *store;
	struct retry *sandboxes, *containers; /* being made */
	struct cri_events *events;
	struct list pulls; /* loop: under way */
	struct samples *samples;
	struct packed_cache *packed_sandboxes, *packed_containers; /* entries of lists */
	struct grpc_method *runtime_methods; /* of all files, ends with name NULL */
	struct grpc_service runtime_service, image_service;
};

struct cri_api *cri_of(const struct grpc_call *c);

/* --- convert.c --- */

/* One pair more on an info map. Takes json. */
void cri_info(struct arena *a, const ProtobufCMessageDescriptor *entry, void *entries, size_t *n,
	      const char *key, struct json *json);
Runtime__V1__Int64Value *cri_int64(struct arena *a, int64_t v);
Runtime__V1__UInt64Value *cri_uint64(struct arena *a, uint64_t v);

#define CRI_NEW(arena, name) message_new(arena, &runtime__v1__##name##__descriptor)

/* --- images.c --- */
extern const struct grpc_method cri_image_methods[];
/* The canonical form of a familiar name, in the arena. */
char *cri_canonical(struct arena *a, const char *familiar);

/* --- pull.c --- */
/* Loop thread, when no pull runs any more. */
void cri_pulls_free(struct cri_api *api);
int cri_pull_image(struct grpc_call *c, const ProtobufCMessage *request, ProtobufCMessage *reply,
		   struct error *err);

/* --- creations.c --- */
extern const struct retry_ops cri_sandbox_creations, cri_container_creations;
int cri_run_pod_sandbox(struct grpc_call *c, const ProtobufCMessage *request, struct error *err);
int cri_create_container(struct grpc_call *c, const ProtobufCMessage *request, struct error *err);

/* --- sandboxes.c --- */
extern const struct grpc_method cri_sandbox_methods[];
extern const struct packed_ops cri_packed_sandboxes;
/* NOT_FOUND; INVALID_ARGUMENT for an empty id. */
int cri_sandbox(struct cri_api *api, const char *id, struct sandbox_view **ret, struct error *err);
/* Of all containers of a sandbox. */
Runtime__V1__ContainerStatus **cri_pod_statuses(struct cri_api *api, struct arena *a,
						const char *sandbox_id, size_t *ret_n);
bool cri_labels_match(const struct kvs *labels, void *selector, size_t n);

/* --- containers.c --- */
extern const struct grpc_method cri_container_methods[];
extern const struct packed_ops cri_packed_containers;
/* NOT_FOUND; INVALID_ARGUMENT for an empty id. */
int cri_container(struct cri_api *api, const char *id, struct container_briefs *ret,
		  struct error *err);
/* FAILED_PRECONDITION unless it runs. */
int cri_running(struct cri_api *api, const char *id, struct container_briefs *ret,
		struct error *err);
bool cri_is_ours(const struct container_brief *b);
/* The spec that the runtime got; NULL when there is none yet. */
struct json *cri_runtime_spec(struct cri_api *api, const char *id);

/* --- exec.c --- */
extern const struct grpc_method cri_exec_methods[];

/* --- stats.c, metrics.c --- */
extern const struct grpc_method cri_stats_methods[], cri_metric_methods[];
struct interface_usage;
/* Returns how many (at most n). */
size_t cri_pod_interfaces(struct cri_api *api, const struct sandbox_view *v,
			  struct interface_usage *ret, size_t n);

/* --- checkpoint.c --- */
extern const struct grpc_method cri_checkpoint_methods[];

/* --- events.c --- */
extern const struct grpc_method cri_event_methods[];
struct cri_events *cri_events_new(struct cri_api *api);
/* Loop thread. */
void cri_events_start(struct cri_events *e);
void cri_events_free(struct cri_events *e);

/* --- status.c --- */
int cri_status(struct grpc_call *c, const ProtobufCMessage *request, ProtobufCMessage *reply,
	       struct error *err);
