/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/parse.h"
#include "network/internal.h"
#include "network/netlink.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define EPHEMERAL_TRIES 16

static uint32_t prefix_mask(unsigned prefix)
{
	return prefix == 0 ? 0 : ~UINT32_C(0) << (32 - prefix);
}

int address_parse(const char *s, uint32_t *ret)
{
	struct in_addr a;

	if (inet_pton(AF_INET, s, &a) != 1)
		return -EINVAL;
	*ret = ntohl(a.s_addr);
	return 0;
}

void address_format(uint32_t v, char out[16])
{
	snprintf(out, 16, "%u.%u.%u.%u", v >> 24, v >> 16 & 255, v >> 8 & 255, v & 255);
}

int subnet_parse(const char *s, struct subnet *ret, struct error *err)
{
	const char *slash = strchr(s, '/');
	autofree char *address = slash ? xstrndup(s, (size_t)(slash - s)) : NULL;
	int64_t prefix;

	if (!slash || address_parse(address, &ret->net) < 0 ||
	    parse_int64(slash + 1, &prefix) < 0 || prefix < 8 || prefix > 30)
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"invalid subnet '%s': expected an IPv4 network with a prefix of 8 to 30",
			s);
	ret->prefix = (unsigned)prefix;
	if (ret->net & ~prefix_mask(ret->prefix))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid subnet '%s': it has host bits set", s);
	return 0;
}

bool subnet_overlaps(const struct subnet *a, const struct subnet *b)
{
	uint32_t mask = prefix_mask(MIN(a->prefix, b->prefix));

	return (a->net & mask) == (b->net & mask);
}

struct conflict {
	struct subnet candidate;
	bool found;
};

static int on_route(uint32_t dst, unsigned prefix, void *arg)
{
	struct conflict *c = arg;
	struct subnet route = { dst, prefix };

	/* The default route overlaps everything and means nothing. */
	c->found |= prefix > 0 && subnet_overlaps(&route, &c->candidate);
	return c->found;
}

static int subnet_free(struct network_service *s, struct netlink *nl, struct subnet candidate,
		       bool *ret, struct error *err)
{
	struct conflict c = { .candidate = candidate };

	LIST_FOREACH (n, &s->networks, struct network, node)
		c.found |= n->subnet.prefix > 0 && subnet_overlaps(&n->subnet, &candidate);
	if (!c.found && routes_each(nl, on_route, &c, err) < 0)
		return -1;
	*ret = !c.found;
	return 0;
}

/* Docker's pools: 172.18/16 to 172.31/16 (17 is its own bridge's), then 192.168 in /20s. */
int subnet_choose(struct network_service *s, struct subnet *ret, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;

	if (netlink_open(&nl, err) < 0)
		return -1;
	for (unsigned i = 0; i < 14 + 16; i++) {
		struct subnet c = i < 14 ? (struct subnet){ 0xac120000 + (i << 16), 16 }
					 : (struct subnet){ 0xc0a80000 + ((i - 14) << 12), 20 };
		bool is_free;

		if (subnet_free(s, &nl, c, &is_free, err) < 0)
			return -1;
		if (is_free) {
			*ret = c;
			return 0;
		}
	}
	return error_set(err, ERROR_RESOURCE_EXHAUSTED,
			 "could not find an available, non-overlapping IPv4 address pool among the "
			 "defaults to assign to the network");
}

static bool address_used(const struct network *n, uint32_t address)
{
	if (address == n->gateway)
		return true;
	LIST_FOREACH (a, &n->attachments, struct attachment, node) {
		uint32_t used;

		if (a->endpoint.ip && address_parse(a->endpoint.ip, &used) == 0 && used == address)
			return true;
	}
	return false;
}

