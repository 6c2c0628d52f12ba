/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/spec-parse.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"

#include <ctype.h>
#include <string.h>

/* Where a --mount key goes: member of the mount, or of one of its option objects. */
enum mount_value { MOUNT_STRING, MOUNT_BOOL, MOUNT_NOT_BOOL, MOUNT_SIZE, MOUNT_MODE, MOUNT_MAP };

static const struct mount_key {
	const char *key;
	const char *type;   /* NULL: any */
	const char *object; /* NULL: the mount itself */
	const char *member;
	enum mount_value value;
} mount_keys[] = {
	{ "type", NULL, NULL, "Type", MOUNT_STRING },
	{ "source", NULL, NULL, "Source", MOUNT_STRING },
	{ "src", NULL, NULL, "Source", MOUNT_STRING },
	{ "target", NULL, NULL, "Target", MOUNT_STRING },
	{ "dst", NULL, NULL, "Target", MOUNT_STRING },
	{ "destination", NULL, NULL, "Target", MOUNT_STRING },
	{ "readonly", NULL, NULL, "ReadOnly", MOUNT_BOOL },
	{ "ro", NULL, NULL, "ReadOnly", MOUNT_BOOL },
	{ "rw", NULL, NULL, "ReadOnly", MOUNT_NOT_BOOL },
	{ "consistency", NULL, NULL, "Consistency", MOUNT_STRING },
	{ "bind-propagation", "bind", "BindOptions", "Propagation", MOUNT_STRING },
	{ "bind-nonrecursive", "bind", "BindOptions", "NonRecursive", MOUNT_BOOL },
	{ "bind-recursive", "bind", "BindOptions", NULL, MOUNT_STRING },
	{ "bind-create-src", "bind", "BindOptions", "CreateMountpoint", MOUNT_BOOL },
	{ "volume-nocopy", "volume", "VolumeOptions", "NoCopy", MOUNT_BOOL },
	{ "volume-subpath", "volume", "VolumeOptions", "Subpath", MOUNT_STRING },
	{ "volume-label", "volume", "VolumeOptions", "Labels", MOUNT_MAP },
	{ "volume-driver", "volume", "VolumeOptions", "Name", MOUNT_STRING },
	{ "volume-opt", "volume", "VolumeOptions", "Options", MOUNT_MAP },
	{ "image-subpath", "image", "ImageOptions", "Subpath", MOUNT_STRING },
	{ "tmpfs-size", "tmpfs", "TmpfsOptions", "SizeBytes", MOUNT_SIZE },
	{ "tmpfs-mode", "tmpfs", "TmpfsOptions", "Mode", MOUNT_MODE },
};

static struct json *member_object(struct json *j, const char *key)
{
	struct json *o = json_get(j, key);

	if (!o) {
		o = json_new_object();
		json_set(j, key, o);
	}
	return o;
}

static int parse_octal(const char *s, int64_t *ret)
{
	*ret = 0;
	if (!*s || strlen(s) > 7)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '7')
			return -EINVAL;
		*ret = *ret * 8 + (*s - '0');
	}
	return 0;
}

static int bad_value(struct error *err, const char *key, const char *value)
{
	return error_set(err, ERROR_INVALID_ARGUMENT, "invalid value for %s: %s", key, value);
}

/* bind-recursive: enabled, disabled, writable, readonly. */
static int set_recursive(struct json *o, const char *value, struct error *err)
{
	if (strcmp(value, "disabled") == 0)
		json_set_bool(o, "NonRecursive", true);
	else if (strcmp(value, "writable") == 0)
		json_set_bool(o, "ReadOnlyNonRecursive", true);
	else if (strcmp(value, "readonly") == 0)
		json_set_bool(o, "ReadOnlyForceRecursive", true);
	else if (strcmp(value, "enabled") != 0)
		return bad_value(err, "bind-recursive", value);
	return 0;
}

static int set_map(struct json *o, const char *member, const char *value)
{
	const char *eq = strchr(value, '=');
	autofree char *key = xstrndup(value, eq ? (size_t)(eq - value) : strlen(value));

	json_set_string(member_object(o, member), key, eq ? eq + 1 : "");
	return 0;
}

