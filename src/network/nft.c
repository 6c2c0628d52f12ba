/* SPDX-License-Identifier: Apache-2.0 */
#include "network/nft.h"

#include "base/mem.h"

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

#define BATCH_SIZE (64 << 10)
#define PORTS_PER_BATCH 256
#define FAMILY NFPROTO_IPV4

/* nft(8)'s numbers of data types, so that it can print our maps. */
#define TYPE_IPADDR 7
#define TYPE_PROTOCOL 12
#define TYPE_SERVICE 13
#define CONCAT(a, b) ((a) << 6 | (b))

#define PRIORITY_DSTNAT (-100)
#define PRIORITY_SRCNAT 100

/* A transaction: all or nothing. */
struct batch {
	struct mnl_socket *sock;
	struct mnl_nlmsg_batch *b;
	char *buf;
	uint32_t seq;
};

static void batch_done(struct batch *b)
{
	if (b->b)
		mnl_nlmsg_batch_stop(b->b);
	if (b->sock)
		mnl_socket_close(b->sock);
	free(b->buf);
}

static int batch_begin(struct batch *b, struct error *err)
{
	b->sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (!b->sock || mnl_socket_bind(b->sock, 0, MNL_SOCKET_AUTOPID) < 0)
		return error_errno(err, errno, "open a netfilter netlink socket");
	b->buf = xmalloc(2 * BATCH_SIZE);
	b->b = mnl_nlmsg_batch_start(b->buf, BATCH_SIZE);
	nftnl_batch_begin(mnl_nlmsg_batch_current(b->b), ++b->seq);
	mnl_nlmsg_batch_next(b->b);
	return 0;
}

static struct nlmsghdr *batch_message(struct batch *b, uint16_t type, uint16_t flags)
{
	return nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(b->b), type, FAMILY, NLM_F_ACK | flags,
				     ++b->seq);
}

/* The caller's messages are few and small; overflowing BATCH_SIZE would be a bug. */
static void batch_next(struct batch *b)
{
	bool fits = mnl_nlmsg_batch_next(b->b);

	if (!fits)
		abort();
}

/* Netlink works within sendmsg(2): every answer is there when it returns. */
static int batch_commit(struct batch *b)
{
	char buf[8192];
	int result = 0;

	nftnl_batch_end(mnl_nlmsg_batch_current(b->b), ++b->seq);
	mnl_nlmsg_batch_next(b->b);
	if (mnl_socket_sendto(b->sock, mnl_nlmsg_batch_head(b->b), mnl_nlmsg_batch_size(b->b)) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(mnl_socket_get_fd(b->sock), buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN ? result : -errno;
		if (mnl_cb_run(buf, (size_t)n, 0, mnl_socket_get_portid(b->sock), NULL, NULL) < 0 &&
		    result == 0)
			result = -errno;
	}
}

static struct nftnl_expr *expr_add(struct nftnl_rule *r, const char *name)
{
	struct nftnl_expr *e = nftnl_expr_alloc(name);

	if (!e)
		abort();
	nftnl_rule_add_expr(r, e);
	return e;
}

static void load_payload(struct nftnl_rule *r, uint32_t base, uint32_t offset, uint32_t len,
			 uint32_t reg)
{
	struct nftnl_expr *e = expr_add(r, "payload");

	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, reg);
}

static void load_meta(struct nftnl_rule *r, uint32_t key, uint32_t reg)
{
	struct nftnl_expr *e = expr_add(r, "meta");

	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, reg);
}

static void mask(struct nftnl_rule *r, uint32_t reg, uint32_t mask_value)
{
	struct nftnl_expr *e = expr_add(r, "bitwise");
	uint32_t zero = 0;

	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, reg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, reg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, 4);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, &mask_value, 4);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, &zero, 4);
}

static void compare(struct nftnl_rule *r, uint32_t reg, uint32_t op, const void *data, uint32_t len)
{
	struct nftnl_expr *e = expr_add(r, "cmp");

	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, reg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
	nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, data, len);
}

/* offset 12: source address, 16: destination address. */
static void match_address(struct nftnl_rule *r, uint32_t offset, uint32_t net, unsigned prefix)
{
	uint32_t m = prefix == 0 ? 0 : htonl(~UINT32_C(0) << (32 - prefix));
	uint32_t value = net & m;

	load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, offset, 4, NFT_REG_1);
	mask(r, NFT_REG_1, m);
	compare(r, NFT_REG_1, NFT_CMP_EQ, &value, 4);
}

