#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet filter rules of one bridge network: tables of its own ("ip <bridge>", "ip6 <bridge>"),
 * so that nobody else's rules are touched and deleting the table deletes everything.
 *
 *	guard		nothing for 127/8 comes from the bridge (route_localnet would let it in)
 *	forward		into the network only answers and published ports; for internal networks
 *			nothing in or out
 *	postrouting	masquerade what leaves the network, what loops back to it, and 127/8 into it
 *	prerouting, output	published ports: dnat by the maps `ports` (protocol . port) and
 *				`ports_ip` (protocol . address . port)
 *
 * Where iptables' "filter" table has a FORWARD chain, which may drop what ours lets through, its
 * first rule leads to a chain of ours that accepts the bridge's packets (nft-foreign.c).
 * Ports in host byte order. Any thread.
 */

#include "network/ip.h"

struct nft_network {
	const char *bridge;
	sa_family_t family;
	const struct subnet *subnets; /* of this family */
	size_t n_subnets;
	bool internal, masquerade;
	bool open; /* reachable from outside, no dnat */
};

struct nft_port {
	uint8_t protocol;  /* IPPROTO_TCP ... */
	struct ip host_ip; /* 0.0.0.0, ::: any local address */
	uint16_t host_port;
	struct ip ip;
	uint16_t port;
};

/* Replaces the table if there is one, ports included, in one transaction: no packet sees a moment
 * without. */
int nft_network_create(const struct nft_network *n, const struct nft_port *ports, size_t n_ports,
		       struct error *err);
/* Both families; absent is success. */
int nft_network_delete(const char *bridge, struct error *err);
/* Absent network: NOT_FOUND. The ports are of one family. */
int nft_ports_add(const char *bridge, const struct nft_port *ports, size_t n, struct error *err);
int nft_ports_remove(const char *bridge, const struct nft_port *ports, size_t n, struct error *err);

/* Makes, or takes back, the way through iptables' FORWARD chain. Nothing to do is success. */
int nft_foreign_open(const char *bridge, sa_family_t family, struct error *err);
int nft_foreign_close(const char *bridge, struct error *err);
/* In the namespace of the calling thread: what asks 127.0.0.11 for names goes to these ports.
 * again: there may be such a table already. */
int nft_dns_create(int udp_port, int tcp_port, bool again, struct error *err);
