#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of gzip (many members, zero padding), zstd (many frames, skippable ones) or plain bytes,
 * told apart by their first bytes, never by their media type. Sans-IO. One thread at a time.
 */

#include "base/error.h"

enum decompress_format {
	DECOMPRESS_UNKNOWN, /* too few bytes seen */
	DECOMPRESS_PLAIN,
	DECOMPRESS_GZIP,
	DECOMPRESS_ZSTD,
	DECOMPRESS_XZ,
	DECOMPRESS_BZIP2,
};

/* 0: no limit. The ratio counts only beyond 64 MiB of output: small files of zeros are no bombs. */
struct decompress_limits {
	uint64_t max_bytes;
	uint64_t max_ratio;
	bool all_formats; /* xz and bzip2 too: image archives, not layers */
};

struct decompress;

struct decompress *decompress_new(const struct decompress_limits *limits);
void decompress_free(struct decompress *d);
enum decompress_format decompress_format(const struct decompress *d);
const char *decompress_format_name(enum decompress_format format);

/*
 * Takes from *in (advancing *in and *n), gives up to room bytes at out. Call again while *n > 0 or
 * *ret > 0; `eof` says that nothing follows *in. At eof, *ret == 0 with *n == 0 is the end of a
 * complete stream. DATA_LOSS: corrupt or truncated; RESOURCE_EXHAUSTED: beyond a limit.
 */
int decompress_run(struct decompress *d, const uint8_t **in, size_t *n, bool eof, uint8_t *out,
		   size_t room, size_t *ret, struct error *err);

DEFINE_CLEANUP(struct decompress *, decompress_free)
