/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/time.h"
#include "oci/toml.h"

#include <fcntl.h>
#include <string.h>

enum key_type {
	KEY_STRING,
	KEY_INT,
	KEY_DURATION, /* "5m0s" */
	KEY_STRINGS,
	KEY_STRING_OR_STRINGS, /* containerd: directories separated by colons */
	KEY_STRING_MAP,
	KEY_RUNTIME, /* one of a runtime's, its name is the '*' */
	KEY_VERSION,
};

static const char *const type_names[] = {
	[KEY_STRING] = "a string",
	[KEY_INT] = "a non-negative integer",
	[KEY_DURATION] = "a duration, such as \"1m30s\"",
	[KEY_STRINGS] = "an array of strings",
	[KEY_STRING_OR_STRINGS] = "a string",
	[KEY_STRING_MAP] = "a table of strings",
	[KEY_RUNTIME] = "a string",
	[KEY_VERSION] = "2 or 3",
};

struct key {
	const char *path; /* parts by '/', since containerd's plugin names have dots; '*': any */
	enum key_type type;
	size_t offset;
};

#define AT(member) offsetof(struct config, member)
#define CRI_2 "plugins/io.containerd.grpc.v1.cri/"
#define CRI_IMAGES "plugins/io.containerd.cri.v1.images/"
#define CRI_RUNTIME "plugins/io.containerd.cri.v1.runtime/"

static const struct key keys[] = {
	{ "version", KEY_VERSION, 0 },
	{ "root", KEY_STRING, AT(root) },
	{ "state", KEY_STRING, AT(state) },
	{ "grpc/address", KEY_STRING, AT(socket) },
	{ "debug/level", KEY_STRING, AT(log_level) },
	{ "debug/format", KEY_STRING, AT(log_format) },
	{ CRI_2 "registry/config_path", KEY_STRING_OR_STRINGS, AT(hosts_dirs) },
	{ CRI_2 "max_concurrent_downloads", KEY_INT, AT(max_downloads) },
	{ CRI_2 "image_pull_progress_timeout", KEY_DURATION, AT(stall_timeout) },
	{ CRI_2 "containerd/snapshotter", KEY_STRING, AT(snapshotter) },
	{ CRI_2 "containerd/default_runtime_name", KEY_STRING, AT(default_runtime) },
	{ CRI_2 "containerd/runtimes/*/options/BinaryName", KEY_RUNTIME, 0 },
	{ CRI_IMAGES "registry/config_path", KEY_STRING_OR_STRINGS, AT(hosts_dirs) },
	{ CRI_IMAGES "max_concurrent_downloads", KEY_INT, AT(max_downloads) },
	{ CRI_IMAGES "image_pull_progress_timeout", KEY_DURATION, AT(stall_timeout) },
	{ CRI_IMAGES "snapshotter", KEY_STRING, AT(snapshotter) },
	{ CRI_RUNTIME "containerd/default_runtime_name", KEY_STRING, AT(default_runtime) },
	{ CRI_RUNTIME "containerd/runtimes/*/options/BinaryName", KEY_RUNTIME, 0 },
	{ "kistl/group", KEY_STRING, AT(group) },
	{ "kistl/snapshotter", KEY_STRING, AT(snapshotter) },
	{ "kistl/default-runtime", KEY_STRING, AT(default_runtime) },
	{ "kistl/runtimes/*/path", KEY_RUNTIME, 0 },
	{ "kistl/hosts-dirs", KEY_STRINGS, AT(hosts_dirs) },
	{ "kistl/insecure-registries", KEY_STRINGS, AT(insecure_registries) },
	{ "kistl/log-driver", KEY_STRING, AT(log_driver) },
	{ "kistl/log-opts", KEY_STRING_MAP, AT(log_options) },
	{ "kistl/dns", KEY_STRINGS, AT(dns) },
	{ "kistl/bridge", KEY_STRING, AT(bridge) },
	{ "kistl/subnet", KEY_STRING, AT(subnet) },
	{ "kistl/shim", KEY_STRING, AT(shim) },
	{ "kistl/worker", KEY_STRING, AT(worker) },
	{ "kistl/init", KEY_STRING, AT(init) },
	{ "kistl/max-downloads", KEY_INT, AT(max_downloads) },
	{ "kistl/pull-progress-timeout", KEY_DURATION, AT(stall_timeout) },
	{ "kistl/idle-exit", KEY_INT, AT(idle_exit) },
};

