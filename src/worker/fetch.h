#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of `kistl-image fetch`: documents (resolve.c) and blobs (blob.c) of one repository. The
 * structures live as long as the process.
 */

#include "oci/digest.h"
#include "worker/channel.h"
#include "worker/registry.h"

struct document {
	struct descriptor descriptor; /* media type may be "" */
	struct buf text;
};

#define DOCUMENT_INIT ((struct document){ .text = BUF_INIT(OCI_MANIFEST_MAX) })

void document_done(struct document *d);

struct fetch {
	struct registry *registry;
	struct channel *channel;
	size_t preferred; /* the endpoint that resolved the name */
	char *scope;
};

/* What the reference points to, by HEAD where that is enough: digest, size and media type;
 * otherwise (no digest header, HEAD not allowed) the document itself is in ret->text already. */
int fetch_resolve(struct fetch *f, struct document *ret, struct error *err);
/* The document of ret->descriptor.digest, verified; fills in size and media type. path: "manifests"
 * or "blobs". DATA_LOSS, NOT_FOUND. */
int fetch_document(struct fetch *f, const char *path, struct document *ret, struct error *err);

struct blob {
	const struct descriptor *descriptor;
	size_t n;
	int fd;	  /* owned */
	int pipe; /* owned, -1 for none */
	int64_t existing;
};

/* Downloads, hashes, writes, feeds the pipe. Blocks. The descriptors are closed. */
int fetch_blob(struct fetch *f, struct blob *b, struct error *err);

#define autodocument CLEANUP(document_done)
