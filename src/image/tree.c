/* SPDX-License-Identifier: Apache-2.0 */
#include "image/tree.h"

#include "base/mem.h"

#include <stdio.h>

#define DEPTH_MAX 4
#define DOCUMENTS_MAX 256

static void descriptors_done(struct descriptors *d)
{
	for (size_t i = 0; i < d->n; i++)
		descriptor_done(&d->v[i]);
	free(d->v);
	*d = (struct descriptors){ 0 };
}

/* Once each. */
static void add(struct descriptors *list, const struct descriptor *d)
{
	for (size_t i = 0; i < list->n; i++)
		if (str_equal(list->v[i].digest, d->digest))
			return;
	GROW_ARRAY(list->v, list->n);
	list->v[list->n] = (struct descriptor){ 0 };
	descriptor_copy(&list->v[list->n++], d);
}

void image_tree_done(struct image_tree *t)
{
	descriptor_done(&t->root);
	descriptors_done(&t->documents);
	descriptors_done(&t->blobs);
	stored_image_done(&t->image);
	*t = IMAGE_TREE_INIT;
}

static int need(const struct store_ctx *c, const struct descriptor *d, struct error *err)
{
	struct content_info info = { 0 };
	int r = content_stat(c, d->digest, &info, err);

	content_info_done(&info);
	return r;
}

static int add_manifest(const struct store_ctx *c, const struct descriptor *d,
			const struct manifest *m, struct image_tree *t, struct error *err)
{
	if (need(c, &m->config, err) < 0)
		return -1;
	add(&t->blobs, &m->config);
	for (size_t i = 0; i < m->layers.n; i++) {
		const struct descriptor *layer = &m->layers.v[i];

		if (media_is_foreign_layer(layer->media_type) && need(c, layer, NULL) < 0)
			continue; /* everybody gets those from their own place */
		if (need(c, layer, err) < 0)
			return -1;
		add(&t->blobs, layer);
	}
	add(&t->documents, d);
	return 0;
}

static int walk(const struct store_ctx *c, const struct descriptor *d, unsigned depth,
		struct image_tree *t, struct error *err)
{
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);
	CLEANUP(index_done) struct index index = { 0 };
	CLEANUP(manifest_done) struct manifest manifest = { 0 };

	if (depth > DEPTH_MAX || t->documents.n > DOCUMENTS_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "index '%s' is too large",
				 d->digest);
	if (content_read(c, d->digest, &text, err) < 0)
		return -1;
	if (media_kind(d->media_type) != MEDIA_KIND_INDEX) {
		if (manifest_parse(text.data, text.len, d->media_type, &manifest, err) < 0)
			return -1;
		return add_manifest(c, d, &manifest, t, err);
	}
	if (index_parse(text.data, text.len, d->media_type, &index, err) < 0)
		return -1;
	for (size_t i = 0; i < index.manifests.n; i++)
		if (walk(c, &index.manifests.v[i], depth + 1, t, err) < 0)
			return -1;
	add(&t->documents, d);
	return 0;
}

int image_tree_load(const struct store_ctx *c, const struct descriptor *target,
		    const struct platform *platform, struct image_tree *ret, struct error *err)
{
	autotree struct image_tree t = IMAGE_TREE_INIT;
	struct descriptor alone;

	if (stored_image_load(c, target, platform, &t.image, err) < 0)
		return -1;
	if (walk(c, target, 0, &t, NULL) == 0) {
		descriptor_copy(&t.root, target);
	} else {
		descriptors_done(&t.documents);
		descriptors_done(&t.blobs);
		alone = (struct descriptor){ .media_type = t.image.manifest_type,
					     .digest = t.image.manifest_digest };
		struct content_info info = { 0 };
		if (content_stat(c, alone.digest, &info, err) < 0)
			return -1;
		alone.size = info.size;
		content_info_done(&info);
		if (walk(c, &alone, 0, &t, err) < 0)
			return error_wrap(err, "the image is not complete");
		descriptor_copy(&t.root, &alone);
	}
	*ret = t;
	t = IMAGE_TREE_INIT;
	return 0;
}

/* --- labels --- */

static int label(const struct store_ctx *c, const struct descriptor *d, unsigned depth,
		 struct error *err);

static int label_index(const struct store_ctx *c, const struct index *index, unsigned depth,
		       struct kvs *labels, struct error *err)
{
	char key[sizeof(LABEL_GC_CONTENT) + 32];

	for (size_t i = 0; i < index->manifests.n; i++) {
		if (need(c, &index->manifests.v[i], NULL) < 0)
			continue;
		snprintf(key, sizeof(key), LABEL_GC_CONTENT "m.%zu", i);
		kvs_set(labels, key, index->manifests.v[i].digest);
		if (label(c, &index->manifests.v[i], depth + 1, err) < 0)
			return -1;
	}
	return 0;
}

static int label(const struct store_ctx *c, const struct descriptor *d, unsigned depth,
		 struct error *err)
{
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);
	CLEANUP(index_done) struct index index = { 0 };
	CLEANUP(manifest_done) struct manifest m = { 0 };
	autokvs struct kvs labels = KVS_INIT;
	char key[sizeof(LABEL_GC_CONTENT) + 32];

	if (depth > DEPTH_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "index '%s' is too deep",
				 d->digest);
	if (content_read(c, d->digest, &text, err) < 0)
		return -1;
	if (media_kind(d->media_type) == MEDIA_KIND_INDEX) {
		if (index_parse(text.data, text.len, d->media_type, &index, err) < 0 ||
		    label_index(c, &index, depth, &labels, err) < 0)
			return -1;
	} else {
		if (manifest_parse(text.data, text.len, d->media_type, &m, err) < 0)
			return -1;
		kvs_set(&labels, LABEL_GC_CONTENT "config", m.config.digest);
		for (size_t i = 0; i < m.layers.n; i++) {
			snprintf(key, sizeof(key), LABEL_GC_CONTENT "l.%zu", i);
			kvs_set(&labels, key, m.layers.v[i].digest);
		}
	}
	return content_set_labels(c, d->digest, &labels, err);
}

int image_tree_label(const struct store_ctx *c, const struct descriptor *target, struct error *err)
{
	return label(c, target, 0, err);
}
