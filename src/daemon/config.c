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
	KEY_LIMIT,    /* -1: none */
	KEY_DURATION, /* "5m0s" */
	KEY_TIMEOUT,  /* the same, but 0 means never */
	KEY_BOOL,
	KEY_NOT, /* the opposite of a boolean */
	KEY_STRINGS,
	KEY_STRING_OR_STRINGS, /* containerd: directories separated by colons */
	KEY_ONE_STRING,	       /* one, where a newer key has an array */
	KEY_STRING_MAP,
	KEY_VERSION,
	KEY_IGNORED, /* has no counterpart here, and nobody misses it */
};

static const char *const type_names[] = {
	[KEY_STRING] = "a string",
	[KEY_INT] = "a non-negative integer",
	[KEY_LIMIT] = "an integer, -1 or more",
	[KEY_DURATION] = "a duration, such as \"1m30s\"",
	[KEY_TIMEOUT] = "a duration, such as \"1m30s\"",
	[KEY_BOOL] = "true or false",
	[KEY_NOT] = "true or false",
	[KEY_STRINGS] = "an array of strings",
	[KEY_STRING_OR_STRINGS] = "a string",
	[KEY_ONE_STRING] = "a string",
	[KEY_STRING_MAP] = "a table of strings",
	[KEY_VERSION] = "2 or 3",
};

struct key {
	const char *path; /* parts by '/', since containerd's plugin names have dots; '*': any */
	enum key_type type;
	size_t offset;
	bool of_runtime; /* in the runtime that '*' names, not in the whole */
};

#define AT(member) offsetof(struct config, member)
#define RT(member) offsetof(struct config_runtime, member), true
#define CRI_2 "plugins/io.containerd.grpc.v1.cri/"
#define CRI_IMAGES "plugins/io.containerd.cri.v1.images/"
#define CRI_RUNTIME "plugins/io.containerd.cri.v1.runtime/"

/* What version 2 has in one table and version 3 in two. */
#define IMAGE_KEYS(prefix)                                                                   \
	{ prefix "registry/config_path", KEY_STRING_OR_STRINGS, AT(hosts_dirs) },            \
		{ prefix "max_concurrent_downloads", KEY_INT, AT(max_downloads) },           \
		{ prefix "image_pull_progress_timeout", KEY_TIMEOUT, AT(cri.pull_timeout) }, \
		{ prefix "pinned_images", KEY_STRING_MAP, AT(cri.pinned_images) },           \
		{ prefix "disable_snapshot_annotations", KEY_IGNORED },                      \
		{ prefix "discard_unpacked_layers", KEY_IGNORED },                           \
		{ prefix "image_pull_with_sync_fs", KEY_IGNORED }, /* always synced */       \
		{ prefix "stats_collect_period", KEY_IGNORED },                              \
		{ prefix "concurrent_layer_fetch_buffer", KEY_IGNORED },                     \
	{                                                                                    \
		prefix "use_local_image_pull", KEY_IGNORED                                   \
	}

