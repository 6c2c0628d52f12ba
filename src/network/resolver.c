/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is called what, seen from one container: names, aliases and short ids on the networks that
 * users have made and that it is in; "name.network" too; links by their aliases. On the default
 * network nobody has a name.
 */

#include "base/mem.h"
#include "base/random.h"
#include "network/dns-server.h"
#include "network/internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool named(const struct attachment *a)
{
	return !str_equal(a->network->spec.name, DEFAULT_NETWORK);
}

static bool is_called(const struct attachment *a, const char *name)
{
	for (size_t i = 0; i < a->endpoint.dns_names.n; i++) {
		if (strcasecmp(a->endpoint.dns_names.v[i], name) == 0)
			return true;
	}
	return false;
}

static void add_addresses(const struct attachment *a, uint16_t type, struct dns_answer *out)
{
	enum family f = type == DNS_AAAA ? FAMILY_6 : FAMILY_4;

	if ((type == DNS_A || type == DNS_AAAA) && ip_is_set(&a->ip[f]) &&
	    out->n < DNS_ADDRESSES_MAX)
		out->addresses[out->n++] = a->ip[f];
}

/* All of a network that are called so. */
static bool by_name(const struct network *n, const char *name, uint16_t type,
		    struct dns_answer *out)
{
	bool found = false;

	LIST_FOREACH (a, &n->attachments, struct attachment, node) {
		if (!is_called(a, name))
			continue;
		found = true;
		add_addresses(a, type, out);
	}
	return found;
}

/* "container:alias" */
static bool by_link(const struct attachment *own, const char *name, uint16_t type,
		    struct dns_answer *out)
{
	const struct strv *links = &own->endpoint.links;

	for (size_t i = 0; i < links->n; i++) {
		autofree char *target = xstrndup(links->v[i], strcspn(links->v[i], ":"));
		const char *colon = strchr(links->v[i], ':');

		if (strcasecmp(colon ? colon + 1 : target, name) != 0)
			continue;
		if (by_name(own->network, target[0] == '/' ? target + 1 : target, type, out))
			return true;
		LIST_FOREACH (a, &own->network->attachments, struct attachment, node) {
			if (!str_has_prefix(a->netspace->container_id, target))
				continue;
			add_addresses(a, type, out);
			return true;
		}
	}
	return false;
}

/* Networks of higher priority are asked first; the first that knows the name is it. */
static const struct attachment *next_own(const struct netspace *b, const struct attachment *after)
{
	const struct attachment *best = NULL;
	bool passed = !after;

	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node) {
		int64_t prio = a->endpoint.gw_priority;
		bool later;

		if (a == after) {
			passed = true;
			continue;
		}
		later = !after || prio < after->endpoint.gw_priority ||
			(passed && prio == after->endpoint.gw_priority);
		if (later && (!best || prio > best->endpoint.gw_priority))
			best = a;
	}
	return best;
}

static bool on_network(const struct netspace *b, const char *name, const char *network,
		       uint16_t type, struct dns_answer *out)
{
	for (const struct attachment *a = next_own(b, NULL); a; a = next_own(b, a)) {
		if (!named(a) || (network && strcasecmp(a->network->spec.name, network) != 0))
			continue;
		if (by_link(a, name, type, out) || by_name(a->network, name, type, out))
			return true;
	}
	return false;
}

/* The whole as a name, or its end as a network's: both may have dots. */
static bool find(const struct netspace *b, const char *name, uint16_t type, struct dns_answer *out)
{
	autofree char *copy = xstrdup(name);
	size_t len = strlen(name);

	if (on_network(b, name, NULL, type, out))
		return true;
	for (size_t i = len; i-- > 1;) {
		bool found;

		if (name[i] != '.')
			continue;
		copy[i] = '\0';
		found = on_network(b, copy, name + i + 1, type, out);
		if (found)
			return true;
	}
	return false;
}

static bool find_reverse(const struct netspace *b, const struct ip *ip, struct dns_answer *out)
{
	enum family f = ip->len == 16 ? FAMILY_6 : FAMILY_4;

	LIST_FOREACH (own, &b->attachments, struct attachment, netspace_node) {
		LIST_FOREACH (a, &own->network->attachments, struct attachment, node) {
			if (!named(a) || ip_compare(&a->ip[f], ip) != 0 ||
			    a->endpoint.dns_names.n == 0)
				continue;
			snprintf(out->ptr, sizeof(out->ptr), "%s.%s", a->endpoint.dns_names.v[0],
				 a->network->spec.name);
			return true;
		}
	}
	return false;
}

/* Who shares a name shares the load. */
static void shuffle(struct dns_answer *a)
{
	for (size_t i = a->n; i > 1; i--) {
		size_t k = random_u64() % i;
		struct ip t = a->addresses[i - 1];

		a->addresses[i - 1] = a->addresses[k];
		a->addresses[k] = t;
	}
}

enum dns_verdict netspace_resolve(struct network_service *s, const char *container_id,
				  const struct dns_query *q, struct dns_answer *ret)
{
	enum dns_verdict verdict = DNS_REFUSE;
	struct netspace *b;
	struct ip ip;

	*ret = (struct dns_answer){ 0 };
	pthread_mutex_lock(&s->lock);
	b = map_get(&s->netspaces, container_id);
	if (b) {
		bool found = q->type == DNS_PTR && dns_reverse_parse(q->name, &ip) == 0
				     ? find_reverse(b, &ip, ret)
				     : q->name[0] && find(b, q->name, q->type, ret);

		verdict = found						 ? DNS_ANSWER
			  : b->gateway[FAMILY_4] || b->gateway[FAMILY_6] ? DNS_FORWARD
									 : DNS_FORWARD_INSIDE;
	}
	pthread_mutex_unlock(&s->lock);
	shuffle(ret);
	return verdict;
}
