/* SPDX-License-Identifier: Apache-2.0 */
#include "http/internal.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct http_head *head, char **copy)
{
	const char *reason = NULL;

	*copy = xstrdup(text);
	int status = http_head_parse(*copy, strlen(text), head, &reason);
	assert_true((status == 0) == (reason == NULL));
	return status;
}

static void test_head(void **state)
{
	struct http_head h;
	autofree char *copy = NULL;

	assert_int_equal(parse("POST /a/b?x=1 HTTP/1.1\r\nHost: d\r\nX-Thing:\t some value \r\n"
			       "Connection: keep-alive, Upgrade\r\nupgrade: tcp\r\n"
			       "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
			       &h, &copy),
			 0);
	assert_string_equal(h.method, "POST");
	assert_string_equal(h.target, "/a/b?x=1");
	assert_int_equal(h.minor, 1);
	assert_string_equal(http_head_field(&h, "x-thing"), "some value");
	assert_null(http_head_field(&h, "x-other"));
	assert_string_equal(h.upgrade, "tcp");
	assert_int_equal(h.content_length, 5);
	assert_true(h.keep_alive && h.expect_continue && !h.chunked);
}

static void test_keep_alive(void **state)
{
	static const struct {
		const char *text;
		bool keep_alive;
	} cases[] = {
		{ "GET / HTTP/1.1\r\nHost: d\r\n\r\n", true },
		{ "GET / HTTP/1.1\nHost: d\nConnection: foo, Close\n\n", false },
		{ "GET / HTTP/1.1\r\nHost: d\r\nConnection: closed\r\n\r\n", true },
		{ "GET / HTTP/1.0\r\n\r\n", false },
		{ "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_head h;
		autofree char *copy = NULL;

		assert_int_equal(parse(cases[i].text, &h, &copy), 0);
		assert_int_equal(h.keep_alive, cases[i].keep_alive);
	}
}

static void test_refused_heads(void **state)
{
	static const struct {
		int status;
		const char *text;
	} cases[] = {
		{ 400, "\r\n" },
		{ 400, "GET /\r\n\r\n" },
		{ 400, "GET  HTTP/1.1\r\n\r\n" },
		{ 400, "GET /a b HTTP/1.1\r\nHost: d\r\n\r\n" },
		{ 400, "G@T / HTTP/1.1\r\nHost: d\r\n\r\n" },
		{ 400, "GET / FTP/1.1\r\nHost: d\r\n\r\n" },
		{ 505, "PRI * HTTP/2.0\r\n\r\n" },
		{ 505, "GET / HTTP/1.2\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost d\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost : d\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: d\r\n folded\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: d\rx\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: \x01\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 1,1\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 9223372036854775808\r\n\r\n" },
		{ 400,
		  "GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\n"
		       "Transfer-Encoding: chunked\r\n\r\n" },
		{ 501, "GET / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" },
		{ 501, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_head h;
		autofree char *copy = NULL;

		assert_int_equal(parse(cases[i].text, &h, &copy), cases[i].status);
	}
	char nul[] = "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n";
	struct http_head h;
	const char *reason;
	assert_int_equal(http_head_parse(nul, sizeof(nul) - 1, &h, &reason), 400);
}

static void test_too_many_fields(void **state)
{
	autobuf struct buf b = BUF_INIT(1 << 16);
	struct http_head h;
	autofree char *copy = NULL;

	buf_puts(&b, "GET / HTTP/1.1\r\n");
	for (int i = 0; i <= HTTP_FIELDS_MAX; i++)
		buf_printf(&b, "X-%d: y\r\n", i);
	buf_puts(&b, "\r\n");
	assert_int_equal(parse(b.data, &h, &copy), 431);
}

static void test_head_end_is_incremental(void **state)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: d\r\n\r\nbody\n\n";
	size_t scan = 0, want = strlen(text) - 6;

	for (size_t n = 0; n < want; n++)
		assert_int_equal(http_head_end(text, n, &scan), 0);
	assert_int_equal(http_head_end(text, want, &scan), want);
	scan = 0;
	assert_int_equal(http_head_end("a\nb\n\nc", 6, &scan), 5);
}

/* Feeds text in pieces of `step`; returns what came out, NULL for malformed. */
static char *decode(struct http_body b, const char *text, size_t step, size_t *ret_used)
{
	struct buf out = BUF_INIT(4096);
	size_t len = strlen(text), pos = 0;

	while (pos < len && b.state != HTTP_BODY_END) {
		const char *piece;
		size_t n;
		ssize_t used = http_body_feed(&b, text + pos, MIN(step, len - pos), &piece, &n);

		if (used < 0) {
			buf_done(&out);
			return NULL;
		}
		assert_true(used > 0);
		buf_append(&out, piece, n);
		pos += (size_t)used;
	}
	*ret_used = b.state == HTTP_BODY_END ? pos : 0;
	return buf_steal(&out, NULL);
}

static void test_chunked(void **state)
{
	static const char text[] =
		"5\r\nhello\r\n1;a=b\n \n006 \r\nworld!\r\n0\r\nA: b\r\n\r\nnext";
	struct http_body b = { .state = HTTP_BODY_CHUNK_SIZE };

	for (size_t step = 1; step < sizeof(text); step++) {
		size_t used;
		autofree char *out = decode(b, text, step, &used);

		assert_string_equal(out, "hello world!");
		assert_int_equal(used, strlen(text) - 4);
	}
}

static void test_malformed_chunks(void **state)
{
	static const char *const cases[] = {
		"x\r\n",
		"\r\n",
		";a\r\n",
		"5\r\nhelloX\r\n",
		"5\r\nhello\r\r\n",
		"-1\r\n",
		"fffffffffffffffff\r\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_body b = { .state = HTTP_BODY_CHUNK_SIZE };
		size_t used;

		assert_null(decode(b, cases[i], 100, &used));
	}
	/* Endless extensions and trailers. */
	for (int i = 0; i < 2; i++) {
		struct http_body b = { .state = HTTP_BODY_CHUNK_SIZE };
		autofree char *text = xmalloc(20000);
		size_t used;

		memset(text, 'a', 19999);
		text[19999] = '\0';
		memcpy(text, i ? "0\r\n" : "1;a", 3);
		assert_null(decode(b, text, 100, &used));
	}
}

static void test_length(void **state)
{
	struct http_head h = { .content_length = 3 };
	struct http_body b;
	size_t used;

	http_body_init(&b, &h);
	autofree char *out = decode(b, "abcdef", 2, &used);
	assert_string_equal(out, "abc");
	assert_int_equal(used, 3);
	h.content_length = 0;
	http_body_init(&b, &h);
	assert_int_equal(b.state, HTTP_BODY_END);
}

static void test_percent(void **state)
{
	char ok[] = "a%2Fb+c%20", plus[] = "a+b%2b";
	char bad[][8] = { "%", "%2", "%zz", "%00", "a%2" };

	assert_int_equal(http_percent_decode(ok, false), 0);
	assert_string_equal(ok, "a/b+c ");
	assert_int_equal(http_percent_decode(plus, true), 0);
	assert_string_equal(plus, "a b+");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(http_percent_decode(bad[i], true), -EINVAL);
}

static void test_match(void **state)
{
	static const struct {
		const char *pattern, *path, *value; /* value NULL: no match */
	} cases[] = {
		{ "/_ping", "/_ping", "" },
		{ "/_ping", "/_pin", NULL },
		{ "/_ping", "/_ping/", NULL },
		{ "/containers/{id}/json", "/containers/abc/json", "abc" },
		{ "/containers/{id}/json", "/containers//json", NULL },
		{ "/containers/{id}/json", "/containers/a/b/json", NULL },
		{ "/containers/{id}", "/containers/abc", "abc" },
		{ "/images/{name...}/json", "/images/a/b:c/json", "a/b:c" },
		{ "/images/{name...}/json", "/images/json/json/json", "json/json" },
		{ "/images/{name...}/json", "/images/json", NULL },
		{ "/images/{name...}", "/images/localhost:5000/x@sha256:1",
		  "localhost:5000/x@sha256:1" },
		{ "/a/{x}.{y}", "/a/b.c", "b" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_request r = { .arena = ARENA_INIT };
		bool match = http_route_match(cases[i].pattern, cases[i].path, &r);

		assert_int_equal(match, cases[i].value != NULL);
		if (match && r.n_params)
			assert_string_equal(r.params[0].value, cases[i].value);
		if (!match)
			assert_int_equal(r.n_params, 0);
		arena_done(&r.arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_refused_heads),
		cmocka_unit_test(test_too_many_fields),
		cmocka_unit_test(test_head_end_is_incremental),
		cmocka_unit_test(test_chunked),
		cmocka_unit_test(test_malformed_chunks),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_percent),
		cmocka_unit_test(test_match),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
