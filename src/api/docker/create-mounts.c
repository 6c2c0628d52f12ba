/* SPDX-License-Identifier: Apache-2.0 */
/* HostConfig's Binds, Mounts and Tmpfs, and Config's Volumes. */

#include "api/docker/internal.h"
#include "base/jsontab.h"
#include "base/mem.h"

#include <stdarg.h>
#include <string.h>

struct mount_document {
	char *type, *source, *target, *consistency;
	bool read_only;
	struct json *bind, *volume, *tmpfs, *image;
};

static const struct json_field mount_fields[] = {
	JSON_FIELD("Type", FIELD_STRING, struct mount_document, type, JSON_REQUIRED),
	JSON_FIELD("Source", FIELD_STRING, struct mount_document, source, 0),
	JSON_FIELD("Target", FIELD_STRING, struct mount_document, target, 0),
	JSON_FIELD("ReadOnly", FIELD_BOOL, struct mount_document, read_only, 0),
	JSON_FIELD("BindOptions", FIELD_JSON, struct mount_document, bind, 0),
	JSON_FIELD("VolumeOptions", FIELD_JSON, struct mount_document, volume, 0),
	JSON_FIELD("TmpfsOptions", FIELD_JSON, struct mount_document, tmpfs, 0),
	JSON_FIELD("ImageOptions", FIELD_JSON, struct mount_document, image, 0),
	JSON_END,
};

static struct mount_spec *mount_add(struct container_config *c, const char *type,
				    const char *source, const char *target)
{
	struct mount_spec *m;

	GROW_ARRAY(c->mounts.v, c->mounts.n);
	m = &c->mounts.v[c->mounts.n++];
	*m = (struct mount_spec){
		.type = xstrdup(type),
		.source = xstrdup(source),
		.target = xstrdup(target),
	};
	return m;
}

static const char *const propagations[] = { "private", "rprivate", "shared",
					    "rshared", "slave",	   "rslave" };

static bool is_propagation(const char *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(propagations); i++) {
		if (str_equal(propagations[i], s))
			return true;
	}
	return false;
}

/* "ro,rslave,nocopy": the third part of -v. */
static int bind_mode(struct mount_spec *m, const char *mode, const char *bind, struct error *err)
{
	autostrv struct strv parts = STRV_INIT;

	strv_split(&parts, mode, ",");
	for (size_t i = 0; i < parts.n; i++) {
		const char *p = parts.v[i];

		if (str_equal(p, "ro") || str_equal(p, "readonly"))
			m->read_only = true;
		else if (str_equal(p, "nocopy"))
			m->no_copy = true;
		else if (is_propagation(p))
			str_replace(&m->propagation, p);
		else if (!str_equal(p, "rw") && !str_equal(p, "z") && !str_equal(p, "Z") &&
			 !str_equal(p, "cached") && !str_equal(p, "delegated") &&
			 !str_equal(p, "consistent"))
			return error_set(err, ERROR_INVALID_ARGUMENT, "invalid mode: %s", bind);
	}
	return 0;
}

/* "/host:/ctr[:mode]", "volume:/ctr[:mode]", "/ctr". */
static int add_bind(struct container_config *c, const char *bind, struct error *err)
{
	autostrv struct strv parts = STRV_INIT;
	struct mount_spec *m;
	bool host;

	strv_split(&parts, bind, ":");
	if (parts.n < 1 || parts.n > 3 || parts.v[0][0] == '\0' || (parts.n > 1 && !parts.v[1][0]))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid volume specification: '%s'",
				 bind);
	if (parts.n == 1) {
		m = mount_add(c, "volume", NULL, parts.v[0]);
		m->anonymous = true;
		return 0;
	}
	host = parts.v[0][0] == '/';
	if (!host && !identifier_valid(parts.v[0]))
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"create %s: \"%s\" includes invalid characters for a local volume "
			"name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended "
			"to pass a host directory, use absolute path",
			parts.v[0], parts.v[0]);
	m = mount_add(c, host ? "bind" : "volume", parts.v[0], parts.v[1]);
	m->create_source = host;
	return parts.n == 3 ? bind_mode(m, parts.v[2], bind, err) : 0;
}

