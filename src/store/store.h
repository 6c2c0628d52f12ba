#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: content, images, containers, leases, snapshots and their garbage collector, with
 * containerd's data model (containerd-api.md 5). Metadata is one SQLite database (WAL) under root;
 * blobs lie as containerd lays them out.
 *
 * Any thread may call everything; calls block on disk. Whatever they return is a copy that the
 * caller releases. Every call names a namespace and may name a lease, to which what it makes is
 * added: until something references it, only the lease keeps it from the collector.
 *
 *	<root>/metadata.db
 *	<root>/io.containerd.content.v1.content/{blobs/sha256/<hex>,ingest/<key>/{data,ref,...}}
 *	<root>/io.containerd.snapshotter.v1.<name>/snapshots/<n>/{fs,work}
 */

#include "base/error.h"
#include "base/map.h"
#include "base/strv.h"

struct store;

struct store_config {
	const char *root;	 /* made 0700 when absent */
	const char *snapshotter; /* default one; NULL: overlayfs where it works, else native */
};

/* Opens, migrates, recovers (half-made ingests stay for resume; half-made snapshots and blobs that
 * no record names are removed; records whose blob is gone are dropped). FAILED_PRECONDITION when
 * another process has it or the schema is newer than this program. */
int store_open(const struct store_config *config, struct store **ret, struct error *err);
/* Nothing of it is in use any more: no call, no open ingest. */
void store_close(struct store *s);
const char *store_root(const struct store *s);
const char *store_default_snapshotter(const struct store *s);

/* Bytes and inodes of blobs and committed snapshots of all namespaces, by their records; what
 * containers write themselves is not in it. */
struct store_usage {
	int64_t content, snapshots;
	int64_t inodes;
};

int store_usage(struct store *s, struct store_usage *ret, struct error *err);

struct store_ctx {
	struct store *store;
	const char *ns;	   /* never NULL */
	const char *lease; /* NULL: none */
};

/* Namespaces come into being with their first object; this is for labels and listing. */
int namespace_create(struct store *s, const char *name, const struct kvs *labels,
		     struct error *err);
/* One that does not exist has none. */
int namespace_labels(struct store *s, const char *name, struct kvs *ret, struct error *err);
/* Sets the given ones; an empty value removes one. NOT_FOUND. */
int namespace_set_labels(struct store *s, const char *name, const struct kvs *labels,
			 struct error *err);
int namespace_list(struct store *s, struct strv *ret, struct error *err);
/* FAILED_PRECONDITION unless empty. */
int namespace_delete(struct store *s, const char *name, struct error *err);
/* A namespace or identifier: [A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*, at most 76 characters. */
bool identifier_valid(const char *s);