int address_choose(const struct network *n, uint32_t wanted, uint32_t *ret, struct error *err)
{
	uint32_t last = n->subnet.net | ~prefix_mask(n->subnet.prefix);
	char text[16];

	if (wanted) {
		address_format(wanted, text);
		if (wanted <= n->subnet.net || wanted >= last)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "address '%s' is not in the subnet of network '%s'", text,
					 n->name);
		if (address_used(n, wanted))
			return error_set(err, ERROR_ALREADY_EXISTS, "Address already in use: %s",
					 text);
		*ret = wanted;
		return 0;
	}
	for (uint32_t a = n->subnet.net + 1; a < last; a++) {
		if (!address_used(n, a)) {
			*ret = a;
			return 0;
		}
	}
	return error_set(err, ERROR_RESOURCE_EXHAUSTED,
			 "no available IPv4 addresses on network '%s'", n->name);
}

static bool port_taken(struct network_service *s, const struct endpoint *self,
		       const struct port_mapping *p)
{
	LIST_FOREACH (n, &s->networks, struct network, node) {
		LIST_FOREACH (a, &n->attachments, struct attachment, node) {
			for (size_t i = 0; &a->endpoint != self && i < a->endpoint.ports.n; i++) {
				const struct port_mapping *o = &a->endpoint.ports.v[i];
				bool same_ip = str_empty(o->host_ip) || str_empty(p->host_ip) ||
					       str_equal(o->host_ip, p->host_ip);

				if (same_ip && o->host_port == p->host_port &&
				    str_equal(o->protocol, p->protocol))
					return true;
			}
		}
	}
	return false;
}

/* Is the port free on the host? Fills *port when it is 0. Returns 0 or -errno. */
static int port_probe(const struct port_mapping *p, unsigned *port)
{
	int type = str_equal(p->protocol, "udp") ? SOCK_DGRAM : SOCK_STREAM;
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)*port) };
	socklen_t len = sizeof(sa);
	autoclose int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	int one = 1;

	if (!str_empty(p->host_ip))
		inet_pton(AF_INET, p->host_ip, &sa.sin_addr);
	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    (type == SOCK_STREAM && listen(fd, 1) < 0))
		return -errno;
	getsockname(fd, (struct sockaddr *)&sa, &len);
	*port = ntohs(sa.sin_port);
	return 0;
}

static int port_choose(struct network_service *s, struct endpoint *e, struct port_mapping *p,
		       struct error *err)
{
	const char *ip = str_empty(p->host_ip) ? "0.0.0.0" : p->host_ip;
	uint32_t unused;
	int r;

	if (address_parse(ip, &unused) < 0)
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"invalid host address '%s' of a published port: not an IPv4 address", ip);
	if (p->host_port) {
		if (port_taken(s, e, p))
			return error_set(err, ERROR_ALREADY_EXISTS,
					 "Bind for %s:%u failed: port is already allocated", ip,
					 p->host_port);
		r = port_probe(p, &p->host_port);
		return r < 0 ? error_errno(err, -r, "failed to bind host port for %s:%u/%s", ip,
					   p->host_port, p->protocol)
			     : 0;
	}
	for (int i = 0; i < EPHEMERAL_TRIES; i++) {
		p->host_port = 0;
		r = port_probe(p, &p->host_port);
		if (r < 0)
			return error_errno(err, -r, "find a free port on %s", ip);
		if (!port_taken(s, e, p))
			return 0;
	}
	return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no free host port on %s", ip);
}

int ports_choose(struct network_service *s, struct endpoint *e, struct error *err)
{
	for (size_t i = 0; i < e->ports.n; i++) {
		struct port_mapping *p = &e->ports.v[i];

		if (!str_equal(p->protocol, "tcp") && !str_equal(p->protocol, "udp"))
			return error_set(err, ERROR_UNIMPLEMENTED,
					 "publishing port %u: protocol '%s' is not supported",
					 p->container_port, p->protocol);
		if (port_choose(s, e, p, err) < 0)
			return -1;
	}
	return 0;
}
