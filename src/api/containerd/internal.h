#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of api/containerd/ share. */

#include "api/containerd/containerd.h"
#include "api/containerd/exchange.h"
#include "base/mount.h"
#include "oci/image.h"
#include "rpc/message.h"
#include "store/containers.h"
#include "store/filter.h"

#include "containerd.types.pb-c.h"
#include "google.protobuf.pb-c.h"

#define CONTAINERD_SERVICES 16

struct containerd_api {
	struct containerd_config config;
	struct exchange *exchange;
	struct task_table *tasks;
	char *uuid; /* stable for a root directory */
	struct grpc_service services[CONTAINERD_SERVICES];
	size_t n_services;
};

typedef Google__Protobuf__FieldMask field_mask;

/* --- common.c --- */

struct containerd_api *ctrd_of(const struct grpc_call *c);
/* Store, namespace, lease of the call. FAILED_PRECONDITION without a namespace. */
int ctrd_ctx(struct grpc_call *c, struct store_ctx *ret, struct error *err);
Google__Protobuf__Timestamp *ctrd_time(struct arena *a, int64_t ns);
int64_t ctrd_nanoseconds(const Google__Protobuf__Timestamp *t);
Google__Protobuf__Any *ctrd_any(struct arena *a, const char *type, const void *p, size_t n);
Containerd__Types__Descriptor *ctrd_descriptor(struct arena *a, const struct descriptor *d);
Containerd__Types__Mount **ctrd_mounts(struct arena *a, const struct mounts *m, size_t *ret_n);
/* Copies. */
void ctrd_take_mounts(Containerd__Types__Mount *const *m, size_t n, struct mounts *ret);
/* What an update with this mask (NULL or empty: everything) makes of labels, as changes for the
 * store's *_set_labels(). INVALID_ARGUMENT for paths that are neither "labels" nor "labels.KEY". */
int ctrd_label_changes(const struct kvs *have, const struct kvs *want, const field_mask *mask,
		       struct kvs *ret, struct error *err);
/* "KEY" of a path "PREFIX.KEY"; NULL when it is none. */
const char *ctrd_mask_key(const char *path, const char *prefix);
/* An array that grows in an arena. */
struct items {
	void **v;
	size_t n, room;
};
void items_add(struct arena *a, struct items *i, void *item);

#define CTRD_NEW(arena, type) message_new(arena, &containerd__##type##__descriptor)

/* --- the services' tables --- */
extern const struct grpc_method version_methods[], introspection_methods[], namespaces_methods[],
	leases_methods[], content_methods[], images_methods[], snapshots_methods[],
	containers_methods[], diff_methods[], events_methods[], tasks_methods[];

/* --- containers.c --- */
/* Of a record, in the arena; NULL for none. */
Google__Protobuf__Any *ctrd_runtime_options(struct arena *a, const struct container_record *r);

/* --- content-write.c --- */
int content_service_write(struct grpc_call *c, const ProtobufCMessage *m, struct error *err);
