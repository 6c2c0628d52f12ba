/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's view of the image records: an image is known by its id (the digest of its config), names
 * are tags on it. Which record has which id is remembered, since every look-up asks it of all
 * records; a target's content never changes, so neither does the answer, once its config is here.
 */
#include "base/mem.h"
#include "image/internal.h"
#include "oci/digest.h"

#include <string.h>

#define IDS_MAX 4096

static bool is_dangling(const char *name)
{
	return str_has_prefix(name, DANGLING_PREFIX);
}

static void remember_id(struct image_service *s, const char *digest, const char *id)
{
	pthread_mutex_lock(&s->lock);
	if (s->ids.n >= IDS_MAX) {
		map_done_values(&s->ids, free);
		s->ids = MAP_INIT;
	}
	free(map_set(&s->ids, digest, xstrdup(id)));
	pthread_mutex_unlock(&s->lock);
}

/* malloc'ed. A record whose documents are not (all) here goes by its target: it cannot be shown,
 * but removed. */
static char *image_id(struct image_service *s, const struct store_ctx *c, const struct image *i)
{
	autostored struct stored_image stored = STORED_IMAGE_INIT;
	const char *known;
	char *id;

	pthread_mutex_lock(&s->lock);
	known = map_get(&s->ids, i->target.digest);
	id = xstrdup(known);
	pthread_mutex_unlock(&s->lock);
	if (id)
		return id;
	if (stored_image_load(c, &i->target, NULL, &stored, NULL) < 0)
		return xstrdup(i->target.digest);
	/* Another platform of an index may come later. */
	if (media_kind(i->target.media_type) != MEDIA_KIND_INDEX)
		remember_id(s, i->target.digest, stored.manifest.config.digest);
	return xstrdup(stored.manifest.config.digest);
}

/* All records of a namespace with their ids. */
struct table {
	struct images images;
	char **ids;
};

static void table_done(struct table *t)
{
	for (size_t i = 0; i < t->images.n; i++)
		free(t->ids[i]);
	free(t->ids);
	images_done(&t->images);
}

static int table_load(struct image_service *s, const struct store_ctx *c, struct table *ret,
		      struct error *err)
{
	if (image_list(c, &ret->images, err) < 0)
		return -1;
	ret->ids = xnew_array(char *, ret->images.n + 1);
	for (size_t i = 0; i < ret->images.n; i++)
		ret->ids[i] = image_id(s, c, &ret->images.v[i]);
	return 0;
}

static void add_names(const struct image *image, struct image_details *ret)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autofree char *familiar = NULL, *name = NULL, *digest = NULL;

	if (is_dangling(image->name) || reference_parse(image->name, &ref, NULL) < 0)
		return;
	familiar = reference_familiar(&ref);
	name = reference_familiar_name(&ref);
	digest = xasprintf("%s@%s", name, image->target.digest);
	if (ref.tag && !ref.digest && !strv_contains(&ret->tags, familiar))
		strv_push(&ret->tags, familiar);
	if (!strv_contains(&ret->digests, digest))
		strv_push(&ret->digests, digest);
}

static int64_t content_size(const struct store_ctx *c, const char *digest)
{
	struct content_info info = { 0 };
	int64_t size = content_stat(c, digest, &info, NULL) == 0 ? info.size : 0;

	content_info_done(&info);
	return size;
}

static void unpacked_sizes(const struct store_ctx *c, const struct image_config *config,
			   struct image_details *ret)
{
	ret->layer_sizes = xnew_array(int64_t, config->diff_ids.n + 1);
	for (size_t n = 1; n <= config->diff_ids.n; n++) {
		struct snapshot_usage usage;
		char chain[DIGEST_MAX];

		image_config_chain_id(config, n, chain);
		if (snapshot_usage(c, NULL, chain, &usage, NULL) < 0)
			break;
		ret->layer_sizes[n - 1] = usage.size;
		ret->unpacked += usage.size;
	}
}

static int details_load(const struct store_ctx *c, const struct table *t, size_t index,
			struct image_details *ret, struct error *err)
{
	const struct image *image = &t->images.v[index];
	autostored struct stored_image s = STORED_IMAGE_INIT;

