/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bridge: a veth pair between the pod and a bridge, addresses from the plugin for address
 * management, routes, gateway addresses on the bridge, masquerading. An attach that fails half-way
 * leaves what DEL removes, which libcni's rules make the caller do.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"
#include "network/cni-internal.h"
#include "network/cni-link.h"
#include "network/cni-nft.h"

#include <linux/if.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BRIDGE "cni0"
#define NAME_ATTEMPTS 10
#define UP_MS 2500

struct bridge_conf {
	const char *bridge, *ipam;
	bool gateway, default_gateway, force_address, masquerade, hairpin, promisc;
	unsigned mtu;
	uint8_t mac[6];
	bool has_mac;
};

/* Bridges and their addresses are looked at and then changed. */
static pthread_mutex_t setup = PTHREAD_MUTEX_INITIALIZER;

static bool bridge_supports(const struct json *config)
{
	static const char *const keys[] = { "type",
					    "name",
					    "cniVersion",
					    "capabilities",
					    "dns",
					    "bridge",
					    "isGateway",
					    "ipMasq",
					    "forceAddress",
					    "mtu",
					    "hairpinMode",
					    "isDefaultGateway",
					    "ipam",
					    "promiscMode",
					    "vlan",
					    "macspoofchk",
					    "enabledad",
					    "vlanTrunk",
					    "portIsolation",
					    "preserveDefaultVlan",
					    "disableContainerInterface",
					    NULL };
	static const char *const off[] = { "macspoofchk", "enabledad", "portIsolation",
					   "disableContainerInterface" };
	const struct json *ipam = json_get(config, "ipam");

	if (!cni_keys_known(config, keys) || json_get_int(config, "vlan", 0) != 0 ||
	    json_array_len(json_get(config, "vlanTrunk")))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(off); i++) {
		if (json_get_bool(config, off[i], false))
			return false;
	}
	if (json_get_bool(config, "ipMasq", false) && !cni_nft_available())
		return false;
	return !ipam || json_type(ipam) == JSON_OBJECT;
}

/* CNI_ARGS first, then what the runtime says for this pod. */
static int read_mac(const struct cni_call *call, const struct json *config, struct bridge_conf *c,
		    struct error *err)
{
	const char *mac = json_get_string(json_get(config, "runtimeConfig"), "mac");
	autostrv struct strv args = STRV_INIT;

	strv_split(&args, call->args ? call->args : "", ";");
	if (str_empty(mac))
		mac = strv_env_get(&args, "MAC");
	if (str_empty(mac))
		return 0;
	if (cni_mac_parse(mac, c->mac) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid MAC address '%s'", mac);
	c->has_mac = true;
	return 0;
}

static void read_conf(const struct json *config, struct bridge_conf *ret)
{
	const char *bridge = json_get_string(config, "bridge");

	*ret = (struct bridge_conf){
		.bridge = str_empty(bridge) ? BRIDGE : bridge,
		.ipam = json_get_string(json_get(config, "ipam"), "type"),
		.default_gateway = json_get_bool(config, "isDefaultGateway", false),
		.gateway = json_get_bool(config, "isGateway", false),
		.force_address = json_get_bool(config, "forceAddress", false),
		.masquerade = json_get_bool(config, "ipMasq", false),
		.hairpin = json_get_bool(config, "hairpinMode", false),
		.promisc = json_get_bool(config, "promiscMode", false),
	};
	ret->gateway |= ret->default_gateway;
}

/* What only an attach needs: a pod must go however wrong its configuration was. */
static int check_conf(const struct cni_call *call, const struct json *config, struct bridge_conf *c,
		      struct error *err)
{
	int64_t mtu = json_get_int(config, "mtu", 0);

	if (!cni_ifname_valid(c->bridge))
		return error_set(err, ERROR_FAILED_PRECONDITION, "invalid bridge name '%s'",
				 c->bridge);
	if (mtu < 0 || mtu > 65535)
		return error_set(err, ERROR_FAILED_PRECONDITION, "invalid MTU %lld",
				 (long long)mtu);
	c->mtu = (unsigned)mtu;
	if (c->hairpin && c->promisc)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "cannot set hairpin mode and promiscuous mode at the same time");
	return read_mac(call, config, c, err);
}

