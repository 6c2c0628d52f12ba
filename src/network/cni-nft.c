/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Elements are added to what is there, as that is the common case; when the kernel knows no such
 * table or chain, it is made and the elements are tried again. Making is exclusive: of two
 * processes that start at the same time one makes the rules, the other one finds them.
 */
#include "network/cni-nft.h"

#include "base/mem.h"
#include "network/nft-batch.h"

#include <arpa/inet.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TABLE "kistl_cni"
#define PORTS_PER_BATCH 64
#define KEY_MAX 24
#define DATA_MAX 20
#define CHAIN_MAX 128

/* nft(8)'s numbers of data types, so that it can print our maps. */
#define TYPE_IPADDR 7
#define TYPE_IP6ADDR 8
#define TYPE_PROTOCOL 12
#define TYPE_SERVICE 13
#define CONCAT(a, b) ((a) << 6 | (b))
#define TYPE_IFNAME 41
#define TYPE_VERDICT 0xffffff00U
#define BYTEORDER_HOST 1

#define PRIORITY_RAW (-300)
#define PRIORITY_DSTNAT (-100)
#define PRIORITY_SRCNAT 100

enum map { MAP_MASQ, MAP_HAIRPIN, MAP_PORTS, MAP_PORTS_IP, MAP_LOCALNET, MAP_MAX };

static const struct {
	const char *name;
	unsigned what;
} maps[MAP_MAX] = {
	[MAP_MASQ] = { "masq", CNI_NFT_MASQUERADE },
	[MAP_HAIRPIN] = { "hairpin", CNI_NFT_PORTS },
	[MAP_PORTS] = { "hostports", CNI_NFT_PORTS },
	[MAP_PORTS_IP] = { "hostports_ip", CNI_NFT_PORTS },
	[MAP_LOCALNET] = { "localnet", 0 }, /* a set */
};

struct element {
	enum map map;
	uint8_t key[KEY_MAX], data[DATA_MAX];
	uint32_t key_len, data_len;
	char chain[CHAIN_MAX]; /* instead of data */
	char owner[CNI_OWNER_MAX];
};

/* One change at a time in this process: a change may be several transactions. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint16_t family_of(const struct ip *a)
{
	return a->len == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

static uint32_t address_len(uint16_t family)
{
	return family == NFPROTO_IPV4 ? 4 : 16;
}

static struct nftnl_set *set_new(uint16_t family, enum map map)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s)
		abort();
	nftnl_set_set_str(s, NFTNL_SET_TABLE, TABLE);
	nftnl_set_set_str(s, NFTNL_SET_NAME, maps[map].name);
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, family);
	return s;
}

/* Only for nft(8), to print names. */
static void set_byteorder(struct nftnl_set *s)
{
	struct nftnl_udata_buf *u = nftnl_udata_buf_alloc(64);

	if (!u)
		abort();
	nftnl_udata_put_u32(u, NFTNL_UDATA_SET_KEYBYTEORDER, BYTEORDER_HOST);
	nftnl_set_set_data(s, NFTNL_SET_USERDATA, nftnl_udata_buf_data(u), nftnl_udata_buf_len(u));
	nftnl_udata_buf_free(u);
}

static void batch_map(struct nft_batch *b, enum map map)
{
	uint32_t len = address_len(b->family);
	uint32_t type = b->family == NFPROTO_IPV4 ? TYPE_IPADDR : TYPE_IP6ADDR;
	bool ports = map == MAP_PORTS || map == MAP_PORTS_IP;
	struct nftnl_set *s = set_new(b->family, map);
	uint32_t key_type = type, key_len = len;

	if (map == MAP_PORTS) {
		key_type = CONCAT(TYPE_PROTOCOL, TYPE_SERVICE);
		key_len = 8;
	} else if (map == MAP_PORTS_IP) {
		key_type = CONCAT(CONCAT(TYPE_PROTOCOL, type), TYPE_SERVICE);
		key_len = 8 + len;
	}
	if (map == MAP_LOCALNET) {
		key_type = TYPE_IFNAME;
		key_len = IFNAMSIZ;
	}
	nftnl_set_set_u32(s, NFTNL_SET_ID, map + 1);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, key_type);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, key_len);
	if (map != MAP_LOCALNET) {
		nftnl_set_set_u32(s, NFTNL_SET_FLAGS, NFT_SET_MAP);
		nftnl_set_set_u32(s, NFTNL_SET_DATA_TYPE,
				  ports ? CONCAT(type, TYPE_SERVICE) : TYPE_VERDICT);
		/* A verdict's length is the kernel's. */
		nftnl_set_set_u32(s, NFTNL_SET_DATA_LEN, ports ? len + 4 : 16);
	}
	if (map == MAP_LOCALNET)
		set_byteorder(s);
	nftnl_set_nlmsg_build_payload(nft_batch_message(b, NFT_MSG_NEWSET, NLM_F_CREATE), s);
	nftnl_set_free(s);
	nft_batch_next(b);
}

