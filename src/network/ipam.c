/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address management: which pools a network has, and who gets which address. Who has one is known
 * from the attachments, so there is nothing to keep in step: an address is free when nobody has it.
 */

#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "network/internal.h"
#include "oci/digest.h"

#include <fcntl.h>
#include <string.h>

#define INVALID(err, ...) \
	error_set(err, ERROR_INVALID_ARGUMENT, "invalid network config:\n" __VA_ARGS__)

struct conflict {
	struct subnet candidate;
	bool found;
};

static int on_route(uint32_t dst, unsigned prefix, void *arg)
{
	struct conflict *c = arg;
	struct subnet route = { .net = ip_from_v4(dst), .prefix = prefix };

	/* The default route overlaps everything and means nothing. */
	c->found |= prefix > 0 && subnet_overlaps(&route, &c->candidate);
	return c->found;
}

static bool pool_taken(struct network_service *s, const struct network *self,
		       const struct subnet *candidate)
{
	LIST_FOREACH (n, &s->networks, struct network, node) {
		for (size_t i = 0; n != self && i < n->n_pools; i++) {
			if (subnet_overlaps(&n->pools[i].subnet, candidate))
				return true;
		}
	}
	return false;
}

/* Docker's pools: 172.18/16 to 172.31/16 (17 is its own bridge's), then 192.168 in /20s. */
static int choose_v4(struct network_service *s, const struct network *n, struct subnet *ret,
		     struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;

	if (netlink_open(&nl, err) < 0)
		return -1;
	for (unsigned i = 0; i < 14 + 16; i++) {
		struct conflict c = { 0 };

		c.candidate.net =
			ip_from_v4(i < 14 ? 0xac120000 + (i << 16) : 0xc0a80000 + ((i - 14) << 12));
		c.candidate.prefix = i < 14 ? 16 : 20;
		c.found = pool_taken(s, n, &c.candidate);
		if (!c.found && routes_each(&nl, on_route, &c, err) < 0)
			return -1;
		if (!c.found) {
			*ret = c.candidate;
			return 0;
		}
	}
	return error_set(err, ERROR_RESOURCE_EXHAUSTED,
			 "could not find an available, non-overlapping IPv4 address pool among the "
			 "defaults to assign to the network");
}

/* A prefix of our own (RFC 4193), the same each time on this machine: fd, 40 bits, 16 for us. */
static int choose_v6(struct network_service *s, const struct network *n, struct subnet *ret,
		     struct error *err)
{
	autobuf struct buf seed = BUF_INIT(4096);
	char digest[DIGEST_MAX];
	struct subnet c = { .net = { .len = 16, .b = { 0xfd } }, .prefix = 64 };

	if (fs_read(AT_FDCWD, "/etc/machine-id", &seed) < 0)
		buf_clear(&seed);
	buf_puts(&seed, s->instance);
	digest_bytes(seed.data, seed.len, digest);
	autofree char *id = xstrndup(digest_hex(digest), 10);
	hex_decode(id, c.net.b + 1, 5);
	for (unsigned i = 0; i < 65536; i++) {
		c.net.b[6] = (uint8_t)(i >> 8);
		c.net.b[7] = (uint8_t)i;
		if (!pool_taken(s, n, &c)) {
			*ret = c;
			return 0;
		}
	}
	return error_set(err, ERROR_RESOURCE_EXHAUSTED,
			 "could not find an available, non-overlapping IPv6 address pool among the "
			 "defaults to assign to the network");
}

static int parse_subnet(const char *text, struct subnet *ret, struct error *err)
{
	bool host_bits;

	if (subnet_parse(text, ret, &host_bits) < 0)
		return INVALID(err, "invalid subnet %s: invalid CIDR block notation", text);
	if (host_bits) {
		char should[SUBNET_TEXT_MAX];

		subnet_format(ret, should);
		return INVALID(err, "invalid subnet %s: it should be %s", text, should);
	}
	if (ret->prefix < 1 || ret->prefix > ret->net.len * 8U - 2)
		return INVALID(err, "invalid subnet %s: there is no room for addresses", text);
	return 0;
}

static int parse_range(const char *text, struct pool *p, const char *parent, struct error *err)
{
	bool host_bits;

	if (str_empty(text)) {
		p->range = p->subnet;
		return 0;
	}
	if (subnet_parse(text, &p->range, &host_bits) < 0)
		return INVALID(err, "invalid ip-range %s: invalid CIDR block notation", text);
	if (p->range.net.len != p->subnet.net.len)
		return INVALID(err, "invalid ip-range %s: parent subnet is an IPv%d block", text,
			       p->subnet.net.len == 4 ? 4 : 6);
	if (p->range.prefix < p->subnet.prefix)
		return INVALID(err,
			       "invalid ip-range %s: CIDR block is bigger than its parent subnet "
			       "%s",
			       text, parent);
	if (!subnet_contains(&p->subnet, &p->range.net))
		return INVALID(err,
			       "invalid ip-range %s: parent subnet %s doesn't contain ip-range",
			       text, parent);
	return 0;
}

