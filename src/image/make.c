/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layer is written by a worker into an ingest, hashed as it goes. Config and manifest are the
 * base's with one entry more. All of it hangs on a lease until the image's record names it.
 */
#include "image/make.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "image/internal.h"
#include "image/layer.h"
#include "image/tree.h"

#include <string.h>

struct make {
	struct image_service *service;
	const struct image_make *m;
	struct store_ctx ctx;
	struct stored_image base;
	struct json *document; /* the base's config */
	struct written_layer layer;
};

static void make_done(struct make *k)
{
	stored_image_done(&k->base);
	json_unref(k->document);
}

static int load_base(struct make *k, struct error *err)
{
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);

	if (!k->m->base) {
		k->document = json_new_object();
		return 0;
	}
	if (stored_image_load(&k->ctx, k->m->base, k->m->os, &k->base, err) < 0 ||
	    content_read(&k->ctx, k->base.manifest.config.digest, &text, err) < 0)
		return -1;
	k->document = json_parse(text.data, text.len, OCI_MANIFEST_MAX, err);
	return k->document ? 0 : -1;
}

/* An archive of nothing but its end mark: two blocks of zeros. */
#define EMPTY_DIFF_ID "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

/* A container that changed nothing makes no layer, as in Docker. */
static bool is_empty(const struct make *k)
{
	return k->m->base && str_equal(k->layer.diff_id, EMPTY_DIFF_ID);
}

static struct json *history_entry(const struct image_make *m, const char *now)
{
	struct json *j = json_new_object();

	json_set_string(j, "created", now);
	if (!str_empty(m->created_by))
		json_set_string(j, "created_by", m->created_by);
	if (!str_empty(m->author))
		json_set_string(j, "author", m->author);
	if (!str_empty(m->comment))
		json_set_string(j, "comment", m->comment);
	return j;
}

static void set_platform(struct make *k, struct json *j)
{
	autoplatform struct platform host = PLATFORM_INIT;
	const struct platform *p = k->m->os;

	if (!p && k->m->base)
		return; /* the base's members stay */
	platform_host(&host);
	p = p ? p : &host;
	json_set_string(j, "architecture", p->architecture);
	json_set_string(j, "os", p->os);
	if (!str_empty(p->variant))
		json_set_string(j, "variant", p->variant);
}

static char *config_document(struct make *k)
{
	const struct image_make *m = k->m;
	autojson struct json *j = json_copy(k->document);
	struct json *rootfs = json_new_object(), *history = json_get(j, "history");
	struct json *diff_ids = json_new_strv(&k->base.config.diff_ids);
	char now[TIME_RFC3339_MAX];

	time_format_rfc3339(time_realtime(), now);
	if (!is_empty(k))
		json_add(diff_ids, json_new_string(k->layer.diff_id));
	json_set_string(rootfs, "type", "layers");
	json_set(rootfs, "diff_ids", diff_ids);
	json_set_string(j, "created", now);
	if (!str_empty(m->author))
		json_set_string(j, "author", m->author);
	set_platform(k, j);
	if (m->config)
		json_set(j, "config", json_copy(m->config));
	/* What docker build of old days left of its containers. */
	json_del(j, "container");
	json_del(j, "container_config");
	json_set(j, "rootfs", rootfs);
	history = json_type(history) == JSON_ARRAY ? json_ref(history) : json_new_array();
	struct json *entry = history_entry(m, now);
	if (is_empty(k))
		json_set_bool(entry, "empty_layer", true);
	json_add(history, entry);
	json_set(j, "history", history);
	return json_format(j, /* pretty */ false);
}

static void put_descriptor(struct descriptor *d, const char *type, const char *digest, int64_t size)
{
	*d = (struct descriptor){ .media_type = xstrdup(type),
				  .digest = xstrdup(digest),
				  .size = size };
}

/* A manifest has one family of media types. */
static char *manifest_document(struct make *k, const char *config, const char *config_digest)
{
	bool docker = str_equal(k->base.manifest_type, MEDIA_DOCKER_MANIFEST);
	CLEANUP(manifest_done)
	struct manifest m = {
		.schema_version = 2,
		.media_type = xstrdup(docker ? MEDIA_DOCKER_MANIFEST : MEDIA_OCI_MANIFEST),
	};
	size_t n = k->base.manifest.layers.n;

	put_descriptor(&m.config, docker ? MEDIA_DOCKER_CONFIG : MEDIA_OCI_CONFIG, config_digest,
		       (int64_t)strlen(config));
	m.layers.v = xnew_array(struct descriptor, n + 1);
	for (; m.layers.n < n; m.layers.n++)
		descriptor_copy(&m.layers.v[m.layers.n], &k->base.manifest.layers.v[m.layers.n]);
	if (!is_empty(k))
		put_descriptor(&m.layers.v[m.layers.n++],
			       docker ? MEDIA_DOCKER_LAYER_GZIP : MEDIA_OCI_LAYER_GZIP,
			       k->layer.digest, k->layer.size);
	return manifest_format(&m);
}

static int record(struct make *k, const struct descriptor *target, struct error *err)
{
	const struct transfer t = { .ns = k->ctx.ns, .platform = k->m->os };
	autofree char *dangling = xasprintf(DANGLING_PREFIX "%s", target->digest);
	struct image image = {
		.name = k->m->name ? (char *)(uintptr_t)k->m->name : dangling,
		.target = *target,
	};

	if (image_tree_label(&k->ctx, target, err) < 0 ||
	    image_unpack(k->service, &t, &image, NULL, NULL, err) < 0)
		return -1;
	return image_record_replace(k->service, &k->ctx, &image, NULL, err);
}

static int make(struct make *k, char ret_id[DIGEST_MAX], struct error *err)
{
	const struct layer_source from = {
		.input = k->m->input,
		.dir = k->m->dir,
		.lower = k->m->lower,
		.cancel = k->m->cancel,
	};
	char manifest_digest[DIGEST_MAX];

	if (load_base(k, err) < 0 || layer_write(k->service, &k->ctx, &from, &k->layer, err) < 0)
		return -1;
	autofree char *config = config_document(k);
	digest_bytes(config, strlen(config), ret_id);
	autofree char *manifest = manifest_document(k, config, ret_id);
	digest_bytes(manifest, strlen(manifest), manifest_digest);
	if (strlen(config) > OCI_MANIFEST_MAX || strlen(manifest) > OCI_MANIFEST_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "the image's config is too large");
	if (content_put(&k->ctx, ret_id, config, strlen(config), NULL, err) < 0 ||
	    content_put(&k->ctx, manifest_digest, manifest, strlen(manifest), NULL, err) < 0)
		return -1;
	const char *type = str_equal(k->base.manifest_type, MEDIA_DOCKER_MANIFEST)
				   ? MEDIA_DOCKER_MANIFEST
				   : MEDIA_OCI_MANIFEST;
	const struct descriptor target = {
		.media_type = (char *)(uintptr_t)type,
		.digest = manifest_digest,
		.size = (int64_t)strlen(manifest),
	};
	return record(k, &target, err);
}

int image_make(struct image_service *s, const struct image_make *m, char ret_id[DIGEST_MAX],
	       struct error *err)
{
	char lease[LEASE_ID_MAX];
	CLEANUP(make_done)
	struct make k = {
		.service = s,
		.m = m,
		.ctx = { .store = s->store, .ns = m->ns, .lease = lease },
	};

	if (transfer_lease(s, m->ns, lease, err) < 0)
		return -1;
	int r = make(&k, ret_id, err);
	transfer_lease_end(s, m->ns, lease);
	return r;
}
