/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers: records only. The store keeps documents as text: a runtime spec and what is JSON go
 * in as they are, any other message as {"typeUrl":…,"hex":…}.
 */
#include "api/containerd/internal.h"

#include "base/hex.h"
#include "base/json.h"
#include "base/mem.h"
#include "store/containers.h"

#include "containerd.events.pb-c.h"
#include "containerd.services.containers.v1.pb-c.h"

#include <string.h>

#define SPEC_TYPE "types.containerd.io/opencontainers/runtime-spec/1/Spec"
#define DOCUMENT_MAX (8 << 20)
#define LABEL (&containerd__services__containers__v1__container__labels_entry__descriptor)

typedef Containerd__Services__Containers__V1__Container container_message;
typedef Containerd__Services__Containers__V1__Container__ExtensionsEntry extension_entry;

/* malloc'ed; NULL for none. plain: the type whose value is text that needs no wrapping. */
static char *any_to_text(const Google__Protobuf__Any *any, const char *plain)
{
	if (!any)
		return NULL;
	if (str_equal(any->type_url, plain))
		return xstrndup((const char *)any->value.data, any->value.len);
	autojson struct json *j = json_new_object();
	autofree char *hex = xmalloc(2 * any->value.len + 1);
	hex_encode(any->value.data, any->value.len, hex);
	json_set_string(j, "typeUrl", any->type_url);
	json_set_string(j, "hex", hex);
	return json_format(j, /* pretty */ false);
}

/* What is not wrapped is text of that type. */
static Google__Protobuf__Any *text_to_any(struct arena *a, const char *text, const char *plain)
{
	static const char mark[] = "{\"typeUrl\":";

	if (str_empty(text))
		return NULL;
	if (!str_has_prefix(text, mark))
		return ctrd_any(a, plain, text, strlen(text));
	autojson struct json *j = json_parse(text, strlen(text), 4 * DOCUMENT_MAX, NULL);
	const char *hex = json_get_string(j, "hex"), *type = json_get_string(j, "typeUrl");
	size_t n = hex ? strlen(hex) / 2 : 0;
	Google__Protobuf__Any *any = ctrd_any(a, type, "", 0);

	any->value.data = arena_alloc(a, n + 1);
	if (hex && hex_decode(hex, any->value.data, n) == 0)
		any->value.len = n;
	return any;
}

Google__Protobuf__Any *ctrd_runtime_options(struct arena *a, const struct container_record *r)
{
	return text_to_any(a, r->runtime_options, "");
}

static void add_extensions(struct arena *a, container_message *out, const struct kvs *extensions)
{
	out->extensions = message_array(a, extensions->n);
	for (size_t i = 0; i < extensions->n; i++) {
		extension_entry *e =
			CTRD_NEW(a, services__containers__v1__container__extensions_entry);

		e->key = message_text(a, extensions->v[i].key);
		e->value = text_to_any(a, extensions->v[i].value, e->key);
		out->extensions[out->n_extensions++] = e;
	}
}

static container_message *make(struct arena *a, const struct container_record *r)
{
	container_message *out = CTRD_NEW(a, services__containers__v1__container);

	out->id = message_text(a, r->id);
	out->image = message_text(a, r->image);
	out->runtime = CTRD_NEW(a, services__containers__v1__container__runtime);
	out->runtime->name = message_text(a, r->runtime);
	out->runtime->options = ctrd_runtime_options(a, r);
	out->spec = text_to_any(a, r->spec, SPEC_TYPE);
	out->snapshotter = message_text(a, r->snapshotter);
	out->snapshot_key = message_text(a, r->snapshot_key);
	out->sandbox = message_text(a, r->sandbox_id);
	out->labels = message_map(a, LABEL, &r->labels, &out->n_labels);
	out->created_at = ctrd_time(a, r->created_at);
	out->updated_at = ctrd_time(a, r->updated_at);
	add_extensions(a, out, &r->extensions);
	return out;
}

static int check_any(const Google__Protobuf__Any *any, const char *what, struct error *err)
{
	if (any && any->value.len > DOCUMENT_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s is larger than %d bytes", what,
				 DOCUMENT_MAX);
	return 0;
}

/* Without spec, snapshot key and extensions what is there is kept, if a mask says so. */
static int take(const container_message *m, struct container_record *ret, struct error *err)
{
	if (check_any(m->spec, "spec", err) < 0 ||
	    (m->runtime && check_any(m->runtime->options, "runtime options", err) < 0))
		return -1;
	ret->id = xstrdup(m->id);
	ret->image = xstrdup(m->image);
	ret->runtime = xstrdup(m->runtime ? m->runtime->name : "");
	ret->runtime_options = any_to_text(m->runtime ? m->runtime->options : NULL, NULL);
	ret->spec = any_to_text(m->spec, SPEC_TYPE);
	ret->snapshotter = xstrdup(m->snapshotter);
	ret->snapshot_key = xstrdup(m->snapshot_key);
	ret->sandbox_id = xstrdup(m->sandbox);
	message_kvs(&ret->labels, m->labels, m->n_labels);
	for (size_t i = 0; i < m->n_extensions; i++) {
		if (check_any(m->extensions[i]->value, m->extensions[i]->key, err) < 0)
			return -1;
		autofree char *text = any_to_text(m->extensions[i]->value, NULL);
		kvs_set(&ret->extensions, m->extensions[i]->key, text ? text : "");
	}
	return 0;
}

