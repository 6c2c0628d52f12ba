/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge driver: options in Docker's words, the bridge on the host, its rules, veth pairs. */

#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"
#include "network/interface.h"
#include "network/internal.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>

#define OPTION "com.docker.network."
/* All bridges of ours are in this group of links. */
#define BRIDGE_GROUP 0x6b69
#define MTU_MAX 65535

static int sysctl_write(const char *path, const char *value, struct error *err)
{
	autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : fs_write_all(fd, value, strlen(value));

	return r < 0 ? error_errno(err, -r, "write '%s'", path) : 0;
}

static int bad_option(const char *key, const char *value, struct error *err)
{
	return error_set(err, ERROR_INVALID_ARGUMENT, "invalid value for %s: '%s'", key, value);
}

static int option_flag(const struct kvs *options, const char *key, bool *ret, struct error *err)
{
	const char *value = kvs_get(options, key);

	return !value || parse_bool(value, ret) == 0 ? 0 : bad_option(key, value, err);
}

static int option_mode(struct network *n, const char *key, enum family f, struct error *err)
{
	const char *value = kvs_get(&n->spec.options, key);

	if (!value || str_equal(value, "") || str_equal(value, "nat"))
		return 0;
	if (!str_equal(value, "routed") && !str_equal(value, "nat-unprotected"))
		return error_set(err, ERROR_INVALID_ARGUMENT, "unknown gateway mode %s", value);
	n->options.routed[f] = true;
	if (str_equal(value, "routed"))
		n->options.masquerade[f] = false;
	return 0;
}

static bool ifname_valid(const char *s)
{
	return strlen(s) < IFNAMSIZ && path_component_valid(s) && !strpbrk(s, " :%");
}

static int configure(struct network *n, struct error *err)
{
	struct driver_options *o = &n->options;
	const struct kvs *k = &n->spec.options;
	const char *mtu = kvs_get(k, OPTION "driver.mtu");
	const char *binding = kvs_get(k, OPTION "bridge.host_binding_ipv4");
	const char *name = kvs_get(k, OPTION "bridge.name");
	const char *prefix = kvs_get(k, OPTION "container_iface_prefix");
	int64_t number = 0;

	o->icc = o->masquerade[FAMILY_4] = o->masquerade[FAMILY_6] = true;
	if (option_flag(k, OPTION "bridge.enable_icc", &o->icc, err) < 0 ||
	    option_flag(k, OPTION "bridge.enable_ip_masquerade", &o->masquerade[FAMILY_4], err) < 0)
		return -1;
	o->masquerade[FAMILY_6] = o->masquerade[FAMILY_4];
	if (option_mode(n, OPTION "bridge.gateway_mode_ipv4", FAMILY_4, err) < 0 ||
	    option_mode(n, OPTION "bridge.gateway_mode_ipv6", FAMILY_6, err) < 0)
		return -1;
	if (mtu && (parse_int64(mtu, &number) < 0 || number < 0 || number > MTU_MAX))
		return bad_option(OPTION "driver.mtu", mtu, err);
	o->mtu = (unsigned)number;
	if (!str_empty(binding) && ip_parse(binding, &o->host_binding) < 0)
		return bad_option(OPTION "bridge.host_binding_ipv4", binding, err);
	if (ip_is_any(&o->host_binding))
		o->host_binding = (struct ip){ 0 };
	if (name && !ifname_valid(name))
		return bad_option(OPTION "bridge.name", name, err);
	if (prefix && (!ifname_valid(prefix) || strlen(prefix) > 10))
		return bad_option(OPTION "container_iface_prefix", prefix, err);
	str_replace(&o->if_prefix, prefix);
	if (!n->link)
		n->link = name ? xstrdup(name) : xasprintf("kb-%.10s", n->id);
	return 0;
}

static int forwarding(const struct network *n, struct error *err)
{
	autofree char *localnet = xasprintf("/proc/sys/net/ipv4/conf/%s/route_localnet", n->link);

	/* Published ports answer on 127.0.0.1 too, without a proxy process. */
	if (sysctl_write(localnet, "1", err) < 0 ||
	    sysctl_write("/proc/sys/net/ipv4/ip_forward", "1", err) < 0)
		return -1;
	if (!n->spec.ipv6)
		return 0;
	autofree char *enable = xasprintf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", n->link);
	if (sysctl_write(enable, "0", err) < 0)
		return error_wrap(err, "enable IPv6 on network '%s'", n->spec.name);
	return sysctl_write("/proc/sys/net/ipv6/conf/all/forwarding", "1", err);
}

static size_t all_ports(const struct network *n, enum family f, struct nft_port **ret)
{
	struct nft_port *v;
	size_t n_ports = 0;

	LIST_FOREACH (a, &n->attachments, struct attachment, node)
		n_ports += a->endpoint.ports.n;
	v = xnew_array(struct nft_port, n_ports + 1);
	n_ports = 0;
	LIST_FOREACH (a, &n->attachments, struct attachment, node)
		n_ports += ports_to_nft(a, f, v + n_ports);
	*ret = v;
	return n_ports;
}

