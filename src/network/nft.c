/* SPDX-License-Identifier: Apache-2.0 */
#include "network/nft.h"

#include "base/mem.h"
#include "network/nft-batch.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>

#define PORTS_PER_BATCH 256
#define FAMILY NFPROTO_IPV4

/* nft(8)'s numbers of data types, so that it can print our maps. */
#define TYPE_IPADDR 7
#define TYPE_PROTOCOL 12
#define TYPE_SERVICE 13
#define CONCAT(a, b) ((a) << 6 | (b))

#define PRIORITY_DSTNAT (-100)
#define PRIORITY_SRCNAT 100

static void batch_map(struct nft_batch *b, const char *table, const char *name, uint32_t id,
		      uint32_t key_type, uint32_t key_len)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s)
		abort();
	nftnl_set_set_str(s, NFTNL_SET_TABLE, table);
	nftnl_set_set_str(s, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, FAMILY);
	nftnl_set_set_u32(s, NFTNL_SET_ID, id);
	nftnl_set_set_u32(s, NFTNL_SET_FLAGS, NFT_SET_MAP);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, key_type);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, key_len);
	nftnl_set_set_u32(s, NFTNL_SET_DATA_TYPE, CONCAT(TYPE_IPADDR, TYPE_SERVICE));
	nftnl_set_set_u32(s, NFTNL_SET_DATA_LEN, 8);
	nftnl_set_nlmsg_build_payload(nft_batch_message(b, NFT_MSG_NEWSET, NLM_F_CREATE), s);
	nftnl_set_free(s);
	nft_batch_next(b);
}

static void batch_masquerade(struct nft_batch *b, const struct nft_network *n)
{
	const char *chain = "postrouting";
	struct nftnl_rule *r = nft_rule_new(FAMILY, n->bridge, chain);

	nft_match_address(r, 12, n->subnet, n->prefix);
	nft_match_interface(r, NFT_META_OIFNAME, NFT_CMP_NEQ, n->bridge);
	nft_rule_add(r, "masq");
	nft_batch_rule(b, r);

	/* A container that reaches another (or itself) through a published port. */
	r = nft_rule_new(FAMILY, n->bridge, chain);
	nft_match_address(r, 12, n->subnet, n->prefix);
	nft_match_address(r, 16, n->subnet, n->prefix);
	nft_match_dnatted(r);
	nft_rule_add(r, "masq");
	nft_batch_rule(b, r);

	/* The host that reaches a published port by 127.0.0.1. */
	r = nft_rule_new(FAMILY, n->bridge, chain);
	nft_match_address(r, 12, htonl(0x7f000000), 8);
	nft_match_interface(r, NFT_META_OIFNAME, NFT_CMP_EQ, n->bridge);
	nft_rule_add(r, "masq");
	nft_batch_rule(b, r);
}

static void batch_dnat(struct nft_batch *b, const char *table, const char *chain)
{
	struct nftnl_rule *r = nft_rule_new(FAMILY, table, chain);

	nft_load_meta(r, NFT_META_L4PROTO, NFT_REG32_00);
	nft_load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, 16, 4, NFT_REG32_01);
	nft_load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, NFT_REG32_02);
	nft_dnat_by_map(r, "ports_ip");
	nft_batch_rule(b, r);

	r = nft_rule_new(FAMILY, table, chain);
	nft_match_local_destination(r);
	nft_load_meta(r, NFT_META_L4PROTO, NFT_REG32_00);
	nft_load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, NFT_REG32_01);
	nft_dnat_by_map(r, "ports");
	nft_batch_rule(b, r);
}

static void batch_isolation(struct nft_batch *b, const char *bridge)
{
	struct nftnl_rule *r = nft_rule_new(FAMILY, bridge, "forward");

	nft_match_interface(r, NFT_META_IIFNAME, NFT_CMP_EQ, bridge);
	nft_match_interface(r, NFT_META_OIFNAME, NFT_CMP_NEQ, bridge);
	nft_verdict(r, NF_DROP);
	nft_batch_rule(b, r);
	r = nft_rule_new(FAMILY, bridge, "forward");
	nft_match_interface(r, NFT_META_IIFNAME, NFT_CMP_NEQ, bridge);
	nft_match_interface(r, NFT_META_OIFNAME, NFT_CMP_EQ, bridge);
	nft_verdict(r, NF_DROP);
	nft_batch_rule(b, r);
}

