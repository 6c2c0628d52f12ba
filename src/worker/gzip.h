#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where layers are written to: a file that takes gzip, hashed as it goes out (the blob's digest)
 * and as it comes in (the diff id). The same bytes in give the same bytes out. One thread.
 */

#include "base/error.h"
#include "oci/digest.h"

struct gzip_sink;

/* Borrows fd, which is written from its start. */
struct gzip_sink *gzip_sink_new(int fd);
void gzip_sink_free(struct gzip_sink *s);
int gzip_sink_write(struct gzip_sink *s, const void *p, size_t n, struct error *err);
/* Ends the stream; then the results may be asked for. */
int gzip_sink_finish(struct gzip_sink *s, struct error *err);
void gzip_sink_result(const struct gzip_sink *s, char digest[DIGEST_MAX], char diff_id[DIGEST_MAX],
		      int64_t *ret_size, int64_t *ret_raw);

DEFINE_CLEANUP(struct gzip_sink *, gzip_sink_free)