static void match_interface(struct nftnl_rule *r, uint32_t key, uint32_t op, const char *name)
{
	char padded[IFNAMSIZ] = { 0 };

	memcpy(padded, name, MIN(strlen(name), sizeof(padded) - 1));
	load_meta(r, key, NFT_REG_1);
	compare(r, NFT_REG_1, op, padded, sizeof(padded));
}

static void match_dnatted(struct nftnl_rule *r)
{
	struct nftnl_expr *e = expr_add(r, "ct");
	uint32_t zero = 0;

	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, NFT_CT_STATUS);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
	mask(r, NFT_REG_1, IPS_DST_NAT);
	compare(r, NFT_REG_1, NFT_CMP_NEQ, &zero, 4);
}

static void match_local_destination(struct nftnl_rule *r)
{
	struct nftnl_expr *e = expr_add(r, "fib");
	uint32_t local = RTN_LOCAL;

	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
	compare(r, NFT_REG_1, NFT_CMP_EQ, &local, 4);
}

/* Key in NFT_REG32_00 and up, answer in NFT_REG32_04 (address) and 05 (port). */
static void dnat_by_map(struct nftnl_rule *r, const char *map)
{
	struct nftnl_expr *e = expr_add(r, "lookup");

	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG32_00);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, NFT_REG32_04);
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, map);
	e = expr_add(r, "nat");
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, NFPROTO_IPV4);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG32_04);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, NFT_REG32_05);
}

static void verdict(struct nftnl_rule *r, uint32_t code)
{
	struct nftnl_expr *e = expr_add(r, "immediate");

	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, code);
}

static struct nftnl_rule *rule_new(const char *table, const char *chain)
{
	struct nftnl_rule *r = nftnl_rule_alloc();

	if (!r)
		abort();
	nftnl_rule_set_str(r, NFTNL_RULE_TABLE, table);
	nftnl_rule_set_str(r, NFTNL_RULE_CHAIN, chain);
	nftnl_rule_set_u32(r, NFTNL_RULE_FAMILY, FAMILY);
	return r;
}

/* Takes the rule. */
static void batch_rule(struct batch *b, struct nftnl_rule *r)
{
	struct nlmsghdr *h = batch_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);

	nftnl_rule_nlmsg_build_payload(h, r);
	nftnl_rule_free(r);
	batch_next(b);
}

static void batch_table(struct batch *b, const char *name, uint16_t type, uint16_t flags)
{
	struct nftnl_table *t = nftnl_table_alloc();

	if (!t)
		abort();
	nftnl_table_set_str(t, NFTNL_TABLE_NAME, name);
	nftnl_table_set_u32(t, NFTNL_TABLE_FAMILY, FAMILY);
	nftnl_table_nlmsg_build_payload(batch_message(b, type, flags), t);
	nftnl_table_free(t);
	batch_next(b);
}

static void batch_chain(struct batch *b, const char *table, const char *name, const char *type,
			uint32_t hook, int32_t priority)
{
	struct nftnl_chain *c = nftnl_chain_alloc();

	if (!c)
		abort();
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, table);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, type);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook);
	nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, priority);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	nftnl_chain_nlmsg_build_payload(batch_message(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE), c);
	nftnl_chain_free(c);
	batch_next(b);
}

static void batch_map(struct batch *b, const char *table, const char *name, uint32_t id,
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
	nftnl_set_nlmsg_build_payload(batch_message(b, NFT_MSG_NEWSET, NLM_F_CREATE), s);
	nftnl_set_free(s);
	batch_next(b);
}

static void batch_masquerade(struct batch *b, const struct nft_network *n)
{
	const char *chain = "postrouting";
	struct nftnl_rule *r = rule_new(n->bridge, chain);

	match_address(r, 12, n->subnet, n->prefix);
	match_interface(r, NFT_META_OIFNAME, NFT_CMP_NEQ, n->bridge);
	expr_add(r, "masq");
	batch_rule(b, r);

	/* A container that reaches another (or itself) through a published port. */
	r = rule_new(n->bridge, chain);
	match_address(r, 12, n->subnet, n->prefix);
	match_address(r, 16, n->subnet, n->prefix);
	match_dnatted(r);
	expr_add(r, "masq");
	batch_rule(b, r);

	/* The host that reaches a published port by 127.0.0.1. */
	r = rule_new(n->bridge, chain);
	match_address(r, 12, htonl(0x7f000000), 8);
	match_interface(r, NFT_META_OIFNAME, NFT_CMP_EQ, n->bridge);
	expr_add(r, "masq");
	batch_rule(b, r);
}

