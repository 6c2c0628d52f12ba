/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool keeps as many threads as it has work for, up to its limit; a thread that found nothing to
 * do for a while leaves, so an idle daemon has one thread. Threads are detached and counted:
 * jobs_free() waits for the count.
 */

#include "loop/job.h"

#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>

#define IDLE_SECONDS 10
#define STACK_SIZE (1024 * 1024)
#define WAITING_MAX 1024 /* threads of a pool that wait beyond its limit */

struct job {
	struct job *next;
	struct jobs *owner;
	void (*work)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

struct pool {
	struct jobs *owner;
	unsigned max_threads;
	unsigned n_threads;
	unsigned n_idle;
	unsigned n_queued;
	unsigned n_waiting; /* between job_wait_begin() and job_wait_end() */
	struct job *first;
	struct job **tail;
	pthread_cond_t has_work;
};

struct jobs {
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t thread_left;
	bool stopping;
	atomic_uint active;
	struct pool pools[JOB_POOL_MAX];
};

static const unsigned pool_sizes[JOB_POOL_MAX] = {
	[JOB_OPS] = 32,
	[JOB_TRANSFER] = 8,
	[JOB_DISK] = 2,
	[JOB_QUICK] = 4,
};

/* The pool whose thread this is. */
static _Thread_local struct pool *own_pool;

static void finish_on_loop(void *arg)
{
	struct job *job = arg;

	job->done(job->arg);
	job->owner->active--;
	free(job);
}

static void run_job(struct job *job)
{
	job->work(job->arg);
	if (job->done) {
		loop_post(job->owner->loop, finish_on_loop, job);
		return;
	}
	job->owner->active--;
	free(job);
}

/* With the lock held. NULL: nothing came for so long that the thread should leave. */
static struct job *next_job(struct pool *p)
{
	struct jobs *j = p->owner;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_SECONDS;
	while (!p->first && !j->stopping) {
		p->n_idle++;
		int r = pthread_cond_timedwait(&p->has_work, &j->lock, &until);
		p->n_idle--;
		if (r == ETIMEDOUT && !p->first)
			return NULL;
	}
	struct job *job = p->first;
	if (!job)
		return NULL;
	p->first = job->next;
	p->n_queued--;
	if (!p->first)
		p->tail = &p->first;
	return job;
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;
	struct jobs *j = p->owner;

	own_pool = p;
	pthread_mutex_lock(&j->lock);
	for (struct job *job; (job = next_job(p));) {
		pthread_mutex_unlock(&j->lock);
		run_job(job);
		pthread_mutex_lock(&j->lock);
	}
	/* The last to leave gives back what the busy time took. */
	if (p->n_threads == 1 && !j->stopping) {
		pthread_mutex_unlock(&j->lock);
		malloc_trim(0);
		pthread_mutex_lock(&j->lock);
	}
	p->n_threads--;
	pthread_cond_broadcast(&j->thread_left);
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

/* With the lock held. Signals stay with the loop's thread. */
static int start_thread(struct pool *p)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&thread, &attr, pool_thread, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r == 0)
		p->n_threads++;
	return r;
}

/* With the lock held: another thread, if there is work for it and the limit allows. */
static int grow(struct pool *p)
{
	unsigned limit = p->max_threads + MIN(p->n_waiting, WAITING_MAX);

	return p->n_queued > p->n_idle && p->n_threads < limit ? start_thread(p) : 0;
}

void job_wait_begin(void)
{
	struct pool *p = own_pool;

	if (!p)
		return;
	pthread_mutex_lock(&p->owner->lock);
	p->n_waiting++;
	grow(p);
	pthread_mutex_unlock(&p->owner->lock);
}

void job_wait_end(void)
{
	struct pool *p = own_pool;

	if (!p)
		return;
	pthread_mutex_lock(&p->owner->lock);
	assert(p->n_waiting > 0);
	p->n_waiting--;
	pthread_mutex_unlock(&p->owner->lock);
}

struct jobs *jobs_new(struct loop *l)
{
	struct jobs *j = xnew(struct jobs);
	pthread_condattr_t attr;

	j->loop = l;
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->thread_left, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	for (int i = 0; i < JOB_POOL_MAX; i++) {
		struct pool *p = &j->pools[i];

		p->owner = j;
		p->max_threads = pool_sizes[i];
		p->tail = &p->first;
		pthread_cond_init(&p->has_work, &attr);
	}
	pthread_condattr_destroy(&attr);
	return j;
}

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

void jobs_free(struct jobs *j)
{
	if (!j)
		return;
	pthread_mutex_lock(&j->lock);
	j->stopping = true;
	for (int i = 0; i < JOB_POOL_MAX; i++) {
		pthread_cond_broadcast(&j->pools[i].has_work);
		while (j->pools[i].n_threads > 0)
			pthread_cond_wait(&j->thread_left, &j->lock);
	}
	pthread_mutex_unlock(&j->lock);

	/* The `done` calls are posts that point into j: let the loop run them before j goes. */
	bool flushed = false;
	loop_post(j->loop, set_flag, &flushed);
	while (!flushed)
		uv_run(loop_uv(j->loop), UV_RUN_ONCE);
	assert(j->active == 0);
	for (int i = 0; i < JOB_POOL_MAX; i++)
		pthread_cond_destroy(&j->pools[i].has_work);
	pthread_cond_destroy(&j->thread_left);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

void job_submit(struct jobs *j, enum job_pool pool, void (*work)(void *arg),
		void (*done)(void *arg), void *arg)
{
	assert(pool < JOB_POOL_MAX);
	struct pool *p = &j->pools[pool];
	struct job *job = xnew(struct job);
	int r = 0;

	*job = (struct job){ .owner = j, .work = work, .done = done, .arg = arg };
	j->active++;
	pthread_mutex_lock(&j->lock);
	*p->tail = job;
	p->tail = &job->next;
	p->n_queued++;
	r = grow(p);
	pthread_cond_signal(&p->has_work);
	bool stuck = r != 0 && p->n_threads == 0;
	if (stuck) {
		/* No thread at all can be had: late is better than never. */
		job = p->first;
		p->first = NULL;
		p->tail = &p->first;
		p->n_queued = 0;
	}
	pthread_mutex_unlock(&j->lock);
	if (!stuck)
		return;
	log_err("cannot start a thread (error %d), running the operation on the loop", r);
	while (job) {
		struct job *next = job->next;

		run_job(job);
		job = next;
	}
}

unsigned jobs_active(const struct jobs *j)
{
	return j->active;
}

struct cancel {
	atomic_uint refs;
	atomic_bool set;
	int fd;
};

struct cancel *cancel_new(void)
{
	struct cancel *c = xnew(struct cancel);

	c->refs = 1;
	/* Without a descriptor (EMFILE) the fd is negative, which poll() ignores: the operation
	 * still sees cancel_is_set() between its steps. */
	c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return c;
}

struct cancel *cancel_ref(struct cancel *c)
{
	if (c)
		c->refs++;
	return c;
}

void cancel_unref(struct cancel *c)
{
	if (!c || --c->refs > 0)
		return;
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

void cancel_trigger(struct cancel *c)
{
	if (!c || atomic_exchange(&c->set, true) || c->fd < 0)
		return;
	eventfd_write(c->fd, 1);
}

bool cancel_is_set(const struct cancel *c)
{
	return c && c->set;
}

int cancel_fd(const struct cancel *c)
{
	return c ? c->fd : -1;
}
