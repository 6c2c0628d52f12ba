#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers for those who keep their own snapshots (containerd's Diff service): a layer's archive
 * applied to a set of mounts, and the difference of two sets of mounts as a layer. By workers;
 * nothing is mounted in the host's table. Blocks; pool threads.
 */

#include "base/mount.h"
#include "image/service.h"
#include "oci/digest.h"

struct applied_layer {
	char diff_id[DIGEST_MAX];
	int64_t size; /* of the archive, uncompressed */
};

/* NOT_FOUND: the layer is not content. INVALID_ARGUMENT: no single mount that can be written to.
 * DATA_LOSS and what the worker says of a bad archive; the tree is then half written. */
int image_apply_layer(struct image_service *s, const struct store_ctx *c,
		      const struct descriptor *layer, const struct mounts *mounts, bool sync,
		      struct cancel *cancel, struct applied_layer *ret, struct error *err);
/* What `upper` changed in `lower` (both one mount, or none at all for an empty tree), as content
 * with these labels and that of its diff id. media_type NULL: an OCI layer with gzip, which is what
 * can be made. */
int image_diff_layer(struct image_service *s, const struct store_ctx *c, const struct mounts *lower,
		     const struct mounts *upper, const char *media_type, const char *ref,
		     const struct kvs *labels, struct cancel *cancel, struct descriptor *ret,
		     struct error *err);
