/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/auth.h"
#include "cli/format.h"
#include "cli/ports.h"
#include "cli/progress.h"
#include "cli/stream.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

#define CHECK(call, expect)                      \
	do {                                     \
		autofree char *s_ = call;        \
		assert_string_equal(s_, expect); \
	} while (0)

static void test_units(void **state)
{
	CHECK(human_size(0, 3), "0B");
	CHECK(human_size(999, 3), "999B");
	CHECK(human_size(4261574, 3), "4.26MB");
	CHECK(human_size(1e21, 4), "1000EB");
	CHECK(human_bytes(1536), "1.5KiB");
	CHECK(human_duration(0), "Less than a second");
	CHECK(human_duration(1), "1 second");
	CHECK(human_duration(59), "59 seconds");
	CHECK(human_duration(60), "About a minute");
	CHECK(human_duration(150), "2 minutes");
	CHECK(human_duration(3600), "About an hour");
	CHECK(human_duration(3600 * 47), "47 hours");
	CHECK(human_duration(3600 * 24 * 3), "3 days");
	CHECK(human_duration(3600 * 24 * 20), "2 weeks");
	CHECK(human_duration(3600 * 24 * 100), "3 months");
	CHECK(human_duration(3600LL * 24 * 1000), "2 years");
}

static void test_text(void **state)
{
	CHECK(format_short_id("sha256:0123456789abcdef"), "0123456789ab");
	CHECK(format_short_id("0123"), "0123");
	CHECK(format_ellipsis("abcdef", 6), "abcdef");
	CHECK(format_ellipsis("abcdefg", 6), "abcde…");
	CHECK(format_ellipsis("äöüäöüä", 6), "äöüäö…");
	CHECK(format_quote("a\"b\\\n\x01"), "\"a\\\"b\\\\\\n\\x01\"");
}

static void test_table(void **state)
{
	autobuf struct buf b = BUF_INIT(1000);

	format_table("A\tBB\tC\nlonger than ten\t…\tx\n", &b);
	assert_string_equal(b.data,
			    "A                 BB        C\nlonger than ten   …         x\n");
	buf_clear(&b);
	format_table("", &b);
	assert_string_equal(b.data, "");
}

static void test_indent(void **state)
{
	autobuf struct buf b = BUF_INIT(1000);

	format_indent("[{\"a\":[],\"b\":{ },\"c\":[1,\"x{\\\"\"]}]", &b);
	assert_string_equal(b.data,
			    "[\n    {\n        \"a\": [],\n        \"b\": {},\n        \"c\": [\n"
			    "            1,\n            \"x{\\\"\"\n        ]\n    }\n]\n");
}

static void test_ports(void **state)
{
	static const char text[] =
		"[{\"IP\":\"0.0.0.0\",\"PrivatePort\":81,\"PublicPort\":8001,\"Type\":\"tcp\"},"
		"{\"IP\":\"::\",\"PrivatePort\":80,\"PublicPort\":8000,\"Type\":\"tcp\"},"
		"{\"IP\":\"0.0.0.0\",\"PrivatePort\":80,\"PublicPort\":8000,\"Type\":\"tcp\"},"
		"{\"IP\":\"::\",\"PrivatePort\":81,\"PublicPort\":8001,\"Type\":\"tcp\"},"
		"{\"PrivatePort\":90,\"Type\":\"udp\"},{\"PrivatePort\":91,\"Type\":\"udp\"}]";
	autojson struct json *j = json_parse(text, strlen(text), 10000, NULL);

	CHECK(ports_display(j),
	      "0.0.0.0:8000-8001->80-81/tcp, [::]:8000-8001->80-81/tcp, 90-91/udp");
	CHECK(ports_display(NULL), "");
}

static void show(struct progress *p, const char *text, struct buf *out)
{
	autojson struct json *j = json_parse(text, strlen(text), 10000, NULL);

	assert_int_equal(progress_message(p, j, out, NULL), 0);
}

