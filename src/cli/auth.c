/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/auth.h"

#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/process.h"
#include "oci/reference.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CONFIG_MAX (1024 * 1024)
#define HELPER_TIMEOUT_MS 60000

void credentials_done(struct credentials *c)
{
	free(TAKE_PTR(c->username));
	if (c->password)
		explicit_bzero(c->password, strlen(c->password));
	free(TAKE_PTR(c->password));
	free(TAKE_PTR(c->identity_token));
}

const char *auth_key(const char *registry)
{
	static const char *const hub[] = { "docker.io", "index.docker.io", "registry-1.docker.io",
					   "" };

	for (size_t i = 0; i < ARRAY_SIZE(hub); i++)
		if (strcmp(registry, hub[i]) == 0)
			return AUTH_HUB;
	return registry;
}

char *auth_config_path(void)
{
	const char *dir = getenv("DOCKER_CONFIG");
	const char *home = getenv("HOME");

	if (!str_empty(dir))
		return path_join(dir, "config.json", NULL);
	return path_join(str_empty(home) ? "/root" : home, ".docker/config.json", NULL);
}

/* An empty object when there is no file. */
static struct json *load_config(struct error *err)
{
	autofree char *path = auth_config_path();
	autoerror struct error why = ERROR_INIT;
	struct json *j;

	j = json_load_at(AT_FDCWD, path, CONFIG_MAX, &why);
	if (!j && why.code == ERROR_NOT_FOUND)
		return json_new_object();
	if (j && json_type(j) != JSON_OBJECT) {
		json_unref(j);
		error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is not a JSON object", path);
		return NULL;
	}
	if (!j)
		error_move(err, &why);
	return j;
}

static int save_config(const struct json *config, struct error *err)
{
	autofree char *path = auth_config_path();
	autofree char *real = realpath(path, NULL); /* a symlink stays one */
	autofree char *dir = xstrdup(path);
	autofree char *text = json_format(config, /* pretty= */ true);
	char *slash = strrchr(dir, '/');
	int r = 0;

	if (slash && slash != dir) {
		*slash = '\0';
		r = fs_mkdir_p(dir, 0700);
	}
	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, real ? real : path, text, strlen(text), 0600,
				    /* sync= */ true);
	return r < 0 ? error_errno(err, -r, "write '%s'", path) : 0;
}

int auth_decode(const char *base64, struct credentials *ret)
{
	autobuf struct buf b = BUF_INIT(CONFIG_MAX);
	char *colon;

	if (base64_decode(base64, strlen(base64), &b) < 0)
		return -EINVAL;
	colon = memchr(b.data, ':', b.len);
	if (!colon)
		return -EINVAL;
	*colon = '\0';
	str_replace(&ret->username, b.data);
	str_replace(&ret->password, colon + 1);
	/* Some tools pad with NULs; the copy above ends at the first. */
	return 0;
}

/* The helper's name for a registry, borrowed from config; NULL: the file itself. */
static const char *helper_of(const struct json *config, const char *key)
{
	const char *h = json_get_string(json_get(config, "credHelpers"), key);

	if (str_empty(h))
		h = json_get_string(config, "credsStore");
	return str_empty(h) ? NULL : h;
}

/* docker-credential-NAME VERB with input; its stdout in out. NOT_FOUND: it has no such entry. */
static int run_helper(const char *helper, const char *verb, const char *input, struct buf *out,
		      struct error *err)
{
	autofree char *program = xasprintf("docker-credential-%s", helper);
	autobuf struct buf errout = BUF_INIT(64 * 1024);
	char *argv[] = { program, (char *)verb, NULL };
	struct process_spec spec = { .path = program, .argv = argv };
	int status;

	if (!path_component_valid(helper))
		return error_set(err, ERROR_INVALID_ARGUMENT, "bad credential helper '%s'", helper);
	if (process_run(&spec, input, strlen(input), out, &errout, HELPER_TIMEOUT_MS, &status,
			err) < 0)
		return error_wrap(err, "run %s", program);
	while (out->len && (out->data[out->len - 1] == '\n' || out->data[out->len - 1] == '\r'))
		out->data[--out->len] = '\0';
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (strstr(out->data, "credentials not found"))
		return error_set(err, ERROR_NOT_FOUND, "credentials not found");
	return error_set(err, ERROR_UNKNOWN, "%s %s: %s", program, verb,
			 out->len ? out->data : errout.data);
}

static int get_from_helper(const char *helper, const char *key, struct credentials *ret,
			   struct error *err)
{
	autobuf struct buf out = BUF_INIT(CONFIG_MAX);
	autoerror struct error why = ERROR_INIT;
	autojson struct json *j = NULL;
	const char *user;

	if (run_helper(helper, "get", key, &out, &why) < 0)
		return why.code == ERROR_NOT_FOUND ? 0 : error_move(err, &why);
	j = json_parse(out.data, out.len, out.max, err);
	if (!j)
		return error_wrap(err, "docker-credential-%s", helper);
	user = json_get_string(j, "Username");
	if (user && strcmp(user, "<token>") == 0) {
		ret->identity_token = xstrdup(json_get_string(j, "Secret"));
	} else {
		ret->username = xstrdup(user);
		ret->password = xstrdup(json_get_string(j, "Secret"));
	}
	return 0;
}

