#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Route netlink on libmnl: one request, one answer. A socket belongs to one thread at a time; it
 * speaks to the network namespace in which it was opened. Errors name the operation and the
 * interface.
 */

#include "base/error.h"

#include <libmnl/libmnl.h>

struct netlink {
	struct mnl_socket *sock;
	uint32_t seq;
};

#define NETLINK_INIT ((struct netlink){ 0 })

int netlink_open(struct netlink *nl, struct error *err);
/* Opens the socket inside a namespace; the calling thread is back in its own when this returns. */
int netlink_open_in(struct netlink *nl, int netns_fd, struct error *err);
void netlink_done(struct netlink *nl);

#define NETLINK_MESSAGE_MAX 2048
/* A message of at most NETLINK_MESSAGE_MAX bytes in buf, to be filled. */
struct nlmsghdr *netlink_message(struct netlink *nl, void *buf, uint16_t type, uint16_t flags);
/* Sends and reads the acknowledgement, or a dump through cb. Returns 0 or -errno. */
int netlink_transact(struct netlink *nl, struct nlmsghdr *h, mnl_cb_t cb, void *arg);

/* ALREADY_EXISTS. */
int link_add_bridge(struct netlink *nl, const char *name, const uint8_t mac[6], struct error *err);
/* host_name here (up, in the bridge), peer_name in the namespace with index peer_index (down). */
int link_add_veth(struct netlink *nl, const char *host_name, unsigned bridge_index, int netns_fd,
		  const char *peer_name, unsigned peer_index, const uint8_t peer_mac[6],
		  struct error *err);
/* Lets the bridge send a frame back to the port that it came from: with br_netfilter a container
 * that reaches itself through a published port is bridged, not routed. */
int link_set_hairpin(struct netlink *nl, const char *name, struct error *err);
int link_up(struct netlink *nl, unsigned index, struct error *err);
/* Absent is success. */
int link_delete(struct netlink *nl, const char *name, struct error *err);
/* addr in network byte order. Existing is success. */
int address_add(struct netlink *nl, unsigned index, uint32_t addr, unsigned prefix,
		struct error *err);
int route_add_default(struct netlink *nl, uint32_t gateway, struct error *err);
/* Calls fn for each IPv4 route (destination in host byte order); ends when fn returns non-zero. */
int routes_each(struct netlink *nl, int (*fn)(uint32_t dst, unsigned prefix, void *arg), void *arg,
		struct error *err);

#define autonetlink CLEANUP(netlink_done)
