/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/config.h"

#include "base/jsontab.h"
#include "base/mem.h"
#include "engine/config-tables.h"

#include <string.h>

#define CC struct container_config

static const struct json_field platform_fields[] = {
	JSON_FIELD("os", FIELD_STRING, struct platform, os, 0),
	JSON_FIELD("architecture", FIELD_STRING, struct platform, architecture, 0),
	JSON_FIELD("variant", FIELD_STRING, struct platform, variant, 0),
	JSON_FIELD("os.version", FIELD_STRING, struct platform, os_version, 0),
	JSON_END,
};

const struct json_field config_id_mapping_fields[] = {
	JSON_FIELD("containerID", FIELD_INT, struct id_mapping, container_id, 0),
	JSON_FIELD("hostID", FIELD_INT, struct id_mapping, host_id, 0),
	JSON_FIELD("size", FIELD_INT, struct id_mapping, length, 0),
	JSON_END,
};

const struct json_field config_selinux_fields[] = {
	JSON_FIELD("user", FIELD_STRING, struct selinux_label, user, 0),
	JSON_FIELD("role", FIELD_STRING, struct selinux_label, role, 0),
	JSON_FIELD("type", FIELD_STRING, struct selinux_label, type, 0),
	JSON_FIELD("level", FIELD_STRING, struct selinux_label, level, 0),
	JSON_END,
};

static const struct json_field mount_fields[] = {
	JSON_FIELD("type", FIELD_STRING, struct mount_spec, type, 0),
	JSON_FIELD("source", FIELD_STRING, struct mount_spec, source, 0),
	JSON_FIELD("target", FIELD_STRING, struct mount_spec, target, JSON_REQUIRED),
	JSON_FIELD("readOnly", FIELD_BOOL, struct mount_spec, read_only, 0),
	JSON_FIELD("noCopy", FIELD_BOOL, struct mount_spec, no_copy, 0),
	JSON_FIELD("createSource", FIELD_BOOL, struct mount_spec, create_source, 0),
	JSON_FIELD("anonymous", FIELD_BOOL, struct mount_spec, anonymous, 0),
	JSON_FIELD("propagation", FIELD_STRING, struct mount_spec, propagation, 0),
	JSON_FIELD("options", FIELD_STRV, struct mount_spec, options, 0),
	JSON_FIELD("recursiveReadOnly", FIELD_BOOL, struct mount_spec, recursive_read_only, 0),
	JSON_FIELD("selinuxRelabel", FIELD_BOOL, struct mount_spec, selinux_relabel, 0),
	JSON_SUB("uidMappings", FIELD_ARRAY, struct mount_spec, uid_mappings,
		 config_id_mapping_fields, struct id_mapping, 0),
	JSON_SUB("gidMappings", FIELD_ARRAY, struct mount_spec, gid_mappings,
		 config_id_mapping_fields, struct id_mapping, 0),
	JSON_FIELD("subPath", FIELD_STRING, struct mount_spec, sub_path, 0),
	JSON_FIELD("volumeLabels", FIELD_KVS, struct mount_spec, volume_labels, 0),
	JSON_FIELD("volumeOptions", FIELD_KVS, struct mount_spec, volume_options, 0),
	JSON_FIELD("nonRecursive", FIELD_BOOL, struct mount_spec, non_recursive, 0),
	JSON_FIELD("roShallow", FIELD_BOOL, struct mount_spec, ro_shallow, 0),
	JSON_END,
};

static const struct json_field device_fields[] = {
	JSON_FIELD("hostPath", FIELD_STRING, struct device_spec, host_path, JSON_REQUIRED),
	JSON_FIELD("containerPath", FIELD_STRING, struct device_spec, container_path, 0),
	JSON_FIELD("permissions", FIELD_STRING, struct device_spec, permissions, 0),
	JSON_END,
};

static const struct json_field ulimit_fields[] = {
	JSON_FIELD("name", FIELD_STRING, struct ulimit_spec, name, JSON_REQUIRED),
	JSON_FIELD("soft", FIELD_INT, struct ulimit_spec, soft, 0),
	JSON_FIELD("hard", FIELD_INT, struct ulimit_spec, hard, 0),
	JSON_END,
};

