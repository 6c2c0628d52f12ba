/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docker save's own format: manifest.json lists images by the paths of their config and layers.
 * There is no manifest, so one of Docker's schema 2 is made; layers stay as they are.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "worker/archive-internal.h"

#include <string.h>

#define MANIFEST_JSON_MAX (1 << 20)

static const char *layer_type(const struct member *m)
{
	static const char *const types[] = {
		[MEMBER_OTHER] = MEDIA_DOCKER_LAYER,
		[MEMBER_GZIP] = MEDIA_DOCKER_LAYER_GZIP,
		[MEMBER_ZSTD] = MEDIA_DOCKER_LAYER ".zstd",
	};
	enum member_format f = archive_member_format(m);

	return f < ARRAY_SIZE(types) ? types[f] : NULL;
}

static void describe(struct descriptor *d, const char *media_type, const char *digest, int64_t size)
{
	d->media_type = xstrdup(media_type);
	d->digest = xstrdup(digest);
	d->size = size;
}

static int add_layer(struct archive *a, const char *path, const char *diff_id,
		     struct descriptor *ret, struct error *err)
{
	const struct member *m = archive_member(a, path);

	if (!m)
		return error_set(err, ERROR_INVALID_ARGUMENT, "archive has no layer '%.200s'",
				 path);
	const char *type = layer_type(m);
	if (!type)
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "layer '%.200s' is compressed by xz or bzip2", path);
	if (strcmp(type, MEDIA_DOCKER_LAYER) == 0 && strcmp(m->digest, diff_id) != 0)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "layer '%.200s' is %s, but the image's config says %s", path,
				 m->digest, diff_id);
	describe(ret, type, m->digest, m->size);
	return archive_send_blob(a, ret, m->fd, err);
}

static int add_manifest(struct archive *a, const struct manifest *m, struct descriptor *ret,
			struct error *err)
{
	autofree char *text = manifest_format(m);
	char digest[DIGEST_MAX];
	size_t len = strlen(text);

	digest_bytes(text, len, digest);
	describe(ret, MEDIA_DOCKER_MANIFEST, digest, (int64_t)len);
	autoclose int fd = archive_file(a, err);
	if (fd < 0)
		return -1;
	int r = fs_write_all(fd, text, len);
	if (r < 0)
		return error_errno(err, -r, "store a manifest");
	return archive_send_blob(a, ret, fd, err);
}

/* config: read and checked. layers: as many as diff_ids. */
static int add_image(struct archive *a, const struct member *config_member,
		     const struct image_config *config, const struct strv *layers,
		     const struct strv *names, struct error *err)
{
	CLEANUP(manifest_done) struct manifest m = { .schema_version = 2 };
	CLEANUP(descriptor_done) struct descriptor target = { 0 };

	m.media_type = xstrdup(MEDIA_DOCKER_MANIFEST);
	describe(&m.config, MEDIA_DOCKER_CONFIG, config_member->digest, config_member->size);
	if (layers->n > 0)
		m.layers.v = xnew_array(struct descriptor, layers->n);
	for (size_t i = 0; i < layers->n; i++) {
		m.layers.n = i + 1;
		if (add_layer(a, layers->v[i], config->diff_ids.v[i], &m.layers.v[i], err) < 0)
			return -1;
	}
	if (archive_send_blob(a, &m.config, config_member->fd, err) < 0 ||
	    add_manifest(a, &m, &target, err) < 0)
		return -1;
	return archive_send_image(a, names, &target, err);
}

static int one_image(struct archive *a, const struct json *j, struct error *err)
{
	CLEANUP(image_config_done) struct image_config config = { 0 };
	autostrv struct strv layers = STRV_INIT, tags = STRV_INIT, names = STRV_INIT;
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);
	const char *path = json_get_string(j, "Config");

	if (str_empty(path))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "manifest.json: image without Config");
	if (json_get_strv(j, "Layers", &layers, err) < 0 ||
	    json_get_strv(j, "RepoTags", &tags, err) < 0)
		return error_wrap(err, "manifest.json");
	const struct member *m = archive_member(a, path);
	if (!m)
		return error_set(err, ERROR_INVALID_ARGUMENT, "archive has no config '%.200s'",
				 path);
	if (archive_read(m, path, OCI_MANIFEST_MAX, &text, err) < 0 ||
	    image_config_parse(text.data, text.len, &config, err) < 0)
		return error_wrap(err, "config '%.200s'", path);
	if (config.diff_ids.n != layers.n)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "config '%.200s' has %zu diff_ids, but the image has %zu layers",
				 path, config.diff_ids.n, layers.n);
	if (a->want && platform_rank(a->want, &config.platform) == 0)
		return 0;
	for (size_t i = 0; i < tags.n; i++)
		if (archive_add_name(&names, tags.v[i], err) < 0)
			return -1;
	return add_image(a, m, &config, &layers, &names, err);
}

int archive_docker(struct archive *a, struct error *err)
{
	autobuf struct buf text = BUF_INIT(MANIFEST_JSON_MAX);
	const struct member *m = archive_member(a, "manifest.json");

	if (archive_read(m, "manifest.json", MANIFEST_JSON_MAX, &text, err) < 0)
		return -1;
	autojson struct json *j = json_parse(text.data, text.len, MANIFEST_JSON_MAX, err);
	if (!j)
		return error_wrap(err, "manifest.json");
	if (json_type(j) != JSON_ARRAY || json_array_len(j) == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "manifest.json lists no image");
	for (size_t i = 0; i < json_array_len(j); i++)
		if (one_image(a, json_array_get(j, i), err) < 0)
			return -1;
	if (a->n_images == 0) {
		autofree char *want = platform_string(a->want);
		return error_set(err, ERROR_NOT_FOUND, "archive has no image for %s", want);
	}
	return 0;
}
