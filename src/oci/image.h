#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image documents (OCI image-spec v1.1 and Docker schema 2): descriptors, indexes, manifests and
 * configs as structs, decoded by table and checked. Sans-IO. Any thread.
 */

#include "base/json.h"
#include "base/jsontab.h"
#include "oci/platform.h"

#define OCI_MANIFEST_MAX (4 << 20) /* bytes; also indexes and configs */

#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_OCI_LAYER_GZIP MEDIA_OCI_LAYER "+gzip"
#define MEDIA_OCI_LAYER_ZSTD MEDIA_OCI_LAYER "+zstd"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define MEDIA_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"
#define MEDIA_DOCKER_LAYER_GZIP MEDIA_DOCKER_LAYER ".gzip"

struct descriptor {
	char *media_type;
	char *digest; /* valid */
	int64_t size;
	struct strv urls;
	struct kvs annotations;
	char *artifact_type;
	struct platform *platform; /* NULL when absent */
};

struct descriptors {
	struct descriptor *v;
	size_t n;
};

struct index {
	int64_t schema_version;
	char *media_type;
	struct descriptors manifests;
	struct kvs annotations;
};

struct manifest {
	int64_t schema_version;
	char *media_type;
	char *artifact_type;
	struct descriptor config;
	struct descriptors layers;
	struct kvs annotations;
};

struct healthcheck {
	struct strv test;
	int64_t interval, timeout, start_period, start_interval; /* ns */
	int64_t retries;
};

struct history_entry {
	char *created;
	char *created_by;
	char *author;
	char *comment;
	bool empty_layer;
};

struct image_config {
	char *created;
	char *author;
	struct platform platform; /* os, architecture, variant members of the document */
	struct {
		char *user;
		struct strv env, entrypoint, cmd, shell, on_build;
		struct strv exposed_ports; /* keys */
		struct strv volumes;	   /* keys */
		char *working_dir;
		struct kvs labels;
		char *stop_signal;
		struct healthcheck *healthcheck;
	} config;
	struct strv diff_ids;
	struct {
		struct history_entry *v;
		size_t n;
	} history;
};

enum media_kind {
	MEDIA_UNKNOWN,
	MEDIA_KIND_INDEX,
	MEDIA_KIND_MANIFEST,
	MEDIA_KIND_CONFIG,
	MEDIA_KIND_LAYER,
};

enum media_kind media_kind(const char *media_type);
bool media_is_foreign_layer(const char *media_type); /* non-distributable */

/* All refuse ambiguous documents (CVE-2021-41190), schema 1 (by name), invalid digests, negative or
 * absurd sizes, more than 1000 layers; media_type (may be NULL) is what the transport said. */
int index_parse(const char *text, size_t len, const char *media_type, struct index *ret,
		struct error *err);
int manifest_parse(const char *text, size_t len, const char *media_type, struct manifest *ret,
		   struct error *err);
int image_config_parse(const char *text, size_t len, struct image_config *ret, struct error *err);
void index_done(struct index *i);
void manifest_done(struct manifest *m);
void image_config_done(struct image_config *c);
void descriptor_done(struct descriptor *d);
void descriptor_copy(struct descriptor *dst, const struct descriptor *src);

struct json *descriptor_to_json(const struct descriptor *d);
int descriptor_from_json(const struct json *j, struct descriptor *ret, struct error *err);
char *manifest_format(const struct manifest *m);

/* Best match for `want` in the index, NULL when none matches. Borrowed from the index. Attestation
 * entries (unknown/unknown) never match. */
const struct descriptor *index_select(const struct index *i, const struct platform *want);
/* chain id of the first n diff ids. */
void image_config_chain_id(const struct image_config *c, size_t n, char *out /* DIGEST_MAX */);
