#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet filter rules of pods that were attached by built-in plugins: one table of each family,
 * "kistl_cni", whose maps say what is done for which address or port:
 *
 *	masq			pod's address: masquerade what leaves its subnet
 *	hairpin			pod's address: masquerade what a published port brings to it from
 *				its own subnet or from 127/8
 *	hostports, hostports_ip	protocol [. host address] . port: pod's address . port
 *	localnet		interfaces by which nothing to 127/8 may come in
 *
 * Each element carries its owner, so that what has been taken over by a later pod stays. Any
 * thread.
 */

#include "base/error.h"
#include "network/cni-net.h"

struct cni_port {
	uint8_t protocol; /* IPPROTO_TCP ... */
	struct ip host;	  /* len 0: any local address */
	uint16_t host_port, port;
};

/* Whether the kernel has nftables at all. */
bool cni_nft_available(void);

/* What the owner has; removing takes it from both families. */
enum { CNI_NFT_MASQUERADE = 1 << 0, CNI_NFT_PORTS = 1 << 1 };

#define CNI_OWNER_MAX 200

/* pod: its address, and the prefix of its subnet. */
int cni_nft_masquerade(const char *owner, const struct cni_net *pod, struct error *err);
/* Ports whose host address is of the other family are left out. snat: hairpin too. An older
 * owner of a port loses it. */
int cni_nft_publish(const char *owner, const struct cni_net *pod, const struct cni_port *ports,
		    size_t n, bool snat, struct error *err);
/* The interface lets packets to 127/8 pass (route_localnet), for published ports; those that come
 * in by it with such a destination are none of ours and would reach services that trust the host.
 */
int cni_nft_guard(const char *ifname, struct error *err);
/* Absent is success. */
int cni_nft_remove(const char *owner, unsigned what, struct error *err);
/* How many elements it has. */
int cni_nft_count(const char *owner, unsigned what, size_t *ret, struct error *err);

/* Of iptables' own "filter" table, as the firewall plugin's iptables would have them: a chain
 * CNI-FORWARD, first in FORWARD, with an overriding chain `admin` first in it, and two rules for
 * each pod. Adding what is there changes nothing. */
int cni_nft_accept(const struct ip *pod, const char *admin, struct error *err);
int cni_nft_unaccept(const struct ip *pod, struct error *err);
/* How many of the two rules there are. */
int cni_nft_accepted(const struct ip *pod, size_t *ret, struct error *err);
