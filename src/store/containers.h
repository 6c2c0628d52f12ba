#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Container records (containerd's Container) and small records of other kinds (volumes, networks).
 * Extensions are documents of the layers above, by type URL, stored verbatim.
 */

#include "store/store.h"

struct container_record {
	char *id;
	char *image; /* name, may be "" */
	char *runtime;
	char *runtime_options; /* JSON text or NULL */
	char *spec;	       /* OCI runtime spec, JSON text, or NULL */
	char *snapshotter;
	char *snapshot_key;
	char *sandbox_id;
	struct kvs labels;
	struct kvs extensions; /* type URL -> JSON text */
	int64_t created_at, updated_at;
};

struct container_records {
	struct container_record *v;
	size_t n;
};

void container_record_done(struct container_record *r);
void container_records_done(struct container_records *r);

/* ALREADY_EXISTS. sync: durable on return. */
int container_record_create(const struct store_ctx *c, const struct container_record *r, bool sync,
			    struct error *err);
/* NOT_FOUND. Replaces everything but id and created_at. */
int container_record_update(const struct store_ctx *c, const struct container_record *r,
			    struct error *err);
int container_record_get(const struct store_ctx *c, const char *id, struct container_record *ret,
			 struct error *err);
int container_record_list(const struct store_ctx *c, struct container_records *ret,
			  struct error *err);
int container_record_delete(const struct store_ctx *c, const char *id, struct error *err);

/* kind: "volume", "network", "docker.state" ...; document: JSON text. sync: durable on return. */
int record_put(const struct store_ctx *c, const char *kind, const char *id, const char *document,
	       bool sync, struct error *err);
/* malloc'ed. */
int record_get(const struct store_ctx *c, const char *kind, const char *id, char **ret,
	       struct error *err);
int record_list(const struct store_ctx *c, const char *kind, struct kvs *ret, struct error *err);
int record_delete(const struct store_ctx *c, const char *kind, const char *id, struct error *err);
