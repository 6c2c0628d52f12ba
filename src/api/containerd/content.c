/* SPDX-License-Identifier: Apache-2.0 */
/* Content: blobs and ingests, but for Write, which is content-write.c. */
#include "api/containerd/internal.h"

#include "base/mem.h"
#include "store/content.h"

#include "containerd.events.pb-c.h"
#include "containerd.services.content.v1.pb-c.h"

#include <unistd.h>

#define READ_CHUNK (1 << 20)
#define ENTRY (&containerd__services__content__v1__info__labels_entry__descriptor)

typedef Containerd__Services__Content__V1__Info info_message;
typedef Containerd__Services__Content__V1__Status status_message;

static info_message *make_info(struct arena *a, const struct content_info *i)
{
	info_message *out = CTRD_NEW(a, services__content__v1__info);

	out->digest = message_text(a, i->digest);
	out->size = i->size;
	out->created_at = ctrd_time(a, i->created_at);
	out->updated_at = ctrd_time(a, i->updated_at);
	out->labels = message_map(a, ENTRY, &i->labels, &out->n_labels);
	return out;
}

static int info(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		struct error *err)
{
	const Containerd__Services__Content__V1__InfoRequest *request =
		(const Containerd__Services__Content__V1__InfoRequest *)m;
	CLEANUP(content_info_done) struct content_info i = { 0 };
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 || content_stat(&ctx, request->digest, &i, err) < 0)
		return -1;
	((Containerd__Services__Content__V1__InfoResponse *)r)->info =
		make_info(grpc_call_arena(c), &i);
	return 0;
}

static int update(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Content__V1__UpdateRequest *request =
		(const Containerd__Services__Content__V1__UpdateRequest *)m;
	CLEANUP(content_info_done) struct content_info have = { 0 }, now = { 0 };
	autokvs struct kvs want = KVS_INIT, changes = KVS_INIT;
	struct store_ctx ctx;

	if (!request->info)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request names no content");
	const char *digest = request->info->digest;
	message_kvs(&want, request->info->labels, request->info->n_labels);
	if (ctrd_ctx(c, &ctx, err) < 0 || content_stat(&ctx, digest, &have, err) < 0 ||
	    ctrd_label_changes(&have.labels, &want, request->update_mask, &changes, err) < 0 ||
	    content_set_labels(&ctx, digest, &changes, err) < 0 ||
	    content_stat(&ctx, digest, &now, err) < 0)
		return -1;
	((Containerd__Services__Content__V1__UpdateResponse *)r)->info =
		make_info(grpc_call_arena(c), &now);
	return 0;
}

static const char *info_field(const void *object, const struct strv *path)
{
	const struct content_info *i = object;

	if (str_equal(path->v[0], "labels"))
		return filter_label(&i->labels, path);
	return path->n == 1 && str_equal(path->v[0], "digest") ? i->digest : NULL;
}

struct walk {
	struct arena *arena;
	const struct filter *filter;
	struct items items;
};

static int add_info(const struct content_info *i, void *arg)
{
	struct walk *w = arg;

	if (filter_match(w->filter, info_field, i))
		items_add(w->arena, &w->items, make_info(w->arena, i));
	return 0;
}

static int list(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const Containerd__Services__Content__V1__ListContentRequest *request =
		(const Containerd__Services__Content__V1__ListContentRequest *)m;
	autofilter struct filter *f = NULL;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 ||
	    filter_parse(request ? request->filters : NULL, request ? request->n_filters : 0, &f,
			 err) < 0)
		return -1;
	struct walk w = { .arena = grpc_call_arena(c), .filter = f };
	if (content_walk(&ctx, add_info, &w, err) < 0)
		return -1;
	grpc_call_send_items(c, ctrd_of(c)->config.loop,
			     &containerd__services__content__v1__list_content_response__descriptor,
			     w.items.v, w.items.n);
	return 0;
}

static int delete (struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		   struct error *err)
{
	const Containerd__Services__Content__V1__DeleteContentRequest *request =
		(const Containerd__Services__Content__V1__DeleteContentRequest *)m;
	Containerd__Events__ContentDelete event = CONTAINERD__EVENTS__CONTENT_DELETE__INIT;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 || content_delete(&ctx, request->digest, err) < 0)
		return -1;
	event.digest = request->digest;
	exchange_publish(ctrd_of(c)->exchange, ctx.ns, "/content/delete", &event.base);
	return 0;
}

