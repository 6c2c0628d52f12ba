#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers that one thread fills and several read, each reader every byte, in order. A buffer is
 * filled again when all readers have left it.
 */

#include "base/error.h"

#include <pthread.h>

#define RING_BUFFERS 8
#define RING_BUFFER_SIZE (256 << 10)
#define RING_READERS 2

struct ring {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint8_t *data[RING_BUFFERS];
	size_t len[RING_BUFFERS];
	uint64_t filled; /* buffers so far */
	unsigned readers;
	uint64_t left[RING_READERS]; /* buffers that this reader is done with */
	bool ended, stopped;
	struct error error; /* of the writer */
};

void ring_init(struct ring *r, unsigned readers);

/* The writer: a buffer of RING_BUFFER_SIZE bytes to fill; NULL when the readers have stopped. */
uint8_t *ring_fill(struct ring *r);
void ring_filled(struct ring *r, size_t len);
/* No more buffers. Takes err (which may be empty). */
void ring_end(struct ring *r, struct error *err);

/* A reader: the next buffer; false at the end, with the writer's error in err if there was one. */
bool ring_read(struct ring *r, unsigned reader, const uint8_t **ret, size_t *ret_len,
	       struct error *err);
/* Done with the buffer of the last ring_read(). */
void ring_leave(struct ring *r, unsigned reader);
/* Some reader gives up: everybody ends. */
void ring_stop(struct ring *r);