#define MOUNT_ERROR(err, d, ...) mount_error((err), (d)->type, __VA_ARGS__)
static int PRINTF_LIKE(3, 4) mount_error(struct error *err, const char *type, const char *fmt, ...)
{
	autobuf struct buf text = BUF_INIT(4096);
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	return error_set(err, ERROR_INVALID_ARGUMENT, "invalid mount config for type \"%s\": %s",
			 type, text.data);
}

static int bind_options(struct mount_spec *m, const struct mount_document *d, struct error *err)
{
	const char *propagation = json_get_string(d->bind, "Propagation");

	if (!str_empty(propagation)) {
		if (!is_propagation(propagation))
			return MOUNT_ERROR(err, d, "invalid propagation mode: %s", propagation);
		m->propagation = xstrdup(propagation);
	}
	m->create_source = json_get_bool(d->bind, "CreateMountpoint", false);
	m->non_recursive = json_get_bool(d->bind, "NonRecursive", false);
	m->ro_shallow = json_get_bool(d->bind, "ReadOnlyNonRecursive", false);
	m->recursive_read_only = json_get_bool(d->bind, "ReadOnlyForceRecursive", false);
	if ((m->ro_shallow || m->recursive_read_only) && !m->read_only)
		return MOUNT_ERROR(err, d, "mode must be read-only for %s",
				   m->ro_shallow ? "ReadOnlyNonRecursive"
						 : "ReadOnlyForceRecursive");
	if (m->ro_shallow && m->recursive_read_only)
		return MOUNT_ERROR(err, d,
				   "ReadOnlyForceRecursive and ReadOnlyNonRecursive cannot be "
				   "combined");
	return 0;
}

int create_volume_driver(const char *volume, const char *driver, struct error *err)
{
	if (str_empty(driver) || str_equal(driver, "local"))
		return 0;
	return error_set(err, ERROR_INVALID_ARGUMENT,
			 "create %s: error looking up volume plugin %s: plugin \"%s\" not found",
			 volume ? volume : "", driver, driver);
}

static int volume_options(struct mount_spec *m, const struct mount_document *d, struct error *err)
{
	const struct json *driver = json_get(d->volume, "DriverConfig");
	const char *subpath = json_get_string(d->volume, "Subpath");

	m->no_copy = json_get_bool(d->volume, "NoCopy", false);
	m->anonymous = str_empty(d->source);
	if (m->anonymous && m->read_only)
		return MOUNT_ERROR(err, d,
				   "must not set ReadOnly mode when using anonymous volumes");
	if (!str_empty(subpath)) {
		if (m->anonymous)
			return MOUNT_ERROR(err, d,
					   "must not set Subpath when using anonymous volumes");
		if (subpath[0] == '/' || str_equal(subpath, "..") ||
		    str_has_prefix(subpath, "../") || strstr(subpath, "/../") ||
		    str_has_suffix(subpath, "/.."))
			return MOUNT_ERROR(err, d,
					   "invalid VolumeOptions.Subpath: must be a "
					   "relative path within the volume");
		m->sub_path = xstrdup(subpath);
	}
	if (create_volume_driver(d->source, json_get_string(driver, "Name"), err) < 0 ||
	    json_get_kvs(d->volume, "Labels", &m->volume_labels, err) < 0)
		return -1;
	return json_get_kvs(driver, "Options", &m->volume_options, err);
}

