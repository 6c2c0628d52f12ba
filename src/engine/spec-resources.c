/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"
#include "engine/spec-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define CPU_PERIOD 100000
#define DEVICES_MAX 4096

/* Swap accounting is an option of v1 kernels; asking for it where it is off makes the runtime fail.
 */
static bool swap_accounting(bool cgroup_v2)
{
	return cgroup_v2 || access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", F_OK) == 0;
}

static void memory_resources(const struct resources *r, bool cgroup_v2, bool pod, struct json *out)
{
	struct json *m = json_new_object();

	if (r->memory > 0)
		json_set_int(m, "limit", r->memory);
	if (r->memory_reservation > 0)
		json_set_int(m, "reservation", r->memory_reservation);
	if (swap_accounting(cgroup_v2)) {
		if (r->memory_swap != 0)
			json_set_int(m, "swap", r->memory_swap);
		else if (r->memory > 0) /* Docker's default: as much swap again; CRI's: none */
			json_set_int(m, "swap", pod ? r->memory : r->memory * 2);
	}
	if (!cgroup_v2 && r->memory_swappiness > 0)
		json_set_int(m, "swappiness", r->memory_swappiness);
	if (!cgroup_v2 && r->oom_kill_disable)
		json_set_bool(m, "disableOOMKiller", true);
	if (json_object_len(m) > 0)
		json_set(out, "memory", m);
	else
		json_unref(m);
}

static void cpu_resources(const struct resources *r, struct json *out)
{
	struct json *c = json_new_object();
	int64_t period = r->cpu_period, quota = r->cpu_quota;

	if (r->nano_cpus > 0) {
		period = CPU_PERIOD;
		quota = r->nano_cpus / (1000000000 / CPU_PERIOD);
	}
	if (r->cpu_shares > 0)
		json_set_int(c, "shares", r->cpu_shares);
	if (period > 0)
		json_set_int(c, "period", period);
	if (quota != 0)
		json_set_int(c, "quota", quota);
	if (r->cpu_rt_period > 0)
		json_set_int(c, "realtimePeriod", r->cpu_rt_period);
	if (r->cpu_rt_runtime > 0)
		json_set_int(c, "realtimeRuntime", r->cpu_rt_runtime);
	if (!str_empty(r->cpuset_cpus))
		json_set_string(c, "cpus", r->cpuset_cpus);
	if (!str_empty(r->cpuset_mems))
		json_set_string(c, "mems", r->cpuset_mems);
	if (json_object_len(c) > 0)
		json_set(out, "cpu", c);
	else
		json_unref(c);
}

static void add_rates(const struct rate_devices *list, const char *key, const char *member,
		      struct json *out)
{
	struct json *devices = json_new_array();

	for (size_t i = 0; i < list->n; i++) {
		struct json *j;
		struct stat st;

		/* Looked at by spec_check_rates(); what has gone since is left out. */
		if (stat(list->v[i].path, &st) < 0)
			continue;
		j = json_new_object();
		json_set_int(j, "major", major(st.st_rdev));
		json_set_int(j, "minor", minor(st.st_rdev));
		json_set_int(j, member, list->v[i].rate);
		json_add(devices, j);
	}
	if (json_array_len(devices) > 0)
		json_set(out, key, devices);
	else
		json_unref(devices);
}

static void blkio_resources(const struct resources *r, struct json *out)
{
	struct json *b = json_new_object();

	if (r->blkio_weight > 0)
		json_set_int(b, "weight", r->blkio_weight);
	add_rates(&r->blkio_weight_devices, "weightDevice", "weight", b);
	add_rates(&r->blkio_read_bps, "throttleReadBpsDevice", "rate", b);
	add_rates(&r->blkio_write_bps, "throttleWriteBpsDevice", "rate", b);
	add_rates(&r->blkio_read_iops, "throttleReadIOPSDevice", "rate", b);
	add_rates(&r->blkio_write_iops, "throttleWriteIOPSDevice", "rate", b);
	if (json_object_len(b) > 0)
		json_set(out, "blockIO", b);
	else
		json_unref(b);
}

