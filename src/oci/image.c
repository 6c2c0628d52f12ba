/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/image.h"
#include "base/mem.h"
#include "oci/digest.h"

#include <string.h>

#define LAYERS_MAX 1000
#define BLOB_MAX (1LL << 46) /* 64 TiB */

static const struct {
	const char *type;
	enum media_kind kind;
	bool prefix; /* "+gzip", ".zstd", "+gzip+encrypted" ... may follow */
} media_types[] = {
	{ MEDIA_OCI_INDEX, MEDIA_KIND_INDEX, false },
	{ MEDIA_DOCKER_LIST, MEDIA_KIND_INDEX, false },
	{ MEDIA_OCI_MANIFEST, MEDIA_KIND_MANIFEST, false },
	{ MEDIA_DOCKER_MANIFEST, MEDIA_KIND_MANIFEST, false },
	{ MEDIA_OCI_CONFIG, MEDIA_KIND_CONFIG, false },
	{ MEDIA_DOCKER_CONFIG, MEDIA_KIND_CONFIG, false },
	{ MEDIA_OCI_LAYER, MEDIA_KIND_LAYER, true },
	{ MEDIA_DOCKER_LAYER, MEDIA_KIND_LAYER, true },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar", MEDIA_KIND_LAYER, true },
	{ "application/vnd.docker.image.rootfs.foreign.diff.tar", MEDIA_KIND_LAYER, true },
	{ "application/vnd.erofs.layer.v1", MEDIA_KIND_LAYER, true },
};

static const struct json_field platform_fields[] = {
	JSON_FIELD("architecture", FIELD_STRING, struct platform, architecture, JSON_ALWAYS),
	JSON_FIELD("os", FIELD_STRING, struct platform, os, JSON_ALWAYS),
	JSON_FIELD("os.version", FIELD_STRING, struct platform, os_version, 0),
	JSON_FIELD("variant", FIELD_STRING, struct platform, variant, 0),
	JSON_END,
};

static const struct json_field descriptor_fields[] = {
	JSON_FIELD("mediaType", FIELD_STRING, struct descriptor, media_type, JSON_REQUIRED),
	JSON_FIELD("digest", FIELD_STRING, struct descriptor, digest, JSON_REQUIRED),
	JSON_FIELD("size", FIELD_INT, struct descriptor, size, JSON_REQUIRED | JSON_ALWAYS),
	JSON_FIELD("urls", FIELD_STRV, struct descriptor, urls, 0),
	JSON_FIELD("annotations", FIELD_KVS, struct descriptor, annotations, 0),
	JSON_SUB("platform", FIELD_OBJECT_PTR, struct descriptor, platform, platform_fields,
		 struct platform, 0),
	JSON_FIELD("artifactType", FIELD_STRING, struct descriptor, artifact_type, 0),
	JSON_END,
};

static const struct json_field index_fields[] = {
	JSON_FIELD("schemaVersion", FIELD_INT, struct index, schema_version, JSON_ALWAYS),
	JSON_FIELD("mediaType", FIELD_STRING, struct index, media_type, 0),
	JSON_SUB("manifests", FIELD_ARRAY, struct index, manifests, descriptor_fields,
		 struct descriptor, JSON_ALWAYS),
	JSON_FIELD("annotations", FIELD_KVS, struct index, annotations, 0),
	JSON_END,
};

static const struct json_field manifest_fields[] = {
	JSON_FIELD("schemaVersion", FIELD_INT, struct manifest, schema_version, JSON_ALWAYS),
	JSON_FIELD("mediaType", FIELD_STRING, struct manifest, media_type, 0),
	JSON_FIELD("artifactType", FIELD_STRING, struct manifest, artifact_type, 0),
	JSON_SUB("config", FIELD_OBJECT, struct manifest, config, descriptor_fields,
		 struct descriptor, JSON_REQUIRED | JSON_ALWAYS),
	JSON_SUB("layers", FIELD_ARRAY, struct manifest, layers, descriptor_fields,
		 struct descriptor, JSON_ALWAYS),
	JSON_FIELD("annotations", FIELD_KVS, struct manifest, annotations, 0),
	JSON_END,
};

static const struct json_field healthcheck_fields[] = {
	JSON_FIELD("Test", FIELD_STRV, struct healthcheck, test, 0),
	JSON_FIELD("Interval", FIELD_INT, struct healthcheck, interval, 0),
	JSON_FIELD("Timeout", FIELD_INT, struct healthcheck, timeout, 0),
	JSON_FIELD("StartPeriod", FIELD_INT, struct healthcheck, start_period, 0),
	JSON_FIELD("StartInterval", FIELD_INT, struct healthcheck, start_interval, 0),
	JSON_FIELD("Retries", FIELD_INT, struct healthcheck, retries, 0),
	JSON_END,
};

