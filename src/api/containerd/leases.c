/* SPDX-License-Identifier: Apache-2.0 */
/* Leases. */
#include "api/containerd/internal.h"

#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"
#include "store/leases.h"

#include "containerd.services.leases.v1.pb-c.h"

#define EXPIRE_LABEL "containerd.io/gc.expire"
#define ENTRY (&containerd__services__leases__v1__lease__labels_entry__descriptor)

typedef Containerd__Services__Leases__V1__Lease lease_message;

static lease_message *make(struct arena *a, const struct lease *l)
{
	lease_message *out = CTRD_NEW(a, services__leases__v1__lease);

	out->id = message_text(a, l->id);
	out->created_at = ctrd_time(a, l->created_at);
	out->labels = message_map(a, ENTRY, &l->labels, &out->n_labels);
	return out;
}

static int create(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Leases__V1__CreateRequest *request =
		(const Containerd__Services__Leases__V1__CreateRequest *)m;
	autokvs struct kvs labels = KVS_INIT;
	struct store_ctx ctx;
	char random[17];
	int64_t expire = 0;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	message_kvs(&labels, request->labels, request->n_labels);
	const char *until = kvs_get(&labels, EXPIRE_LABEL);
	if (until && time_parse_rfc3339(until, &expire) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "label '%s': bad time '%.64s'",
				 EXPIRE_LABEL, until);
	random_hex(8, random);
	struct lease l = {
		.id = str_empty(request->id) ? random : request->id,
		.created_at = time_realtime(),
		.labels = labels,
	};
	if (lease_create(&ctx, l.id, expire, &labels, err) < 0)
		return -1;
	((Containerd__Services__Leases__V1__CreateResponse *)r)->lease =
		make(grpc_call_arena(c), &l);
	return 0;
}

static int delete (struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		   struct error *err)
{
	const Containerd__Services__Leases__V1__DeleteRequest *request =
		(const Containerd__Services__Leases__V1__DeleteRequest *)m;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	return lease_delete(&ctx, request->id, request->sync, err);
}

static const char *lease_field(const void *object, const struct strv *path)
{
	const struct lease *l = object;

	if (str_equal(path->v[0], "labels"))
		return filter_label(&l->labels, path);
	return path->n == 1 && str_equal(path->v[0], "id") ? l->id : NULL;
}

static int list(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		struct error *err)
{
	const Containerd__Services__Leases__V1__ListRequest *request =
		(const Containerd__Services__Leases__V1__ListRequest *)m;
	Containerd__Services__Leases__V1__ListResponse *reply =
		(Containerd__Services__Leases__V1__ListResponse *)r;
	struct arena *a = grpc_call_arena(c);
	CLEANUP(leases_done) struct leases leases = { 0 };
	autofilter struct filter *f = NULL;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 ||
	    filter_parse(request->filters, request->n_filters, &f, err) < 0 ||
	    lease_list(&ctx, &leases, err) < 0)
		return -1;
	reply->leases = message_array(a, leases.n);
	for (size_t i = 0; i < leases.n; i++) {
		if (filter_match(f, lease_field, &leases.v[i]))
			reply->leases[reply->n_leases++] = make(a, &leases.v[i]);
	}
	return 0;
}

static int add_resource(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
			struct error *err)
{
	const Containerd__Services__Leases__V1__AddResourceRequest *request =
		(const Containerd__Services__Leases__V1__AddResourceRequest *)m;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	if (!request->resource)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request names no resource");
	return lease_add(&ctx, request->id, request->resource->type, request->resource->id, err);
}

static int delete_resource(struct grpc_call *c, const ProtobufCMessage *m,
			   ProtobufCMessage *r UNUSED, struct error *err)
{
	const Containerd__Services__Leases__V1__DeleteResourceRequest *request =
		(const Containerd__Services__Leases__V1__DeleteResourceRequest *)m;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	if (!request->resource)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request names no resource");
	return lease_remove(&ctx, request->id, request->resource->type, request->resource->id, err);
}

static int list_resources(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			  struct error *err)
{
	const Containerd__Services__Leases__V1__ListResourcesRequest *request =
		(const Containerd__Services__Leases__V1__ListResourcesRequest *)m;
	Containerd__Services__Leases__V1__ListResourcesResponse *reply =
		(Containerd__Services__Leases__V1__ListResourcesResponse *)r;
	struct arena *a = grpc_call_arena(c);
	CLEANUP(lease_resources_done) struct lease_resources resources = { 0 };
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 || lease_resources(&ctx, request->id, &resources, err) < 0)
		return -1;
	reply->resources = message_array(a, resources.n);
	for (size_t i = 0; i < resources.n; i++) {
		Containerd__Services__Leases__V1__Resource *out =
			CTRD_NEW(a, services__leases__v1__resource);

		out->type = message_text(a, resources.v[i].type);
		out->id = message_text(a, resources.v[i].id);
		reply->resources[reply->n_resources++] = out;
	}
	return 0;
}

const struct grpc_method leases_methods[] = {
	{ "Create", .unary = create, .pool = JOB_OPS },
	{ "Delete", .unary = delete, .pool = JOB_OPS },
	{ "List", .unary = list, .pool = JOB_OPS },
	{ "AddResource", .unary = add_resource, .pool = JOB_OPS },
	{ "DeleteResource", .unary = delete_resource, .pool = JOB_OPS },
	{ "ListResources", .unary = list_resources, .pool = JOB_OPS },
	{ NULL },
};
