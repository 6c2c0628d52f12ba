/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where secrets go: Authorization, the configured headers and the client certificate belong to the
 * endpoint's origin (scheme, host and port) and are sent nowhere else, whatever a redirect says.
 */
#include "worker/registry.h"

#include "base/mem.h"
#include "worker/curl.h"
#include "worker/headers.h"
#include "worker/retry.h"

#include <stdio.h>
#include <string.h>

#define PARALLEL_MAX 32

static void endpoint_done(struct endpoint *e)
{
	auth_free(e->auth);
	free(e->url);
	free(e->origin);
	free(e->host);
	free(e->ns);
	free(e->ca);
	free(e->client_cert);
	free(e->client_key);
	free(e->username);
	free(e->password);
	free(e->identity_token);
	free(e->registry_token);
	strv_done(&e->headers);
}

static int load_capabilities(struct endpoint *e, const struct json *j, struct error *err)
{
	autostrv struct strv names = STRV_INIT;

	if (json_get_strv(j, "capabilities", &names, err) < 0)
		return -1;
	if (!json_get(j, "capabilities"))
		e->can = ENDPOINT_PULL | ENDPOINT_RESOLVE | ENDPOINT_PUSH;
	for (size_t i = 0; i < names.n; i++)
		e->can |= str_equal(names.v[i], "pull")	     ? ENDPOINT_PULL
			  : str_equal(names.v[i], "resolve") ? ENDPOINT_RESOLVE
			  : str_equal(names.v[i], "push")    ? ENDPOINT_PUSH
							     : 0;
	return 0;
}

static int load_headers(struct endpoint *e, const struct json *j, struct error *err)
{
	const struct json *list = json_get(j, "headers");

	for (size_t i = 0; i < json_array_len(list); i++) {
		const char *name = json_string(json_array_get(json_array_get(list, i), 0));
		const char *value = json_string(json_array_get(json_array_get(list, i), 1));

		if (str_empty(name) || !value || strpbrk(name, ": \t") ||
		    !header_value_valid(name) || !header_value_valid(value))
			return error_set(err, ERROR_INVALID_ARGUMENT, "header %zu of '%s'", i,
					 e->url);
		strv_push_printf(&e->headers, "%s: %s", name, value);
	}
	return 0;
}

static void load_auth(struct endpoint *e, const struct json *auth)
{
	e->username = xstrdup(json_get_string(auth, "username"));
	e->password = xstrdup(json_get_string(auth, "password"));
	e->identity_token = xstrdup(json_get_string(auth, "identity_token"));
	e->registry_token = xstrdup(json_get_string(auth, "registry_token"));
}

static int endpoint_load(struct endpoint *e, struct http *http, const struct json *j, bool login,
			 struct error *err)
{
	const char *url = json_get_string(j, "url");
	const char *ns = json_get_string(j, "namespace");
	struct auth_config auth;
	size_t n;

	e->url = url ? url_resolve(url, url) : NULL;
	e->origin = e->url ? url_origin(e->url) : NULL;
	if (!e->origin)
		return error_set(err, ERROR_INVALID_ARGUMENT, "endpoint '%s'", url ? url : "");
	for (n = strlen(e->url); n > 0 && e->url[n - 1] == '/';)
		e->url[--n] = '\0';
	e->host = xstrdup(json_get_string(j, "host"));
	if (!e->host)
		e->host = xstrdup(e->origin);
	if (!str_empty(ns) && !str_equal(ns, e->host) &&
	    !(str_equal(ns, "docker.io") && str_equal(e->host, "registry-1.docker.io")))
		e->ns = xstrdup(ns);
	e->ca = xstrdup(json_get_string(j, "ca"));
	e->client_cert = xstrdup(json_get_string(j, "client_cert"));
	e->client_key = xstrdup(json_get_string(j, "client_key"));
	load_auth(e, json_get(j, "auth"));
	if (load_capabilities(e, j, err) < 0 || load_headers(e, j, err) < 0)
		return -1;
	e->peer = (struct http_peer){
		.skip_verify = json_get_bool(j, "skip_verify", false),
		.ca = e->ca,
		.client_cert = e->client_cert,
		.client_key = e->client_key,
		.dial_timeout_ms = json_get_int(j, "dial_timeout_ms", 0),
	};
	auth = (struct auth_config){
		.http = http,
		.peer = &e->peer,
		.origin = e->origin,
		.username = e->username,
		.password = e->password,
		.identity_token = e->identity_token,
		.registry_token = header_value_valid(e->registry_token ? e->registry_token : "")
					  ? e->registry_token
					  : NULL,
		.offline = login,
	};
	e->auth = auth_new(&auth);
	return 0;
}

