#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC over HTTP/2, the sans-IO part (grpc/doc/PROTOCOL-HTTP2.md): length-prefixed messages out of
 * a stream of bytes, the grpc-timeout header, percent-encoded status messages. Any thread.
 */

#include "base/buf.h"
#include "base/error.h"

#define GRPC_MESSAGE_MAX (16 << 20)
#define GRPC_PREFIX 5 /* a flag byte and four of length before each message */

/* Memory grows with what has come, not with what a prefix promises. */
struct grpc_deframer {
	uint8_t prefix[GRPC_PREFIX];
	unsigned n_prefix;
	struct buf message;
};

enum grpc_frame_result {
	GRPC_FRAME_MORE,    /* all bytes used, no message yet */
	GRPC_FRAME_MESSAGE, /* d->message is complete: take or clear it, then go on */
	GRPC_FRAME_ERROR,   /* RESOURCE_EXHAUSTED, INTERNAL */
};

void grpc_deframer_init(struct grpc_deframer *d);
void grpc_deframer_done(struct grpc_deframer *d);
/* Moves *p and *n past what it used. */
enum grpc_frame_result grpc_deframer_feed(struct grpc_deframer *d, const uint8_t **p, size_t *n,
					  struct error *err);
/* True between messages: a stream may end here. */
bool grpc_deframer_is_empty(const struct grpc_deframer *d);
/* The prefix of a message of n bytes, and room for these. */
int grpc_frame_prefix(struct buf *out, size_t n);
/* Prefix and message. */
int grpc_frame(struct buf *out, const void *p, size_t n);

/* "100m": nanoseconds; -EINVAL. */
int grpc_timeout_parse(const char *s, int64_t *ret_ns);
/* As much as there is room for, by whole characters; what is not UTF-8 becomes '?'. */
void grpc_status_message_encode(const char *s, struct buf *out);