static void test_progress(void **state)
{
	autobuf struct buf out = BUF_INIT(10000);
	autoerror struct error err = ERROR_INIT;
	autojson struct json *bad = NULL;
	autoprogress struct progress p = { 0 };

	progress_init(&p, /* terminal= */ true, 120);
	show(&p, "{\"status\":\"Pulling\",\"id\":\"latest\"}", &out);
	assert_string_equal(out.data, "latest: Pulling\n");
	buf_clear(&out);
	show(&p,
	     "{\"status\":\"D\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":"
	     "\"a\\u001b\"}",
	     &out);
	assert_string_equal(out.data, "\n\x1b[1A\x1b[2K\ra: D [=========================>"
				      "                         ]       1B/2B\r\x1b[1B");
	buf_clear(&out);
	show(&p, "{\"status\":\"W\",\"progressDetail\":{},\"id\":\"b\"}", &out);
	assert_string_equal(out.data, "\n\x1b[1A\x1b[2K\rb: W \r\x1b[1B");
	progress_done(&p);
	progress_init(&p, /* terminal= */ false, 0);
	buf_clear(&out);
	show(&p, "{\"status\":\"D\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"a\"}",
	     &out);
	assert_string_equal(out.data, "");
	show(&p, "{\"status\":\"Done\",\"progressDetail\":{},\"id\":\"a\"}", &out);
	assert_string_equal(out.data, "a: Done\n");
	bad = json_parse("{\"error\":\"no\"}", 14, 100, NULL);
	assert_int_equal(progress_message(&p, bad, &out, &err), -1);
	assert_string_equal(error_msg(&err), "no");
}

static void test_demux(void **state)
{
	static const char data[] = "\1\0\0\0\0\0\0\5hello\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\3abc";

	for (size_t step = 1; step < sizeof(data); step++) {
		struct demux d = { 0 };
		struct buf out[3] = { BUF_INIT(100), BUF_INIT(100), BUF_INIT(100) };

		for (size_t at = 0; at < sizeof(data) - 1;) {
			enum stream_type type = STREAM_STDIN;
			const char *piece;
			size_t used, n;

			assert_int_equal(demux_feed(&d, data + at, MIN(step, sizeof(data) - 1 - at),
						    &used, &type, &piece, &n, NULL),
					 0);
			at += used;
			buf_append(&out[type], piece, n);
		}
		assert_string_equal(out[1].data, "hello");
		assert_string_equal(out[2].data, "abc");
		for (size_t i = 0; i < ARRAY_SIZE(out); i++)
			buf_done(&out[i]);
	}
}

static void test_demux_refuses(void **state)
{
	struct demux d = { 0 };
	enum stream_type type;
	const char *piece;
	size_t used, n;

	assert_int_equal(demux_feed(&d, "GET / HT", 8, &used, &type, &piece, &n, NULL), -1);
	d = (struct demux){ 0 };
	assert_int_equal(demux_feed(&d, "\1\0\0\0\xff\0\0\0", 8, &used, &type, &piece, &n, NULL),
			 -1);
}

static void test_detach_keys(void **state)
{
	struct detach_keys d;
	char out[64];
	bool detached;
	size_t n;

	assert_int_equal(detach_keys_parse(NULL, &d, NULL), 0);
	n = detach_keys_filter(&d, "a\x10", 2, out, &detached);
	assert_int_equal(n, 1);
	n = detach_keys_filter(&d, "b", 1, out, &detached);
	assert_memory_equal(out,
			    "\x10"
			    "b",
			    2);
	assert_int_equal(n, 2);
	n = detach_keys_filter(&d, "\x10\x10\x11zzz", 6, out, &detached);
	assert_true(detached);
	assert_int_equal(n, 1);
	assert_int_equal(detach_keys_parse("ctrl-a,x,ctrl-]", &d, NULL), 0);
	assert_int_equal(d.n, 3);
	assert_int_equal(d.keys[2], 29);
	assert_int_equal(detach_keys_parse("ctrl-", &d, NULL), -1);
	assert_int_equal(detach_keys_parse("foo", &d, NULL), -1);
	assert_int_equal(detach_keys_parse("ctrl-1", &d, NULL), -1);
}

static void test_auth(void **state)
{
	autocredentials struct credentials c = { 0 };

	assert_int_equal(auth_decode("bWU6YTpi", &c), 0);
	assert_string_equal(c.username, "me");
	assert_string_equal(c.password, "a:b");
	assert_int_equal(auth_decode("!!", &c), -EINVAL);
	assert_int_equal(auth_decode("bWU=", &c), -EINVAL);
	assert_string_equal(auth_key("docker.io"), AUTH_HUB);
	assert_string_equal(auth_key("localhost:5000"), "localhost:5000");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_units), cmocka_unit_test(test_text),
		cmocka_unit_test(test_table), cmocka_unit_test(test_indent),
		cmocka_unit_test(test_ports), cmocka_unit_test(test_progress),
		cmocka_unit_test(test_demux), cmocka_unit_test(test_demux_refuses),
		cmocka_unit_test(test_auth),  cmocka_unit_test(test_detach_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
