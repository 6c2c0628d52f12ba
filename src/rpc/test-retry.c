/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/retry.h"

#include "base/log.h"
#include "base/mem.h"

#include "runtime.v1.pb-c.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef Runtime__V1__RemoveContainerRequest text_request; /* one string */

struct asker {
	bool gone;
	bool fails;
	bool blocks;
	char id[16];
	int code; /* of the answer; -1: none yet */
};

struct fixture {
	struct loop *loop;
	struct jobs *jobs;
	struct retry *retry;
	pthread_t thread;
	sem_t working, go_on, answered, discarded;
	atomic_int made, thrown;
	atomic_bool unusable;
	char last_discarded[16];
};

static struct fixture fixture;

static int do_work(void *arg, void *waiter, char **ret_id, struct error *err)
{
	struct fixture *f = arg;
	struct asker *a = waiter;

	if (a->blocks) {
		sem_post(&f->working);
		sem_wait(&f->go_on);
	}
	if (a->fails)
		return error_set(err, ERROR_ALREADY_EXISTS, "in use");
	*ret_id = xasprintf("id%d", ++f->made);
	return 0;
}

static void do_answer(void *arg, void *waiter, const char *id, const struct error *err)
{
	struct fixture *f = arg;
	struct asker *a = waiter;

	assert_true(!id == !!err);
	if (id && !a->gone)
		assert_false(retry_hides(f->retry, id));
	snprintf(a->id, sizeof(a->id), "%s", id ? id : "");
	a->code = err ? (int)err->code : 0;
	sem_post(&f->answered);
}

static bool is_gone(void *arg UNUSED, void *waiter)
{
	return ((struct asker *)waiter)->gone;
}

static bool is_usable(void *arg, const char *id)
{
	assert_memory_equal(id, "id", 2);
	return !((struct fixture *)arg)->unusable;
}

static void do_discard(void *arg, const char *id)
{
	struct fixture *f = arg;

	f->thrown++;
	snprintf(f->last_discarded, sizeof(f->last_discarded), "%s", id);
	sem_post(&f->discarded);
}

static const struct retry_ops ops = { do_work, do_answer, is_gone, is_usable, do_discard };

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void set_up(struct fixture *f, uint64_t lifetime)
{
	*f = (struct fixture){ 0 };
	sem_init(&f->working, 0, 0);
	sem_init(&f->go_on, 0, 0);
	sem_init(&f->answered, 0, 0);
	sem_init(&f->discarded, 0, 0);
	f->loop = loop_new(NULL);
	f->jobs = jobs_new(f->loop);
	f->retry = retry_new(f->loop, f->jobs, &ops, f, lifetime);
	assert_int_equal(pthread_create(&f->thread, NULL, run_loop, f->loop), 0);
}

static int setup(void **state UNUSED)
{
	set_up(&fixture, 60000);
	return 0;
}

static int setup_brief(void **state UNUSED)
{
	set_up(&fixture, 50);
	return 0;
}

static int teardown(void **state UNUSED)
{
	struct fixture *f = &fixture;

	loop_stop(f->loop);
	pthread_join(f->thread, NULL);
	jobs_free(f->jobs);
	retry_free(f->retry);
	loop_free(f->loop);
	return 0;
}

static void ask(const char *name, const char *text, struct asker *a)
{
	text_request request = RUNTIME__V1__REMOVE_CONTAINER_REQUEST__INIT;

	request.container_id = (char *)(uintptr_t)text;
	a->code = -1;
	retry_request(fixture.retry, name, &request.base, a);
}

static void expect(const struct asker *a, int code, const char *id)
{
	assert_int_equal(a->code, code);
	assert_string_equal(a->id, id);
}

struct asking {
	pthread_t thread;
	const char *name, *text;
	struct asker *asker;
};

static void *ask_in_thread(void *arg)
{
	struct asking *a = arg;

	ask(a->name, a->text, a->asker);
	return NULL;
}

static void start_asking(struct asking *a)
{
	assert_int_equal(pthread_create(&a->thread, NULL, ask_in_thread, a), 0);
}