	if (stored_image_load(c, &image->target, NULL, &s, err) < 0)
		return error_wrap(err, "image '%s'", image->name);
	ret->image.name = xstrdup(is_dangling(image->name) ? "" : image->name);
	descriptor_copy(&ret->image.target, &image->target);
	kvs_copy(&ret->image.labels, &image->labels);
	ret->image.created_at = image->created_at;
	ret->image.updated_at = image->updated_at;
	ret->id = xstrdup(s.manifest.config.digest);
	ret->manifest_digest = TAKE_PTR(s.manifest_digest);
	ret->size = s.documents;
	for (size_t i = 0; i < s.manifest.layers.n; i++)
		ret->size += content_size(c, s.manifest.layers.v[i].digest);
	unpacked_sizes(c, &s.config, ret);
	ret->size += ret->unpacked;
	ret->layers = s.manifest.layers;
	s.manifest.layers = (struct descriptors){ 0 };
	ret->config = s.config;
	s.config = (struct image_config){ 0 };
	if (!ret->config.created || time_parse_rfc3339(ret->config.created, &ret->created) < 0)
		ret->created = 0;
	for (size_t i = 0; i < t->images.n; i++)
		if (str_equal(t->ids[i], ret->id)) {
			add_names(&t->images.v[i], ret);
			ret->pinned |= kvs_get(&t->images.v[i].labels, LABEL_PINNED) != NULL;
		}
	return 0;
}

/* --- finding --- */

static bool is_hex(const char *s)
{
	return *s && strspn(s, "0123456789abcdef") == strlen(s);
}

/* How `name` names the image: */
enum match_kind { MATCH_NONE, MATCH_NAME, MATCH_DIGEST, MATCH_ID };

struct match {
	enum match_kind kind;
	size_t index; /* one of its records, preferably with a tag */
};

static bool find_name(const struct table *t, const struct reference *ref, size_t *ret)
{
	autofree char *name = reference_string(ref);

	for (size_t i = 0; i < t->images.n; i++)
		if (str_equal(t->images.v[i].name, name)) {
			*ret = i;
			return true;
		}
	return false;
}

/* Is this record of the repository and digest? (The target's, or the id as of old Dockers.) */
static bool record_has_digest(const struct table *t, size_t i, const struct reference *ref)
{
	autoreference struct reference own = REFERENCE_INIT;

	return !is_dangling(t->images.v[i].name) &&
	       reference_parse(t->images.v[i].name, &own, NULL) == 0 &&
	       str_equal(own.domain, ref->domain) && str_equal(own.path, ref->path) &&
	       str_equal(t->images.v[i].target.digest, ref->digest);
}

static bool find_digest(const struct table *t, const struct reference *ref, size_t *ret)
{
	for (size_t i = 0; i < t->images.n; i++)
		if (record_has_digest(t, i, ref)) {
			*ret = i;
			return true;
		}
	return false;
}

static int find_id(const struct table *t, const char *name, struct match *ret, struct error *err)
{
	const char *prefix = str_has_prefix(name, "sha256:") ? name + 7 : name;
	const char *found = NULL;

	if (!is_hex(prefix))
		return 0;
	for (size_t i = 0; i < t->images.n; i++) {
		if (!str_has_prefix(digest_hex(t->ids[i]), prefix))
			continue;
		if (found && !str_equal(found, t->ids[i]))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "multiple IDs found with provided prefix: %s", name);
		if (!found || is_dangling(t->images.v[ret->index].name))
			*ret = (struct match){ .kind = MATCH_ID, .index = i };
		found = t->ids[i];
	}
	return 0;
}

/* NOT_FOUND, INVALID_ARGUMENT (ambiguous, or no reference at all). */
static int find(const struct table *t, const char *name, struct match *ret, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	bool id_only = str_has_prefix(name, "sha256:") || (strlen(name) == 64 && is_hex(name));

	*ret = (struct match){ .kind = MATCH_NONE };
	if (!id_only) {
		if (reference_parse(name, &ref, err) < 0)
			return -1;
		if (ref.digest && find_digest(t, &ref, &ret->index))
			ret->kind = MATCH_DIGEST;
		reference_default_tag(&ref);
		if (ret->kind == MATCH_NONE && !ref.digest && find_name(t, &ref, &ret->index))
			ret->kind = MATCH_NAME;
	}
	if (ret->kind == MATCH_NONE && find_id(t, name, ret, err) < 0)
		return -1;
	if (ret->kind == MATCH_NONE) {
		autofree char *shown = id_only ? xstrdup(name) : reference_familiar(&ref);

		return error_set(err, ERROR_NOT_FOUND, "No such image: %s", shown);
	}
	return 0;
}

int image_lookup(struct image_service *s, const char *ns, const char *name,
		 struct image_details *ret, struct error *err)
{
	const struct store_ctx c = { .store = s->store, .ns = ns };
	CLEANUP(table_done) struct table t = { 0 };
	struct image_details d = { 0 };
	struct match m;

	if (table_load(s, &c, &t, err) < 0 || find(&t, name, &m, err) < 0)
		return -1;
	if (details_load(&c, &t, m.index, &d, err) < 0) {
		image_details_done(&d);
		return -1;
	}
	*ret = d;
	return 0;
}

