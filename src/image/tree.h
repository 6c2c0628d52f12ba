#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* All content of one image, for pushing and saving it, and the labels that keep it together. */

#include "image/internal.h"

struct image_tree {
	struct descriptor root;
	struct descriptors documents; /* manifests and indexes, children before parents */
	struct descriptors blobs;     /* configs and layers, each once */
	struct stored_image image;    /* the one for the platform */
};

#define IMAGE_TREE_INIT ((struct image_tree){ .root = { .digest = NULL } })

/* The whole index when all of it is in the store, else the image for the platform (NULL: the
 * host's) alone. NOT_FOUND names what is missing. */
int image_tree_load(const struct store_ctx *c, const struct descriptor *target,
		    const struct platform *platform, struct image_tree *ret, struct error *err);
void image_tree_done(struct image_tree *t);
/* Puts gc.ref labels on the documents below target that are in the store. */
int image_tree_label(const struct store_ctx *c, const struct descriptor *target, struct error *err);

#define autotree CLEANUP(image_tree_done)
