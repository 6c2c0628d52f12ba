/* SPDX-License-Identifier: Apache-2.0 */
#include "network/interface.h"

#include "base/mem.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>

static void put_common(struct nlmsghdr *h, const char *name, const uint8_t *mac, unsigned mtu)
{
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	/* A bridge with a fixed one: otherwise it changes with each port, and neighbours forget. */
	if (mac)
		mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
	if (mtu)
		mnl_attr_put_u32(h, IFLA_MTU, mtu);
}

static void put_peer(struct nlmsghdr *h, const struct link_spec *l)
{
	struct nlattr *peer = mnl_attr_nest_start(h, VETH_INFO_PEER);

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	put_common(h, l->peer_name, l->peer_mac, l->mtu);
	if (l->in_netns)
		mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)l->netns_fd);
	mnl_attr_nest_end(h, peer);
}

static void put_data(struct nlmsghdr *h, const struct link_spec *l)
{
	struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);

	if (str_equal(l->kind, "veth"))
		put_peer(h, l);
	else if (str_equal(l->kind, "macvlan"))
		mnl_attr_put_u32(h, IFLA_MACVLAN_MODE, l->mode);
	else if (str_equal(l->kind, "ipvlan"))
		mnl_attr_put_u16(h, IFLA_IPVLAN_MODE, (uint16_t)l->mode);
	else if (str_equal(l->kind, "vlan"))
		mnl_attr_put_u16(h, IFLA_VLAN_ID, (uint16_t)l->mode);
	mnl_attr_nest_end(h, data);
}

int link_add(struct netlink *nl, const struct link_spec *l, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h =
		netlink_message(nl, buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	struct nlattr *info;
	int r;

	ifi->ifi_flags = l->up ? IFF_UP : 0;
	ifi->ifi_change = l->up ? IFF_UP : 0;
	put_common(h, l->name, l->mac, l->mtu);
	if (l->master)
		mnl_attr_put_u32(h, IFLA_MASTER, l->master);
	if (l->lower)
		mnl_attr_put_u32(h, IFLA_LINK, l->lower);
	if (l->group)
		mnl_attr_put_u32(h, IFLA_GROUP, l->group);
	if (l->in_netns && !l->peer_name)
		mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)l->netns_fd);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, l->kind);
	put_data(h, l);
	mnl_attr_nest_end(h, info);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "create %s interface '%s'", l->kind, l->name) : 0;
}

int link_set_port(struct netlink *nl, const char *name, bool hairpin, bool isolated,
		  struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_SETLINK, NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	struct nlattr *info;
	int r;

	ifi->ifi_family = AF_BRIDGE;
	ifi->ifi_index = (int)if_nametoindex(name);
	info = mnl_attr_nest_start(h, IFLA_PROTINFO);
	mnl_attr_put_u8(h, IFLA_BRPORT_MODE, hairpin);
	mnl_attr_put_u8(h, IFLA_BRPORT_ISOLATED, isolated);
	mnl_attr_nest_end(h, info);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "set up bridge port '%s'", name) : 0;
}

int link_adjust(struct netlink *nl, unsigned index, unsigned group, unsigned mtu, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_NEWLINK, NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	int r;

	ifi->ifi_index = (int)index;
	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	mnl_attr_put_u32(h, IFLA_GROUP, group);
	if (mtu)
		mnl_attr_put_u32(h, IFLA_MTU, mtu);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "set up interface %u", index) : 0;
}

static int on_link(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	unsigned *index = arg;

	if (h->nlmsg_type == RTM_NEWLINK)
		*index = (unsigned)ifi->ifi_index;
	return MNL_CB_OK;
}

unsigned link_index(struct netlink *nl, const char *name)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_GETLINK, NLM_F_ACK);
	unsigned index = 0;

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	return netlink_transact(nl, h, on_link, &index) < 0 ? 0 : index;
}

static struct ip broadcast_of(const struct ip *a, unsigned prefix)
{
	struct subnet s = { .net = *a, .prefix = prefix };

	return subnet_last(&s);
}

int ip_address_add(struct netlink *nl, unsigned index, const struct ip *a, unsigned prefix,
		   struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX], text[IP_TEXT_MAX];
	struct nlmsghdr *h =
		netlink_message(nl, buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(h, sizeof(*ifa));
	struct ip broadcast = broadcast_of(a, prefix);
	int r;

	ifa->ifa_family = (uint8_t)ip_family(a);
	ifa->ifa_prefixlen = (uint8_t)prefix;
	ifa->ifa_index = index;
	ifa->ifa_flags = a->len == 16 ? IFA_F_NODAD : 0;
	mnl_attr_put(h, IFA_LOCAL, a->len, a->b);
	mnl_attr_put(h, IFA_ADDRESS, a->len, a->b);
	if (a->len == 4 && prefix < 31)
		mnl_attr_put(h, IFA_BROADCAST, 4, broadcast.b);
	r = netlink_transact(nl, h, NULL, NULL);
	if (r == 0 || r == -EEXIST)
		return 0;
	ip_format(a, text);
	return error_errno(err, -r, "add address '%s' to interface %u", text, index);
}

static struct nlmsghdr *default_route(struct netlink *nl, void *buf, uint16_t type, uint16_t flags,
				      sa_family_t family)
{
	struct nlmsghdr *h = netlink_message(nl, buf, type, NLM_F_ACK | flags);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(h, sizeof(*rt));

	rt->rtm_family = (uint8_t)family;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = RTPROT_BOOT;
	rt->rtm_scope = RT_SCOPE_UNIVERSE;
	rt->rtm_type = RTN_UNICAST;
	return h;
}

int route_add_default_by(struct netlink *nl, unsigned index, sa_family_t family,
			 const struct ip *gateway, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h;
	int r;

	h = default_route(nl, buf, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, family);
	if (ip_is_set(gateway))
		mnl_attr_put(h, RTA_GATEWAY, gateway->len, gateway->b);
	else
		((struct rtmsg *)mnl_nlmsg_get_payload(h))->rtm_scope = RT_SCOPE_LINK;
	mnl_attr_put_u32(h, RTA_OIF, index);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "add the default route") : 0;
}

int route_delete_default(struct netlink *nl, sa_family_t family, struct error *err)
{
	char buf[NETLINK_MESSAGE_MAX];
	struct nlmsghdr *h = default_route(nl, buf, RTM_DELROUTE, 0, family);
	struct rtmsg *rt = mnl_nlmsg_get_payload(h);
	int r;

	rt->rtm_scope = RT_SCOPE_NOWHERE;
	rt->rtm_protocol = RTPROT_UNSPEC;
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 && r != -ESRCH && r != -ENOENT && r != -ENETUNREACH
		       ? error_errno(err, -r, "delete the default route")
		       : 0;
}
