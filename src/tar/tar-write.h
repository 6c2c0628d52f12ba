#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer of tar streams, the counterpart of tar.h: ustar headers, pax records only where a value
 * does not fit or has no place in them. Sans-IO: entries in, bytes out.
 */

#include "base/buf.h"
#include "tar/tar.h"

#define TAR_UNIT 512

/* Appends what comes before the entry's data; the data follows as it is, then tar_padding() zero
 * bytes. -ENOBUFS when out is full. */
int tar_write_header(struct buf *out, const struct tar_entry *e);
/* Appends the mark of the archive's end. */
int tar_write_end(struct buf *out);

static inline size_t tar_padding(int64_t size)
{
	return (size_t)(-size & (TAR_UNIT - 1));
}
