/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body of POST /containers/create: decoded by table, translated into the engine's
 * configuration, and kept as it came (over Docker's defaults) for inspect.
 */

#include "api/docker/internal.h"
#include "base/jsontab.h"
#include "base/mem.h"
#include "base/parse.h"
#include "engine/cdi.h"

#include <string.h>

#define ENDPOINTS_MAX 64

struct health_document {
	struct strv test;
	int64_t interval, timeout, start_period, start_interval, retries;
};

static const struct json_field health_fields[] = {
	JSON_FIELD("Test", FIELD_STRV, struct health_document, test, 0),
	JSON_FIELD("Interval", FIELD_INT, struct health_document, interval, 0),
	JSON_FIELD("Timeout", FIELD_INT, struct health_document, timeout, 0),
	JSON_FIELD("StartPeriod", FIELD_INT, struct health_document, start_period, 0),
	JSON_FIELD("StartInterval", FIELD_INT, struct health_document, start_interval, 0),
	JSON_FIELD("Retries", FIELD_INT, struct health_document, retries, 0),
	JSON_END,
};

struct config_document {
	char *hostname, *domainname, *user, *image, *working_dir, *stop_signal, *mac_address;
	bool tty, open_stdin, stdin_once, network_disabled;
	struct strv env;
	struct json *cmd, *entrypoint, *exposed_ports, *volumes, *stop_timeout;
	struct kvs labels;
	struct health_document *healthcheck;
};

static const struct json_field config_fields[] = {
	JSON_FIELD("Hostname", FIELD_STRING, struct config_document, hostname, 0),
	JSON_FIELD("Domainname", FIELD_STRING, struct config_document, domainname, 0),
	JSON_FIELD("User", FIELD_STRING, struct config_document, user, 0),
	JSON_FIELD("Image", FIELD_STRING, struct config_document, image, 0),
	JSON_FIELD("WorkingDir", FIELD_STRING, struct config_document, working_dir, 0),
	JSON_FIELD("StopSignal", FIELD_STRING, struct config_document, stop_signal, 0),
	JSON_FIELD("MacAddress", FIELD_STRING, struct config_document, mac_address, 0),
	JSON_FIELD("Tty", FIELD_BOOL, struct config_document, tty, 0),
	JSON_FIELD("OpenStdin", FIELD_BOOL, struct config_document, open_stdin, 0),
	JSON_FIELD("StdinOnce", FIELD_BOOL, struct config_document, stdin_once, 0),
	JSON_FIELD("NetworkDisabled", FIELD_BOOL, struct config_document, network_disabled, 0),
	JSON_FIELD("Env", FIELD_STRV, struct config_document, env, 0),
	JSON_FIELD("Cmd", FIELD_JSON, struct config_document, cmd, 0),
	JSON_FIELD("Entrypoint", FIELD_JSON, struct config_document, entrypoint, 0),
	JSON_FIELD("ExposedPorts", FIELD_JSON, struct config_document, exposed_ports, 0),
	JSON_FIELD("Volumes", FIELD_JSON, struct config_document, volumes, 0),
	JSON_FIELD("StopTimeout", FIELD_JSON, struct config_document, stop_timeout, 0),
	JSON_FIELD("Labels", FIELD_KVS, struct config_document, labels, 0),
	JSON_SUB("Healthcheck", FIELD_OBJECT_PTR, struct config_document, healthcheck,
		 health_fields, struct health_document, 0),
	JSON_END,
};

struct device_document {
	char *host, *container, *permissions;
};

static const struct json_field device_fields[] = {
	JSON_FIELD("PathOnHost", FIELD_STRING, struct device_document, host, JSON_REQUIRED),
	JSON_FIELD("PathInContainer", FIELD_STRING, struct device_document, container, 0),
	JSON_FIELD("CgroupPermissions", FIELD_STRING, struct device_document, permissions, 0),
	JSON_END,
};

struct ulimit_document {
	char *name;
	int64_t soft, hard;
};

static const struct json_field ulimit_fields[] = {
	JSON_FIELD("Name", FIELD_STRING, struct ulimit_document, name, JSON_REQUIRED),
	JSON_FIELD("Soft", FIELD_INT, struct ulimit_document, soft, 0),
	JSON_FIELD("Hard", FIELD_INT, struct ulimit_document, hard, 0),
	JSON_END,
};

struct restart_document {
	char *name;
	int64_t retries;
};

static const struct json_field restart_fields[] = {
	JSON_FIELD("Name", FIELD_STRING, struct restart_document, name, 0),
	JSON_FIELD("MaximumRetryCount", FIELD_INT, struct restart_document, retries, 0),
	JSON_END,
};

struct log_document {
	char *type;
	struct kvs config;
};

static const struct json_field log_fields[] = {
	JSON_FIELD("Type", FIELD_STRING, struct log_document, type, 0),
	JSON_FIELD("Config", FIELD_KVS, struct log_document, config, 0),
	JSON_END,
};

/* What goes over one to one lies in the engine's struct already. */
struct host_document {
	struct container_config c;
	struct strv binds;
	struct kvs tmpfs, storage_opt;
	char *volume_driver, *isolation, *cgroup;
	struct json *mounts, *port_bindings, *init, *device_requests;
	struct restart_document restart;
	struct log_document log;
	bool publish_all;
	struct {
		struct device_document *v;
		size_t n;
	} devices;
	struct {
		struct ulimit_document *v;
		size_t n;
	} ulimits;
};

#define H struct host_document
static const struct json_field host_fields[] = {
	JSON_FIELD("Binds", FIELD_STRV, H, binds, 0),
	JSON_FIELD("Tmpfs", FIELD_KVS, H, tmpfs, 0),
	JSON_FIELD("StorageOpt", FIELD_KVS, H, storage_opt, 0),
	JSON_FIELD("VolumeDriver", FIELD_STRING, H, volume_driver, 0),
	JSON_FIELD("Isolation", FIELD_STRING, H, isolation, 0),
	JSON_FIELD("Cgroup", FIELD_STRING, H, cgroup, 0),
	JSON_FIELD("PortBindings", FIELD_JSON, H, port_bindings, 0),
	JSON_FIELD("PublishAllPorts", FIELD_BOOL, H, publish_all, 0),
	JSON_FIELD("Init", FIELD_JSON, H, init, 0),
	JSON_FIELD("DeviceRequests", FIELD_JSON, H, device_requests, 0),
	JSON_SUB("RestartPolicy", FIELD_OBJECT, H, restart, restart_fields, struct restart_document,
		 0),
	JSON_SUB("LogConfig", FIELD_OBJECT, H, log, log_fields, struct log_document, 0),
	JSON_SUB("Devices", FIELD_ARRAY, H, devices, device_fields, struct device_document, 0),
	JSON_SUB("Ulimits", FIELD_ARRAY, H, ulimits, ulimit_fields, struct ulimit_document, 0),
	JSON_FIELD("Mounts", FIELD_JSON, H, mounts, 0),
	JSON_FIELD("NetworkMode", FIELD_STRING, H, c.network_mode, 0),
	JSON_FIELD("AutoRemove", FIELD_BOOL, H, c.auto_remove, 0),
	JSON_FIELD("VolumesFrom", FIELD_STRV, H, c.volumes_from, 0),
	JSON_FIELD("Annotations", FIELD_KVS, H, c.annotations, 0),
	JSON_FIELD("CapAdd", FIELD_STRV, H, c.cap_add, 0),
	JSON_FIELD("CapDrop", FIELD_STRV, H, c.cap_drop, 0),
	JSON_FIELD("CgroupnsMode", FIELD_STRING, H, c.cgroupns_mode, 0),
	JSON_FIELD("Dns", FIELD_STRV, H, c.dns, 0),
	JSON_FIELD("DnsOptions", FIELD_STRV, H, c.dns_options, 0),
	JSON_FIELD("DnsSearch", FIELD_STRV, H, c.dns_search, 0),
	JSON_FIELD("ExtraHosts", FIELD_STRV, H, c.extra_hosts, 0),
	JSON_FIELD("Links", FIELD_STRV, H, c.links, 0),
	JSON_FIELD("GroupAdd", FIELD_STRV, H, c.group_add, 0),
	JSON_FIELD("IpcMode", FIELD_STRING, H, c.ipc_mode, 0),
	JSON_FIELD("OomScoreAdj", FIELD_INT, H, c.oom_score_adj, 0),
	JSON_FIELD("PidMode", FIELD_STRING, H, c.pid_mode, 0),
	JSON_FIELD("Privileged", FIELD_BOOL, H, c.privileged, 0),
	JSON_FIELD("ReadonlyRootfs", FIELD_BOOL, H, c.read_only_rootfs, 0),
	JSON_FIELD("SecurityOpt", FIELD_STRV, H, c.security_opt, 0),
	JSON_FIELD("UTSMode", FIELD_STRING, H, c.uts_mode, 0),
	JSON_FIELD("UsernsMode", FIELD_STRING, H, c.userns_mode, 0),
	JSON_FIELD("ShmSize", FIELD_INT, H, c.shm_size, 0),
	JSON_FIELD("Sysctls", FIELD_KVS, H, c.sysctls, 0),
	JSON_FIELD("Runtime", FIELD_STRING, H, c.runtime, 0),
	JSON_FIELD("MaskedPaths", FIELD_STRV, H, c.masked_paths, 0),
	JSON_FIELD("ReadonlyPaths", FIELD_STRV, H, c.readonly_paths, 0),
	JSON_FIELD("DeviceCgroupRules", FIELD_STRV, H, c.device_cgroup_rules, 0),
	JSON_FIELD("CgroupParent", FIELD_STRING, H, c.cgroup_parent, 0),
	JSON_END,
};

static const struct json_field weight_fields[] = {
	JSON_FIELD("Path", FIELD_STRING, struct rate_device, path, JSON_REQUIRED),
	JSON_FIELD("Weight", FIELD_INT, struct rate_device, rate, 0),
	JSON_END,
};

static const struct json_field throttle_fields[] = {
	JSON_FIELD("Path", FIELD_STRING, struct rate_device, path, JSON_REQUIRED),
	JSON_FIELD("Rate", FIELD_INT, struct rate_device, rate, 0),
	JSON_END,
};

#define R struct resources_document
#define THROTTLES(name, member) \
	JSON_SUB(name, FIELD_ARRAY, R, r.member, throttle_fields, struct rate_device, 0)
struct resources_document {
	struct resources r;
	struct json *oom_kill_disable, *swappiness, *pids_limit;
};

static const struct json_field resources_fields[] = {
	JSON_FIELD("CpuShares", FIELD_INT, R, r.cpu_shares, 0),
	JSON_FIELD("Memory", FIELD_INT, R, r.memory, 0),
	JSON_FIELD("MemoryReservation", FIELD_INT, R, r.memory_reservation, 0),
	JSON_FIELD("MemorySwap", FIELD_INT, R, r.memory_swap, 0),
	JSON_FIELD("NanoCpus", FIELD_INT, R, r.nano_cpus, 0),
	JSON_FIELD("CpuPeriod", FIELD_INT, R, r.cpu_period, 0),
	JSON_FIELD("CpuQuota", FIELD_INT, R, r.cpu_quota, 0),
	JSON_FIELD("CpuRealtimePeriod", FIELD_INT, R, r.cpu_rt_period, 0),
	JSON_FIELD("CpuRealtimeRuntime", FIELD_INT, R, r.cpu_rt_runtime, 0),
	JSON_FIELD("CpusetCpus", FIELD_STRING, R, r.cpuset_cpus, 0),
	JSON_FIELD("CpusetMems", FIELD_STRING, R, r.cpuset_mems, 0),
	JSON_FIELD("BlkioWeight", FIELD_INT, R, r.blkio_weight, 0),
	JSON_SUB("BlkioWeightDevice", FIELD_ARRAY, R, r.blkio_weight_devices, weight_fields,
		 struct rate_device, 0),
	THROTTLES("BlkioDeviceReadBps", blkio_read_bps),
	THROTTLES("BlkioDeviceWriteBps", blkio_write_bps),
	THROTTLES("BlkioDeviceReadIOps", blkio_read_iops),
	THROTTLES("BlkioDeviceWriteIOps", blkio_write_iops),
	JSON_FIELD("OomKillDisable", FIELD_JSON, R, oom_kill_disable, 0),
	JSON_FIELD("MemorySwappiness", FIELD_JSON, R, swappiness, 0),
	JSON_FIELD("PidsLimit", FIELD_JSON, R, pids_limit, 0),
	JSON_END,
};

int resources_parse(const struct json *host_config, struct resources *ret, struct error *err)
{
	struct resources_document d = { 0 };

	if (jsontab_decode(resources_fields, host_config, &d, err) < 0) {
		jsontab_done(resources_fields, &d);
		return -1;
	}
	d.r.oom_kill_disable = json_bool(d.oom_kill_disable, false);
	d.r.memory_swappiness = json_int(d.swappiness, -1);
	d.r.pids_limit = json_int(d.pids_limit, 0);
	*ret = d.r;
	json_unref(d.oom_kill_disable);
	json_unref(d.swappiness);
	json_unref(d.pids_limit);
	return 0;
}

/* A string is one word (old clients), a list is itself. */
static int words(const struct json *j, const char *name, struct strv *ret, struct error *err)
{
	if (json_type(j) == JSON_STRING) {
		strv_push(ret, json_string(j));
		return 0;
	}
	if (json_type(j) != JSON_ARRAY && json_type(j) != JSON_NULL)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s: expected a list of strings",
				 name);
	for (size_t i = 0; i < json_array_len(j); i++) {
		const char *s = json_string(json_array_get(j, i));

		if (!s)
			return error_set(err, ERROR_INVALID_ARGUMENT, "%s[%zu]: expected a string",
					 name, i);
		strv_push(ret, s);
	}
	return 0;
}