static void load_address(struct nftnl_rule *r, uint16_t family, bool source, uint32_t reg)
{
	uint32_t len = address_len(family);
	uint32_t offset = family == NFPROTO_IPV4 ? 12 : 8;

	nft_load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, source ? offset : offset + len, len, reg);
}

static void match_net(struct nftnl_rule *r, bool source, const struct cni_net *n)
{
	struct ip base = cni_net_base(n), mask = { .len = base.len };
	static const uint8_t zero[16];
	struct nftnl_expr *e;

	memset(mask.b, 0xff, sizeof(mask.b));
	const struct cni_net ones = { .addr = mask, .prefix = n->prefix };

	mask = cni_net_base(&ones);
	load_address(r, family_of(&base), source, NFT_REG_1);
	e = nft_rule_add(r, "bitwise");
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, base.len);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, mask.b, base.len);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, zero, base.len);
	nft_compare(r, NFT_REG_1, NFT_CMP_EQ, base.b, base.len);
}

static void lookup(struct nftnl_rule *r, enum map map, uint32_t from, uint32_t to)
{
	struct nftnl_expr *e = nft_rule_add(r, "lookup");

	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, from);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, to);
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, maps[map].name);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SET_ID, map + 1);
}

/* protocol [. address] . port -> address . port, four bytes a register. */
static void batch_dnat(struct nft_batch *b, const char *chain, enum map map)
{
	struct nftnl_rule *r = nft_rule_new(b->family, TABLE, chain);
	uint32_t words = address_len(b->family) / 4, port = NFT_REG32_01;
	struct nftnl_expr *e;

	if (map == MAP_PORTS)
		nft_match_local_destination(r);
	nft_load_meta(r, NFT_META_L4PROTO, NFT_REG32_00);
	if (map == MAP_PORTS_IP) {
		load_address(r, b->family, /* source= */ false, NFT_REG32_01);
		port += words;
	}
	nft_load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, port);
	lookup(r, map, NFT_REG32_00, NFT_REG32_08);
	e = nft_rule_add(r, "nat");
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, b->family);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG32_08);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, NFT_REG32_08 + words);
	nft_batch_rule(b, r);
}

static void batch_source_nat(struct nft_batch *b)
{
	struct nftnl_rule *r = nft_rule_new(b->family, TABLE, "postrouting");

	nft_match_dnatted(r);
	load_address(r, b->family, /* source= */ false, NFT_REG_1);
	lookup(r, MAP_HAIRPIN, NFT_REG_1, NFT_REG_VERDICT);
	nft_batch_rule(b, r);
	r = nft_rule_new(b->family, TABLE, "postrouting");
	load_address(r, b->family, /* source= */ true, NFT_REG_1);
	lookup(r, MAP_MASQ, NFT_REG_1, NFT_REG_VERDICT);
	nft_batch_rule(b, r);
}

/* Before connections are looked up: answers to what the host itself sent to a published port have
 * another destination at this point. */
static void batch_guard(struct nft_batch *b)
{
	struct nftnl_rule *r = nft_rule_new(b->family, TABLE, "guard");
	struct nftnl_expr *e;
	struct cni_net loopback;

	cni_net_parse("127.0.0.0/8", &loopback);
	match_net(r, /* source= */ false, &loopback);
	nft_load_meta(r, NFT_META_IIFNAME, NFT_REG_1);
	e = nft_rule_add(r, "lookup");
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, maps[MAP_LOCALNET].name);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SET_ID, MAP_LOCALNET + 1);
	nft_verdict(r, NF_DROP);
	nft_batch_rule(b, r);
}

