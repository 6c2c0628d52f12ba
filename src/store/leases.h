#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: hold resources against the garbage collector. Labels: containerd.io/gc.expire, gc.flat.
 */

#include "store/store.h"

struct lease {
	char *id;
	int64_t created_at; /* ns */
	struct kvs labels;
};

struct leases {
	struct lease *v;
	size_t n;
};

/* types: "content", "ingests", "images", "snapshots/<snapshotter>" */
struct lease_resource {
	char *type;
	char *id;
};

struct lease_resources {
	struct lease_resource *v;
	size_t n;
};

void leases_done(struct leases *l);
void lease_resources_done(struct lease_resources *r);

/* ALREADY_EXISTS. expire_at: ns since the epoch, 0 for never. */
int lease_create(const struct store_ctx *c, const char *id, int64_t expire_at,
		 const struct kvs *labels, struct error *err);
/* sync: returns after a full collection. */
int lease_delete(const struct store_ctx *c, const char *id, bool sync, struct error *err);
int lease_list(const struct store_ctx *c, struct leases *ret, struct error *err);
int lease_add(const struct store_ctx *c, const char *id, const char *type, const char *resource,
	      struct error *err);
int lease_remove(const struct store_ctx *c, const char *id, const char *type, const char *resource,
		 struct error *err);
int lease_resources(const struct store_ctx *c, const char *id, struct lease_resources *ret,
		    struct error *err);
