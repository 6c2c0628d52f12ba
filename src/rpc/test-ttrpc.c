/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "containerd.task.v2.pb-c.h"
#include "containerd.task.v3.pb-c.h"
#include "rpc/protobuf.h"
#include "rpc/ttrpc-client.h"
#include "rpc/ttrpc-frame.h"
#include "rpc/ttrpc-server.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

/* Framing */

static void put(struct ttrpc_parser *p, const void *bytes, size_t n)
{
	memcpy(ttrpc_parser_reserve(p), bytes, n);
	ttrpc_parser_commit(p, n);
}

static void test_frame_byte_by_byte(void **state UNUSED)
{
	struct ttrpc_parser p;
	struct ttrpc_frame f = { .stream = 7, .type = TTRPC_REQUEST, .flags = 2, .len = 3 };
	uint8_t bytes[TTRPC_HEADER_SIZE + 3];

	ttrpc_header_write(bytes, &f);
	memcpy(bytes + TTRPC_HEADER_SIZE, "abc", 3);
	ttrpc_parser_init(&p);
	for (size_t i = 0; i + 1 < sizeof(bytes); i++) {
		put(&p, bytes + i, 1);
		assert_false(ttrpc_parser_next(&p, &f));
	}
	put(&p, bytes + sizeof(bytes) - 1, 1);
	assert_true(ttrpc_parser_next(&p, &f));
	assert_int_equal(f.stream, 7);
	assert_int_equal(f.flags, 2);
	assert_int_equal(f.len, 3);
	assert_memory_equal(f.payload, "abc", 3);
	assert_false(ttrpc_parser_next(&p, &f));
	assert_int_equal(p.in.alloc, 0);
	ttrpc_parser_done(&p);
}

static void test_frame_too_large_is_skipped(void **state UNUSED)
{
	struct ttrpc_parser p;
	struct ttrpc_frame f = { .stream = 1, .type = TTRPC_REQUEST };
	uint8_t big[TTRPC_HEADER_SIZE] = { 0x00, 0x40, 0x00, 0x01, 0, 0, 0, 3, 1, 0 };
	static const uint8_t zeros[TTRPC_READ_CHUNK];
	size_t left = TTRPC_PAYLOAD_MAX + 1;

	ttrpc_parser_init(&p);
	put(&p, big, sizeof(big));
	assert_true(ttrpc_parser_next(&p, &f));
	assert_true(f.too_large);
	assert_int_equal(f.stream, 3);
	while (left > 0) {
		size_t n = MIN(left, sizeof(zeros));

		put(&p, zeros, n);
		left -= n;
		assert_false(ttrpc_parser_next(&p, &f));
	}
	f = (struct ttrpc_frame){ .stream = 9, .type = TTRPC_REQUEST };
	ttrpc_header_write(big, &f);
	put(&p, big, sizeof(big));
	assert_true(ttrpc_parser_next(&p, &f));
	assert_int_equal(f.stream, 9);
	ttrpc_parser_done(&p);
}

/* Server and client over a socket pair */

struct fixture {
	struct loop *loop;
	struct ttrpc_server *server;
	struct ttrpc_client *client;
	struct ttrpc_call *parked[64];
	unsigned n_parked;
	unsigned cancelled;
	unsigned closed;
};

static void on_state(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg UNUSED)
{
	const Containerd__Task__V3__StateRequest *r = (const void *)m;
	Containerd__Task__V3__StateResponse reply = CONTAINERD__TASK__V3__STATE_RESPONSE__INIT;
	autoerror struct error err = ERROR_INIT;

	if (strcmp(r->id, "missing") == 0) {
		error_set(&err, ERROR_NOT_FOUND, "no container '%s'", r->id);
		ttrpc_call_fail(call, &err);
		return;
	}
	reply.id = r->id;
	reply.bundle = (char *)(uintptr_t)ttrpc_call_metadata(call, "containerd-namespace-ttrpc");
	ttrpc_call_reply(call, &reply.base);
}

static void on_cancel(struct ttrpc_call *call, void *arg)
{
	struct fixture *f = arg;
	autoerror struct error err = ERROR_INIT;

	f->cancelled++;
	error_set(&err, ERROR_CANCELLED, "gone");
	ttrpc_call_fail(call, &err);
}

static void on_wait(struct ttrpc_call *call, const ProtobufCMessage *m UNUSED, void *arg)
{
	struct fixture *f = arg;

	ttrpc_call_on_cancel(call, on_cancel, f);
	f->parked[f->n_parked++] = call;
}

/* Releases what waits, newest first. */
static void on_kill(struct ttrpc_call *call, const ProtobufCMessage *m UNUSED, void *arg)
{
	struct fixture *f = arg;
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
	Containerd__Task__V3__WaitResponse reply = CONTAINERD__TASK__V3__WAIT_RESPONSE__INIT;

	while (f->n_parked > 0) {
		reply.exit_status = --f->n_parked;
		ttrpc_call_reply(f->parked[f->n_parked], &reply.base);
	}
	ttrpc_call_reply(call, &empty.base);
}