/* [["uid","1"],["noexec"]] */
static int tmpfs_options(struct mount_spec *m, const struct mount_document *d, struct error *err)
{
	const struct json *list = json_get(d->tmpfs, "Options");
	int64_t size = json_get_int(d->tmpfs, "SizeBytes", 0);
	int64_t mode = json_get_int(d->tmpfs, "Mode", 0);

	if (!str_empty(d->source))
		return MOUNT_ERROR(err, d, "field Source must not be specified");
	if (size < 0)
		return MOUNT_ERROR(err, d, "invalid size: must not be negative");
	if (size > 0)
		strv_push_printf(&m->options, "size=%lld", (long long)size);
	if (mode > 0)
		strv_push_printf(&m->options, "mode=%llo", (unsigned long long)mode);
	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *pair = json_array_get(list, i);
		const char *key = json_string(json_array_get(pair, 0));
		const char *value = json_string(json_array_get(pair, 1));

		if (str_empty(key) || strchr(key, ',') || (value && strchr(value, ',')))
			return MOUNT_ERROR(err, d, "invalid option array: %zu", i);
		strv_push_printf(&m->options, value ? "%s=%s" : "%s", key, value);
	}
	return 0;
}

static int add_mount(struct container_config *c, const struct mount_document *d, struct error *err)
{
	static const struct {
		const char *type, *member;
		int (*take)(struct mount_spec *m, const struct mount_document *d,
			    struct error *err);
	} types[] = { { "bind", "BindOptions", bind_options },
		      { "volume", "VolumeOptions", volume_options },
		      { "tmpfs", "TmpfsOptions", tmpfs_options } };
	const struct json *given[] = { d->bind, d->volume, d->tmpfs };
	struct mount_spec *m = mount_add(c, d->type, d->source, d->target);

	m->read_only = d->read_only;
	if (str_equal(d->type, "image"))
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "mounts of type \"image\" are not supported by Kistl");
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (str_equal(d->type, types[i].type)) {
			if (types[i].take(m, d, err) < 0)
				return -1;
		} else if (given[i] && json_type(given[i]) != JSON_NULL) {
			return MOUNT_ERROR(err, d, "field %s must not be specified",
					   types[i].member);
		}
	}
	return 0;
}

/* Config.Volumes: anonymous ones, where nothing else is mounted. */
static int add_volume_key(const char *key, struct json *value, void *arg)
{
	struct container_config *c = arg;

	for (size_t i = 0; i < c->mounts.n; i++) {
		if (str_equal(c->mounts.v[i].target, key))
			return 0;
	}
	mount_add(c, "volume", NULL, key)->anonymous = true;
	return 0;
}

static int add_mounts(const struct json *list, struct container_config *c, struct error *err)
{
	if (list && json_type(list) != JSON_ARRAY && json_type(list) != JSON_NULL)
		return error_set(err, ERROR_INVALID_ARGUMENT, "Mounts: expected array");
	for (size_t i = 0; i < json_array_len(list); i++) {
		struct mount_document d = { 0 };
		int r = jsontab_decode(mount_fields, json_array_get(list, i), &d, err);

		if (r < 0)
			error_wrap(err, "Mounts[%zu]", i);
		else
			r = add_mount(c, &d, err);
		jsontab_done(mount_fields, &d);
		if (r < 0)
			return -1;
	}
	return 0;
}

int create_mounts(const struct mount_requests *m, struct container_config *c, struct error *err)
{
	for (size_t i = 0; i < m->binds->n; i++)
		if (add_bind(c, m->binds->v[i], err) < 0)
			return -1;
	if (add_mounts(m->mounts, c, err) < 0)
		return -1;
	for (size_t i = 0; i < m->tmpfs->n; i++) {
		struct mount_spec *spec = mount_add(c, "tmpfs", NULL, m->tmpfs->v[i].key);

		if (!str_empty(m->tmpfs->v[i].value))
			strv_split(&spec->options, m->tmpfs->v[i].value, ",");
	}
	if (m->volumes)
		json_object_each(m->volumes, add_volume_key, c);
	return 0;
}
