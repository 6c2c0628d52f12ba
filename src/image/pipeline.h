#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From layer descriptors to a committed chain of snapshots: downloads (when there is a fetch
 * worker), unpacks and links, all layers at once as far as the snapshotter allows it. One thread;
 * other pipelines that need the same layers or chains share the work (flight.h).
 */

#include "image/internal.h"
#include "image/worker.h"
#include "oci/digest.h"

struct layer;

struct pipeline {
	struct image_service *service;
	struct store_ctx ctx; /* with a lease */
	const struct transfer *transfer;
	const char *snapshotter;
	struct worker *fetch;	  /* after its "layers" event; NULL: content must be there */
	const struct kvs *labels; /* for new layer blobs; may be NULL */

	/* private */
	unsigned capabilities;
	struct layer *layers;
	size_t n;
	int wake;	  /* eventfd for flights */
	unsigned unpacks; /* finished so far */
	unsigned synced;  /* of these are on disk */
	bool fetch_done, busy_ingest;
};

#define PIPELINE_INIT ((struct pipeline){ .wake = -1 })

/* Before pipeline_run(): the manifest's layers and the config's diff ids. */
int pipeline_prepare(struct pipeline *p, const struct manifest *m, const struct image_config *c,
		     struct error *err);
/* Starts what can be started without waiting; pipeline_run() does that too. */
int pipeline_start(struct pipeline *p, struct error *err);
/* Until every layer is content and every chain id a committed, synced snapshot. NOT_FOUND: content
 * is missing and there is no fetch worker. */
int pipeline_run(struct pipeline *p, struct error *err);
/* Undoes what is half done: workers, flights, active snapshots. Partial downloads stay, unless
 * `err` says that their bytes are wrong. */
void pipeline_done(struct pipeline *p, const struct error *err);
/* Is everything there already? Takes no flights, starts nothing. */
bool pipeline_is_complete(struct pipeline *p);