static int port_number(const char *s, int64_t *ret)
{
	return parse_int64(s, ret) < 0 || *ret < 0 || *ret > 65535 ? -1 : 0;
}

/* "8080", or "8000-8010": the first that is free. */
static int port_range(const char *s, int64_t *ret_first, int64_t *ret_last)
{
	autofree char *first = xstrndup(s, strcspn(s, "-"));
	const char *dash = strchr(s, '-');

	*ret_first = *ret_last = 0;
	if (str_empty(s))
		return 0;
	if (port_number(first, ret_first) < 0)
		return -1;
	return dash && (port_number(dash + 1, ret_last) < 0 || *ret_last < *ret_first) ? -1 : 0;
}

static void port_add(struct container_config *c, const char *protocol, const char *ip,
		     int64_t host_port, int64_t host_port_end, int64_t port)
{
	GROW_ARRAY(c->ports.v, c->ports.n);
	c->ports.v[c->ports.n++] = (struct port_spec){
		.protocol = xstrdup(protocol),
		.host_ip = str_empty(ip) ? NULL : xstrdup(ip),
		.host_port = host_port,
		.host_port_end = host_port_end,
		.container_port = port,
	};
}

struct port_walk {
	struct container_config *c;
	struct error *err;
};

/* "80/tcp": [{"HostIp":"","HostPort":"8080"}] */
static int add_binding(const char *key, struct json *bindings, void *arg)
{
	struct port_walk *w = arg;
	const char *slash = strchr(key, '/');
	autofree char *number = slash ? xstrndup(key, (size_t)(slash - key)) : xstrdup(key);
	const char *protocol = slash ? slash + 1 : "tcp";
	int64_t port, host_port, last;

	if (port_number(number, &port) < 0 || port == 0)
		return error_set(w->err, ERROR_INVALID_ARGUMENT,
				 "invalid port specification: \"%s\"", key);
	for (size_t i = 0; i < json_array_len(bindings); i++) {
		const struct json *b = json_array_get(bindings, i);
		const char *host = json_get_string(b, "HostPort");

		if (port_range(host ? host : "", &host_port, &last) < 0)
			return error_set(w->err, ERROR_INVALID_ARGUMENT,
					 "invalid port specification: \"%s\"", host);
		port_add(w->c, protocol, json_get_string(b, "HostIp"), host_port, last, port);
	}
	return 0;
}

