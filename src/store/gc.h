#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Garbage collection: mark from leases, images, containers, labelled roots (containerd.io/gc.root)
 * along gc.ref.* labels, image targets and snapshot parents; sweep records in one short
 * transaction, then unlink outside any lock. Concurrent with everything: a pull holds a lease.
 * Requests never wait for a run: it reads a database snapshot, and deletes only what that snapshot
 * had and nothing has touched or referenced since.
 */

#include "store/store.h"

struct gc_stats {
	uint64_t blobs, snapshots, ingests, leases, images;
	int64_t bytes;	  /* of blobs */
	int64_t duration; /* ns */
};

/* One full run, including removal from disk; ret may be NULL. */
int gc_run(struct store *s, struct gc_stats *ret, struct error *err);
/* A thread of the store's runs it soon (after deletions; coalesced). Never blocks. */
void gc_schedule(struct store *s);
