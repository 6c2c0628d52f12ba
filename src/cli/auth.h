#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registry credentials in Docker's config.json ($DOCKER_CONFIG or ~/.docker) and its credential
 * helpers (credsStore, credHelpers). Files are replaced atomically, mode 0600.
 */

#include "base/error.h"
#include "base/json.h"

#define AUTH_HUB "https://index.docker.io/v1/"

struct credentials {
	char *username;
	char *password;
	char *identity_token;
};

void credentials_done(struct credentials *c);
/* The key of a registry: "docker.io" and its other names become AUTH_HUB. Borrowed. */
const char *auth_key(const char *registry);
/* Leaves ret empty when there are none. */
int auth_get(const char *registry, struct credentials *ret, struct error *err);
int auth_store(const char *registry, const struct credentials *c, bool *ret_plain,
	       struct error *err);
/* *ret_found: there were any. */
int auth_erase(const char *registry, bool *ret_found, struct error *err);
/* The X-Registry-Auth header for an image (any form of reference); malloc'ed. */
char *auth_header_for_image(const char *image, struct error *err);
char *auth_config_path(void);

/* "user:password" in base64, as config.json has it. */
int auth_decode(const char *base64, struct credentials *ret);

#define autocredentials CLEANUP(credentials_done)
