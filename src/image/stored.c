/* SPDX-License-Identifier: Apache-2.0 */
/* Images as they lie in the store: documents, records, leases. */
#include "base/mem.h"
#include "base/random.h"
#include "image/internal.h"
#include "oci/digest.h"
#include "store/leases.h"

#include <stdio.h>
#include <string.h>

#define INDEX_DEPTH_MAX 4
#define LEASE_LIFE (24 * 3600 * NSEC_PER_SEC)

void stored_image_done(struct stored_image *s)
{
	free(s->manifest_digest);
	free(s->manifest_type);
	manifest_done(&s->manifest);
	image_config_done(&s->config);
	*s = STORED_IMAGE_INIT;
}

static bool is_there(const struct store_ctx *c, const char *digest)
{
	struct content_info info = { 0 };
	bool there = content_stat(c, digest, &info, NULL) == 0;

	content_info_done(&info);
	return there;
}

/* The entry for the platform; without a wish any image that is in the store will do. */
static const struct descriptor *choose(const struct store_ctx *c, const struct index *index,
				       const struct platform *want)
{
	autoplatform struct platform host = PLATFORM_INIT;
	const struct descriptor *d;

	if (want)
		return index_select(index, want);
	platform_host(&host);
	d = index_select(index, &host);
	if (d && is_there(c, d->digest))
		return d;
	for (size_t i = 0; i < index->manifests.n; i++) {
		const struct descriptor *other = &index->manifests.v[i];

		if ((!other->platform || !str_equal(other->platform->os, "unknown")) &&
		    is_there(c, other->digest))
			return other;
	}
	return d;
}

static int load_manifest(const struct store_ctx *c, const struct descriptor *target,
			 const struct platform *want, unsigned depth, struct stored_image *ret,
			 struct error *err)
{
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);
	CLEANUP(index_done) struct index index = { 0 };
	const struct descriptor *child;

	if (content_read(c, target->digest, &text, err) < 0)
		return -1;
	ret->documents += (int64_t)text.len;
	if (media_kind(target->media_type) != MEDIA_KIND_INDEX) {
		ret->manifest_digest = xstrdup(target->digest);
		ret->manifest_type = xstrdup(target->media_type);
		return manifest_parse(text.data, text.len, target->media_type, &ret->manifest, err);
	}
	if (depth >= INDEX_DEPTH_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "index '%s' is nested too deeply",
				 target->digest);
	if (index_parse(text.data, text.len, target->media_type, &index, err) < 0)
		return -1;
	child = choose(c, &index, want);
	if (!child)
		return error_set(err, ERROR_NOT_FOUND, "index '%s' has no image for the platform",
				 target->digest);
	return load_manifest(c, child, want, depth + 1, ret, err);
}

int stored_image_load(const struct store_ctx *c, const struct descriptor *target,
		      const struct platform *want, struct stored_image *ret, struct error *err)
{
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);
	autostored struct stored_image s = STORED_IMAGE_INIT;

	if (load_manifest(c, target, want, 0, &s, err) < 0)
		return error_wrap(err, "manifest '%s'", target->digest);
	if (content_read(c, s.manifest.config.digest, &text, err) < 0 ||
	    image_config_parse(text.data, text.len, &s.config, err) < 0)
		return error_wrap(err, "config '%s'", s.manifest.config.digest);
	s.documents += (int64_t)text.len;
	if (s.manifest.layers.n != s.config.diff_ids.n)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "manifest '%s' has %zu layers, its config %zu diff ids",
				 s.manifest_digest, s.manifest.layers.n, s.config.diff_ids.n);
	*ret = s;
	s = STORED_IMAGE_INIT;
	return 0;
}

int transfer_lease(struct image_service *s, const char *ns, char id[LEASE_ID_MAX],
		   struct error *err)
{
	const struct store_ctx c = { .store = s->store, .ns = ns };
	autokvs struct kvs labels = KVS_INIT;
	char random[33];

	random_hex(16, random);
	snprintf(id, LEASE_ID_MAX, "transfer-%s", random);
	kvs_set(&labels, LEASE_LABEL, "1");
	return lease_create(&c, id, time_realtime() + LEASE_LIFE, &labels, err);
}

void transfer_lease_end(struct image_service *s, const char *ns, const char *id)
{
	const struct store_ctx c = { .store = s->store, .ns = ns };

	(void)lease_delete(&c, id, /* sync= */ false, NULL);
}

/* Does a record other than `name` have this target? */
static bool has_other_name(const struct store_ctx *c, const char *name, const char *digest)
{
	autoimages struct images all = { 0 };

	if (image_list(c, &all, NULL) < 0)
		return true;
	for (size_t i = 0; i < all.n; i++)
		if (!str_equal(all.v[i].name, name) && str_equal(all.v[i].target.digest, digest))
			return true;
	return false;
}

/* The record that is about to lose its name. */
static int keep_dangling(const struct store_ctx *c, const struct image *old, struct error *err)
{
	struct image dangling = *old;
	autofree char *name = xasprintf(DANGLING_PREFIX "%s", old->target.digest);

	if (has_other_name(c, old->name, old->target.digest))
		return 0;
	dangling.name = name;
	return image_put(c, &dangling, err);
}

int image_record_replace(struct image_service *s, const struct store_ctx *c,
			 const struct image *image, bool *ret_same, struct error *err)
{
	autoimage struct image old = { 0 };
	autofree char *dangling = xasprintf(DANGLING_PREFIX "%s", image->target.digest);
	bool same = false;

	if (image_get(c, image->name, &old, NULL) == 0) {
		same = str_equal(old.target.digest, image->target.digest);
		if (!same && keep_dangling(c, &old, err) < 0)
			return -1;
	}
	if (image_put(c, image, err) < 0)
		return -1;
	/* What has a name again dangles no more. */
	if (!str_equal(dangling, image->name))
		(void)image_delete(c, dangling, NULL);
	if (ret_same)
		*ret_same = same;
	return 0;
}

void transfer_progress(const struct transfer *t, enum progress_phase phase, const char *id,
		       const char *text, int64_t current, int64_t total)
{
	struct progress p = {
		.phase = phase, .id = id, .text = text, .current = current, .total = total
	};

	if (t->progress)
		t->progress(&p, t->arg);
}
