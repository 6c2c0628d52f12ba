#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New images: a layer from a container's changes or a user's archive, on another image or on
 * nothing. Blocks; pool threads.
 */

#include "image/service.h"
#include "oci/digest.h"

struct image_make {
	const char *ns;
	const struct descriptor *base; /* NULL: none */
	/* The layer: input (a pipe), or dir with what it is compared with (-1: it is an overlay's
	 * upper directory). Borrowed. */
	int input, dir, lower;
	struct json *config;	   /* the image's "config" member; borrowed, may be NULL */
	const struct platform *os; /* NULL: the base's or the host's */
	const char *author, *comment, *created_by;
	const char *name; /* NULL: a nameless one */
	struct cancel *cancel;
};

/* ret_id: the image's id. */
int image_make(struct image_service *s, const struct image_make *m, char ret_id[DIGEST_MAX],
	       struct error *err);