int nft_network_create(const struct nft_network *n, struct error *err)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	int r;

	if (nft_batch_begin(&b, FAMILY, err) < 0)
		return -1;
	/* Create, delete, create: an older table goes without a moment when there is none. */
	nft_batch_table(&b, n->bridge, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	nft_batch_table(&b, n->bridge, NFT_MSG_DELTABLE, 0);
	nft_batch_table(&b, n->bridge, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	if (n->internal) {
		nft_batch_chain(&b, n->bridge, "forward", "filter", NF_INET_FORWARD, 0);
		batch_isolation(&b, n->bridge);
	}
	batch_map(&b, n->bridge, "ports", 1, CONCAT(TYPE_PROTOCOL, TYPE_SERVICE), 8);
	batch_map(&b, n->bridge, "ports_ip", 2,
		  CONCAT(CONCAT(TYPE_PROTOCOL, TYPE_IPADDR), TYPE_SERVICE), 12);
	nft_batch_chain(&b, n->bridge, "postrouting", "nat", NF_INET_POST_ROUTING, PRIORITY_SRCNAT);
	nft_batch_chain(&b, n->bridge, "prerouting", "nat", NF_INET_PRE_ROUTING, PRIORITY_DSTNAT);
	nft_batch_chain(&b, n->bridge, "output", "nat", NF_INET_LOCAL_OUT, PRIORITY_DSTNAT);
	if (!n->internal)
		batch_masquerade(&b, n);
	batch_dnat(&b, n->bridge, "prerouting");
	batch_dnat(&b, n->bridge, "output");
	r = nft_batch_commit(&b);
	return r < 0 ? error_errno(err, -r, "create nftables table '%s'", n->bridge) : 0;
}

int nft_network_delete(const char *bridge, struct error *err)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	int r;

	if (nft_batch_begin(&b, FAMILY, err) < 0)
		return -1;
	nft_batch_table(&b, bridge, NFT_MSG_DELTABLE, 0);
	r = nft_batch_commit(&b);
	return r < 0 && r != -ENOENT ? error_errno(err, -r, "delete nftables table '%s'", bridge)
				     : 0;
}

/* Each part of a concatenation takes four bytes. */
static uint32_t port_part(uint16_t port)
{
	uint32_t part = 0;
	uint16_t be = htons(port);

	memcpy(&part, &be, 2);
	return part;
}

static void batch_element(struct nft_batch *b, const char *table, const struct nft_port *p,
			  bool add)
{
	struct nftnl_set *s = nftnl_set_alloc();
	struct nftnl_set_elem *e = nftnl_set_elem_alloc();
	uint32_t protocol = 0;
	uint32_t key[3], data[2] = { p->ip, port_part(p->port) };
	size_t n = 0;

	if (!s || !e)
		abort();
	memcpy(&protocol, &p->protocol, 1);
	key[n++] = protocol;
	if (p->host_ip)
		key[n++] = p->host_ip;
	key[n++] = port_part(p->host_port);
	nftnl_set_set_str(s, NFTNL_SET_TABLE, table);
	nftnl_set_set_str(s, NFTNL_SET_NAME, p->host_ip ? "ports_ip" : "ports");
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, FAMILY);
	nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, key, (uint32_t)(n * 4));
	if (add)
		nftnl_set_elem_set(e, NFTNL_SET_ELEM_DATA, data, sizeof(data));
	nftnl_set_elem_add(s, e);
	nftnl_set_elems_nlmsg_build_payload(
		nft_batch_message(b, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
				  add ? NLM_F_CREATE | NLM_F_EXCL : 0),
		s);
	nftnl_set_free(s);
	nft_batch_next(b);
}

static int change_ports(const char *bridge, const struct nft_port *ports, size_t n, bool add)
{
	for (size_t at = 0; at < n; at += PORTS_PER_BATCH) {
		CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
		int r;

		if (nft_batch_begin(&b, FAMILY, NULL) < 0)
			return -errno;
		for (size_t i = at; i < MIN(n, at + PORTS_PER_BATCH); i++)
			batch_element(&b, bridge, &ports[i], add);
		r = nft_batch_commit(&b);
		if (r < 0)
			return r;
	}
	return 0;
}

int nft_ports_add(const char *bridge, const struct nft_port *ports, size_t n, struct error *err)
{
	int r = change_ports(bridge, ports, n, true);

	return r < 0 ? error_errno(err, -r, "publish ports in nftables table '%s'", bridge) : 0;
}

int nft_ports_remove(const char *bridge, const struct nft_port *ports, size_t n, struct error *err)
{
	int r = change_ports(bridge, ports, n, false);

	return r < 0 && r != -ENOENT
		       ? error_errno(err, -r, "withdraw ports from nftables table '%s'", bridge)
		       : 0;
}