/* 0 or -errno; the table may have come meanwhile. */
static int make_table(uint16_t family)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	int r;

	if (nft_batch_begin(&b, family, NULL) < 0)
		return -errno;
	nft_batch_table(&b, TABLE, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
	for (int m = 0; m < MAP_LOCALNET; m++)
		batch_map(&b, (enum map)m);
	nft_batch_chain(&b, TABLE, "postrouting", "nat", NF_INET_POST_ROUTING, PRIORITY_SRCNAT);
	nft_batch_chain(&b, TABLE, "prerouting", "nat", NF_INET_PRE_ROUTING, PRIORITY_DSTNAT);
	nft_batch_chain(&b, TABLE, "output", "nat", NF_INET_LOCAL_OUT, PRIORITY_DSTNAT);
	batch_source_nat(&b);
	batch_dnat(&b, "prerouting", MAP_PORTS_IP);
	batch_dnat(&b, "prerouting", MAP_PORTS);
	batch_dnat(&b, "output", MAP_PORTS_IP);
	batch_dnat(&b, "output", MAP_PORTS);
	r = nft_batch_commit(&b);
	return r == -EEXIST ? 0 : r;
}

/* Apart, as a table of an earlier version may be there. */
static int make_guard(void)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	struct nftnl_chain *c = nftnl_chain_alloc();
	int r;

	if (!c)
		abort();
	if (nft_batch_begin(&b, NFPROTO_IPV4, NULL) < 0) {
		nftnl_chain_free(c);
		return -errno;
	}
	batch_map(&b, MAP_LOCALNET);
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, TABLE);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, "guard");
	nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter");
	nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, NF_INET_PRE_ROUTING);
	nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, PRIORITY_RAW);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	nftnl_chain_nlmsg_build_payload(
		nft_batch_message(&b, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL), c);
	nftnl_chain_free(c);
	nft_batch_next(&b);
	batch_guard(&b);
	r = nft_batch_commit(&b);
	return r == -EEXIST ? 0 : r;
}

static void chain_name(enum map map, const struct cni_net *pod, char out[CHAIN_MAX])
{
	const struct cni_net subnet = { cni_net_base(pod), pod->prefix };
	char text[CNI_NET_STRING_MAX];

	cni_net_format(&subnet, text);
	/* What nft(8) can read as a name. */
	for (char *p = text; *p; p++) {
		if (*p == ':')
			*p = '_';
	}
	snprintf(out, CHAIN_MAX, "%s_%s", maps[map].name, text);
}

static void verdict_on(struct nft_batch *b, const char *chain, bool source, const struct cni_net *n,
		       bool masquerade)
{
	struct nftnl_rule *r = nft_rule_new(b->family, TABLE, chain);

	if (n)
		match_net(r, source, n);
	if (masquerade)
		nft_rule_add(r, "masq");
	else
		nft_verdict(r, (uint32_t)NFT_RETURN);
	nft_batch_rule(b, r);
}

/* The chain of a subnet that elements of the map lead to. */
static int make_chain(enum map map, const struct cni_net *pod)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	struct nftnl_chain *c = nftnl_chain_alloc();
	struct cni_net multicast, loopback;
	char name[CHAIN_MAX];
	int r;

	if (!c)
		abort();
	if (nft_batch_begin(&b, family_of(&pod->addr), NULL) < 0) {
		nftnl_chain_free(c);
		return -errno;
	}
	chain_name(map, pod, name);
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, TABLE);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	nftnl_chain_nlmsg_build_payload(
		nft_batch_message(&b, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL), c);
	nftnl_chain_free(c);
	nft_batch_next(&b);
	if (map == MAP_MASQ) {
		cni_net_parse(pod->addr.len == 4 ? "224.0.0.0/4" : "ff00::/8", &multicast);
		verdict_on(&b, name, /* source= */ false, pod, /* masquerade= */ false);
		verdict_on(&b, name, /* source= */ false, &multicast, /* masquerade= */ false);
		verdict_on(&b, name, /* source= */ false, NULL, /* masquerade= */ true);
	} else {
		verdict_on(&b, name, /* source= */ true, pod, /* masquerade= */ true);
		if (pod->addr.len == 4) {
			cni_net_parse("127.0.0.0/8", &loopback);
			verdict_on(&b, name, /* source= */ true, &loopback, /* masquerade= */ true);
		}
	}
	r = nft_batch_commit(&b);
	return r == -EEXIST ? 0 : r;
}

