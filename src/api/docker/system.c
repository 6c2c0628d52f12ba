/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#define OS_RELEASE_MAX (64 << 10)

HANDLER(system_ping)
{
	http_set_header(r, "Cache-Control", "no-cache, no-store, must-revalidate");
	http_set_header(r, "Pragma", "no-cache");
	http_set_header(r, "Builder-Version", "1");
	http_set_header(r, "Swarm", "inactive");
	if (str_equal(http_method(r), "HEAD"))
		http_reply(r, 200, "text/plain; charset=utf-8", "", 0);
	else
		http_reply(r, 200, "text/plain; charset=utf-8", "OK", 2);
	return 0;
}

static const char *go_arch(const char *machine)
{
	static const char *const names[][2] = {
		{ "x86_64", "amd64" },	  { "aarch64", "arm64" }, { "armv7l", "arm" },
		{ "ppc64le", "ppc64le" }, { "s390x", "s390x" },	  { "riscv64", "riscv64" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (str_equal(names[i][0], machine))
			return names[i][1];
	}
	return machine;
}

HANDLER(system_version)
{
	struct json *j = json_new_object(), *platform = json_new_object();
	struct json *components = json_new_array(), *engine = json_new_object();
	struct json *details = json_new_object();
	struct utsname u;

	uname(&u);
	json_set_string(platform, "Name", "Kistl");
	json_set_string(details, "ApiVersion", DOCKER_API_MAX);
	json_set_string(details, "MinAPIVersion", DOCKER_API_MIN);
	json_set_string(details, "Arch", go_arch(u.machine));
	json_set_string(details, "Os", "linux");
	json_set_string(details, "Experimental", "false");
	json_set_string(details, "KernelVersion", u.release);
	json_set_string(engine, "Name", "Engine");
	json_set_string(engine, "Version", KISTL_VERSION);
	json_set(engine, "Details", details);
	json_add(components, engine);
	json_set(j, "Platform", platform);
	json_set(j, "Components", components);
	json_set_string(j, "Version", KISTL_VERSION);
	json_set_string(j, "ApiVersion", DOCKER_API_MAX);
	json_set_string(j, "MinAPIVersion", DOCKER_API_MIN);
	json_set_string(j, "GitCommit", "");
	json_set_string(j, "GoVersion", "");
	json_set_bool(j, "Experimental", false);
	json_set_string(j, "Os", "linux");
	json_set_string(j, "Arch", go_arch(u.machine));
	json_set_string(j, "KernelVersion", u.release);
	http_reply_json(r, 200, j);
	return 0;
}

/* A value of /etc/os-release, without its quotes. */
static char *os_release(const char *key)
{
	autobuf struct buf b = BUF_INIT(OS_RELEASE_MAX);
	autostrv struct strv lines = STRV_INIT;
	size_t key_len = strlen(key);

	if (fs_read(AT_FDCWD, "/etc/os-release", &b) < 0)
		return xstrdup("");
	strv_split(&lines, b.data, "\n");
	for (size_t i = 0; i < lines.n; i++) {
		const char *value = lines.v[i] + key_len + 1;

		if (!str_has_prefix(lines.v[i], key) || value[-1] != '=')
			continue;
		value += strspn(value, "\"'");
		return xstrndup(value, strcspn(value, "\"'"));
	}
	return xstrdup("");
}

/* Where the images lie: what people look at first when a host's file system is to blame. */
static struct json *driver_status(struct engine *e)
{
	const struct engine_config *c = engine_get_config(e);
	struct json *list = json_new_array(), *pair = json_new_array();
	struct statfs fs;
	const char *name = "<unknown>";
	static const struct {
		long magic;
		const char *name;
	} known[] = {
		{ EXT4_SUPER_MAGIC, "extfs" },		{ XFS_SUPER_MAGIC, "xfs" },
		{ BTRFS_SUPER_MAGIC, "btrfs" },		{ TMPFS_MAGIC, "tmpfs" },
		{ OVERLAYFS_SUPER_MAGIC, "overlayfs" }, { F2FS_SUPER_MAGIC, "f2fs" },
	};

	if (statfs(c->root, &fs) == 0) {
		for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
			if ((long)fs.f_type == known[i].magic)
				name = known[i].name;
		}
	}
	json_add(pair, json_new_string("Backing Filesystem"));
	json_add(pair, json_new_string(name));
	json_add(list, pair);
	return list;
}

