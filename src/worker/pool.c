/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads and blocking calls instead of one loop over curl's multi handle: hashing is what limits a
 * fast download and this puts it on every core, a blocked unpack pipe blocks its own transfer only,
 * and retry, redirect and token logic reads from top to bottom.
 */
#include "worker/pool.h"

#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define STACK_SIZE (512 << 10)

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work, progress;
	int (*run)(void *item, struct error *err);
	void **queue;
	size_t first, n; /* of the queue: taken, submitted */
	size_t done;
	unsigned threads, started, idle;
	struct error err;
	int fd;
};

static void *thread_main(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct error err = ERROR_INIT;
		uint64_t one = 1;
		void *item;
		int r;

		p->idle++;
		while (p->first == p->n)
			pthread_cond_wait(&p->work, &p->lock);
		p->idle--;
		item = p->queue[p->first++];
		pthread_mutex_unlock(&p->lock);
		r = p->run(item, &err);
		pthread_mutex_lock(&p->lock);
		p->done++;
		if (r < 0 && p->err.code == ERROR_OK)
			error_move(&p->err, &err);
		error_done(&err);
		pthread_cond_broadcast(&p->progress);
		(void)!write(p->fd, &one, sizeof(one));
	}
	return NULL;
}

struct pool *pool_new(unsigned threads, int (*run)(void *item, struct error *err))
{
	struct pool *p = xnew(struct pool);

	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->progress, NULL);
	p->run = run;
	p->threads = threads;
	p->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert(p->fd >= 0);
	return p;
}

static void start_thread(struct pool *p)
{
	pthread_attr_t attr;
	pthread_t t;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	r = pthread_create(&t, &attr, thread_main, p);
	pthread_attr_destroy(&attr);
	if (r == 0)
		p->started++;
	else if (p->started == 0 && p->err.code == ERROR_OK)
		error_errno(&p->err, r, "start a thread");
}

void pool_submit(struct pool *p, void *item)
{
	pthread_mutex_lock(&p->lock);
	GROW_ARRAY(p->queue, p->n);
	p->queue[p->n++] = item;
	if (p->n - p->first > p->idle && p->started < p->threads)
		start_thread(p);
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

static int result_locked(struct pool *p, struct error *err)
{
	if (p->err.code == ERROR_OK)
		return 0;
	return error_set(err, p->err.code, "%s", error_msg(&p->err));
}

int pool_check(struct pool *p, size_t *ret_done, struct error *err)
{
	uint64_t count;
	int r;

	(void)!read(p->fd, &count, sizeof(count));
	pthread_mutex_lock(&p->lock);
	r = result_locked(p, err);
	*ret_done = p->done;
	pthread_mutex_unlock(&p->lock);
	return r;
}

int pool_fd(const struct pool *p)
{
	return p->fd;
}

int pool_wait(struct pool *p, size_t n, struct error *err)
{
	int r;

	pthread_mutex_lock(&p->lock);
	while (p->err.code == ERROR_OK && p->n - p->done > n)
		pthread_cond_wait(&p->progress, &p->lock);
	r = result_locked(p, err);
	pthread_mutex_unlock(&p->lock);
	return r;
}
