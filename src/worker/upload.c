/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HEAD, cross-repository mount, then POST and one PUT with all bytes. What registries or proxies do
 * not take in one piece goes by PATCH in chunks; a chunk that broke goes on where the registry says
 * that it is. Every request goes to the Location of the one before.
 */
#include "worker/upload.h"

#include "base/mem.h"
#include "base/parse.h"
#include "worker/headers.h"
#include "worker/retry.h"

#include <string.h>

#define MOUNTS_MAX 3
#define REPLY_MAX (64 << 10)
#define CHUNK_DEFAULT (16LL << 20)
#define CHUNK_MAX (1LL << 30)

struct upload {
	struct push *push;
	struct upload_blob *blob;
	struct http_response response;
	char *location; /* of the session; NULL: none is open */
	int64_t offset; /* bytes that the session has */
	int64_t chunk;	/* > 0: by PATCH */
	int64_t last_report;
};

static void upload_done(struct upload *u)
{
	http_response_done(&u->response);
	free(u->location);
}

void upload_blob_done(struct upload_blob *b)
{
	descriptor_done(&b->descriptor);
	strv_done(&b->mount_from);
	closep(&b->fd);
	b->fd = -1;
}

static void on_sent(int64_t sent, void *arg)
{
	struct upload *u = arg;

	channel_progress(u->push->channel, u->blob->n, u->offset + sent, u->blob->descriptor.size,
			 &u->last_report);
}

static int request(struct upload *u, const char *method, const char *url, const char *scope,
		   struct http_request *q, struct error *err)
{
	q->method = method;
	q->url = url;
	return registry_try(u->push->registry, u->push->endpoint, q, scope, &u->response, NULL,
			    err);
}

static int failed(struct upload *u, const char *method, const char *url, struct error *err)
{
	const struct http_request q = { .method = method, .url = url };

	return http_status_error(&q, &u->response, err);
}

/* A registry behind a proxy may not know that it is spoken to by https; what it says of itself is
 * taken as https then. Everything else has to be as safe as the endpoint. */
static int take_location(struct upload *u, const char *url, struct error *err)
{
	const char *location = http_header(&u->response, "location");
	autofree char *next = location ? url_resolve(url, location) : NULL;

	if (!next)
		return error_set(err, ERROR_UNAVAILABLE,
				 "the registry opened an upload without a usable Location");
	if (!url_is_https(next) && url_is_https(url)) {
		autofree char *tls = xasprintf("https%s", next + 4);
		autofree char *origin = url_origin(tls);

		if (!str_equal(origin, u->push->endpoint->origin))
			return error_set(err, ERROR_PERMISSION_DENIED,
					 "the registry wants the upload over plain http");
		str_replace(&next, tls);
	}
	free(u->location);
	u->location = TAKE_PTR(next);
	return 0;
}

/* 1: there. A registry that will not say is asked to take it. */
static int exists(struct upload *u, struct error *err)
{
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = registry_url(u->push->registry, u->push->endpoint, "blobs/%s",
					  u->blob->descriptor.digest);

	q.method = "HEAD";
	q.url = url;
	if (registry_request(u->push->registry, u->push->endpoint, &q, u->push->scope,
			     /* last= */ true, &u->response, err) < 0)
		return -1;
	if (u->response.status == 403 || u->response.status == 429 || u->response.status >= 500)
		return failed(u, "HEAD", url, err);
	return u->response.status == 200;
}

/* 1: mounted; 0: not, but perhaps an upload is open. */
static int mount_from(struct upload *u, const char *repository)
{
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *scope = xasprintf("%s repository:%s:pull", u->push->scope, repository);
	autofree char *plain = registry_url(u->push->registry, u->push->endpoint, "blobs/uploads/");
	autofree char *with = url_with_query(plain, "mount", u->blob->descriptor.digest);
	autofree char *url = url_with_query(with, "from", repository);

	if (request(u, "POST", url, scope, &q, NULL) < 0)
		return 0;
	if (u->response.status == 201)
		return 1;
	if (u->response.status == 202)
		(void)take_location(u, url, NULL);
	return 0;
}

/* A failed mount leaves a session open; the last one is used. */
static int try_mounts(struct upload *u, const char **ret_from)
{
	const struct strv *from = &u->blob->mount_from;

	for (size_t i = 0; i < MIN(from->n, (size_t)MOUNTS_MAX); i++)
		if (mount_from(u, from->v[i])) {
			*ret_from = from->v[i];
			return 1;
		}
	return 0;
}

static int open_session(struct upload *u, struct error *err)
{
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = registry_url(u->push->registry, u->push->endpoint, "blobs/uploads/");
	const char *text;
	int64_t min;

	u->offset = 0;
	if (request(u, "POST", url, u->push->scope, &q, err) < 0)
		return -1;
	if (u->response.status != 202)
		return failed(u, "POST", url, err);
	/* A registry that speaks of chunks wants chunks. */
	text = http_header(&u->response, "oci-chunk-min-length");
	if (text && parse_int64(text, &min) == 0 && min > 0 && min <= CHUNK_MAX)
		u->chunk = MAX(min, CHUNK_DEFAULT);
	return take_location(u, url, err);
}

