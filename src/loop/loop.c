/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Posts are a FIFO under a mutex plus one uv_async_t. The async handle is only signalled when the
 * queue was empty, since the loop takes the whole queue at once. loop_stop() is itself a post, so
 * that what a thread posted before it still runs.
 */

#include "loop/loop.h"

#include "base/list.h"
#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

struct post {
	struct post *next;
	void (*fn)(void *arg);
	void *arg;
};

struct loop {
	uv_loop_t uv;
	uv_async_t wake;
	pthread_mutex_t lock;
	struct post *first;
	struct post **tail;
	struct list timers;
	_Atomic(pthread_t) thread;
};

struct loop_timer {
	uv_timer_t handle;
	struct list node;
	void (*fn)(void *arg);
	void *arg;
};

/* Runs what is queued at this moment; true if there was anything. */
static bool run_posts(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	struct post *p = l->first;
	l->first = NULL;
	l->tail = &l->first;
	pthread_mutex_unlock(&l->lock);

	bool any = p != NULL;
	while (p) {
		struct post *next = p->next;

		p->fn(p->arg);
		free(p);
		p = next;
	}
	return any;
}

static void on_wake(uv_async_t *handle)
{
	run_posts(handle->data);
}

struct loop *loop_new(struct error *err)
{
	struct loop *l = xnew(struct loop);
	int r = uv_loop_init(&l->uv);

	if (r == 0) {
		r = uv_async_init(&l->uv, &l->wake, on_wake);
		if (r < 0)
			uv_loop_close(&l->uv);
	}
	if (r < 0) {
		free(l);
		error_errno(err, -r, "make an event loop");
		return NULL;
	}
	l->wake.data = l;
	l->uv.data = l;
	pthread_mutex_init(&l->lock, NULL);
	l->tail = &l->first;
	list_init(&l->timers);
	l->thread = pthread_self();
	return l;
}

void loop_run(struct loop *l)
{
	l->thread = pthread_self();
	uv_run(&l->uv, UV_RUN_DEFAULT);
}

static void stop_now(void *arg)
{
	struct loop *l = arg;

	uv_stop(&l->uv);
}

void loop_stop(struct loop *l)
{
	loop_post(l, stop_now, l);
}

static void on_timer_closed(uv_handle_t *handle)
{
	free(CONTAINER_OF(handle, struct loop_timer, handle));
}

static void close_left_over(uv_handle_t *handle, void *arg UNUSED)
{
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	l->thread = pthread_self();
	while (run_posts(l))
		;
	LIST_FOREACH (t, &l->timers, struct loop_timer, node)
		loop_timer_cancel(t);
	uv_walk(&l->uv, close_left_over, NULL);
	uv_run(&l->uv, UV_RUN_DEFAULT);
	while (run_posts(l))
		;
	int r = uv_loop_close(&l->uv);
	assert(r == 0);
	(void)r;
	pthread_mutex_destroy(&l->lock);
	free(l);
}

uv_loop_t *loop_uv(struct loop *l)
{
	return &l->uv;
}

bool loop_is_current(const struct loop *l)
{
	return pthread_equal(l->thread, pthread_self());
}

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct post *p = xnew(struct post);

	p->fn = fn;
	p->arg = arg;
	/* The signal is sent under the lock: after loop_free() took its last look at the queue
	 * there must be no thread left on the way to a dead handle. */
	pthread_mutex_lock(&l->lock);
	bool was_empty = l->first == NULL;
	*l->tail = p;
	l->tail = &p->next;
	if (was_empty)
		uv_async_send(&l->wake);
	pthread_mutex_unlock(&l->lock);
}

static void on_timer(uv_timer_t *handle)
{
	struct loop_timer *t = CONTAINER_OF(handle, struct loop_timer, handle);
	void (*fn)(void *arg) = t->fn;
	void *arg = t->arg;

	/* Closing comes first: a cancel from within fn then finds it closing and does nothing. */
	loop_timer_cancel(t);
	fn(arg);
}

struct loop_timer *loop_timer_start(struct loop *l, uint64_t ms, void (*fn)(void *arg), void *arg)
{
	assert(loop_is_current(l));
	struct loop_timer *t = xnew(struct loop_timer);

	t->fn = fn;
	t->arg = arg;
	list_append(&l->timers, &t->node);
	uv_update_time(&l->uv);
	uv_timer_init(&l->uv, &t->handle);
	uv_timer_start(&t->handle, on_timer, ms, 0);
	return t;
}

void loop_timer_cancel(struct loop_timer *t)
{
	if (!t || uv_is_closing((uv_handle_t *)&t->handle))
		return;
	list_remove(&t->node);
	uv_close((uv_handle_t *)&t->handle, on_timer_closed);
}