int spec_check_rates(const struct resources *r, struct error *err)
{
	const struct rate_devices *lists[] = { &r->blkio_weight_devices, &r->blkio_read_bps,
					       &r->blkio_write_bps, &r->blkio_read_iops,
					       &r->blkio_write_iops };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		for (size_t k = 0; k < lists[i]->n; k++) {
			struct stat st;

			if (stat(lists[i]->v[k].path, &st) < 0)
				return error_errno(err, errno, "device '%s'", lists[i]->v[k].path);
			if (!S_ISBLK(st.st_mode))
				return error_set(err, ERROR_INVALID_ARGUMENT,
						 "device '%s' is no block device",
						 lists[i]->v[k].path);
		}
	}
	return 0;
}

static bool has_hugetlb(bool cgroup_v2)
{
	autobuf struct buf controllers = BUF_INIT(4096);

	if (!cgroup_v2)
		return access("/sys/fs/cgroup/hugetlb", F_OK) == 0;
	return fs_read(AT_FDCWD, "/sys/fs/cgroup/cgroup.controllers", &controllers) == 0 &&
	       strstr(controllers.data, "hugetlb");
}

/* kubelets send every size there is, also where the controller is not. */
static void hugepage_resources(const struct resources *r, bool cgroup_v2, struct json *out)
{
	struct json *list;

	if (r->hugepages.n == 0 || !has_hugetlb(cgroup_v2))
		return;
	list = json_new_array();
	for (size_t i = 0; i < r->hugepages.n; i++) {
		struct json *j = json_new_object();

		json_set_string(j, "pageSize", r->hugepages.v[i].page_size);
		json_set_uint(j, "limit", r->hugepages.v[i].limit);
		json_add(list, j);
	}
	json_set(out, "hugepageLimits", list);
}

void spec_resources(const struct spec_inputs *in, struct json *out)
{
	const struct resources *r = &in->config->resources;

	memory_resources(r, in->cgroup_v2, spec_in_pod(in->config), out);
	cpu_resources(r, out);
	if (r->pids_limit != 0) {
		struct json *p = json_new_object();

		json_set_int(p, "limit", MAX(r->pids_limit, -1));
		json_set(out, "pids", p);
	}
	hugepage_resources(r, in->cgroup_v2, out);
	if (r->unified.n > 0 && in->cgroup_v2)
		json_set(out, "unified", json_new_kvs(&r->unified));
	blkio_resources(r, out);
}

/* "c 1:3 rwm"; major or minor -1: any. */
static void allow_device(struct json *rules, bool allow, const char *type, int64_t major_,
			 int64_t minor_, const char *access_)
{
	struct json *j = json_new_object();

	json_set_bool(j, "allow", allow);
	if (type)
		json_set_string(j, "type", type);
	if (major_ >= 0)
		json_set_int(j, "major", major_);
	if (minor_ >= 0)
		json_set_int(j, "minor", minor_);
	json_set_string(j, "access", access_);
	json_add(rules, j);
}

static const struct {
	const char *type;
	int major, minor;
	const char *access;
} default_rules[] = {
	{ "c", -1, -1, "m" }, { "b", -1, -1, "m" }, { "c", 1, 5, "rwm" },    { "c", 1, 3, "rwm" },
	{ "c", 1, 9, "rwm" }, { "c", 1, 8, "rwm" }, { "c", 1, 7, "rwm" },    { "c", 5, 0, "rwm" },
	{ "c", 5, 1, "rwm" }, { "c", 5, 2, "rwm" }, { "c", 136, -1, "rwm" },
};

static int device_number(const char *s, int64_t *ret)
{
	if (str_equal(s, "*")) {
		*ret = -1;
		return 0;
	}
	return parse_int64(s, ret) < 0 || *ret < 0 ? -1 : 0;
}

/* "c 1:3 rwm", "a *:* rwm" */
static int add_rule(struct json *rules, const char *rule, struct error *err)
{
	autostrv struct strv parts = STRV_INIT;
	int64_t major_, minor_;

	strv_split(&parts, rule, " :");
	if (parts.n != 4 || strlen(parts.v[0]) != 1 || !strchr("abc", parts.v[0][0]) ||
	    device_number(parts.v[1], &major_) < 0 || device_number(parts.v[2], &minor_) < 0 ||
	    parts.v[3][0] == '\0' || strspn(parts.v[3], "rwm") != strlen(parts.v[3]))
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"invalid device cgroup rule '%s': expected 'TYPE MAJOR:MINOR ACCESS'",
			rule);
	allow_device(rules, true, parts.v[0], major_, minor_, parts.v[3]);
	return 0;
}

