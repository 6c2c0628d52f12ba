/* SPDX-License-Identifier: Apache-2.0 */
/* Real sockets: the loop runs in a thread, the test is the client. */
#include "http/server.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

struct fixture {
	struct loop *loop;
	struct jobs *jobs;
	struct http_server *server;
	pthread_t thread;
	sem_t done;
};

static struct fixture fixture;
static sem_t gone;
static atomic_int writes_after_gone;
static atomic_size_t streamed;
static int upgraded_fd;
static char upgraded_extra[64];

static int do_ping(struct http_request *r, struct error *err)
{
	assert_ptr_equal(http_request_arg(r), &fixture);
	http_set_header(r, "Api-Version", "1.43");
	http_set_header(r, "Bad", "a\r\nb");
	http_reply(r, 200, "text/plain", "OK", 2);
	return 0;
}

static int do_echo(struct http_request *r, struct error *err)
{
	size_t n;
	const char *body = http_body(r, &n);
	autofree char *text =
		xasprintf("%s %s %s q=%s|%s n=%zu", http_method(r), http_param(r, "name"),
			  http_api_version(r), http_query(r, "q") ? http_query(r, "q") : "-",
			  http_header(r, "x-test") ? http_header(r, "x-test") : "-", n);

	http_arena(r);
	http_reply(r, 200, "text/plain", n ? body : text, n ? n : strlen(text));
	return 0;
}

static int do_json(struct http_request *r, struct error *err)
{
	autojson struct json *j = NULL;

	if (http_body_json(r, &j, err) < 0)
		return -1;
	struct json *reply = json_new_object();
	json_set_string(reply, "got", j ? json_get_string(j, "x") : "nothing");
	http_reply_json(r, 201, reply);
	return 0;
}

static int do_fail(struct http_request *r, struct error *err)
{
	return error_set(err, ERROR_NOT_FOUND, "No such container: %s", http_param(r, "id"));
}

static int do_forget(struct http_request *r, struct error *err)
{
	return 0;
}

static int do_upload(struct http_request *r, struct error *err)
{
	char p[4096];
	size_t total = 0;

	if (http_query_bool(r, "wait", false))
		sem_wait(&fixture.done);
	for (;;) {
		ssize_t n = http_body_read(r, p, sizeof(p), err);

		if (n < 0) {
			sem_post(&gone);
			return -1;
		}
		if (n == 0)
			break;
		bool pause = total < 256 << 10 && total + (size_t)n >= 256 << 10;
		total += (size_t)n;
		if (pause && http_query_bool(r, "pause", false))
			sem_wait(&fixture.done);
		if (http_query_bool(r, "early", false))
			break;
	}
	autofree char *text = xasprintf("%zu", total);
	http_reply(r, 200, "text/plain", text, strlen(text));
	return 0;
}

static int do_stream(struct http_request *r, struct error *err)
{
	static char piece[10000];

	http_stream_start(r, 200, "application/json");
	while (streamed < (8 << 20)) {
		if (http_stream_write(r, piece, sizeof(piece)) < 0) {
			writes_after_gone++;
			sem_post(&gone);
			break;
		}
		streamed += sizeof(piece);
	}
	http_stream_end(r);
	return 0;
}

static int do_broken(struct http_request *r, struct error *err)
{
	http_stream_start(r, 200, "text/plain");
	http_stream_write(r, "abc", 3);
	return error_set(err, ERROR_INTERNAL, "oops");
}

static void on_gone(void *arg)
{
	struct http_request *r = arg;

	assert_true(loop_is_current(fixture.loop));
	assert_true(http_disconnected(r));
	http_request_unref(r);
	sem_post(&gone);
}

static int do_wait(struct http_request *r, struct error *err)
{
	http_on_disconnect(r, on_gone, http_request_ref(r));
	sem_post(&fixture.done);
	return 0;
}

static void on_tick(void *arg)
{
	struct http_request *r = arg;

	http_stream_write(r, "tick\n", 5);
	http_stream_end(r);
	http_request_unref(r);
}