/* State, Create, Start, Delete, Pids, Pause, Resume, Checkpoint, Kill, Exec, ... Wait is the 14th.
 */
static const ttrpc_handler handlers[17] = { [0] = on_state, [8] = on_kill, [13] = on_wait };

static int setup(void **state)
{
	static struct ttrpc_service v2, v3;
	struct fixture *f = xnew(struct fixture);
	int pair[2];

	f->loop = loop_new(NULL);
	f->server = ttrpc_server_new(f->loop);
	v3 = (struct ttrpc_service){ &containerd__task__v3__task__descriptor, handlers, f };
	v2 = (struct ttrpc_service){ &containerd__task__v2__task__descriptor, handlers, f };
	ttrpc_server_add(f->server, &v3);
	ttrpc_server_add(f->server, &v2);
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
	ttrpc_server_adopt(f->server, pair[0], NULL);
	f->client = ttrpc_client_new(f->loop, pair[1], "k8s.io", NULL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ttrpc_client_unref(f->client);
	ttrpc_server_free(f->server);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* Runs fn on a thread while the loop runs here. */
static void with_thread(struct fixture *f, void *(*fn)(void *))
{
	pthread_t t;

	pthread_create(&t, NULL, fn, f);
	loop_run(f->loop);
	pthread_join(t, NULL);
}

#define V3 "containerd.task.v3.Task"

static int call_state(struct fixture *f, const char *service, const char *id, char **bundle,
		      struct error *err)
{
	Containerd__Task__V3__StateRequest r = CONTAINERD__TASK__V3__STATE_REQUEST__INIT;
	autoarena struct arena arena = ARENA_INIT;
	ProtobufCMessage *m = NULL;

	r.id = (char *)(uintptr_t)id;
	if (ttrpc_client_call(f->client, service, "State", &r.base, 5000,
			      &containerd__task__v3__state_response__descriptor, &arena, &m,
			      err) < 0)
		return -1;
	assert_string_equal(((Containerd__Task__V3__StateResponse *)m)->id, id);
	if (bundle)
		*bundle = xstrdup(((Containerd__Task__V3__StateResponse *)m)->bundle);
	return 0;
}

static void *do_calls(void *arg)
{
	struct fixture *f = arg;
	autoerror struct error err = ERROR_INIT;
	autofree char *ns = NULL;
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;

	assert_int_equal(call_state(f, V3, "abc", &ns, &err), 0);
	assert_string_equal(ns, "k8s.io");
	assert_int_equal(call_state(f, "containerd.task.v2.Task", "abc", NULL, &err), 0);
	assert_int_equal(call_state(f, V3, "missing", NULL, &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
	assert_string_equal(error_msg(&err), "no container 'missing'");
	assert_int_equal(call_state(f, "no.such.Service", "x", NULL, &err), -1);
	assert_int_equal(err.code, ERROR_UNIMPLEMENTED);
	assert_int_equal(
		ttrpc_client_call(f->client, V3, "Pids", &empty.base, 0, NULL, NULL, NULL, &err),
		-1);
	assert_int_equal(err.code, ERROR_UNIMPLEMENTED);
	loop_stop(f->loop);
	return NULL;
}

static void test_calls(void **state)
{
	with_thread(*state, do_calls);
}

static void *do_timeout(void *arg)
{
	struct fixture *f = arg;
	autoerror struct error err = ERROR_INIT;
	Containerd__Task__V3__WaitRequest r = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;

	assert_int_equal(
		ttrpc_client_call(f->client, V3, "Wait", &r.base, 20, NULL, NULL, NULL, &err), -1);
	assert_int_equal(err.code, ERROR_DEADLINE_EXCEEDED);
	/* The late answer goes nowhere. */
	assert_int_equal(
		ttrpc_client_call(f->client, V3, "Kill", &r.base, 0, NULL, NULL, NULL, &err), 0);
	assert_int_equal(call_state(f, V3, "abc", NULL, &err), 0);
	loop_stop(f->loop);
	return NULL;
}

static void test_timeout(void **state)
{
	with_thread(*state, do_timeout);
}

static unsigned answers, sum;

static void on_answer(const struct error *err, const void *payload, size_t len, void *arg)
{
	struct fixture *f = arg;
	autoarena struct arena arena = ARENA_INIT;
	ProtobufCMessage *m = NULL;

	if (err)
		return;
	assert_int_equal(protobuf_unpack(&arena, &containerd__task__v3__wait_response__descriptor,
					 payload, len, &m, NULL),
			 0);
	sum += ((Containerd__Task__V3__WaitResponse *)m)->exit_status;
	if (++answers == 64)
		loop_stop(f->loop);
}

static void ignore_answer(const struct error *err UNUSED, const void *payload UNUSED,
			  size_t len UNUSED, void *arg UNUSED)
{
}

static void test_concurrent_calls_out_of_order(void **state)
{
	struct fixture *f = *state;
	Containerd__Task__V3__WaitRequest r = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;

	answers = sum = 0;
	for (int i = 0; i < 64; i++)
		ttrpc_client_call_async(f->client, V3, "Wait", &r.base, 60000, on_answer, f);
	ttrpc_client_call_async(f->client, V3, "Kill", &r.base, 0, ignore_answer, NULL);
	loop_run(f->loop);
	assert_int_equal(answers, 64);
	assert_int_equal(sum, 63 * 64 / 2);
}

static unsigned failures;

static void on_failure(const struct error *err, const void *payload UNUSED, size_t len UNUSED,
		       void *arg UNUSED)
{
	assert_non_null(err);
	assert_int_equal(err->code, ERROR_UNAVAILABLE);
	failures++;
}

static void on_client_closed(void *arg)
{
	struct fixture *f = arg;

	f->closed++;
	loop_stop(f->loop);
}

static void close_server(void *arg)
{
	struct fixture *f = arg;

	ttrpc_server_free(f->server);
	f->server = NULL;
}

static void test_close_with_calls_outstanding(void **state)
{
	struct fixture *f = *state;
	Containerd__Task__V3__WaitRequest r = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;

	failures = 0;
	ttrpc_client_on_close(f->client, on_client_closed, f);
	for (int i = 0; i < 5; i++)
		ttrpc_client_call_async(f->client, V3, "Wait", &r.base, 60000, on_failure, f);
	loop_timer_start(f->loop, 30, close_server, f);
	loop_run(f->loop);
	assert_int_equal(failures, 5);
	assert_int_equal(f->cancelled, 5);
	assert_int_equal(f->closed, 1);
	assert_true(ttrpc_client_is_closed(f->client));
	ttrpc_client_call_async(f->client, V3, "Wait", &r.base, 0, on_failure, f);
	assert_int_equal(failures, 5);
	loop_stop(f->loop);
	loop_run(f->loop);
	assert_int_equal(failures, 6);
}

static void stop(void *arg)
{
	loop_stop(arg);
}

static void test_client_gone_cancels_its_calls(void **state)
{
	struct fixture *f = *state;
	Containerd__Task__V3__WaitRequest r = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;

	failures = 0;
	ttrpc_client_call_async(f->client, V3, "Wait", &r.base, 0, on_failure, f);
	loop_timer_start(f->loop, 20, stop, f->loop);
	loop_run(f->loop);
	assert_int_equal(ttrpc_server_connections(f->server), 1);
	ttrpc_client_close(f->client);
	loop_timer_start(f->loop, 20, stop, f->loop);
	loop_run(f->loop);
	assert_int_equal(failures, 1);
	assert_int_equal(f->cancelled, 1);
	assert_int_equal(ttrpc_server_connections(f->server), 0);
}

static void test_request_too_large(void **state)
{
	struct fixture *f = *state;
	Containerd__Task__V3__StateRequest r = CONTAINERD__TASK__V3__STATE_REQUEST__INIT;
	autofree char *id = xmalloc(TTRPC_PAYLOAD_MAX + 1);

	memset(id, 'x', TTRPC_PAYLOAD_MAX);
	id[TTRPC_PAYLOAD_MAX] = 0;
	r.id = id;
	answers = 0;
	ttrpc_client_call_async(f->client, V3, "State", &r.base, 0, on_answer, f);
	loop_stop(f->loop);
	loop_run(f->loop);
	assert_int_equal(answers, 0);
	assert_false(ttrpc_client_is_closed(f->client));
}

static int other_fd = -1;

static void on_other(int fd, void *arg)
{
	other_fd = fd;
	loop_stop(arg);
}

static void test_other_protocol_keeps_its_descriptors(void **state)
{
	struct fixture *f = *state;
	char path[] = "/tmp/kistl-test-XXXXXX";
	char line[16];
	int passed[1];
	size_t n = 1;

	assert_non_null(mkdtemp(path));
	autofree char *sock = path_join(path, "s", NULL);
	int fd = fs_unix_listen(sock, 0600, 8);
	assert_true(fd >= 0);
	ttrpc_server_set_other(f->server, on_other, f->loop);
	assert_int_equal(ttrpc_server_listen(f->server, fd, NULL), 0);
	int c = fs_unix_connect(sock);
	assert_int_equal(fs_send_fds(c, "KATTACH1", 8, (int[]){ 2 }, 1), 8);
	loop_run(f->loop);
	assert_int_equal(fs_recv_fds(other_fd, line, sizeof(line), passed, &n), 8);
	assert_int_equal(n, 1);
	close(passed[0]);
	close(other_fd);
	close(c);
	unlink(sock);
	rmdir(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frame_byte_by_byte),
		cmocka_unit_test(test_frame_too_large_is_skipped),
		cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timeout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_concurrent_calls_out_of_order, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_close_with_calls_outstanding, setup, teardown),
		cmocka_unit_test_setup_teardown(test_client_gone_cancels_its_calls, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_request_too_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_protocol_keeps_its_descriptors, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
