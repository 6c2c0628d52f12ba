/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_pull: a fetch worker resolves and reads the documents, the pipeline makes the layers, and
 * the record comes last. The documents are checked here against what was resolved: each by its
 * digest, and each named by the one before it.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "image/endpoints.h"
#include "image/pipeline.h"

#include <stdio.h>
#include <string.h>

#define DOCUMENTS_MAX 8

struct document {
	struct descriptor descriptor;
	enum media_kind kind;
	struct buf text;
};

struct pull {
	struct image_service *service;
	const struct transfer *transfer;
	struct store_ctx ctx;
	char lease[LEASE_ID_MAX];
	struct reference ref;
	char *name; /* of the record */
	struct worker fetch;
	struct descriptor resolved;
	struct document documents[DOCUMENTS_MAX]; /* indexes, manifest, config */
	size_t n;
	struct manifest manifest;
	struct image_config config;
	struct kvs source; /* distribution.source label */
	struct pipeline pipeline;
	bool complete; /* all was there */
	bool look;     /* only at the documents */
};

static void pull_done(struct pull *p)
{
	worker_end(&p->fetch);
	for (size_t i = 0; i < p->n; i++) {
		descriptor_done(&p->documents[i].descriptor);
		buf_done(&p->documents[i].text);
	}
	if (*p->lease)
		transfer_lease_end(p->service, p->ctx.ns, p->lease);
	reference_done(&p->ref);
	free(p->name);
	descriptor_done(&p->resolved);
	manifest_done(&p->manifest);
	image_config_done(&p->config);
	kvs_done(&p->source);
}

/* --- what the worker says --- */

static int descriptor_of(const struct worker_message *m, struct descriptor *ret, struct error *err)
{
	if (descriptor_from_json(json_get(m->json, "descriptor"), ret, err) < 0)
		return error_wrap(err, "kistl-image fetch");
	return 0;
}

static int take_resolved(struct pull *p, const struct worker_message *m, struct error *err)
{
	if (p->resolved.digest)
		return error_set(err, ERROR_INTERNAL, "kistl-image fetch: resolved twice");
	if (descriptor_of(m, &p->resolved, err) < 0)
		return -1;
	if (p->ref.digest && !str_equal(p->ref.digest, p->resolved.digest))
		return error_set(err, ERROR_DATA_LOSS, "resolved to '%s' instead of '%s'",
				 p->resolved.digest, p->ref.digest);
	return 0;
}

/* Does the document before this one (or the resolution) name this digest? */
static int check_link(const struct pull *p, const struct document *d, struct error *err)
{
	const struct document *before = p->n > 0 ? &p->documents[p->n - 1] : NULL;
	CLEANUP(index_done) struct index index = { 0 };

	if (!before && str_equal(p->resolved.digest, d->descriptor.digest))
		return 0;
	if (before && d->kind == MEDIA_KIND_CONFIG &&
	    str_equal(p->manifest.config.digest, d->descriptor.digest))
		return 0;
	if (before && before->kind == MEDIA_KIND_INDEX && d->kind != MEDIA_KIND_CONFIG) {
		if (index_parse(before->text.data, before->text.len, before->descriptor.media_type,
				&index, err) < 0)
			return -1;
		for (size_t i = 0; i < index.manifests.n; i++)
			if (str_equal(index.manifests.v[i].digest, d->descriptor.digest))
				return 0;
	}
	return error_set(err, ERROR_DATA_LOSS, "nothing refers to document '%s'",
			 d->descriptor.digest);
}

static int check_digest(const struct document *d, struct error *err)
{
	CLEANUP(digester_freep) struct digester *h = digester_new(d->descriptor.digest);
	char digest[DIGEST_MAX];

	digester_update(h, d->text.data, d->text.len);
	digester_peek(h, digest);
	if (str_equal(digest, d->descriptor.digest))
		return 0;
	return error_set(err, ERROR_DATA_LOSS, "document '%s' has digest '%s'",
			 d->descriptor.digest, digest);
}

static enum media_kind kind_of(const char *name)
{
	return str_equal(name, "index")	     ? MEDIA_KIND_INDEX
	       : str_equal(name, "manifest") ? MEDIA_KIND_MANIFEST
	       : str_equal(name, "config")   ? MEDIA_KIND_CONFIG
					     : MEDIA_UNKNOWN;
}

