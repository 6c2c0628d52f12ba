#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the HTTP/2 session must not see of a client's bytes. gRPC C (so Python, Ruby, PHP, C#) gives
 * a call its stream id before it writes; when the call is cancelled in between, RST_STREAM goes out
 * for a stream that never began. By RFC 9113 that ends the connection, with all the other calls on
 * it; gRPC's own servers let it pass. Sans-IO. Any thread.
 */

#include "base/macros.h"

#define GRPC_FILTER_HEAD 9 /* of a frame */

struct grpc_filter {
	unsigned preface; /* bytes of it that have passed */
	uint32_t last;	  /* the highest stream that has begun */
	uint32_t left;	  /* of the frame under way */
	bool drop;	  /* it is one to be left out */
	uint8_t held[GRPC_FILTER_HEAD];
	size_t n_held; /* of a frame's head whose rest has not come */
};

/* p: what was held, and behind it the n bytes that have come. Returns how many bytes from p on are
 * for the session. An incomplete head at the end is held: the next p begins with it. */
size_t grpc_filter_run(struct grpc_filter *f, uint8_t *p, size_t n);