/* Offsets of the answers count from the start of this read. */
static int send_range(struct grpc_call *c, int fd, int64_t offset, int64_t size, struct error *err)
{
	Containerd__Services__Content__V1__ReadContentResponse reply =
		CONTAINERD__SERVICES__CONTENT__V1__READ_CONTENT_RESPONSE__INIT;
	autofree uint8_t *chunk = xmalloc(READ_CHUNK);

	for (int64_t at = 0; at < size;) {
		size_t n = (size_t)MIN(size - at, (int64_t)READ_CHUNK);
		ssize_t got = pread(fd, chunk, n, offset + at);

		if (got < 0)
			return error_errno(err, errno, "read content");
		if (got == 0)
			return error_set(err, ERROR_DATA_LOSS, "content is shorter than recorded");
		reply.offset = at;
		reply.data = (ProtobufCBinaryData){ (size_t)got, chunk };
		if (grpc_call_write(c, &reply.base, err) < 0)
			return -1;
		at += got;
	}
	return 0;
}

static int do_read(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const Containerd__Services__Content__V1__ReadContentRequest *request =
		(const Containerd__Services__Content__V1__ReadContentRequest *)m;
	struct store_ctx ctx;
	int64_t size;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	if (!request || request->offset < 0 || request->size < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "offset and size must not be negative");
	autoclose int fd = content_open(&ctx, request->digest, &size, err);
	if (fd < 0)
		return -1;
	if (request->offset > size)
		return error_set(err, ERROR_OUT_OF_RANGE, "read past the end of %s",
				 request->digest);
	int64_t left = size - request->offset;
	if (request->size > left)
		return error_set(err, ERROR_OUT_OF_RANGE,
				 "read of %lld bytes at %lld of %s: it has %lld",
				 (long long)request->size, (long long)request->offset,
				 request->digest, (long long)size);
	if (send_range(c, fd, request->offset, request->size ? request->size : left, err) < 0)
		return -1;
	grpc_call_finish(c, NULL);
	return 0;
}

static status_message *make_status(struct arena *a, const struct ingest_status *s)
{
	status_message *out = CTRD_NEW(a, services__content__v1__status);

	out->ref = message_text(a, s->ref);
	out->expected = message_text(a, s->expected);
	out->offset = s->offset;
	out->total = s->total;
	out->started_at = ctrd_time(a, s->started_at);
	out->updated_at = ctrd_time(a, s->updated_at);
	return out;
}

static int status(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Content__V1__StatusRequest *request =
		(const Containerd__Services__Content__V1__StatusRequest *)m;
	CLEANUP(ingest_status_done) struct ingest_status s = { 0 };
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 || ingest_stat(&ctx, request->ref, &s, err) < 0)
		return -1;
	((Containerd__Services__Content__V1__StatusResponse *)r)->status =
		make_status(grpc_call_arena(c), &s);
	return 0;
}

static const char *status_field(const void *object, const struct strv *path)
{
	const struct ingest_status *s = object;

	return path->n == 1 && str_equal(path->v[0], "ref") ? s->ref : NULL;
}

static int add_status(const struct ingest_status *s, void *arg)
{
	struct walk *w = arg;

	if (filter_match(w->filter, status_field, s))
		items_add(w->arena, &w->items, make_status(w->arena, s));
	return 0;
}

static int list_statuses(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			 struct error *err)
{
	const Containerd__Services__Content__V1__ListStatusesRequest *request =
		(const Containerd__Services__Content__V1__ListStatusesRequest *)m;
	Containerd__Services__Content__V1__ListStatusesResponse *reply =
		(Containerd__Services__Content__V1__ListStatusesResponse *)r;
	autofilter struct filter *f = NULL;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 ||
	    filter_parse(request->filters, request->n_filters, &f, err) < 0)
		return -1;
	struct walk w = { .arena = grpc_call_arena(c), .filter = f };
	if (ingest_walk(&ctx, add_status, &w, err) < 0)
		return -1;
	reply->statuses = (status_message **)w.items.v;
	reply->n_statuses = w.items.n;
	return 0;
}

static int do_abort(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		    struct error *err)
{
	const Containerd__Services__Content__V1__AbortRequest *request =
		(const Containerd__Services__Content__V1__AbortRequest *)m;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	return ingest_abort(&ctx, request->ref, err);
}

const struct grpc_method content_methods[] = {
	{ "Info", .unary = info, .pool = JOB_OPS },
	{ "Update", .unary = update, .pool = JOB_OPS },
	{ "List", .streaming = list, .pool = JOB_OPS },
	{ "Delete", .unary = delete, .pool = JOB_OPS },
	{ "Read", .streaming = do_read, .pool = JOB_TRANSFER },
	{ "Status", .unary = status, .pool = JOB_OPS },
	{ "ListStatuses", .unary = list_statuses, .pool = JOB_OPS },
	{ "Write", .streaming = content_service_write, .client_streams = true,
	  .pool = JOB_TRANSFER },
	{ "Abort", .unary = do_abort, .pool = JOB_OPS },
	{ NULL },
};