void config_done(struct config *c)
{
	char **strings[] = { &c->root,	      &c->state,      &c->socket, &c->log_level,
			     &c->log_format,  &c->group,      &c->shim,	  &c->worker,
			     &c->snapshotter, &c->log_driver, &c->init,	  &c->default_runtime,
			     &c->bridge,      &c->subnet };

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		free(*strings[i]);
	for (size_t i = 0; i < c->runtimes.n; i++) {
		free(c->runtimes.v[i].name);
		free(c->runtimes.v[i].path);
	}
	free(c->runtimes.v);
	strv_done(&c->hosts_dirs);
	strv_done(&c->insecure_registries);
	strv_done(&c->dns);
	strv_done(&c->unknown);
	kvs_done(&c->log_options);
	*c = (struct config){ 0 };
}

/* One part of a pattern against a key; *ret_star gets what a '*' stood for. */
static bool part_matches(const char *pattern, size_t len, const char *name, const char **ret_star)
{
	if (len == 1 && pattern[0] == '*') {
		*ret_star = name;
		return true;
	}
	return strlen(name) == len && memcmp(pattern, name, len) == 0;
}

enum match { MATCH_NO, MATCH_WITHIN, MATCH_KEY };

static enum match match_path(const char *pattern, const struct strv *path, const char **ret_star)
{
	for (size_t i = 0; i < path->n; i++) {
		size_t len = strcspn(pattern, "/");

		if (len == 0 || !part_matches(pattern, len, path->v[i], ret_star))
			return MATCH_NO;
		pattern += len;
		pattern += *pattern == '/';
	}
	return *pattern ? MATCH_WITHIN : MATCH_KEY;
}

/* As TOML writes it: plugins."io.containerd.grpc.v1.cri".registry */
static char *format_path(const struct strv *path)
{
	struct buf b = BUF_INIT(4096);

	for (size_t i = 0; i < path->n; i++) {
		const char *quote = strpbrk(path->v[i], ". \"") ? "\"" : "";

		buf_printf(&b, "%s%s%s%s", i ? "." : "", quote, path->v[i], quote);
	}
	return buf_steal(&b, NULL);
}

static int wrong_type(const struct strv *path, enum key_type type, struct error *err)
{
	autofree char *name = format_path(path);

	return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' must be %s", name, type_names[type]);
}

static void set_runtime(struct config *c, const char *name, const char *path)
{
	for (size_t i = 0; i < c->runtimes.n; i++) {
		if (strcmp(c->runtimes.v[i].name, name) == 0) {
			str_replace(&c->runtimes.v[i].path, path);
			return;
		}
	}
	GROW_ARRAY(c->runtimes.v, c->runtimes.n);
	c->runtimes.v[c->runtimes.n++] = (struct config_runtime){ xstrdup(name), xstrdup(path) };
}

static bool take_strings(struct strv *ret, const struct json *value)
{
	autostrv struct strv s = STRV_INIT;

	if (json_type(value) != JSON_ARRAY)
		return false;
	for (size_t i = 0; i < json_array_len(value); i++) {
		const char *text = json_string(json_array_get(value, i));

		if (!text)
			return false;
		strv_push(&s, text);
	}
	strv_done(ret);
	*ret = s;
	s = STRV_INIT;
	return true;
}

static int take_pair(const char *key, struct json *value, void *arg)
{
	if (!json_string(value))
		return -1;
	kvs_set(arg, key, json_string(value));
	return 0;
}