#define RUNTIME_KEYS(prefix)                                                                       \
	{ prefix "containerd/default_runtime_name", KEY_STRING, AT(default_runtime) },             \
		{ prefix "containerd/runtimes/*/runtime_type", KEY_STRING, RT(type) },             \
		{ prefix "containerd/runtimes/*/runtime_path", KEY_STRING, RT(path) },             \
		{ prefix "containerd/runtimes/*/options/BinaryName", KEY_STRING, RT(path) },       \
		{ prefix "containerd/runtimes/*/options/SystemdCgroup", KEY_BOOL,                  \
		  RT(systemd_cgroup) },                                                            \
		{ prefix "containerd/runtimes/*/privileged_without_host_devices", KEY_BOOL,        \
		  RT(privileged_without_host_devices) },                                           \
		{ prefix "containerd/runtimes/*/pod_annotations", KEY_STRINGS,                     \
		  RT(pod_annotations) },                                                           \
		{ prefix "containerd/runtimes/*/container_annotations", KEY_STRINGS,               \
		  RT(container_annotations) },                                                     \
		{ prefix "containerd/runtimes/*/cni_conf_dir", KEY_STRING, RT(cni_conf_dir) },     \
		{ prefix "containerd/runtimes/*/cni_max_conf_num", KEY_IGNORED },                  \
		{ prefix "containerd/runtimes/*/runtime_engine", KEY_IGNORED },                    \
		{ prefix "containerd/runtimes/*/runtime_root", KEY_IGNORED },                      \
		{ prefix "containerd/runtimes/*/sandboxer", KEY_IGNORED },                         \
		{ prefix "containerd/runtimes/*/sandbox_mode", KEY_IGNORED },                      \
		{ prefix "containerd/ignore_blockio_not_enabled_errors", KEY_IGNORED },            \
		{ prefix "containerd/ignore_rdt_not_enabled_errors", KEY_IGNORED },                \
		{ prefix "cni/conf_dir", KEY_STRING, AT(cri.cni_conf_dir) },                       \
		{ prefix "cni/bin_dir", KEY_ONE_STRING, AT(cri.cni_bin_dirs) },                    \
		{ prefix "cni/bin_dirs", KEY_STRINGS, AT(cri.cni_bin_dirs) },                      \
		{ prefix "cni/max_conf_num", KEY_IGNORED },                                        \
		{ prefix "cni/setup_serially", KEY_IGNORED },                                      \
		{ prefix "cni/use_internal_loopback", KEY_IGNORED },                               \
		{ prefix "max_container_log_line_size", KEY_LIMIT, AT(cri.max_log_line) },         \
		{ prefix "enable_cdi", KEY_NOT, AT(cri.disable_cdi) },                             \
		{ prefix "cdi_spec_dirs", KEY_STRINGS, AT(cri.cdi_spec_dirs) },                    \
		{ prefix "ignore_image_defined_volumes", KEY_BOOL, AT(cri.ignore_image_volumes) }, \
		{ prefix "restrict_oom_score_adj", KEY_BOOL, AT(cri.restrict_oom_score_adj) },     \
		{ prefix "enable_unprivileged_ports", KEY_NOT, AT(cri.no_unprivileged_ports) },    \
		{ prefix "enable_unprivileged_icmp", KEY_BOOL, AT(cri.unprivileged_icmp) },        \
		{ prefix "unset_seccomp_profile", KEY_STRING, AT(cri.unset_seccomp_profile) },     \
		{ prefix "drain_exec_sync_io_timeout", KEY_IGNORED },                              \
		{ prefix "ignore_deprecation_warnings", KEY_IGNORED },                             \
		{ prefix "netns_mounts_under_state_dir", KEY_IGNORED },                            \
		{ prefix "tolerate_missing_hugetlb_controller", KEY_IGNORED },                     \
	{                                                                                          \
		prefix "disable_proc_mount", KEY_IGNORED                                           \
	}

static const struct key keys[] = {
	{ "version", KEY_VERSION, 0 },
	{ "root", KEY_STRING, AT(root) },
	{ "state", KEY_STRING, AT(state) },
	{ "grpc/address", KEY_STRING, AT(socket) },
	{ "debug/level", KEY_STRING, AT(log_level) },
	{ "debug/format", KEY_STRING, AT(log_format) },
	IMAGE_KEYS(CRI_2),
	IMAGE_KEYS(CRI_IMAGES),
	RUNTIME_KEYS(CRI_2),
	RUNTIME_KEYS(CRI_RUNTIME),
	{ CRI_2 "containerd/snapshotter", KEY_STRING, AT(snapshotter) },
	{ CRI_IMAGES "snapshotter", KEY_STRING, AT(snapshotter) },
	{ CRI_2 "sandbox_image", KEY_IGNORED }, /* pods need none */
	{ CRI_2 "disable_tcp_service", KEY_IGNORED },
	{ CRI_2 "systemd_cgroup", KEY_BOOL, AT(cri.systemd_cgroup) },
	{ CRI_2 "stream_server_address", KEY_STRING, AT(cri.stream_address) },
	{ CRI_2 "stream_server_port", KEY_STRING, AT(cri.stream_port) },
	{ CRI_2 "stream_idle_timeout", KEY_DURATION, AT(cri.stream_idle_timeout) },
	{ CRI_2 "enable_tls_streaming", KEY_BOOL, AT(cri.stream_tls) },
	{ CRI_2 "x509_key_pair_streaming/tls_cert_file", KEY_STRING, AT(cri.stream_cert) },
	{ CRI_2 "x509_key_pair_streaming/tls_key_file", KEY_STRING, AT(cri.stream_key) },
	{ "kistl/group", KEY_STRING, AT(group) },
	{ "kistl/snapshotter", KEY_STRING, AT(snapshotter) },
	{ "kistl/default-runtime", KEY_STRING, AT(default_runtime) },
	{ "kistl/runtimes/*/path", KEY_STRING, RT(path) },
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
	{ "kistl/systemd-cgroup", KEY_BOOL, AT(cri.systemd_cgroup) },
	{ "kistl/cni-plugins-only", KEY_BOOL, AT(cri.cni_binaries_only) },
	{ "kistl/stream-ca", KEY_STRING, AT(cri.stream_ca) },
};