static struct json *registry_document(void)
{
	struct json *j = json_new_object(), *index = json_new_object();
	struct json *hub = json_new_object(), *local = json_new_array();

	json_set_string(hub, "Name", "docker.io");
	json_set(hub, "Mirrors", json_new_array());
	json_set_bool(hub, "Secure", true);
	json_set_bool(hub, "Official", true);
	json_set(index, "docker.io", hub);
	json_add(local, json_new_string("::1/128"));
	json_add(local, json_new_string("127.0.0.0/8"));
	json_set(j, "InsecureRegistryCIDRs", local);
	json_set(j, "IndexConfigs", index);
	json_set(j, "Mirrors", json_new_array());
	return j;
}

static void info_containers(struct http_request *r, struct json *j)
{
	CLEANUP(container_glances_done) struct container_glances all = { 0 };
	int64_t running = 0, paused = 0;

	engine_select(api_engine(r), api_ns(r), NULL, NULL, &all);
	for (size_t i = 0; i < all.n; i++) {
		running += all.v[i].status == CONTAINER_RUNNING ||
			   all.v[i].status == CONTAINER_RESTARTING;
		paused += all.v[i].status == CONTAINER_PAUSED;
	}
	json_set_int(j, "Containers", (int64_t)all.n);
	json_set_int(j, "ContainersRunning", running);
	json_set_int(j, "ContainersPaused", paused);
	json_set_int(j, "ContainersStopped", (int64_t)all.n - running - paused);
}

static void info_runtimes(struct http_request *r, struct json *j)
{
	const struct engine_config *c = engine_get_config(api_engine(r));
	struct json *runtimes = json_new_object();

	for (size_t i = 0; i < c->n_runtimes; i++) {
		struct json *one = json_new_object();

		json_set_string(one, "path", c->runtimes[i].path);
		json_set(runtimes, c->runtimes[i].name, one);
	}
	json_set(j, "Runtimes", runtimes);
	json_set_string(j, "DefaultRuntime", c->default_runtime ? c->default_runtime : "crun");
	json_set_string(j, "LoggingDriver", c->log_driver ? c->log_driver : "json-file");
	json_set_string(j, "DockerRootDir", c->root);
	json_set_string(j, "InitBinary", c->init ? c->init : "");
}

static void info_plugins(struct json *j)
{
	static const char *const networks[] = { "bridge", "host", "null" };
	static const char *const logs[] = { "journald", "json-file", "local", "none", "syslog" };
	struct json *plugins = json_new_object();
	struct json *list = json_new_array();

	json_add(list, json_new_string("local"));
	json_set(plugins, "Volume", list);
	list = json_new_array();
	for (size_t i = 0; i < ARRAY_SIZE(networks); i++)
		json_add(list, json_new_string(networks[i]));
	json_set(plugins, "Network", list);
	list = json_new_array();
	for (size_t i = 0; i < ARRAY_SIZE(logs); i++)
		json_add(list, json_new_string(logs[i]));
	json_set(plugins, "Log", list);
	json_set(plugins, "Authorization", NULL);
	json_set(j, "Plugins", plugins);
}

static void info_host(struct json *j)
{
	struct utsname u;
	struct sysinfo si;
	autofree char *os = os_release("PRETTY_NAME"), *version = os_release("VERSION_ID");
	bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;

	uname(&u);
	sysinfo(&si);
	json_set_string(j, "KernelVersion", u.release);
	json_set_string(j, "OperatingSystem", os);
	json_set_string(j, "OSVersion", version);
	json_set_string(j, "OSType", "linux");
	json_set_string(j, "Architecture", u.machine);
	json_set_string(j, "Name", u.nodename);
	json_set_int(j, "NCPU", get_nprocs());
	json_set_int(j, "MemTotal", (int64_t)si.totalram * si.mem_unit);
	json_set_string(j, "CgroupDriver", "cgroupfs");
	json_set_string(j, "CgroupVersion", v2 ? "2" : "1");
}

