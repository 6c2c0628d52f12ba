/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cdi.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/yaml.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define FILE_MAX (4 << 20)
#define FILES_MAX 1000

static const char *const default_dirs[] = { "/etc/cdi", "/var/run/cdi" };

/* Letters, digits, "_-." ("_-.:" in names), alphanumeric at both ends. */
static bool word_valid(const char *s, size_t n, const char *extra)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && (!strchr(extra, s[i]) || i == 0 || i + 1 == n))
			return false;
	return n > 0;
}

static bool kind_valid(const char *s, size_t n)
{
	const char *slash = memchr(s, '/', n);
	size_t vendor = slash ? (size_t)(slash - s) : 0;

	return slash && word_valid(s, vendor, "_-.") && isalpha((unsigned char)s[0]) &&
	       word_valid(slash + 1, n - vendor - 1, "_-") && isalpha((unsigned char)slash[1]);
}

bool cdi_name_valid(const char *name)
{
	const char *eq = strchr(name, '=');

	return eq && kind_valid(name, (size_t)(eq - name)) &&
	       word_valid(eq + 1, strlen(eq + 1), "_-.:");
}

int cdi_check(const struct json *document, struct error *err)
{
	const char *version = json_get_string(document, "cdiVersion");
	const char *kind = json_get_string(document, "kind");
	const struct json *devices = json_get(document, "devices");

	if (json_type(document) != JSON_OBJECT || str_empty(version))
		return error_set(err, ERROR_INVALID_ARGUMENT, "no cdiVersion");
	if (!kind || !kind_valid(kind, strlen(kind)))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid kind '%.100s'",
				 kind ? kind : "");
	if (json_type(devices) != JSON_ARRAY || json_array_len(devices) == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "no devices");
	for (size_t i = 0; i < json_array_len(devices); i++) {
		const char *name = json_get_string(json_array_get(devices, i), "name");

		if (!name || !word_valid(name, strlen(name), "_-.:"))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "devices[%zu]: invalid name '%.100s'", i,
					 name ? name : "");
	}
	return 0;
}

/* --- edits --- */

static struct json *member(struct json *obj, const char *key, bool array)
{
	struct json *j = json_get(obj, key);

	if (j)
		return j;
	j = array ? json_new_array() : json_new_object();
	json_set(obj, key, j);
	return j;
}

static int edit_env(const struct json *edits, struct json *spec, struct error *err)
{
	autostrv struct strv add = STRV_INIT, env = STRV_INIT;
	struct json *process = member(spec, "process", false);

	if (json_get_strv(edits, "env", &add, err) < 0 ||
	    json_get_strv(process, "env", &env, err) < 0)
		return -1;
	for (size_t i = 0; i < add.n; i++) {
		if (!strchr(add.v[i], '=') || add.v[i][0] == '=')
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "env: '%.100s' is no assignment", add.v[i]);
		strv_env_set(&env, add.v[i]);
	}
	if (add.n > 0)
		json_set(process, "env", json_new_strv(&env));
	return 0;
}

struct node {
	const char *path, *type, *permissions;
	int64_t major, minor;
	mode_t mode;
};

/* What the file leaves open is as the host has it. */
static int look_at(const struct json *j, struct node *n, struct error *err)
{
	const char *host = json_get_string(j, "hostPath");
	struct stat st;

	host = str_empty(host) ? n->path : host;
	n->type = json_get_string(j, "type");
	n->major = json_get_int(j, "major", 0);
	n->minor = json_get_int(j, "minor", 0);
	n->mode = (mode_t)json_get_int(j, "fileMode", 0) & 07777;
	if (!str_empty(n->type) && (n->major || str_equal(n->type, "p")))
		return 0;
	if (stat(host, &st) < 0)
		return error_errno(err, errno, "device node '%s'", host);
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISFIFO(st.st_mode))
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is no device node", host);
	n->type = S_ISBLK(st.st_mode) ? "b" : S_ISCHR(st.st_mode) ? "c" : "p";
	n->major = major(st.st_rdev);
	n->minor = minor(st.st_rdev);
	if (!n->mode)
		n->mode = st.st_mode & 07777;
	return 0;
}

static void add_node(const struct node *n, const struct json *j, struct json *spec)
{
	struct json *linux_ = member(spec, "linux", false), *device = json_new_object();
	struct json *resources = member(linux_, "resources", false), *rule;

	json_set_string(device, "path", n->path);
	json_set_string(device, "type", n->type);
	json_set_int(device, "major", n->major);
	json_set_int(device, "minor", n->minor);
	if (n->mode)
		json_set_int(device, "fileMode", n->mode);
	if (json_get(j, "uid"))
		json_set_int(device, "uid", json_get_int(j, "uid", 0));
	if (json_get(j, "gid"))
		json_set_int(device, "gid", json_get_int(j, "gid", 0));
	json_add(member(linux_, "devices", true), device);
	if (str_equal(n->type, "p"))
		return;
	rule = json_new_object();
	json_set_bool(rule, "allow", true);
	json_set_string(rule, "type", n->type);
	json_set_int(rule, "major", n->major);
	json_set_int(rule, "minor", n->minor);
	json_set_string(rule, "access", str_empty(n->permissions) ? "rwm" : n->permissions);
	json_add(member(resources, "devices", true), rule);
}