const struct json_field config_port_fields[] = {
	JSON_FIELD("protocol", FIELD_STRING, struct port_spec, protocol, 0),
	JSON_FIELD("hostIp", FIELD_STRING, struct port_spec, host_ip, 0),
	JSON_FIELD("hostPort", FIELD_INT, struct port_spec, host_port, 0),
	JSON_FIELD("hostPortEnd", FIELD_INT, struct port_spec, host_port_end, 0),
	JSON_FIELD("containerPort", FIELD_INT, struct port_spec, container_port, 0),
	JSON_END,
};

static const struct json_field endpoint_fields[] = {
	JSON_FIELD("network", FIELD_STRING, struct endpoint_spec, network, 0),
	JSON_FIELD("ip", FIELD_STRING, struct endpoint_spec, ip, 0),
	JSON_FIELD("ip6", FIELD_STRING, struct endpoint_spec, ip6, 0),
	JSON_FIELD("mac", FIELD_STRING, struct endpoint_spec, mac, 0),
	JSON_FIELD("addresses", FIELD_BOOL, struct endpoint_spec, addresses, 0),
	JSON_FIELD("linkLocal", FIELD_STRV, struct endpoint_spec, link_local, 0),
	JSON_FIELD("aliases", FIELD_STRV, struct endpoint_spec, aliases, 0),
	JSON_FIELD("links", FIELD_STRV, struct endpoint_spec, links, 0),
	JSON_FIELD("driverOpts", FIELD_KVS, struct endpoint_spec, driver_opts, 0),
	JSON_FIELD("gwPriority", FIELD_INT, struct endpoint_spec, gw_priority, 0),
	JSON_END,
};

static const struct json_field health_fields[] = {
	JSON_FIELD("test", FIELD_STRV, struct health_spec, test, 0),
	JSON_FIELD("interval", FIELD_INT, struct health_spec, interval, 0),
	JSON_FIELD("timeout", FIELD_INT, struct health_spec, timeout, 0),
	JSON_FIELD("startPeriod", FIELD_INT, struct health_spec, start_period, 0),
	JSON_FIELD("startInterval", FIELD_INT, struct health_spec, start_interval, 0),
	JSON_FIELD("retries", FIELD_INT, struct health_spec, retries, 0),
	JSON_FIELD("none", FIELD_BOOL, struct health_spec, none, 0),
	JSON_END,
};

static const struct json_field hugepage_fields[] = {
	JSON_FIELD("pageSize", FIELD_STRING, struct hugepage_limit, page_size, JSON_REQUIRED),
	JSON_FIELD("limit", FIELD_UINT, struct hugepage_limit, limit, 0),
	JSON_END,
};

static const struct json_field rate_fields[] = {
	JSON_FIELD("path", FIELD_STRING, struct rate_device, path, JSON_REQUIRED),
	JSON_FIELD("rate", FIELD_INT, struct rate_device, rate, 0),
	JSON_END,
};

#define RATES(name, member) \
	JSON_SUB(name, FIELD_ARRAY, struct resources, member, rate_fields, struct rate_device, 0)

static const struct json_field resources_fields[] = {
	JSON_FIELD("memory", FIELD_INT, struct resources, memory, 0),
	JSON_FIELD("memoryReservation", FIELD_INT, struct resources, memory_reservation, 0),
	JSON_FIELD("memorySwap", FIELD_INT, struct resources, memory_swap, 0),
	JSON_FIELD("memorySwappiness", FIELD_INT, struct resources, memory_swappiness, 0),
	JSON_FIELD("oomKillDisable", FIELD_BOOL, struct resources, oom_kill_disable, 0),
	JSON_FIELD("nanoCpus", FIELD_INT, struct resources, nano_cpus, 0),
	JSON_FIELD("cpuShares", FIELD_INT, struct resources, cpu_shares, 0),
	JSON_FIELD("cpuPeriod", FIELD_INT, struct resources, cpu_period, 0),
	JSON_FIELD("cpuQuota", FIELD_INT, struct resources, cpu_quota, 0),
	JSON_FIELD("cpuRtPeriod", FIELD_INT, struct resources, cpu_rt_period, 0),
	JSON_FIELD("cpuRtRuntime", FIELD_INT, struct resources, cpu_rt_runtime, 0),
	JSON_FIELD("cpusetCpus", FIELD_STRING, struct resources, cpuset_cpus, 0),
	JSON_FIELD("cpusetMems", FIELD_STRING, struct resources, cpuset_mems, 0),
	JSON_FIELD("pidsLimit", FIELD_INT, struct resources, pids_limit, 0),
	JSON_FIELD("blkioWeight", FIELD_INT, struct resources, blkio_weight, 0),
	RATES("blkioWeightDevices", blkio_weight_devices),
	RATES("blkioReadBps", blkio_read_bps),
	RATES("blkioWriteBps", blkio_write_bps),
	RATES("blkioReadIops", blkio_read_iops),
	RATES("blkioWriteIops", blkio_write_iops),
	JSON_SUB("hugepages", FIELD_ARRAY, struct resources, hugepages, hugepage_fields,
		 struct hugepage_limit, 0),
	JSON_FIELD("unified", FIELD_KVS, struct resources, unified, 0),
	JSON_END,
};

