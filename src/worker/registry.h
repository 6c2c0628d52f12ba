#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registry as the daemon describes it: endpoints in order, each with its own credentials, and
 * requests to one of them with authentication and redirects. Any thread after registry_new().
 */

#include "base/json.h"
#include "oci/reference.h"
#include "worker/auth.h"
#include "worker/http.h"

#define ENDPOINTS_MAX 32
#define REDIRECTS_MAX 10

enum { ENDPOINT_PULL = 1 << 0, ENDPOINT_RESOLVE = 1 << 1, ENDPOINT_PUSH = 1 << 2 };

struct endpoint {
	char *url; /* "https://host/v2", no slash at the end */
	char *origin;
	char *host;
	char *ns;	     /* for the ns= parameter, NULL: none */
	unsigned can;	     /* ENDPOINT_* */
	struct strv headers; /* "Name: value" */
	char *ca, *client_cert, *client_key;
	char *username, *password, *identity_token, *registry_token;
	struct http_peer peer;
	struct auth *auth;
	bool answered; /* has sent some response: later it is not "unreachable" */
};

struct registry {
	struct http *http;
	struct reference ref; /* without a ref in the message: empty */
	struct endpoint *endpoints;
	size_t n;
	unsigned parallel;
};

/* From the first message of a worker. INVALID_ARGUMENT. Reads the system's certificates: call it
 * before the sandbox. login: tokens are asked for with an identity token. */
struct registry *registry_new(const struct json *op, bool login, struct error *err);
void registry_free(struct registry *r);

/* "<endpoint>/<repository>/<path>", with the ns parameter where it belongs. malloc'ed. */
char *registry_url(const struct registry *r, const struct endpoint *e, const char *fmt, ...)
	PRINTF_LIKE(3, 4);
/* "repository:<path>:<actions>" */
char *registry_scope(const struct registry *r, const char *actions);

/*
 * One request: answers a challenge, follows redirects (GET and HEAD; 307 and 308 for all). 0: there
 * is a response, of any status but 401; -1: none, or UNAUTHENTICATED. *ret_url (may be NULL) is the
 * URL that answered.
 */
int registry_try(struct registry *r, struct endpoint *e, struct http_request *q, const char *scope,
		 struct http_response *ret, char **ret_url, struct error *err);
/* The same, with retries (retry.h); for requests that may be repeated as they are. `last`: no other
 * host can be asked instead. */
int registry_request(struct registry *r, struct endpoint *e, struct http_request *q,
		     const char *scope, bool last, struct http_response *ret, struct error *err);
/* Is this the same host as an earlier endpoint that has answered properly? Then it is that one's
 * other scheme, and need not be asked. */
bool registry_is_alternate(const struct registry *r, size_t index);

/* An endpoint for a foreign layer's URL: nobody's credentials. NULL when it is no http URL. */
struct endpoint *registry_foreign(struct registry *r, const char *url);
void endpoint_free(struct endpoint *e);

DEFINE_CLEANUP(struct registry *, registry_free)
DEFINE_CLEANUP(struct endpoint *, endpoint_free)
