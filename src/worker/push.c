/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kistl-image push: blobs as they come, at most `parallel` at once; manifests wait until all blobs
 * are there, then go one by one.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "oci/digest.h"
#include "worker/headers.h"
#include "worker/pool.h"
#include "worker/retry.h"
#include "worker/upload.h"
#include "worker/verbs.h"

#include <poll.h>
#include <string.h>

#define MANIFESTS_MAX 256
#define REPLY_MAX (64 << 10)

struct job {
	struct push *push;
	struct upload_blob blob;
};

struct manifest_item {
	struct descriptor descriptor;
	int64_t n;
	struct buf text;
};

struct manifest_list {
	struct manifest_item v[MANIFESTS_MAX];
	size_t n;
};

static int send_pushed(struct push *p, int64_t n, const char *how, const char *from,
		       struct error *err)
{
	struct json *j = channel_event("pushed", n);

	json_set_string(j, "how", how);
	if (from)
		json_set_string(j, "from", from);
	return channel_send(p->channel, j, NULL, 0, err);
}

static int run_job(void *item, struct error *err)
{
	struct job *job = item;
	const char *how, *from = NULL;
	int r = upload_blob(job->push, &job->blob, &how, &from, err);

	if (r == 0)
		r = send_pushed(job->push, job->blob.n, how, from, err);
	upload_blob_done(&job->blob);
	free(job);
	return r;
}

/* --- the endpoint --- */

static int ping(struct registry *r, struct endpoint *e, const char *scope, struct error *err)
{
	autoresponse struct http_response response = HTTP_RESPONSE_INIT(REPLY_MAX);
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = xasprintf("%s/", e->url);

	q.method = "GET";
	q.url = url;
	if (registry_request(r, e, &q, scope, /* last= */ false, &response, err) < 0)
		return -1;
	if (response.status == 400 || response.status >= 500)
		return http_status_error(&q, &response, err);
	return 0;
}

/* The first that may be pushed to; of several, the first that answers. */
static int choose_endpoint(struct push *p, struct error *err)
{
	struct registry *r = p->registry;
	size_t candidates = 0;

	for (size_t i = 0; i < r->n; i++)
		candidates += (r->endpoints[i].can & ENDPOINT_PUSH) != 0;
	for (size_t i = 0; i < r->n; i++) {
		struct endpoint *e = &r->endpoints[i];

		if (!(e->can & ENDPOINT_PUSH))
			continue;
		if (--candidates > 0) {
			autoerror struct error why = ERROR_INIT;

			if (ping(r, e, p->scope, &why) < 0 && why.code != ERROR_UNAUTHENTICATED)
				continue;
		}
		p->endpoint = e;
		return 0;
	}
	return error_set(err, ERROR_FAILED_PRECONDITION,
			 "no configured host of '%s' may be pushed to", r->ref.domain);
}

/* --- manifests --- */

static int put_manifest(struct push *p, const struct manifest_item *m, const char *name,
			struct error *err)
{
	autoresponse struct http_response r = HTTP_RESPONSE_INIT(REPLY_MAX);
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = registry_url(p->registry, p->endpoint, "manifests/%s", name);
	const char *digest;

	if (!header_value_valid(m->descriptor.media_type))
		return error_set(err, ERROR_INVALID_ARGUMENT, "media type of manifest '%s'",
				 m->descriptor.digest);
	q.method = "PUT";
	q.url = url;
	q.body = m->text.data;
	q.body_len = (int64_t)m->text.len;
	strv_push_printf(&q.headers, "Content-Type: %s", m->descriptor.media_type);
	if (registry_request(p->registry, p->endpoint, &q, p->scope, /* last= */ true, &r, err) < 0)
		return -1;
	if (r.status < 200 || r.status > 204)
		return http_status_error(&q, &r, err);
	digest = http_header(&r, "docker-content-digest");
	if (digest && digest_valid(digest) && !str_equal(digest, m->descriptor.digest))
		return error_set(err, ERROR_DATA_LOSS, "the registry stored manifest '%s' as '%s'",
				 m->descriptor.digest, digest);
	return send_pushed(p, m->n, "uploaded", NULL, err);
}