static int add_exposed(const char *key, struct json *value, void *arg)
{
	struct container_config *c = arg;

	strv_take(&c->exposed_ports, exposed_key(key));
	return 0;
}

static int translate_ports(const struct host_document *h, const struct json *exposed,
			   struct container_config *c, struct error *err)
{
	struct port_walk w = { c, err };

	if (exposed)
		json_object_each(exposed, add_exposed, c);
	return h->port_bindings && json_object_each(h->port_bindings, add_binding, &w) ? -1 : 0;
}

static void translate_lists(struct host_document *h, struct container_config *c)
{
	c->devices.v = xnew_array(struct device_spec, h->devices.n + 1);
	for (; c->devices.n < h->devices.n; c->devices.n++) {
		struct device_document *d = &h->devices.v[c->devices.n];

		c->devices.v[c->devices.n] = (struct device_spec){
			.host_path = TAKE_PTR(d->host),
			.container_path = TAKE_PTR(d->container),
			.permissions = TAKE_PTR(d->permissions),
		};
	}
	c->ulimits.v = xnew_array(struct ulimit_spec, h->ulimits.n + 1);
	for (; c->ulimits.n < h->ulimits.n; c->ulimits.n++) {
		struct ulimit_document *u = &h->ulimits.v[c->ulimits.n];

		c->ulimits.v[c->ulimits.n] = (struct ulimit_spec){
			.name = TAKE_PTR(u->name),
			.soft = u->soft,
			.hard = u->hard,
		};
	}
	c->restart_policy = TAKE_PTR(h->restart.name);
	c->restart_max_retries = h->restart.retries;
	c->log_driver = str_empty(h->log.type) ? NULL : TAKE_PTR(h->log.type);
	kvs_copy(&c->log_options, &h->log.config);
	c->init = json_bool(h->init, false);
}