static int parse_document(struct pull *p, const struct document *d, struct error *err)
{
	switch (d->kind) {
	case MEDIA_KIND_INDEX:
		return 0; /* parsed when the next one is compared with it */
	case MEDIA_KIND_MANIFEST:
		return manifest_parse(d->text.data, d->text.len, d->descriptor.media_type,
				      &p->manifest, err);
	case MEDIA_KIND_CONFIG:
		return image_config_parse(d->text.data, d->text.len, &p->config, err);
	default:
		return error_set(err, ERROR_INTERNAL, "kistl-image fetch: unknown document");
	}
}

static int take_document(struct pull *p, const struct worker_message *m, struct error *err)
{
	struct document *d = &p->documents[p->n];
	int r;

	if (p->n == DOCUMENTS_MAX || m->n_fds < 1 ||
	    (p->n > 0 && p->documents[p->n - 1].kind == MEDIA_KIND_CONFIG))
		return error_set(err, ERROR_INTERNAL, "kistl-image fetch: unexpected document");
	*d = (struct document){ .text = BUF_INIT(OCI_MANIFEST_MAX) };
	d->kind = kind_of(json_get_string(m->json, "kind"));
	if (descriptor_of(m, &d->descriptor, err) < 0)
		return -1;
	r = fs_read_fd(m->fds[0], &d->text);
	if (r < 0)
		error_errno(err, -r, "read document '%s'", d->descriptor.digest);
	if (r < 0 || check_digest(d, err) < 0 || check_link(p, d, err) < 0 ||
	    parse_document(p, d, err) < 0) {
		descriptor_done(&d->descriptor);
		buf_done(&d->text);
		return -1;
	}
	p->n++;
	return 0;
}

/* Have we got exactly this already? Then nothing more need be asked. */
static bool is_up_to_date(struct pull *p)
{
	autoimage struct image image = { 0 };
	autostored struct stored_image stored = STORED_IMAGE_INIT;
	struct pipeline check = PIPELINE_INIT;
	bool complete;

	if (image_get(&p->ctx, p->name, &image, NULL) < 0 ||
	    !str_equal(image.target.digest, p->resolved.digest) ||
	    stored_image_load(&p->ctx, &image.target, p->transfer->platform, &stored, NULL) < 0)
		return false;
	check.service = p->service;
	check.ctx = p->ctx;
	check.transfer = p->transfer;
	check.snapshotter = store_default_snapshotter(p->service->store);
	complete = pipeline_prepare(&check, &stored.manifest, &stored.config, NULL) == 0 &&
		   pipeline_is_complete(&check);
	pipeline_done(&check, NULL);
	return complete;
}

/* Until the layers are known. */
static int read_documents(struct pull *p, struct error *err)
{
	for (;;) {
		autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
		const char *event;
		int r = 0;

		if (worker_next(&p->fetch, p->transfer->cancel, &m, err) < 0)
			return -1;
		event = worker_event(&m);
		if (str_equal(event, "resolved")) {
			r = take_resolved(p, &m, err);
			p->complete = r == 0 && !p->look && is_up_to_date(p);
		} else if (str_equal(event, "document")) {
			r = take_document(p, &m, err);
		} else if (str_equal(event, "layers")) {
			break;
		} else if (!str_equal(event, "layer")) { /* those are in the manifest */
			r = error_set(err, ERROR_INTERNAL, "kistl-image fetch: unexpected '%.32s'",
				      event);
		}
		if (r < 0)
			return -1;
		if (p->complete)
			return 0;
	}
	if (p->n < 2 || p->documents[p->n - 1].kind != MEDIA_KIND_CONFIG ||
	    p->manifest.layers.n != p->config.diff_ids.n)
		return error_set(err, ERROR_INTERNAL, "kistl-image fetch: incomplete image");
	return 0;
}

/* --- records --- */

