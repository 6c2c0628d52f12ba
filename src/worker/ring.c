/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/ring.h"

#include "base/mem.h"

#include <assert.h>

void ring_init(struct ring *r, unsigned readers)
{
	assert(readers > 0 && readers <= RING_READERS);
	*r = (struct ring){ .lock = PTHREAD_MUTEX_INITIALIZER,
			    .changed = PTHREAD_COND_INITIALIZER,
			    .readers = readers };
	for (size_t i = 0; i < RING_BUFFERS; i++)
		r->data[i] = xmalloc(RING_BUFFER_SIZE);
}

static bool is_full(const struct ring *r)
{
	for (size_t i = 0; i < r->readers; i++)
		if (r->filled - r->left[i] >= RING_BUFFERS)
			return true;
	return false;
}

uint8_t *ring_fill(struct ring *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->stopped && is_full(r))
		pthread_cond_wait(&r->changed, &r->lock);
	uint8_t *p = r->stopped ? NULL : r->data[r->filled % RING_BUFFERS];
	pthread_mutex_unlock(&r->lock);
	return p;
}

void ring_filled(struct ring *r, size_t len)
{
	assert(len > 0 && len <= RING_BUFFER_SIZE);
	pthread_mutex_lock(&r->lock);
	assert(!r->ended);
	r->len[r->filled % RING_BUFFERS] = len;
	r->filled++;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

void ring_end(struct ring *r, struct error *err)
{
	pthread_mutex_lock(&r->lock);
	r->ended = true;
	if (err->code != ERROR_OK)
		error_move(&r->error, err);
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

bool ring_read(struct ring *r, unsigned reader, const uint8_t **ret, size_t *ret_len,
	       struct error *err)
{
	assert(reader < r->readers);
	pthread_mutex_lock(&r->lock);
	while (!r->stopped && !r->ended && r->left[reader] == r->filled)
		pthread_cond_wait(&r->changed, &r->lock);
	bool have = !r->stopped && r->left[reader] < r->filled;
	if (have) {
		*ret = r->data[r->left[reader] % RING_BUFFERS];
		*ret_len = r->len[r->left[reader] % RING_BUFFERS];
	} else if (r->error.code != ERROR_OK && err) {
		error_set(err, r->error.code, "%s", error_msg(&r->error));
		err->sys = r->error.sys;
	}
	pthread_mutex_unlock(&r->lock);
	return have;
}

void ring_leave(struct ring *r, unsigned reader)
{
	pthread_mutex_lock(&r->lock);
	assert(r->left[reader] < r->filled);
	r->left[reader]++;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

void ring_stop(struct ring *r)
{
	pthread_mutex_lock(&r->lock);
	r->stopped = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}