static void translate_health(struct health_document *d, struct health_spec *out)
{
	if (!d)
		return;
	out->none = d->test.n > 0 && str_equal(d->test.v[0], "NONE");
	if (!out->none)
		strv_copy(&out->test, &d->test);
	out->interval = d->interval;
	out->timeout = d->timeout;
	out->start_period = d->start_period;
	out->start_interval = d->start_interval;
	out->retries = d->retries;
}

static int translate_config(struct config_document *d, struct create_request *ret,
			    struct error *err)
{
	struct container_config *c = &ret->config;

	ret->entrypoint_set = d->entrypoint && json_type(d->entrypoint) != JSON_NULL;
	if (words(d->cmd, "Cmd", &ret->cmd, err) < 0 ||
	    words(d->entrypoint, "Entrypoint", &ret->entrypoint, err) < 0)
		return -1;
	/* [""] is how clients say "no entrypoint at all", [] how they say nothing. */
	if (ret->entrypoint.n == 1 && ret->entrypoint.v[0][0] == '\0')
		strv_done(&ret->entrypoint);
	else if (ret->entrypoint.n == 0)
		ret->entrypoint_set = false;
	if (str_empty(d->image))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "Config.Image: no image has been specified");
	c->hostname = TAKE_PTR(d->hostname);
	c->domainname = TAKE_PTR(d->domainname);
	c->user = TAKE_PTR(d->user);
	c->image = TAKE_PTR(d->image);
	c->cwd = TAKE_PTR(d->working_dir);
	c->stop_signal = TAKE_PTR(d->stop_signal);
	c->mac_address = TAKE_PTR(d->mac_address);
	c->tty = d->tty;
	c->open_stdin = d->open_stdin;
	c->stdin_once = d->stdin_once;
	c->stop_timeout = json_int(d->stop_timeout, -1);
	strv_copy(&c->env, &d->env);
	kvs_copy(&c->labels, &d->labels);
	translate_health(d->healthcheck, &c->health);
	if (d->network_disabled)
		str_replace(&c->network_mode, "none");
	return 0;
}

