/* SPDX-License-Identifier: Apache-2.0 */
#include "network/cni-conntrack.h"

#include "base/mem.h"
#include "network/nft-batch.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <string.h>

#define FLOWS_MAX 65536
#define TUPLE_MAX 256

struct flow {
	uint8_t tuple[TUPLE_MAX]; /* attributes of CTA_TUPLE_ORIG as they came */
	uint16_t len;
};

struct search {
	int family;
	const struct cni_port *ports;
	size_t n_ports;
	struct flow *v;
	size_t n;
};

static void search_reset(void *arg)
{
	struct search *s = arg;

	free(s->v);
	s->v = NULL;
	s->n = 0;
}

struct tuple {
	uint8_t protocol;
	uint16_t port;
	struct ip dst;
};

static void read_part(const struct nlattr *part, struct tuple *t)
{
	const struct nlattr *a;
	bool ip = mnl_attr_get_type(part) == CTA_TUPLE_IP;

	mnl_attr_for_each_nested(a, part)
	{
		unsigned type = mnl_attr_get_type(a), len = mnl_attr_get_payload_len(a);

		if (ip && (type == CTA_IP_V4_DST || type == CTA_IP_V6_DST) &&
		    (len == 4 || len == 16)) {
			t->dst.len = (uint8_t)len;
			memcpy(t->dst.b, mnl_attr_get_payload(a), len);
		} else if (!ip && type == CTA_PROTO_NUM && len == 1) {
			t->protocol = mnl_attr_get_u8(a);
		} else if (!ip && type == CTA_PROTO_DST_PORT && len == 2) {
			t->port = ntohs(mnl_attr_get_u16(a));
		}
	}
}

static bool wanted(const struct search *s, const struct tuple *t)
{
	for (size_t i = 0; i < s->n_ports; i++) {
		const struct cni_port *p = &s->ports[i];

		if (p->protocol == IPPROTO_UDP && t->protocol == IPPROTO_UDP &&
		    p->host_port == t->port &&
		    (p->host.len == 0 || ip_compare(&p->host, &t->dst) == 0))
			return true;
	}
	return false;
}

static int on_flow(const struct nlmsghdr *h, void *arg)
{
	struct search *s = arg;
	const struct nlattr *a, *part;

	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		struct tuple t = { 0 };
		struct flow f = { .len = mnl_attr_get_payload_len(a) };

		if (mnl_attr_get_type(a) != CTA_TUPLE_ORIG || f.len > TUPLE_MAX)
			continue;
		mnl_attr_for_each_nested(part, a) read_part(part, &t);
		if (!wanted(s, &t) || s->n >= FLOWS_MAX)
			continue;
		memcpy(f.tuple, mnl_attr_get_payload(a), f.len);
		GROW_ARRAY(s->v, s->n);
		s->v[s->n++] = f;
	}
	return MNL_CB_OK;
}

static struct nlmsghdr *message(char *buf, uint16_t type, uint16_t flags, int family, uint32_t seq)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *g;

	h->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	h->nlmsg_seq = seq;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = (uint8_t)family;
	g->version = NFNETLINK_V0;
	return h;
}

static int forget(const struct flow *f, int family)
{
	struct mnl_socket *s = nft_socket_open(NULL);
	char buf[8192];
	struct nlmsghdr *h = message(buf, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family, 1);
	ssize_t n;
	int r = 0;

	if (!s)
		return -errno;
	mnl_attr_put(h, CTA_TUPLE_ORIG | NLA_F_NESTED, f->len, f->tuple);
	n = mnl_socket_sendto(s, h, h->nlmsg_len);
	if (n >= 0)
		n = mnl_socket_recvfrom(s, buf, sizeof(buf));
	if (n < 0 || mnl_cb_run(buf, (size_t)n, 1, mnl_socket_get_portid(s), NULL, NULL) < 0)
		r = -errno;
	nft_socket_close(s, n >= 0);
	/* It may have ended by itself. */
	return r == -ENOENT ? 0 : r;
}

int cni_conntrack_forget(int family, const struct cni_port *ports, size_t n, struct error *err)
{
	struct search s = { .family = family, .ports = ports, .n_ports = n };
	char buf[1024];
	bool any = false;
	int r;

	for (size_t i = 0; i < n; i++)
		any |= ports[i].protocol == IPPROTO_UDP;
	if (!any)
		return 0;
	r = nft_dump(message(buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP, family, 1), on_flow, search_reset,
		     &s);
	for (size_t i = 0; i < s.n && r == 0; i++)
		r = forget(&s.v[i], family);
	free(s.v);
	return r < 0 ? error_errno(err, -r, "forget UDP flows") : 0;
}
