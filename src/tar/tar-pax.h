#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What the extended headers of one entry say (pax records, GNU.sparse.*). Part of the tar reader.
 */

#include "tar/tar.h"

struct tar_segment {
	int64_t offset;
	int64_t len;
};

struct tar_segments {
	struct tar_segment *v;
	size_t n;
};

/* Appends; offset and length must follow the segments before. size: the file's, or -1 if unknown.
 */
int tar_segment_add(struct tar_segments *s, int64_t offset, int64_t len, struct error *err);

enum tar_pax_have {
	PAX_SIZE = 1 << 0,
	PAX_UID = 1 << 1,
	PAX_GID = 1 << 2,
	PAX_MTIME = 1 << 3,
	PAX_SPARSE_MAP = 1 << 4, /* 0.0 or 0.1 */
	PAX_SPARSE_REALSIZE = 1 << 5,
};

struct tar_pax {
	unsigned have;
	char *path, *link, *sparse_name; /* NULL when absent */
	int64_t size, uid, gid, mtime, real_size;
	uint32_t mtime_nsec;
	int64_t sparse_major, sparse_minor;
	int64_t pending_offset; /* GNU.sparse.offset that waits for its numbytes, or -1 */
	struct tar_segments segments;
	struct tar_xattr *xattrs;
	size_t n_xattrs;
};

#define TAR_PAX_INIT ((struct tar_pax){ .pending_offset = -1 })

void tar_pax_done(struct tar_pax *p);
int tar_pax_parse(struct tar_pax *p, const char *text, size_t len, struct error *err);