static void batch_element(struct nft_batch *b, const struct element *x, bool add)
{
	struct nftnl_set *s = set_new(b->family, x->map);
	struct nftnl_set_elem *e = nftnl_set_elem_alloc();
	struct nftnl_udata_buf *u = nftnl_udata_buf_alloc(256);

	if (!e || !u)
		abort();
	nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, x->key, x->key_len);
	if (add && x->chain[0]) {
		nftnl_set_elem_set_u32(e, NFTNL_SET_ELEM_VERDICT, (uint32_t)NFT_JUMP);
		nftnl_set_elem_set_str(e, NFTNL_SET_ELEM_CHAIN, x->chain);
	} else if (add && x->data_len) {
		nftnl_set_elem_set(e, NFTNL_SET_ELEM_DATA, x->data, x->data_len);
	}
	if (add && x->owner[0]) {
		nftnl_udata_put_strz(u, NFTNL_UDATA_SET_ELEM_COMMENT, x->owner);
		nftnl_set_elem_set(e, NFTNL_SET_ELEM_USERDATA, nftnl_udata_buf_data(u),
				   nftnl_udata_buf_len(u));
	}
	nftnl_set_elem_add(s, e);
	nftnl_set_elems_nlmsg_build_payload(
		nft_batch_message(b, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
				  add ? NLM_F_CREATE | NLM_F_EXCL : 0),
		s);
	nftnl_set_free(s);
	nftnl_udata_buf_free(u);
	nft_batch_next(b);
}

struct elements {
	enum map map;
	struct element *v;
	size_t n;
};

static void elements_reset(void *arg)
{
	struct elements *l = arg;

	free(l->v);
	l->v = NULL;
	l->n = 0;
}

static int on_attribute(const struct nftnl_udata *attr, void *arg)
{
	const char **owner = arg;

	if (nftnl_udata_type(attr) == NFTNL_UDATA_SET_ELEM_COMMENT && nftnl_udata_len(attr) > 0)
		*owner = nftnl_udata_get(attr);
	return 0;
}

static int on_element(struct nftnl_set_elem *e, void *arg)
{
	struct elements *l = arg;
	struct element x = { .map = l->map };
	const char *owner = NULL;
	uint32_t len = 0;
	const void *p = nftnl_set_elem_get(e, NFTNL_SET_ELEM_KEY, &len);

	if (!p || len > sizeof(x.key))
		return 0;
	memcpy(x.key, p, len);
	x.key_len = len;
	p = nftnl_set_elem_get(e, NFTNL_SET_ELEM_USERDATA, &len);
	if (p && nftnl_udata_parse(p, len, on_attribute, &owner) >= 0 && owner)
		snprintf(x.owner, sizeof(x.owner), "%s", owner);
	GROW_ARRAY(l->v, l->n);
	l->v[l->n++] = x;
	return 0;
}

static int on_message(const struct nlmsghdr *h, void *arg)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s)
		abort();
	if (nftnl_set_elems_nlmsg_parse(h, s) == 0)
		nftnl_set_elem_foreach(s, on_element, arg);
	nftnl_set_free(s);
	return MNL_CB_OK;
}

/* A map that is not there has no elements. 0 or -errno. */
static int list_elements(uint16_t family, enum map map, struct elements *ret)
{
	struct nftnl_set *s = set_new(family, map);
	char buf[1024];
	struct nlmsghdr *h = nftnl_nlmsg_build_hdr(buf, NFT_MSG_GETSETELEM, family, NLM_F_DUMP, 1);
	int r;

	nftnl_set_elems_nlmsg_build_payload(h, s);
	nftnl_set_free(s);
	ret->map = map;
	r = nft_dump(h, on_message, elements_reset, ret);
	/* Nor has a family that the kernel does not know. */
	return r == -ENOENT || r == -EAFNOSUPPORT || r == -EOPNOTSUPP ? 0 : r;
}

static bool has_element(const struct element *v, size_t n, const struct element *x)
{
	for (size_t i = 0; i < n; i++) {
		if (v[i].map == x->map && v[i].key_len == x->key_len &&
		    memcmp(v[i].key, x->key, x->key_len) == 0)
			return true;
	}
	return false;
}

/* Those of the map that have the key of one of these. */
static int remove_taken(struct nft_batch *b, enum map map, const struct element *v, size_t n)
{
	struct elements l = { 0 };
	int r = list_elements(b->family, map, &l);

	for (size_t i = 0; i < l.n && r == 0; i++) {
		if (has_element(v, n, &l.v[i]))
			batch_element(b, &l.v[i], /* add= */ false);
	}
	free(l.v);
	return r;
}

