#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Layers made here: a worker writes one into an ingest, hashed as it goes. Internal to image/. */

#include "image/service.h"
#include "oci/digest.h"

struct layer_source {
	/* An archive (a pipe), or dir with the tree that it is compared with (-1: dir is an
	 * overlay's upper directory). Borrowed; -1: not this one. */
	int input, dir, lower;
	const char *ref;	  /* of the ingest; NULL: random */
	const struct kvs *labels; /* of the content, besides its diff id's; may be NULL */
	struct cancel *cancel;
};

struct written_layer {
	char digest[DIGEST_MAX], diff_id[DIGEST_MAX];
	int64_t size; /* compressed, with gzip */
};

int layer_write(struct image_service *s, const struct store_ctx *c, const struct layer_source *from,
		struct written_layer *ret, struct error *err);
