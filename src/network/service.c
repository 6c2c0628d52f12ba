/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"
#include "network/internal.h"
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

void endpoint_done(struct endpoint *e)
{
	free(e->network);
	free(e->network_id);
	free(e->endpoint_id);
	free(e->ifname);
	free(e->host_ifname);
	free(e->mac);
	free(e->ip);
	free(e->gateway);
	for (size_t i = 0; i < e->ports.n; i++) {
		free(e->ports.v[i].protocol);
		free(e->ports.v[i].host_ip);
	}
	free(e->ports.v);
	*e = (struct endpoint){ 0 };
}

void endpoint_copy(struct endpoint *dst, const struct endpoint *src)
{
	*dst = (struct endpoint){
		.network = xstrdup(src->network),
		.network_id = xstrdup(src->network_id),
		.endpoint_id = xstrdup(src->endpoint_id),
		.ifname = xstrdup(src->ifname),
		.host_ifname = xstrdup(src->host_ifname),
		.mac = xstrdup(src->mac),
		.ip = xstrdup(src->ip),
		.prefix = src->prefix,
		.gateway = xstrdup(src->gateway),
	};
	if (src->ports.n == 0)
		return;
	dst->ports.v = xnew_array(struct port_mapping, src->ports.n);
	for (; dst->ports.n < src->ports.n; dst->ports.n++) {
		dst->ports.v[dst->ports.n] = src->ports.v[dst->ports.n];
		dst->ports.v[dst->ports.n].protocol = xstrdup(src->ports.v[dst->ports.n].protocol);
		dst->ports.v[dst->ports.n].host_ip = xstrdup(src->ports.v[dst->ports.n].host_ip);
	}
}

void network_free(struct network *n)
{
	list_remove(&n->node);
	LIST_FOREACH (a, &n->attachments, struct attachment, node)
		attachment_free(a);
	free(n->name);
	free(n->id);
	free(n->driver);
	free(n->bridge);
	kvs_done(&n->labels);
	kvs_done(&n->options);
	free(n);
}

/* Name, id, or a prefix of an id that is unique and long enough not to be a name by accident. */
struct network *network_find(struct network_service *s, const char *name_or_id)
{
	struct network *by_prefix = NULL;
	size_t len = strlen(name_or_id), hits = 0;

