/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/mem.h"
#include "base/parse.h"

#include <string.h>

static struct json *volume_document(const struct volume_view *v)
{
	struct json *j = json_new_object();

	json_set_time(j, "CreatedAt", v->created_at);
	json_set_string(j, "Driver", "local");
	json_set(j, "Labels", v->has_labels ? json_new_kvs(&v->labels) : NULL);
	json_set_string(j, "Mountpoint", v->mountpoint);
	json_set_string(j, "Name", v->name);
	json_set(j, "Options", v->has_options ? json_new_kvs(&v->options) : NULL);
	json_set_string(j, "Scope", "local");
	return j;
}

static const char *const list_filters[] = { "dangling", "driver", "label", "name", NULL };

static bool contains(const char *value, const void *arg)
{
	return strstr(arg, value) != NULL;
}

static bool is_true(const char *value, const void *arg)
{
	bool wanted = str_equal(value, "true") || str_equal(value, "1");

	return wanted == *(const bool *)arg;
}

static bool volume_matches(const struct filters *f, const struct volume_view *v)
{
	bool dangling = v->ref_count == 0;

	return filters_any(f, "dangling", is_true, &dangling) &&
	       filters_match(f, "driver", "local") && filters_any(f, "name", contains, v->name) &&
	       filters_labels(f, &v->labels);
}

static bool bad_flag(const char *value, const void *arg)
{
	bool flag;

	*(const char **)(uintptr_t)arg = value;
	return parse_bool(value, &flag) < 0;
}

static int check_values(const struct filters *f, struct error *err)
{
	const char *value = "";

	if (filters_has(f, "dangling") && filters_any(f, "dangling", bad_flag, &value))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid filter 'dangling=[%s]'",
				 value);
	return 0;
}

HANDLER(volumes_list)
{
	CLEANUP(filters_done) struct filters f = { 0 };
	CLEANUP(volume_views_done) struct volume_views views = { 0 };
	struct json *reply, *list;

	if (filters_parse(r, list_filters, &f, err) < 0 || check_values(&f, err) < 0 ||
	    engine_volume_list(api_engine(r), api_ns(r), &views, err) < 0)
		return -1;
	reply = json_new_object();
	list = json_new_array();
	for (size_t i = 0; i < views.n; i++) {
		if (volume_matches(&f, &views.v[i]))
			json_add(list, volume_document(&views.v[i]));
	}
	json_set(reply, "Volumes", list);
	json_set(reply, "Warnings", NULL);
	http_reply_json(r, 200, reply);
	return 0;
}

HANDLER(volumes_create)
{
	CLEANUP(volume_view_done) struct volume_view v = { 0 };
	autokvs struct kvs labels = KVS_INIT, options = KVS_INIT;
	autojson struct json *body = NULL;
	const char *name, *driver;

	if (api_body_json(r, &body, err) < 0 || json_get_kvs(body, "Labels", &labels, err) < 0 ||
	    json_get_kvs(body, "DriverOpts", &options, err) < 0)
		return -1;
	name = json_get_string(body, "Name");
	driver = json_get_string(body, "Driver");
	if (!str_empty(driver) && !str_equal(driver, "local"))
		return error_set(
			err, ERROR_NOT_FOUND,
			"create %s: error looking up volume plugin %s: plugin \"%s\" not found",
			name ? name : "", driver, driver);
	if (engine_volume_create(api_engine(r), api_ns(r), str_empty(name) ? NULL : name,
				 json_type(json_get(body, "Labels")) == JSON_NULL ? NULL : &labels,
				 json_type(json_get(body, "DriverOpts")) == JSON_NULL ? NULL
										      : &options,
				 &v, err) < 0)
		return -1;
	http_reply_json(r, 201, volume_document(&v));
	return 0;
}

HANDLER(volume_inspect)
{
	CLEANUP(volume_view_done) struct volume_view v = { 0 };

	if (engine_volume_get(api_engine(r), api_ns(r), http_param(r, "name"), &v, err) < 0)
		return -1;
	http_reply_json(r, 200, volume_document(&v));
	return 0;
}

HANDLER(volume_delete)
{
	if (engine_volume_remove(api_engine(r), api_ns(r), http_param(r, "name"),
				 http_query_bool(r, "force", false), err) < 0)
		return -1;
	http_reply_empty(r, 204);
	return 0;
}

static const char *const prune_filters[] = { "label", "label!", "all", NULL };

HANDLER(volumes_prune)
{
	CLEANUP(filters_done) struct filters f = { 0 };
	CLEANUP(volume_views_done) struct volume_views views = { 0 };
	struct json *reply, *deleted;
	const bool yes = true;
	int64_t reclaimed = 0;
	bool all;

	if (filters_parse(r, prune_filters, &f, err) < 0 ||
	    engine_volume_list(api_engine(r), api_ns(r), &views, err) < 0)
		return -1;
	/* Since 1.42 named volumes stay unless all=true. */
	all = !api_at_least(r, 42) ||
	      (filters_has(&f, "all") && filters_any(&f, "all", is_true, &yes));
	reply = json_new_object();
	deleted = json_new_array();
	for (size_t i = 0; i < views.n; i++) {
		const struct volume_view *v = &views.v[i];

		if (v->ref_count > 0 || (!all && !v->anonymous) || !filters_labels(&f, &v->labels))
			continue;
		int64_t size = engine_volume_size(v);
		if (engine_volume_remove(api_engine(r), api_ns(r), v->name, false, NULL) < 0)
			continue;
		json_add(deleted, json_new_string(v->name));
		reclaimed += MAX(size, 0);
	}
	json_set(reply, "VolumesDeleted", deleted);
	json_set_int(reply, "SpaceReclaimed", reclaimed);
	http_reply_json(r, 200, reply);
	return 0;
}