static int get(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
	       struct error *err)
{
	const Containerd__Services__Containers__V1__GetContainerRequest *request =
		(const Containerd__Services__Containers__V1__GetContainerRequest *)m;
	const struct containerd_view *pods = &ctrd_of(c)->config.pods;
	CLEANUP(container_record_done) struct container_record record = { 0 };
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	if (str_equal(ctx.ns, pods->ns) && pods->container(pods->arg, c, m, r, NULL) == 0)
		return 0;
	if (container_record_get(&ctx, request->id, &record, err) < 0)
		return -1;
	((Containerd__Services__Containers__V1__GetContainerResponse *)r)->container =
		make(grpc_call_arena(c), &record);
	return 0;
}

static const char *container_field(const void *object, const struct strv *path)
{
	const struct container_record *r = object;

	if (str_equal(path->v[0], "labels"))
		return filter_label(&r->labels, path);
	if (path->n == 2 && str_equal(path->v[0], "runtime") && str_equal(path->v[1], "name"))
		return r->runtime;
	if (path->n != 1)
		return NULL;
	if (str_equal(path->v[0], "id"))
		return r->id;
	return str_equal(path->v[0], "image") ? r->image : NULL;
}

static int find(struct grpc_call *c, char **filters, size_t n, struct items *ret, struct error *err)
{
	CLEANUP(container_records_done) struct container_records records = { 0 };
	autofilter struct filter *f = NULL;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 || filter_parse(filters, n, &f, err) < 0 ||
	    container_record_list(&ctx, &records, err) < 0)
		return -1;
	for (size_t i = 0; i < records.n; i++) {
		if (filter_match(f, container_field, &records.v[i]))
			items_add(grpc_call_arena(c), ret, make(grpc_call_arena(c), &records.v[i]));
	}
	return 0;
}

static int list(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		struct error *err)
{
	const Containerd__Services__Containers__V1__ListContainersRequest *request =
		(const Containerd__Services__Containers__V1__ListContainersRequest *)m;
	Containerd__Services__Containers__V1__ListContainersResponse *reply =
		(Containerd__Services__Containers__V1__ListContainersResponse *)r;
	struct items items = { 0 };

	if (find(c, request->filters, request->n_filters, &items, err) < 0)
		return -1;
	reply->containers = (container_message **)items.v;
	reply->n_containers = items.n;
	return 0;
}

/* One for each message. */
static int list_stream(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const Containerd__Services__Containers__V1__ListContainersRequest *request =
		(const Containerd__Services__Containers__V1__ListContainersRequest *)m;
	Containerd__Services__Containers__V1__ListContainerMessage reply =
		CONTAINERD__SERVICES__CONTAINERS__V1__LIST_CONTAINER_MESSAGE__INIT;
	struct items items = { 0 };

	if (find(c, request ? request->filters : NULL, request ? request->n_filters : 0, &items,
		 err) < 0)
		return -1;
	for (size_t i = 0; i < items.n; i++) {
		reply.container = items.v[i];
		if (grpc_call_write(c, &reply.base, err) < 0)
			return -1;
	}
	grpc_call_finish(c, NULL);
	return 0;
}

static int validate(const container_message *m, struct error *err)
{
	if (!m || !identifier_valid(m->id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "container id '%.128s' is not valid",
				 m ? m->id : "");
	if (!m->runtime || str_empty(m->runtime->name))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "container '%s': runtime.name is empty", m->id);
	if (!m->spec)
		return error_set(err, ERROR_INVALID_ARGUMENT, "container '%s': spec is missing",
				 m->id);
	if (!str_empty(m->snapshot_key) && str_empty(m->snapshotter))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "container '%s': snapshot_key without a snapshotter", m->id);
	return 0;
}

static void emit_create(struct grpc_call *c, const struct store_ctx *ctx,
			const container_message *m)
{
	Containerd__Events__ContainerCreate event = CONTAINERD__EVENTS__CONTAINER_CREATE__INIT;
	Containerd__Events__ContainerCreate__Runtime runtime =
		CONTAINERD__EVENTS__CONTAINER_CREATE__RUNTIME__INIT;

	event.id = m->id;
	event.image = m->image;
	runtime.name = m->runtime->name;
	runtime.options = m->runtime->options;
	event.runtime = &runtime;
	exchange_publish(ctrd_of(c)->exchange, ctx->ns, "/containers/create", &event.base);
}

