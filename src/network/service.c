/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"
#include "network/dns-server.h"
#include "network/internal.h"
#include "network/watch.h"
#include "oci/digest.h"
#include "store/containers.h"

#include <net/if.h>
#include <string.h>

#define DEFAULT_STATE "/run/kistl"
#define NETWORKS_MAX 1000

static const struct {
	const char *name, *driver;
} predefined[] = {
	{ "bridge", "bridge" },
	{ "host", "host" },
	{ "none", "null" },
};

void port_mappings_done(struct port_mappings *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->v[i].protocol);
		free(p->v[i].host_ip);
	}
	free(p->v);
	*p = (struct port_mappings){ 0 };
}

void port_mappings_copy(struct port_mappings *dst, const struct port_mapping *v, size_t n)
{
	*dst = (struct port_mappings){ 0 };
	if (n == 0)
		return;
	dst->v = xnew_array(struct port_mapping, n);
	for (; dst->n < n; dst->n++) {
		dst->v[dst->n] = v[dst->n];
		dst->v[dst->n].protocol =
			xstrdup(str_empty(v[dst->n].protocol) ? "tcp" : v[dst->n].protocol);
		dst->v[dst->n].host_ip = xstrdup(v[dst->n].host_ip);
	}
}

void endpoint_done(struct endpoint *e)
{
	jsontab_done(endpoint_fields, e);
	*e = (struct endpoint){ 0 };
}

void endpoint_copy(struct endpoint *dst, const struct endpoint *src)
{
	*dst = (struct endpoint){
		.network = xstrdup(src->network),
		.network_id = xstrdup(src->network_id),
		.driver = xstrdup(src->driver),
		.endpoint_id = xstrdup(src->endpoint_id),
		.ifname = xstrdup(src->ifname),
		.host_ifname = xstrdup(src->host_ifname),
		.mac = xstrdup(src->mac),
		.ip = xstrdup(src->ip),
		.prefix = src->prefix,
		.gateway = xstrdup(src->gateway),
		.ip6 = xstrdup(src->ip6),
		.prefix6 = src->prefix6,
		.gateway6 = xstrdup(src->gateway6),
		.gw_priority = src->gw_priority,
	};
	strv_copy(&dst->dns_names, &src->dns_names);
	strv_copy(&dst->links, &src->links);
	port_mappings_copy(&dst->ports, src->ports.v, src->ports.n);
}

void endpoints_done(struct endpoints *e)
{
	for (size_t i = 0; i < e->n; i++)
		endpoint_done(&e->v[i]);
	free(e->v);
	*e = (struct endpoints){ 0 };
}

void endpoints_copy(struct endpoints *dst, const struct endpoints *src)
{
	*dst = (struct endpoints){ 0 };
	if (src->n == 0)
		return;
	dst->v = xnew_array(struct endpoint, src->n);
	for (; dst->n < src->n; dst->n++)
		endpoint_copy(&dst->v[dst->n], &src->v[dst->n]);
}

void network_free(struct network *n)
{
	list_remove(&n->node);
	LIST_FOREACH (a, &n->attachments, struct attachment, node)
		attachment_free(a);
	network_spec_done(&n->spec);
	for (size_t i = 0; i < n->n_pools; i++)
		free(n->pools[i].aux);
	free(n->pools);
	free(n->options.lower);
	free(n->options.if_prefix);
	free(n->id);
	free(n->link);
	free(n);
}

/* Name, id, or a prefix of an id that is unique and long enough not to be a name by accident. */
struct network *network_find(struct network_service *s, const char *name_or_id)
{
	struct network *by_prefix = NULL;
	size_t len = strlen(name_or_id), hits = 0;

	LIST_FOREACH (n, &s->networks, struct network, node) {
		if (str_equal(n->spec.name, name_or_id) || str_equal(n->id, name_or_id))
			return n;
		if (len > 0 && strncmp(n->id, name_or_id, len) == 0) {
			by_prefix = n;
			hits++;
		}
	}
	if (str_equal(name_or_id, "default"))
		return network_find(s, "bridge");
	return hits == 1 ? by_prefix : NULL;
}

static struct network *network_new(const char *name, const char *driver)
{
	struct network *n = xnew(struct network);
	char id[65];

	random_hex(32, id);
	list_init(&n->node);
	list_init(&n->attachments);
	n->spec.name = xstrdup(name);
	n->spec.driver = xstrdup(driver);
	n->driver = driver_find(driver);
	n->id = xstrdup(id);
	n->created_at = time_realtime();
	return n;
}

/* Another instance on the same host needs another bridge: its name follows from its state
 * directory. */
static char *default_bridge(const struct network_service_config *config)
{
	char digest[DIGEST_MAX];

	if (config->bridge)
		return xstrdup(config->bridge);
	if (str_equal(config->state, DEFAULT_STATE))
		return xstrdup("kistl0");
	digest_bytes(config->state, strlen(config->state), digest);
	return xasprintf("kistl-%.8s", digest_hex(digest));
}

