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
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define BATCH_SIZE (64 << 10)
#define SOCKETS_MAX 8
#define DUMPS_MAX 20

/* Sockets that are not in use, all of one namespace. The kernel lets the closing of a socket wait
 * until everything that has been deleted is freed, 10 ms and more; so they are kept. */
static struct {
	pthread_mutex_t lock;
	ino_t netns;
	struct mnl_socket *v[SOCKETS_MAX];
	size_t n;
} idle = { .lock = PTHREAD_MUTEX_INITIALIZER };

static ino_t own_netns(void)
{
	struct stat st;

	return stat("/proc/thread-self/ns/net", &st) == 0 ? st.st_ino : 0;
}

struct mnl_socket *nft_socket_open(struct error *err)
{
	struct mnl_socket *s = NULL;
	ino_t netns = own_netns();

	pthread_mutex_lock(&idle.lock);
	if (idle.n > 0 && idle.netns == netns)
		s = idle.v[--idle.n];
	pthread_mutex_unlock(&idle.lock);
	if (s)
		return s;
	s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (!s || mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
		error_errno(err, errno, "open a netfilter netlink socket");
		if (s)
			mnl_socket_close(s);
		return NULL;
	}
	return s;
}

/* A socket of another namespace keeps that alive: those of the last one used are kept. */
void nft_socket_close(struct mnl_socket *s, bool clean)
{
	struct mnl_socket *old[SOCKETS_MAX];
	ino_t netns = clean ? own_netns() : 0;
	size_t n_old = 0;

	pthread_mutex_lock(&idle.lock);
	if (netns && idle.netns != netns) {
		n_old = idle.n;
		memcpy(old, idle.v, sizeof(old));
		idle.n = 0;
		idle.netns = netns;
	}
	if (netns && idle.n < SOCKETS_MAX) {
		idle.v[idle.n++] = s;
		s = NULL;
	}
	pthread_mutex_unlock(&idle.lock);
	for (size_t i = 0; i < n_old; i++)
		mnl_socket_close(old[i]);
	if (s)
		mnl_socket_close(s);
}

void nft_batch_done(struct nft_batch *b)
{
	if (b->b)
		mnl_nlmsg_batch_stop(b->b);
	if (b->sock)
		nft_socket_close(b->sock, b->clean);
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
	b->sock = nft_socket_open(err);
	if (!b->sock)
		return -1;
	b->clean = true;
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

static int dump_once(struct mnl_socket *s, struct nlmsghdr *h, mnl_cb_t cb, void *arg, bool *clean)
{
	char buf[32768];
	int r = MNL_CB_OK;

	if (mnl_socket_sendto(s, h, h->nlmsg_len) < 0)
		return -errno;
	while (r > MNL_CB_STOP) {
		ssize_t n = mnl_socket_recvfrom(s, buf, sizeof(buf));

		*clean = false;
		if (n < 0)
			return -errno;
		r = mnl_cb_run(buf, (size_t)n, h->nlmsg_seq, mnl_socket_get_portid(s), cb, arg);
		if (r < 0)
			break;
	}
	/* That there is no such thing is said at once; after another failure there may be more to
	 * read. */
	*clean = r >= 0 || errno == ENOENT;
	return r < 0 ? -errno : 0;
}

int nft_dump(struct nlmsghdr *h, mnl_cb_t cb, void (*reset)(void *arg), void *arg)
{
	int r = -EINTR;

	for (int i = 0; i < DUMPS_MAX && r == -EINTR; i++) {
		struct mnl_socket *s = nft_socket_open(NULL);
		bool clean = true;

		if (!s)
			return -errno;
		reset(arg);
		r = dump_once(s, h, cb, arg, &clean);
		nft_socket_close(s, clean);
	}
	return r;
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
	b->clean = false;
	if (mnl_socket_sendto(b->sock, mnl_nlmsg_batch_head(b->b), mnl_nlmsg_batch_size(b->b)) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(mnl_socket_get_fd(b->sock), buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0) {
			b->clean = errno == EAGAIN;
			return b->clean ? result : -errno;
		}
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
