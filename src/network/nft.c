/* SPDX-License-Identifier: Apache-2.0 */
#include "network/nft.h"

#include "base/mem.h"
#include "network/nft-batch.h"

#include <arpa/inet.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#define PORTS_PER_MESSAGE 128
#define PORT_SIZE 128 /* bytes of a message, at most */

/* nft(8)'s numbers of data types, so that it can print our maps. */
#define TYPE_IPADDR 7
#define TYPE_IP6ADDR 8
#define TYPE_PROTOCOL 12
#define TYPE_SERVICE 13
#define CONCAT(a, b) ((a) << 6 | (b))

#define PRIORITY_RAW (-300)
#define PRIORITY_DSTNAT (-100)
#define PRIORITY_SRCNAT 100

/* The registers of a lookup: key from the first, answer from the ninth. */
#define KEY NFT_REG32_00
#define ANSWER NFT_REG32_08

static const struct family_facts {
	uint16_t number;
	uint32_t source, destination, len; /* of addresses in the header */
	uint32_t type;
} facts[] = {
	{ NFPROTO_IPV4, 12, 16, 4, TYPE_IPADDR },
	{ NFPROTO_IPV6, 8, 24, 16, TYPE_IP6ADDR },
};

static const struct family_facts *facts_of(sa_family_t family)
{
	return &facts[family == AF_INET6];
}

static void match_subnet(struct nftnl_rule *r, uint32_t offset, const struct subnet *s)
{
	struct nftnl_expr *e;
	struct subnet all = { .net = s->net, .prefix = s->prefix };
	struct ip last, mask = { 0 };
	uint8_t zero[16] = { 0 };

	memset(all.net.b, 0, sizeof(all.net.b));
	last = subnet_last(&all); /* host bits set: the complement of the mask */
	for (unsigned i = 0; i < s->net.len; i++)
		mask.b[i] = (uint8_t)~last.b[i];
	nft_load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, offset, s->net.len, NFT_REG_1);
	e = nft_rule_add(r, "bitwise");
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, s->net.len);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, mask.b, s->net.len);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, zero, s->net.len);
	nft_compare(r, NFT_REG_1, NFT_CMP_EQ, s->net.b, s->net.len);
}

static struct subnet loopback_net(const struct family_facts *f)
{
	if (f->len == 4)
		return (struct subnet){ .net = { .len = 4, .b = { 127 } }, .prefix = 8 };
	return (struct subnet){ .net = { .len = 16, .b = { [15] = 1 } }, .prefix = 128 };
}

static void batch_map(struct nft_batch *b, const char *table, const char *name, uint32_t id,
		      uint32_t key_type, uint32_t key_len, const struct family_facts *f)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s)
		abort();
	nftnl_set_set_str(s, NFTNL_SET_TABLE, table);
	nftnl_set_set_str(s, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, f->number);
	nftnl_set_set_u32(s, NFTNL_SET_ID, id);
	nftnl_set_set_u32(s, NFTNL_SET_FLAGS, NFT_SET_MAP);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, key_type);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, key_len);
	nftnl_set_set_u32(s, NFTNL_SET_DATA_TYPE, CONCAT(f->type, TYPE_SERVICE));
	nftnl_set_set_u32(s, NFTNL_SET_DATA_LEN, f->len + 4);
	nftnl_set_nlmsg_build_payload(nft_batch_message(b, NFT_MSG_NEWSET, NLM_F_CREATE), s);
	nftnl_set_free(s);
	nft_batch_next(b);
}

static void batch_masquerade(struct nft_batch *b, const struct nft_network *n,
			     const struct subnet *subnet, const struct family_facts *f)
{
	const char *chain = "postrouting";
	struct nftnl_rule *r = nft_rule_new(f->number, n->bridge, chain);

	match_subnet(r, f->source, subnet);
	nft_match_interface(r, NFT_META_OIFNAME, NFT_CMP_NEQ, n->bridge);
	nft_rule_add(r, "masq");
	nft_batch_rule(b, r);

	/* A container that reaches another (or itself) through a published port. */
	r = nft_rule_new(f->number, n->bridge, chain);
	match_subnet(r, f->source, subnet);
	match_subnet(r, f->destination, subnet);
	nft_match_dnatted(r);
	nft_rule_add(r, "masq");
	nft_batch_rule(b, r);
}