struct endpoint_walk {
	struct container_config *c;
	struct error *err;
};

static int add_endpoint(const char *name, struct json *settings, void *arg)
{
	struct endpoint_walk *w = arg;
	const char *network = str_equal(name, "default") ? "bridge" : name;

	if (w->c->endpoints.n >= ENDPOINTS_MAX)
		return error_set(w->err, ERROR_INVALID_ARGUMENT, "more than %d networks",
				 ENDPOINTS_MAX);
	if (endpoint_settings_parse(settings, container_config_endpoint(w->c, network), w->err) < 0)
		return error_wrap(w->err, "NetworkingConfig.EndpointsConfig.%s", name);
	return 0;
}

/* NetworkingConfig; the mode's network comes first whether it is there or not. */
static int translate_network(const struct json *body, struct container_config *c, struct error *err)
{
	struct json *endpoints = json_get(json_get(body, "NetworkingConfig"), "EndpointsConfig");
	struct endpoint_walk w = { c, err };

	if (str_empty(c->network_mode) || str_equal(c->network_mode, "default"))
		str_replace(&c->network_mode, "bridge");
	return endpoints && json_object_each(endpoints, add_endpoint, &w) ? -1 : 0;
}

static int merge_member(const char *key, struct json *value, void *arg)
{
	json_set(arg, key, json_ref(value));
	return 0;
}

