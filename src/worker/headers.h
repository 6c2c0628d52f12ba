#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP header fields that a registry client has to understand, and where a Location leads.
 * Sans-IO. Any thread.
 */

#include "base/macros.h"

/* Seconds or HTTP-date; `now` in ns. ns to wait, 0 when absent (NULL), unreadable or past. Not
 * capped. */
int64_t header_retry_after(const char *value, int64_t now);
/* Content-Range "bytes A-B/TOTAL" (TOTAL "*": -1). -EINVAL. */
int header_content_range(const char *value, int64_t *ret_first, int64_t *ret_last,
			 int64_t *ret_total);
/* Range of an upload session, "0-1023" or "bytes=0-1023": bytes that the registry has. -EINVAL. */
int header_upload_range(const char *value, int64_t *ret_have);
/* Target of the first rel="next" of a Link header, malloc'ed; NULL when there is none. */
char *header_link_next(const char *value);
/* "application/json; charset=utf-8" -> "application/json", lower case, malloc'ed; "" for NULL. */
char *header_media_type(const char *value);

/*
 * URLs: http and https only, with a host, without credentials in them (those are dropped).
 * url_resolve: `location` (absolute or relative) against the request's URL; NULL when the result is
 * no such URL. malloc'ed. Fragments are dropped.
 */
char *url_resolve(const char *base, const char *location);
/* "https://host:port" in lower case, port always there; NULL for what is no URL. malloc'ed. */
char *url_origin(const char *url);
bool url_is_https(const char *url);
/* For messages: without query and fragment. malloc'ed. */
char *url_public(const char *url);
/* Appends name=value (escaped) to the query. malloc'ed. */
char *url_with_query(const char *url, const char *name, const char *value);
/* No control characters: safe as (part of) a header value. */
bool header_value_valid(const char *s);
/* Replaces control characters by spaces and cuts at max bytes, in place: registries' texts. */
void text_clean(char *s, size_t max);
