/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "network/internal.h"
#include "network/netlink.h"
#include "network/nft.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>

static int sysctl_write(const char *path, const char *value, struct error *err)
{
	autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : fs_write_all(fd, value, strlen(value));

	return r < 0 ? error_errno(err, -r, "write '%s'", path) : 0;
}

static int bridge_forwarding(const struct network *n, struct error *err)
{
	autofree char *localnet = xasprintf("/proc/sys/net/ipv4/conf/%s/route_localnet", n->bridge);

	/* Published ports answer on 127.0.0.1 too, without a proxy process. */
	if (sysctl_write(localnet, "1", err) < 0)
		return -1;
	return sysctl_write("/proc/sys/net/ipv4/ip_forward", "1", err);
}

size_t endpoint_nft_ports(const struct endpoint *e, struct nft_port *out)
{
	for (size_t i = 0; i < e->ports.n; i++) {
		const struct port_mapping *m = &e->ports.v[i];

		out[i] = (struct nft_port){
			.protocol = str_equal(m->protocol, "udp") ? IPPROTO_UDP : IPPROTO_TCP,
			.host_port = (uint16_t)m->host_port,
			.port = (uint16_t)m->container_port,
			.ip = inet_addr(e->ip),
			.host_ip = str_empty(m->host_ip) ? 0 : inet_addr(m->host_ip),
		};
	}
	return e->ports.n;
}

static int publish_all(const struct network *n, struct error *err)
{
	LIST_FOREACH (a, &n->attachments, struct attachment, node) {
		autofree struct nft_port *ports =
			xnew_array(struct nft_port, a->endpoint.ports.n + 1);
		size_t n_ports = endpoint_nft_ports(&a->endpoint, ports);

		if (n_ports > 0 && nft_ports_add(n->bridge, ports, n_ports, err) < 0)
			return -1;
	}
	return 0;
}

/* The default network keeps its addresses while it can; another's route may have come meanwhile. */
static int subnet_ensure(struct network_service *s, struct network *n, struct error *err)
{
	struct subnet chosen;
	int r;

	if (n->subnet.prefix)
		return 0;
	pthread_mutex_lock(&s->lock);
	r = subnet_choose(s, &chosen, err);
	if (r == 0) {
		n->subnet = chosen;
		n->gateway = chosen.net + 1;
	}
	pthread_mutex_unlock(&s->lock);
	return r < 0 ? -1 : network_save(s, n, err);
}

int bridge_ensure(struct network_service *s, struct network *n, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;
	autoerror struct error e = ERROR_INIT;
	uint8_t mac[6] = { 0x02, 0x42 };
	uint32_t gateway;
	unsigned index;

	if (n->ready && if_nametoindex(n->bridge) != 0)
		return 0;
	if (subnet_ensure(s, n, err) < 0 || netlink_open(&nl, err) < 0)
		return -1;
	gateway = htonl(n->gateway);
	memcpy(mac + 2, &gateway, 4);
	if (link_add_bridge(&nl, n->bridge, mac, &e) < 0 && !error_is(&e, ERROR_ALREADY_EXISTS))
		return error_move(err, &e);
	index = if_nametoindex(n->bridge);
	if (index == 0)
		return error_errno(err, errno, "find bridge '%s'", n->bridge);
	struct nft_network rules = {
		.bridge = n->bridge,
		.subnet = htonl(n->subnet.net),
		.prefix = n->subnet.prefix,
		.internal = n->internal,
	};
	if (link_up(&nl, index, err) < 0 ||
	    address_add(&nl, index, gateway, n->subnet.prefix, err) < 0 ||
	    bridge_forwarding(n, err) < 0 || nft_network_create(&rules, err) < 0 ||
	    publish_all(n, err) < 0)
		return error_wrap(err, "set up network '%s'", n->name);
	n->ready = true;
	return 0;
}

int bridge_remove(const struct network *n, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;

	if (nft_network_delete(n->bridge, err) < 0 || netlink_open(&nl, err) < 0)
		return -1;
	return link_delete(&nl, n->bridge, err);
}