static const char config_defaults[] =
	"{\"Hostname\":\"\",\"Domainname\":\"\",\"User\":\"\",\"AttachStdin\":false,"
	"\"AttachStdout\":false,\"AttachStderr\":false,\"Tty\":false,\"OpenStdin\":false,"
	"\"StdinOnce\":false,\"Env\":null,\"Cmd\":null,\"Image\":\"\",\"Volumes\":null,"
	"\"WorkingDir\":\"\",\"Entrypoint\":null,\"OnBuild\":null,\"Labels\":{}}";

static const char host_defaults[] =
	"{\"Binds\":null,\"ContainerIDFile\":\"\",\"LogConfig\":{\"Type\":\"json-file\",\"Config\":"
	"{}},"
	"\"NetworkMode\":\"bridge\",\"PortBindings\":{},\"RestartPolicy\":{\"Name\":\"no\","
	"\"MaximumRetryCount\":0},\"AutoRemove\":false,\"VolumeDriver\":\"\",\"VolumesFrom\":null,"
	"\"ConsoleSize\":[0,0],\"CapAdd\":null,\"CapDrop\":null,\"CgroupnsMode\":\"host\",\"Dns\":["
	"],"
	"\"DnsOptions\":[],\"DnsSearch\":[],\"ExtraHosts\":null,\"GroupAdd\":null,"
	"\"IpcMode\":\"private\",\"Cgroup\":\"\",\"Links\":null,\"OomScoreAdj\":0,\"PidMode\":\"\","
	"\"Privileged\":false,\"PublishAllPorts\":false,\"ReadonlyRootfs\":false,\"SecurityOpt\":"
	"null,"
	"\"UTSMode\":\"\",\"UsernsMode\":\"\",\"ShmSize\":67108864,\"Runtime\":\"crun\","
	"\"Isolation\":\"\",\"CpuShares\":0,\"Memory\":0,\"NanoCpus\":0,\"CgroupParent\":\"\","
	"\"BlkioWeight\":0,\"BlkioWeightDevice\":[],\"BlkioDeviceReadBps\":[],"
	"\"BlkioDeviceWriteBps\":[],\"BlkioDeviceReadIOps\":[],\"BlkioDeviceWriteIOps\":[],"
	"\"CpuPeriod\":0,\"CpuQuota\":0,\"CpuRealtimePeriod\":0,\"CpuRealtimeRuntime\":0,"
	"\"CpusetCpus\":\"\",\"CpusetMems\":\"\",\"Devices\":[],\"DeviceCgroupRules\":null,"
	"\"DeviceRequests\":null,\"MemoryReservation\":0,\"MemorySwap\":0,\"MemorySwappiness\":"
	"null,"
	"\"OomKillDisable\":false,\"PidsLimit\":null,\"Ulimits\":[],\"CpuCount\":0,\"CpuPercent\":"
	"0,"
	"\"IOMaximumIOps\":0,\"IOMaximumBandwidth\":0,\"MaskedPaths\":null,\"ReadonlyPaths\":null}";