static const struct json_field history_fields[] = {
	JSON_FIELD("created", FIELD_STRING, struct history_entry, created, 0),
	JSON_FIELD("created_by", FIELD_STRING, struct history_entry, created_by, 0),
	JSON_FIELD("author", FIELD_STRING, struct history_entry, author, 0),
	JSON_FIELD("comment", FIELD_STRING, struct history_entry, comment, 0),
	JSON_FIELD("empty_layer", FIELD_BOOL, struct history_entry, empty_layer, 0),
	JSON_END,
};

/* Offsets are of struct image_config: its inner struct has no name. */
#define CONFIG_FIELD(name, type, member) \
	JSON_FIELD(name, type, struct image_config, config.member, 0)

static const struct json_field config_fields[] = {
	CONFIG_FIELD("User", FIELD_STRING, user),
	CONFIG_FIELD("Env", FIELD_STRV, env),
	CONFIG_FIELD("Entrypoint", FIELD_STRV, entrypoint),
	CONFIG_FIELD("Cmd", FIELD_STRV, cmd),
	CONFIG_FIELD("Shell", FIELD_STRV, shell),
	CONFIG_FIELD("OnBuild", FIELD_STRV, on_build),
	CONFIG_FIELD("WorkingDir", FIELD_STRING, working_dir),
	CONFIG_FIELD("Labels", FIELD_KVS, labels),
	CONFIG_FIELD("StopSignal", FIELD_STRING, stop_signal),
	JSON_SUB("Healthcheck", FIELD_OBJECT_PTR, struct image_config, config.healthcheck,
		 healthcheck_fields, struct healthcheck, 0),
	JSON_END,
};

static const struct json_field rootfs_fields[] = {
	JSON_FIELD("diff_ids", FIELD_STRV, struct image_config, diff_ids, 0),
	JSON_END,
};

static const struct json_field image_config_fields[] = {
	JSON_FIELD("created", FIELD_STRING, struct image_config, created, 0),
	JSON_FIELD("author", FIELD_STRING, struct image_config, author, 0),
	JSON_FIELD("architecture", FIELD_STRING, struct image_config, platform.architecture, 0),
	JSON_FIELD("os", FIELD_STRING, struct image_config, platform.os, 0),
	JSON_FIELD("os.version", FIELD_STRING, struct image_config, platform.os_version, 0),
	JSON_FIELD("variant", FIELD_STRING, struct image_config, platform.variant, 0),
	{ .name = "config", .type = FIELD_OBJECT, .sub = config_fields },
	{ .name = "rootfs", .type = FIELD_OBJECT, .sub = rootfs_fields },
	JSON_SUB("history", FIELD_ARRAY, struct image_config, history, history_fields,
		 struct history_entry, 0),
	JSON_END,
};

enum media_kind media_kind(const char *media_type)
{
	if (!media_type)
		return MEDIA_UNKNOWN;
	for (size_t i = 0; i < ARRAY_SIZE(media_types); i++) {
		size_t n = strlen(media_types[i].type);

		if (strncmp(media_type, media_types[i].type, n) != 0)
			continue;
		char next = media_type[n];

		if (!next || (media_types[i].prefix && (next == '+' || next == '.')))
			return media_types[i].kind;
	}
	return MEDIA_UNKNOWN;
}

bool media_is_foreign_layer(const char *media_type)
{
	return media_kind(media_type) == MEDIA_KIND_LAYER &&
	       (strstr(media_type, ".nondistributable.") || strstr(media_type, ".foreign."));
}

static int invalid(struct error *err, const char *what)
{
	return error_set(err, ERROR_INVALID_ARGUMENT, "%s", what);
}

static int descriptor_check(const struct descriptor *d, struct error *err)
{
	if (!digest_valid(d->digest))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid digest '%.200s'", d->digest);
	if (d->size < 0 || d->size > BLOB_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid size %lld of '%s'",
				 (long long)d->size, d->digest);
	return 0;
}