/* The host that reaches a published port by its loopback. */
static void batch_loopback(struct nft_batch *b, const char *bridge, const struct family_facts *f)
{
	struct nftnl_rule *r = nft_rule_new(f->number, bridge, "postrouting");
	struct subnet loopback = loopback_net(f);

	match_subnet(r, f->source, &loopback);
	nft_match_interface(r, NFT_META_OIFNAME, NFT_CMP_EQ, bridge);
	nft_rule_add(r, "masq");
	nft_batch_rule(b, r);

	nft_batch_chain(b, bridge, "guard", "filter", NF_INET_PRE_ROUTING, PRIORITY_RAW);
	r = nft_rule_new(f->number, bridge, "guard");
	nft_match_interface(r, NFT_META_IIFNAME, NFT_CMP_EQ, bridge);
	match_subnet(r, f->destination, &loopback);
	nft_verdict(r, NF_DROP);
	nft_batch_rule(b, r);
}

static void dnat_by_map(struct nftnl_rule *r, const char *map, const struct family_facts *f)
{
	struct nftnl_expr *e = nft_rule_add(r, "lookup");

	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, KEY);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, ANSWER);
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, map);
	e = nft_rule_add(r, "nat");
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, f->number);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, ANSWER);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, ANSWER + f->len / 4);
}

static void batch_dnat(struct nft_batch *b, const char *table, const char *chain,
		       const struct family_facts *f)
{
	struct nftnl_rule *r = nft_rule_new(f->number, table, chain);

	nft_load_meta(r, NFT_META_L4PROTO, KEY);
	nft_load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, f->destination, f->len, KEY + 1);
	nft_load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, KEY + 1 + f->len / 4);
	dnat_by_map(r, "ports_ip", f);
	nft_batch_rule(b, r);

	r = nft_rule_new(f->number, table, chain);
	nft_match_local_destination(r);
	nft_load_meta(r, NFT_META_L4PROTO, KEY);
	nft_load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, KEY + 1);
	dnat_by_map(r, "ports", f);
	nft_batch_rule(b, r);
}

/* A rule about packets that cross the bridge's border: in (to it) or out. */
static struct nftnl_rule *border_rule(const char *bridge, bool in, const struct family_facts *f)
{
	struct nftnl_rule *r = nft_rule_new(f->number, bridge, "forward");

	nft_match_interface(r, NFT_META_IIFNAME, in ? NFT_CMP_NEQ : NFT_CMP_EQ, bridge);
	nft_match_interface(r, NFT_META_OIFNAME, in ? NFT_CMP_EQ : NFT_CMP_NEQ, bridge);
	return r;
}

static void batch_forward(struct nft_batch *b, const struct nft_network *n,
			  const struct family_facts *f)
{
	const uint32_t answers =
		NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED);
	const uint32_t zero = 0;
	struct nftnl_rule *r;
	struct nftnl_expr *e;

	if (n->open && !n->internal)
		return;
	nft_batch_chain(b, n->bridge, "forward", "filter", NF_INET_FORWARD, 0);
	if (n->internal) {
		r = border_rule(n->bridge, /* in= */ false, f);
		nft_verdict(r, NF_DROP);
		nft_batch_rule(b, r);
	} else {
		r = border_rule(n->bridge, /* in= */ true, f);
		e = nft_rule_add(r, "ct");
		nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, NFT_CT_STATE);
		nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
		nft_mask(r, NFT_REG_1, answers);
		nft_compare(r, NFT_REG_1, NFT_CMP_NEQ, &zero, 4);
		nft_verdict(r, NF_ACCEPT);
		nft_batch_rule(b, r);
		r = border_rule(n->bridge, /* in= */ true, f);
		nft_match_dnatted(r);
		nft_verdict(r, NF_ACCEPT);
		nft_batch_rule(b, r);
	}
	r = border_rule(n->bridge, /* in= */ true, f);
	nft_verdict(r, NF_DROP);
	nft_batch_rule(b, r);
}

