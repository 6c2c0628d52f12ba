/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/create.h"
#include "cli/spec-parse.h"

#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "cli/terminal.h"

#include <string.h>
#include <strings.h>

static bool attach_has(const struct create_options *o, const char *name)
{
	for (size_t i = 0; i < o->attach.n; i++)
		if (strcasecmp(o->attach.v[i], name) == 0)
			return true;
	return false;
}

struct create_attach create_attach_get(const struct create_options *o)
{
	struct create_attach a = { .in = attach_has(o, "stdin") || o->interactive,
				   .out = attach_has(o, "stdout") || !o->attach.n,
				   .err = attach_has(o, "stderr") || !o->attach.n };

	return o->detach ? (struct create_attach){ 0 } : a;
}

static void set_list(struct json *j, const char *key, const struct strv *list)
{
	if (list->n)
		json_set(j, key, json_new_strv(list));
}

static void set_string(struct json *j, const char *key, const char *s)
{
	if (!str_empty(s))
		json_set_string(j, key, s);
}

static void set_map(struct json *j, const char *key, const struct strv *list)
{
	if (list->n)
		json_set(j, key, cli_map_option(list));
}

/* Members that are an option's value and nothing else. */
static void set_plain_host_members(struct json *h, const struct create_options *o)
{
	const struct {
		const char *key;
		const char *value;
	} strings[] = {
		{ "CgroupParent", o->cgroup_parent },
		{ "CgroupnsMode", o->cgroupns },
		{ "ContainerIDFile", o->cidfile },
		{ "CpusetCpus", o->cpuset_cpus },
		{ "CpusetMems", o->cpuset_mems },
		{ "IpcMode", o->ipc },
		{ "Isolation", o->isolation },
		{ "PidMode", o->pid },
		{ "Runtime", o->runtime },
		{ "UTSMode", o->uts },
		{ "UsernsMode", o->userns },
		{ "VolumeDriver", o->volume_driver },
	};
	const struct {
		const char *key;
		int64_t value;
	} ints[] = {
		{ "BlkioWeight", o->blkio_weight },
		{ "CpuPeriod", o->cpu_period },
		{ "CpuQuota", o->cpu_quota },
		{ "CpuRealtimePeriod", o->cpu_rt_period },
		{ "CpuRealtimeRuntime", o->cpu_rt_runtime },
		{ "CpuShares", o->cpu_shares },
		{ "KernelMemory", o->kernel_memory },
		{ "Memory", o->memory },
		{ "MemoryReservation", o->memory_reservation },
		{ "MemorySwap", o->memory_swap },
		{ "NanoCpus", o->cpus },
		{ "OomScoreAdj", o->oom_score_adj },
		{ "PidsLimit", o->pids_limit },
		{ "ShmSize", o->shm_size },
	};
	const struct {
		const char *key;
		bool value;
	} bools[] = {
		{ "AutoRemove", o->remove },	    { "OomKillDisable", o->oom_kill_disable },
		{ "Privileged", o->privileged },    { "PublishAllPorts", o->publish_all },
		{ "ReadonlyRootfs", o->read_only },
	};

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		set_string(h, strings[i].key, strings[i].value);
	for (size_t i = 0; i < ARRAY_SIZE(ints); i++)
		if (ints[i].value)
			json_set_int(h, ints[i].key, ints[i].value);
	for (size_t i = 0; i < ARRAY_SIZE(bools); i++)
		if (bools[i].value)
			json_set_bool(h, bools[i].key, true);
	if (o->memory_swappiness != -1)
		json_set_int(h, "MemorySwappiness", o->memory_swappiness);
	if (o->init != -1)
		json_set_bool(h, "Init", o->init);
}