	LIST_FOREACH (n, &s->networks, struct network, node) {
		if (str_equal(n->name, name_or_id) || str_equal(n->id, name_or_id))
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

struct attachment *attachment_find(struct network_service *s, const char *container_id,
				   struct network **ret_network)
{
	LIST_FOREACH (n, &s->networks, struct network, node) {
		LIST_FOREACH (a, &n->attachments, struct attachment, node) {
			if (!str_equal(a->container_id, container_id))
				continue;
			if (ret_network)
				*ret_network = n;
			return a;
		}
	}
	return NULL;
}

static struct network *network_new(const char *name, const char *driver)
{
	struct network *n = xnew(struct network);
	char id[65];

	random_hex(32, id);
	list_init(&n->node);
	list_init(&n->attachments);
	n->name = xstrdup(name);
	n->id = xstrdup(id);
	n->driver = xstrdup(driver);
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

static void bridge_name(struct network *n, const struct network_service_config *config)
{
	free(n->bridge);
	n->bridge = default_bridge(config);
}

static int predefined_ensure(struct network_service *s, const struct network_service_config *config,
			     struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(predefined); i++) {
		struct network *n = network_find(s, predefined[i].name);

		if (!n) {
			n = network_new(predefined[i].name, predefined[i].driver);
			list_append(&s->networks, &n->node);
			if (i == 0 && config->subnet &&
			    subnet_parse(config->subnet, &n->subnet, err) < 0)
				return -1;
			if (n->subnet.prefix)
				n->gateway = n->subnet.net + 1;
			if (network_save(s, n, err) < 0)
				return -1;
		}
		if (i == 0)
			bridge_name(n, config);
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
	s->store = (struct store_ctx){ .store = config->store, .ns = NETWORKS_NS };
	s->dir = path_join(config->state, "network", NULL);
	r = fs_mkdir_p(s->dir, 0700);
	if (r < 0) {
		error_errno(err, -r, "make '%s'", s->dir);
		network_service_free(s);
		return -1;
	}
	if (networks_load(s, err) < 0 || predefined_ensure(s, config, err) < 0 ||
	    attachments_load(s, err) < 0) {
		network_service_free(s);
		return error_wrap(err, "load networks");
	}
	*ret = s;
	return 0;
}

/* An unused default bridge is not left behind: it comes back in a millisecond. It may be one that
 * an earlier daemon made. */
void network_service_free(struct network_service *s)
{
	if (!s)
		return;
	LIST_FOREACH (n, &s->networks, struct network, node) {
		if (list_is_empty(&n->attachments) && str_equal(n->name, "bridge") &&
		    if_nametoindex(n->bridge) != 0)
			bridge_remove(n, NULL);
		network_free(n);
	}
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->setup);
	free(s->dir);
	free(s);
}

void network_view_done(struct network_view *v)
{
	free(v->name);
	free(v->id);
	free(v->driver);
	free(v->subnet);
	free(v->gateway);
	free(v->bridge);
	kvs_done(&v->labels);
	kvs_done(&v->options);
	for (size_t i = 0; i < v->endpoints.n; i++)
		endpoint_done(&v->endpoints.v[i]);
	free(v->endpoints.v);
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

static void view_fill(const struct network *n, struct network_view *v)
{
	char text[16];

	*v = (struct network_view){
		.name = xstrdup(n->name),
		.id = xstrdup(n->id),
		.driver = xstrdup(n->driver),
		.bridge = xstrdup(n->bridge),
		.created_at = n->created_at,
		.internal = n->internal,
	};
	if (n->subnet.prefix) {
		address_format(n->subnet.net, text);
		v->subnet = xasprintf("%s/%u", text, n->subnet.prefix);
		address_format(n->gateway, text);
		v->gateway = xstrdup(text);
	}
	kvs_copy(&v->labels, &n->labels);
	kvs_copy(&v->options, &n->options);
	LIST_FOREACH (a, &n->attachments, struct attachment, node) {
		GROW_ARRAY(v->endpoints.v, v->endpoints.n);
		endpoint_copy(&v->endpoints.v[v->endpoints.n++], &a->endpoint);
		strv_push(&v->container_ids, a->container_id);
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

static int plan_network(struct network_service *s, struct network *n, const char *subnet,
			const char *gateway, struct error *err)
{
	size_t count = 0;

	LIST_FOREACH (o, &s->networks, struct network, node) {
		(void)o;
		count++;
	}
	if (count >= NETWORKS_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "there are %d networks already",
				 NETWORKS_MAX);
	if (network_find(s, n->name))
		return error_set(err, ERROR_ALREADY_EXISTS, "network with name %s already exists",
				 n->name);
	if (str_empty(subnet)) {
		if (subnet_choose(s, &n->subnet, err) < 0)
			return -1;
	} else if (subnet_parse(subnet, &n->subnet, err) < 0) {
		return -1;
	}
	LIST_FOREACH (o, &s->networks, struct network, node) {
		if (o->subnet.prefix && subnet_overlaps(&o->subnet, &n->subnet))
			return error_set(err, ERROR_PERMISSION_DENIED,
					 "Pool overlaps with other one on this address space");
	}
	n->gateway = n->subnet.net + 1;
	if (!str_empty(gateway)) {
		struct subnet g = { .prefix = 32 };

		if (address_parse(gateway, &g.net) < 0 || !subnet_overlaps(&g, &n->subnet))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "no matching subnet for gateway %s", gateway);
		n->gateway = g.net;
	}
	return 0;
}

int network_create(struct network_service *s, const char *name, const char *subnet,
		   const char *gateway, bool internal, const struct kvs *labels,
		   const struct kvs *options, char ret_id[65], struct error *err)
{
	struct network *n;
	int r;

	if (!identifier_valid(name))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid network name '%s'", name);
	n = network_new(name, "bridge");
	n->internal = internal;
	n->bridge = xasprintf("kb-%.10s", n->id);
	if (labels)
		kvs_copy(&n->labels, labels);
	if (options)
		kvs_copy(&n->options, options);
	pthread_mutex_lock(&s->setup);
	pthread_mutex_lock(&s->lock);
	r = plan_network(s, n, subnet, gateway, err);
	pthread_mutex_unlock(&s->lock);
	if (r == 0)
		r = network_save(s, n, err);
	if (r == 0) {
		memcpy(ret_id, n->id, strlen(n->id) + 1);
		pthread_mutex_lock(&s->lock);
		list_append(&s->networks, &n->node);
		pthread_mutex_unlock(&s->lock);
	} else {
		network_free(n);
	}
	pthread_mutex_unlock(&s->setup);
	return r;
}

static bool is_predefined(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(predefined); i++) {
		if (str_equal(predefined[i].name, name))
			return true;
	}
	return false;
}

static int may_remove(const struct network *n, const char *asked, struct error *err)
{
	if (!n)
		return error_set(err, ERROR_NOT_FOUND, "network %s not found", asked);
	if (is_predefined(n->name))
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "%s is a pre-defined network and cannot be removed", n->name);
	if (!list_is_empty(&n->attachments))
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "error while removing network: network %s has active endpoints",
				 n->name);
	return 0;
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
		r = bridge_remove(n, err);
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