static int create(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const container_message *wanted =
		((const Containerd__Services__Containers__V1__CreateContainerRequest *)m)
			->container;
	CLEANUP(container_record_done) struct container_record record = { 0 }, now = { 0 };
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 || validate(wanted, err) < 0 ||
	    take(wanted, &record, err) < 0 ||
	    container_record_create(&ctx, &record, /* sync */ true, err) < 0 ||
	    container_record_get(&ctx, record.id, &now, err) < 0)
		return -1;
	((Containerd__Services__Containers__V1__CreateContainerResponse *)r)->container =
		make(grpc_call_arena(c), &now);
	emit_create(c, &ctx, wanted);
	return 0;
}

static void set_or_unset(struct kvs *have, const struct kvs *want, const char *key)
{
	const char *value = kvs_get(want, key);

	if (value)
		kvs_set(have, key, value);
	else
		kvs_unset(have, key);
}

static void replace(struct kvs *have, const struct kvs *want)
{
	kvs_done(have);
	kvs_copy(have, want);
}

static int apply(struct container_record *have, const struct container_record *want,
		 const char *path, struct error *err)
{
	const char *label = ctrd_mask_key(path, "labels");
	const char *extension = ctrd_mask_key(path, "extensions");

	if (label)
		set_or_unset(&have->labels, &want->labels, label);
	else if (extension)
		set_or_unset(&have->extensions, &want->extensions, extension);
	else if (str_equal(path, "labels"))
		replace(&have->labels, &want->labels);
	else if (str_equal(path, "extensions"))
		replace(&have->extensions, &want->extensions);
	else if (str_equal(path, "spec"))
		str_replace(&have->spec, want->spec);
	else if (str_equal(path, "image"))
		str_replace(&have->image, want->image);
	else if (str_equal(path, "snapshotkey"))
		str_replace(&have->snapshot_key, want->snapshot_key);
	else
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cannot update '%.128s' of container '%s'", path, have->id);
	return 0;
}

static int apply_mask(struct container_record *have, const struct container_record *want,
		      const field_mask *mask, struct error *err)
{
	static const char *const all[] = { "labels", "extensions", "spec", "image", "snapshotkey" };

	if (mask && mask->n_paths > 0) {
		for (size_t i = 0; i < mask->n_paths; i++) {
			if (apply(have, want, mask->paths[i], err) < 0)
				return -1;
		}
		return 0;
	}
	if (!str_equal(have->snapshotter, want->snapshotter))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "container '%s': snapshotter cannot be changed", have->id);
	if (!str_equal(have->runtime, want->runtime))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "container '%s': runtime.name cannot be changed", have->id);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		apply(have, want, all[i], err);
	return 0;
}

static void emit_update(struct grpc_call *c, const struct store_ctx *ctx,
			const struct container_record *r)
{
	Containerd__Events__ContainerUpdate event = CONTAINERD__EVENTS__CONTAINER_UPDATE__INIT;

	event.id = r->id;
	event.image = r->image;
	event.snapshot_key = r->snapshot_key;
	event.labels = message_map(grpc_call_arena(c),
				   &containerd__events__container_update__labels_entry__descriptor,
				   &r->labels, &event.n_labels);
	exchange_publish(ctrd_of(c)->exchange, ctx->ns, "/containers/update", &event.base);
}

static int update(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Containers__V1__UpdateContainerRequest *request =
		(const Containerd__Services__Containers__V1__UpdateContainerRequest *)m;
	CLEANUP(container_record_done)
	struct container_record have = { 0 }, want = { 0 }, now = { 0 };
	struct store_ctx ctx;

	if (!request->container || str_empty(request->container->id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request names no container");
	if (ctrd_ctx(c, &ctx, err) < 0 || take(request->container, &want, err) < 0 ||
	    container_record_get(&ctx, want.id, &have, err) < 0 ||
	    apply_mask(&have, &want, request->update_mask, err) < 0 ||
	    container_record_update(&ctx, &have, err) < 0 ||
	    container_record_get(&ctx, want.id, &now, err) < 0)
		return -1;
	((Containerd__Services__Containers__V1__UpdateContainerResponse *)r)->container =
		make(grpc_call_arena(c), &now);
	emit_update(c, &ctx, &now);
	return 0;
}

static int delete (struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		   struct error *err)
{
	const Containerd__Services__Containers__V1__DeleteContainerRequest *request =
		(const Containerd__Services__Containers__V1__DeleteContainerRequest *)m;
	Containerd__Events__ContainerDelete event = CONTAINERD__EVENTS__CONTAINER_DELETE__INIT;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 || container_record_delete(&ctx, request->id, err) < 0)
		return -1;
	event.id = request->id;
	exchange_publish(ctrd_of(c)->exchange, ctx.ns, "/containers/delete", &event.base);
	return 0;
}

const struct grpc_method containers_methods[] = {
	{ "Get", .unary = get, .pool = JOB_OPS },
	{ "List", .unary = list, .pool = JOB_OPS },
	{ "ListStream", .streaming = list_stream, .pool = JOB_OPS },
	{ "Create", .unary = create, .pool = JOB_OPS },
	{ "Update", .unary = update, .pool = JOB_OPS },
	{ "Delete", .unary = delete, .pool = JOB_OPS },
	{ NULL },
};