/* In one transaction, with what they replace when `replace`. */
static int add_elements(uint16_t family, const struct element *v, size_t n, bool replace)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };

	if (nft_batch_begin(&b, family, NULL) < 0)
		return -errno;
	for (int m = 0; replace && m < MAP_MAX; m++) {
		int r = remove_taken(&b, (enum map)m, v, n);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < n; i++)
		batch_element(&b, &v[i], /* add= */ true);
	return nft_batch_commit(&b);
}

/* With the lock held. */
static int ensure_elements(const struct cni_net *pod, const struct element *v, size_t n)
{
	uint16_t family = family_of(&pod->addr);
	int r = add_elements(family, v, n, /* replace= */ false);

	if (r == -ENOENT) {
		r = make_table(family);
		for (size_t i = 0; i < n && r == 0; i++) {
			if (v[i].chain[0])
				r = make_chain(v[i].map, pod);
		}
		if (r == 0)
			r = add_elements(family, v, n, /* replace= */ false);
	}
	return r == -EEXIST ? add_elements(family, v, n, /* replace= */ true) : r;
}

static struct element address_element(enum map map, const char *owner, const struct cni_net *pod)
{
	struct element x = { .map = map, .key_len = pod->addr.len };

	snprintf(x.owner, sizeof(x.owner), "%s", owner);
	memcpy(x.key, pod->addr.b, pod->addr.len);
	chain_name(map, pod, x.chain);
	return x;
}

int cni_nft_masquerade(const char *owner, const struct cni_net *pod, struct error *err)
{
	const struct element x = address_element(MAP_MASQ, owner, pod);
	int r;

	pthread_mutex_lock(&lock);
	r = ensure_elements(pod, &x, 1);
	pthread_mutex_unlock(&lock);
	return r < 0 ? error_errno(err, -r, "masquerade in nftables table '" TABLE "'") : 0;
}

/* Each part of a concatenation begins at a multiple of four bytes. */
static struct element port_element(const char *owner, const struct cni_net *pod,
				   const struct cni_port *p)
{
	bool any = p->host.len == 0;
	struct element x = { .map = any ? MAP_PORTS : MAP_PORTS_IP };
	uint16_t host_port = htons(p->host_port), port = htons(p->port);

	snprintf(x.owner, sizeof(x.owner), "%s", owner);
	x.key[0] = p->protocol;
	x.key_len = 4;
	if (!any) {
		memcpy(x.key + 4, p->host.b, p->host.len);
		x.key_len += p->host.len;
	}
	memcpy(x.key + x.key_len, &host_port, 2);
	x.key_len += 4;
	memcpy(x.data, pod->addr.b, pod->addr.len);
	memcpy(x.data + pod->addr.len, &port, 2);
	x.data_len = pod->addr.len + 4U;
	return x;
}

int cni_nft_publish(const char *owner, const struct cni_net *pod, const struct cni_port *ports,
		    size_t n, bool snat, struct error *err)
{
	autofree struct element *v = xnew_array(struct element, n + 1);
	size_t count = 0;
	int r = 0;

	if (snat)
		v[count++] = address_element(MAP_HAIRPIN, owner, pod);
	for (size_t i = 0; i < n; i++) {
		struct element x = port_element(owner, pod, &ports[i]);

		/* The same port may be named twice; the kernel would refuse that. */
		if ((ports[i].host.len == 0 || ports[i].host.len == pod->addr.len) &&
		    !has_element(v, count, &x))
			v[count++] = x;
	}
	pthread_mutex_lock(&lock);
	for (size_t at = 0; at < count && r == 0; at += PORTS_PER_BATCH)
		r = ensure_elements(pod, v + at, MIN(count - at, (size_t)PORTS_PER_BATCH));
	pthread_mutex_unlock(&lock);
	return r < 0 ? error_errno(err, -r, "publish ports in nftables table '" TABLE "'") : 0;
}