static void start_tick(void *arg)
{
	loop_timer_start(fixture.loop, 30, on_tick, arg);
}

static int do_later(struct http_request *r, struct error *err)
{
	http_stream_start(r, 200, "text/plain");
	loop_post(fixture.loop, start_tick, http_request_ref(r));
	return 0;
}

struct pump {
	struct http_request *r;
	int left;
};

static void pump_more(void *arg)
{
	static char piece[32 << 10];
	struct pump *p = arg;

	while (p->left > 0) {
		p->left--;
		int rc = http_stream_write(p->r, piece, sizeof(piece));
		assert_true(rc >= 0);
		if (rc == 1) {
			http_stream_on_drain(p->r, pump_more, p);
			return;
		}
	}
	http_stream_end(p->r);
	http_request_unref(p->r);
	free(p);
}

static int do_pump(struct http_request *r, struct error *err)
{
	struct pump *p = xnew(struct pump);

	p->r = http_request_ref(r);
	p->left = 64;
	http_stream_start(r, 200, "text/plain");
	pump_more(p);
	return 0;
}

static void on_upgrade(int fd, const void *extra, size_t n, void *arg)
{
	assert_true(loop_is_current(fixture.loop));
	upgraded_fd = fd;
	memcpy(upgraded_extra, extra ? extra : "", n);
	upgraded_extra[n] = '\0';
	sem_post(&fixture.done);
}

static int do_upgrade(struct http_request *r, struct error *err)
{
	http_upgrade(r, "application/vnd.docker.raw-stream", on_upgrade, NULL);
	return 0;
}

static const struct http_route routes[] = {
	{ "GET", "/_ping", do_ping, HTTP_ON_LOOP, 0 },
	{ "HEAD", "/_ping", do_ping, 0, 0 },
	{ "GET", "/echo/{name}", do_echo, 0, 0 },
	{ "POST", "/echo/{name...}", do_echo, 0, 1 << 20 },
	{ "POST", "/json", do_json, 0, 0 },
	{ "GET", "/fail/{id}", do_fail, 0, 0 },
	{ "GET", "/forget", do_forget, 0, 0 },
	{ "POST", "/upload", do_upload, HTTP_STREAM_BODY | HTTP_TRANSFER, 0 },
	{ "GET", "/stream", do_stream, 0, 0 },
	{ "GET", "/broken", do_broken, 0, 0 },
	{ "POST", "/wait", do_wait, 0, 0 },
	{ "GET", "/later", do_later, 0, 0 },
	{ "GET", "/pump", do_pump, HTTP_ON_LOOP, 0 },
	{ "POST", "/upgrade", do_upgrade, 0, 0 },
	{ NULL },
};

static int strip_version(const char *path, const char **ret_rest, char ret_version[16],
			 struct error *err)
{
	if (!str_has_prefix(path, "/v1."))
		return 0;
	if (str_has_prefix(path, "/v1.99/"))
		return error_set(err, ERROR_INVALID_ARGUMENT, "client version 1.99 is too new");
	memcpy(ret_version, path + 2, 4);
	*ret_rest = path + 6;
	return 0;
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static int setup(void **state)
{
	static const char *const headers[] = { "Server", "Kistl/test", NULL };
	struct fixture *f = &fixture;

	sem_init(&f->done, 0, 0);
	sem_init(&gone, 0, 0);
	streamed = 0;
	upgraded_fd = -1;
	f->loop = loop_new(NULL);
	f->jobs = jobs_new(f->loop);
	f->server = http_server_new(
		&(struct http_server_config){
			.loop = f->loop,
			.jobs = f->jobs,
			.routes = routes,
			.arg = f,
			.strip_version = strip_version,
			.headers = headers,
		},
		NULL);
	*state = f;
	return pthread_create(&f->thread, NULL, run_loop, f->loop);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	loop_stop(f->loop);
	pthread_join(f->thread, NULL);
	http_server_free(f->server);
	jobs_free(f->jobs);
	loop_free(f->loop);
	return 0;
}

static void adopt(void *arg)
{
	http_server_adopt(fixture.server, (int)(intptr_t)arg);
}

static int client(void)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	loop_post(fixture.loop, adopt, (void *)(intptr_t)fds[1]);
	return fds[0];
}

