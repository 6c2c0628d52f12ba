#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials and tokens of one registry endpoint. Any thread; while one fetches a token, the
 * others that need one wait for it. Who calls sees to it that what this hands out goes to that
 * endpoint's origin only.
 */

#include "worker/http.h"

struct auth;

struct auth_config {
	struct http *http;
	const struct http_peer *peer; /* borrowed for as long as the auth lives, like all strings */
	const char *origin;	      /* of the registry (url_origin()) */
	const char *username, *password, *identity_token, *registry_token;
	bool offline; /* ask for an identity token too (login) */
};

struct auth *auth_new(const struct auth_config *config);
void auth_free(struct auth *a);

/* Value for Authorization that is known already to serve scope ("repository:x:pull", several are
 * parted by spaces); malloc'ed, NULL for none. */
char *auth_cached(struct auth *a, const char *scope);
/* The response was 401 to a request with `used` (NULL: none): answers its challenge. *ret is
 * malloc'ed. UNAUTHENTICATED when there is nothing (more) to offer. */
int auth_answer(struct auth *a, const struct http_response *response, const char *scope,
		const char *used, char **ret, struct error *err);
/* What the token server handed out, or NULL. Borrowed. */
const char *auth_identity_token(const struct auth *a);
bool auth_has_credentials(const struct auth *a);

DEFINE_CLEANUP(struct auth *, auth_free)
