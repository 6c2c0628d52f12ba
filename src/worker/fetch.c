/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kistl-image fetch: name to manifest to config to layers. Documents are asked for one after the
 * other on the main thread; layers go to the pool as the daemon asks for them.
 */
#include "worker/fetch.h"

#include "base/mem.h"
#include "worker/headers.h"
#include "worker/pool.h"
#include "worker/verbs.h"

#include <poll.h>
#include <string.h>

#define INDEX_DEPTH_MAX 4

struct job {
	struct fetch *fetch;
	struct blob blob;
};

/* --- documents --- */

static int send_resolved(struct fetch *f, const struct document *d, struct error *err)
{
	struct json *j = channel_event("resolved", -1);

	json_set(j, "descriptor", channel_descriptor(&d->descriptor));
	json_set_string(j, "host", f->registry->endpoints[f->preferred].host);
	return channel_send(f->channel, j, NULL, 0, err);
}

static int send_document(struct fetch *f, const char *kind, const struct document *d,
			 struct error *err)
{
	autoclose int fd = worker_memfd(d->text.data, d->text.len, err);
	struct json *j;

	if (fd < 0)
		return -1;
	j = channel_event("document", -1);
	json_set_string(j, "kind", kind);
	json_set(j, "descriptor", channel_descriptor(&d->descriptor));
	return channel_send(f->channel, j, &fd, 1, err);
}

/* What is it? The transport's or descriptor's word, else the document's own. */
static enum media_kind document_kind(struct document *d)
{
	enum media_kind kind = media_kind(d->descriptor.media_type);
	autojson struct json *j = NULL;
	const char *type;

	if (kind == MEDIA_KIND_INDEX || kind == MEDIA_KIND_MANIFEST)
		return kind;
	if (strstr(d->descriptor.media_type, "manifest.v1+"))
		return MEDIA_KIND_MANIFEST; /* schema 1: the parser refuses it by name */
	j = json_parse(d->text.data, d->text.len, OCI_MANIFEST_MAX, NULL);
	type = json_get_string(j, "mediaType");
	kind = type ? media_kind(type) : MEDIA_UNKNOWN;
	if (kind != MEDIA_KIND_INDEX)
		kind = json_get(j, "manifests") && !type ? MEDIA_KIND_INDEX : MEDIA_KIND_MANIFEST;
	if (!type)
		type = kind == MEDIA_KIND_INDEX ? MEDIA_OCI_INDEX : MEDIA_OCI_MANIFEST;
	str_replace(&d->descriptor.media_type, type);
	return kind;
}

static int no_platform(const struct fetch *f, const struct platform *want, struct error *err)
{
	autofree char *name = reference_string(&f->registry->ref);
	autofree char *platform = platform_string(want);

	return error_set(err, ERROR_NOT_FOUND,
			 "no matching manifest for %s in the manifest list entries of '%s'",
			 platform, name);
}

/* From the document that the name stands for to the manifest of our platform. */
static int descend(struct fetch *f, const struct platform *want, struct document *d, bool *ret_sure,
		   struct error *err)
{
	for (unsigned depth = 0; document_kind(d) == MEDIA_KIND_INDEX; depth++) {
		CLEANUP(index_done) struct index index = { 0 };
		const struct descriptor *chosen;

		if (depth >= INDEX_DEPTH_MAX)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "indexes are nested more than %d deep", INDEX_DEPTH_MAX);
		if (index_parse(d->text.data, d->text.len, d->descriptor.media_type, &index, err) <
		    0)
			return error_wrap(err, "index '%s'", d->descriptor.digest);
		if (send_document(f, "index", d, err) < 0)
			return -1;
		chosen = index_select(&index, want);
		if (!chosen)
			return no_platform(f, want, err);
		*ret_sure = chosen->platform != NULL;
		buf_clear(&d->text);
		descriptor_done(&d->descriptor);
		descriptor_copy(&d->descriptor, chosen);
		if (fetch_document(f, "manifests", d, err) < 0)
			return -1;
	}
	return 0;
}

static int check_layers(const struct manifest *m, const struct image_config *c, struct error *err)
{
	if (m->layers.n != c->diff_ids.n)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "the manifest has %zu layers, the config %zu diff ids",
				 m->layers.n, c->diff_ids.n);
	for (size_t i = 0; i < m->layers.n; i++)
		if (media_kind(m->layers.v[i].media_type) != MEDIA_KIND_LAYER)
			return error_set(err, ERROR_UNIMPLEMENTED,
					 "layer '%s' has the unsupported media type '%s'",
					 m->layers.v[i].digest, m->layers.v[i].media_type);
	return 0;
}

static int fetch_config(struct fetch *f, const struct manifest *m, struct image_config *ret,
			struct error *err)
{
	autodocument struct document d = DOCUMENT_INIT;
	const char *type = m->config.media_type;

	/* Early builders called their configs octet-stream. */
	if (media_kind(type) != MEDIA_KIND_CONFIG && !str_equal(type, "application/octet-stream"))
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "this is no container image but an artifact of type '%s'",
				 m->artifact_type ? m->artifact_type : type);
	descriptor_copy(&d.descriptor, &m->config);
	if (fetch_document(f, "blobs", &d, err) < 0)
		return error_wrap(err, "config");
	if (image_config_parse(d.text.data, d.text.len, ret, err) < 0)
		return error_wrap(err, "config '%s'", d.descriptor.digest);
	return send_document(f, "config", &d, err);
}

static int send_layers(struct fetch *f, const struct manifest *m, const struct image_config *c,
		       struct error *err)
{
	struct json *j;