static int descriptors_check(const struct descriptors *d, const char *name, struct error *err)
{
	if (d->n > LAYERS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s: more than %d", name, LAYERS_MAX);
	for (size_t i = 0; i < d->n; i++)
		if (descriptor_check(&d->v[i], err) < 0)
			return error_wrap(err, "%s[%zu]", name, i);
	return 0;
}

static bool is_schema1(const struct json *j, const char *media_type)
{
	return json_get_int(j, "schemaVersion", 2) == 1 || json_get(j, "fsLayers") ||
	       (media_type &&
		str_has_prefix(media_type, "application/vnd.docker.distribution.manifest.v1"));
}

/*
 * What the transport says and what the document says must be the same kind, and where both are
 * exact the same type; else two readers could see two images in one digest.
 */
static int check_types(const struct json *j, const char *transport, enum media_kind kind,
		       struct error *err)
{
	autofree char *outer = transport ? xstrndup(transport, strcspn(transport, "; ")) : NULL;
	const char *inner = json_get_string(j, "mediaType");

	if (is_schema1(j, outer))
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "Docker image manifest schema 1 is not supported");
	if (str_empty(inner))
		inner = NULL;
	if (inner && media_kind(inner) != kind)
		return error_set(err, ERROR_INVALID_ARGUMENT, "unexpected media type '%.200s'",
				 inner);
	if (media_kind(outer) == MEDIA_UNKNOWN)
		return 0;
	if (media_kind(outer) != kind)
		return error_set(err, ERROR_INVALID_ARGUMENT, "unexpected media type '%.200s'",
				 outer);
	if (inner && strcmp(inner, outer) != 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "media type '%s' in a document that came as '%s'", inner, outer);
	return 0;
}

static struct json *parse_document(const char *text, size_t len, const char *media_type,
				   enum media_kind kind, struct error *err)
{
	autojson struct json *j = json_parse(text, len, OCI_MANIFEST_MAX, err);

	if (!j)
		return NULL;
	if (json_type(j) != JSON_OBJECT) {
		invalid(err, "not a JSON object");
		return NULL;
	}
	if (check_types(j, media_type, kind, err) < 0)
		return NULL;
	return TAKE_PTR(j);
}

/* Old index.json files lack it. */
static int check_schema(const struct json *j, int64_t *version, struct error *err)
{
	if (!json_get(j, "schemaVersion"))
		*version = 2;
	return *version == 2 ? 0 : invalid(err, "schemaVersion must be 2");
}

static int index_from_json(const struct json *j, struct index *ret, struct error *err)
{
	if (json_get(j, "layers") || json_get(j, "config"))
		return invalid(err, "ambiguous document: an index with the members of a manifest");
	if (jsontab_decode(index_fields, j, ret, err) < 0)
		return -1;
	if (check_schema(j, &ret->schema_version, err) < 0)
		return -1;
	return descriptors_check(&ret->manifests, "manifests", err);
}

int index_parse(const char *text, size_t len, const char *media_type, struct index *ret,
		struct error *err)
{
	autojson struct json *j = parse_document(text, len, media_type, MEDIA_KIND_INDEX, err);
	CLEANUP(index_done) struct index index = { 0 };

	if (!j || index_from_json(j, &index, err) < 0)
		return error_wrap(err, "image index");
	*ret = index;
	index = (struct index){ 0 };
	return 0;
}

static int manifest_from_json(const struct json *j, struct manifest *ret, struct error *err)
{
	if (json_get(j, "manifests"))
		return invalid(err, "ambiguous document: a manifest with the members of an index");
	if (jsontab_decode(manifest_fields, j, ret, err) < 0)
		return -1;
	if (check_schema(j, &ret->schema_version, err) < 0)
		return -1;
	if (descriptor_check(&ret->config, err) < 0)
		return error_wrap(err, "config");
	return descriptors_check(&ret->layers, "layers", err);
}

int manifest_parse(const char *text, size_t len, const char *media_type, struct manifest *ret,
		   struct error *err)
{
	autojson struct json *j = parse_document(text, len, media_type, MEDIA_KIND_MANIFEST, err);
	CLEANUP(manifest_done) struct manifest manifest = { 0 };

	if (!j || manifest_from_json(j, &manifest, err) < 0)
		return error_wrap(err, "image manifest");
	*ret = manifest;
	manifest = (struct manifest){ 0 };
	return 0;
}

static int collect_key(const char *key, struct json *value, void *arg)
{
	(void)value;
	strv_push(arg, key);
	return 0;
}

/* An object that is used as a set. */
static int decode_keys(const struct json *config, const char *name, struct strv *ret,
		       struct error *err)
{
	const struct json *j = json_get(config, name);

	if (j && json_type(j) != JSON_OBJECT)
		return error_set(err, ERROR_INVALID_ARGUMENT, "config.%s: expected object", name);
	return json_object_each(j, collect_key, ret);
}