static int ensure_bridge(struct netlink *nl, const struct bridge_conf *c, struct cni_link *ret,
			 struct error *err)
{
	autoerror struct error e = ERROR_INIT;

	if (cni_link_get(nl, c->bridge, ret, &e) < 0) {
		if (!error_is(&e, ERROR_NOT_FOUND))
			return error_move(err, &e);
		error_done(&e);
		if (cni_link_add_bridge(nl, c->bridge, c->mtu, &e) < 0 &&
		    !error_is(&e, ERROR_ALREADY_EXISTS))
			return error_move(err, &e);
		/* Routes of this interface are ours, not those of who happens to announce. */
		cni_sysctl("0", "net/ipv6/conf/%s/accept_ra", c->bridge);
		if (cni_link_get(nl, c->bridge, ret, err) < 0)
			return -1;
	}
	if (!str_equal(ret->kind, "bridge"))
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "'%s' already exists but is not a bridge", c->bridge);
	if (!(ret->flags & IFF_UP) && cni_link_set_flags(nl, ret->index, IFF_UP, err) < 0)
		return -1;
	if (c->promisc && ret->promiscuity == 0)
		return cni_link_set_flags(nl, ret->index, IFF_PROMISC, err);
	return 0;
}

static int make_pair(struct netlink *nl, const struct bridge_conf *c, const struct cni_link *bridge,
		     const char *ifname, int netns, char host_name[IFNAMSIZ], struct error *err)
{
	for (int i = 0;; i++) {
		autoerror struct error e = ERROR_INIT;
		struct cni_link taken;
		char id[9];

		random_hex(4, id);
		snprintf(host_name, IFNAMSIZ, "veth%s", id);
		const struct cni_veth v = {
			.host_name = host_name,
			.bridge = bridge->index,
			.mtu = c->mtu,
			.name = ifname,
			.netns_fd = netns,
			.mac = c->has_mac ? c->mac : NULL,
		};

		if (cni_link_add_veth(nl, &v, &e) == 0)
			return 0;
		if (!error_is(&e, ERROR_ALREADY_EXISTS) || i >= NAME_ATTEMPTS)
			return error_move(err, &e);
		if (cni_link_get(nl, host_name, &taken, NULL) < 0)
			return error_set(err, ERROR_ALREADY_EXISTS,
					 "interface '%s' already exists in the network namespace",
					 ifname);
	}
}

static bool has_default_route(const struct cni_info *i, uint8_t len)
{
	for (size_t k = 0; k < i->routes.n; k++) {
		const struct cni_route *r = &i->routes.v[k];

		if (r->dst.addr.len == len && r->dst.prefix == 0 && r->gateway.len)
			return true;
	}
	return false;
}

/* Gateways that the configuration wants and the plugin for addresses did not name. */
static void complete(const struct bridge_conf *c, struct cni_info *i)
{
	for (size_t k = 0; k < i->ips.n; k++) {
		struct cni_ip *ip = &i->ips.v[k];
		struct cni_net any = { .addr.len = ip->address.addr.len };

		ip->interface = 2;
		if (ip->gateway.len == 0 && c->gateway) {
			struct ip base = cni_net_base(&ip->address);

			ip->gateway = cni_net_next(&base);
		}
		if (c->default_gateway && !has_default_route(i, any.addr.len))
			cni_info_add_route(i, &any, &ip->gateway);
	}
}

static int get_addresses(const struct cni_call *call, const struct json *config,
			 const struct bridge_conf *c, struct cni_info *i, struct error *err)
{
	autojson struct json *j = NULL;
	autocniinfo struct cni_info got = CNI_INFO_INIT;

	if (cni_plugin_run(call, c->ipam, config, &j, err) < 0)
		return error_wrap(err, "ipam type=\"%s\"", c->ipam);
	if (cni_info_parse(j, &got, err) < 0)
		return error_wrap(err, "ipam type=\"%s\": its result", c->ipam);
	if (got.ips.n == 0)
		return error_set(err, ERROR_UNKNOWN, "IPAM plugin returned missing IP config");
	for (size_t k = 0; k < got.ips.n; k++)
		cni_info_add_ip(i, &got.ips.v[k]);
	for (size_t k = 0; k < got.routes.n; k++)
		cni_info_add_route(i, &got.routes.v[k].dst, &got.routes.v[k].gateway);
	i->dns = TAKE_PTR(got.dns);
	return 0;
}

