/* SPDX-License-Identifier: Apache-2.0 */
/* What --gpus and the limits of block devices say. */
#include "cli/spec-parse.h"

#include "base/mem.h"
#include "base/parse.h"

#include <string.h>

/* "/dev/sda:RATE": the path (malloc'ed), *ret_rate borrowed. */
static char *device_path(const char *s, const char **ret_rate, struct error *err)
{
	const char *colon = strchr(s, ':');

	if (!colon || strchr(colon + 1, ':') || !colon[1]) {
		error_set(err, ERROR_INVALID_ARGUMENT, "bad format: %s", s);
		return NULL;
	}
	if (!str_has_prefix(s, "/dev/")) {
		error_set(err, ERROR_INVALID_ARGUMENT, "bad format for device path: %s", s);
		return NULL;
	}
	*ret_rate = colon + 1;
	return xstrndup(s, (size_t)(colon - s));
}

static struct json *device_member(const char *path, const char *key, int64_t value)
{
	struct json *j = json_new_object();

	json_set_string(j, "Path", path);
	json_set_int(j, key, value);
	return j;
}

struct json *spec_weight_device(const char *s, struct error *err)
{
	const char *text;
	autofree char *path = device_path(s, &text, err);
	int64_t weight;

	if (!path)
		return NULL;
	if (parse_int64(text, &weight) < 0 || (weight != 0 && (weight < 10 || weight > 1000))) {
		error_set(err, ERROR_INVALID_ARGUMENT, "invalid weight for device: %s", s);
		return NULL;
	}
	return device_member(path, "Weight", weight);
}

struct json *spec_rate_device(const char *s, struct error *err)
{
	const char *text;
	autofree char *path = device_path(s, &text, err);
	int64_t rate;

	if (!path)
		return NULL;
	if (parse_size(text, &rate) < 0 || rate < 0) {
		error_set(err, ERROR_INVALID_ARGUMENT,
			  "invalid rate for device: %s. The correct format is "
			  "<device-path>:<number>[<unit>]. Number must be a positive integer. "
			  "Unit is optional and can be kb, mb, or gb",
			  s);
		return NULL;
	}
	return device_member(path, "Rate", rate);
}

struct json *spec_iops_device(const char *s, struct error *err)
{
	const char *text;
	autofree char *path = device_path(s, &text, err);
	int64_t rate;

	if (!path)
		return NULL;
	if (parse_int64(text, &rate) < 0 || rate < 0) {
		error_set(err, ERROR_INVALID_ARGUMENT,
			  "invalid rate for device: %s. The correct format is "
			  "<device-path>:<number>. Number must be a positive integer",
			  s);
		return NULL;
	}
	return device_member(path, "Rate", rate);
}

static int gpu_count(const char *s, struct json *request, struct error *err)
{
	int64_t n = -1;

	if (strcmp(s, "all") != 0 && (parse_int64(s, &n) < 0 || n < 0))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid count (%s): value must be either \"all\" or an integer",
				 s);
	json_set_int(request, "Count", n);
	return 0;
}

static struct json *csv_list(const char *s, struct error *err)
{
	autostrv struct strv values = STRV_INIT;

	return spec_csv(s, &values, err) < 0 ? NULL : json_new_strv(&values);
}

static int gpu_options(const char *s, struct json *options, struct error *err)
{
	autostrv struct strv values = STRV_INIT;

	if (spec_csv(s, &values, err) < 0)
		return -1;
	for (size_t i = 0; i < values.n; i++) {
		const char *eq = strchr(values.v[i], '=');
		autofree char *key = xstrndup(values.v[i], strcspn(values.v[i], "="));

		json_set_string(options, key, eq ? eq + 1 : "");
	}
	return 0;
}

static int gpu_field(const char *field, struct json *request, struct json **capabilities,
		     struct error *err)
{
	const char *eq = strchr(field, '='), *value = eq ? eq + 1 : "";
	autofree char *key = xstrndup(field, strcspn(field, "="));
	struct json *list;

	if (!eq || strcmp(key, "count") == 0)
		return gpu_count(eq ? value : field, request, err);
	if (strcmp(key, "driver") == 0) {
		json_set_string(request, "Driver", value);
		return 0;
	}
	if (strcmp(key, "options") == 0)
		return gpu_options(value, json_get(request, "Options"), err);
	list = csv_list(value, err);
	if (!list)
		return -1;
	if (strcmp(key, "device") == 0) {
		json_set(request, "DeviceIDs", list);
	} else if (strcmp(key, "capabilities") == 0) {
		json_unref(*capabilities);
		*capabilities = list;
	} else {
		json_unref(list);
		return error_set(err, ERROR_INVALID_ARGUMENT, "unexpected key '%s' in '%s'", key,
				 field);
	}
	return 0;
}

struct json *spec_gpus(const char *s, struct error *err)
{
	autostrv struct strv fields = STRV_INIT;
	autojson struct json *request = json_new_object();
	autojson struct json *capabilities = json_new_array();
	struct json *sets = json_new_array();
	bool has_gpu = false;

	json_set(request, "Capabilities", sets);
	json_set(request, "Options", json_new_object());
	if (spec_csv(s, &fields, err) < 0)
		return NULL;
	for (size_t i = 0; i < fields.n; i++)
		if (gpu_field(fields.v[i], request, &capabilities, err) < 0)
			return NULL;
	if (!json_get(request, "Count") && !json_get(request, "DeviceIDs"))
		json_set_int(request, "Count", 1);
	for (size_t i = 0; i < json_array_len(capabilities); i++)
		has_gpu |= strcmp(json_string(json_array_get(capabilities, i)), "gpu") == 0;
	if (!has_gpu)
		json_add(capabilities, json_new_string("gpu"));
	json_add(sets, TAKE_PTR(capabilities));
	return TAKE_PTR(request);
}

#define DEFINE_CHECK(name)                                      \
	int spec_check_##name(const char *s, struct error *err) \
	{                                                       \
		autojson struct json *j = spec_##name(s, err);  \
                                                                \
		return j ? 0 : -1;                              \
	}
DEFINE_CHECK(gpus)
DEFINE_CHECK(weight_device)
DEFINE_CHECK(rate_device)
DEFINE_CHECK(iops_device)
