#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for the detach keys in what a client types, sans-IO. Bytes that may be the beginning of the
 * sequence are held back until the next ones decide.
 */

#include "rpc/attach-proto.h"

struct detach_matcher {
	uint8_t keys[DETACH_KEYS_MAX];
	size_t n_keys;
	size_t matched;
};

/* Appends to out what is to be passed on (up to DETACH_KEYS_MAX bytes more than n). True: the
 * sequence is complete; what followed it is dropped. */
bool detach_feed(struct detach_matcher *m, const uint8_t *p, size_t n, struct buf *out);
