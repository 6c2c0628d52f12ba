/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container joins and leaves networks. The order makes every crash recoverable: addresses, ports
 * and the record first (network_reconcile() releases them), then links, which die with their
 * namespace, then routes and rules, which go with the record.
 *
 * One endpoint of a family is the gateway: it has the default route and the published ports. Which
 * one follows from what there is (gateway_choose), and may change with each that comes or goes.
 */

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "network/dns-server.h"
#include "network/interface.h"
#include "network/internal.h"

#include <fcntl.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>

void attachment_free(struct attachment *a)
{
	for (size_t i = 0; a->reservations && i < a->endpoint.ports.n; i++)
		closep(&a->reservations[i]);
	free(a->reservations);
	list_remove(&a->node);
	list_remove(&a->netspace_node);
	endpoint_done(&a->endpoint);
	free(a);
}

void netspace_free(struct netspace *b)
{
	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node)
		attachment_free(a);
	port_mappings_done(&b->ports);
	strv_done(&b->dns);
	strv_done(&b->host_dns);
	free(b->container_id);
	free(b->name);
	free(b);
}

struct attachment *attachment_find(struct netspace *b, const char *network)
{
	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node) {
		if (str_equal(a->network->id, network) || str_equal(a->network->spec.name, network))
			return a;
	}
	return NULL;
}

int attachment_count(const struct netspace *b)
{
	int n = 0;

	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node)
		n += a->netspace == b;
	return n;
}

static int mac_parse(const char *s, uint8_t mac[6], struct error *err)
{
	unsigned v[6];
	char end;

	if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%c", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
		   &end) != 6)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid MAC address: %s", s);
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)v[i];
	return 0;
}

static int mac_choose(struct attachment *a, const char *asked, struct error *err)
{
	if (!str_empty(asked)) {
		if (mac_parse(asked, a->mac, err) < 0)
			return -1;
	} else {
		a->mac[0] = 0x02;
		a->mac[1] = 0x42;
		random_bytes(a->mac + 2, 4);
		if (ip_is_set(&a->ip[FAMILY_4]))
			memcpy(a->mac + 2, a->ip[FAMILY_4].b, 4);
	}
	a->endpoint.mac = xasprintf("%02x:%02x:%02x:%02x:%02x:%02x", a->mac[0], a->mac[1],
				    a->mac[2], a->mac[3], a->mac[4], a->mac[5]);
	return 0;
}

static bool ifname_taken(const struct netspace *b, const char *name)
{
	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node) {
		if (str_equal(a->endpoint.ifname, name))
			return true;
	}
	return false;
}

static int ifname_choose(const struct netspace *b, const struct network *n, const char *asked,
			 char **ret, struct error *err)
{
	if (!str_empty(asked)) {
		if (strlen(asked) >= IFNAMSIZ || strpbrk(asked, "/ :%") || str_equal(asked, "lo") ||
		    ifname_taken(b, asked))
			return error_set(err, ERROR_INVALID_ARGUMENT, "invalid interface name: %s",
					 asked);
		*ret = xstrdup(asked);
		return 0;
	}
	for (unsigned i = 0;; i++) {
		autofree char *name = xasprintf(
			"%s%u", str_empty(n->options.if_prefix) ? "eth" : n->options.if_prefix, i);

		if (!ifname_taken(b, name)) {
			*ret = TAKE_PTR(name);
			return 0;
		}
	}
}

static int address_plan(struct attachment *a, enum family f, const char *asked, struct error *err)
{
	const struct network *n = a->network;
	struct endpoint *e = &a->endpoint;
	const struct pool *p;
	struct ip wanted;

	if (str_empty(asked) && !pool_of(n, f, NULL))
		return 0;
	if (!str_empty(asked)) {
		if (ip_parse(asked, &wanted) < 0 || (wanted.len == 16) != (f == FAMILY_6))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "invalid endpoint settings:\ninvalid IPv%d address: %s",
					 f == FAMILY_6 ? 6 : 4, asked);
		if (n->spec.pools_chosen)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "user specified IP address is supported only when "
					 "connecting to networks with user configured subnets");
	}
	if (address_choose(n, f, str_empty(asked) ? NULL : &wanted, &p, &a->ip[f], err) < 0)
		return -1;
	char *gateway = n->spec.internal ? NULL : ip_string(&p->gateway);
	if (f == FAMILY_4) {
		e->ip = ip_string(&a->ip[f]);
		e->prefix = p->subnet.prefix;
		e->gateway = gateway;
	} else {
		e->ip6 = ip_string(&a->ip[f]);
		e->prefix6 = p->subnet.prefix;
		e->gateway6 = gateway;
	}
	return 0;
}

