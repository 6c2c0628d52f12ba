/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry for each name is either busy, and then belongs to one thread that serves its waiters one
 * after the other until none is left (serve()), or at rest with a result. So work, discard and
 * usable of one name never run side by side, and all three run without the lock.
 *
 * A result that was handed to somebody who was there rests too, until its lifetime is over: the
 * answer may have been lost on its way, when client and server were ready in the same moment.
 */

#include "rpc/retry.h"

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "rpc/protobuf.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

/* What is kept and under way, and who waits for one name. */
#define ENTRIES_MAX 16384
#define WAITERS_MAX 64

struct waiter {
	struct list node;
	void *waiter;
	char digest[DIGEST_MAX];
};

struct entry {
	struct retry *owner;
	struct list waiters;
	unsigned n_waiters;
	bool busy;
	struct list resting; /* in the owner's list, while it does */
	uint64_t ends;
	char *name;

	/* The result; the serving thread's while busy. */
	char *id;
	char digest[DIGEST_MAX];
	bool taken;
};

struct retry {
	struct loop *loop;
	struct jobs *jobs;
	const struct retry_ops *ops;
	void *arg;
	uint64_t lifetime;

	pthread_mutex_t lock;
	struct map entries; /* by name */
	struct map hidden;  /* by id: entries whose result nobody has taken */
	atomic_uint n_hidden;
	struct list resting; /* oldest first */

	bool closed;		  /* loop only */
	struct loop_timer *timer; /* loop only */
};

static void arm(void *arg);

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void retry_digest(ProtobufCMessage *request, char out[DIGEST_MAX])
{
	autoarena struct arena arena = ARENA_INIT;

	protobuf_sort_maps(request);
	ProtobufCBinaryData packed = protobuf_pack(&arena, request);
	digest_bytes(packed.data, packed.len, out);
}

/* The lock is held, or nobody else is left. */
static void entry_free(struct entry *e)
{
	assert(list_is_empty(&e->waiters));
	map_remove(&e->owner->entries, e->name);
	list_remove(&e->resting);
	free(e->name);
	free(e->id);
	free(e);
}

/* The entry's result, NULL for none. */
static void set_result(struct entry *e, char *id, const char *digest)
{
	struct retry *r = e->owner;

	pthread_mutex_lock(&r->lock);
	if (e->id)
		map_remove(&r->hidden, e->id);
	free(e->id);
	e->id = id;
	e->taken = false;
	if (id) {
		memcpy(e->digest, digest, DIGEST_MAX);
		map_set(&r->hidden, id, e);
	}
	r->n_hidden = (unsigned)r->hidden.n;
	pthread_mutex_unlock(&r->lock);
}

static void take(struct entry *e)
{
	struct retry *r = e->owner;

	pthread_mutex_lock(&r->lock);
	e->taken = true;
	map_remove(&r->hidden, e->id);
	r->n_hidden = (unsigned)r->hidden.n;
	pthread_mutex_unlock(&r->lock);
}

static bool is_usable(struct entry *e)
{
	return e->id && e->owner->ops->usable(e->owner->arg, e->id);
}

static void drop_result(struct entry *e)
{
	if (!e->taken && is_usable(e))
		e->owner->ops->discard(e->owner->arg, e->id);
	set_result(e, NULL, NULL);
}

/* Answers end waiters. */

static void answer(struct entry *e, struct waiter *w, const struct error *err)
{
	struct retry *r = e->owner;

	if (!err && !r->ops->gone(r->arg, w->waiter) && !e->taken)
		take(e);
	r->ops->answer(r->arg, w->waiter, err ? NULL : e->id, err);
	free(w);
}

/* To all that had asked the same by then. */
static void answer_error(struct entry *e, struct waiter *first, const struct error *err)
{
	struct retry *r = e->owner;
	struct list same = LIST_INIT(same);

	list_append(&same, &first->node);
	pthread_mutex_lock(&r->lock);
	LIST_FOREACH (w, &e->waiters, struct waiter, node) {
		if (strcmp(w->digest, first->digest) == 0) {
			list_remove(&w->node);
			list_append(&same, &w->node);
			e->n_waiters--;
		}
	}
	pthread_mutex_unlock(&r->lock);
	LIST_FOREACH (w, &same, struct waiter, node) {
		list_remove(&w->node);
		answer(e, w, err);
	}
}

/* The work may fail because the name is in use by a result that was taken: that one is kept. */
static void work(struct entry *e, struct waiter *w)
{
	autoerror struct error err = ERROR_INIT;
	struct retry *r = e->owner;
	char *id = NULL;

	if (r->ops->work(r->arg, w->waiter, &id, &err) < 0) {
		answer_error(e, w, &err);
		return;
	}
	assert(id);
	set_result(e, id, w->digest);
	answer(e, w, NULL);
}

static void serve_one(struct entry *e, struct waiter *w)
{
	static const struct error left = { .code = ERROR_CANCELLED,
					   .msg = (char *)(uintptr_t) "the client went away" };
	struct retry *r = e->owner;
	bool same = e->id && strcmp(e->digest, w->digest) == 0;

	if (r->ops->gone(r->arg, w->waiter)) {
		answer(e, w, &left);
	} else if (same && is_usable(e)) {
		answer(e, w, NULL);
	} else {
		if (e->id && (same || !e->taken))
			drop_result(e);
		work(e, w);
	}
}