/* The defaults with the request's members over them. */
static struct json *with_defaults(const char *defaults, const struct json *request)
{
	struct json *j = json_parse(defaults, strlen(defaults), 1 << 16, NULL);

	if (!j)
		abort(); /* ours */
	json_object_each(request, merge_member, j);
	return j;
}

static struct json *extension_document(const struct json *body, const struct container_config *c)
{
	struct json *j = json_new_object();
	struct json *config = with_defaults(config_defaults, body);
	struct json *host = with_defaults(host_defaults, json_get(body, "HostConfig"));

	json_del(config, "HostConfig");
	json_del(config, "NetworkingConfig");
	json_set_string(host, "NetworkMode", c->network_mode);
	json_set(j, "Config", config);
	json_set(j, "HostConfig", host);
	return j;
}

/* As Go prints [][]string. */
static void put_capabilities(const struct json *list, struct buf *b)
{
	buf_putc(b, '[');
	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *one = json_array_get(list, i);

		buf_puts(b, i ? " [" : "[");
		for (size_t k = 0; k < json_array_len(one); k++) {
			const char *word = json_string(json_array_get(one, k));

			buf_printf(b, "%s%s", k ? " " : "", word ? word : "");
		}
		buf_putc(b, ']');
	}
	buf_putc(b, ']');
}

static bool wants_gpu(const struct json *request)
{
	const struct json *list = json_get(request, "Capabilities");
	const char *driver = json_get_string(request, "Driver");

	if (!str_empty(driver) && !str_equal(driver, "nvidia"))
		return false;
	for (size_t i = 0; i < json_array_len(list); i++)
		for (size_t k = 0; k < json_array_len(json_array_get(list, i)); k++)
			if (str_equal(json_string(json_array_get(json_array_get(list, i), k)),
				      "gpu"))
				return true;
	return false;
}

