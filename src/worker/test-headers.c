/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/time.h"
#include "worker/headers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define T0 (1700000000LL * NSEC_PER_SEC) /* Tue, 14 Nov 2023 22:13:20 GMT */

static void test_retry_after(void **state)
{
	assert_int_equal(header_retry_after(NULL, T0), 0);
	assert_int_equal(header_retry_after("7", T0), 7 * NSEC_PER_SEC);
	assert_int_equal(header_retry_after(" 7 ", T0), 7 * NSEC_PER_SEC);
	assert_int_equal(header_retry_after("Tue, 14 Nov 2023 22:13:50 GMT", T0),
			 30 * NSEC_PER_SEC);
	assert_int_equal(header_retry_after("Tue, 14 Nov 2023 22:13:10 GMT", T0), 0);
	assert_int_equal(header_retry_after("soon", T0), 0);
	assert_int_equal(header_retry_after("7s", T0), 0);
	assert_int_equal(header_retry_after("-1", T0), 0);
	assert_int_equal(header_retry_after("99999999999999999999999", T0), 0);
	assert_true(header_retry_after("9999999999", T0) > 0);
}

static void test_content_range(void **state)
{
	static const char *const bad[] = {
		"",
		"bytes",
		"bytes 1-",
		"bytes 2-1/9",
		"bytes 0-9/9",
		"bytes 0-9",
		"items 0-1/2",
		"bytes 0-1/2x",
		"bytes -1/2",
		"bytes 0-99999999999999999999/*",
		"bytes */5",
	};
	int64_t a, b, t;

	assert_int_equal(header_content_range("bytes 5-9/10", &a, &b, &t), 0);
	assert_true(a == 5 && b == 9 && t == 10);
	assert_int_equal(header_content_range("Bytes 0-0/*", &a, &b, &t), 0);
	assert_true(a == 0 && b == 0 && t == -1);
	assert_int_equal(header_content_range(NULL, &a, &b, &t), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(header_content_range(bad[i], &a, &b, &t), -EINVAL);
}

static void test_upload_range(void **state)
{
	int64_t have;

	assert_int_equal(header_upload_range("0-1023", &have), 0);
	assert_int_equal(have, 1024);
	assert_int_equal(header_upload_range("bytes=0-9", &have), 0);
	assert_int_equal(have, 10);
	assert_int_equal(header_upload_range("0-0", &have), 0);
	assert_int_equal(have, 0);
	assert_int_equal(header_upload_range("1-2", &have), -EINVAL);
	assert_int_equal(header_upload_range("x", &have), -EINVAL);
	assert_int_equal(header_upload_range(NULL, &have), -EINVAL);
	assert_int_equal(header_upload_range("0-9223372036854775807", &have), -EINVAL);
}

static void check_link(const char *value, const char *want)
{
	autofree char *got = header_link_next(value);

	if (want)
		assert_string_equal(got, want);
	else
		assert_null(got);
}

static void test_link(void **state)
{
	check_link("</v2/x/tags/list?n=1&last=a>; rel=\"next\"", "/v2/x/tags/list?n=1&last=a");
	check_link("<a>; rel=prev, <b>; title=\"x, <c>\"; rel=next", "b");
	check_link("<a>; rel=\"prev next\"", NULL); /* nobody sends lists */
	check_link("<a>; rel=nextish", NULL);
	check_link("<a; rel=next", NULL);
	check_link("", NULL);
	check_link(NULL, NULL);
}

static void check_resolve(const char *base, const char *location, const char *want)
{
	autofree char *got = url_resolve(base, location);

	if (want)
		assert_string_equal(got, want);
	else
		assert_null(got);
}

static void test_resolve(void **state)
{
	const char *base = "https://r.example:5000/v2/x/blobs/uploads/";

	check_resolve(base, "/v2/x/blobs/uploads/id?_state=a%3D",
		      "https://r.example:5000/v2/x/blobs/"
		      "uploads/id?_state=a%3D");
	check_resolve(base, "id", "https://r.example:5000/v2/x/blobs/uploads/id");
	check_resolve(base, "//other/y", "https://other/y");
	check_resolve(base, "http://other/y#f", "http://other/y");
	check_resolve(base, "https://user:pw@other/y", "https://other/y");
	check_resolve(base, "file:///etc/passwd", NULL);
	check_resolve(base, "ftp://x/y", NULL);
	check_resolve(base, "gopher://x/y", NULL);
	check_resolve(base, "dict://x:1/y", NULL);
	check_resolve(base, "javascript:alert(1)", NULL);
	check_resolve("nonsense\n", "x", NULL);
	check_resolve(base, "https://a b/", NULL);
}

static void check_origin(const char *url, const char *want)
{
	autofree char *got = url_origin(url);

	assert_string_equal(got, want);
}

static void test_origin(void **state)
{
	check_origin("https://Example.COM/x", "https://example.com:443");
	check_origin("http://example.com/x", "http://example.com:80");
	check_origin("https://example.com:5000", "https://example.com:5000");
	check_origin("https://[::1]:5000/v2", "https://[::1]:5000");
	assert_null(url_origin("::"));
}

static void test_texts(void **state)
{
	autofree char *public = url_public("https://s3/x?X-Amz-Signature=secret#f");
	autofree char *with = url_with_query("http://h/x?a=b", "ns", "docker.io/&=");
	autofree char *type = header_media_type("Application/JSON; charset=utf-8");
	char text[] = "a\x1b[31mb\r\nc\xc2\x9bz";
	char cut[] = "ab\xc3\xa4";

	assert_string_equal(public, "https://s3/x");
	assert_string_equal(with, "http://h/x?a=b&ns=docker.io%2F%26%3D");
	assert_string_equal(type, "application/json");
	text_clean(text, 100);
	assert_string_equal(text, "a [31mb  c  z");
	text_clean(cut, 3);
	assert_string_equal(cut, "ab");
	assert_false(header_value_valid("a\r\nb"));
	assert_true(header_value_valid("a b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_retry_after),  cmocka_unit_test(test_content_range),
		cmocka_unit_test(test_upload_range), cmocka_unit_test(test_link),
		cmocka_unit_test(test_resolve),	     cmocka_unit_test(test_origin),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