static void set_host_lists(struct json *h, const struct create_options *o)
{
	const struct {
		const char *key;
		const struct strv *list;
	} lists[] = {
		{ "CapAdd", &o->cap_add },
		{ "CapDrop", &o->cap_drop },
		{ "DeviceCgroupRules", &o->device_rules },
		{ "Dns", &o->dns },
		{ "DnsOptions", &o->dns_options },
		{ "DnsSearch", &o->dns_search },
		{ "GroupAdd", &o->group_add },
		{ "Links", &o->links },
		{ "VolumesFrom", &o->volumes_from },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		set_list(h, lists[i].key, lists[i].list);
	set_map(h, "Annotations", &o->annotations);
	set_map(h, "StorageOpt", &o->storage_opts);
	set_map(h, "Sysctls", &o->sysctls);
	if (o->add_host.n) {
		struct json *hosts = json_new_array();

		for (size_t i = 0; i < o->add_host.n; i++) {
			autofree char *s = xstrdup(o->add_host.v[i]);
			char *eq = strchr(s, '=');

			if (eq)
				*eq = ':';
			json_add(hosts, json_new_string(s));
		}
		json_set(h, "ExtraHosts", hosts);
	}
}

static int set_devices(struct json *h, const struct create_options *o, struct error *err)
{
	struct json *devices = json_new_array();
	struct json *cdi = json_new_array(), *requests = json_new_array();

	json_set(h, "Devices", devices);
	json_set(h, "DeviceRequests", requests);
	for (size_t i = 0; i < o->devices.n; i++) {
		struct json *d;

		if (spec_is_cdi_device(o->devices.v[i])) {
			json_add(cdi, json_new_string(o->devices.v[i]));
			continue;
		}
		d = spec_device(o->devices.v[i], err);
		if (!d) {
			json_unref(cdi);
			return -1;
		}
		json_add(devices, d);
	}
	if (json_array_len(cdi)) {
		struct json *request = json_new_object();

		json_set_string(request, "Driver", "cdi");
		json_set(request, "DeviceIDs", cdi);
		json_add(requests, request);
	} else {
		json_unref(cdi);
	}
	if (!str_empty(o->gpus))
		json_add(requests, spec_gpus(o->gpus, NULL));
	if (!json_array_len(requests))
		json_del(h, "DeviceRequests");
	if (!json_array_len(devices))
		json_del(h, "Devices");
	return 0;
}

/* They were checked when they were parsed. */
static void set_block_devices(struct json *h, const struct create_options *o)
{
	const struct {
		const char *key;
		const struct strv *list;
		struct json *(*parse)(const char *s, struct error *err);
	} limits[] = {
		{ "BlkioWeightDevice", &o->blkio_weight_devices, spec_weight_device },
		{ "BlkioDeviceReadBps", &o->device_read_bps, spec_rate_device },
		{ "BlkioDeviceReadIOps", &o->device_read_iops, spec_iops_device },
		{ "BlkioDeviceWriteBps", &o->device_write_bps, spec_rate_device },
		{ "BlkioDeviceWriteIOps", &o->device_write_iops, spec_iops_device },
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct json *list = json_new_array();

		for (size_t k = 0; k < limits[i].list->n; k++)
			json_add(list, limits[i].parse(limits[i].list->v[k], NULL));
		if (json_array_len(list))
			json_set(h, limits[i].key, list);
		else
			json_unref(list);
	}
}

static int set_mounts(struct json *h, const struct create_options *o, struct error *err)
{
	struct json *list = json_new_array();

	json_set(h, "Mounts", list);
	for (size_t i = 0; i < o->mounts.n; i++) {
		struct json *m = spec_mount(o->mounts.v[i], err);

		if (!m)
			return -1;
		json_add(list, m);
	}
	if (!o->mounts.n)
		json_del(h, "Mounts");
	if (o->tmpfs.n) {
		struct json *map = json_new_object();

		for (size_t i = 0; i < o->tmpfs.n; i++) {
			const char *s = o->tmpfs.v[i];
			size_t n = strcspn(s, ":");
			autofree char *path = xstrndup(s, n);

			json_set_string(map, path, s[n] ? s + n + 1 : "");
		}
		json_set(h, "Tmpfs", map);
	}
	return 0;
}

static int set_security(struct json *h, const struct create_options *o, struct error *err)
{
	struct json *opts = json_new_array();
	bool unmasked = false;

	json_set(h, "SecurityOpt", opts);
	for (size_t i = 0; i < o->security_opts.n; i++)
		if (spec_security_opt(o->security_opts.v[i], opts, &unmasked, err) < 0)
			return -1;
	if (!json_array_len(opts))
		json_del(h, "SecurityOpt");
	if (unmasked) {
		json_set(h, "MaskedPaths", json_new_array());
		json_set(h, "ReadonlyPaths", json_new_array());
	}
	return 0;
}

static int set_logging(struct json *h, const struct create_options *o, struct error *err)
{
	struct json *log;

	if (o->log_opts.n && o->log_driver && strcmp(o->log_driver, "none") == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid logging opts for driver none");
	log = json_new_object();
	json_set_string(log, "Type", o->log_driver ? o->log_driver : "");
	json_set(log, "Config", cli_map_option(&o->log_opts));
	json_set(h, "LogConfig", log);
	return 0;
}

static struct json *host_config(const struct create_options *o, struct json *volumes,
				struct json *exposed, struct error *err)
{
	autojson struct json *h = json_new_object();
	struct json *binds = json_new_array(), *bindings = json_new_object();
	struct json *ulimits = json_new_array(), *restart;
	unsigned width, height;

	json_set(h, "Binds", binds);
	json_set(h, "PortBindings", bindings);
	json_set(h, "Ulimits", ulimits);
	set_plain_host_members(h, o);
	set_host_lists(h, o);
	set_block_devices(h, o);
	for (size_t i = 0; i < o->volumes.n; i++)
		if (spec_volume(o->volumes.v[i], binds, volumes, err) < 0)
			return NULL;
	for (size_t i = 0; i < o->expose.n; i++)
		if (spec_expose(o->expose.v[i], exposed, err) < 0)
			return NULL;
	for (size_t i = 0; i < o->publish.n; i++)
		if (spec_publish(o->publish.v[i], exposed, bindings, err) < 0)
			return NULL;
	for (size_t i = 0; i < o->ulimits.n; i++)
		json_add(ulimits, spec_ulimit(o->ulimits.v[i], NULL));
	restart = spec_restart(o->restart, err);
	if (!restart)
		return NULL;
	json_set(h, "RestartPolicy", restart);
	if (set_devices(h, o, err) < 0 || set_mounts(h, o, err) < 0 ||
	    set_security(h, o, err) < 0 || set_logging(h, o, err) < 0)
		return NULL;
	if (o->tty && terminal_size(STDOUT_FILENO, &width, &height)) {
		struct json *size = json_new_array();

		json_add(size, json_new_int(height));
		json_add(size, json_new_int(width));
		json_set(h, "ConsoleSize", size);
	}
	return TAKE_PTR(h);
}

static void append(struct json *object, const char *key, const char *value)
{
	if (!json_get(object, key))
		json_set(object, key, json_new_array());
	json_add(json_get(object, key), json_new_string(value));
}

static int endpoint_field(const char *f, struct json *e, char **ret_name, struct error *err)
{
	struct json *ipam = json_get(e, "IPAMConfig");
	const char *value = strchr(f, '=') ? strchr(f, '=') + 1 : "";
	autofree char *key = xstrndup(f, strcspn(f, "="));
	int64_t n;

	if (strcmp(key, "name") == 0) {
		str_replace(ret_name, value);
	} else if (strcmp(key, "alias") == 0) {
		json_add(json_get(e, "Aliases"), json_new_string(value));
	} else if (strcmp(key, "ip") == 0) {
		json_set_string(ipam, "IPv4Address", value);
	} else if (strcmp(key, "ip6") == 0) {
		json_set_string(ipam, "IPv6Address", value);
	} else if (strcmp(key, "link-local-ip") == 0) {
		append(ipam, "LinkLocalIPs", value);
	} else if (strcmp(key, "mac-address") == 0) {
		json_set_string(e, "MacAddress", value);
	} else if (strcmp(key, "gw-priority") == 0) {
		if (parse_int64(value, &n) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "invalid gw-priority (%s): invalid syntax", value);
		json_set_int(e, "GwPriority", n);
	} else if (strcmp(key, "driver-opt") == 0) {
		autofree char *option = xstrndup(value, strcspn(value, "="));

		if (!strchr(value, '='))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "invalid key value pair format in driver options");
		if (!json_get(e, "DriverOpts"))
			json_set(e, "DriverOpts", json_new_object());
		json_set_string(json_get(e, "DriverOpts"), option, strchr(value, '=') + 1);
	} else {
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid field key %s", key);
	}
	return 0;
}

/* "name" or "name=…,alias=…,ip=…". Returns the endpoint, the name in *ret_name (malloc'ed). */
static struct json *endpoint(const char *s, char **ret_name, struct error *err)
{
	autostrv struct strv fields = STRV_INIT;
	autojson struct json *e = json_new_object();

	json_set(e, "Aliases", json_new_array());
	json_set(e, "IPAMConfig", json_new_object());
	if (!strchr(s, '=')) {
		*ret_name = xstrdup(s);
		return TAKE_PTR(e);
	}
	if (spec_csv(s, &fields, err) < 0)
		return NULL;
	for (size_t i = 0; i < fields.n; i++)
		if (endpoint_field(fields.v[i], e, ret_name, err) < 0)
			return NULL;
	if (str_empty(*ret_name)) {
		error_set(err, ERROR_INVALID_ARGUMENT, "network name/id is not specified");
		return NULL;
	}
	return TAKE_PTR(e);
}

/* The first network also gets the options that are not bound to one. */
static void add_first(struct json *e, const char *name, const struct create_options *o)
{
	bool user_defined = !str_has_prefix(name, "container:");
	static const char *const builtin[] = { "default", "bridge", "host", "none" };

	struct json *aliases = json_get(e, "Aliases"), *ipam = json_get(e, "IPAMConfig");

	for (size_t i = 0; i < ARRAY_SIZE(builtin); i++)
		user_defined &= strcmp(name, builtin[i]) != 0;
	for (size_t i = 0; i < o->network_aliases.n; i++)
		json_add(aliases, json_new_string(o->network_aliases.v[i]));
	set_string(ipam, "IPv4Address", o->ip);
	set_string(ipam, "IPv6Address", o->ip6);
	for (size_t i = 0; i < o->link_local_ips.n; i++)
		append(ipam, "LinkLocalIPs", o->link_local_ips.v[i]);
	set_string(e, "MacAddress", o->mac_address);
	if (user_defined)
		set_list(e, "Links", &o->links);
}

static int set_networks(struct json *body, struct json *host, const struct create_options *o,
			struct error *err)
{
	struct json *config = json_new_object(), *endpoints = json_new_object();
	size_t n = MAX(o->networks.n, (size_t)1);

	json_set(body, "NetworkingConfig", config);
	json_set(config, "EndpointsConfig", endpoints);
	for (size_t i = 0; i < n; i++) {
		autofree char *name = NULL;
		autojson struct json *e =
			endpoint(o->networks.n ? o->networks.v[i] : "default", &name, err);

		if (!e)
			return -1;
		if (json_get(endpoints, name))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "network \"%s\" is specified multiple times", name);
		if (i == 0) {
			json_set_string(host, "NetworkMode", name);
			add_first(e, name, o);
		}
		if (!json_array_len(json_get(e, "Aliases")))
			json_del(e, "Aliases");
		if (!json_object_len(json_get(e, "IPAMConfig")))
			json_del(e, "IPAMConfig");
		if (json_object_len(e) || n > 1)
			json_set(endpoints, name, TAKE_PTR(e));
	}
	if (!json_object_len(endpoints))
		json_del(body, "NetworkingConfig");
	return 0;
}

