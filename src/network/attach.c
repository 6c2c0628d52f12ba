/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order makes every crash recoverable: address and record first (network_reconcile() releases
 * them), then the veth pair, which dies with its namespace, then rules, which go with the record.
 */

#include "base/mem.h"
#include "base/random.h"
#include "network/internal.h"
#include "network/netlink.h"
#include "network/nft.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define PEER_NAME "eth0"
#define PEER_INDEX 2 /* lo is 1; choosing it saves asking for it */

void attachment_free(struct attachment *a)
{
	list_remove(&a->node);
	endpoint_done(&a->endpoint);
	free(a->container_id);
	free(a);
}

static int mac_parse(const char *s, uint8_t mac[6], struct error *err)
{
	unsigned v[6];
	char end;

	if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%c", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
		   &end) != 6)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid MAC address: %s", s);
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)v[i];
	return 0;
}

static char *mac_string(const uint8_t mac[6])
{
	return xasprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
			 mac[5]);
}

/* Address, names and ports; the attachment is in the table when this succeeds. With the lock held.
 */
static int attachment_plan(struct network_service *s, struct network *n,
			   const struct endpoint_request *r, struct attachment **ret,
			   uint8_t mac[6], struct error *err)
{
	struct attachment *a;
	struct endpoint *e;
	uint32_t wanted = 0, address;
	char ip[16], gateway[16], id[65];

	if (attachment_find(s, r->container_id, NULL))
		return error_set(err, ERROR_ALREADY_EXISTS,
				 "container '%s' is attached to a network already",
				 r->container_id);
	if (!str_empty(r->ip) && address_parse(r->ip, &wanted) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid IPv4 address: %s", r->ip);
	if (address_choose(n, wanted, &address, err) < 0)
		return -1;
	address_format(address, ip);
	address_format(n->gateway, gateway);
	if (!str_empty(r->mac)) {
		if (mac_parse(r->mac, mac, err) < 0)
			return -1;
	} else {
		uint32_t be = htonl(address);

		mac[0] = 0x02;
		mac[1] = 0x42;
		memcpy(mac + 2, &be, 4);
	}
	random_hex(32, id);
	a = xnew(struct attachment);
	list_append(&n->attachments, &a->node);
	a->container_id = xstrdup(r->container_id);
	e = &a->endpoint;
	e->network = xstrdup(n->name);
	e->network_id = xstrdup(n->id);
	e->endpoint_id = xstrdup(id);
	e->ifname = xstrdup(PEER_NAME);
	e->host_ifname = xasprintf("veth%.8s", id);
	e->mac = mac_string(mac);
	e->ip = xstrdup(ip);
	e->prefix = n->subnet.prefix;
	e->gateway = xstrdup(gateway);
	e->ports.v = xnew_array(struct port_mapping, r->n_ports + 1);
	for (; e->ports.n < r->n_ports; e->ports.n++) {
		const struct port_mapping *p = &r->ports[e->ports.n];

		e->ports.v[e->ports.n] = (struct port_mapping){
			.protocol = xstrdup(str_empty(p->protocol) ? "tcp" : p->protocol),
			.host_ip = str_equal(p->host_ip, "0.0.0.0") ? NULL : xstrdup(p->host_ip),
			.host_port = p->host_port,
			.container_port = p->container_port,
		};
	}
	if (ports_choose(s, e, err) < 0) {
		attachment_free(a);
		return -1;
	}
	*ret = a;
	return 0;
}

static int links_make(const struct network *n, const struct endpoint *e, const uint8_t mac[6],
		      int netns_fd, struct error *err)
{
	autonetlink struct netlink host = NETLINK_INIT;
	autonetlink struct netlink inside = NETLINK_INIT;
	unsigned bridge = if_nametoindex(n->bridge);

	if (bridge == 0)
		return error_errno(err, errno, "find bridge '%s'", n->bridge);
	if (netlink_open(&host, err) < 0 || netlink_open_in(&inside, netns_fd, err) < 0 ||
	    link_add_veth(&host, e->host_ifname, bridge, netns_fd, e->ifname, PEER_INDEX, mac,
			  err) < 0)
		return -1;
	if (e->ports.n > 0 && link_set_hairpin(&host, e->host_ifname, err) < 0)
		return -1;
	if (address_add(&inside, PEER_INDEX, inet_addr(e->ip), e->prefix, err) < 0 ||
	    link_up(&inside, PEER_INDEX, err) < 0)
		return -1;
	return n->internal ? 0 : route_add_default(&inside, inet_addr(e->gateway), err);
}

static int attachment_make(struct network_service *s, const struct network *n,
			   const struct attachment *a, const uint8_t mac[6], int netns_fd,
			   struct error *err)
{
	autofree struct nft_port *ports = xnew_array(struct nft_port, a->endpoint.ports.n + 1);
	size_t n_ports;

	if (attachment_save(s, a, err) < 0 || links_make(n, &a->endpoint, mac, netns_fd, err) < 0)
		return -1;
	n_ports = endpoint_nft_ports(&a->endpoint, ports);
	return n_ports > 0 ? nft_ports_add(n->bridge, ports, n_ports, err) : 0;
}

int network_attach(struct network_service *s, int netns_fd, const struct endpoint_request *r,
		   struct endpoint *ret, struct error *err)
{
	struct attachment *a = NULL;
	struct network *n;
	uint8_t mac[6];
	int result;

	/* `setup` also keeps the network from being removed while a container joins it. */
	pthread_mutex_lock(&s->setup);
	pthread_mutex_lock(&s->lock);
	n = network_find(s, r->network);
	pthread_mutex_unlock(&s->lock);
	if (!n || !str_equal(n->driver, "bridge")) {
		result = n ? error_set(err, ERROR_INVALID_ARGUMENT,
				       "network '%s' has no endpoints of its own", r->network)
			   : error_set(err, ERROR_NOT_FOUND, "network %s not found", r->network);
	} else {
		result = bridge_ensure(s, n, err);
	}
	if (result == 0) {
		pthread_mutex_lock(&s->lock);
		result = attachment_plan(s, n, r, &a, mac, err);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&s->setup);
	if (result < 0)
		return -1;
	if (attachment_make(s, n, a, mac, netns_fd, err) < 0) {
		network_detach(s, r->container_id, NULL);
		return error_wrap(err, "attach container to network '%s'", r->network);
	}
	endpoint_copy(ret, &a->endpoint);
	return 0;
}

int network_detach(struct network_service *s, const char *container_id, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;
	CLEANUP(endpoint_done) struct endpoint e = { 0 };
	autofree struct nft_port *ports = NULL;
	autofree char *bridge = NULL;
	struct attachment *a;
	struct network *n;
	size_t n_ports;

	pthread_mutex_lock(&s->lock);
	a = attachment_find(s, container_id, &n);
	if (a) {
		endpoint_copy(&e, &a->endpoint);
		bridge = xstrdup(n->bridge);
	}
	pthread_mutex_unlock(&s->lock);
	if (!bridge)
		return 0;
	ports = xnew_array(struct nft_port, e.ports.n + 1);
	n_ports = endpoint_nft_ports(&e, ports);
	if (netlink_open(&nl, err) < 0 || link_delete(&nl, e.host_ifname, err) < 0 ||
	    (n_ports > 0 && nft_ports_remove(bridge, ports, n_ports, err) < 0))
		return error_wrap(err, "detach container '%s' from network '%s'", container_id,
				  e.network);
	/* Last, so that nobody gets the address before it is free. */
	attachment_forget(s, container_id);
	pthread_mutex_lock(&s->lock);
	a = attachment_find(s, container_id, NULL);
	if (a)
		attachment_free(a);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int network_reconcile(struct network_service *s, const struct strv *alive, struct error *err)
{
	autostrv struct strv gone = STRV_INIT;

	pthread_mutex_lock(&s->lock);
	LIST_FOREACH (n, &s->networks, struct network, node) {
		LIST_FOREACH (a, &n->attachments, struct attachment, node) {
			if (!strv_contains(alive, a->container_id))
				strv_push(&gone, a->container_id);
		}
	}
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < gone.n; i++) {
		if (network_detach(s, gone.v[i], err) < 0)
			return -1;
	}
	return 0;
}