static int edit_devices(const struct json *edits, struct json *spec, struct error *err)
{
	const struct json *list = json_get(edits, "deviceNodes");

	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *j = json_array_get(list, i);
		struct node n = { .path = json_get_string(j, "path"),
				  .permissions = json_get_string(j, "permissions") };

		if (str_empty(n.path) || n.path[0] != '/')
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "deviceNodes[%zu]: path '%.100s' is not absolute", i,
					 n.path ? n.path : "");
		if (n.permissions && strspn(n.permissions, "rwm") != strlen(n.permissions))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "deviceNodes[%zu]: invalid permissions '%.20s'", i,
					 n.permissions);
		if (look_at(j, &n, err) < 0)
			return -1;
		add_node(&n, j, spec);
	}
	return 0;
}

static int edit_mounts(const struct json *edits, struct json *spec, struct error *err)
{
	const struct json *list = json_get(edits, "mounts");

	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *j = json_array_get(list, i);
		const char *host = json_get_string(j, "hostPath");
		const char *target = json_get_string(j, "containerPath");
		const char *type = json_get_string(j, "type");
		autostrv struct strv options = STRV_INIT;
		struct json *m;

		if (str_empty(host) || str_empty(target) || target[0] != '/')
			return error_set(
				err, ERROR_INVALID_ARGUMENT,
				"mounts[%zu]: needs hostPath and an absolute containerPath", i);
		if (json_get_strv(j, "options", &options, err) < 0)
			return -1;
		if (options.n == 0 && str_empty(type))
			strv_split(&options, "ro,nosuid,nodev,bind", ",");
		m = json_new_object();
		json_set_string(m, "source", host);
		json_set_string(m, "destination", target);
		json_set_string(m, "type", str_empty(type) ? "bind" : type);
		json_set(m, "options", json_new_strv(&options));
		json_add(member(spec, "mounts", true), m);
	}
	return 0;
}

static int edit_hooks(const struct json *edits, struct json *spec, struct error *err)
{
	static const char *const names[] = { "prestart",       "createRuntime", "createContainer",
					     "startContainer", "poststart",	"poststop" };
	static const char *const members[] = { "path", "args", "env", "timeout" };
	const struct json *list = json_get(edits, "hooks");

	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *j = json_array_get(list, i);
		const char *name = json_get_string(j, "hookName");
		const char *path = json_get_string(j, "path");
		struct json *hook;
		bool known = false;

		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			known |= str_equal(names[k], name);
		if (!known || str_empty(path) || path[0] != '/')
			return error_set(
				err, ERROR_INVALID_ARGUMENT,
				"hooks[%zu]: unknown hookName '%.40s', or no absolute path", i,
				name ? name : "");
		hook = json_new_object();
		for (size_t k = 0; k < ARRAY_SIZE(members); k++)
			if (json_get(j, members[k]))
				json_set(hook, members[k], json_copy(json_get(j, members[k])));
		json_add(member(member(spec, "hooks", false), name, true), hook);
	}
	return 0;
}

static void edit_groups(const struct json *edits, struct json *spec)
{
	const struct json *list = json_get(edits, "additionalGids");

	for (size_t i = 0; i < json_array_len(list); i++) {
		struct json *user = member(member(spec, "process", false), "user", false);
		int64_t gid = json_int(json_array_get(list, i), 0);

		if (gid > 0 && gid <= INT32_MAX)
			json_add(member(user, "additionalGids", true), json_new_int(gid));
	}
}

int cdi_edit(const struct json *edits, struct json *spec, struct error *err)
{
	if (!edits)
		return 0;
	if (json_type(edits) != JSON_OBJECT)
		return error_set(err, ERROR_INVALID_ARGUMENT, "containerEdits: expected object");
	if (edit_env(edits, spec, err) < 0 || edit_devices(edits, spec, err) < 0 ||
	    edit_mounts(edits, spec, err) < 0 || edit_hooks(edits, spec, err) < 0)
		return -1;
	edit_groups(edits, spec);
	return 0;
}

/* --- files --- */

struct cdi_file {
	struct json *document;
	size_t dir; /* later directories win */
};

struct cdi_files {
	struct cdi_file *v;
	size_t n;
};

static void files_done(struct cdi_files *f)
{
	for (size_t i = 0; i < f->n; i++)
		json_unref(f->v[i].document);
	free(f->v);
}