static void test_taken(void **state UNUSED)
{
	struct asker a = { 0 }, b = { 0 }, c = { .fails = true }, d = { 0 };

	ask("x", "one", &a);
	expect(&a, 0, "id1");
	/* Perhaps the answer was lost. */
	ask("x", "one", &b);
	expect(&b, 0, "id1");
	/* Another request does its own work and finds the name in use; the result stays. */
	ask("x", "two", &c);
	expect(&c, ERROR_ALREADY_EXISTS, "");
	ask("x", "one", &d);
	expect(&d, 0, "id1");
	ask("y", "one", &b);
	expect(&b, 0, "id2");
	/* It was stopped or removed meanwhile: the same request is a new one. */
	fixture.unusable = true;
	ask("x", "one", &a);
	expect(&a, 0, "id3");
	assert_int_equal(fixture.thrown, 0);
	assert_int_equal(retry_count(fixture.retry), 2);
}

static void test_error_is_not_kept(void **state UNUSED)
{
	struct asker a = { .fails = true }, b = { 0 };

	ask("x", "one", &a);
	expect(&a, ERROR_ALREADY_EXISTS, "");
	assert_int_equal(retry_count(fixture.retry), 0);
	ask("x", "one", &b);
	expect(&b, 0, "id1");
}

static void test_abandoned(void **state UNUSED)
{
	struct asker gone = { .blocks = true }, b = { 0 }, c = { .gone = true };
	struct asking asking = { .name = "x", .text = "one", .asker = &gone };

	start_asking(&asking);
	sem_wait(&fixture.working);
	gone.gone = true;
	sem_post(&fixture.go_on);
	pthread_join(asking.thread, NULL);
	assert_true(retry_hides(fixture.retry, "id1"));
	assert_false(retry_hides(fixture.retry, "id2"));
	ask("x", "one", &c);
	assert_true(retry_hides(fixture.retry, "id1"));
	ask("x", "one", &b);
	expect(&b, 0, "id1");
	assert_false(retry_hides(fixture.retry, "id1"));
	assert_int_equal(fixture.thrown, 0);
	/* What nobody waits for is not begun. */
	ask("z", "one", &c);
	expect(&c, ERROR_CANCELLED, "");
	assert_int_equal(fixture.made, 1);
	assert_int_equal(retry_count(fixture.retry), 1);
}

static void abandon(const char *name, const char *text, struct asker *gone)
{
	struct asking asking = { .name = name, .text = text, .asker = gone };

	gone->blocks = true;
	start_asking(&asking);
	sem_wait(&fixture.working);
	gone->gone = true;
	sem_post(&fixture.go_on);
	pthread_join(asking.thread, NULL);
}

static void test_other_request_discards(void **state UNUSED)
{
	struct asker gone = { 0 }, b = { 0 };

	abandon("x", "one", &gone);
	ask("x", "two", &b);
	expect(&b, 0, "id2");
	assert_int_equal(fixture.thrown, 1);
	assert_string_equal(fixture.last_discarded, "id1");
	assert_false(retry_hides(fixture.retry, "id1"));
}

/* Duplicates join; another request waits for its turn. */
static void test_joined(void **state UNUSED)
{
	struct asker first = { .blocks = true }, same[5] = { 0 }, other = { 0 };
	struct asking asking = { .name = "x", .text = "one", .asker = &first };

	start_asking(&asking);
	sem_wait(&fixture.working);
	for (int i = 0; i < 5; i++)
		ask("x", "one", &same[i]);
	ask("x", "two", &other);
	assert_int_equal(same[0].code, -1);
	first.gone = true;
	sem_post(&fixture.go_on);
	pthread_join(asking.thread, NULL);
	for (int i = 0; i < 5; i++)
		expect(&same[i], 0, "id1");
	/* Somebody had taken the first, so it was not discarded. */
	expect(&other, 0, "id2");
	assert_int_equal(fixture.thrown, 0);
}