struct inside {
	const struct cni_call *call;
	struct cni_info *info;
	struct cni_link link;
};

static const struct ip *first_gateway(const struct cni_info *i, uint8_t len)
{
	for (size_t k = 0; k < i->ips.n; k++) {
		if (i->ips.v[k].gateway.len == len)
			return &i->ips.v[k].gateway;
	}
	return NULL;
}

static bool has_family(const struct cni_info *i, uint8_t len)
{
	for (size_t k = 0; k < i->ips.n; k++) {
		if (i->ips.v[k].address.addr.len == len)
			return true;
	}
	return false;
}

static void set_inside_sysctls(const struct inside *in)
{
	const char *ifname = in->call->ifname;

	cni_sysctl("0", "net/ipv6/conf/%s/accept_dad", ifname);
	/* An address that was another pod's a moment ago is known by that one's MAC. */
	cni_sysctl("1", "net/ipv4/conf/%s/arp_notify", ifname);
	if (has_family(in->info, 16)) {
		cni_sysctl("0", "net/ipv6/conf/lo/disable_ipv6");
		cni_sysctl("0", "net/ipv6/conf/%s/disable_ipv6", ifname);
	}
}

/* Within the namespace. */
static int configure_inside(void *arg, struct error *err)
{
	struct inside *in = arg;
	autonetlink struct netlink nl = NETLINK_INIT;
	const struct cni_info *i = in->info;

	if (netlink_open(&nl, err) < 0 || cni_link_get(&nl, in->call->ifname, &in->link, err) < 0)
		return -1;
	if (i->ips.n)
		set_inside_sysctls(in);
	for (size_t k = 0; k < i->ips.n; k++) {
		if (cni_link_add_address(&nl, in->link.index, &i->ips.v[k].address, err) < 0)
			return -1;
	}
	if (cni_link_set_flags(&nl, in->link.index, IFF_UP, err) < 0)
		return -1;
	for (size_t k = 0; k < i->routes.n; k++) {
		const struct cni_route *r = &i->routes.v[k];
		const struct ip *gateway =
			r->gateway.len ? &r->gateway : first_gateway(i, r->dst.addr.len);
		autoerror struct error e = ERROR_INIT;

		if (cni_link_add_route(&nl, in->link.index, &r->dst, gateway, &e) < 0 &&
		    !error_is(&e, ERROR_ALREADY_EXISTS))
			return error_move(err, &e);
	}
	return 0;
}

/* One subnet's gateway on the bridge. Another address of its family is another network's. */
static int ensure_gateway(struct netlink *nl, const struct bridge_conf *c,
			  const struct cni_link *bridge, const struct cni_nets *have,
			  const struct cni_net *gateway, struct error *err)
{
	char text[CNI_NET_STRING_MAX];

	for (size_t k = 0; k < have->n; k++) {
		const struct cni_net *h = &have->v[k];

		if (h->addr.len != gateway->addr.len)
			continue;
		if (ip_compare(&h->addr, &gateway->addr) == 0 && h->prefix == gateway->prefix)
			return 0;
		if (h->addr.len == 16 && !cni_net_contains(h, &gateway->addr) &&
		    !cni_net_contains(gateway, &h->addr))
			continue;
		if (!c->force_address) {
			cni_net_format(gateway, text);
			return error_set(err, ERROR_FAILED_PRECONDITION,
					 "'%s' already has an IP address different from %s",
					 c->bridge, text);
		}
		if (cni_link_del_address(nl, bridge->index, h, err) < 0)
			return -1;
	}
	autoerror struct error e = ERROR_INIT;

	if (cni_link_add_address(nl, bridge->index, gateway, &e) < 0 &&
	    !error_is(&e, ERROR_ALREADY_EXISTS))
		return error_move(err, &e);
	/* A bridge whose maker died before this has no address any more, once its ports have gone.
	 */
	uint8_t mac[6] = { 0 };
	if (memcmp(bridge->mac, mac, sizeof(mac)) == 0) {
		random_bytes(mac, sizeof(mac));
		mac[0] = (uint8_t)((mac[0] & 0xfe) | 2);
	} else {
		memcpy(mac, bridge->mac, sizeof(mac));
	}
	return cni_link_set_mac(nl, bridge->index, mac, err);
}

