/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A way through iptables' FORWARD chain (of its nftables form). What a base chain drops is dropped,
 * whatever ours say: so the first rule of FORWARD leads to a chain of ours that accepts the
 * bridge's packets, as Docker's do. Ours have dropped before, or drop after, what may not pass.
 * Where there is no such chain nothing is needed, and nothing made.
 */

#include "base/mem.h"
#include "network/nft-batch.h"
#include "network/nft.h"

#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#define TABLE "filter"
#define FORWARD "FORWARD"
#define RULES_MAX 65536

static const uint16_t families[] = { NFPROTO_IPV4, NFPROTO_IPV6 };

struct look {
	const char *table, *chain; /* of a chain that is looked for */
	bool found;
	const char *jump; /* chain that rules lead to */
	uint64_t *handles;
	size_t n, n_rules;
};

static void look_reset(void *arg)
{
	struct look *l = arg;

	free(TAKE_PTR(l->handles));
	l->n = l->n_rules = 0;
	l->found = false;
}

static void look_done(struct look *l)
{
	free(l->handles);
}

static int on_chain(const struct nlmsghdr *h, void *arg)
{
	struct nftnl_chain *c = nftnl_chain_alloc();
	struct look *l = arg;

	if (!c)
		abort();
	if (nftnl_chain_nlmsg_parse(h, c) == 0)
		l->found |= str_equal(nftnl_chain_get_str(c, NFTNL_CHAIN_TABLE), l->table) &&
			    str_equal(nftnl_chain_get_str(c, NFTNL_CHAIN_NAME), l->chain);
	nftnl_chain_free(c);
	return MNL_CB_OK;
}

static int find_chain(uint16_t family, struct look *l)
{
	char buf[1024];
	struct nlmsghdr *h = nftnl_nlmsg_build_hdr(buf, NFT_MSG_GETCHAIN, family, NLM_F_DUMP, 1);

	return nft_dump(h, on_chain, look_reset, l);
}

static int on_expression(struct nftnl_expr *e, void *arg)
{
	struct look *l = arg;

	if (str_equal(nftnl_expr_get_str(e, NFTNL_EXPR_NAME), "immediate") &&
	    nftnl_expr_is_set(e, NFTNL_EXPR_IMM_CHAIN))
		l->found |= str_equal(nftnl_expr_get_str(e, NFTNL_EXPR_IMM_CHAIN), l->jump);
	return 0;
}

static int on_rule(const struct nlmsghdr *h, void *arg)
{
	struct nftnl_rule *r = nftnl_rule_alloc();
	struct look *l = arg;

	if (!r)
		abort();
	l->found = false;
	if (nftnl_rule_nlmsg_parse(h, r) == 0) {
		l->n_rules++;
		if (l->jump)
			nftnl_expr_foreach(r, on_expression, l);
	}
	if (l->found && l->n < RULES_MAX) {
		GROW_ARRAY(l->handles, l->n);
		l->handles[l->n++] = nftnl_rule_get_u64(r, NFTNL_RULE_HANDLE);
	}
	nftnl_rule_free(r);
	return MNL_CB_OK;
}

/* Rules of l->chain, those that lead to l->jump by their handles. None: no such chain. */
static int find_rules(uint16_t family, struct look *l)
{
	struct nftnl_rule *filter = nft_rule_new(family, l->table, l->chain);
	char buf[1024];
	struct nlmsghdr *h = nftnl_nlmsg_build_hdr(buf, NFT_MSG_GETRULE, family, NLM_F_DUMP, 1);
	int r;

	nftnl_rule_nlmsg_build_payload(h, filter);
	nftnl_rule_free(filter);
	r = nft_dump(h, on_rule, look_reset, l);
	return r == -ENOENT ? 0 : r;
}

static void batch_own_chain(struct nft_batch *b, const char *chain, uint16_t type)
{
	struct nftnl_chain *c = nftnl_chain_alloc();

	if (!c)
		abort();
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, TABLE);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, chain);
	nftnl_chain_nlmsg_build_payload(
		nft_batch_message(b, type, type == NFT_MSG_NEWCHAIN ? NLM_F_CREATE : 0), c);
	nftnl_chain_free(c);
	nft_batch_next(b);
}

