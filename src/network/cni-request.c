/* SPDX-License-Identifier: Apache-2.0 */
/* What a request becomes for plugins: CNI_ARGS and capability arguments. Sans-IO. */
#include "base/mem.h"
#include "network/cni-internal.h"

#include <ctype.h>
#include <string.h>

#define ANNOTATIONS_KEY "io.kubernetes.cri.pod-annotations"
#define BURST UINT32_MAX /* as containerd has it: no limit that the plugin would refuse */
#define RATE_MIN 1000ULL
#define RATE_MAX 1000000000000000ULL

int cni_request_check(const struct cni_request *r, struct error *err)
{
	if (!cni_name_valid(r->id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid sandbox id '%s'",
				 r->id ? r->id : "");
	if (r->ifname && !cni_ifname_valid(r->ifname))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid interface name '%s'",
				 r->ifname);
	return 0;
}

/* The format has no way to quote. */
static int add_arg(struct strv *ret, const char *key, const char *value, struct error *err)
{
	if (str_empty(key) || strpbrk(key, "=;"))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid CNI argument '%s'",
				 key ? key : "");
	for (const char *p = value ? value : ""; *p; p++) {
		if (*p == ';' || iscntrl((unsigned char)*p))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "%s: '%s' cannot be passed to network plugins", key,
					 value);
	}
	strv_push_printf(ret, "%s=%s", key, value ? value : "");
	return 0;
}

int cni_request_args(const struct cni_request *r, struct strv *ret, struct error *err)
{
	const struct {
		const char *key, *value;
	} args[] = {
		{ "IgnoreUnknown", "1" },	 { "K8S_POD_NAMESPACE", r->pod_namespace },
		{ "K8S_POD_NAME", r->pod_name }, { "K8S_POD_INFRA_CONTAINER_ID", r->id },
		{ "K8S_POD_UID", r->pod_uid },
	};

	for (size_t i = 0; i < ARRAY_SIZE(args); i++) {
		if (add_arg(ret, args[i].key, args[i].value, err) < 0)
			return -1;
	}
	for (size_t i = 0; r->args && i < r->args->n; i++) {
		if (add_arg(ret, r->args->v[i].key, r->args->v[i].value, err) < 0)
			return -1;
	}
	return 0;
}

static int add_ports(struct json *j, const struct cni_request *r, struct error *err)
{
	autojson struct json *array = json_new_array();

	for (size_t i = 0; i < r->n_ports; i++) {
		const struct port_mapping *p = &r->ports[i];
		const char *protocol = str_empty(p->protocol) ? "tcp" : p->protocol;
		struct json *m;
		char lower[8] = "";
		struct ip a;

		if (p->host_port == 0)
			continue;
		for (size_t k = 0; protocol[k] && k < sizeof(lower) - 1; k++)
			lower[k] = (char)tolower((unsigned char)protocol[k]);
		if (!str_equal(lower, "tcp") && !str_equal(lower, "udp") &&
		    !str_equal(lower, "sctp"))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "port mapping %zu: unknown protocol '%s'", i, protocol);
		if (p->host_port > 65535 || p->container_port == 0 || p->container_port > 65535)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "port mapping %zu: invalid port %u:%u", i, p->host_port,
					 p->container_port);
		if (!str_empty(p->host_ip) && ip_parse(p->host_ip, &a) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "port mapping %zu: invalid host address '%s'", i,
					 p->host_ip);
		m = json_new_object();
		json_set_int(m, "hostPort", p->host_port);
		json_set_int(m, "containerPort", p->container_port);
		json_set_string(m, "protocol", lower);
		json_set_string(m, "hostIP", p->host_ip ? p->host_ip : "");
		json_add(array, m);
	}
	if (json_array_len(array))
		json_set(j, "portMappings", TAKE_PTR(array));
	return 0;
}

static int add_rate(struct json *bandwidth, const struct kvs *annotations, const char *direction,
		    struct error *err)
{
	autofree char *key = xasprintf("kubernetes.io/%s-bandwidth", direction);
	autofree char *rate_key = xasprintf("%sRate", direction);
	autofree char *burst_key = xasprintf("%sBurst", direction);
	const char *value = kvs_get(annotations, key);
	uint64_t rate;

	if (!value)
		return 0;
	if (cni_quantity_parse(value, &rate) < 0 || rate < RATE_MIN || rate > RATE_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "annotation %s: '%s' is no rate between 1k and 1P", key, value);
	json_set_uint(bandwidth, rate_key, rate);
	json_set_uint(bandwidth, burst_key, BURST);
	return 0;
}

static int add_bandwidth(struct json *j, const struct kvs *annotations, struct error *err)
{
	autojson struct json *bandwidth = json_new_object();

	if (add_rate(bandwidth, annotations, "ingress", err) < 0 ||
	    add_rate(bandwidth, annotations, "egress", err) < 0)
		return -1;
	if (json_object_len(bandwidth))
		json_set(j, "bandwidth", TAKE_PTR(bandwidth));
	return 0;
}

static void add_dns(struct json *j, const struct cni_request *r)
{
	const struct {
		const char *key;
		const struct strv *values;
	} parts[] = {
		{ "servers", r->dns_servers },
		{ "searches", r->dns_searches },
		{ "options", r->dns_options },
	};
	autojson struct json *dns = json_new_object();

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (parts[i].values && parts[i].values->n)
			json_set(dns, parts[i].key, json_new_strv(parts[i].values));
	}
	if (json_object_len(dns))
		json_set(j, "dns", TAKE_PTR(dns));
}

static int copy_member(const char *key, struct json *value, void *arg)
{
	json_set(arg, key, json_copy(value));
	return 0;
}

int cni_request_capabilities(const struct cni_request *r, struct json **ret, struct error *err)
{
	autojson struct json *j = json_new_object();

	if (add_ports(j, r, err) < 0)
		return -1;
	if (r->annotations && r->annotations->n) {
		if (add_bandwidth(j, r->annotations, err) < 0)
			return -1;
		json_set(j, ANNOTATIONS_KEY, json_new_kvs(r->annotations));
	}
	add_dns(j, r);
	if (!str_empty(r->cgroup_path))
		json_set_string(j, "cgroupPath", r->cgroup_path);
	if (r->capabilities)
		json_object_each(r->capabilities, copy_member, j);
	*ret = TAKE_PTR(j);
	return 0;
}