static int ensure_gateways(struct netlink *nl, const struct bridge_conf *c, struct cni_link *bridge,
			   const struct cni_info *i, struct error *err)
{
	CLEANUP(cni_nets_done) struct cni_nets have = { 0 };
	int r = 0;

	pthread_mutex_lock(&setup);
	if (cni_link_addresses(nl, bridge->index, &have, err) < 0)
		r = -1;
	for (size_t k = 0; k < i->ips.n && r == 0; k++) {
		const struct cni_net gateway = { i->ips.v[k].gateway, i->ips.v[k].address.prefix };

		r = ensure_gateway(nl, c, bridge, &have, &gateway, err);
	}
	pthread_mutex_unlock(&setup);
	if (r < 0)
		return -1;
	if (has_family(i, 4))
		r = cni_sysctl("1", "net/ipv4/ip_forward");
	if (r == 0 && has_family(i, 16))
		r = cni_sysctl("1", "net/ipv6/conf/all/forwarding");
	return r < 0 ? error_errno(err, -r, "enable forwarding") : 0;
}

static void owner_of(const struct cni_call *call, char out[CNI_OWNER_MAX])
{
	snprintf(out, CNI_OWNER_MAX, "%s-%s", call->id, call->ifname);
}

static int masquerade(const struct cni_call *call, const struct cni_info *i, struct error *err)
{
	char owner[CNI_OWNER_MAX];

	owner_of(call, owner);
	for (size_t k = 0; k < i->ips.n; k++) {
		if (cni_nft_masquerade(owner, &i->ips.v[k].address, err) < 0)
			return -1;
	}
	return 0;
}

/* The kernel's work queue notices that both ends are up; until then the bridge forwards nothing. */
static int wait_up(struct netlink *nl, const char *host_name, struct cni_link *ret,
		   struct error *err)
{
	int64_t end = time_monotonic() + UP_MS * NSEC_PER_MSEC;
	struct timespec pause = { .tv_nsec = 50000 };

	for (;;) {
		if (cni_link_get(nl, host_name, ret, err) < 0)
			return -1;
		if (ret->operstate == IF_OPER_UP)
			return 0;
		if (time_monotonic() > end)
			return error_set(err, ERROR_UNAVAILABLE, "bridge port '%s' did not come up",
					 host_name);
		nanosleep(&pause, NULL);
		pause.tv_nsec = MIN(pause.tv_nsec * 2, 20000000L);
	}
}

static void add_interface(struct cni_info *i, const struct cni_link *l, const char *sandbox)
{
	char mac[CNI_MAC_STRING];

	cni_mac_format(l->mac, mac);
	cni_info_add_interface(i, l->name, mac, sandbox);
}

static int connect_pod(const struct cni_call *call, const struct json *config,
		       const struct bridge_conf *c, int netns, struct cni_info *i,
		       struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;
	struct inside in = { .call = call, .info = i };
	struct cni_link bridge, port;
	char host_name[IFNAMSIZ];
	int r;

	if (netlink_open(&nl, err) < 0)
		return -1;
	pthread_mutex_lock(&setup);
	r = ensure_bridge(&nl, c, &bridge, err);
	pthread_mutex_unlock(&setup);
	if (r < 0 || make_pair(&nl, c, &bridge, call->ifname, netns, host_name, err) < 0)
		return -1;
	cni_sysctl("0", "net/ipv6/conf/%s/accept_ra", host_name);
	if (c->hairpin && cni_link_set_hairpin(&nl, if_nametoindex(host_name), err) < 0)
		return -1;
	if (!str_empty(c->ipam)) {
		if (get_addresses(call, config, c, i, err) < 0)
			return -1;
		complete(c, i);
	}
	if (cni_netns_do(netns, configure_inside, &in, err) < 0 ||
	    (c->gateway && i->ips.n && ensure_gateways(&nl, c, &bridge, i, err) < 0) ||
	    (c->masquerade && masquerade(call, i, err) < 0) ||
	    wait_up(&nl, host_name, &port, err) < 0 ||
	    cni_link_get(&nl, c->bridge, &bridge, err) < 0)
		return -1;
	add_interface(i, &bridge, NULL);
	add_interface(i, &port, NULL);
	add_interface(i, &in.link, call->netns);
	return 0;
}

