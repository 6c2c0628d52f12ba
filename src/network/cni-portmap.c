/* SPDX-License-Identifier: Apache-2.0 */
/* portmap: ports of the host that lead to the pod, in maps of our own table. The last pod that asks
 * for a port has it, as with the binary. */
#include "base/log.h"
#include "base/mem.h"
#include "network/cni-conntrack.h"
#include "network/cni-internal.h"
#include "network/cni-link.h"
#include "network/cni-nft.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define PORTS_MAX 4096

struct portmap {
	struct cni_port *ports;
	size_t n;
	bool snat;
	char owner[CNI_OWNER_MAX];
};

static void portmap_done(struct portmap *p)
{
	free(p->ports);
}

/* Conditions, marks and iptables are the binary's. */
static bool portmap_supports(const struct json *config)
{
	static const char *const keys[] = { "type",	    "name",	    "cniVersion",
					    "capabilities", "snat",	    "backend",
					    "conditionsV4", "conditionsV6", NULL };
	const char *backend = json_get_string(config, "backend");

	return cni_keys_known(config, keys) && (!backend || str_equal(backend, "nftables")) &&
	       json_array_len(json_get(config, "conditionsV4")) == 0 &&
	       json_array_len(json_get(config, "conditionsV6")) == 0 && cni_nft_available();
}

static int read_port(const struct json *j, size_t at, struct cni_port *ret, struct error *err)
{
	static const struct {
		const char *name;
		uint8_t number;
	} protocols[] = { { "tcp", IPPROTO_TCP },
			  { "udp", IPPROTO_UDP },
			  { "sctp", IPPROTO_SCTP } };
	const char *protocol = json_get_string(j, "protocol"), *ip = json_get_string(j, "hostIP");
	int64_t host_port = json_get_int(j, "hostPort", 0),
		port = json_get_int(j, "containerPort", 0);

	*ret = (struct cni_port){ 0 };
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		if (strcasecmp(protocols[i].name, protocol ? protocol : "tcp") == 0)
			ret->protocol = protocols[i].number;
	}
	if (ret->protocol == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "portMappings[%zu]: unknown protocol '%s'", at, protocol);
	if (host_port <= 0 || host_port > 65535 || port <= 0 || port > 65535)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "portMappings[%zu]: invalid ports %lld:%lld", at,
				 (long long)host_port, (long long)port);
	ret->host_port = (uint16_t)host_port;
	ret->port = (uint16_t)port;
	if (str_empty(ip))
		return 0;
	if (ip_parse(ip, &ret->host) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "portMappings[%zu]: invalid hostIP '%s'", at, ip);
	return 0;
}

static int read_conf(const struct cni_call *call, const struct json *config, struct portmap *p,
		     struct error *err)
{
	const struct json *list = json_get(json_get(config, "runtimeConfig"), "portMappings");
	size_t n = json_array_len(list);

	if (n > PORTS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "more than %d port mappings",
				 PORTS_MAX);
	p->snat = json_get_bool(config, "snat", true);
	snprintf(p->owner, sizeof(p->owner), "%s-%s", call->id, call->ifname);
	p->ports = xnew_array(struct cni_port, n + 1);
	for (; p->n < n; p->n++) {
		if (read_port(json_array_get(list, p->n), p->n, &p->ports[p->n], err) < 0)
			return -1;
	}
	return 0;
}

/* The pod's first address of the family. */
static const struct cni_net *pod_address(const struct cni_info *i, const char *ifname, uint8_t len)
{
	for (size_t k = 0; k < i->ips.n; k++) {
		const struct cni_ip *ip = &i->ips.v[k];
		const struct cni_interface *f =
			ip->interface < 0 ? NULL : &i->interfaces.v[ip->interface];

		if (ip->address.addr.len == len &&
		    (!f || (f->sandbox && str_equal(f->name, ifname))))
			return &ip->address;
	}
	return NULL;
}