struct entry_search {
	const char *key;
	const struct json *found;
};

/* The host of a key like "https://host/v1/". */
static bool same_host(const char *key, const char *host)
{
	size_t n = strlen(host);

	if (str_has_prefix(key, "https://"))
		key += 8;
	else if (str_has_prefix(key, "http://"))
		key += 7;
	return strncmp(key, host, n) == 0 && (key[n] == '\0' || key[n] == '/');
}

static int match_entry(const char *key, struct json *value, void *arg)
{
	struct entry_search *s = arg;

	if (strcmp(key, s->key) != 0 && !same_host(key, s->key))
		return 0;
	s->found = value;
	return 1;
}

int auth_get(const char *registry, struct credentials *ret, struct error *err)
{
	autojson struct json *config = load_config(err);
	struct entry_search s = { .key = auth_key(registry) };
	const char *helper, *auth;

	if (!config)
		return -1;
	helper = helper_of(config, s.key);
	if (helper)
		return get_from_helper(helper, s.key, ret, err);
	json_object_each(json_get(config, "auths"), match_entry, &s);
	if (!s.found)
		return 0;
	auth = json_get_string(s.found, "auth");
	if (!str_empty(auth) && auth_decode(auth, ret) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid auth entry for '%s'", s.key);
	if (!str_empty(json_get_string(s.found, "identitytoken")))
		ret->identity_token = xstrdup(json_get_string(s.found, "identitytoken"));
	return 0;
}

static struct json *auths_of(struct json *config)
{
	struct json *auths = json_get(config, "auths");

	if (json_type(auths) != JSON_OBJECT) {
		auths = json_new_object();
		json_set(config, "auths", auths);
	}
	return auths;
}

static int store_in_helper(const char *helper, const char *key, const struct credentials *c,
			   struct error *err)
{
	autojson struct json *j = json_new_object();
	autobuf struct buf out = BUF_INIT(CONFIG_MAX);
	autofree char *text = NULL;

	json_set_string(j, "ServerURL", key);
	json_set_string(j, "Username", c->identity_token ? "<token>" : c->username);
	json_set_string(j, "Secret", c->identity_token ? c->identity_token : c->password);
	text = json_format(j, /* pretty= */ false);
	return run_helper(helper, "store", text, &out, err);
}

int auth_store(const char *registry, const struct credentials *c, bool *ret_plain,
	       struct error *err)
{
	autojson struct json *config = load_config(err);
	autobuf struct buf plain = BUF_INIT(CONFIG_MAX);
	autobuf struct buf encoded = BUF_INIT(CONFIG_MAX);
	const char *key = auth_key(registry);
	struct json *entry;
	const char *helper;

	if (!config)
		return -1;
	helper = helper_of(config, key);
	*ret_plain = !helper;
	entry = json_new_object();
	json_set(auths_of(config), key, entry);
	if (helper) {
		if (store_in_helper(helper, key, c, err) < 0)
			return -1;
		return save_config(config, err);
	}
	if (c->identity_token) {
		buf_printf(&plain, "%s:", c->username);
		json_set_string(entry, "identitytoken", c->identity_token);
	} else {
		buf_printf(&plain, "%s:%s", c->username, c->password);
	}
	base64_encode(plain.data, plain.len, &encoded);
	json_set_string(entry, "auth", encoded.data);
	return save_config(config, err);
}

int auth_erase(const char *registry, bool *ret_found, struct error *err)
{
	autojson struct json *config = load_config(err);
	autobuf struct buf out = BUF_INIT(CONFIG_MAX);
	const char *key = auth_key(registry);
	const char *helper;

	if (!config)
		return -1;
	*ret_found = json_get(json_get(config, "auths"), key);
	helper = helper_of(config, key);
	if (helper && run_helper(helper, "erase", key, &out, err) < 0)
		return -1;
	if (!*ret_found)
		return 0;
	json_del(json_get(config, "auths"), key);
	return save_config(config, err);
}

static char *encode_header(const struct credentials *c, const char *key)
{
	autojson struct json *j = json_new_object();
	struct buf b = BUF_INIT(CONFIG_MAX);
	autofree char *text = NULL;

	if (c->username)
		json_set_string(j, "username", c->username);
	if (c->password)
		json_set_string(j, "password", c->password);
	if (c->identity_token)
		json_set_string(j, "identitytoken", c->identity_token);
	json_set_string(j, "serveraddress", key);
	text = json_format(j, /* pretty= */ false);
	base64url_encode(text, strlen(text), &b);
	return buf_steal(&b, NULL);
}

char *auth_header_for_image(const char *image, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autocredentials struct credentials c = { 0 };

	if (reference_parse(image, &ref, err) < 0 || auth_get(ref.domain, &c, err) < 0)
		return NULL;
	return encode_header(&c, auth_key(ref.domain));
}