/* Also ends the entry's being busy, when nobody waits. */
static struct waiter *next_waiter(struct entry *e)
{
	struct retry *r = e->owner;
	struct waiter *w = NULL;

	pthread_mutex_lock(&r->lock);
	if (!list_is_empty(&e->waiters)) {
		w = LIST_ENTRY(e->waiters.next, struct waiter, node);
		list_remove(&w->node);
		e->n_waiters--;
	} else if (e->id) {
		e->busy = false;
		e->ends = now_ms() + r->lifetime;
		if (list_is_empty(&r->resting))
			loop_post(r->loop, arm, r);
		list_append(&r->resting, &e->resting);
	} else {
		entry_free(e);
	}
	pthread_mutex_unlock(&r->lock);
	return w;
}

/* The entry is busy, and this thread's until it is not. */
static void serve(struct entry *e)
{
	for (struct waiter *w; (w = next_waiter(e));)
		serve_one(e, w);
}

static void expire(void *arg)
{
	struct entry *e = arg;

	drop_result(e);
	serve(e);
}

/* Loop. */
static void on_timer(void *arg)
{
	struct retry *r = arg;
	uint64_t now = now_ms();

	r->timer = NULL;
	pthread_mutex_lock(&r->lock);
	LIST_FOREACH (e, &r->resting, struct entry, resting) {
		if (e->ends > now)
			break;
		if (e->taken) {
			entry_free(e);
			continue;
		}
		list_remove(&e->resting);
		e->busy = true;
		job_submit(r->jobs, JOB_DISK, expire, NULL, e);
	}
	pthread_mutex_unlock(&r->lock);
	arm(r);
}

static void arm(void *arg)
{
	struct retry *r = arg;
	uint64_t now = now_ms(), ends = 0;

	pthread_mutex_lock(&r->lock);
	if (!list_is_empty(&r->resting))
		ends = LIST_ENTRY(r->resting.next, struct entry, resting)->ends;
	pthread_mutex_unlock(&r->lock);
	if (ends > 0 && !r->timer && !r->closed)
		r->timer = loop_timer_start(r->loop, ends > now ? ends - now : 0, on_timer, r);
}

/* What was taken is only kept in case the answer was lost. With the lock held. */
static bool make_room(struct retry *r)
{
	LIST_FOREACH (e, &r->resting, struct entry, resting) {
		if (r->entries.n < ENTRIES_MAX)
			break;
		if (e->taken)
			entry_free(e);
	}
	return r->entries.n < ENTRIES_MAX;
}

/* With the lock held. NULL: too many. */
static struct entry *entry_get(struct retry *r, const char *name)
{
	struct entry *e = map_get(&r->entries, name);

	if (!e && make_room(r)) {
		e = xnew(struct entry);
		e->owner = r;
		e->name = xstrdup(name);
		list_init(&e->waiters);
		list_init(&e->resting);
		map_set(&r->entries, name, e);
	}
	return e && e->n_waiters < WAITERS_MAX ? e : NULL;
}

void retry_request(struct retry *r, const char *name, ProtobufCMessage *request, void *waiter)
{
	struct waiter *w = xnew(struct waiter);
	autoerror struct error err = ERROR_INIT;
	bool ours = false;

	w->waiter = waiter;
	retry_digest(request, w->digest);
	pthread_mutex_lock(&r->lock);
	struct entry *e = entry_get(r, name);
	if (e) {
		list_append(&e->waiters, &w->node);
		e->n_waiters++;
		ours = !e->busy;
		e->busy = true;
		list_remove(&e->resting);
	}
	pthread_mutex_unlock(&r->lock);
	if (ours)
		serve(e);
	if (e)
		return;
	error_set(&err, ERROR_RESOURCE_EXHAUSTED, "too many requests for '%s' at once", name);
	r->ops->answer(r->arg, waiter, NULL, &err);
	free(w);
}

bool retry_hides(struct retry *r, const char *id)
{
	if (r->n_hidden == 0)
		return false;
	pthread_mutex_lock(&r->lock);
	bool hidden = map_get(&r->hidden, id) != NULL;
	pthread_mutex_unlock(&r->lock);
	return hidden;
}

unsigned retry_count(struct retry *r)
{
	pthread_mutex_lock(&r->lock);
	unsigned n = (unsigned)r->entries.n;
	pthread_mutex_unlock(&r->lock);
	return n;
}

struct retry *retry_new(struct loop *loop, struct jobs *jobs, const struct retry_ops *ops,
			void *arg, uint64_t lifetime_ms)
{
	struct retry *r = xnew(struct retry);

	r->loop = loop;
	r->jobs = jobs;
	r->ops = ops;
	r->arg = arg;
	r->lifetime = lifetime_ms;
	r->entries = MAP_INIT;
	r->hidden = MAP_INIT;
	list_init(&r->resting);
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

/* Behind what was posted for it. */
static void free_posted(void *arg)
{
	struct retry *r = arg;

	LIST_FOREACH (e, &r->resting, struct entry, resting)
		entry_free(e);
	assert(r->entries.n == 0);
	map_done(&r->entries);
	map_done(&r->hidden);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void retry_free(struct retry *r)
{
	if (!r)
		return;
	r->closed = true;
	loop_timer_cancel(TAKE_PTR(r->timer));
	loop_post(r->loop, free_posted, r);
}
