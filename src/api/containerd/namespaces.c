/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces. They need none in the call, and come into being with their first object. */
#include "api/containerd/internal.h"

#include "base/mem.h"

#include "containerd.events.pb-c.h"
#include "containerd.services.namespaces.v1.pb-c.h"

#define NEW_NAMESPACE(a) CTRD_NEW(a, services__namespaces__v1__namespace)

typedef Containerd__Services__Namespaces__V1__Namespace namespace_message;

#define ENTRY (&containerd__services__namespaces__v1__namespace__labels_entry__descriptor)

static namespace_message *make(struct arena *a, const char *name, const struct kvs *labels)
{
	namespace_message *n = NEW_NAMESPACE(a);

	n->name = message_text(a, name);
	n->labels = message_map(a, ENTRY, labels, &n->n_labels);
	return n;
}

/* One that does not exist has no labels: clients read their defaults there before each run. */
static int get(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
	       struct error *err)
{
	const Containerd__Services__Namespaces__V1__GetNamespaceRequest *request =
		(const Containerd__Services__Namespaces__V1__GetNamespaceRequest *)m;
	autokvs struct kvs labels = KVS_INIT;

	if (namespace_labels(ctrd_of(c)->config.store, request->name, &labels, err) < 0)
		return -1;
	((Containerd__Services__Namespaces__V1__GetNamespaceResponse *)r)->namespace_ =
		make(grpc_call_arena(c), request->name, &labels);
	return 0;
}

static const char *namespace_field(const void *object, const struct strv *path)
{
	const namespace_message *n = object;

	return path->n == 1 && str_equal(path->v[0], "name") ? n->name : NULL;
}

static int list(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		struct error *err)
{
	const Containerd__Services__Namespaces__V1__ListNamespacesRequest *request =
		(const Containerd__Services__Namespaces__V1__ListNamespacesRequest *)m;
	Containerd__Services__Namespaces__V1__ListNamespacesResponse *reply =
		(Containerd__Services__Namespaces__V1__ListNamespacesResponse *)r;
	struct arena *a = grpc_call_arena(c);
	struct store *s = ctrd_of(c)->config.store;
	char *texts[] = { request->filter };
	autofilter struct filter *f = NULL;
	autostrv struct strv names = STRV_INIT;

	if (filter_parse(texts, 1, &f, err) < 0 || namespace_list(s, &names, err) < 0)
		return -1;
	reply->namespaces = message_array(a, names.n);
	for (size_t i = 0; i < names.n; i++) {
		autokvs struct kvs labels = KVS_INIT;

		if (namespace_labels(s, names.v[i], &labels, err) < 0)
			return -1;
		namespace_message *n = make(a, names.v[i], &labels);
		if (filter_match(f, namespace_field, n))
			reply->namespaces[reply->n_namespaces++] = n;
	}
	return 0;
}

static int create(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Namespaces__V1__CreateNamespaceRequest *request =
		(const Containerd__Services__Namespaces__V1__CreateNamespaceRequest *)m;
	Containerd__Events__NamespaceCreate event = CONTAINERD__EVENTS__NAMESPACE_CREATE__INIT;
	autokvs struct kvs labels = KVS_INIT;

	if (!request->namespace_)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request names no namespace");
	message_kvs(&labels, request->namespace_->labels, request->namespace_->n_labels);
	if (namespace_create(ctrd_of(c)->config.store, request->namespace_->name, &labels, err) < 0)
		return -1;
	((Containerd__Services__Namespaces__V1__CreateNamespaceResponse *)r)->namespace_ =
		make(grpc_call_arena(c), request->namespace_->name, &labels);
	event.name = request->namespace_->name;
	exchange_publish(ctrd_of(c)->exchange, event.name, "/namespaces/create", &event.base);
	return 0;
}

static int update(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Namespaces__V1__UpdateNamespaceRequest *request =
		(const Containerd__Services__Namespaces__V1__UpdateNamespaceRequest *)m;
	Containerd__Events__NamespaceUpdate event = CONTAINERD__EVENTS__NAMESPACE_UPDATE__INIT;
	struct store *s = ctrd_of(c)->config.store;
	autokvs struct kvs have = KVS_INIT, want = KVS_INIT, changes = KVS_INIT, now = KVS_INIT;

	if (!request->namespace_)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request names no namespace");
	event.name = request->namespace_->name;
	message_kvs(&want, request->namespace_->labels, request->namespace_->n_labels);
	if (namespace_labels(s, event.name, &have, err) < 0 ||
	    ctrd_label_changes(&have, &want, request->update_mask, &changes, err) < 0 ||
	    namespace_set_labels(s, event.name, &changes, err) < 0 ||
	    namespace_labels(s, event.name, &now, err) < 0)
		return -1;
	((Containerd__Services__Namespaces__V1__UpdateNamespaceResponse *)r)->namespace_ =
		make(grpc_call_arena(c), event.name, &now);
	exchange_publish(ctrd_of(c)->exchange, event.name, "/namespaces/update", &event.base);
	return 0;
}

static int delete (struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		   struct error *err)
{
	const Containerd__Services__Namespaces__V1__DeleteNamespaceRequest *request =
		(const Containerd__Services__Namespaces__V1__DeleteNamespaceRequest *)m;
	Containerd__Events__NamespaceDelete event = CONTAINERD__EVENTS__NAMESPACE_DELETE__INIT;

	if (namespace_delete(ctrd_of(c)->config.store, request->name, err) < 0)
		return -1;
	event.name = request->name;
	exchange_publish(ctrd_of(c)->exchange, event.name, "/namespaces/delete", &event.base);
	return 0;
}

const struct grpc_method namespaces_methods[] = {
	{ "Get", .unary = get, .pool = JOB_OPS },
	{ "List", .unary = list, .pool = JOB_OPS },
	{ "Create", .unary = create, .pool = JOB_OPS },
	{ "Update", .unary = update, .pool = JOB_OPS },
	{ "Delete", .unary = delete, .pool = JOB_OPS },
	{ NULL },
};
