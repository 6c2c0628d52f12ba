/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HostConfig and what belongs to the host of a container. Kept is what the client sent; shown is
 * what came of it, with the daemon's defaults where the client said nothing.
 */

#include "api/docker/internal.h"
#include "base/mem.h"

#include <string.h>

#define SHM_DEFAULT (64 << 20)

/* Numbers that an update may have changed. */
static void add_resources(const struct resources *r, struct json *j)
{
#define R(member) offsetof(struct resources, member)
	static const struct {
		const char *name;
		size_t offset;
	} numbers[] = {
		{ "Memory", R(memory) },
		{ "MemoryReservation", R(memory_reservation) },
		{ "MemorySwap", R(memory_swap) },
		{ "NanoCpus", R(nano_cpus) },
		{ "CpuShares", R(cpu_shares) },
		{ "CpuPeriod", R(cpu_period) },
		{ "CpuQuota", R(cpu_quota) },
		{ "CpuRealtimePeriod", R(cpu_rt_period) },
		{ "CpuRealtimeRuntime", R(cpu_rt_runtime) },
		{ "BlkioWeight", R(blkio_weight) },
	};
#undef R

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		int64_t value = *(const int64_t *)((const char *)r + numbers[i].offset);

		if (value != 0)
			json_set_int(j, numbers[i].name, value);
	}
	json_set(j, "PidsLimit", r->pids_limit <= 0 ? NULL : json_new_int(r->pids_limit));
	json_set(j, "MemorySwappiness",
		 r->memory_swappiness < 0 ? NULL : json_new_int(r->memory_swappiness));
	if (!str_empty(r->cpuset_cpus))
		json_set_string(j, "CpusetCpus", r->cpuset_cpus);
	if (!str_empty(r->cpuset_mems))
		json_set_string(j, "CpusetMems", r->cpuset_mems);
}

static void default_string(struct json *j, const char *key, const char *value)
{
	if (str_empty(json_get_string(j, key)))
		json_set_string(j, key, value);
}

static void add_modes(const struct docker_api *d, const struct container_view *v, struct json *j)
{
	const struct engine_config *e = engine_get_config(d->engine);
	bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
	const char *mode = v->config.network_mode;

	default_string(j, "Runtime", e->default_runtime ? e->default_runtime : "crun");
	default_string(j, "IpcMode", "private");
	default_string(j, "CgroupnsMode", v2 && !v->config.privileged ? "private" : "host");
	if (!str_empty(mode))
		json_set_string(j, "NetworkMode", mode);
	if (json_get_int(j, "ShmSize", 0) == 0)
		json_set_int(j, "ShmSize", SHM_DEFAULT);
	if (!v->config.privileged && json_type(json_get(j, "MaskedPaths")) == JSON_NULL)
		json_set(j, "MaskedPaths", spec_masked_paths());
	if (!v->config.privileged && json_type(json_get(j, "ReadonlyPaths")) == JSON_NULL)
		json_set(j, "ReadonlyPaths", spec_readonly_paths());
}

static void add_log(const struct docker_api *d, const struct container_view *v, struct json *j)
{
	const struct engine_config *e = engine_get_config(d->engine);
	struct json *log = json_new_object();
	const char *driver = v->config.log_driver;

	if (str_empty(driver))
		driver = e->log_driver ? e->log_driver : "json-file";
	json_set_string(log, "Type", driver);
	json_set(log, "Config", json_new_kvs(&v->config.log_options));
	json_set(j, "LogConfig", log);
}

struct json *container_host_document(const struct docker_api *d, const struct container_view *v)
{
	struct json *j = json_copy(json_get(v->extension, "HostConfig"));
	struct json *policy = json_new_object();
	const char *restart = v->config.restart_policy;

	if (!j)
		j = json_new_object();
	add_resources(&v->config.resources, j);
	add_modes(d, v, j);
	add_log(d, v, j);
	json_set_string(policy, "Name", str_empty(restart) ? "no" : restart);
	json_set_int(policy, "MaximumRetryCount", v->config.restart_max_retries);
	json_set(j, "RestartPolicy", policy);
	return j;
}

static struct store_ctx store_of(const struct docker_api *d, const struct container_view *v)
{
	return (struct store_ctx){ .store = engine_store(d->engine), .ns = v->ns };
}

/* "lowerdir=…" as LowerDir. */
static void add_directory(struct json *data, const char *option)
{
	static const char *const names[][2] = {
		{ "lowerdir=", "LowerDir" },
		{ "upperdir=", "UpperDir" },
		{ "workdir=", "WorkDir" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (str_has_prefix(option, names[i][0]))
			json_set_string(data, names[i][1], option + strlen(names[i][0]));
	}
}

struct json *container_driver_document(const struct docker_api *d, const struct container_view *v)
{
	automounts struct mounts mounts = MOUNTS_INIT;
	const struct store_ctx c = store_of(d, v);
	struct json *j = json_new_object(), *data = NULL;

	json_set_string(j, "Name", v->snapshotter ? v->snapshotter : "overlayfs");
	if (snapshot_mounts(&c, v->snapshotter, v->snapshot_key, &mounts, NULL) == 0 &&
	    mounts.n == 1 && str_equal(mounts.v[0].type, "overlay")) {
		data = json_new_object();
		for (size_t i = 0; i < mounts.v[0].options.n; i++)
			add_directory(data, mounts.v[0].options.v[i]);
		/* The root is mounted in the shim's namespace only: this is the way there. */
		autofree char *root = v->pid > 0 ? xasprintf("/proc/%d/root", v->pid) : NULL;
		json_set_string(data, "MergedDir", root ? root : "");
	}
	json_set(j, "Data", data);
	return j;
}

/* What the container has written, in bytes of files, as Docker counts. */
static int64_t own_size(const struct store_ctx *c, const struct container_view *v, int64_t lower)
{
	struct snapshot_usage usage = { 0 };
	unsigned can = 0;

	(void)snapshotter_capabilities(c->store, v->snapshotter, &can, NULL);
	if (can & SNAPSHOT_OVERLAY_WHITEOUTS) {
		autoclose int fd = snapshot_layer_fd(c, v->snapshotter, v->snapshot_key, NULL);

		return fd < 0 ? 0 : engine_tree_size(fd, ".");
	}
	/* A copy: what it has grown by. */
	if (snapshot_usage(c, v->snapshotter, v->snapshot_key, &usage, NULL) < 0)
		return 0;
	return MAX(usage.size - lower, (int64_t)0);
}

void container_sizes(const struct docker_api *d, const struct container_view *v, struct json *j)
{
	const struct store_ctx c = store_of(d, v);
	autofree char *key = xstrdup(v->snapshot_key ? v->snapshot_key : "");
	int64_t lower = 0, own;

	while (*key) {
		CLEANUP(snapshot_info_done) struct snapshot_info info = { 0 };
		struct snapshot_usage usage = { 0 };

		if (snapshot_stat(&c, v->snapshotter, key, &info, NULL) < 0)
			break;
		if (!str_equal(key, v->snapshot_key) &&
		    snapshot_usage(&c, v->snapshotter, key, &usage, NULL) < 0)
			break;
		lower += usage.size;
		str_replace(&key, info.parent ? info.parent : "");
	}
	own = own_size(&c, v, lower);
	json_set_int(j, "SizeRw", own);
	json_set_int(j, "SizeRootFs", lower + own);
}

void container_list_sizes(const struct docker_api *d, const struct container_view *v,
			  struct json *j)
{
	container_sizes(d, v, j);
	if (json_get_int(j, "SizeRw", 0) == 0)
		json_del(j, "SizeRw");
}