/* handle 0: all rules of the chain. */
static void batch_delete(struct nft_batch *b, const char *chain, uint64_t handle)
{
	struct nftnl_rule *r = nft_rule_new(b->family, TABLE, chain);

	if (handle)
		nftnl_rule_set_u64(r, NFTNL_RULE_HANDLE, handle);
	nftnl_rule_nlmsg_build_payload(nft_batch_message(b, NFT_MSG_DELRULE, 0), r);
	nftnl_rule_free(r);
	nft_batch_next(b);
}

static void batch_accept(struct nft_batch *b, const char *chain, uint32_t side, const char *bridge)
{
	struct nftnl_rule *r = nft_rule_new(b->family, TABLE, chain);

	nft_load_meta(r, side, NFT_REG_1);
	/* As iptables writes it, so that it can list it. */
	nft_compare(r, NFT_REG_1, NFT_CMP_EQ, bridge, (uint32_t)strlen(bridge) + 1);
	nft_rule_add(r, "counter");
	nft_verdict(r, NF_ACCEPT);
	nft_batch_rule(b, r);
}

static void batch_jump(struct nft_batch *b, const char *to)
{
	struct nftnl_rule *r = nft_rule_new(b->family, TABLE, FORWARD);
	struct nftnl_expr *e;

	nft_rule_add(r, "counter");
	e = nft_rule_add(r, "immediate");
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)NFT_JUMP);
	nftnl_expr_set_str(e, NFTNL_EXPR_IMM_CHAIN, to);
	/* Not appended: the first. */
	nftnl_rule_nlmsg_build_payload(nft_batch_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE), r);
	nftnl_rule_free(r);
	nft_batch_next(b);
}

static int make_way(uint16_t family, const char *bridge, const char *chain)
{
	CLEANUP(look_done) struct look base = { .table = TABLE, .chain = FORWARD };
	CLEANUP(look_done) struct look jump = { .table = TABLE, .chain = FORWARD, .jump = chain };
	CLEANUP(look_done) struct look own = { .table = TABLE, .chain = chain };
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	int r = find_chain(family, &base);

	if (r < 0 || !base.found)
		return r;
	r = find_rules(family, &jump);
	if (r == 0)
		r = find_rules(family, &own);
	if (r < 0 || (jump.n > 0 && own.n_rules == 2))
		return r;
	if (nft_batch_begin(&b, family, NULL) < 0)
		return -errno;
	batch_own_chain(&b, chain, NFT_MSG_NEWCHAIN);
	if (own.n_rules > 0)
		batch_delete(&b, chain, 0);
	batch_accept(&b, chain, NFT_META_IIFNAME, bridge);
	batch_accept(&b, chain, NFT_META_OIFNAME, bridge);
	if (jump.n == 0)
		batch_jump(&b, chain);
	return nft_batch_commit(&b);
}

static int take_way(uint16_t family, const char *chain)
{
	CLEANUP(look_done) struct look own = { .table = TABLE, .chain = chain };
	CLEANUP(look_done) struct look jump = { .table = TABLE, .chain = FORWARD, .jump = chain };
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	int r = find_chain(family, &own);

	if (r < 0 || !own.found)
		return r;
	r = find_rules(family, &jump);
	if (r < 0)
		return r;
	if (nft_batch_begin(&b, family, NULL) < 0)
		return -errno;
	for (size_t i = 0; i < MIN(jump.n, (size_t)64); i++)
		batch_delete(&b, FORWARD, jump.handles[i]);
	batch_delete(&b, chain, 0);
	batch_own_chain(&b, chain, NFT_MSG_DELCHAIN);
	r = nft_batch_commit(&b);
	return r == -ENOENT ? 0 : r;
}

int nft_foreign_open(const char *bridge, sa_family_t family, struct error *err)
{
	autofree char *chain = xasprintf("KISTL-%s", bridge);
	int r = make_way(family == AF_INET6 ? NFPROTO_IPV6 : NFPROTO_IPV4, bridge, chain);

	return r < 0 ? error_errno(err, -r, "accept '%s' in iptables' FORWARD chain", bridge) : 0;
}

int nft_foreign_close(const char *bridge, struct error *err)
{
	autofree char *chain = xasprintf("KISTL-%s", bridge);

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		int r = take_way(families[i], chain);

		if (r < 0)
			return error_errno(err, -r, "remove iptables' chain '%s'", chain);
	}
	return 0;
}