struct endpoint *registry_foreign(struct registry *r, const char *url)
{
	struct endpoint *e = xnew(struct endpoint);
	struct auth_config auth;

	e->url = url_resolve(url, url);
	e->origin = e->url ? url_origin(e->url) : NULL;
	if (!e->origin) {
		endpoint_free(e);
		return NULL;
	}
	e->host = xstrdup(e->origin);
	auth = (struct auth_config){ .http = r->http, .peer = &e->peer, .origin = e->origin };
	e->auth = auth_new(&auth);
	return e;
}

void endpoint_free(struct endpoint *e)
{
	if (!e)
		return;
	endpoint_done(e);
	free(e);
}

static int load_endpoints(struct registry *r, const struct json *list, bool login,
			  struct error *err)
{
	size_t n = json_array_len(list);

	if (n == 0 || n > ENDPOINTS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%zu endpoints", n);
	r->endpoints = xnew_array(struct endpoint, n);
	for (; r->n < n; r->n++)
		if (endpoint_load(&r->endpoints[r->n], r->http, json_array_get(list, r->n), login,
				  err) < 0) {
			endpoint_done(&r->endpoints[r->n]);
			return -1;
		}
	return 0;
}

struct registry *registry_new(const struct json *op, bool login, struct error *err)
{
	CLEANUP(registry_freep) struct registry *r = xnew(struct registry);
	const struct json *proxy = json_get(op, "proxy");
	const char *ref = json_get_string(op, "ref");
	int64_t parallel = MAX(json_get_int(op, "parallel", 3), (int64_t)1);
	struct http_config config = {
		.http_proxy = json_get_string(proxy, "http"),
		.https_proxy = json_get_string(proxy, "https"),
		.no_proxy = json_get_string(proxy, "no"),
		.stall_ms = json_get_int(op, "stall_timeout_ms", 0),
	};

	if (curl_load(err) < 0)
		return NULL;
	r->http = http_new(&config);
	r->parallel = (unsigned)MIN(parallel, (int64_t)PARALLEL_MAX);
	if (ref && reference_parse(ref, &r->ref, err) < 0)
		return NULL;
	if (load_endpoints(r, json_get(op, "endpoints"), login, err) < 0)
		return NULL;
	return TAKE_PTR(r);
}

void registry_free(struct registry *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n; i++)
		endpoint_done(&r->endpoints[i]);
	free(r->endpoints);
	reference_done(&r->ref);
	http_free(r->http);
	free(r);
}

char *registry_url(const struct registry *r, const struct endpoint *e, const char *fmt, ...)
{
	autofree char *path = NULL;
	char *url, *with_ns;
	va_list ap;

	va_start(ap, fmt);
	path = xvasprintf(fmt, ap);
	va_end(ap);
	url = xasprintf("%s/%s/%s", e->url, r->ref.path ? r->ref.path : "", path);
	if (!e->ns)
		return url;
	with_ns = url_with_query(url, "ns", e->ns);
	free(url);
	return with_ns;
}

char *registry_scope(const struct registry *r, const char *actions)
{
	return xasprintf("repository:%s:%s", r->ref.path, actions);
}

bool registry_is_alternate(const struct registry *r, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (r->endpoints[i].answered &&
		    str_equal(r->endpoints[i].host, r->endpoints[index].host))
			return true;
	return false;
}

/* --- one request --- */

/* An exchange with one URL, with or without what is the endpoint's alone. */
static int exchange(struct registry *r, struct endpoint *e, const struct http_request *q,
		    const char *url, const char *authorization, struct http_response *ret,
		    struct error *err)
{
	autofree char *origin = url_origin(url);
	bool own = str_equal(origin, e->origin);
	struct http_peer peer = e->peer;
	struct http_request copy = *q;
	int rc;

	copy.url = url;
	copy.headers = STRV_INIT;
	strv_extend(&copy.headers, &q->headers);
	if (own) {
		strv_extend(&copy.headers, &e->headers);
		if (authorization)
			strv_push_printf(&copy.headers, "Authorization: %s", authorization);
	} else {
		peer.client_cert = peer.client_key = NULL;
		peer.skip_verify = false;
	}
	rc = http_exchange(r->http, &peer, &copy, ret, err);
	strv_done(&copy.headers);
	if (rc == 0 && own && ret->status != 400)
		__atomic_store_n(&e->answered, true, __ATOMIC_RELAXED);
	return rc;
}