	for (size_t i = 0; i < m->layers.n; i++) {
		j = channel_event("layer", (int64_t)i);
		json_set(j, "descriptor", channel_descriptor(&m->layers.v[i]));
		json_set_string(j, "diff_id", c->diff_ids.v[i]);
		if (channel_send(f->channel, j, NULL, 0, err) < 0)
			return -1;
	}
	j = channel_event("layers", -1);
	json_set_int(j, "count", (int64_t)m->layers.n);
	return channel_send(f->channel, j, NULL, 0, err);
}

/* Everything before the layers. */
static int fetch_image(struct fetch *f, const struct platform *want, struct manifest *ret,
		       struct error *err)
{
	autodocument struct document d = DOCUMENT_INIT;
	CLEANUP(image_config_done) struct image_config config = { 0 };
	bool sure = true;

	if (fetch_resolve(f, &d, err) < 0)
		return -1;
	if (d.text.len == 0 && send_resolved(f, &d, err) < 0)
		return -1;
	if (d.text.len == 0) {
		if (fetch_document(f, "manifests", &d, err) < 0)
			return -1;
	} else {
		(void)document_kind(&d);
		if (send_resolved(f, &d, err) < 0)
			return -1;
	}
	if (descend(f, want, &d, &sure, err) < 0)
		return -1;
	if (manifest_parse(d.text.data, d.text.len, d.descriptor.media_type, ret, err) < 0)
		return error_wrap(err, "manifest '%s'", d.descriptor.digest);
	if (send_document(f, "manifest", &d, err) < 0 || fetch_config(f, ret, &config, err) < 0)
		return -1;
	if (!sure && platform_rank(want, &config.platform) == 0)
		return no_platform(f, want, err);
	if (check_layers(ret, &config, err) < 0)
		return error_wrap(err, "manifest '%s'", d.descriptor.digest);
	return send_layers(f, ret, &config, err);
}

/* --- layers --- */

static int run_job(void *item, struct error *err)
{
	struct job *job = item;
	struct fetch *f = job->fetch;
	struct json *j;

	if (fetch_blob(f, &job->blob, err) < 0)
		return -1;
	j = channel_event("fetched", (int64_t)job->blob.n);
	json_set_int(j, "size", job->blob.descriptor->size);
	return channel_send(f->channel, j, NULL, 0, err);
}

/* {"op":"layer"}: *ret is a job or NULL (skip). */
static int take_op(struct fetch *f, const struct manifest *m, int sock, struct job **ret,
		   struct error *err)
{
	autoworkermessage struct worker_message msg = WORKER_MESSAGE_INIT;
	int64_t n, size;
	struct job *job;

	if (worker_recv(sock, &msg, err) < 0)
		return -1;
	n = json_get_int(msg.json, "n", -1);
	size = json_get_int(msg.json, "size", 0);
	*ret = NULL;
	if (!str_equal(json_get_string(msg.json, "op"), "layer") || n < 0 ||
	    (size_t)n >= m->layers.n)
		return error_set(err, ERROR_INTERNAL, "unexpected message");
	if (str_equal(json_get_string(msg.json, "action"), "skip"))
		return 0;
	if (msg.n_fds < 1 || size < 0)
		return error_set(err, ERROR_INTERNAL, "no file for layer %lld", (long long)n);
	job = xnew(struct job);
	job->fetch = f;
	job->blob = (struct blob){
		.descriptor = &m->layers.v[n],
		.n = (size_t)n,
		.fd = msg.fds[0],
		.pipe = -1,
		.existing = size,
	};
	msg.fds[0] = -1;
	if (msg.n_fds > 1) {
		job->blob.pipe = msg.fds[1];
		msg.fds[1] = -1;
	}
	*ret = job;
	return 0;
}

static int fetch_layers(struct fetch *f, const struct manifest *m, int sock, struct error *err)
{
	struct pool *pool = pool_new(f->registry->parallel, run_job);
	size_t answered = 0, submitted = 0, done = 0;

	while (answered < m->layers.n || done < submitted) {
		struct pollfd p[2] = {
			{ .fd = pool_fd(pool), .events = POLLIN },
			{ .fd = answered < m->layers.n ? sock : -1, .events = POLLIN },
		};

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return error_errno(err, errno, "poll");
		if (pool_check(pool, &done, err) < 0)
			return -1;
		if (p[1].revents) {
			struct job *job;

			if (take_op(f, m, sock, &job, err) < 0)
				return -1;
			answered++;
			submitted += job != NULL;
			if (job)
				pool_submit(pool, job);
		}
	}
	return 0;
}

int worker_fetch(int sock, struct error *err)
{
	autoworkermessage struct worker_message msg = WORKER_MESSAGE_INIT;
	autoplatform struct platform want = PLATFORM_INIT;
	const struct sandbox sandbox = { .phase = SANDBOX_NETWORK };
	struct fetch *f = xnew(struct fetch); /* with all it holds: until the process ends */
	struct manifest *m = xnew(struct manifest);
	const char *platform;

	if (worker_recv(sock, &msg, err) < 0)
		return -1;
	if (!str_equal(json_get_string(msg.json, "op"), "pull"))
		return error_set(err, ERROR_INTERNAL, "unexpected message");
	platform = json_get_string(msg.json, "platform");
	if (str_empty(platform))
		platform_host(&want);
	else if (platform_parse(platform, &want, err) < 0)
		return -1;
	f->registry = registry_new(msg.json, /* login= */ false, err);
	if (!f->registry)
		return -1;
	if (!f->registry->ref.path)
		return error_set(err, ERROR_INVALID_ARGUMENT, "no reference");
	f->scope = registry_scope(f->registry, "pull");
	f->channel = channel_new(sock);
	if (worker_start(sock, &sandbox, err) < 0)
		return -1;
	if (fetch_image(f, &want, m, err) < 0)
		return -1;
	return fetch_layers(f, m, sock, err);
}