static int set_env(struct json *body, const struct create_options *o, struct error *err)
{
	autostrv struct strv env = STRV_INIT;

	for (size_t i = 0; i < o->env_files.n; i++)
		if (spec_env_file(o->env_files.v[i], /* environment= */ true, &env, err) < 0)
			return -1;
	for (size_t i = 0; i < o->env.n; i++) {
		const char *value = strchr(o->env.v[i], '=') ? NULL : getenv(o->env.v[i]);

		if (value)
			strv_push_printf(&env, "%s=%s", o->env.v[i], value);
		else
			strv_push(&env, o->env.v[i]);
	}
	set_list(body, "Env", &env);
	return 0;
}

static int set_labels(struct json *body, const struct create_options *o, struct error *err)
{
	autostrv struct strv labels = STRV_INIT;

	for (size_t i = 0; i < o->label_files.n; i++)
		if (spec_env_file(o->label_files.v[i], /* environment= */ false, &labels, err) < 0)
			return -1;
	strv_extend(&labels, &o->labels);
	set_map(body, "Labels", &labels);
	return 0;
}

static int set_health(struct json *body, const struct create_options *o, struct error *err)
{
	const struct {
		const char *key;
		int64_t value;
		const char *option;
	} times[] = {
		{ "Interval", o->health_interval, "--health-interval" },
		{ "Timeout", o->health_timeout, "--health-timeout" },
		{ "StartPeriod", o->health_start_period, "--health-start-period" },
		{ "StartInterval", o->health_start_interval, "--health-start-interval" },
	};
	bool any = o->health_cmd || o->health_retries;
	struct json *health = json_new_object(), *test = json_new_array();

	json_set(body, "Healthcheck", health);
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		if (times[i].value < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT, "%s cannot be negative",
					 times[i].option);
		if (times[i].value)
			json_set_int(health, times[i].key, times[i].value);
		any |= times[i].value != 0;
	}
	json_set(health, "Test", test);
	if (o->health_retries < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "--health-retries cannot be negative");
	if (o->no_healthcheck && any)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "--no-healthcheck conflicts with --health-* options");
	if (o->health_cmd || o->no_healthcheck)
		json_add(test, json_new_string(o->no_healthcheck ? "NONE" : "CMD-SHELL"));
	if (o->health_cmd)
		json_add(test, json_new_string(o->health_cmd));
	if (o->health_retries)
		json_set_int(health, "Retries", o->health_retries);
	if (!any && !o->no_healthcheck)
		json_del(body, "Healthcheck");
	return 0;
}