static int bridge_add(const struct cni_call *call, const struct json *config,
		      struct json **ret_result, struct error *err)
{
	autocniinfo struct cni_info i = CNI_INFO_INIT;
	const struct json *dns = json_get(config, "dns");
	autoclose int netns = -EBADF;
	struct bridge_conf c;

	read_conf(config, &c);
	if (check_conf(call, config, &c, err) < 0)
		return -1;
	netns = cni_netns_open(call->netns, err);
	if (netns < 0 || connect_pod(call, config, &c, netns, &i, err) < 0)
		return -1;
	i.version = (enum cni_version)cni_version_parse(json_get_string(config, "cniVersion"));
	if (json_object_len(dns)) {
		json_unref(i.dns);
		i.dns = json_copy(dns);
	}
	*ret_result = cni_info_encode(&i);
	return 0;
}

static int delete_inside(void *arg, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;

	return netlink_open(&nl, err) < 0 ? -1 : link_delete(&nl, arg, err);
}

/* Without its namespace a pod's interface is gone, unless somebody keeps that by other means: then
 * the host's end, if it is still the same one. */
static int delete_outside(const struct json *config, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;
	autocniinfo struct cni_info prev = CNI_INFO_INIT;

	if (cni_prev_result(config, &prev, NULL) < 0)
		return 0;
	if (netlink_open(&nl, err) < 0)
		return -1;
	for (size_t k = 0; k < prev.interfaces.n; k++) {
		const struct cni_interface *f = &prev.interfaces.v[k];
		char mac[CNI_MAC_STRING];
		struct cni_link l;

		if (f->sandbox || !str_has_prefix(f->name, "veth") ||
		    cni_link_get(&nl, f->name, &l, NULL) < 0)
			continue;
		cni_mac_format(l.mac, mac);
		if (str_equal(mac, f->mac) && str_equal(l.kind, "veth") &&
		    link_delete(&nl, f->name, err) < 0)
			return -1;
	}
	return 0;
}

static int bridge_del(const struct cni_call *call, const struct json *config, struct error *err)
{
	autoerror struct error e = ERROR_INIT;
	autoclose int netns = cni_netns_open(call->netns, &e);
	char owner[CNI_OWNER_MAX];
	struct bridge_conf c;

	read_conf(config, &c);
	if (netns < 0 && !error_is(&e, ERROR_NOT_FOUND))
		return error_move(err, &e);
	if (netns >= 0) {
		if (cni_netns_do(netns, delete_inside, (void *)call->ifname, err) < 0)
			return -1;
	} else if (delete_outside(config, err) < 0) {
		return -1;
	}
	owner_of(call, owner);
	if (c.masquerade && cni_nft_remove(owner, CNI_NFT_MASQUERADE, err) < 0)
		return -1;
	/* Last: now the address may be another's. */
	if (!str_empty(c.ipam) && cni_plugin_run(call, c.ipam, config, NULL, err) < 0)
		return error_wrap(err, "ipam type=\"%s\"", c.ipam);
	return 0;
}

static bool in_nets(const struct cni_nets *nets, const struct cni_net *n)
{
	for (size_t k = 0; k < nets->n; k++) {
		if (nets->v[k].prefix == n->prefix && ip_compare(&nets->v[k].addr, &n->addr) == 0)
			return true;
	}
	return false;
}

