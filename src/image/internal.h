#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of image/ share. */

#include "base/time.h"
#include "image/flight.h"
#include "image/service.h"

#include <pthread.h>

#define DEFAULT_DOWNLOADS 3

/* Records of images that lost their last name; the rest of the record's name is the target's
 * digest. */
#define DANGLING_PREFIX "moby-dangling@"
/* Leases of this process carry this label, so that those of a dead one are known at the start. */
#define LEASE_LABEL "kistl/transfer"
#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"
#define LABEL_SOURCE "containerd.io/distribution.source."
#define LABEL_GC_CONTENT "containerd.io/gc.ref.content."
#define LABEL_GC_SNAPSHOT "containerd.io/gc.ref.snapshot."
#define LABEL_PINNED "io.cri-containerd.pinned"

struct image_service {
	struct store *store;
	char *worker;
	struct strv hosts_dirs, insecure;
	unsigned max_downloads;
	int64_t stall_ms;
	struct flights *flights;
	pthread_mutex_t lock; /* of ids */
	struct map ids;	      /* target digest -> config digest */
};

/* An image's documents, read from the content store. */
struct stored_image {
	char *manifest_digest;
	char *manifest_type;
	int64_t documents; /* bytes of indexes, manifest and config */
	struct manifest manifest;
	struct image_config config;
};

#define STORED_IMAGE_INIT ((struct stored_image){ 0 })

/* The image in `target` (manifest or index) for a platform (NULL: the host's, or else whatever is
 * there). NOT_FOUND when a document is not in the store. */
int stored_image_load(const struct store_ctx *c, const struct descriptor *target,
		      const struct platform *want, struct stored_image *ret, struct error *err);
void stored_image_done(struct stored_image *s);

/* A lease with this process's label; gone by itself after 24 h. id: LEASE_ID_MAX. */
#define LEASE_ID_MAX 48
int transfer_lease(struct image_service *s, const char *ns, char id[LEASE_ID_MAX],
		   struct error *err);
void transfer_lease_end(struct image_service *s, const char *ns, const char *id);

/* Puts the record; a record of that name with another target stays as a dangling one if it has no
 * other name. *ret_same (may be NULL): there was one already, with this target. */
int image_record_replace(struct image_service *s, const struct store_ctx *c,
			 const struct image *image, bool *ret_same, struct error *err);

void transfer_progress(const struct transfer *t, enum progress_phase phase, const char *id,
		       const char *text, int64_t current, int64_t total);

#define autostored CLEANUP(stored_image_done)