HANDLER(system_info)
{
	static const char *const yes[] = { "MemoryLimit",	"SwapLimit",	  "CpuCfsPeriod",
					   "CpuCfsQuota",	"CPUShares",	  "CPUSet",
					   "PidsLimit",		"OomKillDisable", "IPv4Forwarding",
					   "LiveRestoreEnabled" };
	CLEANUP(image_details_list_done) struct image_details_list images = { 0 };
	struct docker_api *d = http_request_arg(r);
	struct json *j = json_new_object(), *security = json_new_array(),
		    *swarm = json_new_object();

	image_list_details(engine_images(d->engine), api_ns(r), &images, NULL);
	json_set_string(j, "ID", d->id);
	info_containers(r, j);
	json_set_int(j, "Images", (int64_t)images.n);
	json_set_string(j, "Driver", store_default_snapshotter(engine_store(d->engine)));
	json_set(j, "DriverStatus", driver_status(api_engine(r)));
	info_plugins(j);
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		json_set_bool(j, yes[i], true);
	json_set_bool(j, "Debug", false);
	json_set_int(j, "NFd", 0);
	json_set_int(j, "NGoroutines", 0);
	json_set_time(j, "SystemTime", time_realtime());
	json_set_int(j, "NEventsListener", 0);
	info_host(j);
	info_runtimes(r, j);
	json_set_string(j, "IndexServerAddress", "https://index.docker.io/v1/");
	json_set(j, "RegistryConfig", registry_document());
	json_set_string(j, "HttpProxy", "");
	json_set_string(j, "HttpsProxy", "");
	json_set_string(j, "NoProxy", "");
	json_set(j, "Labels", json_new_array());
	json_set_bool(j, "ExperimentalBuild", false);
	json_set_string(j, "ServerVersion", KISTL_VERSION);
	json_set_string(swarm, "LocalNodeState", "inactive");
	json_set(j, "Swarm", swarm);
	json_set_string(j, "Isolation", "");
	json_add(security, json_new_string("name=seccomp,profile=builtin"));
	json_set(j, "SecurityOptions", security);
	json_set(j, "Warnings", NULL);
	http_reply_json(r, 200, j);
	return 0;
}

HANDLER(system_auth)
{
	CLEANUP(registry_auth_done) struct registry_auth auth = { 0 };
	autojson struct json *body = NULL;
	autofree char *token = NULL;
	struct json *reply;

	if (http_body_json(r, &body, err) < 0)
		return -1;
	auth.username = xstrdup(json_get_string(body, "username"));
	auth.password = xstrdup(json_get_string(body, "password"));
	auth.identity_token = xstrdup(json_get_string(body, "identitytoken"));
	auth.server = xstrdup(json_get_string(body, "serveraddress"));
	if (image_login(engine_images(api_engine(r)), &auth, &token, err) < 0)
		return -1;
	reply = json_new_object();
	json_set_string(reply, "Status", "Login Succeeded");
	json_set_string(reply, "IdentityToken", token ? token : "");
	http_reply_json(r, 200, reply);
	return 0;
}

static struct json *df_images(struct http_request *r, int64_t *layers, struct error *err)
{
	CLEANUP(image_details_list_done) struct image_details_list images = { 0 };
	struct json *list = json_new_array();

	if (image_list_details(engine_images(api_engine(r)), api_ns(r), &images, err) < 0)
		return (json_unref(list), NULL);
	for (size_t i = 0; i < images.n; i++) {
		const struct image_details *d = &images.v[i];
		autostrv struct strv users = STRV_INIT;
		struct json *j = json_new_object();

		engine_image_users(api_engine(r), api_ns(r), d->id, &users, NULL);
		json_set_string(j, "Id", d->id);
		json_set_string(j, "ParentId", "");
		json_set(j, "RepoTags", json_new_strv(&d->tags));
		json_set(j, "RepoDigests", json_new_strv(&d->digests));
		json_set_int(j, "Created", d->created / NSEC_PER_SEC);
		json_set_int(j, "Size", image_shown_size(d));
		if (!api_at_least(r, 44))
			json_set_int(j, "VirtualSize", image_shown_size(d));
		json_set_int(j, "SharedSize", image_shared_size(&images, i));
		json_set_int(j, "Containers", (int64_t)users.n);
		json_set(j, "Labels", json_new_kvs(&d->config.config.labels));
		json_add(list, j);
	}
	*layers = images_layers_size(&images);
	return list;
}

