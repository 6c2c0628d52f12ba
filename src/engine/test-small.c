/* SPDX-License-Identifier: Apache-2.0 */
/* Names, restart policies, exit codes, the state's document, the ring of events. */

#include "base/mem.h"
#include "base/time.h"
#include "engine/internal.h"
#include "engine/names.h"
#include "engine/restart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_name_grammar(void **state UNUSED)
{
	static const char *const good[] = { "ab", "a.b", "A-1", "0_x", "brave_lamarr" };
	static const char *const bad[] = { "",	  "a",	 "-a",	      ".ab", "_ab",  "a b",
					   "a/b", "a\n", "\xc3\xa4x", "a:b", "a\x7f" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(name_valid(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(name_valid(bad[i]));
	autofree char *longest = xmalloc(NAME_MAX_LEN + 2);
	memset(longest, 'a', NAME_MAX_LEN + 1);
	longest[NAME_MAX_LEN + 1] = '\0';
	assert_false(name_valid(longest));
	longest[NAME_MAX_LEN] = '\0';
	assert_true(name_valid(longest));
}

static void test_random_names(void **state UNUSED)
{
	for (unsigned attempt = 0; attempt < 8; attempt++) {
		autofree char *name = name_random(attempt);

		assert_true(name_valid(name));
		assert_non_null(strchr(name, '_'));
	}
}

static void test_restart_policies(void **state UNUSED)
{
	static const struct {
		struct restart_question q;
		bool want;
	} cases[] = {
		{ { .policy = RESTART_NO, .exit_code = 1 }, false },
		{ { .policy = RESTART_ALWAYS }, true },
		{ { .policy = RESTART_ALWAYS, .stopped_by_user = true }, false },
		{ { .policy = RESTART_ALWAYS, .stopped_by_user = true, .booted = true }, true },
		{ { .policy = RESTART_UNLESS_STOPPED, .stopped_by_user = true, .booted = true },
		  false },
		{ { .policy = RESTART_UNLESS_STOPPED, .booted = true }, true },
		{ { .policy = RESTART_ON_FAILURE }, false },
		{ { .policy = RESTART_ON_FAILURE, .exit_code = 1, .retries = 99 }, true },
		{ { .policy = RESTART_ON_FAILURE, .exit_code = 1, .max_retries = 2, .retries = 1 },
		  true },
		{ { .policy = RESTART_ON_FAILURE, .exit_code = 1, .max_retries = 2, .retries = 2 },
		  false },
	};
	enum restart_policy p;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(restart_wanted(&cases[i].q), cases[i].want);
	assert_true(restart_policy_parse(NULL, &p) && p == RESTART_NO);
	assert_true(restart_policy_parse("on-failure", &p) && p == RESTART_ON_FAILURE);
	assert_false(restart_policy_parse("on-failure:3", &p));
	assert_false(restart_policy_parse("sometimes", &p));
}

static void test_back_off(void **state UNUSED)
{
	uint64_t delay = 0;

	for (uint64_t want = 100; want < 60000; want *= 2)
		assert_int_equal(delay = restart_delay(delay, NSEC_PER_SEC), want);
	assert_int_equal(delay = restart_delay(delay, NSEC_PER_SEC), 60000);
	assert_int_equal(delay = restart_delay(delay, NSEC_PER_SEC), 60000);
	assert_int_equal(restart_delay(delay, 10 * NSEC_PER_SEC), 100);
}

static void test_failure_codes(void **state UNUSED)
{
	assert_int_equal(start_failure_code("executable file `x` not found in $PATH"), 127);
	assert_int_equal(start_failure_code("exec: \"x\": stat /x: No such file or directory"),
			 127);
	assert_int_equal(start_failure_code("open executable: Permission denied"), 126);
	assert_int_equal(start_failure_code("open executable: Operation not permitted"), 126);
	assert_int_equal(start_failure_code("something else"), 128);
}

static void test_state_document(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	struct run_state s = {
		.status = CONTAINER_PAUSED,
		.started_at = 1700000000123456789,
		.pid = 4242,
		.exit_code = 137,
		.oom_killed = true,
		.unsettled = true,
		.error = xstrdup("it \"broke\""),
		.restart_count = 3,
		.restart_delay = 800,
		.health = xstrdup("healthy"),
		.boot_id = xstrdup("boot"),
	}, t = { 0 }, u = { 0 };

	s.endpoints.v = xnew(struct endpoint);
	s.endpoints.n = 1;
	struct endpoint *e = s.endpoints.v;
	e->network = xstrdup("bridge");
	e->ip = xstrdup("172.18.0.2");
	e->prefix = 16;
	e->ports.n = 1;
	e->ports.v = xnew(struct port_mapping);
	e->ports.v[0] = (struct port_mapping){ .protocol = xstrdup("tcp"),
					       .host_ip = xstrdup("0.0.0.0"),
					       .host_port = 8080,
					       .container_port = 80 };
	autojson struct json *j = run_state_to_json(&s);
	assert_int_equal(run_state_from_json(j, &t, &err), 0);
	run_state_copy(&u, &t);
	assert_int_equal(u.status, CONTAINER_PAUSED);
	assert_int_equal(u.started_at, s.started_at);
	assert_int_equal(u.exit_code, 137);
	assert_true(u.oom_killed && u.unsettled && !u.stopped_by_user);
	assert_string_equal(u.error, s.error);
	assert_int_equal(u.restart_delay, 800);
	assert_string_equal(u.endpoints.v[0].ip, "172.18.0.2");
	assert_int_equal(u.endpoints.v[0].ports.v[0].host_port, 8080);
	assert_string_equal(u.boot_id, "boot");
	run_state_done(&s);
	run_state_done(&t);
	run_state_done(&u);
	assert_null(u.error);
}

static void test_state_refused(void **state UNUSED)
{
	static const char *const bad[] = { "{}", "[]", "{\"status\":\"flying\"}",
					   "{\"status\":\"running\",\"pid\":\"x\"}",
					   "{\"status\":\"running\",\"pid\":99999999999}" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autoerror struct error err = ERROR_INIT;
		autojson struct json *j = json_parse(bad[i], strlen(bad[i]), 1000, &err);
		struct run_state s = { 0 };

		assert_int_equal(run_state_from_json(j, &s, &err), -1);
	}
	for (int i = 0; i < CONTAINER_STATUS_MAX; i++)
		assert_int_equal(
			container_status_parse(container_status_name((enum container_status)i)), i);
}

/* --- events --- */

struct seen {
	char text[4096];
	struct event_subscription *leave; /* another one, which this one ends */
};

static void on_event(const struct engine_event *event, void *arg)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);

	snprintf(s->text + n, sizeof(s->text) - n, "%s ", event->action);
	engine_unsubscribe(s->leave);
	s->leave = NULL;
}

static void emit(struct event_hub *h, const char *action, int64_t time)
{
	const struct engine_event e = {
		.ns = "default", .type = "container", .action = action, .id = "x", .time = time
	};

	event_hub_emit(h, &e);
}

static void turn(struct loop *l)
{
	while (uv_run(loop_uv(l), UV_RUN_NOWAIT) && uv_backend_timeout(loop_uv(l)) == 0)
		;
}

static void test_events(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	struct loop *l = loop_new(&err);
	struct event_hub *h = event_hub_new(l);
	struct seen all = { "", NULL }, live = { "", NULL }, late = { "", NULL };

	emit(h, "one", 10);
	emit(h, "two", 20);
	/* Still on their way through the loop: each is seen once all the same. */
	struct event_subscription *a = event_hub_subscribe(h, 1, on_event, &all);
	struct event_subscription *b = event_hub_subscribe(h, 0, on_event, &live);
	struct event_subscription *c = event_hub_subscribe(h, 20, on_event, &late);
	assert_string_equal(all.text, "one two ");
	assert_string_equal(late.text, "two ");
	turn(l);
	assert_string_equal(all.text, "one two ");
	assert_string_equal(live.text, "");
	emit(h, "three", 30);
	turn(l);
	assert_string_equal(live.text, "three ");
	/* One may leave, or be made to, while events are delivered. */
	all.leave = b;
	emit(h, "four", 40);
	turn(l);
	assert_string_equal(all.text, "one two three four ");
	assert_string_equal(live.text, "three ");
	engine_unsubscribe(a);
	engine_unsubscribe(c);
	emit(h, "five", 50);
	turn(l);
	assert_string_equal(late.text, "two three four ");
	event_hub_free(h);
	loop_free(l);
}

static void test_ring_is_bounded(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	struct loop *l = loop_new(&err);
	struct event_hub *h = event_hub_new(l);
	struct seen all = { "", NULL };

	for (int i = 0; i < 1000; i++)
		emit(h, i < 1000 - 256 ? "old" : "n", i + 1);
	turn(l);
	struct event_subscription *s = event_hub_subscribe(h, 1, on_event, &all);
	assert_null(strstr(all.text, "old"));
	assert_int_equal(strlen(all.text), 256 * 2);
	engine_unsubscribe(s);
	event_hub_free(h);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name_grammar),	 cmocka_unit_test(test_random_names),
		cmocka_unit_test(test_restart_policies), cmocka_unit_test(test_back_off),
		cmocka_unit_test(test_failure_codes),	 cmocka_unit_test(test_state_document),
		cmocka_unit_test(test_state_refused),	 cmocka_unit_test(test_events),
		cmocka_unit_test(test_ring_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
