/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log-options.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* "k=v&k2=v2" */
static struct kvs options(const char *text)
{
	autostrv struct strv pairs = STRV_INIT;
	struct kvs k = KVS_INIT;

	strv_split(&pairs, text, "&");
	for (size_t i = 0; i < pairs.n; i++) {
		char *eq = strchr(pairs.v[i], '=');

		if (!eq)
			continue;
		*eq = '\0';
		kvs_set(&k, pairs.v[i], eq + 1);
	}
	return k;
}

static void test_check(void **state)
{
	static const struct {
		const char *driver, *options, *want; /* NULL: fine */
	} cases[] = {
		{ "json-file", "max-size=10m&max-file=3&labels=a&env=B&tag={{.Name}}/{{.ID}}",
		  NULL },
		{ "", "max-size=10m", NULL },
		{ "local", "max-size=1k&compress=false", NULL },
		{ "none", "whatever=1", NULL },
		{ "journald", "tag=x&labels-regex=^a&mode=non-blocking&max-buffer-size=1m", NULL },
		{ "syslog", "syslog-address=udp://1.2.3.4:514&syslog-facility=local3", NULL },
		{ "nosuch", "",
		  "error looking up logging plugin nosuch: plugin \"nosuch\" not found" },
		{ "json-file", "foo=1", "unknown log opt 'foo' for json-file log driver" },
		{ "local", "tag=1", "unknown log opt 'tag' for log driver local" },
		{ "journald", "max-size=1", "unknown log opt 'max-size' for journald log driver" },
		{ "syslog", "max-file=1", "unknown log opt 'max-file' for syslog log driver" },
		{ "json-file", "max-size=x", "invalid size: 'x'" },
		{ "json-file", "mode=x", "logger: logging mode not supported: x" },
		{ "json-file", "max-buffer-size=1m",
		  "logger: max-buffer-size option is only supported with 'mode=non-blocking'" },
		{ "syslog", "syslog-address=foo://x", "unsupported scheme: 'foo'" },
		{ "syslog", "syslog-facility=x", "invalid syslog facility" },
		{ "syslog", "syslog-format=x", "Invalid syslog format" },
		{ "json-file", "env-regex=(", "error parsing regexp for env-regex: '('" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoerror struct error err = ERROR_INIT;
		autokvs struct kvs k = options(cases[i].options);
		int r = log_options_check(cases[i].driver, &k, &err);

		assert_int_equal(r, cases[i].want ? -1 : 0);
		assert_string_equal(error_msg(&err), cases[i].want ? cases[i].want : "");
	}
}

static char *uri(const char *driver, const char *text)
{
	CLEANUP(container_config_done) struct container_config c = { 0 };
	struct log_subject s = {
		.id = "0123456789abcdef", .name = "nick", .dir = "/d", .config = &c
	};
	char *result;

	c.log_driver = xstrdup(driver);
	c.log_options = options(text);
	c.image = xstrdup("busybox");
	c.open_stdin = true;
	kvs_set(&c.labels, "com.x", "1 2");
	strv_push(&c.env, "VERSION=7");
	assert_int_equal(log_uri(&s, &result, NULL), 0);
	return result;
}

static void test_uri(void **state)
{
	static const struct {
		const char *driver, *options, *want;
	} cases[] = {
		{ "none", "", "kistl-log://?driver=none&stdin=open" },
		{ "", "", "kistl-log:///d/0123456789abcdef-json.log?driver=json-file&stdin=open" },
		{ "json-file", "max-size=1m&labels=com.x&env=VERSION&tag={{.Name}}",
		  "kistl-log:///d/0123456789abcdef-json.log?driver=json-file&stdin=open&max-size=1m"
		  "&attrs=%7b%22VERSION%22%3a%227%22%2c%22com.x%22%3a%221%202%22%2c%22tag%22%3a%22"
		  "nick%22%7d" },
		{ "local", "",
		  "kistl-log:///d/"
		  "0123456789abcdef-json.log?driver=json-file&stdin=open&max-size=20m"
		  "&max-file=5" },
		{ "syslog", "syslog-address=udp://127.0.0.1&syslog-facility=mail",
		  "kistl-log:///d/"
		  "0123456789abcdef-json.log?driver=json-file&stdin=open&max-size=20m"
		  "&max-file=5&remote=syslog&tag=0123456789ab&address=udp%3a//127.0.0.1%3a514"
		  "&facility=2" },
		{ "journald", "labels=com.x",
		  "kistl-log:///d/"
		  "0123456789abcdef-json.log?driver=json-file&stdin=open&max-size=20m"
		  "&max-file=5&remote=journald&field.CONTAINER_ID=0123456789ab"
		  "&field.CONTAINER_ID_FULL=0123456789abcdef&field.CONTAINER_NAME=nick"
		  "&field.CONTAINER_TAG=0123456789ab&field.IMAGE_NAME=busybox"
		  "&field.SYSLOG_IDENTIFIER=0123456789ab&field.COM_X=1%202" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *got = uri(cases[i].driver, cases[i].options);

		for (char *p = got; *p; p++) /* '_' is written either way */
			if (strncmp(p, "%5f", 3) == 0) {
				*p = '_';
				memmove(p + 1, p + 3, strlen(p + 3) + 1);
			}
		assert_string_equal(got, cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_uri),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