static struct json *df_containers(struct http_request *r, struct error *err)
{
	CLEANUP(container_views_done) struct container_views views = { 0 };
	struct json *list = json_new_array();

	if (engine_list(api_engine(r), api_ns(r), &views, err) < 0)
		return (json_unref(list), NULL);
	for (size_t i = 0; i < views.n; i++) {
		struct json *j = container_summary_document(views.v[i]);

		container_list_sizes(http_request_arg(r), views.v[i], j);
		json_add(list, j);
	}
	return list;
}

static struct json *df_volumes(struct http_request *r, struct error *err)
{
	CLEANUP(volume_views_done) struct volume_views views = { 0 };
	struct json *list = json_new_array();

	if (engine_volume_list(api_engine(r), api_ns(r), &views, err) < 0)
		return (json_unref(list), NULL);
	for (size_t i = 0; i < views.n; i++) {
		struct json *j = json_new_object(), *usage = json_new_object();

		json_set_int(usage, "RefCount", (int64_t)views.v[i].ref_count);
		json_set_int(usage, "Size", engine_volume_size(&views.v[i]));
		json_set_string(j, "Name", views.v[i].name);
		json_set_string(j, "Driver", "local");
		json_set_string(j, "Mountpoint", views.v[i].mountpoint);
		json_set_string(j, "Scope", "local");
		json_set(j, "Labels",
			 views.v[i].has_labels ? json_new_kvs(&views.v[i].labels) : NULL);
		json_set_time(j, "CreatedAt", views.v[i].created_at);
		json_set(j, "Options",
			 views.v[i].has_options ? json_new_kvs(&views.v[i].options) : NULL);
		json_set(j, "UsageData", usage);
		json_add(list, j);
	}
	return list;
}

/* Only some kinds of things: ?type=image&type=volume; none given: all. */
static bool df_wanted(const struct http_request *r, const char *type)
{
	const char *types[16];
	size_t n = http_query_all(r, "type", types, ARRAY_SIZE(types));

	for (size_t i = 0; i < MIN(n, ARRAY_SIZE(types)); i++)
		if (str_equal(types[i], type))
			return true;
	return n == 0;
}

static int df_check_types(const struct http_request *r, struct error *err)
{
	static const char *const known[] = { "container", "image", "volume", "build-cache" };
	const char *types[16];
	size_t n = http_query_all(r, "type", types, ARRAY_SIZE(types));

	for (size_t i = 0; i < MIN(n, ARRAY_SIZE(types)); i++) {
		bool found = false;

		for (size_t k = 0; k < ARRAY_SIZE(known); k++)
			found |= str_equal(types[i], known[k]);
		if (!found)
			return error_set(err, ERROR_INVALID_ARGUMENT, "unknown object type: %s",
					 types[i]);
	}
	return 0;
}

HANDLER(system_df)
{
	bool want_images = df_wanted(r, "image"), want_containers = df_wanted(r, "container");
	bool want_volumes = df_wanted(r, "volume");
	int64_t layers = 0;

	if (df_check_types(r, err) < 0)
		return -1;
	autojson struct json *images = want_images ? df_images(r, &layers, err) : NULL;
	if (want_images && !images)
		return -1;
	autojson struct json *containers = want_containers ? df_containers(r, err) : NULL;
	if (want_containers && !containers)
		return -1;
	autojson struct json *volumes = want_volumes ? df_volumes(r, err) : NULL;
	if (want_volumes && !volumes)
		return -1;
	struct json *j = json_new_object();
	json_set_int(j, "LayersSize", layers);
	json_set(j, "Images", TAKE_PTR(images));
	json_set(j, "Containers", TAKE_PTR(containers));
	json_set(j, "Volumes", TAKE_PTR(volumes));
	json_set(j, "BuildCache", df_wanted(r, "build-cache") ? json_new_array() : NULL);
	http_reply_json(r, 200, j);
	return 0;
}
