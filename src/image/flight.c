/* SPDX-License-Identifier: Apache-2.0 */
#include "image/flight.h"

#include "base/map.h"
#include "base/mem.h"

#include <assert.h>
#include <pthread.h>

struct flight {
	int *wake;
	size_t n;
};

struct flights {
	pthread_mutex_t lock;
	struct map map;
};

struct flights *flights_new(void)
{
	struct flights *f = xnew(struct flights);

	pthread_mutex_init(&f->lock, NULL);
	return f;
}

void flights_free(struct flights *f)
{
	if (!f)
		return;
	assert(f->map.n == 0);
	map_done(&f->map);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static bool waits(const struct flight *f, int wake)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->wake[i] == wake)
			return true;
	return false;
}

bool flight_begin(struct flights *f, const char *key, int wake)
{
	struct flight *flight;
	bool made = false;

	pthread_mutex_lock(&f->lock);
	flight = map_get(&f->map, key);
	if (!flight) {
		map_set(&f->map, key, xnew(struct flight));
		made = true;
	} else if (!waits(flight, wake)) {
		GROW_ARRAY(flight->wake, flight->n);
		flight->wake[flight->n++] = wake;
	}
	pthread_mutex_unlock(&f->lock);
	return made;
}

/* Under the lock: after flight_forget() the descriptor may be another's. */
static void wake_all(const struct flight *flight)
{
	uint64_t one = 1;

	for (size_t i = 0; i < flight->n; i++)
		if (flight->wake[i] >= 0)
			(void)!write(flight->wake[i], &one, sizeof(one));
}

void flight_end(struct flights *f, const char *key)
{
	struct flight *flight;

	pthread_mutex_lock(&f->lock);
	flight = map_remove(&f->map, key);
	assert(flight);
	wake_all(flight);
	pthread_mutex_unlock(&f->lock);
	free(flight->wake);
	free(flight);
}

void flight_forget(struct flights *f, int wake)
{
	pthread_mutex_lock(&f->lock);
	MAP_FOREACH (e, &f->map) {
		struct flight *flight = map_value(e);

		for (size_t i = 0; i < flight->n; i++)
			if (flight->wake[i] == wake)
				flight->wake[i] = -1;
	}
	pthread_mutex_unlock(&f->lock);
}
