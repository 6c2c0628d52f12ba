/* SPDX-License-Identifier: Apache-2.0 */
#include "network/cni-link.h"

#include "base/mem.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define NETS_MAX 4096
#define DUMPS_MAX 20

void cni_mac_format(const uint8_t mac[6], char out[CNI_MAC_STRING])
{
	snprintf(out, CNI_MAC_STRING, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
}

int cni_mac_parse(const char *s, uint8_t ret[6])
{
	unsigned v[6];
	char end;

	if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%c", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
		   &end) != 6)
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		ret[i] = (uint8_t)v[i];
	return 0;
}

static void read_kind(const struct nlattr *info, struct cni_link *l)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, info)
	{
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			snprintf(l->kind, sizeof(l->kind), "%s", mnl_attr_get_str(a));
	}
}

static int on_link(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	struct cni_link *l = arg;
	const struct nlattr *a;

	if (h->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	l->index = (unsigned)ifi->ifi_index;
	l->flags = ifi->ifi_flags;
	mnl_attr_for_each(a, h, sizeof(*ifi))
	{
		switch (mnl_attr_get_type(a)) {
		case IFLA_IFNAME:
			snprintf(l->name, sizeof(l->name), "%s", mnl_attr_get_str(a));
			break;
		case IFLA_ADDRESS:
			if (mnl_attr_get_payload_len(a) == 6)
				memcpy(l->mac, mnl_attr_get_payload(a), 6);
			break;
		case IFLA_MTU:
			l->mtu = mnl_attr_get_u32(a);
			break;
		case IFLA_MASTER:
			l->master = mnl_attr_get_u32(a);
			break;
		case IFLA_LINK:
			l->peer = mnl_attr_get_u32(a);
			break;
		case IFLA_PROMISCUITY:
			l->promiscuity = mnl_attr_get_u32(a);
			break;
		case IFLA_OPERSTATE:
			l->operstate = mnl_attr_get_u8(a);
			break;
		case IFLA_LINKINFO:
			read_kind(a, l);
			break;
		default:
			break;
		}
	}
	return MNL_CB_OK;
}

int cni_link_get(struct netlink *nl, const char *name, struct cni_link *ret, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_GETLINK, NLM_F_ACK);
	struct cni_link l = { 0 };
	int r;

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	r = netlink_transact(nl, h, on_link, &l);
	if (r == -ENODEV)
		return error_set(err, ERROR_NOT_FOUND, "no interface '%s'", name);
	if (r < 0)
		return error_errno(err, -r, "look at interface '%s'", name);
	*ret = l;
	return 0;
}

int cni_link_add_bridge(struct netlink *nl, const char *name, unsigned mtu, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h =
		netlink_message(nl, buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	struct nlattr *info;
	int r;

	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	if (mtu)
		mnl_attr_put_u32(h, IFLA_MTU, mtu);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "bridge");
	mnl_attr_nest_end(h, info);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "create bridge '%s'", name) : 0;
}

int cni_link_add_veth(struct netlink *nl, const struct cni_veth *v, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h =
		netlink_message(nl, buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	struct nlattr *info, *data, *peer;
	int r;

	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	mnl_attr_put_strz(h, IFLA_IFNAME, v->host_name);
	mnl_attr_put_u32(h, IFLA_MASTER, v->bridge);
	if (v->mtu)
		mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	mnl_attr_put_strz(h, IFLA_IFNAME, v->name);
	if (v->mac)
		mnl_attr_put(h, IFLA_ADDRESS, 6, v->mac);
	if (v->mtu)
		mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
	mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)v->netns_fd);
	mnl_attr_nest_end(h, peer);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "create veth pair '%s', '%s'", v->host_name, v->name)
		     : 0;
}

int cni_link_set_flags(struct netlink *nl, unsigned index, unsigned flags, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_NEWLINK, NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	int r;

	ifi->ifi_index = (int)index;
	ifi->ifi_flags = flags;
	ifi->ifi_change = flags;
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "change flags of interface %u", index) : 0;
}