int bridge_way(const struct network *n, struct error *err)
{
	if (n->spec.internal)
		return 0;
	if (pool_of(n, FAMILY_4, NULL) && nft_foreign_open(n->link, AF_INET, err) < 0)
		return -1;
	return pool_of(n, FAMILY_6, NULL) ? nft_foreign_open(n->link, AF_INET6, err) : 0;
}

int bridge_rules(struct network_service *s, struct network *n, struct error *err)
{
	autofree struct subnet *subnets = xnew_array(struct subnet, n->n_pools + 1);

	for (enum family f = FAMILY_4; f < FAMILY_MAX; f++) {
		autofree struct nft_port *ports = NULL;
		struct nft_network rules = {
			.bridge = n->link,
			.family = f == FAMILY_4 ? AF_INET : AF_INET6,
			.subnets = subnets,
			.internal = n->spec.internal,
			.masquerade = n->options.masquerade[f],
			.open = n->options.routed[f],
		};
		size_t n_ports;

		for (size_t i = 0; i < n->n_pools; i++) {
			if (ip_family(&n->pools[i].subnet.net) == rules.family)
				subnets[rules.n_subnets++] = n->pools[i].subnet;
		}
		if (rules.n_subnets == 0)
			continue;
		pthread_mutex_lock(&s->lock);
		n_ports = all_ports(n, f, &ports);
		pthread_mutex_unlock(&s->lock);
		if (nft_network_create(&rules, ports, n_ports, err) < 0)
			return -1;
	}
	return bridge_way(n, err);
}

/* The default network keeps its addresses while it can; another's route may have come meanwhile. */
static int subnet_ensure(struct network_service *s, struct network *n, struct error *err)
{
	int r;

	if (n->n_pools > 0)
		return 0;
	pthread_mutex_lock(&s->lock);
	r = pool_choose_default(s, n, err);
	pthread_mutex_unlock(&s->lock);
	return r < 0 ? -1 : network_save(s, n, err);
}

static int bridge_make(struct network *n, struct netlink *nl, struct error *err)
{
	autoerror struct error e = ERROR_INIT;
	uint8_t mac[6] = { 0x02, 0x42 };
	const struct link_spec link = {
		.kind = "bridge",
		.name = n->link,
		.mac = mac,
		.mtu = n->options.mtu,
		.group = BRIDGE_GROUP,
		.up = true,
	};
	unsigned index;

	memcpy(mac + 2, n->pools[0].gateway.b + n->pools[0].gateway.len - 4, 4);
	if (link_add(nl, &link, &e) < 0) {
		if (!error_is(&e, ERROR_ALREADY_EXISTS))
			return error_move(err, &e);
		/* Left by an earlier daemon, or, by a name of the user's, never ours. */
		n->foreign |= n->fresh;
	}
	index = if_nametoindex(n->link);
	if (index == 0)
		return error_errno(err, errno, "find bridge '%s'", n->link);
	if (link_adjust(nl, index, BRIDGE_GROUP, n->options.mtu, err) < 0)
		return -1;
	for (size_t i = 0; i < n->n_pools; i++) {
		const struct pool *p = &n->pools[i];

		if (ip_address_add(nl, index, &p->gateway, p->subnet.prefix, err) < 0)
			return -1;
	}
	return 0;
}

static int ensure(struct network_service *s, struct network *n, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;

	if (n->ready && if_nametoindex(n->link) != 0)
		return 0;
	if (subnet_ensure(s, n, err) < 0 || netlink_open(&nl, err) < 0)
		return -1;
	if (bridge_make(n, &nl, err) < 0 || forwarding(n, err) < 0 || bridge_rules(s, n, err) < 0)
		return error_wrap(err, "set up network '%s'", n->spec.name);
	n->ready = true;
	return 0;
}

static int bridge_remove(struct network_service *s UNUSED, struct network *n, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;

	n->ready = false;
	if (nft_network_delete(n->link, err) < 0 || nft_foreign_close(n->link, err) < 0 ||
	    netlink_open(&nl, err) < 0)
		return -1;
	return n->foreign ? 0 : link_delete(&nl, n->link, err);
}

static int join(struct network *n, struct attachment *a, struct link_ends *ends, struct error *err)
{
	const struct link_spec link = {
		.kind = "veth",
		.name = a->endpoint.host_ifname,
		.mtu = n->options.mtu,
		.master = if_nametoindex(n->link),
		.up = true,
		.in_netns = true,
		.netns_fd = ends->netns_fd,
		.peer_name = a->endpoint.ifname,
		.peer_mac = a->mac,
	};
	bool ports = a->netspace->ports.n > 0;

	if (link.master == 0)
		return error_errno(err, errno, "find bridge '%s'", n->link);
	if (link_add(&ends->host, &link, err) < 0)
		return -1;
	/* With br_netfilter a container that reaches itself through a published port is bridged,
	 * not routed. */
	if (!ports && n->options.icc)
		return 0;
	return link_set_port(&ends->host, link.name, ports, !n->options.icc, err);
}

const struct network_driver bridge_driver = {
	.name = "bridge",
	.configure = configure,
	.ensure = ensure,
	.remove = bridge_remove,
	.join = join,
};
