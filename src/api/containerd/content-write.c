/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content.Write (containerd-api.md 5.1): one ingest for each stream, locked from the first message
 * to the stream's end, and one answer for each message. What was not committed stays for resume.
 */
#include "api/containerd/internal.h"

#include "base/mem.h"
#include "base/time.h"
#include "store/content.h"

#include "containerd.events.pb-c.h"
#include "containerd.services.content.v1.pb-c.h"

#include <stdio.h>

#define ACTION(name) CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__##name

typedef Containerd__Services__Content__V1__WriteContentRequest write_request;
typedef Containerd__Services__Content__V1__WriteContentResponse write_response;

struct writing {
	struct grpc_call *call;
	struct store_ctx ctx;
	struct ingest *ingest;
	char *expected;
	int64_t total;
	int64_t started_at;
	bool committed;
};

static void writing_done(struct writing *w)
{
	ingest_closep(&w->ingest);
	free(w->expected);
}

static int begin(struct writing *w, const write_request *m, struct error *err)
{
	CLEANUP(ingest_status_done) struct ingest_status status = { 0 };

	if (str_empty(m->ref))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "first message must have a reference");
	if (ingest_open(&w->ctx, m->ref, m->total, str_empty(m->expected) ? NULL : m->expected,
			&w->ingest, err) < 0)
		return -1;
	w->started_at = ingest_stat(&w->ctx, m->ref, &status, NULL) == 0 ? status.started_at
									 : time_realtime();
	w->total = status.total;
	return 0;
}

/* What is expected may be said later, and may have come by another way meanwhile. */
static int note_expectations(struct writing *w, const write_request *m, struct error *err)
{
	CLEANUP(content_info_done) struct content_info there = { 0 };

	if (m->total < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "total must not be negative");
	if (m->total > 0)
		w->total = m->total;
	if (str_empty(m->expected) || str_equal(m->expected, w->expected))
		return 0;
	if (!digest_valid(m->expected))
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%.160s' is not a valid digest",
				 m->expected);
	str_replace(&w->expected, m->expected);
	if (content_stat(&w->ctx, w->expected, &there, NULL) == 0)
		return error_set(err, ERROR_ALREADY_EXISTS, "content '%s' exists", w->expected);
	return 0;
}

static int append(struct writing *w, const write_request *m, struct error *err)
{
	int64_t size = ingest_size(w->ingest);

	if (m->offset < 0 || (m->offset > 0 && m->offset != size))
		return error_set(err, ERROR_OUT_OF_RANGE, "write at offset %lld, expected %lld",
				 (long long)m->offset, (long long)size);
	/* At 0 it begins anew. */
	return ingest_write(w->ingest, m->offset, m->data.data, m->data.len, err);
}

static int commit(struct writing *w, const write_request *m, char digest[DIGEST_MAX],
		  struct error *err)
{
	Containerd__Events__ContentCreate event = CONTAINERD__EVENTS__CONTENT_CREATE__INIT;
	autokvs struct kvs labels = KVS_INIT;

	message_kvs(&labels, m->labels, m->n_labels);
	event.size = ingest_size(w->ingest);
	if (ingest_commit(w->ingest, w->total, w->expected, /* verified */ false, &labels, digest,
			  err) < 0)
		return -1;
	w->committed = true;
	event.digest = digest;
	exchange_publish(ctrd_of(w->call)->exchange, w->ctx.ns, "/content/create", &event.base);
	return 0;
}

static int answer(struct writing *w, int action, int64_t offset, const char *digest,
		  struct error *err)
{
	autoarena struct arena a = ARENA_INIT;
	write_response reply = CONTAINERD__SERVICES__CONTENT__V1__WRITE_CONTENT_RESPONSE__INIT;

	reply.action = (Containerd__Services__Content__V1__WriteAction)action;
	reply.started_at = ctrd_time(&a, w->started_at);
	reply.updated_at = ctrd_time(&a, time_realtime());
	reply.offset = offset;
	reply.total = w->total;
	reply.digest = (char *)(uintptr_t)digest;
	return grpc_call_write(w->call, &reply.base, err);
}

static int handle(struct writing *w, const write_request *m, struct error *err)
{
	char digest[DIGEST_MAX] = "";

	if (!w->ingest && begin(w, m, err) < 0)
		return -1;
	if (note_expectations(w, m, err) < 0)
		return -1;
	switch (m->action) {
	case ACTION(STAT):
		break;
	case ACTION(WRITE):
		if (append(w, m, err) < 0)
			return -1;
		break;
	case ACTION(COMMIT): {
		if (append(w, m, err) < 0)
			return -1;
		int64_t size = ingest_size(w->ingest);
		if (commit(w, m, digest, err) < 0)
			return -1;
		return answer(w, m->action, size, digest, err);
	}
	default:
		return error_set(err, ERROR_INVALID_ARGUMENT, "unknown action %d", (int)m->action);
	}
	if (ingest_digest(w->ingest, digest, err) < 0)
		return -1;
	return answer(w, m->action, ingest_size(w->ingest), digest, err);
}

int content_service_write(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	CLEANUP(writing_done) struct writing w = { .call = c };

	if (ctrd_ctx(c, &w.ctx, err) < 0)
		return -1;
	if (m && handle(&w, (const write_request *)m, err) < 0)
		return -1;
	while (m && !w.committed) {
		autoarena struct arena a = ARENA_INIT;
		ProtobufCMessage *next = NULL;
		int r = grpc_call_read(c, &a, &next, err);

		if (r < 0)
			return -1;
		if (r == 0)
			break;
		if (handle(&w, (const write_request *)next, err) < 0)
			return -1;
	}
	grpc_call_finish(c, NULL);
	return 0;
}