int cni_link_set_mac(struct netlink *nl, unsigned index, const uint8_t mac[6], struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_NEWLINK, NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	int r;

	ifi->ifi_index = (int)index;
	mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "set address of interface %u", index) : 0;
}

int cni_link_set_hairpin(struct netlink *nl, unsigned index, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_SETLINK, NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	struct nlattr *info;
	int r;

	ifi->ifi_family = AF_BRIDGE;
	ifi->ifi_index = (int)index;
	info = mnl_attr_nest_start(h, IFLA_PROTINFO);
	mnl_attr_put_u8(h, IFLA_BRPORT_MODE, 1);
	mnl_attr_nest_end(h, info);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "set hairpin mode of interface %u", index) : 0;
}

static int change_address(struct netlink *nl, unsigned index, const struct cni_net *n, bool add,
			  struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX], text[CNI_NET_STRING_MAX];
	struct nlmsghdr *h =
		netlink_message(nl, buf, add ? RTM_NEWADDR : RTM_DELADDR,
				add ? NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK : NLM_F_ACK);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(h, sizeof(*ifa));
	struct ip broadcast = cni_net_last(n);
	int r;

	ifa->ifa_family = (uint8_t)ip_family(&n->addr);
	ifa->ifa_prefixlen = (uint8_t)n->prefix;
	ifa->ifa_index = index;
	if (n->addr.len == 16)
		ifa->ifa_flags = IFA_F_NODAD;
	mnl_attr_put(h, IFA_LOCAL, n->addr.len, n->addr.b);
	mnl_attr_put(h, IFA_ADDRESS, n->addr.len, n->addr.b);
	if (n->addr.len == 4 && n->prefix < 31)
		mnl_attr_put(h, IFA_BROADCAST, 4, broadcast.b);
	r = netlink_transact(nl, h, NULL, NULL);
	if (r == 0)
		return 0;
	cni_net_format(n, text);
	return error_errno(err, -r, "%s address %s of interface %u", add ? "add" : "remove", text,
			   index);
}

int cni_link_add_address(struct netlink *nl, unsigned index, const struct cni_net *n,
			 struct error *err)
{
	return change_address(nl, index, n, /* add= */ true, err);
}

int cni_link_del_address(struct netlink *nl, unsigned index, const struct cni_net *n,
			 struct error *err)
{
	return change_address(nl, index, n, /* add= */ false, err);
}

void cni_nets_done(struct cni_nets *n)
{
	free(n->v);
	*n = (struct cni_nets){ 0 };
}

struct listing {
	unsigned index;
	struct cni_nets *nets;
};

static void list_net(struct listing *l, const struct nlattr *addr, unsigned family, unsigned prefix)
{
	struct cni_net n = { .addr.len = family == AF_INET ? 4 : 16, .prefix = prefix };

	if ((family != AF_INET && family != AF_INET6) || l->nets->n >= NETS_MAX)
		return;
	if (addr && mnl_attr_get_payload_len(addr) != n.addr.len)
		return;
	/* No destination is the default route. */
	if (addr)
		memcpy(n.addr.b, mnl_attr_get_payload(addr), n.addr.len);
	GROW_ARRAY(l->nets->v, l->nets->n);
	l->nets->v[l->nets->n++] = n;
}

/* Anew, on a new socket, when somebody has changed meanwhile what is listed. 0 or -errno. */
static int list_all(struct netlink *nl, uint16_t type, size_t header, mnl_cb_t cb, unsigned index,
		    struct cni_nets *ret)
{
	struct listing l = { .index = index, .nets = ret };
	int r = -EINTR;

	for (int i = 0; i < DUMPS_MAX && r == -EINTR; i++) {
		char buf[NETLINK_MESSAGE_MAX];
		struct nlmsghdr *h;

		if (i > 0) {
			cni_nets_done(ret);
			netlink_done(nl);
			if (netlink_open(nl, NULL) < 0)
				return -EIO;
		}
		h = netlink_message(nl, buf, type, NLM_F_DUMP);
		mnl_nlmsg_put_extra_header(h, header);
		r = netlink_transact(nl, h, cb, &l);
	}
	return r;
}

