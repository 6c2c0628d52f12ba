/* SPDX-License-Identifier: Apache-2.0 */
#include "image/credentials.h"

#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/process.h"

#include <fcntl.h>
#include <string.h>

#define HUB_SERVER "https://index.docker.io/v1/"
#define SECRET_MAX (64 << 10)
#define HELPER_TIMEOUT_MS 30000
#define NOT_FOUND_TEXT "credentials not found in native keychain"

static bool is_hub(const char *host)
{
	return str_equal(host, "docker.io") || str_equal(host, "index.docker.io") ||
	       str_equal(host, "registry-1.docker.io");
}

const char *credentials_server(const char *host)
{
	return is_hub(host) ? HUB_SERVER : host;
}

/* "https://ghcr.io/v2/" -> "ghcr.io"; ":443" says nothing. */
static char *key_host(const char *key)
{
	const char *scheme = strstr(key, "://");
	const char *start = scheme ? scheme + 3 : key;
	char *host = xstrndup(start, strcspn(start, "/"));
	size_t n = strlen(host);

	if (n > 4 && str_equal(host + n - 4, ":443"))
		host[n - 4] = '\0';
	return host;
}

static bool key_matches(const char *key, const char *host)
{
	autofree char *a = key_host(key);
	autofree char *b = key_host(host);

	return str_equal(a, b) || (is_hub(a) && is_hub(b));
}

struct search {
	const char *host;
	struct json *found;
};

static int match_entry(const char *key, struct json *value, void *arg)
{
	struct search *s = arg;

	if (!key_matches(key, s->host))
		return 0;
	s->found = value;
	return 1;
}

/* The exact key, or else one whose host is the same. */
static struct json *find_entry(const struct json *table, const char *host)
{
	struct search s = { .host = host };

	if (json_type(table) != JSON_OBJECT)
		return NULL;
	s.found = json_get(table, credentials_server(host));
	if (!s.found)
		(void)json_object_each(table, match_entry, &s);
	return s.found;
}

static bool helper_valid(const char *name)
{
	static const char good[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

	return *name && strlen(name) <= 64 && strspn(name, good) == strlen(name);
}

static int decode_auth(const char *auth, struct registry_auth *ret, struct error *err)
{
	autobuf struct buf plain = BUF_INIT(SECRET_MAX);
	char *colon;

	if (base64_decode(auth, strlen(auth), &plain) < 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "'auth' is no base64");
	while (plain.len > 0 && plain.data[plain.len - 1] == '\0')
		plain.data[--plain.len] = '\0';
	colon = memchr(plain.data, ':', plain.len);
	if (!colon || memchr(plain.data, '\0', plain.len))
		return error_set(err, ERROR_FAILED_PRECONDITION, "'auth' is no user:password");
	*colon = '\0';
	ret->username = xstrdup(plain.data);
	ret->password = xstrdup(colon + 1);
	return 0;
}

static int decode_entry(const struct json *entry, struct registry_auth *ret, struct error *err)
{
	const char *auth = json_get_string(entry, "auth");
	const char *identity = json_get_string(entry, "identitytoken");
	const char *registry = json_get_string(entry, "registrytoken");

	if (!str_empty(auth)) {
		if (decode_auth(auth, ret, err) < 0)
			return -1;
	} else {
		ret->username = xstrdup(json_get_string(entry, "username"));
		ret->password = xstrdup(json_get_string(entry, "password"));
	}
	ret->identity_token = str_empty(identity) ? NULL : xstrdup(identity);
	ret->registry_token = str_empty(registry) ? NULL : xstrdup(registry);
	return 0;
}

int credentials_find(const struct json *config, const char *host, struct registry_auth *ret,
		     char **ret_helper, struct error *err)
{
	const char *helper = json_string(find_entry(json_get(config, "credHelpers"), host));
	const struct json *entry;

	if (str_empty(helper))
		helper = json_get_string(config, "credsStore");
	*ret_helper = NULL;
	if (!str_empty(helper)) {
		if (!helper_valid(helper))
			return error_set(err, ERROR_FAILED_PRECONDITION,
					 "invalid name of a credential helper for '%s'", host);
		*ret_helper = xstrdup(helper);
		return 0;
	}
	entry = find_entry(json_get(config, "auths"), host);
	if (entry && decode_entry(entry, ret, err) < 0) {
		registry_auth_done(ret);
		return error_wrap(err, "credentials of '%s'", host);
	}
	return 0;
}

int credentials_parse_reply(const char *text, size_t len, struct registry_auth *ret,
			    struct error *err)
{
	autojson struct json *j = json_parse(text, len, SECRET_MAX, err);
	const char *user = json_get_string(j, "Username");
	const char *secret = json_get_string(j, "Secret");

	if (!j)
		return -1;
	if (!user || !secret)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "no Username and Secret in the reply");
	if (str_equal(user, "<token>")) {
		ret->identity_token = xstrdup(secret);
	} else {
		ret->username = xstrdup(user);
		ret->password = xstrdup(secret);
	}
	return 0;
}