static bool take_value(struct config *c, const struct key *key, const char *star,
		       const struct json *value)
{
	void *member = (char *)c + key->offset;
	const char *text = json_string(value);
	int64_t number = json_int(value, -1);

	switch (key->type) {
	case KEY_STRING:
		if (text)
			str_replace(member, text);
		return text;
	case KEY_RUNTIME:
		if (text)
			set_runtime(c, star, text);
		return text;
	case KEY_STRING_OR_STRINGS:
		if (text) {
			strv_done(member);
			strv_split(member, text, ":");
		}
		return text;
	case KEY_INT:
		if (json_type(value) != JSON_INT || number < 0)
			return false;
		*(int64_t *)member = number;
		return true;
	case KEY_DURATION:
		return text && time_parse_duration(text, member) == 0 && *(int64_t *)member >= 0;
	case KEY_VERSION:
		return json_type(value) == JSON_INT && (number == 2 || number == 3);
	case KEY_STRINGS:
		return take_strings(member, value);
	case KEY_STRING_MAP:
		kvs_done(member);
		return json_type(value) == JSON_OBJECT &&
		       json_object_each(value, take_pair, member) == 0;
	}
	return false;
}

struct walk {
	struct config *config;
	struct strv path;
	struct error *err;
};

static int walk_member(const char *name, struct json *value, void *arg)
{
	struct walk *w = arg;
	enum match best = MATCH_NO;
	int r = 0;

	strv_push(&w->path, name);
	for (size_t i = 0; i < ARRAY_SIZE(keys) && best != MATCH_KEY; i++) {
		const char *star = NULL;
		enum match m = match_path(keys[i].path, &w->path, &star);

		if (m == MATCH_KEY && !take_value(w->config, &keys[i], star, value))
			r = wrong_type(&w->path, keys[i].type, w->err);
		if (m > best)
			best = m;
	}
	if (best == MATCH_NO) {
		strv_take(&w->config->unknown, format_path(&w->path));
	} else if (best == MATCH_WITHIN && json_type(value) == JSON_OBJECT) {
		r = json_object_each(value, walk_member, w);
	} else if (best == MATCH_WITHIN) {
		autofree char *path = format_path(&w->path);

		r = error_set(w->err, ERROR_INVALID_ARGUMENT, "'%s' must be a table", path);
	}
	strv_remove(&w->path, w->path.n - 1);
	return r;
}

int config_parse(struct config *c, const char *text, size_t len, struct error *err)
{
	autojson struct json *j = toml_parse(text, len, CONFIG_MAX, err);
	struct walk w = { .config = c, .path = STRV_INIT, .err = err };

	if (!j)
		return -1;
	int r = json_object_each(j, walk_member, &w);
	strv_done(&w.path);
	return r;
}

static char *user_directory(const char *variable, const char *below_home, struct error *err)
{
	const char *dir = getenv(variable);
	const char *home = getenv("HOME");

	if (!str_empty(dir) && dir[0] == '/')
		return path_join(dir, "kistl", NULL);
	if (below_home && !str_empty(home))
		return path_join(home, below_home, "kistl", NULL);
	error_set(err, ERROR_FAILED_PRECONDITION, "$%s is not set", variable);
	return NULL;
}

int config_load(struct config *c, const char *path, struct error *err)
{
	autobuf struct buf b = BUF_INIT(CONFIG_MAX);
	autofree char *dir = NULL;
	autofree char *fallback = NULL;

	if (!path) {
		dir = geteuid() == 0 ? xstrdup("/etc/kistl")
				     : user_directory("XDG_CONFIG_HOME", ".config", NULL);
		if (!dir)
			return 0;
		fallback = path_join(dir, "config.toml", NULL);
	}
	int r = fs_read(AT_FDCWD, path ? path : fallback, &b);
	if (r == -ENOENT && !path)
		return 0;
	if (r < 0)
		return error_errno(err, -r, "read '%s'", path ? path : fallback);
	if (config_parse(c, b.data, b.len, err) < 0)
		return error_wrap(err, "%s", path ? path : fallback);
	return 0;
}

/* Sets *member to what make() gave unless it is set. */
static int set_default(char **member, char *value)
{
	if (!*member)
		*member = value;
	else
		free(value);
	return *member ? 0 : -1;
}