static void put(int fd, const char *text)
{
	assert_int_equal(fs_write_all(fd, text, strlen(text)), 0);
}

/* Reads until the text has come (or EOF). */
static char *get_until(int fd, const char *until)
{
	struct buf b = BUF_INIT(64 << 20);

	for (;;) {
		buf_reserve(&b, 65536);
		ssize_t n = read(fd, b.data + b.len, 65536);
		if (n <= 0)
			break;
		buf_advance(&b, (size_t)n);
		if (until && strstr(b.data, until))
			break;
	}
	return buf_steal(&b, NULL);
}

static char *ask(int fd, const char *request, const char *until)
{
	put(fd, request);
	return get_until(fd, until);
}

#define HOST "Host: docker\r\n"

static void expect(int fd, const char *request, const char *status, const char *tail)
{
	autofree char *reply = ask(fd, request, tail);

	if (!str_has_prefix(reply, status) || !str_has_suffix(reply, tail))
		fail_msg("%s -> %s", request, reply);
}

static void test_routing_and_keep_alive(void **state)
{
	autoclose int fd = client();

	autofree char *ping = ask(fd, "GET /_ping HTTP/1.1\r\n" HOST "\r\n", "\r\n\r\nOK");
	assert_true(str_has_prefix(ping, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
					 "Server: Kistl/test\r\nApi-Version: 1.43\r\nDate: "));
	assert_non_null(strstr(ping, "\r\nContent-Length: 2\r\n"));
	assert_null(strstr(ping, "Bad"));
	expect(fd, "GET /v1.43/echo/a%20b?q=x%26y+z&q=2 HTTP/1.1\r\n" HOST "X-Test: hi\r\n\r\n",
	       "HTTP/1.1 200", "GET a b 1.43 q=x&y z|hi n=0");
	expect(fd, "POST /echo/x/y/z HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", "HTTP/1.1 200",
	       "POST x/y/z  q=-|- n=0");
	expect(fd, "HEAD /_ping HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200", "Length: 2\r\n\r\n");
	expect(fd, "GET /nowhere HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 404",
	       "{\"message\":\"page not found\"}\n");
	expect(fd, "PUT /_ping HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", "HTTP/1.1 404",
	       "page not found\"}\n");
	expect(fd, "GET /fail/x1 HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 404",
	       "{\"message\":\"No such container: x1\"}\n");
	expect(fd, "GET /v1.99/_ping HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 400", "too new\"}\n");
	expect(fd, "GET /forget HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 500", "no answer\"}\n");
	expect(fd, "GET /_ping HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", "HTTP/1.1 200",
	       "close\r\nContent-Length: 2\r\n\r\nOK");
	autofree char *eof = get_until(fd, NULL);
	assert_string_equal(eof, "");
}

static void test_json(void **state)
{
	autoclose int fd = client();

	expect(fd, "POST /json HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n{\"x\":\"y\"} ",
	       "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n", "{\"got\":\"y\"}\n");
	expect(fd, "POST /json HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", "HTTP/1.1 201",
	       "{\"got\":\"nothing\"}\n");
	expect(fd, "POST /json HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{x", "HTTP/1.1 400",
	       "}\n");
}

static void test_pipelined(void **state)
{
	autoclose int fd = client();

	expect(fd,
	       "GET /echo/1 HTTP/1.1\r\n" HOST "\r\n\r\nGET /_ping HTTP/1.1\r\n" HOST "\r\n"
	       "POST /echo/p HTTP/1.1\r\n" HOST
	       "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	       "GET /later HTTP/1.1\r\n" HOST "\r\nGET /echo/last HTTP/1.1\r\n" HOST "\r\n",
	       "HTTP/1.1 200", "GET last  q=-|- n=0");
}

