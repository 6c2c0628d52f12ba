#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Sans-IO pieces of attached streams: Docker's multiplexed format and the detach key sequence. */

#include "base/error.h"

#define STREAM_FRAME_MAX (64U * 1024 * 1024)

enum stream_type { STREAM_STDIN, STREAM_STDOUT, STREAM_STDERR, STREAM_SYSTEM_ERROR };

struct demux {
	unsigned char head[8];
	size_t have; /* bytes of head */
	size_t left; /* of the frame's payload */
};

/* Takes bytes up to the end of the next piece. *ret_len is 0 when all was taken without one.
 * INVALID_ARGUMENT when it is not this format. */
int demux_feed(struct demux *d, const char *data, size_t len, size_t *ret_used,
	       enum stream_type *ret_type, const char **ret, size_t *ret_len, struct error *err);

#define DETACH_KEYS_MAX 16

struct detach_keys {
	unsigned char keys[DETACH_KEYS_MAX];
	size_t n;
	size_t matched;
};

/* "ctrl-p,ctrl-q", "a,b"; NULL: the default. */
int detach_keys_parse(const char *s, struct detach_keys *ret, struct error *err);
/* Copies typed bytes to out (room for n + DETACH_KEYS_MAX), holding back what may be the sequence.
 * Returns the number of bytes; *ret_detached when the sequence was complete. */
size_t detach_keys_filter(struct detach_keys *d, const char *in, size_t n, char *out,
			  bool *ret_detached);