/* "containerd.io/distribution.source.<domain>" = "<path>", with the repositories known already. */
static void label_source(struct pull *p, const char *digest, struct kvs *labels)
{
	struct content_info info = { 0 };
	const struct kv *own = &p->source.v[0];
	autofree char *both = NULL;
	const char *known;

	if (content_stat(&p->ctx, digest, &info, NULL) < 0) {
		kvs_set(labels, own->key, own->value);
		return;
	}
	known = kvs_get(&info.labels, own->key);
	if (!str_empty(known)) {
		autostrv struct strv repositories = STRV_INIT;

		strv_split(&repositories, known, ",");
		if (!strv_contains(&repositories, own->value))
			strv_push(&repositories, own->value);
		both = strv_join(&repositories, ",");
	}
	/* The store limits a label to 4096 bytes; a long list is no loss. */
	kvs_set(labels, own->key, both && strlen(both) < 2048 ? both : own->value);
	content_info_done(&info);
}

static void label_references(const struct pull *p, size_t index, struct kvs *labels)
{
	const struct document *d = &p->documents[index];
	char key[sizeof(LABEL_GC_CONTENT) + 32];

	if (d->kind == MEDIA_KIND_INDEX)
		kvs_set(labels, LABEL_GC_CONTENT "m.0", p->documents[index + 1].descriptor.digest);
	if (d->kind != MEDIA_KIND_MANIFEST)
		return;
	kvs_set(labels, LABEL_GC_CONTENT "config", p->manifest.config.digest);
	for (size_t i = 0; i < p->manifest.layers.n; i++) {
		snprintf(key, sizeof(key), LABEL_GC_CONTENT "l.%zu", i);
		kvs_set(labels, key, p->manifest.layers.v[i].digest);
	}
}

/* Children first; the lease holds them until their parents are there. */
static int put_documents(struct pull *p, struct error *err)
{
	for (size_t i = p->n; i-- > 0;) {
		const struct document *d = &p->documents[i];
		autokvs struct kvs labels = KVS_INIT;

		label_source(p, d->descriptor.digest, &labels);
		label_references(p, i, &labels);
		if (content_put(&p->ctx, d->descriptor.digest, d->text.data, d->text.len, &labels,
				err) < 0)
			return -1;
	}
	return 0;
}

static int put_record(struct pull *p, struct image *ret, bool *ret_same, struct error *err)
{
	struct image image = { .name = p->name, .target = p->resolved };
	autokvs struct kvs labels = KVS_INIT;
	autofree char *key = xasprintf(LABEL_GC_SNAPSHOT "%s", p->pipeline.snapshotter);
	char chain[DIGEST_MAX];

	if (p->config.diff_ids.n > 0) {
		image_config_chain_id(&p->config, p->config.diff_ids.n, chain);
		kvs_set(&labels, key, chain);
		if (content_set_labels(&p->ctx, p->manifest.config.digest, &labels, err) < 0)
			return -1;
	}
	if (image_record_replace(p->service, &p->ctx, &image, ret_same, err) < 0)
		return -1;
	return ret ? image_get(&p->ctx, p->name, ret, err) : 0;
}

/* --- the whole --- */

static int pull_layers(struct pull *p, struct error *err)
{
	autoerror struct error why = ERROR_INIT;
	int r;

	p->pipeline.service = p->service;
	p->pipeline.ctx = p->ctx;
	p->pipeline.transfer = p->transfer;
	p->pipeline.snapshotter = store_default_snapshotter(p->service->store);
	p->pipeline.fetch = &p->fetch;
	p->pipeline.labels = &p->source;
	r = pipeline_prepare(&p->pipeline, &p->manifest, &p->config, &why);
	if (r == 0)
		r = pipeline_start(&p->pipeline, &why);
	if (r == 0)
		r = put_documents(p, &why); /* while the layers come */
	if (r == 0)
		r = pipeline_run(&p->pipeline, &why);
	if (r < 0)
		pipeline_done(&p->pipeline, &why);
	return r < 0 ? error_move(err, &why) : 0;
}

