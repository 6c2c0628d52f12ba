/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An OCI layout. What index.json lists are the images; a listed index stands for its platforms, of
 * which an archive may lack some: those manifests are taken whose blobs are all there.
 */

#include "base/mem.h"
#include "worker/archive-internal.h"

#include <string.h>

#define NESTING_MAX 4
#define NAME_FULL "io.containerd.image.name"
#define NAME_REF "org.opencontainers.image.ref.name"

static const struct member *blob_member(const struct archive *a, const struct descriptor *d)
{
	autofree char *path = digest_blob_path(d->digest);

	return archive_member(a, path);
}

static int check_blob(const struct member *m, const struct descriptor *d, struct error *err)
{
	if (strcmp(m->digest, d->digest) != 0)
		return error_set(err, ERROR_DATA_LOSS, "blob %s of the archive has digest %s",
				 d->digest, m->digest);
	if (m->size != d->size)
		return error_set(err, ERROR_DATA_LOSS,
				 "blob %s of the archive has %lld bytes instead of %lld", d->digest,
				 (long long)m->size, (long long)d->size);
	return 0;
}

/* Reads a checked document. NOT_FOUND when the archive does not have it. */
static int read_document(const struct archive *a, const struct descriptor *d, struct buf *ret,
			 struct error *err)
{
	const struct member *m = blob_member(a, d);

	if (!m)
		return error_set(err, ERROR_NOT_FOUND, "archive has no blob %s", d->digest);
	if (check_blob(m, d, err) < 0)
		return -1;
	return archive_read(m, d->digest, OCI_MANIFEST_MAX, ret, err);
}

static int send(struct archive *a, const struct descriptor *d, struct error *err)
{
	const struct member *m = blob_member(a, d);

	if (!m)
		return error_set(err, ERROR_NOT_FOUND, "archive has no blob %s", d->digest);
	return check_blob(m, d, err) < 0 ? -1 : archive_send_blob(a, d, m->fd, err);
}

/* Layers that need not be in an archive: their licence forbids it. */
static bool may_be_absent(const struct archive *a, const struct descriptor *d)
{
	return media_is_foreign_layer(d->media_type) && !blob_member(a, d);
}

static bool is_complete(const struct archive *a, const struct manifest *m)
{
	if (!blob_member(a, &m->config))
		return false;
	for (size_t i = 0; i < m->layers.n; i++)
		if (!blob_member(a, &m->layers.v[i]) && !may_be_absent(a, &m->layers.v[i]))
			return false;
	return true;
}

/* Uncompressed layers have been hashed already; the others are checked when they are unpacked. */
static int check_config(const struct archive *a, const struct manifest *m, struct error *err)
{
	CLEANUP(image_config_done) struct image_config config = { 0 };
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);

	if (media_kind(m->config.media_type) != MEDIA_KIND_CONFIG)
		return 0; /* an artifact */
	if (read_document(a, &m->config, &text, err) < 0 ||
	    image_config_parse(text.data, text.len, &config, err) < 0)
		return error_wrap(err, "config %s", m->config.digest);
	if (config.diff_ids.n != m->layers.n)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "config %s has %zu diff_ids, but the image has %zu layers",
				 m->config.digest, config.diff_ids.n, m->layers.n);
	for (size_t i = 0; i < m->layers.n; i++) {
		const struct descriptor *d = &m->layers.v[i];
		bool plain = strcmp(d->media_type, MEDIA_OCI_LAYER) == 0;
		if (plain && strcmp(d->digest, config.diff_ids.v[i]) != 0)
			return error_set(err, ERROR_FAILED_PRECONDITION,
					 "layer %s is called %s by the image's config", d->digest,
					 config.diff_ids.v[i]);
	}
	return 0;
}

/* *ret_sent: false when the archive has not all of it, or it is for another platform. */
static int do_manifest(struct archive *a, const struct descriptor *d, bool *ret_sent,
		       struct error *err)
{
	CLEANUP(manifest_done) struct manifest m = { 0 };
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);

	*ret_sent = false;
	if (read_document(a, d, &text, err) < 0 ||
	    manifest_parse(text.data, text.len, d->media_type, &m, err) < 0)
		return error_wrap(err, "manifest %s", d->digest);
	if (!is_complete(a, &m))
		return 0;
	if (check_config(a, &m, err) < 0 || send(a, &m.config, err) < 0)
		return -1;
	for (size_t i = 0; i < m.layers.n; i++)
		if (!may_be_absent(a, &m.layers.v[i]) && send(a, &m.layers.v[i], err) < 0)
			return -1;
	*ret_sent = true;
	return send(a, d, err);
}

static int do_index(struct archive *a, const struct descriptor *d, unsigned depth, bool *ret_sent,
		    struct error *err);

static int do_target(struct archive *a, const struct descriptor *d, unsigned depth, bool *ret_sent,
		     struct error *err)
{
	switch (media_kind(d->media_type)) {
	case MEDIA_KIND_MANIFEST:
		return do_manifest(a, d, ret_sent, err);
	case MEDIA_KIND_INDEX:
		return do_index(a, d, depth + 1, ret_sent, err);
	default: /* unknown types are to be ignored */
		*ret_sent = false;
		return 0;
	}
}

