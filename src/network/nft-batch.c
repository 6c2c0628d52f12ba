/* SPDX-License-Identifier: Apache-2.0 */
#include "network/nft-batch.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
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

void nft_batch_done(struct nft_batch *b)
{
	if (b->b)
		mnl_nlmsg_batch_stop(b->b);
	if (b->sock)
		mnl_socket_close(b->sock);
	free(b->buf);
}

int nft_batch_begin(struct nft_batch *b, uint16_t family, struct error *err)
{
	return nft_batch_begin_sized(b, family, 0, err);
}

int nft_batch_begin_sized(struct nft_batch *b, uint16_t family, size_t more, struct error *err)
{
	size_t size = BATCH_SIZE + more;
	int buffer = (int)MIN(2 * size, (size_t)64 << 20);

	b->family = family;
	b->sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (!b->sock || mnl_socket_bind(b->sock, 0, MNL_SOCKET_AUTOPID) < 0)
		return error_errno(err, errno, "open a netfilter netlink socket");
	/* A transaction goes to the kernel by one sendmsg(2). */
	if (more > 0)
		setsockopt(mnl_socket_get_fd(b->sock), SOL_SOCKET, SO_SNDBUFFORCE, &buffer,
			   sizeof(buffer));
	b->buf = xmalloc(size + BATCH_SIZE);
	b->b = mnl_nlmsg_batch_start(b->buf, size);
	nftnl_batch_begin(mnl_nlmsg_batch_current(b->b), ++b->seq);
	mnl_nlmsg_batch_next(b->b);
	return 0;
}

struct nlmsghdr *nft_batch_message(struct nft_batch *b, uint16_t type, uint16_t flags)
{
	return nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(b->b), type, b->family,
				     NLM_F_ACK | flags, ++b->seq);
}

/* The caller's messages are few and small; overflowing BATCH_SIZE would be a bug. */
void nft_batch_next(struct nft_batch *b)
{
	bool fits = mnl_nlmsg_batch_next(b->b);

	if (!fits)
		abort();
}

/* Netlink works within sendmsg(2): every answer is there when it returns. */
int nft_batch_commit(struct nft_batch *b)
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

struct nftnl_expr *nft_rule_add(struct nftnl_rule *r, const char *name)
{
	struct nftnl_expr *e = nftnl_expr_alloc(name);

	if (!e)
		abort();
	nftnl_rule_add_expr(r, e);
	return e;
}

void nft_load_payload(struct nftnl_rule *r, uint32_t base, uint32_t offset, uint32_t len,
		      uint32_t reg)
{
	struct nftnl_expr *e = nft_rule_add(r, "payload");

	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, reg);
}

void nft_load_meta(struct nftnl_rule *r, uint32_t key, uint32_t reg)
{
	struct nftnl_expr *e = nft_rule_add(r, "meta");

	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, reg);
}

void nft_mask(struct nftnl_rule *r, uint32_t reg, uint32_t mask_value)
{
	struct nftnl_expr *e = nft_rule_add(r, "bitwise");
	uint32_t zero = 0;

	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, reg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, reg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, 4);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, &mask_value, 4);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, &zero, 4);
}

void nft_compare(struct nftnl_rule *r, uint32_t reg, uint32_t op, const void *data, uint32_t len)
{
	struct nftnl_expr *e = nft_rule_add(r, "cmp");

	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, reg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
	nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, data, len);
}

/* offset 12: source address, 16: destination address. */
void nft_match_address(struct nftnl_rule *r, uint32_t offset, uint32_t net, unsigned prefix)
{
	uint32_t m = prefix == 0 ? 0 : htonl(~UINT32_C(0) << (32 - prefix));
	uint32_t value = net & m;

	nft_load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, offset, 4, NFT_REG_1);
	nft_mask(r, NFT_REG_1, m);
	nft_compare(r, NFT_REG_1, NFT_CMP_EQ, &value, 4);
}

void nft_match_interface(struct nftnl_rule *r, uint32_t key, uint32_t op, const char *name)
{
	char padded[IFNAMSIZ] = { 0 };

	memcpy(padded, name, MIN(strlen(name), sizeof(padded) - 1));
	nft_load_meta(r, key, NFT_REG_1);
	nft_compare(r, NFT_REG_1, op, padded, sizeof(padded));
}

void nft_match_dnatted(struct nftnl_rule *r)
{
	struct nftnl_expr *e = nft_rule_add(r, "ct");
	uint32_t zero = 0;

	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, NFT_CT_STATUS);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
	nft_mask(r, NFT_REG_1, IPS_DST_NAT);
	nft_compare(r, NFT_REG_1, NFT_CMP_NEQ, &zero, 4);
}

void nft_match_local_destination(struct nftnl_rule *r)
{
	struct nftnl_expr *e = nft_rule_add(r, "fib");
	uint32_t local = RTN_LOCAL;

	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
	nft_compare(r, NFT_REG_1, NFT_CMP_EQ, &local, 4);
}

/* Key in NFT_REG32_00 and up, answer in NFT_REG32_04 (address) and 05 (port). */
void nft_dnat_by_map(struct nftnl_rule *r, const char *map)
{
	struct nftnl_expr *e = nft_rule_add(r, "lookup");

	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG32_00);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, NFT_REG32_04);
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, map);
	e = nft_rule_add(r, "nat");
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, NFPROTO_IPV4);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG32_04);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, NFT_REG32_05);
}

void nft_verdict(struct nftnl_rule *r, uint32_t code)
{
	struct nftnl_expr *e = nft_rule_add(r, "immediate");

	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, code);
}

struct nftnl_rule *nft_rule_new(uint16_t family, const char *table, const char *chain)
{
	struct nftnl_rule *r = nftnl_rule_alloc();

	if (!r)
		abort();
	nftnl_rule_set_str(r, NFTNL_RULE_TABLE, table);
	nftnl_rule_set_str(r, NFTNL_RULE_CHAIN, chain);
	nftnl_rule_set_u32(r, NFTNL_RULE_FAMILY, family);
	return r;
}

/* Takes the rule. */
void nft_batch_rule(struct nft_batch *b, struct nftnl_rule *r)
{
	struct nlmsghdr *h = nft_batch_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);

	nftnl_rule_nlmsg_build_payload(h, r);
	nftnl_rule_free(r);
	nft_batch_next(b);
}

void nft_batch_table(struct nft_batch *b, const char *name, uint16_t type, uint16_t flags)
{
	struct nftnl_table *t = nftnl_table_alloc();

	if (!t)
		abort();
	nftnl_table_set_str(t, NFTNL_TABLE_NAME, name);
	nftnl_table_set_u32(t, NFTNL_TABLE_FAMILY, b->family);
	nftnl_table_nlmsg_build_payload(nft_batch_message(b, type, flags), t);
	nftnl_table_free(t);
	nft_batch_next(b);
}

void nft_batch_chain(struct nft_batch *b, const char *table, const char *name, const char *type,
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
	nftnl_chain_nlmsg_build_payload(nft_batch_message(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE), c);
	nftnl_chain_free(c);
	nft_batch_next(b);
}
