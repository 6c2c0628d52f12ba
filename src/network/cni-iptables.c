/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules in the table that iptables (in its nftables form) manages. They are put together from the
 * expressions that iptables would use, "match" and all, so that it can list and delete them; in
 * turn what it made is recognised by the address that a rule compares with.
 */
#include "base/mem.h"
#include "network/cni-nft.h"
#include "network/nft-batch.h"

#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter/xt_comment.h>
#include <linux/netfilter/xt_conntrack.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TABLE "filter"
#define FORWARD "FORWARD"
#define CHAIN "CNI-FORWARD"
#define COMMENT_RULES "CNI firewall plugin rules"
#define COMMENT_ADMIN "CNI firewall plugin admin overrides"
#define RULES_MAX 65536

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint16_t family_of(const struct ip *a)
{
	return a->len == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

static uint32_t offset_of(const struct ip *a, bool source)
{
	uint32_t offset = a->len == 4 ? 12 : 8;

	return source ? offset : offset + a->len;
}

/* An extension of iptables; info is taken over by the expression. */
static void match(struct nftnl_rule *r, const char *name, uint32_t revision, const void *info,
		  uint32_t len)
{
	struct nftnl_expr *e = nft_rule_add(r, "match");

	nftnl_expr_set_str(e, NFTNL_EXPR_MT_NAME, name);
	nftnl_expr_set_u32(e, NFTNL_EXPR_MT_REV, revision);
	nftnl_expr_set(e, NFTNL_EXPR_MT_INFO, xmemdup(info, len), len);
}

static struct nftnl_rule *jump_rule(uint16_t family, const char *chain, const char *comment,
				    const char *to)
{
	struct nftnl_rule *r = nft_rule_new(family, TABLE, chain);
	union {
		struct xt_comment_info info;
		char padded[XT_ALIGN(sizeof(struct xt_comment_info))];
	} u = { 0 };
	struct nftnl_expr *e;

	snprintf(u.info.comment, sizeof(u.info.comment), "%s", comment);
	match(r, "comment", 0, &u, sizeof(u));
	nft_rule_add(r, "counter");
	e = nft_rule_add(r, "immediate");
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)NFT_JUMP);
	nftnl_expr_set_str(e, NFTNL_EXPR_IMM_CHAIN, to);
	return r;
}

/* Everything from the pod, and to it what belongs to a known connection. */
static struct nftnl_rule *accept_rule(const struct ip *pod, bool source)
{
	struct nftnl_rule *r = nft_rule_new(family_of(pod), TABLE, CHAIN);
	union {
		struct xt_conntrack_mtinfo3 info;
		char padded[XT_ALIGN(sizeof(struct xt_conntrack_mtinfo3))];
	} u = { 0 };

	nft_load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, offset_of(pod, source), pod->len,
			 NFT_REG_1);
	nft_compare(r, NFT_REG_1, NFT_CMP_EQ, pod->b, pod->len);
	if (!source) {
		u.info.match_flags = XT_CONNTRACK_STATE;
		u.info.state_mask = XT_CONNTRACK_STATE_BIT(IP_CT_ESTABLISHED) |
				    XT_CONNTRACK_STATE_BIT(IP_CT_RELATED);
		match(r, "conntrack", 3, &u, sizeof(u));
	}
	nft_rule_add(r, "counter");
	nft_verdict(r, NF_ACCEPT);
	return r;
}

struct found {
	const struct ip *pod; /* rules that compare with it, */
	const char *jump;     /* or jump to this chain */
	uint64_t *handles;
	size_t n;
	unsigned sides; /* 1: from the pod, 2: to it */
};

static void found_reset(void *arg)
{
	struct found *f = arg;

	free(f->handles);
	f->handles = NULL;
	f->n = 0;
	f->sides = 0;
}

struct look {
	const struct found *f;
	uint32_t offset;
	unsigned side;
	bool jumps;
};

static int on_expression(struct nftnl_expr *e, void *arg)
{
	const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
	struct look *l = arg;
	uint32_t len = 0;

	if (str_equal(name, "payload")) {
		l->offset =
			nftnl_expr_get_u32(e, NFTNL_EXPR_PAYLOAD_BASE) == NFT_PAYLOAD_NETWORK_HEADER
				? nftnl_expr_get_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET)
				: 0;
	} else if (str_equal(name, "cmp") && l->f->pod) {
		const void *data = nftnl_expr_get(e, NFTNL_EXPR_CMP_DATA, &len);

		if (len != l->f->pod->len || memcmp(data, l->f->pod->b, len) != 0)
			return 0;
		if (l->offset == offset_of(l->f->pod, /* source= */ true))
			l->side = 1;
		else if (l->offset == offset_of(l->f->pod, /* source= */ false))
			l->side = 2;
	} else if (str_equal(name, "immediate") && l->f->jump) {
		l->jumps |= nftnl_expr_is_set(e, NFTNL_EXPR_IMM_CHAIN) &&
			    str_equal(nftnl_expr_get_str(e, NFTNL_EXPR_IMM_CHAIN), l->f->jump);
	}
	return 0;
}

static int on_rule(const struct nlmsghdr *h, void *arg)
{
	struct nftnl_rule *r = nftnl_rule_alloc();
	struct found *f = arg;
	struct look l = { .f = f };

	if (!r)
		abort();
	if (nftnl_rule_nlmsg_parse(h, r) == 0)
		nftnl_expr_foreach(r, on_expression, &l);
	if ((l.side || l.jumps) && f->n < RULES_MAX) {
		GROW_ARRAY(f->handles, f->n);
		f->handles[f->n++] = nftnl_rule_get_u64(r, NFTNL_RULE_HANDLE);
		f->sides |= l.side;
	}
	nftnl_rule_free(r);
	return MNL_CB_OK;
}