static int do_children(struct archive *a, const struct index *index, unsigned depth, bool *ret_sent,
		       struct error *err)
{
	for (size_t i = 0; i < index->manifests.n; i++) {
		const struct descriptor *child = &index->manifests.v[i];
		bool sent = false;
		if (!blob_member(a, child))
			continue;
		if (do_target(a, child, depth, &sent, err) < 0)
			return -1;
		*ret_sent |= sent;
	}
	return 0;
}

static int do_index(struct archive *a, const struct descriptor *d, unsigned depth, bool *ret_sent,
		    struct error *err)
{
	CLEANUP(index_done) struct index index = { 0 };
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);

	*ret_sent = false;
	if (depth > NESTING_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "index %s is nested too deeply",
				 d->digest);
	if (read_document(a, d, &text, err) < 0 ||
	    index_parse(text.data, text.len, d->media_type, &index, err) < 0)
		return error_wrap(err, "index %s", d->digest);
	if (a->want) {
		const struct descriptor *best = index_select(&index, a->want);
		if (best && blob_member(a, best) && do_target(a, best, depth, ret_sent, err) < 0)
			return -1;
	} else if (do_children(a, &index, depth, ret_sent, err) < 0) {
		return -1;
	}
	return *ret_sent ? send(a, d, err) : 0;
}

/* A tag alone ("latest") names no image. */
static int add_names(struct strv *names, const struct descriptor *d, struct error *err)
{
	const char *full = kvs_get(&d->annotations, NAME_FULL);
	const char *ref = kvs_get(&d->annotations, NAME_REF);

	if (!str_empty(full))
		return archive_add_name(names, full, err);
	if (!str_empty(ref) && (strchr(ref, '/') || strchr(ref, ':')))
		return archive_add_name(names, ref, err);
	return 0;
}

/* Entries with the same digest are one image with several names. */
static bool seen_before(const struct index *index, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(index->manifests.v[k].digest, index->manifests.v[i].digest) == 0)
			return true;
	return false;
}

static int one_image(struct archive *a, const struct index *index, size_t i, struct error *err)
{
	autostrv struct strv names = STRV_INIT;
	CLEANUP(descriptor_done) struct descriptor target = { 0 };
	bool sent = false;

	for (size_t k = i; k < index->manifests.n; k++)
		if (strcmp(index->manifests.v[k].digest, index->manifests.v[i].digest) == 0 &&
		    add_names(&names, &index->manifests.v[k], err) < 0)
			return -1;
	if (do_target(a, &index->manifests.v[i], 0, &sent, err) < 0)
		return -1;
	if (!sent)
		return 0;
	descriptor_copy(&target, &index->manifests.v[i]);
	kvs_done(&target.annotations);
	return archive_send_image(a, &names, &target, err);
}

/* Whether index.json's own entry is for another platform than the wanted one. */
static bool is_unwanted(const struct archive *a, const struct descriptor *d)
{
	return a->want && d->platform && media_kind(d->media_type) == MEDIA_KIND_MANIFEST &&
	       platform_rank(a->want, d->platform) == 0;
}

static int check_layout(const struct archive *a, struct error *err)
{
	autobuf struct buf text = BUF_INIT(4096);

	if (archive_read(archive_member(a, "oci-layout"), "oci-layout", 4096, &text, err) < 0)
		return -1;
	autojson struct json *j = json_parse(text.data, text.len, 4096, err);
	if (!j)
		return error_wrap(err, "oci-layout");
	const char *version = json_get_string(j, "imageLayoutVersion");
	if (!version || !str_has_prefix(version, "1."))
		return error_set(err, ERROR_INVALID_ARGUMENT, "unknown version of the OCI layout");
	return 0;
}

int archive_oci(struct archive *a, struct error *err)
{
	CLEANUP(index_done) struct index index = { 0 };
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);
	const struct member *m = archive_member(a, "index.json");

	if (check_layout(a, err) < 0)
		return -1;
	if (!m)
		return error_set(err, ERROR_INVALID_ARGUMENT, "archive has no index.json");
	if (archive_read(m, "index.json", OCI_MANIFEST_MAX, &text, err) < 0 ||
	    index_parse(text.data, text.len, NULL, &index, err) < 0)
		return error_wrap(err, "index.json");
	for (size_t i = 0; i < index.manifests.n; i++)
		if (!seen_before(&index, i) && !is_unwanted(a, &index.manifests.v[i]) &&
		    one_image(a, &index, i, err) < 0)
			return -1;
	if (a->n_images == 0) {
		autofree char *want = a->want ? platform_string(a->want) : NULL;
		return error_set(err, ERROR_NOT_FOUND, "archive has no complete image%s%s",
				 want ? " for " : "", want ? want : "");
	}
	return 0;
}
