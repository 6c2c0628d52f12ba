#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Images: name -> target descriptor, with labels. Names are canonical references. */

#include "oci/image.h"
#include "store/store.h"

struct image {
	char *name;
	struct descriptor target;
	struct kvs labels;
	int64_t created_at, updated_at; /* ns */
};

struct images {
	struct image *v;
	size_t n;
};

void image_done(struct image *i);
void images_done(struct images *i);

/* Creates or replaces; durable when it returns. */
int image_put(const struct store_ctx *c, const struct image *i, struct error *err);
/* ALREADY_EXISTS. */
int image_create(const struct store_ctx *c, const struct image *i, struct error *err);
int image_get(const struct store_ctx *c, const char *name, struct image *ret, struct error *err);
int image_list(const struct store_ctx *c, struct images *ret, struct error *err);
/* NOT_FOUND. The collector is scheduled. */
int image_delete(const struct store_ctx *c, const char *name, struct error *err);

#define autoimage CLEANUP(image_done)
#define autoimages CLEANUP(images_done)