static int set_key(struct json *mount, const struct mount_key *k, const char *value,
		   struct error *err)
{
	struct json *o = k->object ? member_object(mount, k->object) : mount;
	int64_t n;
	bool b = true;

	if (k->member && (strcmp(k->member, "Options") == 0 || strcmp(k->member, "Name") == 0))
		o = member_object(o, "DriverConfig");
	if (!k->member)
		return set_recursive(o, value, err);
	switch (k->value) {
	case MOUNT_BOOL:
	case MOUNT_NOT_BOOL:
		if (value && parse_bool(value, &b) < 0)
			return bad_value(err, k->key, value);
		json_set_bool(o, k->member, k->value == MOUNT_BOOL ? b : !b);
		return 0;
	case MOUNT_SIZE:
		if (parse_size(value, &n) < 0)
			return bad_value(err, k->key, value);
		json_set_int(o, k->member, n);
		return 0;
	case MOUNT_MODE:
		if (parse_octal(value, &n) < 0)
			return bad_value(err, k->key, value);
		json_set_int(o, k->member, n);
		return 0;
	case MOUNT_MAP:
		return set_map(o, k->member, value);
	default:
		json_set_string(o, k->member, value);
		return 0;
	}
}

static const struct mount_key *find_key(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(mount_keys); i++)
		if (strlen(mount_keys[i].key) == len && strncmp(mount_keys[i].key, name, len) == 0)
			return &mount_keys[i];
	return NULL;
}

static int set_field(struct json *mount, char *field, struct error *err)
{
	char *eq = strchr(field, '=');
	size_t len = eq ? (size_t)(eq - field) : strlen(field);
	const struct mount_key *k;

	for (size_t i = 0; i < len; i++)
		field[i] = (char)tolower((unsigned char)field[i]);
	k = find_key(field, len);
	if (!eq && !(k && (k->value == MOUNT_BOOL || k->value == MOUNT_NOT_BOOL)))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid field '%s' must be a key=value pair", field);
	if (!k)
		return error_set(err, ERROR_INVALID_ARGUMENT, "unexpected key '%.*s' in '%s'",
				 (int)len, field, field);
	return set_key(mount, k, eq ? eq + 1 : NULL, err);
}

static int check_types(const struct json *mount, const char *type, struct error *err)
{
	static const char *const objects[][2] = { { "BindOptions", "bind" },
						  { "VolumeOptions", "volume" },
						  { "ImageOptions", "image" },
						  { "TmpfsOptions", "tmpfs" } };

	for (size_t i = 0; i < ARRAY_SIZE(objects); i++)
		if (json_get(mount, objects[i][0]) && strcmp(type, objects[i][1]) != 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "cannot mix '%s-*' options with mount type '%s'",
					 objects[i][1], type);
	return 0;
}

struct json *spec_mount(const char *s, struct error *err)
{
	autostrv struct strv fields = STRV_INIT;
	autojson struct json *mount = json_new_object();
	const char *type, *source;

	json_set_string(mount, "Type", "volume");
	if (spec_csv(s, &fields, err) < 0)
		return NULL;
	for (size_t i = 0; i < fields.n; i++)
		if (set_field(mount, fields.v[i], err) < 0)
			return NULL;
	type = json_get_string(mount, "Type");
	if (str_empty(type)) {
		error_set(err, ERROR_INVALID_ARGUMENT, "type is required");
		return NULL;
	}
	if (str_empty(json_get_string(mount, "Target"))) {
		error_set(err, ERROR_INVALID_ARGUMENT, "target is required");
		return NULL;
	}
	if (check_types(mount, type, err) < 0)
		return NULL;
	source = json_get_string(mount, "Source");
	if (strcmp(type, "bind") == 0 && source && *source == '.') {
		autofree char *cwd = getcwd(NULL, 0);
		autofree char *path = path_join(cwd ? cwd : "/", source, NULL);

		json_set_string(mount, "Source", path);
	}
	return TAKE_PTR(mount);
}
