/* SPDX-License-Identifier: Apache-2.0 */
/*
 * macvlan and ipvlan: containers on the network of one of the host's interfaces. The parent is an
 * interface of the host ("eth0"), a VLAN of one ("eth0.50", made here when it is not there), or,
 * where none is named, a dummy of our own: such a network leads nowhere.
 */

#include "base/mem.h"
#include "base/parse.h"
#include "network/interface.h"
#include "network/internal.h"

#include <linux/if_link.h>
#include <string.h>

#define VLAN_MAX 4094

struct mode {
	const char *name;
	unsigned value;
};

static const struct mode macvlan_modes[] = {
	{ "bridge", MACVLAN_MODE_BRIDGE },
	{ "private", MACVLAN_MODE_PRIVATE },
	{ "vepa", MACVLAN_MODE_VEPA },
	{ "passthru", MACVLAN_MODE_PASSTHRU },
	{ NULL, 0 },
};

static const struct mode ipvlan_modes[] = {
	{ "l2", IPVLAN_MODE_L2 },
	{ "l3", IPVLAN_MODE_L3 },
	{ "l3s", IPVLAN_MODE_L3S },
	{ NULL, 0 },
};

static int read_mode(struct network *n, const char *option, const struct mode *modes,
		     struct error *err)
{
	const char *value = kvs_get(&n->spec.options, option);

	for (const struct mode *m = modes; m->name; m++) {
		if (str_empty(value) || str_equal(value, m->name)) {
			n->options.mode = m->value;
			return 0;
		}
	}
	return error_set(err, ERROR_INVALID_ARGUMENT, "requested %s mode '%s' is not valid",
			 n->spec.driver, value);
}

/* "eth0.50" that is not there is VLAN 50 of eth0. */
static int read_parent(struct network *n, struct error *err)
{
	const char *parent = kvs_get(&n->spec.options, "parent");
	const char *dot = parent ? strrchr(parent, '.') : NULL;
	int64_t vlan;

	if (str_empty(parent)) {
		if (!n->link)
			n->link = xasprintf("dm-%.12s", n->id);
		return 0;
	}
	if (strlen(parent) >= IFNAMSIZ || strpbrk(parent, "/ "))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid parent interface '%s'",
				 parent);
	str_replace(&n->link, parent);
	if (!dot || parse_int64(dot + 1, &vlan) < 0 || vlan < 1 || vlan > VLAN_MAX)
		return 0;
	n->options.vlan = (unsigned)vlan;
	free(n->options.lower);
	n->options.lower = xstrndup(parent, (size_t)(dot - parent));
	return 0;
}

static int configure(struct network *n, struct error *err)
{
	bool mac = str_equal(n->spec.driver, "macvlan");
	const char *mtu = kvs_get(&n->spec.options, "com.docker.network.driver.mtu");
	int64_t number = 0;

	if (mtu && (parse_int64(mtu, &number) < 0 || number < 0 || number > 65535))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid MTU '%s'", mtu);
	n->options.mtu = (unsigned)number;
	n->options.icc = true;
	if (read_mode(n, mac ? "macvlan_mode" : "ipvlan_mode", mac ? macvlan_modes : ipvlan_modes,
		      err) < 0)
		return -1;
	return read_parent(n, err);
}

static int ensure(struct network_service *s UNUSED, struct network *n, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;
	bool dummy = str_empty(kvs_get(&n->spec.options, "parent"));
	struct link_spec link = { .kind = dummy ? "dummy" : "vlan", .name = n->link, .up = true };

	n->ready = true;
	if (if_nametoindex(n->link) != 0) {
		n->foreign |= n->fresh;
		return 0;
	}
	link.lower = n->options.lower ? if_nametoindex(n->options.lower) : 0;
	if (!dummy && link.lower == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid subinterface vlan name %s, example formatting is eth0.10",
				 n->link);
	link.mode = n->options.vlan;
	if (netlink_open(&nl, err) < 0 || link_add(&nl, &link, err) < 0)
		return error_wrap(err, "set up network '%s'", n->spec.name);
	return 0;
}

/* The parent that was there before us stays. */
static int vlan_remove(struct network_service *s UNUSED, struct network *n, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;
	bool ours = n->options.lower || str_empty(kvs_get(&n->spec.options, "parent"));

	if (n->foreign || !ours)
		return 0;
	return netlink_open(&nl, err) < 0 ? -1 : link_delete(&nl, n->link, err);
}

static int join(struct network *n, struct attachment *a, struct link_ends *ends, struct error *err)
{
	const struct link_spec link = {
		.kind = n->spec.driver,
		.name = a->endpoint.ifname,
		.mac = n->driver == &macvlan_driver ? a->mac : NULL,
		.mtu = n->options.mtu,
		.lower = if_nametoindex(n->link),
		.in_netns = true,
		.netns_fd = ends->netns_fd,
		.mode = n->options.mode,
	};

	if (link.lower == 0)
		return error_errno(err, errno, "find parent interface '%s'", n->link);
	return link_add(&ends->host, &link, err);
}

const struct network_driver macvlan_driver = {
	.name = "macvlan",
	.configure = configure,
	.ensure = ensure,
	.remove = vlan_remove,
	.join = join,
};

const struct network_driver ipvlan_driver = {
	.name = "ipvlan",
	.configure = configure,
	.ensure = ensure,
	.remove = vlan_remove,
	.join = join,
};
