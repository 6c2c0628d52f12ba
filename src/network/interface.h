#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What containers' interfaces need of route netlink beyond netlink.h: links of every kind,
 * addresses and default routes of both families. Errors name the interface.
 */

#include "network/ip.h"
#include "network/netlink.h"

struct link_spec {
	const char *kind; /* "bridge", "veth", "macvlan", "ipvlan", "vlan", "dummy" */
	const char *name;
	const uint8_t *mac;
	unsigned mtu;	 /* 0: default */
	unsigned master; /* index of the bridge */
	unsigned lower;	 /* index of the link that it stands on (macvlan, ipvlan, vlan) */
	unsigned group;
	bool up;
	bool in_netns; /* made in netns_fd; of a veth pair the peer only */
	int netns_fd;
	unsigned mode; /* macvlan's, ipvlan's, VLAN id */
	/* a veth pair's other side */
	const char *peer_name;
	const uint8_t *peer_mac;
};

/* ALREADY_EXISTS. */
int link_add(struct netlink *nl, const struct link_spec *l, struct error *err);
/* Hairpin: a frame may leave by the port that it came from; isolated: not to another isolated
 * port. */
int link_set_port(struct netlink *nl, const char *name, bool hairpin, bool isolated,
		  struct error *err);
/* Group and MTU (0: as it is) of a link that is there. */
int link_adjust(struct netlink *nl, unsigned index, unsigned group, unsigned mtu,
		struct error *err);
/* In the namespace of the socket; 0: no such link. */
unsigned link_index(struct netlink *nl, const char *name);

/* Existing is success; no duplicate address detection. */
int ip_address_add(struct netlink *nl, unsigned index, const struct ip *a, unsigned prefix,
		   struct error *err);
/* The default route of a family: by a gateway, or, where that is not set, by the link. */
int route_add_default_by(struct netlink *nl, unsigned index, sa_family_t family,
			 const struct ip *gateway, struct error *err);
/* Absent is success. */
int route_delete_default(struct netlink *nl, sa_family_t family, struct error *err);