/* Names and addresses; in the tables when this succeeds. With the lock held. */
static int attachment_plan(struct netspace *b, struct network *n, const struct endpoint_request *r,
			   struct attachment **ret, struct error *err)
{
	struct attachment *a = xnew(struct attachment);
	struct endpoint *e = &a->endpoint;
	char id[65];

	random_hex(32, id);
	list_init(&a->node);
	list_init(&a->netspace_node);
	a->network = n;
	a->netspace = b;
	e->network = xstrdup(n->spec.name);
	e->network_id = xstrdup(n->id);
	e->driver = xstrdup(n->spec.driver);
	e->endpoint_id = xstrdup(id);
	e->gw_priority = r->gw_priority;
	if (n->driver == &bridge_driver)
		e->host_ifname = xasprintf("veth%.8s", id);
	if (r->dns_names)
		strv_copy(&e->dns_names, r->dns_names);
	if (r->links)
		strv_copy(&e->links, r->links);
	if (address_plan(a, FAMILY_4, r->ip, err) < 0 ||
	    address_plan(a, FAMILY_6, r->ip6, err) < 0 || mac_choose(a, r->mac, err) < 0 ||
	    ifname_choose(b, n, r->ifname, &e->ifname, err) < 0) {
		attachment_free(a);
		return -1;
	}
	list_append(&n->attachments, &a->node);
	list_append(&b->attachments, &a->netspace_node);
	*ret = a;
	return 0;
}

/* Finds the network and brings it to the host. With `setup` held, which also keeps it from being
 * removed while a container joins it. */
static struct network *network_enter(struct network_service *s, const char *name, struct error *err)
{
	struct network *n;

	pthread_mutex_lock(&s->lock);
	n = network_find(s, name);
	pthread_mutex_unlock(&s->lock);
	if (!n)
		error_set(err, ERROR_NOT_FOUND, "network %s not found", name);
	else if (!n->driver)
		error_set(err, ERROR_INVALID_ARGUMENT, "network '%s' has no endpoints of its own",
			  name);
	else if (n->driver->ensure(s, n, err) == 0)
		return n;
	return NULL;
}

static bool better(const struct attachment *a, const struct attachment *than)
{
	if (!than || a->endpoint.gw_priority != than->endpoint.gw_priority)
		return !than || a->endpoint.gw_priority > than->endpoint.gw_priority;
	return strcmp(a->network->spec.name, than->network->spec.name) < 0;
}

static struct attachment *gateway_choose(const struct netspace *b, enum family f)
{
	struct attachment *best = NULL;

	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node) {
		if (!a->leaving && !a->network->spec.internal && ip_is_set(&a->ip[f]) &&
		    better(a, best))
			best = a;
	}
	return best;
}

/* What changes with the gateways: filled by gateways_plan(). */
struct change {
	struct attachment *from[FAMILY_MAX], *to[FAMILY_MAX];
	struct nft_port *withdrawn[FAMILY_MAX];
	size_t n_withdrawn[FAMILY_MAX];
};

static void change_done(struct change *c)
{
	for (enum family f = FAMILY_4; f < FAMILY_MAX; f++)
		free(c->withdrawn[f]);
}

static bool publishes(const struct attachment *a)
{
	return a && a->network->driver == &bridge_driver;
}

/* With the lock held. */
static int gateways_plan(struct network_service *s, struct netspace *b, struct change *c,
			 struct error *err)
{
	for (enum family f = FAMILY_4; f < FAMILY_MAX; f++) {
		struct attachment *from = b->gateway[f], *to = gateway_choose(b, f);

		c->from[f] = from;
		c->to[f] = to;
		if (from == to)
			continue;
		b->gateway[f] = to;
		if (publishes(from)) {
			c->withdrawn[f] = xnew_array(struct nft_port, from->endpoint.ports.n + 1);
			c->n_withdrawn[f] = ports_to_nft(from, f, c->withdrawn[f]);
		}
		if (publishes(from) && publishes(to))
			ports_move(from, to, f);
		else if (publishes(from))
			ports_release(from, f);
		else if (publishes(to) && ports_bind(s, to, f, err) < 0)
			return -1;
	}
	return 0;
}

