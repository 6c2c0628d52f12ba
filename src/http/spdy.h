#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of SPDY/3.1, of what Kubernetes' clients speak (moby/spdystream): streams that
 * the client opens, no flow control, no pushed streams. Sans-IO: bytes go in by spdy_feed(), what
 * is to be sent is appended to a buffer of the caller's. One thread at a time.
 *
 * Streams are known by their ids. Whatever is done to one that is not there (any more) does
 * nothing, so that nobody has to keep up with what the client closes. A stream goes when both sides
 * have ended it or either has reset it.
 *
 * Data is passed on as it comes and never kept; header blocks are bounded. The caller bounds `out`
 * by not feeding while it is full: answers are at most twice as long as what they
 * answer.
 */

#include "base/buf.h"
#include "base/error.h"

#define SPDY_HEADERS_MAX (16 << 10) /* of one block, packed as well as unpacked */
#define SPDY_HEADER_COUNT_MAX 64

struct spdy;

enum spdy_status {
	SPDY_OK,
	SPDY_PROTOCOL_ERROR,
	SPDY_INVALID_STREAM,
	SPDY_REFUSED_STREAM,
	SPDY_UNSUPPORTED_VERSION,
	SPDY_CANCEL,
	SPDY_INTERNAL_ERROR,
	SPDY_FLOW_CONTROL_ERROR,
	SPDY_STREAM_IN_USE,
	SPDY_STREAM_ALREADY_CLOSED,
};

struct spdy_header {
	const char *name, *value; /* of several values the first */
};

struct spdy_headers {
	struct spdy_header v[SPDY_HEADER_COUNT_MAX];
	size_t n;
};

/* Any case; NULL when absent. */
const char *spdy_header_get(const struct spdy_headers *h, const char *name);

/* user: what the stream was given by on_stream. They may send on, end and reset any stream
 * (on_stream not its own), but not free the connection. */
struct spdy_ops {
	/* A new stream: SPDY_OK takes it, anything else resets it at once. */
	enum spdy_status (*on_stream)(uint32_t id, const struct spdy_headers *h, void **ret_user,
				      void *arg);
	void (*on_data)(uint32_t id, void *user, const void *p, size_t n, void *arg);
	/* The client will send no more on it. */
	void (*on_end)(uint32_t id, void *user, void *arg);
	/* It is gone, by the client's will or fault. */
	void (*on_reset)(uint32_t id, void *user, void *arg);
};

struct spdy_config {
	struct buf *out;
	unsigned max_streams; /* at a time */
	const struct spdy_ops *ops;
	void *arg;
};

struct spdy *spdy_new(const struct spdy_config *config);
void spdy_free(struct spdy *s); /* no callbacks */
/* Takes all of it. -1: the client breaks the protocol; GOAWAY is in `out`, the connection shall end
 * after it. */
int spdy_feed(struct spdy *s, const void *p, size_t n, struct error *err);
void spdy_send(struct spdy *s, uint32_t id, const void *p, size_t n);
void spdy_end(struct spdy *s, uint32_t id);
void spdy_reset(struct spdy *s, uint32_t id, enum spdy_status status);
void spdy_goaway(struct spdy *s, enum spdy_status status);
unsigned spdy_streams(const struct spdy *s);
/* What both sides' zlib streams begin with. */
const void *spdy_dictionary(size_t *ret_len);

DEFINE_CLEANUP(struct spdy *, spdy_free)
