/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots; every request names a snapshotter. */
#include "api/containerd/internal.h"

#include "base/mem.h"
#include "base/mount.h"
#include "store/snapshots.h"

#include "containerd.events.pb-c.h"
#include "containerd.services.snapshots.v1.pb-c.h"

#define LABEL (&containerd__services__snapshots__v1__info__labels_entry__descriptor)
#define REF_LABEL "containerd.io/snapshot.ref"

typedef Containerd__Services__Snapshots__V1__Info info_message;

/* The context, and that there is such a snapshotter: dockerd probes for it. */
static int begin(struct grpc_call *c, const char *sn, struct store_ctx *ret, struct error *err)
{
	unsigned capabilities;

	if (ctrd_ctx(c, ret, err) < 0)
		return -1;
	if (str_empty(sn))
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request names no snapshotter");
	if (snapshotter_capabilities(ret->store, sn, &capabilities, NULL) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "snapshotter '%.128s' not loaded",
				 sn);
	return 0;
}

static info_message *make(struct arena *a, const struct snapshot_info *i)
{
	info_message *out = CTRD_NEW(a, services__snapshots__v1__info);

	out->name = message_text(a, i->name);
	out->parent = message_text(a, i->parent);
	out->kind = (Containerd__Services__Snapshots__V1__Kind)i->kind;
	out->created_at = ctrd_time(a, i->created_at);
	out->updated_at = ctrd_time(a, i->updated_at);
	out->labels = message_map(a, LABEL, &i->labels, &out->n_labels);
	return out;
}

/* Somebody else has unpacked it meanwhile: its name joins the lease by the store. */
static int check_ref(const struct store_ctx *ctx, const char *sn, const struct kvs *labels,
		     struct error *err)
{
	CLEANUP(snapshot_info_done) struct snapshot_info i = { 0 };
	const char *target = kvs_get(labels, REF_LABEL);

	if (!target || snapshot_stat(ctx, sn, target, &i, NULL) < 0 || i.kind != SNAPSHOT_COMMITTED)
		return 0;
	return error_set(err, ERROR_ALREADY_EXISTS, "target snapshot \"%s\": already exists",
			 target);
}

static int prepare(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		   struct error *err)
{
	const Containerd__Services__Snapshots__V1__PrepareSnapshotRequest *request =
		(const Containerd__Services__Snapshots__V1__PrepareSnapshotRequest *)m;
	Containerd__Services__Snapshots__V1__PrepareSnapshotResponse *reply =
		(Containerd__Services__Snapshots__V1__PrepareSnapshotResponse *)r;
	Containerd__Events__SnapshotPrepare event = CONTAINERD__EVENTS__SNAPSHOT_PREPARE__INIT;
	autokvs struct kvs labels = KVS_INIT;
	automounts struct mounts mounts = MOUNTS_INIT;
	struct store_ctx ctx;

	message_kvs(&labels, request->labels, request->n_labels);
	if (begin(c, request->snapshotter, &ctx, err) < 0 ||
	    check_ref(&ctx, request->snapshotter, &labels, err) < 0 ||
	    snapshot_prepare(&ctx, request->snapshotter, request->key, request->parent, &labels,
			     &mounts, err) < 0)
		return -1;
	reply->mounts = ctrd_mounts(grpc_call_arena(c), &mounts, &reply->n_mounts);
	event.key = request->key;
	event.parent = request->parent;
	event.snapshotter = request->snapshotter;
	exchange_publish(ctrd_of(c)->exchange, ctx.ns, "/snapshot/prepare", &event.base);
	return 0;
}

static int view(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		struct error *err)
{
	const Containerd__Services__Snapshots__V1__ViewSnapshotRequest *request =
		(const Containerd__Services__Snapshots__V1__ViewSnapshotRequest *)m;
	Containerd__Services__Snapshots__V1__ViewSnapshotResponse *reply =
		(Containerd__Services__Snapshots__V1__ViewSnapshotResponse *)r;
	autokvs struct kvs labels = KVS_INIT;
	automounts struct mounts mounts = MOUNTS_INIT;
	struct store_ctx ctx;

	message_kvs(&labels, request->labels, request->n_labels);
	if (begin(c, request->snapshotter, &ctx, err) < 0 ||
	    snapshot_view(&ctx, request->snapshotter, request->key, request->parent, &labels,
			  &mounts, err) < 0)
		return -1;
	reply->mounts = ctrd_mounts(grpc_call_arena(c), &mounts, &reply->n_mounts);
	return 0;
}