static void runtime_done(struct config_runtime *r)
{
	free(r->name);
	free(r->path);
	free(r->type);
	free(r->cni_conf_dir);
	strv_done(&r->pod_annotations);
	strv_done(&r->container_annotations);
}

static void cri_done(struct config_cri *c)
{
	char *strings[] = { c->cni_conf_dir,	     c->stream_address, c->stream_port,
			    c->stream_cert,	     c->stream_key,	c->stream_ca,
			    c->unset_seccomp_profile };

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		free(strings[i]);
	kvs_done(&c->pinned_images);
	strv_done(&c->cni_bin_dirs);
	strv_done(&c->cdi_spec_dirs);
}

void config_done(struct config *c)
{
	char **strings[] = { &c->root,	      &c->state,      &c->socket, &c->log_level,
			     &c->log_format,  &c->group,      &c->shim,	  &c->worker,
			     &c->snapshotter, &c->log_driver, &c->init,	  &c->default_runtime,
			     &c->bridge,      &c->subnet };

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		free(*strings[i]);
	for (size_t i = 0; i < c->runtimes.n; i++)
		runtime_done(&c->runtimes.v[i]);
	free(c->runtimes.v);
	cri_done(&c->cri);
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

static struct config_runtime *find_runtime(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->runtimes.n; i++) {
		if (strcmp(c->runtimes.v[i].name, name) == 0)
			return &c->runtimes.v[i];
	}
	return NULL;
}

static struct config_runtime *make_runtime(struct config *c, const char *name)
{
	struct config_runtime *r = find_runtime(c, name);

	if (r)
		return r;
	GROW_ARRAY(c->runtimes.v, c->runtimes.n);
	r = &c->runtimes.v[c->runtimes.n++];
	*r = (struct config_runtime){ .name = xstrdup(name) };
	return r;
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
	char *base = key->of_runtime ? (char *)make_runtime(c, star) : (char *)c;
	void *member = base + key->offset;
	const char *text = json_string(value);
	int64_t number = json_int(value, INT64_MIN);

	switch (key->type) {
	case KEY_STRING:
		if (text)
			str_replace(member, text);
		return text;
	case KEY_BOOL:
	case KEY_NOT:
		*(bool *)member = json_bool(value, false) == (key->type == KEY_BOOL);
		return json_type(value) == JSON_BOOL;
	case KEY_ONE_STRING:
		strv_done(member);
		if (text)
			strv_push(member, text);
		return text;
	case KEY_LIMIT:
		*(int64_t *)member = number == 0 ? -1 : number;
		return json_type(value) == JSON_INT && number >= -1;
	case KEY_IGNORED:
		return true;
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
	case KEY_TIMEOUT:
		if (!text || time_parse_duration(text, member) < 0 || *(int64_t *)member < 0)
			return false;
		if (*(int64_t *)member == 0)
			*(int64_t *)member = INT64_MAX;
		return true;
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

/* "io.containerd.runc.v2" -> "runc", which is how containerd's own shim finds it; no type: the
 * runtime's name. */
static char *program_of(const struct config_runtime *r)
{
	const char *type = r->type ? r->type : "";
	const char *end = strrchr(type, '.');
	const char *start = end;

	while (start && start > type && start[-1] != '.')
		start--;
	if (!start || start == type || start == end)
		return xstrdup(r->name);
	return xstrndup(start, (size_t)(end - start));
}

static void default_runtimes(struct config *c)
{
	static const char *const known[] = { "crun", "runc", "runsc", "youki" };

	for (size_t i = 0; i < c->runtimes.n; i++) {
		autofree char *program = program_of(&c->runtimes.v[i]);

		if (!c->runtimes.v[i].path)
			c->runtimes.v[i].path = process_find(program, NULL);
		if (!c->runtimes.v[i].path) /* what containers are told then names it */
			c->runtimes.v[i].path = TAKE_PTR(program);
	}
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		autofree char *path = process_find(known[i], NULL);

		if (path && !config_runtime_path(c, known[i]))
			make_runtime(c, known[i])->path = TAKE_PTR(path);
	}
	if (c->runtimes.n == 0)
		make_runtime(c, "crun")->path = xstrdup("crun");
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

const struct config_runtime *config_runtime(const struct config *c, const char *name)
{
	return find_runtime(c, name);
}

const char *config_runtime_path(const struct config *c, const char *name)
{
	const struct config_runtime *r = find_runtime(c, name);

	return r ? r->path : NULL;
}
