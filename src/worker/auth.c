/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bearer tokens (distribution's token and oauth2 documents) and Basic.
 *
 * With a secret, POST (OAuth2) is tried first, since only it knows identity tokens; registries that
 * do not have it say so with 400, 401, 404 or 405 (images.md 1.4), then GET with Basic is asked.
 * The realm is the registry's choice and secrets go there by design; so it has to be https unless
 * the registry itself was configured without.
 */
#include "worker/auth.h"

#include "base/hex.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/time.h"
#include "worker/challenge.h"
#include "worker/curl.h"
#include "worker/headers.h"
#include "worker/retry.h"

#include <pthread.h>
#include <string.h>

#define TOKEN_DOCUMENT_MAX (1 << 20)
#define TOKEN_MAX (64 << 10)
#define TOKEN_TRIES 3
#define TOKEN_LIFE_DEFAULT 60 /* seconds, by the specification */
#define TOKEN_SLACK 5
#define CLIENT_ID "kistl"

struct token {
	char *header;	 /* "Bearer ..." */
	int64_t expires; /* monotonic ns */
};

struct auth {
	struct auth_config config;
	pthread_mutex_t lock; /* held while a token is fetched: that is the single flight */
	struct map tokens;    /* scope -> struct token */
	char *basic;	      /* "Basic ...", once a challenge asked for it */
	char *identity_token;
};

static void token_free(void *p)
{
	struct token *t = p;

	free(t->header);
	free(t);
}

struct auth *auth_new(const struct auth_config *config)
{
	struct auth *a = xnew(struct auth);

	a->config = *config;
	pthread_mutex_init(&a->lock, NULL);
	return a;
}

void auth_free(struct auth *a)
{
	if (!a)
		return;
	map_done_values(&a->tokens, token_free);
	free(a->basic);
	free(a->identity_token);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

bool auth_has_credentials(const struct auth *a)
{
	return !str_empty(a->config.username) || !str_empty(a->config.identity_token) ||
	       !str_empty(a->config.registry_token);
}

const char *auth_identity_token(const struct auth *a)
{
	return a->identity_token;
}

static char *cached_locked(struct auth *a, const char *scope)
{
	const struct token *t;

	if (!str_empty(a->config.registry_token))
		return xasprintf("Bearer %s", a->config.registry_token);
	if (a->basic)
		return xstrdup(a->basic);
	t = map_get(&a->tokens, scope);
	return t && t->expires > time_monotonic() ? xstrdup(t->header) : NULL;
}

char *auth_cached(struct auth *a, const char *scope)
{
	char *header;

	pthread_mutex_lock(&a->lock);
	header = cached_locked(a, scope);
	pthread_mutex_unlock(&a->lock);
	return header;
}

static char *basic_header(const struct auth *a)
{
	autobuf struct buf plain = BUF_INIT(TOKEN_MAX);
	autobuf struct buf b64 = BUF_INIT(2 * TOKEN_MAX);

	buf_printf(&plain, "%s:%s", a->config.username,
		   a->config.password ? a->config.password : "");
	base64_encode(plain.data, plain.len, &b64);
	return xasprintf("Basic %s", b64.data);
}

/* --- the token server --- */

static void form_add(struct buf *form, const char *name, const char *value)
{
	char *escaped = value ? curl_easy_escape(NULL, value, 0) : NULL;

	if (escaped)
		buf_printf(form, "%s%s=%s", form->len ? "&" : "", name, escaped);
	curl_free(escaped);
}

/* A header value that came from outside. */
static bool token_valid(const char *s)
{
	if (str_empty(s) || strlen(s) > TOKEN_MAX)
		return false;
	for (; *s; s++)
		if (*s <= ' ' || *s >= 0x7f)
			return false;
	return true;
}

static int64_t token_expiry(const struct json *j)
{
	int64_t life = json_get_int(j, "expires_in", 0);
	int64_t issued;
	const char *at = json_get_string(j, "issued_at");

	if (life <= 0)
		life = TOKEN_LIFE_DEFAULT;
	life = MIN(life, (int64_t)86400);
	/* Issued some time ago by a cache; clocks differ, so never below the default. */
	if (at && time_parse_rfc3339(at, &issued) == 0)
		life -= (time_realtime() - issued) / NSEC_PER_SEC;
	life = MAX(life, (int64_t)TOKEN_LIFE_DEFAULT);
	return time_monotonic() + (life - TOKEN_SLACK) * NSEC_PER_SEC;
}

static int token_store(struct auth *a, const struct http_request *q, const struct http_response *r,
		       const char *scope, char **ret, struct error *err)
{
	autojson struct json *j = json_parse(r->body.data, r->body.len, TOKEN_DOCUMENT_MAX, err);
	autofree char *url = url_public(q->url);
	const char *token, *refresh;
	struct token *t, *old;

	if (!j)
		return error_wrap(err, "token from '%s'", url);
	token = json_get_string(j, "access_token");
	if (!token)
		token = json_get_string(j, "token");
	if (!token_valid(token))
		return error_set(err, ERROR_UNAUTHENTICATED, "no usable token in the reply of '%s'",
				 url);
	refresh = json_get_string(j, "refresh_token");
	if (refresh && token_valid(refresh))
		str_replace(&a->identity_token, refresh);
	t = xnew(struct token);
	t->header = xasprintf("Bearer %s", token);
	t->expires = token_expiry(j);
	old = map_set(&a->tokens, scope, t);
	if (old)
		token_free(old);
	*ret = xstrdup(t->header);
	return 0;
}

/* The realm may be another server: then it gets no client certificate, and has to be trusted. */
static struct http_peer realm_peer(const struct auth *a, const char *realm)
{
	struct http_peer peer = *a->config.peer;
	autofree char *origin = url_origin(realm);

	if (!str_equal(origin, a->config.origin)) {
		peer.client_cert = peer.client_key = NULL;
		peer.skip_verify = peer.skip_verify && !auth_has_credentials(a);
	}
	return peer;
}

static int ask(struct auth *a, const char *realm, const struct http_request *q,
	       struct http_response *ret, struct error *err)
{
	struct http_peer peer = realm_peer(a, realm);

	for (unsigned n = 1;; n++) {
		int rc = http_exchange(a->config.http, &peer, q, ret, err);

		if (n >= TOKEN_TRIES || !retry_wanted(rc, ret, true))
			return rc;
		error_done(err);
		retry_sleep(retry_delay_ms(n, ret));
	}
}

static int ask_by_post(struct auth *a, const char *realm, const char *service, const char *scope,
		       struct http_response *ret, struct error *err)
{
	autobuf struct buf form = BUF_INIT(4 * TOKEN_MAX);
	autorequest struct http_request q = HTTP_REQUEST_INIT;

	if (!str_empty(a->config.identity_token)) {
		form_add(&form, "grant_type", "refresh_token");
		form_add(&form, "refresh_token", a->config.identity_token);
	} else {
		form_add(&form, "grant_type", "password");
		form_add(&form, "username", a->config.username);
		form_add(&form, "password", a->config.password ? a->config.password : "");
	}
	form_add(&form, "service", service);
	form_add(&form, "client_id", CLIENT_ID);
	if (*scope)
		form_add(&form, "scope", scope);
	if (a->config.offline)
		form_add(&form, "access_type", "offline");
	q.method = "POST";
	q.url = realm;
	q.body = form.data;
	q.body_len = (int64_t)form.len;
	strv_push(&q.headers, "Content-Type: application/x-www-form-urlencoded");
	return ask(a, realm, &q, ret, err);
}

static int ask_by_get(struct auth *a, const char *realm, const char *service, const char *scope,
		      struct http_response *ret, struct error *err)
{
	autostrv struct strv scopes = STRV_INIT;
	autofree char *url = service ? url_with_query(realm, "service", service) : xstrdup(realm);
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	char *longer;

	if (*scope)
		strv_split(&scopes, scope, " ");
	for (size_t i = 0; i < scopes.n; i++) {
		longer = url_with_query(url, "scope", scopes.v[i]);
		free(url);
		url = longer;
	}
	if (a->config.offline) {
		longer = xasprintf("%s&offline_token=true&client_id=" CLIENT_ID, url);
		free(url);
		url = longer;
	}
	q.method = "GET";
	q.url = url;
	if (!str_empty(a->config.username)) {
		autofree char *basic = basic_header(a);

		strv_push_printf(&q.headers, "Authorization: %s", basic);
	}
	return ask(a, realm, &q, ret, err);
}

/* The challenge may know better what is needed than we do. */
static char *merge_scope(const char *ours, const char *challenged)
{
	autostrv struct strv all = STRV_INIT;

	if (*ours)
		strv_split(&all, ours, " ");
	if (!str_empty(challenged)) {
		autostrv struct strv more = STRV_INIT;

		strv_split(&more, challenged, " ");
		for (size_t i = 0; i < more.n; i++)
			if (*more.v[i] && !strv_contains(&all, more.v[i]))
				strv_push(&all, more.v[i]);
	}
	return strv_join(&all, " ");
}

static int check_realm(const struct auth *a, const char *value, char **ret, struct error *err)
{
	if (str_empty(value))
		return error_set(err, ERROR_UNAUTHENTICATED,
				 "the registry asks for a token but names no realm");
	*ret = url_resolve(a->config.origin, value);
	if (!*ret)
		return error_set(err, ERROR_UNAUTHENTICATED, "the registry's realm is no http URL");
	if (!url_is_https(*ret) && url_is_https(a->config.origin)) {
		autofree char *url = url_public(*ret);

		return error_set(err, ERROR_UNAUTHENTICATED,
				 "the registry asks for credentials over plain http at '%s'", url);
	}
	return 0;
}

static int fetch_token(struct auth *a, const struct challenge *c, const char *scope, char **ret,
		       struct error *err)
{
	autofree char *realm = NULL;
	autofree char *wanted = merge_scope(scope, kvs_get(&c->params, "scope"));
	const char *service = kvs_get(&c->params, "service");
	autoresponse struct http_response r = HTTP_RESPONSE_INIT(TOKEN_DOCUMENT_MAX);
	struct http_request named = { .method = "GET", .body_fd = -1 };
	bool identity = !str_empty(a->config.identity_token);
	bool secret = identity || !str_empty(a->config.username);

	if (check_realm(a, kvs_get(&c->params, "realm"), &realm, err) < 0)
		return -1;
	named.url = realm;
	if (secret) {
		named.method = "POST";
		if (ask_by_post(a, realm, service, wanted, &r, err) < 0)
			return error_wrap(err, "fetch token");
	}
	if (!secret || (!identity && (r.status == 400 || r.status == 401 || r.status == 404 ||
				      r.status == 405))) {
		named.method = "GET";
		if (ask_by_get(a, realm, service, wanted, &r, err) < 0)
			return error_wrap(err, "fetch token");
	}
	if (r.status != 200) {
		http_status_error(&named, &r, err);
		if (err && r.status < 500 && r.status != 429 && r.status != 403)
			err->code = ERROR_UNAUTHENTICATED;
		return error_wrap(err, "fetch token");
	}
	return token_store(a, &named, &r, scope, ret, err);
}

static int answer_basic(struct auth *a, const char *used, char **ret, struct error *err)
{
	autofree char *header = NULL;

	if (str_empty(a->config.username))
		return error_set(err, ERROR_UNAUTHENTICATED, "no basic auth credentials");
	header = basic_header(a);
	if (str_equal(header, used))
		return error_set(err, ERROR_UNAUTHENTICATED, "incorrect username or password");
	str_replace(&a->basic, header);
	*ret = TAKE_PTR(header);
	return 0;
}

static int answer_locked(struct auth *a, const struct challenges *all, const char *scope,
			 const char *used, char **ret, struct error *err)
{
	const struct challenge *bearer = challenges_find(all, "bearer");
	autofree char *known = cached_locked(a, scope);

	if (known && !str_equal(known, used)) {
		*ret = TAKE_PTR(known);
		return 0;
	}
	if (bearer && str_empty(a->config.registry_token))
		return fetch_token(a, bearer, scope, ret, err);
	if (challenges_find(all, "basic"))
		return answer_basic(a, used, ret, err);
	return error_set(err, ERROR_UNAUTHENTICATED, "authentication required");
}

int auth_answer(struct auth *a, const struct http_response *response, const char *scope,
		const char *used, char **ret, struct error *err)
{
	autochallenges struct challenges all = CHALLENGES_INIT;
	int r;

	for (size_t i = 0; i < response->names.n; i++)
		if (str_equal(response->names.v[i], "www-authenticate"))
			(void)challenges_parse(&all, response->values.v[i]);
	pthread_mutex_lock(&a->lock);
	r = answer_locked(a, &all, scope, used, ret, err);
	pthread_mutex_unlock(&a->lock);
	return r;
}
