#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* A registry as its workers want it described: the ENDPOINTs of oci/worker-proto.h. */

#include "image/internal.h"

/* {"op": op, "ref", "endpoints", "parallel", "stall_timeout_ms", "proxy"}. ref may be NULL. auth
 * (may be NULL: the daemon's own configuration) goes to the domain's own servers only, never to
 * mirrors. */
struct json *endpoints_message(struct image_service *s, const char *op, const char *domain,
			       const char *ref, const struct registry_auth *auth,
			       struct error *err);