static void load_file(const char *dir, const char *name, size_t index, struct cdi_files *ret)
{
	autobuf struct buf text = BUF_INIT(FILE_MAX);
	autofree char *path = path_join(dir, name, NULL);
	autoerror struct error err = ERROR_INIT;
	bool yaml = str_has_suffix(name, ".yaml") || str_has_suffix(name, ".yml");
	int r;

	if (name[0] == '.' || (!yaml && !str_has_suffix(name, ".json")) || ret->n >= FILES_MAX)
		return;
	r = fs_read(AT_FDCWD, path, &text);
	if (r < 0) {
		log_warn("CDI: read '%s': %s, ignoring", path, strerror(-r));
		return;
	}
	autojson struct json *j = yaml ? yaml_parse(text.data, text.len, &err)
				       : json_parse(text.data, text.len, FILE_MAX, &err);
	if (!j || cdi_check(j, &err) < 0) {
		log_warn("CDI: '%s': %s, ignoring", path, error_msg(&err));
		return;
	}
	GROW_ARRAY(ret->v, ret->n);
	ret->v[ret->n++] = (struct cdi_file){ TAKE_PTR(j), index };
}

static void load_dir(const char *dir, size_t index, struct cdi_files *ret)
{
	autostrv struct strv names = STRV_INIT;
	DIR *d = opendir(dir);

	for (struct dirent *e; d && (e = readdir(d));)
		strv_push(&names, e->d_name);
	if (d)
		closedir(d);
	strv_sort(&names);
	for (size_t i = 0; i < names.n; i++)
		load_file(dir, names.v[i], index, ret);
}

static void load_all(const struct strv *dirs, struct cdi_files *ret)
{
	if (dirs && dirs->n > 0) {
		for (size_t i = 0; i < dirs->n; i++)
			load_dir(dirs->v[i], i, ret);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(default_dirs); i++)
		load_dir(default_dirs[i], i, ret);
}

/* The file that has the device; NULL: none, or two of equal right. */
static const struct cdi_file *find(const struct cdi_files *f, const char *name,
				   const struct json **ret_device)
{
	const char *eq = strchr(name, '=');
	autofree char *kind = xstrndup(name, (size_t)(eq - name));
	const struct cdi_file *found = NULL;
	bool conflict = false;

	for (size_t i = 0; i < f->n; i++) {
		const struct json *devices = json_get(f->v[i].document, "devices");

		if (!str_equal(json_get_string(f->v[i].document, "kind"), kind))
			continue;
		for (size_t k = 0; k < json_array_len(devices); k++) {
			const struct json *d = json_array_get(devices, k);

			if (!str_equal(json_get_string(d, "name"), eq + 1))
				continue;
			conflict = found && found->dir == f->v[i].dir;
			found = &f->v[i];
			*ret_device = d;
		}
	}
	return conflict ? NULL : found;
}

bool cdi_has_kind(const struct strv *dirs, const char *kind)
{
	CLEANUP(files_done) struct cdi_files files = { 0 };

	load_all(dirs, &files);
	for (size_t i = 0; i < files.n; i++)
		if (str_equal(json_get_string(files.v[i].document, "kind"), kind))
			return true;
	return false;
}

static int unresolvable(const struct cdi_files *files, const struct strv *names, struct error *err)
{
	autostrv struct strv missing = STRV_INIT;
	const struct json *device;

	for (size_t i = 0; i < names->n; i++)
		if (!cdi_name_valid(names->v[i]) || !find(files, names->v[i], &device))
			strv_push(&missing, names->v[i]);
	if (missing.n == 0)
		return 0;
	autofree char *list = strv_join(&missing, ", ");
	return error_set(err, ERROR_NOT_FOUND,
			 "CDI device injection failed: unresolvable CDI devices %s", list);
}

int cdi_apply(const struct strv *dirs, const struct strv *names, struct json *spec,
	      struct error *err)
{
	CLEANUP(files_done) struct cdi_files files = { 0 };
	CLEANUP(map_done) struct map used = MAP_INIT;

	load_all(dirs, &files);
	if (unresolvable(&files, names, err) < 0)
		return -1;
	for (size_t i = 0; i < names->n; i++) {
		const struct json *device = NULL;
		const struct cdi_file *f = find(&files, names->v[i], &device);
		autofree char *key = xasprintf("%p", (const void *)f);

		if (map_get(&used, names->v[i]))
			continue; /* named twice */
		map_set(&used, names->v[i], &used);
		/* A file's own edits go with the first of its devices. */
		if (!map_get(&used, key) &&
		    cdi_edit(json_get(f->document, "containerEdits"), spec, err) < 0)
			return error_wrap(err, "CDI device injection failed: %s", names->v[i]);
		map_set(&used, key, &used);
		if (cdi_edit(json_get(device, "containerEdits"), spec, err) < 0)
			return error_wrap(err, "CDI device injection failed: %s", names->v[i]);
	}
	return 0;
}