static int image_config_from_json(const struct json *j, struct image_config *ret, struct error *err)
{
	const struct json *config = json_get(j, "config");
	const char *type = json_get_string(json_get(j, "rootfs"), "type");

	if (json_get(j, "manifests") || json_get(j, "layers"))
		return invalid(err, "ambiguous document: a config with the members of a manifest");
	if (jsontab_decode(image_config_fields, j, ret, err) < 0 ||
	    decode_keys(config, "ExposedPorts", &ret->config.exposed_ports, err) < 0 ||
	    decode_keys(config, "Volumes", &ret->config.volumes, err) < 0)
		return -1;
	if (json_get(j, "rootfs") && !str_equal(type, "layers"))
		return invalid(err, "rootfs.type: must be 'layers'");
	if (ret->diff_ids.n > LAYERS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "rootfs.diff_ids: more than %d",
				 LAYERS_MAX);
	for (size_t i = 0; i < ret->diff_ids.n; i++)
		if (!digest_valid(ret->diff_ids.v[i]))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "rootfs.diff_ids[%zu]: invalid digest '%.200s'", i,
					 ret->diff_ids.v[i]);
	return 0;
}

int image_config_parse(const char *text, size_t len, struct image_config *ret, struct error *err)
{
	autojson struct json *j = parse_document(text, len, NULL, MEDIA_KIND_CONFIG, err);
	CLEANUP(image_config_done) struct image_config config = { 0 };

	if (!j || image_config_from_json(j, &config, err) < 0)
		return error_wrap(err, "image config");
	*ret = config;
	config = (struct image_config){ 0 };
	return 0;
}

void index_done(struct index *i)
{
	jsontab_done(index_fields, i);
}

void manifest_done(struct manifest *m)
{
	jsontab_done(manifest_fields, m);
}

void image_config_done(struct image_config *c)
{
	jsontab_done(image_config_fields, c);
	strv_done(&c->config.exposed_ports);
	strv_done(&c->config.volumes);
}

void descriptor_done(struct descriptor *d)
{
	jsontab_done(descriptor_fields, d);
}

void descriptor_copy(struct descriptor *dst, const struct descriptor *src)
{
	if (dst == src)
		return;
	descriptor_done(dst);
	dst->media_type = xstrdup(src->media_type);
	dst->digest = xstrdup(src->digest);
	dst->size = src->size;
	dst->artifact_type = xstrdup(src->artifact_type);
	strv_copy(&dst->urls, &src->urls);
	kvs_copy(&dst->annotations, &src->annotations);
	if (src->platform) {
		dst->platform = xnew(struct platform);
		platform_copy(dst->platform, src->platform);
	}
}

struct json *descriptor_to_json(const struct descriptor *d)
{
	return jsontab_encode(descriptor_fields, d);
}

int descriptor_from_json(const struct json *j, struct descriptor *ret, struct error *err)
{
	CLEANUP(descriptor_done) struct descriptor d = { 0 };

	if (jsontab_decode(descriptor_fields, j, &d, err) < 0 || descriptor_check(&d, err) < 0)
		return error_wrap(err, "descriptor");
	*ret = d;
	d = (struct descriptor){ 0 };
	return 0;
}

char *manifest_format(const struct manifest *m)
{
	autojson struct json *j = jsontab_encode(manifest_fields, m);

	return json_format(j, /* pretty= */ false);
}

/* 0: no match; entries without a platform match everything, but worse than any that has one. */
static unsigned entry_rank(const struct descriptor *d, const struct platform *want)
{
	const char *role = kvs_get(&d->annotations, "vnd.docker.reference.type");
	enum media_kind kind = media_kind(d->media_type);

	if (role || (kind != MEDIA_KIND_MANIFEST && kind != MEDIA_KIND_INDEX))
		return 0;
	if (!d->platform)
		return 1;

	autoplatform struct platform have = PLATFORM_INIT;

	platform_copy(&have, d->platform);
	platform_normalize(&have);
	unsigned rank = platform_rank(want, &have);

	return rank ? rank + 1 : 0;
}

const struct descriptor *index_select(const struct index *i, const struct platform *want)
{
	const struct descriptor *best = NULL;
	unsigned best_rank = 0;

	for (size_t k = 0; k < i->manifests.n; k++) {
		unsigned rank = entry_rank(&i->manifests.v[k], want);

		if (rank > best_rank) {
			best = &i->manifests.v[k];
			best_rank = rank;
		}
	}
	return best;
}

void image_config_chain_id(const struct image_config *c, size_t n, char *out)
{
	out[0] = '\0';
	for (size_t i = 0; i < MIN(n, c->diff_ids.n); i++)
		digest_chain(out, c->diff_ids.v[i], out);
}