/* --gpus: NVIDIA's devices by the names that its toolkit writes for CDI. */
static int add_gpus(const struct json *request, struct container_config *c, struct error *err)
{
	int64_t count = json_get_int(request, "Count", 0);
	autostrv struct strv ids = STRV_INIT;

	if (json_get_strv(request, "DeviceIDs", &ids, err) < 0)
		return -1;
	if (count != 0 && ids.n > 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cannot set both Count and DeviceIDs on device request");
	if (count < 0)
		strv_push(&c->cdi_devices, "nvidia.com/gpu=all");
	for (int64_t i = 0; i < MIN(count, (int64_t)256); i++)
		strv_push_printf(&c->cdi_devices, "nvidia.com/gpu=%lld", (long long)i);
	for (size_t i = 0; i < ids.n; i++)
		strv_push_printf(&c->cdi_devices, "nvidia.com/gpu=%s", ids.v[i]);
	return 0;
}

static int device_requests(const struct json *list, struct container_config *c, struct error *err)
{
	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *one = json_array_get(list, i);
		const char *driver = json_get_string(one, "Driver");
		autobuf struct buf text = BUF_INIT(4096);

		if (str_equal(driver, "cdi")) {
			if (json_get_strv(one, "DeviceIDs", &c->cdi_devices, err) < 0)
				return -1;
		} else if (wants_gpu(one) && cdi_has_kind(NULL, "nvidia.com/gpu")) {
			if (add_gpus(one, c, err) < 0)
				return -1;
		} else {
			put_capabilities(json_get(one, "Capabilities"), &text);
			free(c->unmet_request);
			c->unmet_request = xasprintf("could not select device driver \"%s\" with "
						     "capabilities: %s",
						     driver ? driver : "", text.data);
		}
	}
	return 0;
}

/* What other systems or drivers have. */
static int check_host(const struct host_document *h, struct error *err)
{
	if (!str_empty(h->isolation) && !str_equal(h->isolation, "default"))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid isolation (%s): linux only supports 'default'",
				 h->isolation);
	if (h->storage_opt.n > 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "--storage-opt is supported only for overlay over xfs with "
				 "'pquota' mount option");
	return create_volume_driver("", h->volume_driver, err);
}

static int translate(struct config_document *d, struct host_document *h, const struct json *body,
		     struct create_request *ret, struct error *err)
{
	const struct json *host = json_get(body, "HostConfig");

	if (jsontab_decode(config_fields, body, d, err) < 0)
		return -1;
	if (host && jsontab_decode(host_fields, host, h, err) < 0)
		return error_wrap(err, "HostConfig");
	if (check_host(h, err) < 0)
		return -1;
	/* What went over one to one; the rest of the engine's configuration is added to it. */
	ret->config = h->c;
	h->c = (struct container_config){ 0 };
	ret->config.default_paths = true;
	if (host && resources_parse(host, &ret->config.resources, err) < 0)
		return error_wrap(err, "HostConfig");
	if (device_requests(h->device_requests, &ret->config, err) < 0)
		return -1;
	translate_lists(h, &ret->config);
	if (translate_config(d, ret, err) < 0 || translate_network(body, &ret->config, err) < 0 ||
	    create_mounts(&(struct mount_requests){ &h->binds, h->mounts, &h->tmpfs, d->volumes },
			  &ret->config, err) < 0 ||
	    translate_ports(h, d->exposed_ports, &ret->config, err) < 0)
		return -1;
	/* An empty list is how the docker client writes systempaths=unconfined. */
	if (json_type(json_get(host, "MaskedPaths")) == JSON_ARRAY &&
	    ret->config.masked_paths.n == 0)
		strv_push(&ret->config.security_opt, "systempaths=unconfined");
	ret->config.publish_all = h->publish_all;
	ret->extension = extension_document(body, &ret->config);
	return 0;
}

int create_request_parse(const struct json *body, struct create_request *ret, struct error *err)
{
	struct config_document d = { 0 };
	struct host_document h = { 0 };
	int r;

	*ret = (struct create_request){ 0 };
	if (json_type(body) != JSON_OBJECT)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "Config cannot be empty in order to create a container");
	r = translate(&d, &h, body, ret, err);
	jsontab_done(config_fields, &d);
	jsontab_done(host_fields, &h);
	if (r < 0)
		create_request_done(ret);
	return r;
}

void create_request_done(struct create_request *c)
{
	container_config_done(&c->config);
	json_unref(c->extension);
	strv_done(&c->entrypoint);
	strv_done(&c->cmd);
	*c = (struct create_request){ 0 };
}