static void test_joined_error(void **state UNUSED)
{
	struct asker first = { .blocks = true, .fails = true }, same = { 0 }, other = { 0 };
	struct asking asking = { .name = "x", .text = "one", .asker = &first };

	start_asking(&asking);
	sem_wait(&fixture.working);
	ask("x", "two", &other);
	ask("x", "one", &same);
	sem_post(&fixture.go_on);
	pthread_join(asking.thread, NULL);
	expect(&first, ERROR_ALREADY_EXISTS, "");
	expect(&same, ERROR_ALREADY_EXISTS, "");
	expect(&other, 0, "id1");
}

static void test_too_many(void **state UNUSED)
{
	struct asker first = { .blocks = true }, same[64] = { 0 }, last = { 0 };
	struct asking asking = { .name = "x", .text = "one", .asker = &first };

	start_asking(&asking);
	sem_wait(&fixture.working);
	for (int i = 0; i < 64; i++)
		ask("x", "one", &same[i]);
	ask("x", "one", &last);
	expect(&last, ERROR_RESOURCE_EXHAUSTED, "");
	sem_post(&fixture.go_on);
	pthread_join(asking.thread, NULL);
	expect(&same[63], 0, "id1");
}

/* A taken result makes room for new ones. */
static void test_many_names(void **state UNUSED)
{
	struct asker a = { 0 };
	char name[16];

	for (int i = 0; i < 17000; i++) {
		snprintf(name, sizeof(name), "x%d", i);
		ask(name, "one", &a);
		assert_int_equal(a.code, 0);
	}
	assert_int_equal(retry_count(fixture.retry), 16384);
}

static void test_expiry(void **state UNUSED)
{
	struct asker gone = { 0 }, taken = { 0 };

	ask("y", "one", &taken);
	abandon("x", "one", &gone);
	sem_wait(&fixture.discarded);
	assert_string_equal(fixture.last_discarded, "id2");
	while (retry_count(fixture.retry) > 0)
		usleep(5000);
	assert_int_equal(fixture.thrown, 1);
	/* Somebody found it and uses it. */
	gone = (struct asker){ 0 };
	abandon("x", "one", &gone);
	fixture.unusable = true;
	while (retry_count(fixture.retry) > 0)
		usleep(5000);
	assert_int_equal(fixture.thrown, 1);
	assert_false(retry_hides(fixture.retry, "id3"));
}

static void test_digest(void **state UNUSED)
{
	Runtime__V1__RunPodSandboxRequest request = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxConfig__LabelsEntry
		a = RUNTIME__V1__POD_SANDBOX_CONFIG__LABELS_ENTRY__INIT,
		b = RUNTIME__V1__POD_SANDBOX_CONFIG__LABELS_ENTRY__INIT,
		c = RUNTIME__V1__POD_SANDBOX_CONFIG__LABELS_ENTRY__INIT;
	Runtime__V1__PodSandboxConfig__LabelsEntry *labels[] = { &a, &b, &c };
	char first[DIGEST_MAX], second[DIGEST_MAX];
	char key_a[] = "a", key_b[] = "b", key_c[] = "c", value[] = "1";

	a.key = key_a;
	b.key = key_b;
	c.key = key_c;
	c.value = value;
	request.config = &config;
	config.labels = labels;
	config.n_labels = 3;
	retry_digest(&request.base, first);
	labels[0] = &c;
	labels[2] = &a;
	retry_digest(&request.base, second);
	assert_string_equal(first, second);
	assert_ptr_equal(labels[0], &a);
	b.value = value;
	retry_digest(&request.base, second);
	assert_string_not_equal(first, second);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_taken),
		TEST(test_error_is_not_kept),
		TEST(test_abandoned),
		TEST(test_other_request_discards),
		TEST(test_joined),
		TEST(test_joined_error),
		TEST(test_too_many),
		TEST(test_many_names),
		cmocka_unit_test_setup_teardown(test_expiry, setup_brief, teardown),
		cmocka_unit_test(test_digest),
	};

	log_setup("test", LOG_ERR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