static int get_mounts(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		      struct error *err)
{
	const Containerd__Services__Snapshots__V1__MountsRequest *request =
		(const Containerd__Services__Snapshots__V1__MountsRequest *)m;
	Containerd__Services__Snapshots__V1__MountsResponse *reply =
		(Containerd__Services__Snapshots__V1__MountsResponse *)r;
	automounts struct mounts mounts = MOUNTS_INIT;
	struct store_ctx ctx;

	if (begin(c, request->snapshotter, &ctx, err) < 0 ||
	    snapshot_mounts(&ctx, request->snapshotter, request->key, &mounts, err) < 0)
		return -1;
	reply->mounts = ctrd_mounts(grpc_call_arena(c), &mounts, &reply->n_mounts);
	return 0;
}

static int commit(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		  struct error *err)
{
	const Containerd__Services__Snapshots__V1__CommitSnapshotRequest *request =
		(const Containerd__Services__Snapshots__V1__CommitSnapshotRequest *)m;
	Containerd__Events__SnapshotCommit event = CONTAINERD__EVENTS__SNAPSHOT_COMMIT__INIT;
	const char *sn = request->snapshotter;
	autokvs struct kvs labels = KVS_INIT;
	struct store_ctx ctx;
	int result;

	message_kvs(&labels, request->labels, request->n_labels);
	if (begin(c, sn, &ctx, err) < 0)
		return -1;
	if (str_empty(request->parent))
		result = snapshot_commit(&ctx, sn, request->name, request->key, &labels,
					 /* sync */ true, err);
	else
		result = snapshot_commit_onto(&ctx, sn, request->name, request->key,
					      request->parent, NULL, &labels, /* sync */ true, err);
	if (result < 0)
		return -1;
	event.key = request->key;
	event.name = request->name;
	event.snapshotter = request->snapshotter;
	exchange_publish(ctrd_of(c)->exchange, ctx.ns, "/snapshot/commit", &event.base);
	return 0;
}

static int do_remove(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		     struct error *err)
{
	const Containerd__Services__Snapshots__V1__RemoveSnapshotRequest *request =
		(const Containerd__Services__Snapshots__V1__RemoveSnapshotRequest *)m;
	Containerd__Events__SnapshotRemove event = CONTAINERD__EVENTS__SNAPSHOT_REMOVE__INIT;
	struct store_ctx ctx;

	if (begin(c, request->snapshotter, &ctx, err) < 0 ||
	    snapshot_remove(&ctx, request->snapshotter, request->key, err) < 0)
		return -1;
	event.key = request->key;
	event.snapshotter = request->snapshotter;
	exchange_publish(ctrd_of(c)->exchange, ctx.ns, "/snapshot/remove", &event.base);
	return 0;
}

static int do_stat(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		   struct error *err)
{
	const Containerd__Services__Snapshots__V1__StatSnapshotRequest *request =
		(const Containerd__Services__Snapshots__V1__StatSnapshotRequest *)m;
	CLEANUP(snapshot_info_done) struct snapshot_info i = { 0 };
	struct store_ctx ctx;

	if (begin(c, request->snapshotter, &ctx, err) < 0 ||
	    snapshot_stat(&ctx, request->snapshotter, request->key, &i, err) < 0)
		return -1;
	((Containerd__Services__Snapshots__V1__StatSnapshotResponse *)r)->info =
		make(grpc_call_arena(c), &i);
	return 0;
}

static int update(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Snapshots__V1__UpdateSnapshotRequest *request =
		(const Containerd__Services__Snapshots__V1__UpdateSnapshotRequest *)m;
	CLEANUP(snapshot_info_done) struct snapshot_info have = { 0 }, now = { 0 };
	autokvs struct kvs want = KVS_INIT, changes = KVS_INIT;
	const char *sn = request->snapshotter;
	struct store_ctx ctx;

	if (!request->info)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request names no snapshot");
	message_kvs(&want, request->info->labels, request->info->n_labels);
	if (begin(c, sn, &ctx, err) < 0 ||
	    snapshot_stat(&ctx, sn, request->info->name, &have, err) < 0 ||
	    ctrd_label_changes(&have.labels, &want, request->update_mask, &changes, err) < 0 ||
	    snapshot_set_labels(&ctx, sn, request->info->name, &changes, err) < 0 ||
	    snapshot_stat(&ctx, sn, request->info->name, &now, err) < 0)
		return -1;
	((Containerd__Services__Snapshots__V1__UpdateSnapshotResponse *)r)->info =
		make(grpc_call_arena(c), &now);
	return 0;
}