/* 0 or -errno; a chain that is not there has no rules. */
static int find_rules(uint16_t family, const char *chain, struct found *f)
{
	struct nftnl_rule *filter = nft_rule_new(family, TABLE, chain);
	char buf[1024];
	struct nlmsghdr *h = nftnl_nlmsg_build_hdr(buf, NFT_MSG_GETRULE, family, NLM_F_DUMP, 1);
	int r;

	nftnl_rule_nlmsg_build_payload(h, filter);
	nftnl_rule_free(filter);
	r = nft_dump(h, on_rule, found_reset, f);
	return r == -ENOENT ? 0 : r;
}

/* A chain of its own, made unless it is there. */
static int ensure_chain(uint16_t family, const char *name, bool base)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	struct nftnl_chain *c;
	int r;

	if (nft_batch_begin(&b, family, NULL) < 0)
		return -errno;
	nft_batch_table(&b, TABLE, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	c = nftnl_chain_alloc();
	if (!c)
		abort();
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, TABLE);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	if (base) {
		nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter");
		nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, NF_INET_FORWARD);
		nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, 0);
		nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	}
	/* Exclusive, so that nobody's policy is changed. */
	nftnl_chain_nlmsg_build_payload(
		nft_batch_message(&b, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL), c);
	nftnl_chain_free(c);
	nft_batch_next(&b);
	r = nft_batch_commit(&b);
	return r == -EEXIST ? 0 : r;
}

static void add_rule(struct nft_batch *b, struct nftnl_rule *r, bool first)
{
	struct nlmsghdr *h =
		nft_batch_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | (first ? 0 : NLM_F_APPEND));

	nftnl_rule_nlmsg_build_payload(h, r);
	nftnl_rule_free(r);
	nft_batch_next(b);
}

static int ensure_jump(uint16_t family, const char *chain, const char *comment, const char *to)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	struct found f = { .jump = to };
	int r = find_rules(family, chain, &f);

	free(f.handles);
	if (r < 0 || f.n > 0)
		return r;
	r = ensure_chain(family, chain, str_equal(chain, FORWARD));
	if (r == 0)
		r = ensure_chain(family, to, /* base= */ false);
	if (r < 0)
		return r;
	if (nft_batch_begin(&b, family, NULL) < 0)
		return -errno;
	add_rule(&b, jump_rule(family, chain, comment, to), /* first= */ true);
	return nft_batch_commit(&b);
}

/* With the lock held. */
static int accept_pod(const struct ip *pod, const char *admin)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	struct found f = { .pod = pod };
	uint16_t family = family_of(pod);
	int r = ensure_jump(family, FORWARD, COMMENT_RULES, CHAIN);

	if (r == 0)
		r = ensure_jump(family, CHAIN, COMMENT_ADMIN, admin);
	if (r == 0)
		r = find_rules(family, CHAIN, &f);
	free(f.handles);
	if (r < 0 || f.sides == 3)
		return r;
	if (nft_batch_begin(&b, family, NULL) < 0)
		return -errno;
	if (!(f.sides & 2))
		add_rule(&b, accept_rule(pod, /* source= */ false), /* first= */ false);
	if (!(f.sides & 1))
		add_rule(&b, accept_rule(pod, /* source= */ true), /* first= */ false);
	return nft_batch_commit(&b);
}

int cni_nft_accept(const struct ip *pod, const char *admin, struct error *err)
{
	int r;

	pthread_mutex_lock(&lock);
	r = accept_pod(pod, admin);
	pthread_mutex_unlock(&lock);
	return r < 0 ? error_errno(err, -r, "add rules to iptables' chain '" CHAIN "'") : 0;
}

static int unaccept_pod(const struct ip *pod)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	struct found f = { .pod = pod };
	uint16_t family = family_of(pod);
	int r = find_rules(family, CHAIN, &f);

	if (r == 0 && f.n > 0) {
		if (nft_batch_begin(&b, family, NULL) < 0) {
			free(f.handles);
			return -errno;
		}
		for (size_t i = 0; i < MIN(f.n, (size_t)256); i++) {
			struct nftnl_rule *rule = nft_rule_new(family, TABLE, CHAIN);

			nftnl_rule_set_u64(rule, NFTNL_RULE_HANDLE, f.handles[i]);
			nftnl_rule_nlmsg_build_payload(nft_batch_message(&b, NFT_MSG_DELRULE, 0),
						       rule);
			nftnl_rule_free(rule);
			nft_batch_next(&b);
		}
		r = nft_batch_commit(&b);
	}
	free(f.handles);
	return r == -ENOENT ? 0 : r;
}

int cni_nft_unaccept(const struct ip *pod, struct error *err)
{
	int r;

	pthread_mutex_lock(&lock);
	r = unaccept_pod(pod);
	pthread_mutex_unlock(&lock);
	return r < 0 ? error_errno(err, -r, "delete rules of iptables' chain '" CHAIN "'") : 0;
}

int cni_nft_accepted(const struct ip *pod, size_t *ret, struct error *err)
{
	struct found f = { .pod = pod };
	int r = find_rules(family_of(pod), CHAIN, &f);

	free(f.handles);
	*ret = (f.sides & 1) + (f.sides >> 1 & 1);
	return r < 0 ? error_errno(err, -r, "list iptables' chain '" CHAIN "'") : 0;
}