static int publish(struct network_service *s, const struct attachment *a, enum family f,
		   struct error *err)
{
	autofree struct nft_port *ports = NULL;
	size_t n;
	int r;

	if (!publishes(a) || a->network->options.routed[f] || a->endpoint.ports.n == 0)
		return 0;
	ports = xnew_array(struct nft_port, a->endpoint.ports.n + 1);
	n = ports_to_nft(a, f, ports);
	/* Not while somebody makes the table anew. */
	pthread_mutex_lock(&s->setup);
	r = nft_ports_add(a->network->link, ports, n, err);
	pthread_mutex_unlock(&s->setup);
	return r;
}

/* Default routes and published ports as planned. */
static int gateways_apply(struct network_service *s, const struct change *c, struct link_ends *ends,
			  struct error *err)
{
	for (enum family f = FAMILY_4; f < FAMILY_MAX; f++) {
		sa_family_t family = f == FAMILY_4 ? AF_INET : AF_INET6;
		struct attachment *from = c->from[f], *to = c->to[f];
		static const struct ip none;

		if (from == to)
			continue;
		if (publishes(from) && nft_ports_remove(from->network->link, c->withdrawn[f],
							c->n_withdrawn[f], err) < 0)
			return -1;
		if (from && route_delete_default(&ends->inside, family, err) < 0)
			return -1;
		if (!to)
			continue;
		bool by_link = to->network->driver == &ipvlan_driver &&
			       to->network->options.mode != IPVLAN_MODE_L2;
		const struct pool *p = pool_of(to->network, f, &to->ip[f]);
		if (to->ifindex == 0) /* a former daemon made it */
			to->ifindex = link_index(&ends->inside, to->endpoint.ifname);
		if (route_add_default_by(&ends->inside, to->ifindex, family,
					 by_link ? &none : &p->gateway, err) < 0 ||
		    publish(s, to, f, err) < 0)
			return -1;
	}
	return 0;
}

static void ends_done(struct link_ends *ends)
{
	netlink_done(&ends->host);
	netlink_done(&ends->inside);
}

static int ends_open(struct link_ends *ends, int netns_fd, struct error *err)
{
	ends->netns_fd = netns_fd;
	return netlink_open(&ends->host, err) < 0 ||
			       netlink_open_in(&ends->inside, netns_fd, err) < 0
		       ? -1
		       : 0;
}

/* The interface, with addresses, up. */
static int attachment_make(struct attachment *a, struct link_ends *ends, struct error *err)
{
	const struct endpoint *e = &a->endpoint;

	if (a->network->driver->join(a->network, a, ends, err) < 0)
		return -1;
	a->ifindex = link_index(&ends->inside, e->ifname);
	if (ip_is_set(&a->ip[FAMILY_4]) &&
	    ip_address_add(&ends->inside, a->ifindex, &a->ip[FAMILY_4], e->prefix, err) < 0)
		return -1;
	if (ip_is_set(&a->ip[FAMILY_6]) &&
	    ip_address_add(&ends->inside, a->ifindex, &a->ip[FAMILY_6], e->prefix6, err) < 0)
		return -1;
	return link_up(&ends->inside, a->ifindex, err);
}

static void copy_out(const struct netspace *b, struct endpoints *ret)
{
	*ret = (struct endpoints){ 0 };
	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node) {
		GROW_ARRAY(ret->v, ret->n);
		endpoint_copy(&ret->v[ret->n++], &a->endpoint);
	}
}

static struct netspace *netspace_new(const struct netspace_request *r)
{
	struct netspace *b = xnew(struct netspace);
	autofree char *host = resolv_conf_host();

	list_init(&b->attachments);
	b->container_id = xstrdup(r->container_id);
	b->name = xstrdup(r->name ? r->name : r->container_id);
	port_mappings_copy(&b->ports, r->ports, r->n_ports);
	if (r->dns)
		strv_copy(&b->dns, r->dns);
	if (host && b->dns.n == 0)
		resolv_conf_servers(host, &b->host_dns);
	return b;
}