static int pull_prepare(struct pull *p, struct error *err)
{
	autofree char *platform = NULL;
	autofree char *label = NULL;
	autofree char *text = NULL;
	struct json *message;

	if (reference_parse(p->transfer->ref, &p->ref, err) < 0)
		return -1;
	if (p->ref.digest)
		free(TAKE_PTR(p->ref.tag)); /* by digest only, as Docker has it */
	reference_default_tag(&p->ref);
	p->name = reference_string(&p->ref);
	label = xasprintf(LABEL_SOURCE "%s", p->ref.domain);
	kvs_set(&p->source, label, p->ref.path);
	if (transfer_lease(p->service, p->transfer->ns, p->lease, err) < 0)
		return -1;
	p->ctx = (struct store_ctx){ .store = p->service->store,
				     .ns = p->transfer->ns,
				     .lease = p->lease };
	message = endpoints_message(p->service, "pull", p->ref.domain, p->name, p->transfer->auth,
				    err);
	if (!message)
		return -1;
	platform = p->transfer->platform ? platform_string(p->transfer->platform) : NULL;
	json_set_string(message, "platform", platform ? platform : "");
	if (worker_spawn(&p->fetch, p->service->worker, "fetch", err) < 0) {
		json_unref(message);
		return -1;
	}
	text = xasprintf("Pulling from %s",
			 str_equal(p->ref.domain, "docker.io") && !strchr(p->ref.path, '/')
				 ? p->name
				 : p->ref.path);
	transfer_progress(p->transfer, PROGRESS_MESSAGE, p->ref.tag ? p->ref.tag : p->ref.digest,
			  text, 0, 0);
	return worker_tell(&p->fetch, message, NULL, 0, err);
}

int image_pull(struct image_service *s, const struct transfer *t, struct image *ret,
	       bool *ret_fresh, struct error *err)
{
	CLEANUP(pull_done)
	struct pull p = {
		.service = s,
		.transfer = t,
		.fetch = WORKER_INIT,
		.ref = REFERENCE_INIT,
		.pipeline = PIPELINE_INIT,
	};
	bool same = false;
	int r;

	if (pull_prepare(&p, err) < 0 || read_documents(&p, err) < 0)
		return -1;
	if (p.complete) {
		if (ret_fresh)
			*ret_fresh = false;
		return ret ? image_get(&p.ctx, p.name, ret, err) : 0;
	}
	if (pull_layers(&p, err) < 0)
		return -1;
	r = put_record(&p, ret, &same, err);
	pipeline_done(&p.pipeline, NULL);
	if (ret_fresh)
		*ret_fresh = true;
	return r;
}

/* --- without a pull --- */

static int add_platforms(const struct pull *p, struct json *list, struct error *err)
{
	const struct document *d = &p->documents[0];
	struct json *one;

	if (d->kind == MEDIA_KIND_INDEX) {
		autojson struct json *j =
			json_parse(d->text.data, d->text.len, OCI_MANIFEST_MAX, err);
		const struct json *manifests = json_get(j, "manifests");

		for (size_t i = 0; i < json_array_len(manifests); i++) {
			struct json *platform = json_get(json_array_get(manifests, i), "platform");

			if (platform)
				json_add(list, json_copy(platform));
		}
		return j ? 0 : -1;
	}
	one = json_new_object();
	json_set_string(one, "architecture", p->config.platform.architecture);
	json_set_string(one, "os", p->config.platform.os);
	if (!str_empty(p->config.platform.variant))
		json_set_string(one, "variant", p->config.platform.variant);
	json_add(list, one);
	return 0;
}

int image_distribution(struct image_service *s, const struct transfer *t, struct descriptor *ret,
		       struct json **ret_platforms, struct error *err)
{
	CLEANUP(pull_done)
	struct pull p = {
		.service = s,
		.transfer = t,
		.fetch = WORKER_INIT,
		.ref = REFERENCE_INIT,
		.pipeline = PIPELINE_INIT,
		.look = true,
	};
	autojson struct json *platforms = json_new_array();
	autoerror struct error why = ERROR_INIT;

	if (pull_prepare(&p, err) < 0)
		return -1;
	/* An index that has nothing for this host has been seen all the same. */
	if (read_documents(&p, &why) < 0 && (p.n == 0 || p.documents[0].kind != MEDIA_KIND_INDEX ||
					     !error_is(&why, ERROR_NOT_FOUND)))
		return error_move(err, &why);
	if (add_platforms(&p, platforms, err) < 0)
		return -1;
	*ret = p.resolved;
	p.resolved = (struct descriptor){ 0 };
	*ret_platforms = TAKE_PTR(platforms);
	return 0;
}