static const struct json_field config_fields[] = {
	JSON_FIELD("image", FIELD_STRING, CC, image, 0),
	JSON_FIELD("imageId", FIELD_STRING, CC, image_id, 0),
	JSON_FIELD("chainId", FIELD_STRING, CC, chain_id, 0),
	JSON_SUB("platform", FIELD_OBJECT, CC, platform, platform_fields, struct platform, 0),
	JSON_FIELD("args", FIELD_STRV, CC, args, 0),
	JSON_FIELD("env", FIELD_STRV, CC, env, 0),
	JSON_FIELD("cwd", FIELD_STRING, CC, cwd, 0),
	JSON_FIELD("user", FIELD_STRING, CC, user, 0),
	JSON_FIELD("groupAdd", FIELD_STRV, CC, group_add, 0),
	JSON_FIELD("hostname", FIELD_STRING, CC, hostname, 0),
	JSON_FIELD("domainname", FIELD_STRING, CC, domainname, 0),
	JSON_FIELD("tty", FIELD_BOOL, CC, tty, 0),
	JSON_FIELD("openStdin", FIELD_BOOL, CC, open_stdin, 0),
	JSON_FIELD("stdinOnce", FIELD_BOOL, CC, stdin_once, 0),
	JSON_FIELD("stopSignal", FIELD_STRING, CC, stop_signal, 0),
	JSON_FIELD("stopTimeout", FIELD_INT, CC, stop_timeout, 0),
	JSON_FIELD("labels", FIELD_KVS, CC, labels, 0),
	JSON_FIELD("annotations", FIELD_KVS, CC, annotations, 0),
	JSON_SUB("mounts", FIELD_ARRAY, CC, mounts, mount_fields, struct mount_spec, 0),
	JSON_FIELD("volumesFrom", FIELD_STRV, CC, volumes_from, 0),
	JSON_FIELD("readOnlyRootfs", FIELD_BOOL, CC, read_only_rootfs, 0),
	JSON_FIELD("shmSize", FIELD_INT, CC, shm_size, 0),
	JSON_FIELD("autoRemove", FIELD_BOOL, CC, auto_remove, 0),
	JSON_FIELD("init", FIELD_BOOL, CC, init, 0),
	JSON_FIELD("networkMode", FIELD_STRING, CC, network_mode, 0),
	JSON_FIELD("dns", FIELD_STRV, CC, dns, 0),
	JSON_FIELD("dnsSearch", FIELD_STRV, CC, dns_search, 0),
	JSON_FIELD("dnsOptions", FIELD_STRV, CC, dns_options, 0),
	JSON_FIELD("extraHosts", FIELD_STRV, CC, extra_hosts, 0),
	JSON_FIELD("macAddress", FIELD_STRING, CC, mac_address, 0),
	JSON_FIELD("links", FIELD_STRV, CC, links, 0),
	JSON_SUB("endpoints", FIELD_ARRAY, CC, endpoints, endpoint_fields, struct endpoint_spec, 0),
	JSON_SUB("ports", FIELD_ARRAY, CC, ports, config_port_fields, struct port_spec, 0),
	JSON_FIELD("exposedPorts", FIELD_STRV, CC, exposed_ports, 0),
	JSON_FIELD("publishAll", FIELD_BOOL, CC, publish_all, 0),
	JSON_FIELD("pidMode", FIELD_STRING, CC, pid_mode, 0),
	JSON_FIELD("ipcMode", FIELD_STRING, CC, ipc_mode, 0),
	JSON_FIELD("utsMode", FIELD_STRING, CC, uts_mode, 0),
	JSON_FIELD("cgroupnsMode", FIELD_STRING, CC, cgroupns_mode, 0),
	JSON_FIELD("usernsMode", FIELD_STRING, CC, userns_mode, 0),
	JSON_FIELD("privileged", FIELD_BOOL, CC, privileged, 0),
	JSON_FIELD("capAdd", FIELD_STRV, CC, cap_add, 0),
	JSON_FIELD("capDrop", FIELD_STRV, CC, cap_drop, 0),
	JSON_FIELD("securityOpt", FIELD_STRV, CC, security_opt, 0),
	JSON_SUB("devices", FIELD_ARRAY, CC, devices, device_fields, struct device_spec, 0),
	JSON_FIELD("deviceCgroupRules", FIELD_STRV, CC, device_cgroup_rules, 0),
	JSON_FIELD("maskedPaths", FIELD_STRV, CC, masked_paths, 0),
	JSON_FIELD("readonlyPaths", FIELD_STRV, CC, readonly_paths, 0),
	JSON_FIELD("defaultPaths", FIELD_BOOL, CC, default_paths, 0),
	JSON_FIELD("sysctls", FIELD_KVS, CC, sysctls, 0),
	JSON_SUB("ulimits", FIELD_ARRAY, CC, ulimits, ulimit_fields, struct ulimit_spec, 0),
	JSON_SUB("resources", FIELD_OBJECT, CC, resources, resources_fields, struct resources, 0),
	JSON_FIELD("oomScoreAdj", FIELD_INT, CC, oom_score_adj, 0),
	JSON_FIELD("cgroupParent", FIELD_STRING, CC, cgroup_parent, 0),
	JSON_FIELD("runtime", FIELD_STRING, CC, runtime, 0),
	JSON_FIELD("logDriver", FIELD_STRING, CC, log_driver, 0),
	JSON_FIELD("logOptions", FIELD_KVS, CC, log_options, 0),
	JSON_FIELD("restartPolicy", FIELD_STRING, CC, restart_policy, 0),
	JSON_FIELD("restartMaxRetries", FIELD_INT, CC, restart_max_retries, 0),
	JSON_SUB("health", FIELD_OBJECT, CC, health, health_fields, struct health_spec, 0),
	JSON_FIELD("sandboxID", FIELD_STRING, CC, sandbox_id, 0),
	JSON_FIELD("logPath", FIELD_STRING, CC, log_path, 0),
	JSON_FIELD("groupsPolicy", FIELD_STRING, CC, groups_policy, 0),
	JSON_FIELD("capAmbient", FIELD_STRV, CC, cap_ambient, 0),
	JSON_SUB("selinux", FIELD_OBJECT, CC, selinux, config_selinux_fields, struct selinux_label,
		 0),
	JSON_FIELD("cdiDevices", FIELD_STRV, CC, cdi_devices, 0),
	JSON_FIELD("unmetRequest", FIELD_STRING, CC, unmet_request, 0),
	JSON_FIELD("noHostDevices", FIELD_BOOL, CC, no_host_devices, 0),
	JSON_END,
};