/* All endpoints of a new netspace. With `setup` held. */
static int netspace_plan(struct network_service *s, struct netspace *b,
			 const struct netspace_request *r, struct change *c, struct error *err)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < r->n_endpoints; i++) {
		struct network *n = network_enter(s, r->endpoints[i].network, err);
		struct attachment *a;

		if (!n)
			return -1;
		pthread_mutex_lock(&s->lock);
		result = attachment_plan(b, n, &r->endpoints[i], &a, err);
		pthread_mutex_unlock(&s->lock);
	}
	if (result < 0)
		return -1;
	pthread_mutex_lock(&s->lock);
	result = gateways_plan(s, b, c, err);
	pthread_mutex_unlock(&s->lock);
	return result;
}

static int check_request(struct network_service *s, const struct netspace_request *r,
			 struct error *err)
{
	bool known;

	if (r->n_ports > PORTS_MAX || r->n_endpoints > ENDPOINTS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "more than %d published ports or %d networks", PORTS_MAX,
				 ENDPOINTS_MAX);
	pthread_mutex_lock(&s->lock);
	known = map_get(&s->netspaces, r->container_id);
	pthread_mutex_unlock(&s->lock);
	return known ? error_set(err, ERROR_ALREADY_EXISTS,
				 "container '%s' is attached to networks already", r->container_id)
		     : 0;
}

static int netspace_make(struct network_service *s, int netns_fd, struct netspace *b,
			 const struct change *c, struct error *err)
{
	CLEANUP(ends_done) struct link_ends ends = { 0 };

	if ((dns_wanted(b) && dns_open(s, b, netns_fd, err) < 0) || netspace_save(s, b, err) < 0 ||
	    ends_open(&ends, netns_fd, err) < 0)
		return -1;
	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node) {
		if (attachment_make(a, &ends, err) < 0)
			return -1;
	}
	return gateways_apply(s, c, &ends, err);
}

int network_attach(struct network_service *s, int netns_fd, const struct netspace_request *r,
		   struct endpoints *ret, struct error *err)
{
	CLEANUP(change_done) struct change c = { 0 };
	struct netspace *b;
	int result;

	if (check_request(s, r, err) < 0)
		return -1;
	b = netspace_new(r);
	pthread_mutex_lock(&s->lock);
	map_set(&s->netspaces, b->container_id, b);
	pthread_mutex_unlock(&s->lock);
	pthread_mutex_lock(&s->setup);
	result = netspace_plan(s, b, r, &c, err);
	pthread_mutex_unlock(&s->setup);
	if (result < 0 || netspace_make(s, netns_fd, b, &c, err) < 0) {
		network_detach(s, r->container_id, NULL);
		return -1;
	}
	copy_out(b, ret);
	return 0;
}

static struct netspace *netspace_get(struct network_service *s, const char *container_id,
				     struct error *err)
{
	struct netspace *b;

	pthread_mutex_lock(&s->lock);
	b = map_get(&s->netspaces, container_id);
	pthread_mutex_unlock(&s->lock);
	if (!b)
		error_set(err, ERROR_NOT_FOUND, "container '%s' is not attached to any network",
			  container_id);
	return b;
}

/* Off the host and off the tables; its ports have been withdrawn. */
static int attachment_leave(struct network_service *s, struct attachment *a, struct netlink *host,
			    struct netlink *inside, struct error *err)
{
	if (a->endpoint.host_ifname) {
		if (link_delete(host, a->endpoint.host_ifname, err) < 0)
			return -1;
	} else if (inside && link_delete(inside, a->endpoint.ifname, err) < 0) {
		return -1;
	}
	/* Last, so that nobody gets the address before it is free. */
	pthread_mutex_lock(&s->lock);
	for (enum family f = FAMILY_4; f < FAMILY_MAX; f++) {
		if (a->netspace->gateway[f] == a)
			a->netspace->gateway[f] = NULL;
	}
	attachment_free(a);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int leave(struct network_service *s, struct netspace *b, struct attachment *a,
		 struct link_ends *ends, struct error *err)
{
	CLEANUP(change_done) struct change c = { 0 };
	int r;

