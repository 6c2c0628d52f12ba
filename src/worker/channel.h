#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's end of the socket when several threads report on it: messages that never mix,
 * progress at most every 100 ms for each transfer. Any thread.
 */

#include "oci/image.h"
#include "oci/worker-proto.h"

struct channel;

/* Borrows the socket. Lives as long as the process. */
struct channel *channel_new(int sock);
/* Takes json, borrows fds. */
int channel_send(struct channel *c, struct json *json, const int *fds, size_t n_fds,
		 struct error *err);
/* {"event": event, "n": n}; n < 0: without. */
struct json *channel_event(const char *event, int64_t n);
/* *last: monotonic time of the transfer's last report, 0 at first. Lost reports are ignored. */
void channel_progress(struct channel *c, int64_t n, int64_t current, int64_t total, int64_t *last);
void channel_retry(struct channel *c, int64_t n, int64_t delay_ms, const char *message);
/* Media type, digest and size only: the rest of a descriptor may be larger than a packet. */
struct json *channel_descriptor(const struct descriptor *d);