struct device_lists {
	struct json *devices, *rules;
	size_t n;
	bool host_devices; /* --privileged: rules allow everything anyway */
};

static void add_node(struct device_lists *l, const struct stat *st, const char *target,
		     const char *permissions)
{
	const char *type = S_ISBLK(st->st_mode) ? "b" : S_ISCHR(st->st_mode) ? "c" : "p";
	struct json *j = json_new_object();

	json_set_string(j, "path", target);
	json_set_string(j, "type", type);
	json_set_int(j, "major", major(st->st_rdev));
	json_set_int(j, "minor", minor(st->st_rdev));
	json_set_int(j, "fileMode", st->st_mode & 07777);
	json_set_int(j, "uid", st->st_uid);
	json_set_int(j, "gid", st->st_gid);
	json_add(l->devices, j);
	if (!l->host_devices && type[0] != 'p')
		allow_device(l->rules, true, type, major(st->st_rdev), minor(st->st_rdev),
			     permissions);
	l->n++;
}

static int add_directory(struct device_lists *l, const char *path, const char *target,
			 const char *permissions, int depth);

static int add_path(struct device_lists *l, const char *path, const char *target,
		    const char *permissions, int depth)
{
	struct stat st;

	/* The host's /dev holds links (fd, stdin); only what was named itself may be one. */
	if ((depth == 0 ? stat(path, &st) : lstat(path, &st)) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return add_directory(l, path, target, permissions, depth + 1);
	if (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode))
		return depth == 0 ? -ENODEV : 0;
	if (l->n >= DEVICES_MAX)
		return -E2BIG;
	add_node(l, &st, target, permissions);
	return 0;
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int add_directory(struct device_lists *l, const char *path, const char *target,
			 const char *permissions, int depth)
{
	/* These are mounts of the container's own. */
	static const char *const skipped[] = { "pts", "shm", "mqueue", "fd", "console" };
	CLEANUP(closedirp) DIR *d = depth < 8 ? opendir(path) : NULL;

	if (!d)
		return depth < 8 ? -errno : 0;
	for (struct dirent *e; (e = readdir(d));) {
		bool skip = e->d_name[0] == '.';

		for (size_t i = 0; i < ARRAY_SIZE(skipped); i++)
			skip |= depth == 1 && str_equal(e->d_name, skipped[i]);
		if (skip)
			continue;
		autofree char *from = path_join(path, e->d_name, NULL);
		autofree char *to = path_join(target, e->d_name, NULL);
		int r = add_path(l, from, to, permissions, depth);
		if (r == -E2BIG)
			return r;
	}
	return 0;
}

int spec_devices(const struct spec_inputs *in, struct json *linux_, struct json *resources,
		 struct error *err)
{
	const struct container_config *c = in->config;
	struct device_lists l = {
		.devices = json_new_array(),
		.rules = json_new_array(),
		.host_devices = c->privileged && !c->no_host_devices,
	};

	json_set(linux_, "devices", l.devices);
	json_set(resources, "devices", l.rules);
	if (l.host_devices) {
		allow_device(l.rules, true, NULL, -1, -1, "rwm");
		add_path(&l, "/dev", "/dev", "rwm", 0);
		return 0;
	}
	allow_device(l.rules, false, NULL, -1, -1, "rwm");
	for (size_t i = 0; i < ARRAY_SIZE(default_rules); i++)
		allow_device(l.rules, true, default_rules[i].type, default_rules[i].major,
			     default_rules[i].minor, default_rules[i].access);
	for (size_t i = 0; i < c->devices.n; i++) {
		const struct device_spec *d = &c->devices.v[i];
		const char *target =
			str_empty(d->container_path) ? d->host_path : d->container_path;
		int r = add_path(&l, d->host_path, target,
				 str_empty(d->permissions) ? "rwm" : d->permissions, 0);
		if (r < 0)
			return error_errno(err, -r,
					   "error gathering device information while adding custom "
					   "device \"%s\"",
					   d->host_path);
	}
	for (size_t i = 0; i < c->device_cgroup_rules.n; i++) {
		if (add_rule(l.rules, c->device_cgroup_rules.v[i], err) < 0)
			return -1;
	}
	return 0;
}