static int ask_helper(const char *helper, const char *host, struct registry_auth *ret,
		      struct error *err)
{
	autofree char *program = xasprintf("docker-credential-%s", helper);
	char *const argv[] = { program, (char *)"get", NULL };
	const struct process_spec spec = { .path = program, .argv = argv };
	autobuf struct buf out = BUF_INIT(SECRET_MAX);
	autobuf struct buf errout = BUF_INIT(4096);
	const char *server = credentials_server(host);
	int status;

	for (const char *c = server; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			return error_set(err, ERROR_INVALID_ARGUMENT, "invalid host name");
	if (process_run(&spec, server, strlen(server), &out, &errout, HELPER_TIMEOUT_MS, &status,
			err) < 0)
		return error_wrap(err, "credential helper '%s'", helper);
	if (status != 0 && strstr(out.data, NOT_FOUND_TEXT))
		return 0; /* anonymous, then */
	if (status != 0) {
		autofree char *how = process_status_string(status);

		return error_set(err, ERROR_FAILED_PRECONDITION, "credential helper '%s': %s",
				 helper, how);
	}
	if (credentials_parse_reply(out.data, out.len, ret, err) < 0)
		return error_wrap(err, "credential helper '%s'", helper);
	return 0;
}

static int load_config(struct json **ret, struct error *err)
{
	const char *text = getenv("DOCKER_AUTH_CONFIG");
	const char *dir = getenv("DOCKER_CONFIG");
	const char *home = getenv("HOME");
	autofree char *path = NULL;
	autoerror struct error why = ERROR_INIT;

	*ret = NULL;
	if (!str_empty(text)) {
		*ret = json_parse(text, strlen(text), CREDENTIALS_CONFIG_MAX, err);
		return *ret ? 0 : error_wrap(err, "$DOCKER_AUTH_CONFIG");
	}
	if (!str_empty(dir))
		path = path_join(dir, "config.json", NULL);
	else if (!str_empty(home))
		path = path_join(home, ".docker", "config.json", NULL);
	else
		path = xstrdup("/root/.docker/config.json");
	*ret = json_load_at(AT_FDCWD, path, CREDENTIALS_CONFIG_MAX, &why);
	if (*ret || why.code == ERROR_NOT_FOUND)
		return 0;
	error_move(err, &why);
	return error_wrap(err, "'%s'", path);
}

int credentials_load(const char *host, struct registry_auth *ret, struct error *err)
{
	autojson struct json *config = NULL;
	autofree char *helper = NULL;

	if (load_config(&config, err) < 0)
		return -1;
	if (!config)
		return 0;
	if (credentials_find(config, host, ret, &helper, err) < 0)
		return -1;
	return helper ? ask_helper(helper, host, ret, err) : 0;
}