static int put_manifests(struct push *p, const struct manifest_list *l, struct error *err)
{
	const struct reference *ref = &p->registry->ref;

	for (size_t i = 0; i < l->n; i++) {
		const struct manifest_item *m = &l->v[i];
		const char *name = m->descriptor.digest;

		if (i + 1 == l->n && ref->tag)
			name = ref->tag;
		if (put_manifest(p, m, name, err) < 0)
			return error_wrap(err, "manifest '%s'", m->descriptor.digest);
	}
	return 0;
}

/* --- the socket --- */

static int take_blob(struct push *p, struct worker_message *m, struct pool *pool, struct error *err)
{
	struct job *job = xnew(struct job);

	job->push = p;
	job->blob.n = json_get_int(m->json, "n", 0);
	job->blob.fd = TAKE_FD(m->fds[0]);
	if (descriptor_from_json(json_get(m->json, "descriptor"), &job->blob.descriptor, err) < 0 ||
	    json_get_strv(m->json, "mount_from", &job->blob.mount_from, err) < 0) {
		upload_blob_done(&job->blob);
		free(job);
		return -1;
	}
	pool_submit(pool, job);
	/* The daemon may send faster than we do: as many open files as are of use. */
	return pool_wait(pool, 2 * (size_t)p->registry->parallel, err);
}

static int take_manifest(struct manifest_list *l, struct worker_message *m, struct error *err)
{
	struct manifest_item *item = &l->v[l->n];
	int r;

	if (l->n == MANIFESTS_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "more than %d manifests",
				 MANIFESTS_MAX);
	*item = (struct manifest_item){ .text = BUF_INIT(OCI_MANIFEST_MAX) };
	l->n++;
	item->n = json_get_int(m->json, "n", 0);
	if (descriptor_from_json(json_get(m->json, "descriptor"), &item->descriptor, err) < 0)
		return -1;
	r = fs_read_fd(m->fds[0], &item->text);
	return r < 0 ? error_errno(err, -r, "read manifest '%s'", item->descriptor.digest) : 0;
}

/* The daemon sends nothing more before it has heard of what it sent: what failed must end the wait.
 */
static int wait_for_op(int sock, struct pool *pool, struct error *err)
{
	struct pollfd p[] = { { sock, POLLIN, 0 }, { pool_fd(pool), POLLIN, 0 } };
	size_t done;

	for (;;) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return error_errno(err, errno, "wait for the daemon");
		if (p[1].revents && pool_check(pool, &done, err) < 0)
			return -1;
		if (p[0].revents)
			return 0;
	}
}

static int take_ops(struct push *p, int sock, struct pool *pool, struct manifest_list *l,
		    struct error *err)
{
	for (;;) {
		autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
		const char *op;
		int r;

		if (wait_for_op(sock, pool, err) < 0 || worker_recv(sock, &m, err) < 0)
			return -1;
		op = json_get_string(m.json, "op");
		if (str_equal(op, "end"))
			return pool_wait(pool, 0, err);
		if (m.n_fds < 1)
			return error_set(err, ERROR_INTERNAL, "unexpected message");
		if (str_equal(op, "blob"))
			r = take_blob(p, &m, pool, err);
		else if (str_equal(op, "manifest"))
			r = take_manifest(l, &m, err);
		else
			r = error_set(err, ERROR_INTERNAL, "unexpected message");
		if (r < 0)
			return -1;
	}
}

int worker_push(int sock, struct error *err)
{
	autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
	const struct sandbox sandbox = { .phase = SANDBOX_NETWORK };
	struct push *p = xnew(struct push); /* with all it holds: until the process ends */
	struct manifest_list *l = xnew(struct manifest_list);

	if (worker_recv(sock, &m, err) < 0)
		return -1;
	if (!str_equal(json_get_string(m.json, "op"), "push"))
		return error_set(err, ERROR_INTERNAL, "unexpected message");
	p->registry = registry_new(m.json, /* login= */ false, err);
	if (!p->registry)
		return -1;
	if (!p->registry->ref.path)
		return error_set(err, ERROR_INVALID_ARGUMENT, "no reference");
	p->scope = registry_scope(p->registry, "pull,push");
	p->channel = channel_new(sock);
	if (worker_start(sock, &sandbox, err) < 0 || choose_endpoint(p, err) < 0)
		return -1;
	if (take_ops(p, sock, pool_new(p->registry->parallel, run_job), l, err) < 0)
		return -1;
	return put_manifests(p, l, err);
}