static void default_runtimes(struct config *c)
{
	static const char *const known[] = { "crun", "runc", "runsc", "youki" };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		autofree char *path = process_find(known[i], NULL);

		if (path && !config_runtime_path(c, known[i]))
			set_runtime(c, known[i], path);
	}
	/* None at all: what containers are told then names the one that is missing. */
	if (c->runtimes.n == 0)
		set_runtime(c, "crun", "crun");
	if (!c->default_runtime)
		c->default_runtime =
			xstrdup(config_runtime_path(c, "crun")	 ? "crun"
				: config_runtime_path(c, "runc") ? "runc"
								 : c->runtimes.v[0].name);
}

static void default_hosts_dirs(struct config *c)
{
	static const char *const dirs[] = { "/etc/kistl/certs.d", "/etc/containerd/certs.d",
					    "/etc/docker/certs.d" };

	if (c->hosts_dirs.n > 0)
		return;
	autofree char *own =
		geteuid() == 0 ? NULL : user_directory("XDG_CONFIG_HOME", ".config", NULL);
	if (own)
		strv_take(&c->hosts_dirs, path_join(own, "certs.d", NULL));
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		strv_push(&c->hosts_dirs, dirs[i]);
}

/* Beside this program, where an installation or a build tree has it, or in $PATH. */
static char *find_program(const char *name, const char *build_dir)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		*strrchr(self, '/') = '\0';
		autofree char *candidates[] = {
			path_join(self, name, NULL),
			path_join(self, "../libexec/kistl", name, NULL),
			path_join(self, "..", build_dir, name, NULL),
		};
		char *found = NULL;

		for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
			if (!found && access(candidates[i], X_OK) == 0)
				found = realpath(candidates[i], NULL);
			free(TAKE_PTR(candidates[i]));
		}
		if (found)
			return found;
	}
	return process_find(name, NULL);
}

static int absolute(char **path, const char *what, struct error *err)
{
	if ((*path)[0] == '/')
		return 0;
	autofree char *cwd = getcwd(NULL, 0);
	if (!cwd)
		return error_errno(err, errno, "%s '%s'", what, *path);
	char *full = path_join(cwd, *path, NULL);
	free(*path);
	*path = full;
	return 0;
}

int config_defaults(struct config *c, struct error *err)
{
	bool root = geteuid() == 0;

	if (!c->root &&
	    set_default(&c->root, root ? xstrdup("/var/lib/kistl")
				       : user_directory("XDG_DATA_HOME", ".local/share", err)) < 0)
		return -1;
	if (!c->state &&
	    set_default(&c->state, root ? xstrdup("/run/kistl")
					: user_directory("XDG_RUNTIME_DIR", NULL, err)) < 0)
		return -1;
	if (!c->socket)
		c->socket = path_join(c->state, "kistl.sock", NULL);
	if (absolute(&c->root, "root", err) < 0 || absolute(&c->state, "state", err) < 0 ||
	    absolute(&c->socket, "socket", err) < 0)
		return -1;
	default_runtimes(c);
	default_hosts_dirs(c);
	if (!c->shim)
		c->shim = find_program("kistl-shim", "shim");
	if (!c->worker)
		c->worker = find_program("kistl-image", "worker");
	if (!c->init)
		c->init = find_program("kistl-init", "init");
	/* Statically linked ones: a container's image need not have a C library. */
	static const char *const inits[] = { "docker-init", "tini-static", "tini" };
	for (size_t i = 0; i < ARRAY_SIZE(inits) && !c->init; i++)
		c->init = process_find(inits[i], NULL);
	if (c->default_runtime && !config_runtime_path(c, c->default_runtime))
		return error_set(err, ERROR_INVALID_ARGUMENT, "unknown default runtime '%s'",
				 c->default_runtime);
	return 0;
}

const char *config_runtime_path(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->runtimes.n; i++) {
		if (strcmp(c->runtimes.v[i].name, name) == 0)
			return c->runtimes.v[i].path;
	}
	return NULL;
}
