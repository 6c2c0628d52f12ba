#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Builds small archives for tests, right and wrong ones. */

#include "base/buf.h"

struct tar_spec {
	char type; /* 0: '0' */
	const char *name, *link;
	unsigned mode; /* 0: 0644, directories 0755 */
	unsigned uid, gid, mtime;
	unsigned major, minor;
	const void *data;
	size_t size;
	const char *size_field; /* instead of size, raw */
	const char *magic;	/* 8 bytes; NULL: ustar */
	const char *prefix;
	const char *raw; /* written at raw_at before the checksum */
	size_t raw_at, raw_len;
	bool bad_checksum;
};

void tar_put(struct buf *b, const struct tar_spec *spec);
#define TAR_PUT(b, ...) tar_put((b), &(struct tar_spec){ __VA_ARGS__ })
/* One pax record, length counted. */
void tar_pax_record(struct buf *records, const char *key, const void *value, size_t len);
/* An 'x' entry with these records, which it clears. */
void tar_put_pax(struct buf *b, struct buf *records);
void tar_put_end(struct buf *b);
/* Makes the checksums of everything that looks like a header right, so that fuzzing gets past them.
 */
void tar_fix_checksums(void *data, size_t size);