static bool is_redirect(const struct http_request *q, int status)
{
	bool safe = str_equal(q->method, "GET") || str_equal(q->method, "HEAD");

	if (status == 307 || status == 308)
		return true;
	return safe && (status == 301 || status == 302 || status == 303);
}

static int next_url(const struct endpoint *e, const char *url, const struct http_response *r,
		    char **ret, struct error *err)
{
	const char *location = http_header(r, "location");
	autofree char *from = url_public(url);
	autofree char *next = NULL;

	if (!location)
		return error_set(err, ERROR_UNAVAILABLE, "'%s' redirects to nowhere", from);
	next = url_resolve(url, location);
	if (!next)
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "'%s' redirects to something that is no http URL", from);
	if (!url_is_https(next) && url_is_https(e->url)) {
		autofree char *to = url_public(next);

		return error_set(err, ERROR_PERMISSION_DENIED,
				 "'%s' redirects from https to plain http at '%s'", from, to);
	}
	*ret = TAKE_PTR(next);
	return 0;
}

/* Follows redirects from q->url; 401 is returned as it is. */
static int follow(struct registry *r, struct endpoint *e, const struct http_request *q,
		  const char *authorization, struct http_response *ret, char **ret_url,
		  struct error *err)
{
	autofree char *url = xstrdup(q->url);

	for (unsigned hops = 0;; hops++) {
		char *next = NULL;

		if (exchange(r, e, q, url, authorization, ret, err) < 0)
			return -1;
		if (!is_redirect(q, ret->status)) {
			*ret_url = TAKE_PTR(url);
			return 0;
		}
		ret->failure = HTTP_REFUSED;
		if (hops >= REDIRECTS_MAX)
			return error_set(err, ERROR_UNAVAILABLE, "more than %d redirects",
					 REDIRECTS_MAX);
		if (next_url(e, url, ret, &next, err) < 0)
			return -1;
		free(url);
		url = next;
		ret->failure = HTTP_FAILURE_NONE;
	}
}

static int refused(const struct registry *r, const struct http_request *q,
		   const struct http_response *response, struct error *err)
{
	http_status_error(q, response, err);
	if (r->ref.path)
		return error_wrap(err,
				  "access to '%s/%s' denied, the repository does not exist or may "
				  "require 'login'",
				  r->ref.domain, r->ref.path);
	return -1;
}

int registry_try(struct registry *r, struct endpoint *e, struct http_request *q, const char *scope,
		 struct http_response *ret, char **ret_url, struct error *err)
{
	autofree char *authorization = auth_cached(e->auth, scope);
	autofree char *url = NULL;

	for (unsigned n = 0;; n++) {
		autofree char *origin = NULL;
		char *fresh = NULL;

		if (follow(r, e, q, authorization, ret, &url, err) < 0)
			return -1;
		if (ret->status != 401)
			break;
		ret->failure = HTTP_REFUSED; /* should this be the end */
		origin = url_origin(url);
		if (n >= 1 || !str_equal(origin, e->origin))
			return refused(r, q, ret, err);
		if (auth_answer(e->auth, ret, scope, authorization, &fresh, err) < 0)
			return -1;
		free(authorization);
		authorization = fresh;
		free(TAKE_PTR(url));
	}
	if (ret_url)
		*ret_url = TAKE_PTR(url);
	return 0;
}

/* Until a host has answered in one scheme, it may be asked in the other. */
static bool has_other_scheme(const struct registry *r, const struct endpoint *e)
{
	for (size_t i = 0; i < r->n && !e->answered; i++)
		if (&r->endpoints[i] != e && str_equal(r->endpoints[i].host, e->host) &&
		    !r->endpoints[i].answered)
			return true;
	return false;
}

int registry_request(struct registry *r, struct endpoint *e, struct http_request *q,
		     const char *scope, bool last, struct http_response *ret, struct error *err)
{
	for (unsigned n = 1;; n++) {
		int rc = registry_try(r, e, q, scope, ret, NULL, err);

		if (n >= RETRY_ATTEMPTS || !retry_wanted(rc, ret, e->answered))
			return rc;
		/* Another endpoint is quicker than waiting for this one; unless it asks to wait. */
		if (!last && !(rc == 0 && ret->status == 429))
			return rc;
		if (rc < 0 && has_other_scheme(r, e))
			return rc;
		error_done(err);
		retry_sleep(retry_delay_ms(n, ret));
	}
}