static int parse_member(const char *what, const char *text, const struct pool *p,
			const char *parent, struct ip *ret, struct error *err)
{
	if (ip_parse(text, ret) < 0)
		return INVALID(err, "invalid %s %s: invalid address", what, text);
	if (ret->len != p->subnet.net.len)
		return INVALID(err, "invalid %s %s: parent subnet is an IPv%d block", what, text,
			       p->subnet.net.len == 4 ? 4 : 6);
	if (!subnet_contains(&p->subnet, ret))
		return INVALID(err, "invalid %s %s: parent subnet %s doesn't contain this address",
			       what, text, parent);
	return 0;
}

static struct ip first_address(const struct subnet *s)
{
	struct ip a = s->net;

	ip_increment(&a);
	return a;
}

/* One pool of the specification, whose subnet is there. */
static int pool_parse(struct network *n, struct pool_spec *ps, struct error *err)
{
	struct pool *p = &n->pools[n->n_pools];

	if (parse_subnet(ps->subnet, &p->subnet, err) < 0 ||
	    parse_range(ps->range, p, ps->subnet, err) < 0)
		return -1;
	if (ps->aux.n > ADDRESSES_MAX)
		return INVALID(err, "more than %d auxiliary addresses in subnet %s", ADDRESSES_MAX,
			       ps->subnet);
	n->n_pools++;
	p->aux = xnew_array(struct ip, ps->aux.n + 1);
	for (; p->n_aux < ps->aux.n; p->n_aux++) {
		if (parse_member("auxiliary address", ps->aux.v[p->n_aux].value, p, ps->subnet,
				 &p->aux[p->n_aux], err) < 0)
			return -1;
	}
	p->gateway = first_address(&p->subnet);
	if (!str_empty(ps->gateway))
		return parse_member("gateway", ps->gateway, p, ps->subnet, &p->gateway, err);
	free(ps->gateway);
	ps->gateway = ip_string(&p->gateway);
	return 0;
}

static int pools_parse(struct network *n, struct error *err)
{
	n->pools = xnew_array(struct pool, n->spec.pools.n + 1);
	for (size_t i = 0; i < n->spec.pools.n; i++) {
		if (pool_parse(n, &n->spec.pools.v[i], err) < 0)
			return -1;
	}
	return 0;
}

static bool is_v6(const struct pool_spec *p)
{
	return p->subnet && strchr(p->subnet, ':');
}

static void pool_spec_free(struct pool_spec *p)
{
	free(p->subnet);
	free(p->range);
	free(p->gateway);
	kvs_done(&p->aux);
}

/* Those of a family that is off are ignored, as Docker does. */
static void drop_unused(struct network_spec *spec)
{
	size_t kept = 0;

	for (size_t i = 0; i < spec->pools.n; i++) {
		if (is_v6(&spec->pools.v[i]) ? spec->ipv6 : !spec->no_ipv4)
			spec->pools.v[kept++] = spec->pools.v[i];
		else
			pool_spec_free(&spec->pools.v[i]);
	}
	spec->pools.n = kept;
}

static int add_chosen(struct network_service *s, struct network *n, enum family f,
		      struct pool_spec *into, struct error *err)
{
	struct subnet chosen;
	char text[SUBNET_TEXT_MAX];

	if ((f == FAMILY_4 ? choose_v4(s, n, &chosen, err) : choose_v6(s, n, &chosen, err)) < 0)
		return -1;
	subnet_format(&chosen, text);
	if (!into) {
		n->spec.pools.v = xreallocarray(n->spec.pools.v, n->spec.pools.n + 1,
						sizeof(*n->spec.pools.v));
		into = &n->spec.pools.v[n->spec.pools.n++];
		*into = (struct pool_spec){ 0 };
	}
	into->subnet = xstrdup(text);
	return 0;
}