/* A host address of one family; "any" of one family is not any of the other. */
static size_t of_family(const struct portmap *p, uint8_t len, struct cni_port *out)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++) {
		if (p->ports[i].host.len != 0 && p->ports[i].host.len != len)
			continue;
		out[n] = p->ports[i];
		if (ip_is_any(&out[n].host))
			out[n].host.len = 0;
		n++;
	}
	return n;
}

/* 127.0.0.1 must be routable to the pod. */
static int open_localnet(const struct ip *pod, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;
	char name[IFNAMSIZ];
	int r;

	if (netlink_open(&nl, err) < 0)
		return -1;
	/* Unreachable pods are no reason to fail, as with the binary. */
	if (cni_link_to(&nl, pod, name, NULL) < 0)
		return 0;
	if (cni_nft_guard(name, err) < 0)
		return -1;
	r = cni_sysctl("1", "net/ipv4/conf/%s/route_localnet", name);
	return r < 0 ? error_errno(err, -r, "enable route_localnet of '%s'", name) : 0;
}

static int publish(const struct portmap *p, const struct cni_net *pod, struct error *err)
{
	autofree struct cni_port *ports = xnew_array(struct cni_port, p->n + 1);
	autoerror struct error e = ERROR_INIT;
	size_t n = of_family(p, pod->addr.len, ports);

	if (cni_nft_publish(p->owner, pod, ports, n, p->snat, err) < 0)
		return -1;
	/* After the rules, or new flows would come up again. */
	if (cni_conntrack_forget(ip_family(&pod->addr), ports, n, &e) < 0)
		log_warn("%s: %s, ignoring", p->owner, e.msg);
	return p->snat && pod->addr.len == 4 ? open_localnet(&pod->addr, err) : 0;
}

static int portmap_add(const struct cni_call *call, const struct json *config,
		       struct json **ret_result, struct error *err)
{
	CLEANUP(portmap_done) struct portmap p = { 0 };
	autocniinfo struct cni_info prev = CNI_INFO_INIT;

	if (read_conf(call, config, &p, err) < 0 || cni_prev_result(config, &prev, err) < 0)
		return -1;
	for (uint8_t len = 4; len <= 16 && p.n > 0; len = (uint8_t)(len + 12)) {
		const struct cni_net *pod = pod_address(&prev, call->ifname, len);

		if (pod && publish(&p, pod, err) < 0)
			return -1;
	}
	*ret_result = json_copy(json_get(config, "prevResult"));
	return 0;
}

/* By owner: ports that could not be mapped must not keep a pod. */
static int portmap_del(const struct cni_call *call, const struct json *config, struct error *err)
{
	const struct json *list = json_get(json_get(config, "runtimeConfig"), "portMappings");
	char owner[CNI_OWNER_MAX];

	snprintf(owner, sizeof(owner), "%s-%s", call->id, call->ifname);
	return json_array_len(list) == 0 ? 0 : cni_nft_remove(owner, CNI_NFT_PORTS, err);
}

static int portmap_check(const struct cni_call *call, const struct json *config, struct error *err)
{
	CLEANUP(portmap_done) struct portmap p = { 0 };
	autocniinfo struct cni_info prev = CNI_INFO_INIT;
	size_t n;

	if (read_conf(call, config, &p, err) < 0 || cni_prev_result(config, &prev, err) < 0 ||
	    cni_nft_count(p.owner, CNI_NFT_PORTS, &n, err) < 0)
		return -1;
	if (p.n > 0 && n == 0 &&
	    (pod_address(&prev, call->ifname, 4) || pod_address(&prev, call->ifname, 16)))
		return error_set(err, ERROR_UNKNOWN, "no port of the host is mapped");
	return 0;
}

const struct cni_builtin cni_portmap = {
	.type = "portmap",
	.supports = portmap_supports,
	.add = portmap_add,
	.del = portmap_del,
	.check = portmap_check,
};