static void test_half_closed_client_gets_its_reply(void **state)
{
	autoclose int fd = client();

	put(fd, "GET /later HTTP/1.1\r\n" HOST "\r\nGET /later HTTP/1.1\r\n" HOST "\r\n");
	shutdown(fd, SHUT_WR);
	autofree char *reply = get_until(fd, NULL);
	char *first = strstr(reply, "5\r\ntick\n\r\n0\r\n\r\n");
	assert_non_null(first);
	assert_non_null(strstr(first + 5, "5\r\ntick\n\r\n0\r\n\r\n"));
}

static void test_http10(void **state)
{
	autoclose int fd = client();

	put(fd, "GET /later HTTP/1.0\r\n\r\n");
	autofree char *reply = get_until(fd, NULL);
	assert_true(str_has_suffix(reply, "Connection: close\r\n\r\ntick\n"));
}

static void test_collected_bodies(void **state)
{
	autoclose int fd = client();
	autofree char *big = xmalloc((1 << 20) + 1);
	autofree char *head = xasprintf("POST /echo/x HTTP/1.1\r\n" HOST "Content-Length: %d\r\n"
					"Expect: 100-continue\r\n\r\n",
					1 << 20);

	memset(big, 'b', 1 << 20);
	big[1 << 20] = '\0';
	big[(1 << 20) - 1] = '!';
	expect(fd, head, "HTTP/1.1 100 Continue\r\n\r\n", "\r\n\r\n");
	expect(fd, big, "HTTP/1.1 200", "b!");

	/* Announced too large, chunked too large, unexpected. */
	expect(fd, "POST /echo/x HTTP/1.1\r\n" HOST "Content-Length: 1048577\r\n\r\n",
	       "HTTP/1.1 413", "{\"message\":\"request body too large\"}\n");
	autoclose int fd2 = client();
	put(fd2, "POST /echo/x HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n100001\r\n");
	send(fd2, big, 1 << 20, MSG_NOSIGNAL);
	expect(fd2, "!\r\n", "HTTP/1.1 413", "too large\"}\n");
	autoclose int fd3 = client();
	expect(fd3, "GET /_ping HTTP/1.1\r\n" HOST "Content-Length: 70000\r\n\r\n", "HTTP/1.1 413",
	       "too large\"}\n");
}