void mount_spec_done(struct mount_spec *m)
{
	jsontab_done(mount_fields, m);
}

void mount_spec_copy(struct mount_spec *dst, const struct mount_spec *src)
{
	autojson struct json *j = jsontab_encode(mount_fields, src);

	*dst = (struct mount_spec){ 0 };
	if (jsontab_decode(mount_fields, j, dst, NULL) < 0)
		abort(); /* what we encode, we decode */
}

void resources_done(struct resources *r)
{
	jsontab_done(resources_fields, r);
}

void container_config_done(struct container_config *c)
{
	jsontab_done(config_fields, c);
	*c = (struct container_config){ 0 };
}

void endpoint_spec_done(struct endpoint_spec *e)
{
	jsontab_done(endpoint_fields, e);
	*e = (struct endpoint_spec){ 0 };
}

struct endpoint_spec *container_config_endpoint(struct container_config *c, const char *network)
{
	struct endpoint_spec *e;

	for (size_t i = 0; i < c->endpoints.n; i++) {
		if (str_equal(c->endpoints.v[i].network, network))
			return &c->endpoints.v[i];
	}
	c->endpoints.v = xreallocarray(c->endpoints.v, c->endpoints.n + 1, sizeof(*c->endpoints.v));
	e = &c->endpoints.v[c->endpoints.n++];
	*e = (struct endpoint_spec){ .network = xstrdup(network) };
	return e;
}

void container_config_drop_endpoint(struct container_config *c, const char *network)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->endpoints.n; i++) {
		if (str_equal(c->endpoints.v[i].network, network))
			endpoint_spec_done(&c->endpoints.v[i]);
		else
			c->endpoints.v[kept++] = c->endpoints.v[i];
	}
	c->endpoints.n = kept;
}

