/* SPDX-License-Identifier: Apache-2.0 */
#include "image/flight.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>

#include <cmocka.h>

static bool woken(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n);
}

static void test_begin_end(void **state)
{
	struct flights *f = flights_new();
	int a = eventfd(0, EFD_NONBLOCK), b = eventfd(0, EFD_NONBLOCK);

	assert_true(flight_begin(f, "x", a));
	assert_true(flight_begin(f, "y", a));
	for (int i = 0; i < 100; i++)
		assert_false(flight_begin(f, "x", b));
	assert_false(flight_begin(f, "x", a)); /* one operation may need it twice */
	flight_end(f, "y");
	assert_false(woken(b));
	flight_end(f, "x");
	assert_true(woken(b));
	assert_true(woken(a));
	assert_true(flight_begin(f, "x", b));
	assert_false(flight_begin(f, "x", a));
	flight_forget(f, a);
	flight_end(f, "x");
	assert_false(woken(a));
	flights_free(f);
	close(a);
	close(b);
}

struct counter {
	struct flights *f;
	int makers, made; /* makers: at any moment at most one */
};

static void *compete(void *arg)
{
	struct counter *c = arg;
	int fd = eventfd(0, EFD_NONBLOCK);

	for (int n = 0; n < 200;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		if (!flight_begin(c->f, "k", fd)) {
			poll(&p, 1, -1);
			(void)woken(fd);
			continue;
		}
		assert_int_equal(__atomic_fetch_add(&c->makers, 1, __ATOMIC_SEQ_CST), 0);
		c->made++;
		__atomic_fetch_sub(&c->makers, 1, __ATOMIC_SEQ_CST);
		flight_end(c->f, "k");
		n++;
	}
	flight_forget(c->f, fd);
	close(fd);
	return NULL;
}

static void test_threads(void **state)
{
	struct counter c = { .f = flights_new() };
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, compete, &c), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(c.made, 800);
	flights_free(c.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_begin_end),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
