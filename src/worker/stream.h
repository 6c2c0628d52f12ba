#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor's bytes, decompressed by a thread of their own, for RING_READERS or fewer readers of
 * its ring. The structure is static or leaked: its thread may still run when the process ends.
 */

#include "worker/decompress.h"
#include "worker/ring.h"

#include <stdatomic.h>

struct stream {
	int input;
	struct decompress_limits limits;
	struct ring ring;
	_Atomic int64_t consumed; /* bytes of input so far */
	int64_t size;		  /* of the input, 0 when unknown */
};

int stream_start(struct stream *s, int input, const struct decompress_limits *limits,
		 unsigned readers, struct error *err);
