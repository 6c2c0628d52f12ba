#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Interfaces, addresses and routes of either family, as pods need them, over netlink.h. */

#include "network/cni-net.h"
#include "network/netlink.h"

#include <net/if.h>

struct cni_link {
	char name[IFNAMSIZ], kind[16];
	unsigned index, master, peer; /* peer: a veth's, in the other namespace */
	unsigned flags, mtu, promiscuity;
	uint8_t operstate, mac[6];
};

#define CNI_MAC_STRING 18
void cni_mac_format(const uint8_t mac[6], char out[CNI_MAC_STRING]);
/* -EINVAL. */
int cni_mac_parse(const char *s, uint8_t ret[6]);

/* NOT_FOUND. */
int cni_link_get(struct netlink *nl, const char *name, struct cni_link *ret, struct error *err);
/* mtu 0: the kernel's. ALREADY_EXISTS. */
int cni_link_add_bridge(struct netlink *nl, const char *name, unsigned mtu, struct error *err);

struct cni_veth {
	const char *host_name; /* up, in the bridge */
	unsigned bridge, mtu;
	const char *name; /* down, in the namespace */
	int netns_fd;
	const uint8_t *mac; /* in the namespace; NULL: any */
};

/* ALREADY_EXISTS: one of the names. */
int cni_link_add_veth(struct netlink *nl, const struct cni_veth *v, struct error *err);
/* Flags: IFF_UP, IFF_PROMISC. */
int cni_link_set_flags(struct netlink *nl, unsigned index, unsigned flags, struct error *err);
/* Of a bridge: to what it is, so that its ports do not change it. */
int cni_link_set_mac(struct netlink *nl, unsigned index, const uint8_t mac[6], struct error *err);
int cni_link_set_hairpin(struct netlink *nl, unsigned index, struct error *err);

/* Without duplicate address detection, since nobody else hands out these. ALREADY_EXISTS. */
int cni_link_add_address(struct netlink *nl, unsigned index, const struct cni_net *n,
			 struct error *err);
int cni_link_del_address(struct netlink *nl, unsigned index, const struct cni_net *n,
			 struct error *err);

struct cni_nets {
	struct cni_net *v;
	size_t n;
};

void cni_nets_done(struct cni_nets *n);
/* Addresses of the interface, link-local ones not. */
int cni_link_addresses(struct netlink *nl, unsigned index, struct cni_nets *ret, struct error *err);
/* gateway NULL or of length 0: on the link. */
int cni_link_add_route(struct netlink *nl, unsigned index, const struct cni_net *dst,
		       const struct ip *gateway, struct error *err);
/* Destinations by way of the interface. */
int cni_link_routes(struct netlink *nl, unsigned index, struct cni_nets *ret, struct error *err);
/* Which interface leads to the address: its name. NOT_FOUND. */
int cni_link_to(struct netlink *nl, const struct ip *a, char ret[IFNAMSIZ], struct error *err);
