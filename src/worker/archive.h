#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image archives: docker save's (all generations that have a manifest.json) and OCI layouts in a
 * tar. Members come in any order, so each regular one is kept in a nameless file, hashed while it
 * is written; what they mean is found out at the end. Names of members are only ever compared with
 * each other.
 */

#include "oci/image.h"
#include "tar/tar.h"

struct archive;

/* staging: a directory for nameless files (borrowed), or -1 for memory. */
struct archive *archive_new(int staging);
void archive_free(struct archive *a);

int archive_entry(struct archive *a, const struct tar_entry *e, struct error *err);
int archive_data(struct archive *a, const void *p, size_t n, struct error *err);
int archive_entry_end(struct archive *a, struct error *err);

struct archive_events {
	/* Each blob once, before the images that need it. fd: borrowed, offset 0. */
	int (*blob)(const struct descriptor *d, int fd, void *arg, struct error *err);
	/* names may be empty; descriptor: a manifest or an index. */
	int (*image)(const struct strv *names, const struct descriptor *d, void *arg,
		     struct error *err);
	void *arg;
};

/* want: only images of this platform; NULL: all that are complete. INVALID_ARGUMENT: no image
 * archive, or a wrong one; NOT_FOUND: nothing for this platform; DATA_LOSS: a blob does not match
 * its digest. */
int archive_interpret(struct archive *a, const struct platform *want,
		      const struct archive_events *events, struct error *err);

DEFINE_CLEANUP(struct archive *, archive_free)