/* A subnet for each family that is on and has none. */
static int complete(struct network_service *s, struct network *n, struct error *err)
{
	bool has[FAMILY_MAX] = { n->spec.no_ipv4, !n->spec.ipv6 };

	n->spec.pools_chosen = true;
	for (size_t i = 0; i < n->spec.pools.n; i++) {
		struct pool_spec *p = &n->spec.pools.v[i];

		if (!str_empty(p->subnet)) {
			has[is_v6(p)] = true;
			n->spec.pools_chosen = false;
			continue;
		}
		if (!str_empty(p->gateway) || !str_empty(p->range))
			return INVALID(err, "invalid subnet %s: invalid CIDR block notation", "");
		if (has[FAMILY_4])
			return INVALID(err, "more than one pool without a subnet");
		str_replace(&p->subnet, NULL);
		if (add_chosen(s, n, FAMILY_4, p, err) < 0)
			return -1;
		has[FAMILY_4] = true;
	}
	for (enum family f = FAMILY_4; f < FAMILY_MAX; f++) {
		if (!has[f] && add_chosen(s, n, f, NULL, err) < 0)
			return -1;
	}
	return 0;
}

int pools_plan(struct network_service *s, struct network *n, struct error *err)
{
	if (n->spec.pools.n > ADDRESSES_MAX)
		return INVALID(err, "more than %d subnets", ADDRESSES_MAX);
	drop_unused(&n->spec);
	if (complete(s, n, err) < 0 || pools_parse(n, err) < 0)
		return -1;
	for (size_t i = 0; i < n->n_pools; i++) {
		bool twice = pool_taken(s, n, &n->pools[i].subnet);

		for (size_t k = 0; k < i; k++)
			twice |= subnet_overlaps(&n->pools[k].subnet, &n->pools[i].subnet);
		if (twice)
			return error_set(err, ERROR_PERMISSION_DENIED,
					 "invalid pool request: Pool overlaps with other one on "
					 "this address space");
	}
	return 0;
}

int pools_load(struct network *n, struct error *err)
{
	return pools_parse(n, err);
}

int pool_choose_default(struct network_service *s, struct network *n, struct error *err)
{
	if (add_chosen(s, n, FAMILY_4, NULL, err) < 0)
		return -1;
	free(n->pools);
	n->n_pools = 0;
	return pools_parse(n, err);
}

static bool in_use(const struct network *n, const struct pool *p, enum family f, const struct ip *a)
{
	if (ip_compare(a, &p->gateway) == 0)
		return true;
	for (size_t i = 0; i < p->n_aux; i++) {
		if (ip_compare(a, &p->aux[i]) == 0)
			return true;
	}
	LIST_FOREACH (t, &n->attachments, struct attachment, node) {
		if (ip_compare(a, &t->ip[f]) == 0)
			return true;
	}
	return false;
}

/* The network's own address, and IPv4's broadcast, are nobody's. */
static bool reserved(const struct pool *p, const struct ip *a)
{
	struct ip last = subnet_last(&p->subnet);

	return ip_compare(a, &p->subnet.net) == 0 || (a->len == 4 && ip_compare(a, &last) == 0);
}

static bool lowest_free(const struct network *n, const struct pool *p, enum family f,
			struct ip *ret)
{
	struct ip last = subnet_last(&p->range), a = p->range.net;

	for (;; ip_increment(&a)) {
		if (!reserved(p, &a) && !in_use(n, p, f, &a)) {
			*ret = a;
			return true;
		}
		if (ip_compare(&a, &last) == 0)
			return false;
	}
}

const struct pool *pool_of(const struct network *n, enum family f, const struct ip *a)
{
	for (size_t i = 0; i < n->n_pools; i++) {
		const struct pool *p = &n->pools[i];

		if (p->subnet.net.len == (f == FAMILY_4 ? 4 : 16) &&
		    (!a || subnet_contains(&p->subnet, a)))
			return p;
	}
	return NULL;
}

int address_choose(const struct network *n, enum family f, const struct ip *wanted,
		   const struct pool **ret_pool, struct ip *ret, struct error *err)
{
	char text[IP_TEXT_MAX];

	if (wanted) {
		const struct pool *p = pool_of(n, f, wanted);

		ip_format(wanted, text);
		if (!p || reserved(p, wanted))
			return error_set(
				err, ERROR_INVALID_ARGUMENT,
				"invalid endpoint settings:\nno configured subnet contains IP "
				"address %s",
				text);
		if (in_use(n, p, f, wanted))
			return error_set(err, ERROR_PERMISSION_DENIED, "Address already in use");
		*ret = *wanted;
		*ret_pool = p;
		return 0;
	}
	for (size_t i = 0; i < n->n_pools; i++) {
		const struct pool *p = &n->pools[i];

		if (p->subnet.net.len != (f == FAMILY_4 ? 4 : 16) || !lowest_free(n, p, f, ret))
			continue;
		*ret_pool = p;
		return 0;
	}
	return error_set(err, ERROR_RESOURCE_EXHAUSTED,
			 "no available IPv%d addresses on this network's address pools: %s (%s)",
			 f == FAMILY_4 ? 4 : 6, n->spec.name, n->id);
}
