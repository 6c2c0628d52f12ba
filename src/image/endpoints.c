/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers have no file system and no environment: certificates are read here, as are credentials
 * and proxy settings. Only public parts and those that belong to a host are handed on.
 */
#include "image/endpoints.h"

#include "base/fs.h"
#include "base/mem.h"
#include "image/credentials.h"
#include "image/hosts.h"

#include <fcntl.h>

#define PEM_MAX (64 << 10)

static int add_file(struct json *j, const char *key, const struct strv *files, struct error *err)
{
	autobuf struct buf pem = BUF_INIT(PEM_MAX);

	for (size_t i = 0; i < files->n; i++) {
		int r = fs_read(AT_FDCWD, files->v[i], &pem);

		if (r < 0)
			return error_errno(err, -r, "read '%s'", files->v[i]);
		buf_putc(&pem, '\n');
	}
	if (pem.overflow)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "certificates are larger than %d bytes", PEM_MAX);
	if (pem.len > 0)
		json_set_string(j, key, pem.data);
	return 0;
}

static int add_one_file(struct json *j, const char *key, char *file, struct error *err)
{
	const struct strv one = { .v = &file, .n = file ? 1 : 0 };

	return add_file(j, key, &one, err);
}

static void add_capabilities(struct json *j, unsigned can)
{
	struct json *list = json_new_array();

	if (can & HOST_PULL)
		json_add(list, json_new_string("pull"));
	if (can & HOST_RESOLVE)
		json_add(list, json_new_string("resolve"));
	if (can & HOST_PUSH)
		json_add(list, json_new_string("push"));
	json_set(j, "capabilities", list);
}

static void add_headers(struct json *j, const struct registry_host *h)
{
	struct json *list = json_new_array();

	for (size_t i = 0; i < h->header_names.n; i++) {
		struct json *pair = json_new_array();

		json_add(pair, json_new_string(h->header_names.v[i]));
		json_add(pair, json_new_string(h->header_values.v[i]));
		json_add(list, pair);
	}
	json_set(j, "headers", list);
}

static void add_auth(struct json *j, const struct registry_auth *a)
{
	struct json *auth = json_new_object();

	if (!str_empty(a->username))
		json_set_string(auth, "username", a->username);
	if (!str_empty(a->password))
		json_set_string(auth, "password", a->password);
	if (!str_empty(a->identity_token))
		json_set_string(auth, "identity_token", a->identity_token);
	if (!str_empty(a->registry_token))
		json_set_string(auth, "registry_token", a->registry_token);
	json_set(j, "auth", auth);
}

static bool is_own_host(const char *domain, const char *host)
{
	return str_equal(credentials_server(domain), credentials_server(host));
}

static struct json *endpoint(const struct registry_host *h, const char *domain,
			     const struct registry_auth *auth, struct error *err)
{
	autojson struct json *j = json_new_object();
	CLEANUP(registry_auth_done) struct registry_auth own = { 0 };

	json_set_string(j, "url", h->url);
	json_set_string(j, "host", h->host);
	json_set_string(j, "namespace", domain);
	json_set_bool(j, "skip_verify", h->skip_verify);
	if (h->dial_timeout > 0)
		json_set_int(j, "dial_timeout_ms", MAX(h->dial_timeout / NSEC_PER_MSEC, 1LL));
	add_capabilities(j, h->can);
	add_headers(j, h);
	if (add_file(j, "ca", &h->ca, err) < 0 ||
	    add_one_file(j, "client_cert", h->client_cert, err) < 0 ||
	    add_one_file(j, "client_key", h->client_key, err) < 0)
		return NULL;
	if (auth && is_own_host(domain, h->host)) {
		add_auth(j, auth);
	} else {
		if (credentials_load(h->host, &own, err) < 0)
			return NULL;
		add_auth(j, &own);
	}
	return TAKE_PTR(j);
}

static void add_proxy(struct json *proxy, const char *key, const char *lower, const char *upper)
{
	const char *value = getenv(lower);

	if (str_empty(value) && upper)
		value = getenv(upper);
	if (!str_empty(value))
		json_set_string(proxy, key, value);
}

struct json *endpoints_message(struct image_service *s, const char *op, const char *domain,
			       const char *ref, const struct registry_auth *auth, struct error *err)
{
	autojson struct json *j = json_new_object();
	autohosts struct registry_hosts hosts = REGISTRY_HOSTS_INIT;
	struct json *list = json_new_array();
	struct json *proxy = json_new_object();

	json_set_string(j, "op", op);
	if (ref)
		json_set_string(j, "ref", ref);
	json_set(j, "endpoints", list);
	json_set_int(j, "parallel", s->max_downloads);
	json_set_int(j, "stall_timeout_ms", s->stall_ms);
	/* HTTP_PROXY in capitals could come from a CGI request's header; curl ignores it too. */
	add_proxy(proxy, "http", "http_proxy", NULL);
	add_proxy(proxy, "https", "https_proxy", "HTTPS_PROXY");
	add_proxy(proxy, "no", "no_proxy", "NO_PROXY");
	json_set(j, "proxy", proxy);
	if (hosts_load(&s->hosts_dirs, domain, &s->insecure, &hosts, err) < 0)
		return NULL;
	for (size_t i = 0; i < hosts.n; i++) {
		struct json *e = endpoint(&hosts.v[i], domain, auth, err);

		if (!e)
			return NULL;
		json_add(list, e);
	}
	return TAKE_PTR(j);
}