static int default_pool(struct network_service *s, struct network *n, const char *subnet,
			struct error *err)
{
	if (!subnet)
		return 0;
	n->spec.pools.v = xnew(struct pool_spec);
	n->spec.pools.n = 1;
	n->spec.pools.v[0].subnet = xstrdup(subnet);
	return pools_plan(s, n, err);
}

static int predefined_ensure(struct network_service *s, const struct network_service_config *config,
			     struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(predefined); i++) {
		struct network *n = network_find(s, predefined[i].name);

		if (!n) {
			n = network_new(predefined[i].name, predefined[i].driver);
			list_append(&s->networks, &n->node);
			if (i == 0 && (default_pool(s, n, config->subnet, err) < 0 ||
				       n->driver->configure(n, err) < 0))
				return -1;
			if (network_save(s, n, err) < 0)
				return -1;
		}
		if (i == 0) {
			free(n->link);
			n->link = default_bridge(config);
		}
	}
	return 0;
}

int network_service_new(const struct network_service_config *config, struct network_service **ret,
			struct error *err)
{
	struct network_service *s = xnew(struct network_service);
	int r;

	list_init(&s->networks);
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->setup, NULL);
	pthread_cond_init(&s->detached, NULL);
	s->store = (struct store_ctx){ .store = config->store, .ns = NETWORKS_NS };
	s->loop = config->loop;
	s->jobs = config->jobs;
	s->instance = xstrdup(config->state);
	s->dir = path_join(config->state, "network", NULL);
	r = fs_mkdir_p(s->dir, 0700);
	if (r < 0) {
		error_errno(err, -r, "make '%s'", s->dir);
		network_service_free(s);
		return -1;
	}
	if (networks_load(s, err) < 0 || predefined_ensure(s, config, err) < 0 ||
	    netspaces_load(s, err) < 0) {
		network_service_free(s);
		return error_wrap(err, "load networks");
	}
	if (s->loop) {
		s->dns = dns_service_new(s);
		s->watch = rules_watch_new(s);
	}
	*ret = s;
	return 0;
}

static void free_netspace(void *p)
{
	netspace_free(p);
}

/* An unused default bridge is not left behind: it comes back in a millisecond. It may be one that
 * an earlier daemon made. */
void network_service_free(struct network_service *s)
{
	if (!s)
		return;
	LIST_FOREACH (n, &s->networks, struct network, node) {
		if (list_is_empty(&n->attachments) && str_equal(n->spec.name, "bridge") &&
		    if_nametoindex(n->link) != 0)
			n->driver->remove(s, n, NULL);
	}
	rules_watch_free(TAKE_PTR(s->watch));
	dns_service_free(TAKE_PTR(s->dns));
	map_done_values(&s->netspaces, free_netspace);
	LIST_FOREACH (n, &s->networks, struct network, node)
		network_free(n);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->setup);
	pthread_cond_destroy(&s->detached);
	free(s->dir);
	free(s->instance);
	free(s);
}

void network_view_done(struct network_view *v)
{
	network_spec_done(&v->spec);
	free(v->id);
	free(v->link);
	endpoints_done(&v->endpoints);
	strv_done(&v->container_ids);
	*v = (struct network_view){ 0 };
}

void network_views_done(struct network_views *v)
{
	for (size_t i = 0; i < v->n; i++)
		network_view_done(&v->v[i]);
	free(v->v);
	*v = (struct network_views){ 0 };
}

static void spec_copy(struct network_spec *dst, const struct network_spec *src)
{
	autojson struct json *j = jsontab_encode(network_spec_fields, src);

	*dst = (struct network_spec){ 0 };
	if (jsontab_decode(network_spec_fields, j, dst, NULL) < 0)
		abort(); /* what we encode, we decode */
}

static void view_fill(const struct network *n, struct network_view *v)
{
	*v = (struct network_view){
		.id = xstrdup(n->id),
		.link = xstrdup(n->link),
		.created_at = n->created_at,
	};
	spec_copy(&v->spec, &n->spec);
	LIST_FOREACH (a, &n->attachments, struct attachment, node) {
		GROW_ARRAY(v->endpoints.v, v->endpoints.n);
		endpoint_copy(&v->endpoints.v[v->endpoints.n++], &a->endpoint);
		strv_push(&v->container_ids, a->netspace->container_id);
	}
}

