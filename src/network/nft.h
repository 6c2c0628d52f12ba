#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet filter rules of one bridge network: a table of its own ("ip <bridge>"), so that nobody
 * else's rules are touched and deleting the table deletes everything.
 *
 *	postrouting	masquerade what leaves the network, what loops back to it, and 127/8 into it
 *	prerouting, output	published ports: dnat by the maps `ports` (protocol . port) and
 *				`ports_ip` (protocol . address . port)
 *	forward		only for internal networks: nothing in or out
 *
 * Addresses in network byte order, ports in host byte order. Any thread.
 */

#include "base/error.h"

struct nft_network {
	const char *bridge;
	uint32_t subnet;
	unsigned prefix;
	bool internal;
};

struct nft_port {
	uint8_t protocol; /* IPPROTO_TCP ... */
	uint32_t host_ip; /* 0: any local address */
	uint16_t host_port;
	uint32_t ip;
	uint16_t port;
};

/* Replaces the table if there is one; published ports must be added again. */
int nft_network_create(const struct nft_network *n, struct error *err);
/* Absent is success. */
int nft_network_delete(const char *bridge, struct error *err);
/* Absent network: NOT_FOUND. */
int nft_ports_add(const char *bridge, const struct nft_port *ports, size_t n, struct error *err);
int nft_ports_remove(const char *bridge, const struct nft_port *ports, size_t n, struct error *err);