struct json *container_config_to_json(const struct container_config *c)
{
	return jsontab_encode(config_fields, c);
}

int container_config_from_json(const struct json *j, struct container_config *ret,
			       struct error *err)
{
	struct container_config c = { 0 };

	if (jsontab_decode(config_fields, j, &c, err) < 0) {
		container_config_done(&c);
		return error_wrap(err, "container configuration");
	}
	*ret = c;
	return 0;
}

void container_config_copy(struct container_config *dst, const struct container_config *src)
{
	autojson struct json *j = container_config_to_json(src);

	*dst = (struct container_config){ 0 };
	if (jsontab_decode(config_fields, j, dst, NULL) < 0)
		abort(); /* what we encode, we decode */
}

static bool has_mount_at(const struct container_config *c, const char *target)
{
	for (size_t i = 0; i < c->mounts.n; i++) {
		if (str_equal(c->mounts.v[i].target, target))
			return true;
	}
	return false;
}

/* An anonymous volume for each VOLUME of the image that the user mounted nothing on. */
static int apply_volumes(struct container_config *c, const struct strv *volumes, struct error *err)
{
	for (size_t i = 0; i < volumes->n; i++) {
		const char *target = volumes->v[i];

		if (has_mount_at(c, target))
			continue;
		if (target[0] != '/')
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "image volume '%s' is not an absolute path", target);
		GROW_ARRAY(c->mounts.v, c->mounts.n);
		c->mounts.v[c->mounts.n++] = (struct mount_spec){
			.type = xstrdup("volume"),
			.target = xstrdup(target),
			.anonymous = true,
		};
	}
	return 0;
}

/* "KEY" alone, from the user, keeps the image's value out. */
static void apply_env(struct container_config *c, const struct strv *env)
{
	for (size_t i = 0; i < env->n; i++) {
		const char *eq = strchr(env->v[i], '=');
		autofree char *key =
			eq ? xstrndup(env->v[i], (size_t)(eq - env->v[i])) : xstrdup(env->v[i]);

		if (!strv_env_get(&c->env, key) && !strv_contains(&c->env, key))
			strv_push(&c->env, env->v[i]);
	}
}

static void apply_health(struct container_config *c, const struct healthcheck *h)
{
	struct health_spec *own = &c->health;

	if (!h || own->none)
		return;
	if (own->test.n == 0)
		strv_copy(&own->test, &h->test);
	if (own->interval == 0)
		own->interval = h->interval;
	if (own->timeout == 0)
		own->timeout = h->timeout;
	if (own->start_period == 0)
		own->start_period = h->start_period;
	if (own->start_interval == 0)
		own->start_interval = h->start_interval;
	if (own->retries == 0)
		own->retries = h->retries;
}

static void apply_default(char **field, const char *value)
{
	if (str_empty(*field) && !str_empty(value))
		str_replace(field, value);
}

int container_config_apply_image(struct container_config *c, const struct image_config *image,
				 const struct strv *entrypoint, bool entrypoint_set,
				 const struct strv *cmd, struct error *err)
{
	bool own_command = cmd && cmd->n > 0;

	strv_done(&c->args);
	if (entrypoint_set && entrypoint)
		strv_extend(&c->args, entrypoint);
	else
		strv_extend(&c->args, &image->config.entrypoint);
	/* An entrypoint of the user's own drops the image's command. */
	if (own_command)
		strv_extend(&c->args, cmd);
	else if (!entrypoint_set)
		strv_extend(&c->args, &image->config.cmd);
	if (c->args.n == 0 || (c->args.n == 1 && c->args.v[0][0] == '\0'))
		return error_set(err, ERROR_INVALID_ARGUMENT, "no command specified");

	apply_env(c, &image->config.env);
	apply_default(&c->cwd, image->config.working_dir);
	apply_default(&c->user, image->config.user);
	apply_default(&c->stop_signal, image->config.stop_signal);
	for (size_t i = 0; i < image->config.labels.n; i++) {
		const struct kv *kv = &image->config.labels.v[i];

		if (!kvs_get(&c->labels, kv->key))
			kvs_set(&c->labels, kv->key, kv->value);
	}
	for (size_t i = 0; i < image->config.exposed_ports.n; i++) {
		if (!strv_contains(&c->exposed_ports, image->config.exposed_ports.v[i]))
			strv_push(&c->exposed_ports, image->config.exposed_ports.v[i]);
	}
	apply_health(c, image->config.healthcheck);
	return apply_volumes(c, &image->config.volumes, err);
}
