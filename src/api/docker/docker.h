#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Docker Engine API (v1.24 to v1.47) over the engine: decode, call engine/, encode. One file
 * per resource, each with its route handlers; docker.c has the table.
 */

#include "engine/engine.h"
#include "http/server.h"

#define DOCKER_API_MAX "1.47"
#define DOCKER_API_MIN "1.24"

struct docker_api; /* http_request_arg() of all its handlers */

struct docker_api *docker_api_new(struct engine *e);
void docker_api_free(struct docker_api *d);
/* Fills routes, arg, strip_version, status_of, encode_error, headers. */
void docker_api_config(struct docker_api *d, struct http_server_config *ret);