int network_list(struct network_service *s, struct network_views *ret, struct error *err)
{
	*ret = (struct network_views){ 0 };
	pthread_mutex_lock(&s->lock);
	LIST_FOREACH (n, &s->networks, struct network, node) {
		GROW_ARRAY(ret->v, ret->n);
		view_fill(n, &ret->v[ret->n++]);
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int network_get(struct network_service *s, const char *name_or_id, struct network_view *ret,
		struct error *err)
{
	struct network *n;

	pthread_mutex_lock(&s->lock);
	n = network_find(s, name_or_id);
	if (n)
		view_fill(n, ret);
	pthread_mutex_unlock(&s->lock);
	return n ? 0 : error_set(err, ERROR_NOT_FOUND, "network %s not found", name_or_id);
}

static int plan_network(struct network_service *s, struct network *n, struct error *err)
{
	size_t count = 0;

	LIST_FOREACH (o, &s->networks, struct network, node) {
		count++;
		if (str_equal(o->spec.name, n->spec.name))
			return error_set(err, ERROR_ALREADY_EXISTS,
					 "network with name %s already exists", n->spec.name);
		if (n->link && o->link && n->driver == &bridge_driver && o->driver == n->driver &&
		    str_equal(o->link, n->link))
			return error_set(err, ERROR_PERMISSION_DENIED,
					 "networks %s and %s have the same bridge name: %s",
					 n->spec.name, o->spec.name, n->link);
	}
	if (count >= NETWORKS_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "there are %d networks already",
				 NETWORKS_MAX);
	return pools_plan(s, n, err);
}

bool network_is_predefined(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(predefined); i++) {
		if (str_equal(predefined[i].name, name))
			return true;
	}
	return false;
}

static int check_spec(const struct network_spec *spec, struct error *err)
{
	if (str_equal(spec->driver, "host") || str_equal(spec->driver, "null"))
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "only one instance of \"%s\" network is allowed", spec->driver);
	if (!driver_find(spec->driver))
		return error_set(err, ERROR_NOT_FOUND, "plugin \"%s\" not found", spec->driver);
	if (network_is_predefined(spec->name) || str_equal(spec->name, "default"))
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "operation is not permitted on predefined %s network", spec->name);
	if (!identifier_valid(spec->name))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid network name '%s'",
				 spec->name);
	if (spec->no_ipv4 && !spec->ipv6)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "IPv4 or IPv6 must be enabled for network '%s'", spec->name);
	return 0;
}

int network_create(struct network_service *s, const struct network_spec *spec, char ret_id[65],
		   struct error *err)
{
	struct network *n;
	int r;

	if (check_spec(spec, err) < 0)
		return -1;
	n = network_new(spec->name, spec->driver);
	network_spec_done(&n->spec);
	spec_copy(&n->spec, spec);
	pthread_mutex_lock(&s->setup);
	n->fresh = true;
	r = n->driver->configure(n, err);
	if (r == 0) {
		pthread_mutex_lock(&s->lock);
		r = plan_network(s, n, err);
		pthread_mutex_unlock(&s->lock);
	}
	/* What the host does not let be made is better known now than at the first container. */
	bool planned = r == 0;
	if (r == 0)
		r = n->driver->ensure(s, n, err);
	if (r == 0)
		r = network_save(s, n, err);
	n->fresh = false;
	if (r == 0) {
		memcpy(ret_id, n->id, strlen(n->id) + 1);
		pthread_mutex_lock(&s->lock);
		list_append(&s->networks, &n->node);
		pthread_mutex_unlock(&s->lock);
	} else {
		if (planned)
			n->driver->remove(s, n, NULL);
		network_free(n);
	}
	pthread_mutex_unlock(&s->setup);
	return r;
}

static int may_remove(const struct network *n, const char *asked, struct error *err)
{
	autostrv struct strv users = STRV_INIT;

	if (!n)
		return error_set(err, ERROR_NOT_FOUND, "network %s not found", asked);
	if (network_is_predefined(n->spec.name))
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "%s is a pre-defined network and cannot be removed", n->spec.name);
	if (list_is_empty(&n->attachments))
		return 0;
	LIST_FOREACH (a, &n->attachments, struct attachment, node)
		strv_push_printf(&users, "name:\"%s\" id:\"%.12s\"", a->netspace->name,
				 a->endpoint.endpoint_id);
	autofree char *text = strv_join(&users, ", ");
	return error_set(err, ERROR_PERMISSION_DENIED,
			 "error while removing network: network %s has active endpoints (%s)",
			 n->spec.name, text);
}

int network_remove(struct network_service *s, const char *name_or_id, struct error *err)
{
	struct network *n;
	int r;

	pthread_mutex_lock(&s->setup);
	pthread_mutex_lock(&s->lock);
	n = network_find(s, name_or_id);
	r = may_remove(n, name_or_id, err);
	pthread_mutex_unlock(&s->lock);
	/* Nobody can join meanwhile: that needs `setup`. */
	if (r == 0)
		r = n->driver->remove(s, n, err);
	if (r == 0)
		r = record_delete(&s->store, "network", n->id, err);
	if (r == 0) {
		pthread_mutex_lock(&s->lock);
		network_free(n);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&s->setup);
	return r;
}