/* The owner's elements of the maps in question; the caller frees them. */
static int list_owned(uint16_t family, const char *owner, unsigned what, struct elements *ret)
{
	for (int m = 0; m < MAP_MAX; m++) {
		struct elements l = { 0 };
		int r = maps[m].what & what ? list_elements(family, (enum map)m, &l) : 0;

		for (size_t i = 0; i < l.n && r == 0; i++) {
			if (!str_equal(l.v[i].owner, owner))
				continue;
			GROW_ARRAY(ret->v, ret->n);
			ret->v[ret->n++] = l.v[i];
		}
		free(l.v);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Interfaces that are gone need no guard; another one of the name gets it anew. */
static void prune_guard(const struct elements *l)
{
	CLEANUP(nft_batch_done) struct nft_batch b = { 0 };
	bool any = false;

	if (nft_batch_begin(&b, NFPROTO_IPV4, NULL) < 0)
		return;
	for (size_t i = 0; i < MIN(l->n, (size_t)PORTS_PER_BATCH); i++) {
		char name[IFNAMSIZ];

		snprintf(name, sizeof(name), "%.*s", IFNAMSIZ - 1, (const char *)l->v[i].key);
		if (if_nametoindex(name) != 0)
			continue;
		batch_element(&b, &l->v[i], /* add= */ false);
		any = true;
	}
	if (any)
		nft_batch_commit(&b);
}

/* With the lock held. A transaction that fails costs the kernel 10 ms: so it is asked first. */
static int guard(const struct element *x)
{
	struct elements l = { 0 };
	int r = list_elements(NFPROTO_IPV4, x->map, &l);
	bool there = r == 0 && has_element(l.v, l.n, x);

	if (r == 0 && !there && l.n > 0)
		prune_guard(&l);
	free(l.v);
	if (r < 0 || there)
		return r;
	r = add_elements(NFPROTO_IPV4, x, 1, /* replace= */ false);
	if (r != -ENOENT)
		return r;
	r = make_table(NFPROTO_IPV4);
	if (r == 0)
		r = make_guard();
	return r < 0 ? r : add_elements(NFPROTO_IPV4, x, 1, /* replace= */ false);
}

int cni_nft_guard(const char *ifname, struct error *err)
{
	struct element x = { .map = MAP_LOCALNET, .key_len = IFNAMSIZ };
	int r;

	snprintf((char *)x.key, IFNAMSIZ, "%s", ifname);
	pthread_mutex_lock(&lock);
	r = guard(&x);
	pthread_mutex_unlock(&lock);
	return r < 0 && r != -EEXIST ? error_errno(err, -r, "guard '%s'", ifname) : 0;
}

static int on_table(const struct nlmsghdr *h UNUSED, void *arg UNUSED)
{
	return MNL_CB_OK;
}

static void no_reset(void *arg UNUSED)
{
}

bool cni_nft_available(void)
{
	char buf[1024];
	struct nlmsghdr *h =
		nftnl_nlmsg_build_hdr(buf, NFT_MSG_GETTABLE, NFPROTO_IPV4, NLM_F_DUMP, 1);

	return nft_dump(h, on_table, no_reset, NULL) == 0;
}

static int remove_owned(uint16_t family, const char *owner, unsigned what)
{
	struct elements o = { 0 };
	int r = list_owned(family, owner, what, &o);

	for (size_t at = 0; at < o.n && r == 0; at += PORTS_PER_BATCH) {
		CLEANUP(nft_batch_done) struct nft_batch b = { 0 };

		if (nft_batch_begin(&b, family, NULL) < 0) {
			r = -errno;
			break;
		}
		for (size_t i = at; i < MIN(o.n, at + PORTS_PER_BATCH); i++)
			batch_element(&b, &o.v[i], /* add= */ false);
		r = nft_batch_commit(&b);
	}
	free(o.v);
	return r == -ENOENT ? 0 : r;
}

int cni_nft_remove(const char *owner, unsigned what, struct error *err)
{
	int r, r6;

	pthread_mutex_lock(&lock);
	r = remove_owned(NFPROTO_IPV4, owner, what);
	r6 = remove_owned(NFPROTO_IPV6, owner, what);
	pthread_mutex_unlock(&lock);
	if (r == 0)
		r = r6;
	return r < 0 ? error_errno(err, -r, "clear nftables table '" TABLE "'") : 0;
}

int cni_nft_count(const char *owner, unsigned what, size_t *ret, struct error *err)
{
	struct elements o = { 0 };
	int r = list_owned(NFPROTO_IPV4, owner, what, &o);

	if (r == 0)
		r = list_owned(NFPROTO_IPV6, owner, what, &o);
	free(o.v);
	*ret = o.n;
	return r < 0 ? error_errno(err, -r, "look at nftables table '" TABLE "'") : 0;
}
