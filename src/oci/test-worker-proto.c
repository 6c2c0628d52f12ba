/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/worker-proto.h"

#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

static void make_pair(int sv[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
}

static void test_round_trip(void **state)
{
	int sv[2];
	autoerror struct error err = ERROR_INIT;
	CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;

	make_pair(sv);
	autoclose int fd = worker_memfd("hello", 5, &err);
	assert_true(fd >= 0);
	struct json *j = json_new_object();
	json_set_string(j, "op", "unpack");
	assert_int_equal(worker_send(sv[0], j, (int[]){ fd, fd }, 2, &err), 0);
	assert_int_equal(worker_recv(sv[1], &m, &err), 0);
	assert_string_equal(json_get_string(m.json, "op"), "unpack");
	assert_int_equal(m.n_fds, 2);
	assert_int_equal(m.fds[2], -1);

	char text[8] = "";
	assert_int_equal(read(m.fds[0], text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
	assert_true(fcntl(m.fds[1], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(fd, "x", 1), -1);
	close(sv[0]);
	close(sv[1]);
}

static void test_peer_gone(void **state)
{
	int sv[2];
	autoerror struct error err = ERROR_INIT;
	CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;

	make_pair(sv);
	close(sv[0]);
	assert_int_equal(worker_recv(sv[1], &m, &err), -1);
	assert_int_equal(err.code, ERROR_UNAVAILABLE);
	assert_int_equal(worker_send(sv[1], json_new_object(), NULL, 0, &err), -1);
	assert_int_equal(err.code, ERROR_UNAVAILABLE);
	close(sv[1]);
}

static void test_bad_packets(void **state)
{
	int sv[2];
	autofree char *big = xmalloc(WORKER_MESSAGE_MAX + 10);
	const char *const bad[] = { "[]", "x", "{", "{}x", "{\"a\":\"\xff\"}" };

	make_pair(sv);
	memset(big, ' ', WORKER_MESSAGE_MAX + 10);
	for (size_t i = 0; i <= ARRAY_SIZE(bad); i++) {
		autoerror struct error err = ERROR_INIT;
		CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;
		const char *p = i < ARRAY_SIZE(bad) ? bad[i] : big;
		size_t n = i < ARRAY_SIZE(bad) ? strlen(p) : WORKER_MESSAGE_MAX + 10;
		assert_int_equal(send(sv[0], p, n, 0), n);
		assert_int_equal(worker_recv(sv[1], &m, &err), -1);
		assert_null(m.json);
	}
	close(sv[0]);
	close(sv[1]);
}

static void test_too_long(void **state)
{
	int sv[2];
	autoerror struct error err = ERROR_INIT;
	autofree char *big = xmalloc(WORKER_MESSAGE_MAX + 1);

	make_pair(sv);
	memset(big, 'x', WORKER_MESSAGE_MAX);
	big[WORKER_MESSAGE_MAX] = '\0';
	struct json *j = json_new_object();
	json_set_string(j, "text", big);
	assert_int_equal(worker_send(sv[0], j, NULL, 0, &err), -1);
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	close(sv[0]);
	close(sv[1]);
}

static void test_errors(void **state)
{
	static const struct {
		const char *in, *out;
	} texts[] = {
		{ "plain", "plain" },
		{ "a\x1b[31mb", "a?[31mb" },
		{ "latin \xe9 end", "latin ? end" },
		{ "utf-8 \xc3\xa9", "utf-8 \xc3\xa9" },
		{ "overlong \xc0\xaf", "overlong ??" },
		{ "cut \xe2\x82", "cut ??" },
		{ "surrogate \xed\xa0\x80", "surrogate ???" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		autoerror struct error err = ERROR_INIT, back = ERROR_INIT;
		error_set(&err, ERROR_DATA_LOSS, "%s", texts[i].in);
		err.sys = ENOSPC;
		autojson struct json *j = worker_error_encode(&err);
		autofree char *text = json_format(j, false);
		autojson struct json *parsed = json_parse(text, strlen(text), 1 << 16, &back);
		assert_non_null(parsed);
		assert_int_equal(worker_error_decode(parsed, &back), -1);
		assert_int_equal(back.code, ERROR_DATA_LOSS);
		assert_int_equal(back.sys, ENOSPC);
		assert_string_equal(back.msg, texts[i].out);
	}
	assert_true(worker_text_valid("\xf0\x9f\x93\xa6 box"));
	assert_false(worker_text_valid("\xf8\x88\x80\x80\x80"));
}

static void test_error_from_liar(void **state)
{
	autoerror struct error err = ERROR_INIT;
	autojson struct json *j = json_new_object();

	json_set_int(j, "code", 99);
	json_set_int(j, "sys", -5);
	worker_error_decode(j, &err);
	assert_int_equal(err.code, ERROR_UNKNOWN);
	assert_int_equal(err.sys, 0);
	json_set_int(j, "code", 0);
	worker_error_decode(j, &err);
	assert_int_equal(err.code, ERROR_UNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_peer_gone),
		cmocka_unit_test(test_bad_packets), cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_errors),	    cmocka_unit_test(test_error_from_liar),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