static void set_command(struct json *body, const struct create_options *o, int argc, char **argv)
{
	struct json *cmd, *entrypoint;

	json_set_string(body, "Image", argv[0]);
	if (argc > 1) {
		cmd = json_new_array();
		for (int i = 1; i < argc; i++)
			json_add(cmd, json_new_string(argv[i]));
		json_set(body, "Cmd", cmd);
	}
	if (o->entrypoint) {
		entrypoint = json_new_array();
		json_add(entrypoint, json_new_string(o->entrypoint));
		json_set(body, "Entrypoint", entrypoint);
	}
}

static void set_plain_members(struct json *body, const struct create_options *o)
{
	struct create_attach a = create_attach_get(o);

	set_string(body, "Hostname", o->hostname);
	set_string(body, "Domainname", o->domainname);
	set_string(body, "User", o->user);
	set_string(body, "WorkingDir", o->workdir);
	set_string(body, "StopSignal", o->stop_signal);
	set_string(body, "MacAddress", o->mac_address);
	if (o->stop_timeout >= 0)
		json_set_int(body, "StopTimeout", o->stop_timeout);
	json_set_bool(body, "AttachStdin", a.in);
	json_set_bool(body, "AttachStdout", a.out);
	json_set_bool(body, "AttachStderr", a.err);
	json_set_bool(body, "Tty", o->tty);
	json_set_bool(body, "OpenStdin", o->interactive);
	json_set_bool(body, "StdinOnce", o->interactive && a.in);
}

struct json *create_config(const struct create_options *o, int argc, char **argv, struct error *err)
{
	autojson struct json *body = json_new_object();
	struct json *volumes = json_new_object(), *exposed = json_new_object();
	struct json *host;

	json_set(body, "Volumes", volumes);
	json_set(body, "ExposedPorts", exposed);
	set_command(body, o, argc, argv);
	set_plain_members(body, o);
	if (set_env(body, o, err) < 0 || set_labels(body, o, err) < 0 ||
	    set_health(body, o, err) < 0)
		return NULL;
	host = host_config(o, volumes, exposed, err);
	if (!host)
		return NULL;
	json_set(body, "HostConfig", host);
	if (set_networks(body, host, o, err) < 0)
		return NULL;
	if (o->remove && strcmp(o->restart, "no") != 0 && *o->restart) {
		error_set(err, ERROR_INVALID_ARGUMENT,
			  "conflicting options: cannot specify both --restart and --rm");
		return NULL;
	}
	return TAKE_PTR(body);
}