/* Each part of a concatenation takes whole registers. */
static uint32_t port_part(uint16_t port)
{
	uint32_t part = 0;
	uint16_t be = htons(port);

	memcpy(&part, &be, 2);
	return part;
}

static void add_element(struct nftnl_set *s, const struct nft_port *p, bool with_data)
{
	struct nftnl_set_elem *e = nftnl_set_elem_alloc();
	uint32_t key[6] = { 0 }, data[5] = { 0 };
	size_t n = 1, words = p->ip.len / 4;

	if (!e)
		abort();
	memcpy(key, &p->protocol, 1);
	if (!ip_is_any(&p->host_ip)) {
		memcpy(key + n, p->host_ip.b, p->host_ip.len);
		n += words;
	}
	key[n++] = port_part(p->host_port);
	memcpy(data, p->ip.b, p->ip.len);
	data[words] = port_part(p->port);
	nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, key, (uint32_t)(n * 4));
	if (with_data)
		nftnl_set_elem_set(e, NFTNL_SET_ELEM_DATA, data, (uint32_t)(words + 1) * 4);
	nftnl_set_elem_add(s, e);
}

/* Those of `ports` that belong into one map: with a host address, or without. */
static void batch_elements(struct nft_batch *b, const char *table, const struct nft_port *ports,
			   size_t n, bool by_address, bool add)
{
	for (size_t at = 0; at < n;) {
		struct nftnl_set *s = nftnl_set_alloc();
		size_t count = 0;

		if (!s)
			abort();
		nftnl_set_set_str(s, NFTNL_SET_TABLE, table);
		nftnl_set_set_str(s, NFTNL_SET_NAME, by_address ? "ports_ip" : "ports");
		nftnl_set_set_u32(s, NFTNL_SET_FAMILY, b->family);
		for (; at < n && count < PORTS_PER_MESSAGE; at++) {
			if (ip_is_any(&ports[at].host_ip) == by_address)
				continue;
			add_element(s, &ports[at], add);
			count++;
		}
		if (count > 0) {
			nftnl_set_elems_nlmsg_build_payload(
				nft_batch_message(b, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
						  add ? NLM_F_CREATE : 0),
				s);
			nft_batch_next(b);
		}
		nftnl_set_free(s);
	}
}

int nft_network_create(const struct nft_network *n, const struct nft_port *ports, size_t n_ports,
		       struct error *err)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	const struct family_facts *f = facts_of(n->family);
	int r;

	if (nft_batch_begin_sized(&b, f->number, n_ports * PORT_SIZE, err) < 0)
		return -1;
	/* Create, delete, create: an older table goes without a moment when there is none. */
	nft_batch_table(&b, n->bridge, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	nft_batch_table(&b, n->bridge, NFT_MSG_DELTABLE, 0);
	nft_batch_table(&b, n->bridge, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	batch_map(&b, n->bridge, "ports", 1, CONCAT(TYPE_PROTOCOL, TYPE_SERVICE), 8, f);
	batch_map(&b, n->bridge, "ports_ip", 2,
		  CONCAT(CONCAT(TYPE_PROTOCOL, f->type), TYPE_SERVICE), 8 + f->len, f);
	batch_elements(&b, n->bridge, ports, n_ports, /* by_address= */ false, /* add= */ true);
	batch_elements(&b, n->bridge, ports, n_ports, /* by_address= */ true, /* add= */ true);
	nft_batch_chain(&b, n->bridge, "postrouting", "nat", NF_INET_POST_ROUTING, PRIORITY_SRCNAT);
	nft_batch_chain(&b, n->bridge, "prerouting", "nat", NF_INET_PRE_ROUTING, PRIORITY_DSTNAT);
	nft_batch_chain(&b, n->bridge, "output", "nat", NF_INET_LOCAL_OUT, PRIORITY_DSTNAT);
	batch_forward(&b, n, f);
	for (size_t i = 0; n->masquerade && !n->internal && i < n->n_subnets; i++)
		batch_masquerade(&b, n, &n->subnets[i], f);
	batch_loopback(&b, n->bridge, f);
	batch_dnat(&b, n->bridge, "prerouting", f);
	batch_dnat(&b, n->bridge, "output", f);
	r = nft_batch_commit(&b);
	return r < 0 ? error_errno(err, -r, "create nftables table '%s'", n->bridge) : 0;
}

int nft_network_delete(const char *bridge, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(facts); i++) {
		CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
		int r;

		if (nft_batch_begin(&b, facts[i].number, err) < 0)
			return -1;
		nft_batch_table(&b, bridge, NFT_MSG_DELTABLE, 0);
		r = nft_batch_commit(&b);
		if (r < 0 && r != -ENOENT)
			return error_errno(err, -r, "delete nftables table '%s'", bridge);
	}
	return 0;
}