static int check_inside(void *arg, struct error *err)
{
	struct inside *in = arg;
	autonetlink struct netlink nl = NETLINK_INIT;
	CLEANUP(cni_nets_done) struct cni_nets addresses = { 0 }, routes = { 0 };
	char text[CNI_NET_STRING_MAX];

	if (netlink_open(&nl, err) < 0 || cni_link_get(&nl, in->call->ifname, &in->link, err) < 0 ||
	    cni_link_addresses(&nl, in->link.index, &addresses, err) < 0 ||
	    cni_link_routes(&nl, in->link.index, &routes, err) < 0)
		return -1;
	for (size_t k = 0; k < in->info->ips.n; k++) {
		const struct cni_ip *ip = &in->info->ips.v[k];

		cni_net_format(&ip->address, text);
		if (ip->interface == 2 && !in_nets(&addresses, &ip->address))
			return error_set(err, ERROR_UNKNOWN, "address %s is not on '%s'", text,
					 in->call->ifname);
	}
	for (size_t k = 0; k < in->info->routes.n; k++) {
		cni_net_format(&in->info->routes.v[k].dst, text);
		if (!in_nets(&routes, &in->info->routes.v[k].dst))
			return error_set(err, ERROR_UNKNOWN, "there is no route to %s", text);
	}
	return 0;
}

static int check_links(const struct cni_call *call, const struct bridge_conf *c,
		       const struct cni_info *prev, int netns, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;
	struct inside in = { .call = call, .info = (struct cni_info *)prev };
	struct cni_link bridge, port;
	char mac[CNI_MAC_STRING];

	if (netlink_open(&nl, err) < 0 || cni_link_get(&nl, c->bridge, &bridge, err) < 0 ||
	    cni_netns_do(netns, check_inside, &in, err) < 0)
		return -1;
	if (!str_equal(bridge.kind, "bridge"))
		return error_set(err, ERROR_UNKNOWN, "'%s' is not a bridge", c->bridge);
	for (size_t k = 0; k < prev->interfaces.n; k++) {
		const struct cni_interface *f = &prev->interfaces.v[k];

		if (f->sandbox) {
			cni_mac_format(in.link.mac, mac);
			if (str_equal(f->name, call->ifname) && f->mac && !str_equal(mac, f->mac))
				return error_set(err, ERROR_UNKNOWN, "'%s' has the MAC %s, not %s",
						 f->name, mac, f->mac);
		} else if (!str_equal(f->name, c->bridge)) {
			if (cni_link_get(&nl, f->name, &port, err) < 0)
				return -1;
			if (port.master != bridge.index)
				return error_set(err, ERROR_UNKNOWN, "'%s' is no port of '%s'",
						 f->name, c->bridge);
		}
	}
	return 0;
}

static int bridge_check(const struct cni_call *call, const struct json *config, struct error *err)
{
	autocniinfo struct cni_info prev = CNI_INFO_INIT;
	autoclose int netns = cni_netns_open(call->netns, err);
	char owner[CNI_OWNER_MAX];
	struct bridge_conf c;
	size_t n = 0;

	read_conf(config, &c);
	if (netns < 0 || cni_prev_result(config, &prev, err) < 0 ||
	    check_links(call, &c, &prev, netns, err) < 0)
		return -1;
	owner_of(call, owner);
	if (c.masquerade) {
		if (cni_nft_count(owner, CNI_NFT_MASQUERADE, &n, err) < 0)
			return -1;
		if (n == 0)
			return error_set(err, ERROR_UNKNOWN, "nothing is masqueraded");
	}
	return str_empty(c.ipam) ? 0 : cni_plugin_run(call, c.ipam, config, NULL, err);
}

static int bridge_gc(const struct cni_call *call, const struct json *config, struct error *err)
{
	const char *ipam = json_get_string(json_get(config, "ipam"), "type");

	return str_empty(ipam) ? 0 : cni_plugin_run(call, ipam, config, NULL, err);
}

const struct cni_builtin cni_bridge = {
	.type = "bridge",
	.supports = bridge_supports,
	.add = bridge_add,
	.del = bridge_del,
	.check = bridge_check,
	.gc = bridge_gc,
};
