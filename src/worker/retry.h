#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* When to ask a registry again, how often and how soon; what its error replies say. Any thread. */

#include "worker/http.h"

#define RETRY_ATTEMPTS 5 /* without progress */
#define RETRY_AFTER_MAX_MS 60000

/* Result of http_exchange(): is asking again of use? 408, 429, 5xx, broken connections; those that
 * could not be made at all only when `reached` (the server has answered before). */
bool retry_wanted(int rc, const struct http_response *r, bool reached);
/* Before attempt n + 1 (n >= 1): exponential with jitter, or what Retry-After says (at most 60 s).
 */
int64_t retry_delay_ms(unsigned n, const struct http_response *r);
void retry_sleep(int64_t ms);

/* The registry's own words, cleaned ("manifest unknown", "denied: requested access ..."), or "".
 * malloc'ed. */
char *http_error_text(const struct http_response *r);
/* A status that is no success as an error: "GET https://host/path: 404 Not Found: text". Returns
 * -1. */
int http_status_error(const struct http_request *q, const struct http_response *r,
		      struct error *err);
