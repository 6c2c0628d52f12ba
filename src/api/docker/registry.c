/* SPDX-License-Identifier: Apache-2.0 */
/* What only registries know: distribution inspect, search. */

#include "api/docker/internal.h"
#include "base/mem.h"
#include "base/parse.h"

#include <string.h>

#define LIMIT_DEFAULT 25
#define LIMIT_MAX 100

HANDLER(distribution_inspect)
{
	CLEANUP(registry_auth_done) struct registry_auth auth = { 0 };
	CLEANUP(descriptor_done) struct descriptor d = { 0 };
	autoreference struct reference ref = REFERENCE_INIT;
	struct json *platforms, *reply, *shown;
	const char *name = http_param(r, "name");
	bool has_auth;

	if (reference_parse(name, &ref, err) < 0)
		return error_wrap(err, "invalid reference '%s'", name);
	if (registry_auth_parse(http_header(r, "X-Registry-Auth"), &auth, &has_auth, err) < 0)
		return -1;
	const struct transfer t = {
		.ns = api_ns(r),
		.ref = name,
		.auth = has_auth ? &auth : NULL,
	};
	if (image_distribution(engine_images(api_engine(r)), &t, &d, &platforms, err) < 0)
		return -1;
	reply = json_new_object();
	shown = json_new_object();
	json_set_string(shown, "mediaType", d.media_type);
	json_set_string(shown, "digest", d.digest);
	json_set_int(shown, "size", d.size);
	json_set(reply, "Descriptor", shown);
	json_set(reply, "Platforms", platforms);
	http_reply_json(r, 200, reply);
	return 0;
}

static const char *const search_filters[] = { "is-automated", "is-official", "stars", NULL };

static bool same_flag(const char *value, const void *arg)
{
	bool wanted = str_equal(value, "true") || str_equal(value, "1");

	return wanted == *(const bool *)arg;
}

static int64_t stars_of(const char *value)
{
	int64_t n;

	return parse_int64(value, &n) < 0 ? 0 : n;
}

static bool has_stars(const char *value, const void *arg)
{
	return *(const int64_t *)arg >= stars_of(value);
}

static bool result_matches(const struct filters *f, const struct json *j)
{
	const bool official = json_get_bool(j, "is_official", false);
	const bool automated = json_get_bool(j, "is_automated", false);
	const int64_t stars = json_get_int(j, "star_count", 0);

	return filters_any(f, "is-official", same_flag, &official) &&
	       filters_any(f, "is-automated", same_flag, &automated) &&
	       filters_any(f, "stars", has_stars, &stars);
}

HANDLER(images_search)
{
	CLEANUP(registry_auth_done) struct registry_auth auth = { 0 };
	CLEANUP(filters_done) struct filters f = { 0 };
	const char *term = api_query(r, "term");
	int64_t limit = api_query_int(r, "limit", 0);
	autojson struct json *found = NULL;
	struct json *list;
	bool has_auth;

	if (!term)
		return error_set(err, ERROR_INVALID_ARGUMENT, "Invalid search term: empty");
	if (limit < 0 || limit > LIMIT_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "limit %lld is outside the range of [1, 100]", (long long)limit);
	if (filters_parse(r, search_filters, &f, err) < 0 ||
	    registry_auth_parse(http_header(r, "X-Registry-Auth"), &auth, &has_auth, err) < 0 ||
	    image_search(engine_images(api_engine(r)), term, limit ? limit : LIMIT_DEFAULT,
			 has_auth ? &auth : NULL, &found, err) < 0)
		return -1;
	list = json_new_array();
	for (size_t i = 0; i < json_array_len(found); i++)
		if (result_matches(&f, json_array_get(found, i)))
			json_add(list, json_ref(json_array_get(found, i)));
	http_reply_json(r, 200, list);
	return 0;
}
