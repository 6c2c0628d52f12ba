/* SPDX-License-Identifier: Apache-2.0 */
#include "network/netlink.h"

#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>

#define MESSAGE_SIZE NETLINK_MESSAGE_MAX
#define RECEIVE_SIZE 32768

int netlink_open(struct netlink *nl, struct error *err)
{
	nl->sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!nl->sock)
		return error_errno(err, errno, "open a route netlink socket");
	if (mnl_socket_bind(nl->sock, 0, MNL_SOCKET_AUTOPID) < 0) {
		int saved = errno;

		netlink_done(nl);
		return error_errno(err, saved, "bind a route netlink socket");
	}
	return 0;
}

/* setns(CLONE_NEWNET) moves only the calling thread; a thread that cannot come back must not go on.
 */
int netlink_open_in(struct netlink *nl, int netns_fd, struct error *err)
{
	autoclose int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (own < 0)
		return error_errno(err, errno, "open the network namespace of this thread");
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return error_errno(err, errno, "enter the container's network namespace");
	r = netlink_open(nl, err);
	if (setns(own, CLONE_NEWNET) < 0)
		abort();
	return r;
}

void netlink_done(struct netlink *nl)
{
	if (nl->sock)
		mnl_socket_close(nl->sock);
	nl->sock = NULL;
}

struct nlmsghdr *netlink_message(struct netlink *nl, void *buf, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	h->nlmsg_seq = ++nl->seq;
	return h;
}

int netlink_transact(struct netlink *nl, struct nlmsghdr *h, mnl_cb_t cb, void *arg)
{
	char buf[RECEIVE_SIZE];
	unsigned port = mnl_socket_get_portid(nl->sock);
	int r = MNL_CB_OK;

	if (mnl_socket_sendto(nl->sock, h, h->nlmsg_len) < 0)
		return -errno;
	while (r > MNL_CB_STOP) {
		ssize_t n = mnl_socket_recvfrom(nl->sock, buf, sizeof(buf));

		if (n < 0)
			return -errno;
		r = mnl_cb_run(buf, (size_t)n, h->nlmsg_seq, port, cb, arg);
		if (r < 0)
			return -errno;
	}
	return 0;
}

int link_add_bridge(struct netlink *nl, const char *name, const uint8_t mac[6], struct error *err)
{
	char buf[MESSAGE_SIZE];
	struct nlmsghdr *h =
		netlink_message(nl, buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	struct nlattr *info;
	int r;

	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	/* A fixed address: otherwise it changes with each port, and neighbours forget it. */
	mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "bridge");
	mnl_attr_nest_end(h, info);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "create bridge '%s'", name) : 0;
}

int link_add_veth(struct netlink *nl, const char *host_name, unsigned bridge_index, int netns_fd,
		  const char *peer_name, unsigned peer_index, const uint8_t peer_mac[6],
		  struct error *err)
{
	char buf[MESSAGE_SIZE];
	struct nlmsghdr *h =
		netlink_message(nl, buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	struct nlattr *info, *data, *peer;
	int r;

	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	mnl_attr_put_strz(h, IFLA_IFNAME, host_name);
	mnl_attr_put_u32(h, IFLA_MASTER, bridge_index);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
	ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	ifi->ifi_index = (int)peer_index;
	mnl_attr_put_strz(h, IFLA_IFNAME, peer_name);
	mnl_attr_put(h, IFLA_ADDRESS, 6, peer_mac);
	mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	mnl_attr_nest_end(h, peer);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "create veth pair '%s'", host_name) : 0;
}

int link_set_hairpin(struct netlink *nl, const char *name, struct error *err)
{
	char buf[MESSAGE_SIZE];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_SETLINK, NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	struct nlattr *info;
	int r;

	ifi->ifi_family = AF_BRIDGE;
	ifi->ifi_index = (int)if_nametoindex(name);
	info = mnl_attr_nest_start(h, IFLA_PROTINFO);
	mnl_attr_put_u8(h, IFLA_BRPORT_MODE, 1);
	mnl_attr_nest_end(h, info);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "set hairpin mode of '%s'", name) : 0;
}

int link_up(struct netlink *nl, unsigned index, struct error *err)
{
	char buf[MESSAGE_SIZE];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_NEWLINK, NLM_F_ACK);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	int r;

	ifi->ifi_index = (int)index;
	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "set interface %u up", index) : 0;
}

int link_delete(struct netlink *nl, const char *name, struct error *err)
{
	char buf[MESSAGE_SIZE];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_DELLINK, NLM_F_ACK);
	int r;

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 && r != -ENODEV ? error_errno(err, -r, "delete interface '%s'", name) : 0;
}

int address_add(struct netlink *nl, unsigned index, uint32_t addr, unsigned prefix,
		struct error *err)
{
	char buf[MESSAGE_SIZE];
	struct nlmsghdr *h =
		netlink_message(nl, buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(h, sizeof(*ifa));
	uint32_t broadcast =
		prefix < 31 ? addr | htobe32((uint32_t)(UINT64_C(0xffffffff) >> prefix)) : 0;
	int r;

	ifa->ifa_family = AF_INET;
	ifa->ifa_prefixlen = (uint8_t)prefix;
	ifa->ifa_index = index;
	mnl_attr_put_u32(h, IFA_LOCAL, addr);
	mnl_attr_put_u32(h, IFA_ADDRESS, addr);
	if (broadcast)
		mnl_attr_put_u32(h, IFA_BROADCAST, broadcast);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 && r != -EEXIST ? error_errno(err, -r, "add address to interface %u", index)
				     : 0;
}

int route_add_default(struct netlink *nl, uint32_t gateway, struct error *err)
{
	char buf[MESSAGE_SIZE];
	struct nlmsghdr *h =
		netlink_message(nl, buf, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(h, sizeof(*rt));
	int r;

	rt->rtm_family = AF_INET;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = RTPROT_BOOT;
	rt->rtm_scope = RT_SCOPE_UNIVERSE;
	rt->rtm_type = RTN_UNICAST;
	mnl_attr_put_u32(h, RTA_GATEWAY, gateway);
	r = netlink_transact(nl, h, NULL, NULL);
	return r < 0 ? error_errno(err, -r, "add the default route") : 0;
}

struct each {
	int (*fn)(uint32_t dst, unsigned prefix, void *arg);
	void *arg;
	bool stopped;
};

static int on_route(const struct nlmsghdr *h, void *arg)
{
	struct each *e = arg;
	const struct rtmsg *rt = mnl_nlmsg_get_payload(h);
	const struct nlattr *a;

	if (h->nlmsg_type != RTM_NEWROUTE || rt->rtm_family != AF_INET || e->stopped)
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(*rt))
	{
		if (mnl_attr_get_type(a) == RTA_DST && mnl_attr_get_payload_len(a) == 4)
			e->stopped =
				e->fn(be32toh(mnl_attr_get_u32(a)), rt->rtm_dst_len, e->arg) != 0;
	}
	return MNL_CB_OK;
}

int routes_each(struct netlink *nl, int (*fn)(uint32_t dst, unsigned prefix, void *arg), void *arg,
		struct error *err)
{
	char buf[MESSAGE_SIZE];
	struct nlmsghdr *h = netlink_message(nl, buf, RTM_GETROUTE, NLM_F_DUMP);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(h, sizeof(*rt));
	struct each e = { .fn = fn, .arg = arg };
	int r;

	rt->rtm_family = AF_INET;
	r = netlink_transact(nl, h, on_route, &e);
	return r < 0 ? error_errno(err, -r, "list the host's routes") : 0;
}
