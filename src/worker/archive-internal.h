#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by archive.c (members), archive-docker.c and archive-oci.c (their meaning). */

#include "base/buf.h"
#include "base/map.h"
#include "oci/digest.h"
#include "worker/archive.h"

enum member_format {
	MEMBER_OTHER,
	MEMBER_GZIP,
	MEMBER_ZSTD,
	MEMBER_XZ,
	MEMBER_BZIP2,
};

struct member {
	int fd; /* -1 for an alias */
	int64_t size;
	uint8_t head[6];
	char digest[DIGEST_MAX];
	char *alias; /* the name of another member that this is a link to */
};

struct archive {
	int staging;
	struct map members; /* cleaned name -> struct member */
	size_t n_files;

	struct member *current; /* being written */
	struct digester *digester;

	/* while interpreting */
	const struct platform *want;
	const struct archive_events *events;
	struct map sent; /* digests of blobs that have been reported */
	size_t n_images;
};

/* Follows links within the archive. NULL when there is no such file. */
const struct member *archive_member(const struct archive *a, const char *name);
enum member_format archive_member_format(const struct member *m);
/* The whole of a document. RESOURCE_EXHAUSTED beyond max. */
int archive_read(const struct member *m, const char *name, size_t max, struct buf *ret,
		 struct error *err);
/* Reports it unless it was. */
int archive_send_blob(struct archive *a, const struct descriptor *d, int fd, struct error *err);
int archive_send_image(struct archive *a, const struct strv *names, const struct descriptor *d,
		       struct error *err);
/* Appends the full form of a name; INVALID_ARGUMENT when it is none. */
int archive_add_name(struct strv *names, const char *name, struct error *err);
/* A nameless file. */
int archive_file(const struct archive *a, struct error *err);

int archive_docker(struct archive *a, struct error *err);
int archive_oci(struct archive *a, struct error *err);
