/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/http.h"
#include "cli/jsonstream.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

struct reply {
	int status;
	struct buf body;
	bool complete;
};

/* Feeds text in pieces of `step` bytes; -1 when it is refused. */
static int feed(struct http_parser *p, const char *text, size_t step, struct reply *r)
{
	size_t len = strlen(text);

	r->body = BUF_INIT(BUF_NO_LIMIT);
	for (size_t at = 0; at < len && !r->complete;) {
		size_t n = MIN(step, len - at), used, body_len;
		const char *body;
		int ev = http_parser_feed(p, text + at, n, &used, &body, &body_len, NULL);

		if (ev < 0)
			return -1;
		at += used;
		if (ev == HTTP_HEAD)
			r->status = p->status;
		if (ev == HTTP_BODY)
			buf_append(&r->body, body, body_len);
		if (ev == HTTP_END)
			r->complete = true;
	}
	r->complete = p->state == HTTP_STATE_END;
	return 0;
}

static void check(const char *text, int status, const char *body, bool complete)
{
	for (size_t step = 1; step < 200; step = step * 3 + 1) {
		struct http_parser p;
		struct reply r = { 0 };

		http_parser_init(&p);
		assert_int_equal(feed(&p, text, step, &r), 0);
		assert_int_equal(r.status, status);
		assert_string_equal(r.body.data, body);
		assert_int_equal(r.complete, complete);
		buf_done(&r.body);
		http_parser_done(&p);
	}
}

static void test_bodies(void **state)
{
	check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true);
	check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", 200, "hell", false);
	check("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true);
	check("HTTP/1.1 304\r\nContent-Length: 10\r\n\r\n", 304, "", true);
	check("HTTP/1.1 200 OK\r\nTransfer-Encoding: "
	      "chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789"
	      "\r\n0\r\nTrailer: x\r\n\r\n",
	      200, "hello0123456789", true);
	check("HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nraw bytes", 101, "raw bytes", false);
	check("HTTP/1.0 200 OK\r\n\r\nuntil close", 200, "until close", false);
	check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200,
	      "x", true);
}

static void test_headers(void **state)
{
	struct http_parser p;
	struct reply r = { 0 };

	http_parser_init(&p);
	assert_int_equal(
		feed(&p, "HTTP/1.1 200 OK\nApi-Version:  1.47 \t\nConnection: close\n\n", 7, &r),
		0);
	assert_string_equal(kvs_get(&p.headers, "api-version"), "1.47");
	assert_false(p.keep_alive);
	buf_done(&r.body);
	http_parser_reset(&p, /* head_only= */ true);
	r = (struct reply){ 0 };
	assert_int_equal(feed(&p, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 100, &r), 0);
	assert_true(r.complete);
	buf_done(&r.body);
	http_parser_done(&p);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"HTTP/2 200 OK\r\n\r\n",
		"HTTP/1.1 2x0 OK\r\n\r\n",
		"HTTP/1.1 099 OK\r\n\r\n",
		"hello\r\n",
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct http_parser p;
		struct reply r = { 0 };

		http_parser_init(&p);
		assert_int_equal(feed(&p, bad[i], 1000, &r), -1);
		buf_done(&r.body);
		http_parser_done(&p);
	}
}

static void test_limits(void **state)
{
	struct http_parser p;
	struct reply r = { 0 };
	autobuf struct buf text = BUF_INIT(BUF_NO_LIMIT);

	buf_puts(&text, "HTTP/1.1 200 OK\r\nX: ");
	for (size_t i = 0; i < HTTP_LINE_MAX; i++)
		buf_putc(&text, 'a');
	http_parser_init(&p);
	assert_int_equal(feed(&p, text.data, 4096, &r), -1);
	buf_done(&r.body);
	buf_clear(&text);
	buf_puts(&text, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i <= HTTP_HEADERS_MAX; i++)
		buf_printf(&text, "X-%d: y\r\n", i);
	http_parser_reset(&p, false);
	assert_int_equal(feed(&p, text.data, 4096, &r), -1);
	buf_done(&r.body);
	http_parser_done(&p);
}

static void test_end_of_connection(void **state)
{
	struct http_parser p;
	struct reply r = { 0 };
	autoerror struct error err = ERROR_INIT;

	http_parser_init(&p);
	feed(&p, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 100, &r);
	assert_int_equal(http_parser_eof(&p, &err), -1);
	assert_int_equal(err.code, ERROR_UNAVAILABLE);
	buf_done(&r.body);
	http_parser_reset(&p, false);
	feed(&p, "HTTP/1.1 200 OK\r\n\r\nall", 100, &r);
	assert_int_equal(http_parser_eof(&p, NULL), HTTP_END);
	buf_done(&r.body);
	http_parser_done(&p);
}

static void test_urls(void **state)
{
	autofree char *path = url_format("/images/{}/json?{}", "localhost:5000/a b@x", "ä");
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	assert_string_equal(path, "/images/localhost:5000/a%20b@x/json?%C3%A4");
	buf_puts(&b, "/x");
	url_query(&b, "a", "1&2=/");
	url_query(&b, "none", NULL);
	url_query(&b, "b", "");
	assert_string_equal(b.data, "/x?a=1%262%3D%2F&b=");
}

static void test_json_stream(void **state)
{
	const char *text = "{\"a\":\"}\\\"\"}\r\n[1,{}] {\"b\":{}}";
	static const size_t ends[] = { 11, 19, 28 };

	for (size_t step = 1; step < 40; step++) {
		struct json_scanner s = { 0 };
		size_t found = 0;

		for (size_t at = 0; at < strlen(text);) {
			bool complete;
			size_t n = MIN(step, strlen(text) - at);

			at += json_scan(&s, text + at, n, &complete);
			if (complete) {
				assert_true(found < ARRAY_SIZE(ends));
				assert_int_equal(at, ends[found++]);
			}
		}
		assert_int_equal(found, ARRAY_SIZE(ends));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_end_of_connection),
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_json_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