static int change_ports(const char *bridge, const struct nft_port *ports, size_t n, bool add)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };

	if (nft_batch_begin_sized(&b, facts_of(ip_family(&ports[0].ip))->number, n * PORT_SIZE,
				  NULL) < 0)
		return -errno;
	batch_elements(&b, bridge, ports, n, /* by_address= */ false, add);
	batch_elements(&b, bridge, ports, n, /* by_address= */ true, add);
	return nft_batch_commit(&b);
}

int nft_ports_add(const char *bridge, const struct nft_port *ports, size_t n, struct error *err)
{
	int r = n > 0 ? change_ports(bridge, ports, n, true) : 0;

	return r < 0 ? error_errno(err, -r, "publish ports in nftables table '%s'", bridge) : 0;
}

int nft_ports_remove(const char *bridge, const struct nft_port *ports, size_t n, struct error *err)
{
	int r = n > 0 ? change_ports(bridge, ports, n, false) : 0;

	return r < 0 && r != -ENOENT
		       ? error_errno(err, -r, "withdraw ports from nftables table '%s'", bridge)
		       : 0;
}

int nft_dns_create(int udp_port, int tcp_port, bool again, struct error *err)
{
	static const struct subnet server = { .net = { .len = 4, .b = { 127, 0, 0, 11 } },
					      .prefix = 32 };
	const struct nft_port ports[] = {
		{ .protocol = IPPROTO_UDP,
		  .host_ip = server.net,
		  .host_port = 53,
		  .ip = server.net,
		  .port = (uint16_t)udp_port },
		{ .protocol = IPPROTO_TCP,
		  .host_ip = server.net,
		  .host_port = 53,
		  .ip = server.net,
		  .port = (uint16_t)tcp_port },
	};
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	const char *table = "kistl-dns";
	struct nftnl_rule *r;
	int result;

	if (nft_batch_begin(&b, NFPROTO_IPV4, err) < 0)
		return -1;
	nft_batch_table(&b, table, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	/* Only then: after a deletion, closing the socket waits for an RCU grace period. */
	if (again) {
		nft_batch_table(&b, table, NFT_MSG_DELTABLE, 0);
		nft_batch_table(&b, table, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	}
	batch_map(&b, table, "ports_ip", 1,
		  CONCAT(CONCAT(TYPE_PROTOCOL, TYPE_IPADDR), TYPE_SERVICE), 12, &facts[0]);
	batch_elements(&b, table, ports, ARRAY_SIZE(ports), /* by_address= */ true,
		       /* add= */ true);
	nft_batch_chain(&b, table, "output", "nat", NF_INET_LOCAL_OUT, PRIORITY_DSTNAT);
	r = nft_rule_new(NFPROTO_IPV4, table, "output");
	match_subnet(r, facts[0].destination, &server);
	nft_load_meta(r, NFT_META_L4PROTO, KEY);
	nft_load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, facts[0].destination, 4, KEY + 1);
	nft_load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, KEY + 2);
	dnat_by_map(r, "ports_ip", &facts[0]);
	nft_batch_rule(&b, r);
	result = nft_batch_commit(&b);
	/* The socket is this namespace's: it goes. */
	b.clean = false;
	return result < 0 ? error_errno(err, -result, "lead name queries to the name server") : 0;
}