	pthread_mutex_lock(&s->lock);
	a->leaving = true;
	r = gateways_plan(s, b, &c, err);
	pthread_mutex_unlock(&s->lock);
	if (r < 0 || gateways_apply(s, &c, ends, err) < 0)
		return -1;
	if (attachment_leave(s, a, &ends->host, &ends->inside, err) < 0)
		return -1;
	return netspace_save(s, b, err);
}

static int enter(struct network_service *s, struct netspace *b, const struct endpoint_request *r,
		 struct link_ends *ends, struct error *err)
{
	CLEANUP(change_done) struct change c = { 0 };
	struct attachment *a = NULL;
	struct network *n;
	int result = -1;

	pthread_mutex_lock(&s->setup);
	n = network_enter(s, r->network, err);
	if (n) {
		pthread_mutex_lock(&s->lock);
		result = attachment_find(b, n->id)
				 ? error_set(err, ERROR_PERMISSION_DENIED,
					     "endpoint with name %s already exists in network %s",
					     b->name, n->spec.name)
				 : attachment_plan(b, n, r, &a, err);
		if (result == 0)
			result = gateways_plan(s, b, &c, err);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&s->setup);
	if (result == 0 && b->dns_port[0] == 0 && dns_wanted(b))
		result = dns_open(s, b, ends->netns_fd, err);
	if (result == 0 && (netspace_save(s, b, err) < 0 || attachment_make(a, ends, err) < 0 ||
			    gateways_apply(s, &c, ends, err) < 0))
		result = -1;
	if (result < 0 && a)
		leave(s, b, a, ends, NULL);
	return result;
}

int network_connect(struct network_service *s, int netns_fd, const char *container_id,
		    const struct endpoint_request *r, struct endpoints *ret, struct error *err)
{
	CLEANUP(ends_done) struct link_ends ends = { 0 };
	struct netspace *b = netspace_get(s, container_id, err);

	if (!b || ends_open(&ends, netns_fd, err) < 0)
		return -1;
	if (attachment_count(b) >= ENDPOINTS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "more than %d networks",
				 ENDPOINTS_MAX);
	if (enter(s, b, r, &ends, err) < 0)
		return -1;
	copy_out(b, ret);
	return 0;
}

int network_disconnect(struct network_service *s, int netns_fd, const char *container_id,
		       const char *network, struct endpoints *ret, struct error *err)
{
	CLEANUP(ends_done) struct link_ends ends = { 0 };
	struct netspace *b = netspace_get(s, container_id, err);
	struct attachment *a = b ? attachment_find(b, network) : NULL;

	if (!b)
		return -1;
	if (!a)
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "container %s is not connected to network %s", container_id,
				 network);
	if (ends_open(&ends, netns_fd, err) < 0 || leave(s, b, a, &ends, err) < 0)
		return -1;
	copy_out(b, ret);
	return 0;
}

int network_rename(struct network_service *s, const char *container_id, const char *network,
		   const struct strv *dns_names, struct error *err)
{
	struct netspace *b;
	struct attachment *a;

	pthread_mutex_lock(&s->lock);
	b = map_get(&s->netspaces, container_id);
	a = b ? attachment_find(b, network) : NULL;
	if (a) {
		strv_done(&a->endpoint.dns_names);
		strv_copy(&a->endpoint.dns_names, dns_names);
	}
	pthread_mutex_unlock(&s->lock);
	return a ? netspace_save(s, b, err) : 0;
}

static int withdraw_all(struct network_service *s, struct netspace *b, struct error *err)
{
	for (enum family f = FAMILY_4; f < FAMILY_MAX; f++) {
		LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node) {
			autofree struct nft_port *ports = NULL;
			size_t n;
			int r;

			if (!publishes(a) || a->endpoint.ports.n == 0)
				continue;
			ports = xnew_array(struct nft_port, a->endpoint.ports.n + 1);
			pthread_mutex_lock(&s->setup);
			pthread_mutex_lock(&s->lock);
			n = ports_to_nft(a, f, ports);
			ports_release(a, f);
			pthread_mutex_unlock(&s->lock);
			r = nft_ports_remove(a->network->link, ports, n, err);
			pthread_mutex_unlock(&s->setup);
			if (r < 0)
				return -1;
		}
	}
	return 0;
}

/* A restart's reconciliation and a container's own end may come together: one does it, the other
 * waits for it. NULL: there is nothing to do any more. */
static struct netspace *detach_begin(struct network_service *s, const char *container_id)
{
	struct netspace *b;