static const char *snapshot_field(const void *object, const struct strv *path)
{
	static const char *const kinds[] = {
		[SNAPSHOT_VIEW] = "view",
		[SNAPSHOT_ACTIVE] = "active",
		[SNAPSHOT_COMMITTED] = "committed",
	};
	const struct snapshot_info *i = object;

	if (str_equal(path->v[0], "labels"))
		return filter_label(&i->labels, path);
	if (path->n != 1)
		return NULL;
	if (str_equal(path->v[0], "kind"))
		return kinds[i->kind];
	if (str_equal(path->v[0], "name"))
		return i->name;
	return str_equal(path->v[0], "parent") && !str_empty(i->parent) ? i->parent : NULL;
}

struct walk {
	struct arena *arena;
	const struct filter *filter;
	struct items items;
};

static int add_info(const struct snapshot_info *i, void *arg)
{
	struct walk *w = arg;

	if (filter_match(w->filter, snapshot_field, i))
		items_add(w->arena, &w->items, make(w->arena, i));
	return 0;
}

static int list(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const Containerd__Services__Snapshots__V1__ListSnapshotsRequest *request =
		(const Containerd__Services__Snapshots__V1__ListSnapshotsRequest *)m;
	autofilter struct filter *f = NULL;
	struct store_ctx ctx;

	if (!request)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request has no message");
	if (begin(c, request->snapshotter, &ctx, err) < 0 ||
	    filter_parse(request->filters, request->n_filters, &f, err) < 0)
		return -1;
	struct walk w = { .arena = grpc_call_arena(c), .filter = f };
	if (snapshot_walk(&ctx, request->snapshotter, add_info, &w, err) < 0)
		return -1;
	grpc_call_send_items(
		c, ctrd_of(c)->config.loop,
		&containerd__services__snapshots__v1__list_snapshots_response__descriptor,
		w.items.v, w.items.n);
	return 0;
}

static int usage(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		 struct error *err)
{
	const Containerd__Services__Snapshots__V1__UsageRequest *request =
		(const Containerd__Services__Snapshots__V1__UsageRequest *)m;
	Containerd__Services__Snapshots__V1__UsageResponse *reply =
		(Containerd__Services__Snapshots__V1__UsageResponse *)r;
	struct snapshot_usage u = { 0 };
	struct store_ctx ctx;

	if (begin(c, request->snapshotter, &ctx, err) < 0 ||
	    snapshot_usage(&ctx, request->snapshotter, request->key, &u, err) < 0)
		return -1;
	reply->size = u.size;
	reply->inodes = u.inodes;
	return 0;
}

/* The store removes directories by itself. */
static int cleanup(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		   struct error *err)
{
	const Containerd__Services__Snapshots__V1__CleanupRequest *request =
		(const Containerd__Services__Snapshots__V1__CleanupRequest *)m;
	struct store_ctx ctx;

	return begin(c, request->snapshotter, &ctx, err);
}

const struct grpc_method snapshots_methods[] = {
	{ "Prepare", .unary = prepare, .pool = JOB_OPS },
	{ "View", .unary = view, .pool = JOB_OPS },
	{ "Mounts", .unary = get_mounts, .pool = JOB_OPS },
	{ "Commit", .unary = commit, .pool = JOB_TRANSFER },
	{ "Remove", .unary = do_remove, .pool = JOB_OPS },
	{ "Stat", .unary = do_stat, .pool = JOB_OPS },
	{ "Update", .unary = update, .pool = JOB_OPS },
	{ "List", .streaming = list, .pool = JOB_OPS },
	{ "Usage", .unary = usage, .pool = JOB_TRANSFER },
	{ "Cleanup", .unary = cleanup, .pool = JOB_OPS },
	{ NULL },
};