static void test_malformed(void **state)
{
	static const struct {
		const char *request, *status;
	} cases[] = {
		{ "hello\r\n\r\n", "HTTP/1.1 400" },
		{ "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400" },
		{ "GET /%zz HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 400" },
		{ "GET /a%00 HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 400" },
		{ "GET x HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 400" },
		{ "GET http://d/_ping HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200" },
		{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505" },
		{ "POST /echo/x HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
		  "HTTP/1.1 400" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoclose int fd = client();

		put(fd, cases[i].request);
		shutdown(fd, SHUT_WR);
		autofree char *reply = get_until(fd, NULL);
		assert_true(str_has_prefix(reply, cases[i].status));
	}
}

static void test_big_headers(void **state)
{
	autoclose int fd = client();
	autofree char *junk = xmalloc(40001);

	memset(junk, 'x', 40000);
	junk[40000] = '\0';
	put(fd, "GET /_ping HTTP/1.1\r\n" HOST "X: ");
	send(fd, junk, 40000, MSG_NOSIGNAL);
	autofree char *reply = get_until(fd, NULL);
	assert_true(str_has_prefix(reply, "HTTP/1.1 431"));

	autoclose int fd2 = client();
	junk[30000] = '\0';
	put(fd2, "GET /_ping HTTP/1.1\r\n" HOST "X: ");
	put(fd2, junk);
	expect(fd2, "\r\n\r\n", "HTTP/1.1 200", "OK");
}

/* How much a client can send before it would block for a while. */
static size_t send_until_blocked(int fd, size_t most)
{
	static char piece[65536];
	size_t total = 0;

	while (total < most) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };

		if (poll(&p, 1, 150) == 0)
			break;
		ssize_t n = send(fd, piece, MIN(sizeof(piece), most - total),
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			break;
		total += n > 0 ? (size_t)n : 0;
	}
	return total;
}

static void test_streamed_body_has_back_pressure(void **state)
{
	autoclose int fd = client();
	size_t size = 16 << 20;

	put(fd, "POST /upload?wait=1 HTTP/1.1\r\n" HOST "Content-Length: 16777216\r\n\r\n");
	size_t sent = send_until_blocked(fd, size);
	assert_in_range(sent, 1 << 20, 3 << 20);
	sem_post(&fixture.done);
	while (sent < size)
		sent += send_until_blocked(fd, size - sent);
	expect(fd, "GET /_ping HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200", "\r\n\r\nOK");
}

/* What has been read stays in the buffer for a while, and must not count. */
static void test_streamed_body_is_read_slowly(void **state)
{
	autoclose int fd = client();
	size_t size = 4 << 20;

	put(fd, "POST /upload?pause=1 HTTP/1.1\r\n" HOST "Content-Length: 4194304\r\n\r\n");
	size_t sent = send_until_blocked(fd, size);
	assert_in_range(sent, 1 << 20, 3 << 20);
	sem_post(&fixture.done);
	while (sent < size)
		sent += send_until_blocked(fd, size - sent);
	expect(fd, "", "HTTP/1.1 200", "\r\n\r\n4194304");
}

static void test_streamed_chunked_body(void **state)
{
	autoclose int fd = client();

	put(fd, "POST /upload HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhel");
	usleep(20000);
	put(fd, "lo\r\n");
	expect(fd, "2\r\n!!\r\n0\r\n\r\n", "HTTP/1.1 200", "\r\n\r\n7");
	/* Answered before it came in whole: the rest is thrown away, the connection goes on. */
	put(fd, "POST /upload?early=1 HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\n0123456789");
	autofree char *reply = get_until(fd, "\r\n\r\n10");
	assert_true(str_has_suffix(reply, "\r\n\r\n10"));
	autofree char *rest = xasprintf("%090d", 0);
	put(fd, rest);
	expect(fd, "GET /_ping HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200", "\r\n\r\nOK");
}

static void test_upload_is_cut(void **state)
{
	int fd = client();

	put(fd, "POST /upload HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\nabc");
	usleep(20000);
	close(fd);
	sem_wait(&gone);
}

static void test_stream_has_back_pressure(void **state)
{
	autoclose int fd = client();

	put(fd, "GET /stream HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
	usleep(200000);
	assert_in_range(streamed, 200 << 10, 1 << 20);
	autofree char *reply = get_until(fd, NULL);
	assert_true(streamed >= 8 << 20);
	assert_non_null(strstr(reply, "Transfer-Encoding: chunked\r\n\r\n2710\r\n"));
}

static void test_pump_on_loop(void **state)
{
	autoclose int fd = client();
	size_t total = 0;
	char p[65536];
	char tail[5] = "";

	put(fd, "GET /pump HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
	for (ssize_t n; (n = read(fd, p, sizeof(p))) > 0; total += (size_t)n) {
		if (n >= 5)
			memcpy(tail, p + n - 5, 5);
	}
	assert_true(total > 64 * (32 << 10));
	assert_memory_equal(tail, "0\r\n\r\n", 5);
}

static void test_stream_client_leaves(void **state)
{
	int fd = client();

	put(fd, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
	usleep(50000);
	close(fd);
	sem_wait(&gone);
}

static void test_broken_stream_is_cut(void **state)
{
	autoclose int fd = client();

	put(fd, "GET /broken HTTP/1.1\r\n" HOST "\r\n");
	autofree char *reply = get_until(fd, NULL);
	assert_true(str_has_suffix(reply, "3\r\nabc\r\n"));
}

static void test_disconnect_while_waiting(void **state)
{
	int fd = client();

	put(fd, "POST /wait HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
	sem_wait(&fixture.done);
	clock_t cpu = clock();
	shutdown(fd, SHUT_WR);
	usleep(100000);
	assert_int_equal(sem_trywait(&gone), -1);
	assert_true(clock() - cpu < CLOCKS_PER_SEC / 20); /* it does not spin */
	close(fd);
	sem_wait(&gone);
	/* And without the half-close. */
	fd = client();
	put(fd, "POST /wait HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\nGET / pipelined");
	sem_wait(&fixture.done);
	close(fd);
	sem_wait(&gone);
}

static void check_raw_stream(int fd)
{
	char p[16];

	sem_wait(&fixture.done);
	assert_true(upgraded_fd >= 0);
	assert_string_equal(upgraded_extra, "early");
	/* Ours alone, open, and blocking as before. */
	put(fd, "more");
	assert_int_equal(read(upgraded_fd, p, sizeof(p)), 4);
	put(upgraded_fd, "back");
	assert_int_equal(read(fd, p, sizeof(p)), 4);
	shutdown(fd, SHUT_WR);
	assert_int_equal(read(upgraded_fd, p, sizeof(p)), 0);
	put(upgraded_fd, "last");
	close(upgraded_fd);
	assert_int_equal(read(fd, p, sizeof(p)), 4);
	assert_int_equal(read(fd, p, sizeof(p)), 0);
}

static void test_upgrade(void **state)
{
	autoclose int fd = client();
	autofree char *reply = ask(fd,
				   "POST /upgrade HTTP/1.1\r\n" HOST "Connection: Upgrade\r\n"
				   "Upgrade: tcp\r\nContent-Length: 2\r\n\r\n{}early",
				   "\r\n\r\n");

	assert_string_equal(reply, "HTTP/1.1 101 UPGRADED\r\n"
				   "Content-Type: application/vnd.docker.raw-stream\r\n"
				   "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
	check_raw_stream(fd);
}

static void test_upgrade_without_header(void **state)
{
	autoclose int fd = client();
	autofree char *reply = ask(fd, "POST /upgrade HTTP/1.1\r\n" HOST "\r\nearly", "\r\n\r\n");

	assert_string_equal(reply, "HTTP/1.1 200 OK\r\n"
				   "Content-Type: application/vnd.docker.raw-stream\r\n"
				   "Connection: close\r\n\r\n");
	check_raw_stream(fd);
}

static void drain(void *arg)
{
	http_server_drain(fixture.server);
	sem_post(&fixture.done);
}

static void test_drain(void **state)
{
	autoclose int idle = client();
	autoclose int busy = client();

	expect(idle, "GET /_ping HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200", "OK");
	put(busy, "POST /wait HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
	sem_wait(&fixture.done);
	loop_post(fixture.loop, drain, NULL);
	sem_wait(&fixture.done);
	autofree char *nothing = get_until(idle, NULL);
	assert_string_equal(nothing, "");
	struct pollfd p = { .fd = busy, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 20), 0);
}

/* The server goes while a request waits: its user learns of it. */
static void test_free_with_waiting_request(void **state)
{
	autoclose int fd = client();

	put(fd, "POST /wait HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
	sem_wait(&fixture.done);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_routing_and_keep_alive),
		TEST(test_json),
		TEST(test_pipelined),
		TEST(test_half_closed_client_gets_its_reply),
		TEST(test_http10),
		TEST(test_collected_bodies),
		TEST(test_malformed),
		TEST(test_big_headers),
		TEST(test_streamed_body_has_back_pressure),
		TEST(test_streamed_chunked_body),
		TEST(test_streamed_body_is_read_slowly),
		TEST(test_upload_is_cut),
		TEST(test_stream_has_back_pressure),
		TEST(test_pump_on_loop),
		TEST(test_stream_client_leaves),
		TEST(test_broken_stream_is_cut),
		TEST(test_disconnect_while_waiting),
		TEST(test_upgrade),
		TEST(test_upgrade_without_header),
		TEST(test_drain),
		TEST(test_free_with_waiting_request),
	};

	log_setup("test", LOG_ERR, LOG_FORMAT_TEXT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