/* The record that stands for its id in a list: the first one, but a tagged one before others. */
static bool stands_for_id(const struct table *t, size_t index)
{
	size_t best = index;

	for (size_t i = 0; i < t->images.n; i++) {
		if (!str_equal(t->ids[i], t->ids[index]))
			continue;
		if (is_dangling(t->images.v[best].name) != is_dangling(t->images.v[i].name)) {
			if (is_dangling(t->images.v[best].name))
				best = i;
		} else if (i < best) {
			best = i;
		}
	}
	return best == index;
}

int image_list_details(struct image_service *s, const char *ns, struct image_details_list *ret,
		       struct error *err)
{
	const struct store_ctx c = { .store = s->store, .ns = ns };
	CLEANUP(table_done) struct table t = { 0 };
	struct image_details_list l = { 0 };

	if (table_load(s, &c, &t, err) < 0)
		return -1;
	l.v = xnew_array(struct image_details, t.images.n + 1);
	for (size_t i = 0; i < t.images.n; i++) {
		if (!stands_for_id(&t, i))
			continue;
		/* Removed while we look: then it is not in the list. */
		if (details_load(&c, &t, i, &l.v[l.n], NULL) < 0)
			image_details_done(&l.v[l.n]);
		else
			l.n++;
	}
	*ret = l;
	return 0;
}

/* --- changing --- */

int image_tag(struct image_service *s, const char *ns, const char *source, const char *target,
	      struct error *err)
{
	const struct store_ctx c = { .store = s->store, .ns = ns };
	autoreference struct reference ref = REFERENCE_INIT;
	CLEANUP(table_done) struct table t = { 0 };
	autofree char *name = NULL;
	struct image copy;
	struct match m;

	if (reference_parse(target, &ref, err) < 0)
		return -1;
	if (ref.digest)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "refusing to create a tag with a digest reference");
	reference_default_tag(&ref);
	name = reference_string(&ref);
	if (table_load(s, &c, &t, err) < 0 || find(&t, source, &m, err) < 0)
		return -1;
	copy = t.images.v[m.index];
	copy.name = name;
	copy.created_at = copy.updated_at = 0;
	return image_record_replace(s, &c, &copy, NULL, err);
}

/* Which records `name` removes. */
static bool *choose_removals(const struct table *t, const char *name, const struct match *m)
{
	autoreference struct reference ref = REFERENCE_INIT;
	bool *remove = xnew_array(bool, t->images.n + 1);

	if (m->kind == MATCH_DIGEST)
		(void)reference_parse(name, &ref, NULL);
	for (size_t i = 0; i < t->images.n; i++)
		switch (m->kind) {
		case MATCH_NAME:
			remove[i] = i == m->index;
			break;
		case MATCH_DIGEST:
			remove[i] = record_has_digest(t, i, &ref);
			break;
		default:
			remove[i] = str_equal(t->ids[i], t->ids[m->index]);
		}
	return remove;
}

static void note_untagged(const struct image *image, struct strv *ret)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autofree char *familiar = NULL;

	if (!ret || is_dangling(image->name) || reference_parse(image->name, &ref, NULL) < 0)
		return;
	familiar = reference_familiar(&ref);
	strv_push(ret, familiar);
}

int image_untag(struct image_service *s, const char *ns, const char *name, bool force,
		struct strv *ret_untagged, struct strv *ret_deleted, struct error *err)
{
	const struct store_ctx c = { .store = s->store, .ns = ns };
	CLEANUP(table_done) struct table t = { 0 };
	autofree bool *remove = NULL;
	size_t removed = 0, total = 0;
	const char *id;
	struct match m;

	if (table_load(s, &c, &t, err) < 0 || find(&t, name, &m, err) < 0)
		return -1;
	remove = choose_removals(&t, name, &m);
	id = t.ids[m.index];
	for (size_t i = 0; i < t.images.n; i++) {
		removed += remove[i];
		total += str_equal(t.ids[i], id);
	}
	if (m.kind == MATCH_ID && removed > 1 && !force)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "conflict: unable to delete %.12s (must be forced) - image is "
				 "referenced in multiple repositories",
				 digest_hex(id));
	for (size_t i = 0; i < t.images.n; i++) {
		autoerror struct error gone = ERROR_INIT;

		if (!remove[i])
			continue;
		if (image_delete(&c, t.images.v[i].name, &gone) < 0 && gone.code != ERROR_NOT_FOUND)
			return error_move(err, &gone);
		note_untagged(&t.images.v[i], ret_untagged);
	}
	if (removed == total && ret_deleted)
		strv_push(ret_deleted, id);
	return 0;
}