static void batch_dnat(struct batch *b, const char *table, const char *chain)
{
	struct nftnl_rule *r = rule_new(table, chain);

	load_meta(r, NFT_META_L4PROTO, NFT_REG32_00);
	load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, 16, 4, NFT_REG32_01);
	load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, NFT_REG32_02);
	dnat_by_map(r, "ports_ip");
	batch_rule(b, r);

	r = rule_new(table, chain);
	match_local_destination(r);
	load_meta(r, NFT_META_L4PROTO, NFT_REG32_00);
	load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, NFT_REG32_01);
	dnat_by_map(r, "ports");
	batch_rule(b, r);
}

static void batch_isolation(struct batch *b, const char *bridge)
{
	struct nftnl_rule *r = rule_new(bridge, "forward");

	match_interface(r, NFT_META_IIFNAME, NFT_CMP_EQ, bridge);
	match_interface(r, NFT_META_OIFNAME, NFT_CMP_NEQ, bridge);
	verdict(r, NF_DROP);
	batch_rule(b, r);
	r = rule_new(bridge, "forward");
	match_interface(r, NFT_META_IIFNAME, NFT_CMP_NEQ, bridge);
	match_interface(r, NFT_META_OIFNAME, NFT_CMP_EQ, bridge);
	verdict(r, NF_DROP);
	batch_rule(b, r);
}

int nft_network_create(const struct nft_network *n, struct error *err)
{
	CLEANUP(batch_done) struct batch b = { 0 };
	int r;

	if (batch_begin(&b, err) < 0)
		return -1;
	/* Create, delete, create: an older table goes without a moment when there is none. */
	batch_table(&b, n->bridge, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	batch_table(&b, n->bridge, NFT_MSG_DELTABLE, 0);
	batch_table(&b, n->bridge, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	if (n->internal) {
		batch_chain(&b, n->bridge, "forward", "filter", NF_INET_FORWARD, 0);
		batch_isolation(&b, n->bridge);
	}
	batch_map(&b, n->bridge, "ports", 1, CONCAT(TYPE_PROTOCOL, TYPE_SERVICE), 8);
	batch_map(&b, n->bridge, "ports_ip", 2,
		  CONCAT(CONCAT(TYPE_PROTOCOL, TYPE_IPADDR), TYPE_SERVICE), 12);
	batch_chain(&b, n->bridge, "postrouting", "nat", NF_INET_POST_ROUTING, PRIORITY_SRCNAT);
	batch_chain(&b, n->bridge, "prerouting", "nat", NF_INET_PRE_ROUTING, PRIORITY_DSTNAT);
	batch_chain(&b, n->bridge, "output", "nat", NF_INET_LOCAL_OUT, PRIORITY_DSTNAT);
	if (!n->internal)
		batch_masquerade(&b, n);
	batch_dnat(&b, n->bridge, "prerouting");
	batch_dnat(&b, n->bridge, "output");
	r = batch_commit(&b);
	return r < 0 ? error_errno(err, -r, "create nftables table '%s'", n->bridge) : 0;
}

int nft_network_delete(const char *bridge, struct error *err)
{
	CLEANUP(batch_done) struct batch b = { 0 };
	int r;

	if (batch_begin(&b, err) < 0)
		return -1;
	batch_table(&b, bridge, NFT_MSG_DELTABLE, 0);
	r = batch_commit(&b);
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

static void batch_element(struct batch *b, const char *table, const struct nft_port *p, bool add)
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
		batch_message(b, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
			      add ? NLM_F_CREATE | NLM_F_EXCL : 0),
		s);
	nftnl_set_free(s);
	batch_next(b);
}

static int change_ports(const char *bridge, const struct nft_port *ports, size_t n, bool add)
{
	for (size_t at = 0; at < n; at += PORTS_PER_BATCH) {
		CLEANUP(batch_done) struct batch b = { 0 };
		int r;

		if (batch_begin(&b, NULL) < 0)
			return -errno;
		for (size_t i = at; i < MIN(n, at + PORTS_PER_BATCH); i++)
			batch_element(&b, bridge, &ports[i], add);
		r = batch_commit(&b);
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
