/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "image/credentials.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* "user:pass", "helper:name", "token:x", "registry:x", "none" or "error" */
static char *find(const char *text, const char *host)
{
	autojson struct json *j = json_parse(text, strlen(text), 1 << 20, NULL);
	CLEANUP(registry_auth_done) struct registry_auth a = { 0 };
	autofree char *helper = NULL;

	assert_non_null(j);
	if (credentials_find(j, host, &a, &helper, NULL) < 0)
		return xstrdup("error");
	if (helper)
		return xasprintf("helper:%s", helper);
	if (a.identity_token)
		return xasprintf("token:%s", a.identity_token);
	if (a.registry_token)
		return xasprintf("registry:%s", a.registry_token);
	return a.username ? xasprintf("%s:%s", a.username, a.password) : xstrdup("none");
}

static void check(const char *text, const char *host, const char *want)
{
	autofree char *got = find(text, host);

	assert_string_equal(got, want);
}

static void test_auths(void **state)
{
	static const char text[] =
		"{\"auths\":{"
		"\"https://index.docker.io/v1/\":{\"auth\":\"aHViOnA6cQ==\"},"
		"\"https://old.example/v2/\":{\"username\":\"u\",\"password\":\"p\"},"
		"\"ghcr.io\":{\"auth\":\"\",\"identitytoken\":\"id\"},"
		"\"r.example:5000\":{\"registrytoken\":\"rt\"},"
		"\"nul.example\":{\"auth\":\"dTpwAAA=\"},"
		"\"bad.example\":{\"auth\":\"!\"},\"bad2.example\":{\"auth\":\"YWJj\"}}}";

	check(text, "docker.io", "hub:p:q");
	check(text, "registry-1.docker.io", "hub:p:q");
	check(text, "old.example", "u:p");
	check(text, "old.example:443", "u:p");
	check(text, "ghcr.io", "token:id");
	check(text, "r.example:5000", "registry:rt");
	check(text, "r.example", "none");
	check(text, "nul.example", "u:p");
	check(text, "bad.example", "error");
	check(text, "bad2.example", "error");
	check("{}", "ghcr.io", "none");
	check("{\"auths\":[]}", "ghcr.io", "none");
	check("{\"auths\":{\"ghcr.io\":1}}", "ghcr.io", "none");
	check("[]", "ghcr.io", "none");
}

static void test_helpers(void **state)
{
	static const char text[] =
		"{\"credsStore\":\"store\",\"credHelpers\":{\"gcr.io\":\"gcloud\"},"
		"\"auths\":{\"gcr.io\":{\"auth\":\"dTpw\"}}}";

	check(text, "gcr.io", "helper:gcloud");
	check(text, "ghcr.io", "helper:store");
	check("{\"credsStore\":\"../evil\"}", "ghcr.io", "error");
	check("{\"credsStore\":\"a b\"}", "ghcr.io", "error");
	check("{\"credsStore\":\"a;b\"}", "ghcr.io", "error");
	check("{\"credsStore\":\"\"}", "ghcr.io", "none");
}

static void test_reply(void **state)
{
	CLEANUP(registry_auth_done) struct registry_auth a = { 0 };
	CLEANUP(registry_auth_done) struct registry_auth b = { 0 };
	static const char user[] = "{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"s\"}";
	static const char token[] = "{\"Username\":\"<token>\",\"Secret\":\"s\"}";

	assert_int_equal(credentials_parse_reply(user, strlen(user), &a, NULL), 0);
	assert_string_equal(a.username, "u");
	assert_string_equal(a.password, "s");
	assert_int_equal(credentials_parse_reply(token, strlen(token), &b, NULL), 0);
	assert_string_equal(b.identity_token, "s");
	assert_null(b.username);
	assert_int_equal(credentials_parse_reply("{}", 2, &b, NULL), -1);
	assert_int_equal(credentials_parse_reply("x", 1, &b, NULL), -1);
}

static void put(const char *dir, const char *name, const char *text, mode_t mode)
{
	autofree char *path = path_join(dir, name, NULL);

	assert_int_equal(fs_write_atomic(AT_FDCWD, path, text, strlen(text), mode, false), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void test_load(void **state)
{
	char dir[] = "/tmp/test-credentials-XXXXXX";
	autofree char *path = NULL;
	CLEANUP(registry_auth_done) struct registry_auth a = { 0 };
	CLEANUP(registry_auth_done) struct registry_auth none = { 0 };
	autoerror struct error err = ERROR_INIT;

	assert_non_null(mkdtemp(dir));
	path = xasprintf("%s:%s", dir, getenv("PATH"));
	setenv("PATH", path, 1);
	setenv("DOCKER_CONFIG", dir, 1);
	unsetenv("DOCKER_AUTH_CONFIG");
	assert_int_equal(credentials_load("ghcr.io", &none, NULL), 0);
	assert_null(none.username);

	put(dir, "config.json", "{\"credsStore\":\"fake\"}", 0600);
	put(dir, "docker-credential-fake",
	    "#!/bin/sh\nread server\n"
	    "case $server in\n"
	    "https://index.docker.io/v1/) echo '{\"Username\":\"hub\",\"Secret\":\"s\"}';;\n"
	    "absent) echo 'credentials not found in native keychain'; exit 1;;\n"
	    "*) exit 3;;\nesac\n",
	    0755);
	assert_int_equal(credentials_load("registry-1.docker.io", &a, NULL), 0);
	assert_string_equal(a.username, "hub");
	assert_int_equal(credentials_load("absent", &none, NULL), 0);
	assert_null(none.username);
	assert_int_equal(credentials_load("broken", &none, &err), -1);
	assert_non_null(strstr(error_msg(&err), "exit status 3"));
	put(dir, "config.json", "{\"credsStore\":\"absent\"}", 0600);
	assert_int_equal(credentials_load("ghcr.io", &none, &err), -1);
	put(dir, "config.json", "{", 0600);
	assert_int_equal(credentials_load("ghcr.io", &none, &err), -1);
	assert_non_null(strstr(error_msg(&err), "config.json"));
	assert_int_equal(fs_remove_tree(AT_FDCWD, dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_auths),
		cmocka_unit_test(test_helpers),
		cmocka_unit_test(test_reply),
		cmocka_unit_test(test_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
