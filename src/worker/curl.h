#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl, loaded when it is first used; for what includes this, its functions have their own names
 * and types. Any thread.
 */

#include "base/error.h"

#include <curl/curl.h>

/* Those that the worker calls. */
#define CURL_FUNCTIONS(f)                                                                         \
	f(curl_easy_cleanup) f(curl_easy_escape) f(curl_easy_getinfo) f(curl_easy_init)           \
		f(curl_easy_perform) f(curl_easy_reset) f(curl_easy_setopt) f(curl_easy_strerror) \
			f(curl_free) f(curl_getdate) f(curl_global_init) f(curl_slist_append)     \
				f(curl_slist_free_all) f(curl_url) f(curl_url_cleanup)            \
					f(curl_url_get) f(curl_url_set)

/* The header's macros check types in calls of the functions themselves. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

#define CURL_MEMBER(name) __typeof__(name) *p_##name;
struct curl_api {
	CURL_FUNCTIONS(CURL_MEMBER)
};
#undef CURL_MEMBER

/* Loads it now: before a sandbox takes the file system away. UNAVAILABLE: not installed. */
int curl_load(struct error *err);
/* Loads it unless that has been done; must succeed. */
const struct curl_api *curl_api(void);

#define curl_easy_cleanup(c) (curl_api()->p_curl_easy_cleanup(c))
#define curl_easy_escape(c, s, n) (curl_api()->p_curl_easy_escape(c, s, n))
#define curl_easy_getinfo(c, i, p) (curl_api()->p_curl_easy_getinfo(c, i, p))
#define curl_easy_init() (curl_api()->p_curl_easy_init())
#define curl_easy_perform(c) (curl_api()->p_curl_easy_perform(c))
#define curl_easy_reset(c) (curl_api()->p_curl_easy_reset(c))
#define curl_easy_setopt(c, o, v) (curl_api()->p_curl_easy_setopt(c, o, v))
#define curl_easy_strerror(e) (curl_api()->p_curl_easy_strerror(e))
#define curl_free(p) (curl_api()->p_curl_free(p))
#define curl_getdate(s, t) (curl_api()->p_curl_getdate(s, t))
#define curl_global_init(f) (curl_api()->p_curl_global_init(f))
#define curl_slist_append(l, s) (curl_api()->p_curl_slist_append(l, s))
#define curl_slist_free_all(l) (curl_api()->p_curl_slist_free_all(l))
#define curl_url() (curl_api()->p_curl_url())
#define curl_url_cleanup(u) (curl_api()->p_curl_url_cleanup(u))
#define curl_url_get(u, w, p, f) (curl_api()->p_curl_url_get(u, w, p, f))
#define curl_url_set(u, w, p, f) (curl_api()->p_curl_url_set(u, w, p, f))