	pthread_mutex_lock(&s->lock);
	while ((b = map_get(&s->netspaces, container_id)) && b->detaching)
		pthread_cond_wait(&s->detached, &s->lock);
	if (b)
		b->detaching = true;
	pthread_mutex_unlock(&s->lock);
	return b;
}

/* Ends it; gone: there is no such netspace any more. */
static void detach_end(struct network_service *s, struct netspace *b, bool gone)
{
	pthread_mutex_lock(&s->lock);
	if (gone) {
		map_remove(&s->netspaces, b->container_id);
		netspace_free(b);
	} else {
		b->detaching = false;
	}
	pthread_cond_broadcast(&s->detached);
	pthread_mutex_unlock(&s->lock);
}

static int detach(struct network_service *s, struct netspace *b, struct error *err)
{
	autonetlink struct netlink nl = NETLINK_INIT;

	if (netlink_open(&nl, err) < 0 || withdraw_all(s, b, err) < 0)
		return -1;
	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node) {
		if (attachment_leave(s, a, &nl, NULL, err) < 0)
			return -1;
	}
	netspace_forget(s, b->container_id);
	if (b->dns_port[0])
		dns_close(s, b->container_id);
	return 0;
}

int network_detach(struct network_service *s, const char *container_id, struct error *err)
{
	struct netspace *b = detach_begin(s, container_id);

	if (!b)
		return 0;
	int r = detach(s, b, err);
	detach_end(s, b, /* gone */ r == 0);
	if (r < 0)
		return error_wrap(err, "detach container '%s' from its networks", container_id);
	return 0;
}

static const struct network_alive *find_alive(const struct network_alive *alive, size_t n,
					      const char *container_id)
{
	for (size_t i = 0; i < n; i++) {
		if (str_equal(alive[i].container_id, container_id))
			return &alive[i];
	}
	return NULL;
}

static int release_gone(struct network_service *s, const struct network_alive *alive, size_t n,
			struct error *err)
{
	autostrv struct strv gone = STRV_INIT;

	pthread_mutex_lock(&s->lock);
	MAP_FOREACH (entry, &s->netspaces) {
		if (!find_alive(alive, n, map_key(entry)))
			strv_push(&gone, map_key(entry));
	}
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < gone.n; i++) {
		if (network_detach(s, gone.v[i], err) < 0)
			return -1;
	}
	return 0;
}

/* Ports first: their rules have worked all the time, and go on doing so. */
static int take_over(struct network_service *s, struct error *err)
{
	int r = 0;

	pthread_mutex_lock(&s->setup);
	pthread_mutex_lock(&s->lock);
	MAP_FOREACH (entry, &s->netspaces) {
		struct netspace *b = map_value(entry);

		for (enum family f = FAMILY_4; f < FAMILY_MAX; f++)
			b->gateway[f] = gateway_choose(b, f);
		LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node)
			ports_reserve(a);
	}
	pthread_mutex_unlock(&s->lock);
	LIST_FOREACH (n, &s->networks, struct network, node) {
		autoerror struct error why = ERROR_INIT;

		if (!n->driver || list_is_empty(&n->attachments) ||
		    n->driver->ensure(s, n, &why) == 0)
			continue;
		/* The others are no worse for it. */
		r = -1;
		error_move(err, &why);
	}
	pthread_mutex_unlock(&s->setup);
	return r;
}

/* The name servers of those that go on. */
static void reopen_dns(struct network_service *s, const struct network_alive *alive, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct netspace *b = netspace_get(s, alive[i].container_id, NULL);
		autofree char *path = xasprintf("/proc/%d/ns/net", alive[i].pid);
		autoerror struct error err = ERROR_INIT;
		autoclose int netns = -EBADF;

		if (!b || !dns_wanted(b))
			continue;
		netns = open(path, O_RDONLY | O_CLOEXEC);
		if (netns < 0)
			error_errno(&err, errno, "open '%s'", path);
		else if (dns_open(s, b, netns, &err) == 0)
			netspace_save(s, b, &err);
		if (err.code)
			log_err("container '%s': %s, ignoring", alive[i].container_id,
				error_msg(&err));
	}
}

int network_reconcile(struct network_service *s, const struct network_alive *alive, size_t n,
		      struct error *err)
{
	if (release_gone(s, alive, n, err) < 0)
		return -1;
	reopen_dns(s, alive, n);
	return take_over(s, err);
}
