#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials for a registry host from Docker's config.json and credential helpers (images.md 1.5).
 */

#include "base/json.h"
#include "image/service.h"

#define CREDENTIALS_CONFIG_MAX (1 << 20)

/* What the document says of a host ("ghcr.io", "registry-1.docker.io", "localhost:5000"): a helper
 * to ask (*ret_helper, malloc'ed) or *ret; neither when it knows nothing. Sans-IO.
 * FAILED_PRECONDITION for a helper name that is no plain file name, or an entry that cannot be
 * decoded. */
int credentials_find(const struct json *config, const char *host, struct registry_auth *ret,
		     char **ret_helper, struct error *err);
/* A helper's reply to "get". */
int credentials_parse_reply(const char *text, size_t len, struct registry_auth *ret,
			    struct error *err);
/* $DOCKER_AUTH_CONFIG, $DOCKER_CONFIG/config.json or ~/.docker/config.json; asks the helper. No
 * entry leaves *ret empty. */
int credentials_load(const char *host, struct registry_auth *ret, struct error *err);
/* The name under which Docker's tools keep a host. Borrowed (from host). */
const char *credentials_server(const char *host);
