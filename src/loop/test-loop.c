/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/job.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include <cmocka.h>

static int setup(void **state)
{
	*state = loop_new(NULL);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	loop_free(*state);
	return 0;
}

static char order[8];
static unsigned order_len;

static void note(void *arg)
{
	order[order_len++] = *(const char *)arg;
}

static void *poster(void *arg)
{
	loop_post(arg, note, (void *)(uintptr_t) "a");
	loop_post(arg, note, (void *)(uintptr_t) "b");
	loop_post(arg, note, (void *)(uintptr_t) "c");
	loop_stop(arg);
	return NULL;
}

static void test_posts_run_in_order_before_stop(void **state)
{
	pthread_t t;

	order_len = 0;
	assert_true(loop_is_current(*state));
	pthread_create(&t, NULL, poster, *state);
	loop_run(*state);
	pthread_join(t, NULL);
	assert_int_equal(order_len, 3);
	assert_memory_equal(order, "abc", 3);
}

static void test_posts_left_at_the_end_are_run(void **state)
{
	order_len = 0;
	loop_post(*state, note, (void *)(uintptr_t) "x");
	loop_free(*state);
	*state = NULL;
	assert_int_equal(order_len, 1);
}

static struct loop_timer *self;

static void on_self(void *arg)
{
	loop_timer_cancel(self);
	loop_stop(arg);
}

static void test_timers(void **state)
{
	order_len = 0;
	struct loop_timer *dead = loop_timer_start(*state, 1, note, (void *)(uintptr_t) "d");
	loop_timer_start(*state, 2, note, (void *)(uintptr_t) "l");
	loop_timer_start(*state, 60000, note, (void *)(uintptr_t) "n");
	self = loop_timer_start(*state, 20, on_self, *state);
	loop_timer_cancel(dead);
	loop_timer_cancel(NULL);
	loop_run(*state);
	assert_int_equal(order_len, 1);
	assert_int_equal(order[0], 'l');
}

static atomic_uint worked;
static unsigned finished;
static struct loop *job_loop;

static void work(void *arg)
{
	assert_false(loop_is_current(job_loop));
	worked++;
}

static void done(void *arg)
{
	assert_true(loop_is_current(job_loop));
	if (++finished == 500)
		loop_stop(job_loop);
}

static void test_jobs(void **state)
{
	struct jobs *j = jobs_new(*state);

	job_loop = *state;
	worked = finished = 0;
	for (int i = 0; i < 500; i++)
		job_submit(j, i % JOB_POOL_MAX, work, done, NULL);
	loop_run(*state);
	assert_int_equal(worked, 500);
	assert_int_equal(jobs_active(j), 0);
	jobs_free(j);
}

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_opened = PTHREAD_COND_INITIALIZER;
static bool gate_open;

static void wait_at_gate(void *arg UNUSED)
{
	job_wait_begin();
	pthread_mutex_lock(&gate_lock);
	while (!gate_open)
		pthread_cond_wait(&gate_opened, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
	job_wait_end();
	worked++;
}

static void open_gate(void *arg UNUSED)
{
	pthread_mutex_lock(&gate_lock);
	gate_open = true;
	pthread_cond_broadcast(&gate_opened);
	pthread_mutex_unlock(&gate_lock);
}

/* More of them than any pool has threads, and still the one behind them runs. */
static void test_waiting_jobs_hold_up_no_others(void **state)
{
	struct jobs *j = jobs_new(*state);

	worked = 0;
	gate_open = false;
	for (int i = 0; i < 100; i++)
		job_submit(j, JOB_DISK, wait_at_gate, NULL, NULL);
	job_submit(j, JOB_DISK, open_gate, NULL, NULL);
	jobs_free(j);
	assert_int_equal(worked, 100);
	job_wait_begin(); /* of no pool */
	job_wait_end();
}

static void test_jobs_free_finishes_what_is_queued(void **state)
{
	struct jobs *j = jobs_new(*state);

	job_loop = *state;
	worked = finished = 0;
	for (int i = 0; i < 100; i++)
		job_submit(j, JOB_DISK, work, i & 1 ? done : NULL, NULL);
	jobs_free(j);
	assert_int_equal(worked, 100);
	assert_int_equal(finished, 50);
}

static void test_cancel(void **state UNUSED)
{
	struct cancel *c = cancel_ref(cancel_new());

	assert_false(cancel_is_set(c));
	cancel_unref(c);
	cancel_trigger(c);
	cancel_trigger(c);
	assert_true(cancel_is_set(c));
	uint64_t n;
	assert_int_equal(read(cancel_fd(c), &n, sizeof(n)), sizeof(n));
	cancel_unref(c);
	assert_false(cancel_is_set(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_posts_run_in_order_before_stop, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_posts_left_at_the_end_are_run, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_jobs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waiting_jobs_hold_up_no_others, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_jobs_free_finishes_what_is_queued, setup,
						teardown),
		cmocka_unit_test(test_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