/* PUT: with everything (monolithic), or with nothing after the last chunk. */
static int finish(struct upload *u, bool with_body, struct error *err)
{
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = url_with_query(u->location, "digest", u->blob->descriptor.digest);

	strv_push(&q.headers, "Content-Type: application/octet-stream");
	if (with_body) {
		q.body_fd = u->blob->fd;
		q.body_len = u->blob->descriptor.size;
		q.on_sent = on_sent;
		q.arg = u;
	}
	if (request(u, "PUT", url, u->push->scope, &q, err) < 0)
		return -1;
	if (u->response.status == 201 || u->response.status == 204)
		return 0;
	return failed(u, "PUT", url, err);
}

static int send_chunk(struct upload *u, struct error *err)
{
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = xstrdup(u->location);
	int64_t len = MIN(u->chunk, u->blob->descriptor.size - u->offset);
	int64_t have;

	strv_push(&q.headers, "Content-Type: application/octet-stream");
	strv_push_printf(&q.headers, "Content-Range: %lld-%lld", (long long)u->offset,
			 (long long)(u->offset + len - 1));
	q.body_fd = u->blob->fd;
	q.body_offset = u->offset;
	q.body_len = len;
	q.on_sent = on_sent;
	q.arg = u;
	if (request(u, "PATCH", url, u->push->scope, &q, err) < 0)
		return -1;
	if (u->response.status != 202)
		return failed(u, "PATCH", url, err);
	if (take_location(u, url, err) < 0)
		return -1;
	u->offset += len;
	/* It may have taken less. */
	if (header_upload_range(http_header(&u->response, "range"), &have) == 0 && have > 0 &&
	    have < u->offset)
		u->offset = have;
	return 0;
}

/* After a chunk broke: where is the registry? If it does not know, a new session. */
static void ask_state(struct upload *u)
{
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = xstrdup(u->location);
	int64_t have;

	if (request(u, "GET", url, u->push->scope, &q, NULL) == 0 && u->response.status == 204 &&
	    header_upload_range(http_header(&u->response, "range"), &have) == 0 &&
	    have <= u->blob->descriptor.size) {
		u->offset = have;
		if (http_header(&u->response, "location"))
			(void)take_location(u, url, NULL);
		return;
	}
	free(TAKE_PTR(u->location));
}

static int attempt(struct upload *u, struct error *err)
{
	if (!u->location && open_session(u, err) < 0)
		return -1;
	if (u->chunk == 0)
		return finish(u, /* with_body= */ true, err);
	while (u->offset < u->blob->descriptor.size)
		if (send_chunk(u, err) < 0)
			return -1;
	return finish(u, /* with_body= */ false, err);
}

/* Is the failure one that chunks, a new session or patience may help against? Prepares that. */
static bool recover(struct upload *u, const struct error *err)
{
	const struct http_response *r = &u->response;
	bool broken = retry_wanted(r->failure == HTTP_FAILURE_NONE ? 0 : -1, r, true);

	if (error_is(err, ERROR_UNAUTHENTICATED) || error_is(err, ERROR_PERMISSION_DENIED))
		return false;
	if (u->chunk == 0) {
		if (!broken && r->status != 413 && r->status != 404 && r->status != 416)
			return false;
		if (r->status != 429)
			u->chunk = CHUNK_DEFAULT;
		free(TAKE_PTR(u->location));
		return true;
	}
	if (!broken && r->status != 416 && r->status != 404)
		return false;
	if (u->location)
		ask_state(u);
	return true;
}

static int upload_bytes(struct upload *u, struct error *err)
{
	for (unsigned n = 1;; n++) {
		int64_t before = u->offset;
		int64_t delay;

		error_done(err);
		if (attempt(u, err) == 0)
			return 0;
		if (u->offset > before)
			n = 1;
		delay = retry_delay_ms(n, &u->response);
		if (n >= RETRY_ATTEMPTS || !recover(u, err))
			return -1;
		channel_retry(u->push->channel, u->blob->n, delay, error_msg(err));
		retry_sleep(delay);
	}
}

int upload_blob(struct push *p, struct upload_blob *b, const char **ret_how, const char **ret_from,
		struct error *err)
{
	CLEANUP(upload_done)
	struct upload u = { .push = p, .blob = b, .response = HTTP_RESPONSE_INIT(REPLY_MAX) };
	const char *from = NULL;
	int r = exists(&u, err);

	if (r < 0)
		return error_wrap(err, "blob '%s'", b->descriptor.digest);
	*ret_how = "exists";
	if (r > 0)
		return 0;
	*ret_how = "mounted";
	if (try_mounts(&u, &from)) {
		if (ret_from)
			*ret_from = from;
		return 0;
	}
	*ret_how = "uploaded";
	if (upload_bytes(&u, err) < 0)
		return error_wrap(err, "blob '%s'", b->descriptor.digest);
	return 0;
}