static int on_address(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(h);
	const struct nlattr *a, *local = NULL, *address = NULL;
	struct listing *l = arg;

	if (h->nlmsg_type != RTM_NEWADDR || ifa->ifa_index != l->index ||
	    ifa->ifa_scope == RT_SCOPE_LINK)
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(*ifa))
	{
		if (mnl_attr_get_type(a) == IFA_LOCAL)
			local = a;
		else if (mnl_attr_get_type(a) == IFA_ADDRESS)
			address = a;
	}
	if (local || address)
		list_net(l, local ? local : address, ifa->ifa_family, ifa->ifa_prefixlen);
	return MNL_CB_OK;
}

int cni_link_addresses(struct netlink *nl, unsigned index, struct cni_nets *ret, struct error *err)
{
	int r = list_all(nl, RTM_GETADDR, sizeof(struct ifaddrmsg), on_address, index, ret);

	return r < 0 ? error_errno(err, -r, "list addresses of interface %u", index) : 0;
}

int cni_link_add_route(struct netlink *nl, unsigned index, const struct cni_net *dst,
		       const struct ip *gateway, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX], text[CNI_NET_STRING_MAX];
	struct nlmsghdr *h =
		netlink_message(nl, buf, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(h, sizeof(*rt));
	bool direct = !gateway || gateway->len == 0;
	int r;

	rt->rtm_family = (uint8_t)ip_family(&dst->addr);
	rt->rtm_dst_len = (uint8_t)dst->prefix;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = RTPROT_BOOT;
	rt->rtm_scope = direct ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	rt->rtm_type = RTN_UNICAST;
	mnl_attr_put(h, RTA_DST, dst->addr.len, dst->addr.b);
	if (!direct)
		mnl_attr_put(h, RTA_GATEWAY, gateway->len, gateway->b);
	mnl_attr_put_u32(h, RTA_OIF, index);
	r = netlink_transact(nl, h, NULL, NULL);
	if (r == 0)
		return 0;
	cni_net_format(dst, text);
	return error_errno(err, -r, "add a route to %s", text);
}

static int on_route(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *rt = mnl_nlmsg_get_payload(h);
	const struct nlattr *a, *dst = NULL;
	struct listing *l = arg;
	unsigned oif = 0;

	if (h->nlmsg_type != RTM_NEWROUTE || rt->rtm_table != RT_TABLE_MAIN)
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(*rt))
	{
		if (mnl_attr_get_type(a) == RTA_DST)
			dst = a;
		else if (mnl_attr_get_type(a) == RTA_OIF)
			oif = mnl_attr_get_u32(a);
	}
	if (oif == l->index)
		list_net(l, dst, rt->rtm_family, rt->rtm_dst_len);
	return MNL_CB_OK;
}

int cni_link_routes(struct netlink *nl, unsigned index, struct cni_nets *ret, struct error *err)
{
	int r = list_all(nl, RTM_GETROUTE, sizeof(struct rtmsg), on_route, index, ret);

	return r < 0 ? error_errno(err, -r, "list routes of interface %u", index) : 0;
}

static int on_answer(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *a;
	unsigned *oif = arg;

	if (h->nlmsg_type != RTM_NEWROUTE)
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(struct rtmsg))
	{
		if (mnl_attr_get_type(a) == RTA_OIF)
			*oif = mnl_attr_get_u32(a);
	}
	return MNL_CB_OK;
}

int cni_link_to(struct netlink *nl, const struct ip *a, char ret[IFNAMSIZ], struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX], text[CNI_NET_STRING_MAX];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_GETROUTE, NLM_F_ACK);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(h, sizeof(*rt));
	unsigned oif = 0;
	int r;

	rt->rtm_family = (uint8_t)ip_family(a);
	rt->rtm_dst_len = (uint8_t)(a->len * 8);
	mnl_attr_put(h, RTA_DST, a->len, a->b);
	r = netlink_transact(nl, h, on_answer, &oif);
	if (r == 0 && (oif == 0 || !if_indextoname(oif, ret)))
		r = -ENOENT;
	if (r == 0)
		return 0;
	ip_format(a, text);
	return error_errno(err, -r, "find the way to %s", text);
}
