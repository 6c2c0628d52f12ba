/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/channel.h"

#include "base/mem.h"
#include "base/time.h"

#include <pthread.h>

#define PROGRESS_INTERVAL (100 * NSEC_PER_MSEC)

struct channel {
	pthread_mutex_t lock;
	int sock;
};

struct channel *channel_new(int sock)
{
	struct channel *c = xnew(struct channel);

	pthread_mutex_init(&c->lock, NULL);
	c->sock = sock;
	return c;
}

int channel_send(struct channel *c, struct json *json, const int *fds, size_t n_fds,
		 struct error *err)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = worker_send(c->sock, json, fds, n_fds, err);
	pthread_mutex_unlock(&c->lock);
	return r;
}

struct json *channel_event(const char *event, int64_t n)
{
	struct json *j = json_new_object();

	json_set_string(j, "event", event);
	if (n >= 0)
		json_set_int(j, "n", n);
	return j;
}

void channel_progress(struct channel *c, int64_t n, int64_t current, int64_t total, int64_t *last)
{
	int64_t now = time_monotonic();
	struct json *j;

	if (*last && now - *last < PROGRESS_INTERVAL)
		return;
	*last = now;
	j = channel_event("progress", n);
	json_set_int(j, "current", current);
	json_set_int(j, "total", total);
	(void)channel_send(c, j, NULL, 0, NULL);
}

void channel_retry(struct channel *c, int64_t n, int64_t delay_ms, const char *message)
{
	struct json *j = channel_event("retry", n);

	json_set_int(j, "delay_ms", delay_ms);
	json_set_string(j, "message", message);
	(void)channel_send(c, j, NULL, 0, NULL);
}

struct json *channel_descriptor(const struct descriptor *d)
{
	struct descriptor bare = { .media_type = d->media_type,
				   .digest = d->digest,
				   .size = d->size };

	return descriptor_to_json(&bare);
}
