/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/change.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define START "{\"Env\":[\"A=1\",\"PATH=/bin\"],\"WorkingDir\":\"/w\"}"

/* What the configuration is after the change, or the error. malloc'ed. */
static char *after(const char *text)
{
	autoerror struct error err = ERROR_INIT;
	autojson struct json *j = json_parse(START, strlen(START), 1 << 16, NULL);

	if (change_apply(j, text, &err) < 0) {
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
		return xstrdup(error_msg(&err));
	}
	json_del(j, strstr(text, "ENV") ? "none" : "Env");
	json_del(j, strstr(text, "WORKDIR") ? "none" : "WorkingDir");
	return json_format(j, false);
}

static void test_changes(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "CMD echo hi", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"echo hi\"]}" },
		{ "cmd [\"echo\", \"hi\"]", "{\"Cmd\":[\"echo\",\"hi\"]}" },
		{ "CMD [broken", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"[broken\"]}" },
		{ "ENTRYPOINT [\"/x\"]", "{\"Entrypoint\":[\"/x\"]}" },
		{ "SHELL [\"/bin/bash\",\"-c\"]\nCMD x",
		  "{\"Shell\":[\"/bin/bash\",\"-c\"],\"Cmd\":[\"/bin/bash\",\"-c\",\"x\"]}" },
		{ "USER ${A:-no}:$A", "{\"User\":\"1:1\"}" },
		{ "USER ${B:-$PATH}", "{\"User\":\"/bin\"}" },
		{ "USER ${A:+yes}${B:+no}", "{\"User\":\"yes\"}" },
		{ "USER \\$A", "{\"User\":\"$A\"}" },
		{ "USER '$A'", "{\"User\":\"$A\"}" },
		{ "WORKDIR a/../b/./c", "{\"WorkingDir\":\"/w/b/c\"}" },
		{ "WORKDIR /../..", "{\"WorkingDir\":\"/\"}" },
		{ "EXPOSE 80 53/udp 8000-8001/TCP", "{\"ExposedPorts\":{\"80/tcp\":{},\"53/"
						    "udp\":{},\"8000/tcp\":{},\"8001/tcp\":{}}}" },
		{ "VOLUME /a /b", "{\"Volumes\":{\"/a\":{},\"/b\":{}}}" },
		{ "VOLUME [\"/a b\"]", "{\"Volumes\":{\"/a b\":{}}}" },
		{ "LABEL a=b \"c d\"='e f' g=\"h $A\"",
		  "{\"Labels\":{\"a\":\"b\",\"c d\":\"e f\",\"g\":\"h 1\"}}" },
		{ "LABEL key the rest", "{\"Labels\":{\"key\":\"the rest\"}}" },
		{ "STOPSIGNAL SIGINT", "{\"StopSignal\":\"SIGINT\"}" },
		{ "ONBUILD RUN x\n# a comment\n\nONBUILD RUN y",
		  "{\"OnBuild\":[\"RUN x\",\"RUN y\"]}" },
		{ "HEALTHCHECK NONE", "{\"Healthcheck\":{\"Test\":[\"NONE\"]}}" },
		{ "HEALTHCHECK --interval=2s --retries=3 CMD true",
		  "{\"Healthcheck\":{\"Test\":[\"CMD-SHELL\",\"true\"],\"Interval\":2000000000,"
		  "\"Retries\":3}}" },
		{ "HEALTHCHECK CMD [\"a\"]", "{\"Healthcheck\":{\"Test\":[\"CMD\",\"a\"]}}" },
		{ "RUN x", "run is not a valid change command" },
		{ "FOO x", "foo is not a valid change command" },
		{ "CMD", "CMD requires at least one argument" },
		{ "EXPOSE x", "Invalid containerPort: x" },
		{ "EXPOSE 0", "Invalid containerPort: 0" },
		{ "EXPOSE 1/foo", "Invalid proto: foo" },
		{ "USER a b", "USER requires exactly one argument" },
		{ "USER \"a", "USER has an unterminated quote" },
		{ "USER ${A", "USER has an unterminated substitution" },
		{ "LABEL a=b c",
		  "Syntax error - can't find = in \"c\". Must be of the form: name=value" },
		{ "HEALTHCHECK --foo=1 CMD x", "unknown flag: --foo=1" },
		{ "ONBUILD ONBUILD x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *got = after(cases[i].text);

		assert_string_equal(got, cases[i].want);
	}
}

static void test_env(void **state)
{
	autofree char *a = after("ENV A=2 B=$A C=\"x y\"\nENV D the $PATH");

	(void)state;
	assert_string_equal(a,
			    "{\"Env\":[\"A=2\",\"PATH=/bin\",\"B=1\",\"C=x y\",\"D=the /bin\"]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_env),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
