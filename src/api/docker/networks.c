/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/jsontab.h"
#include "base/mem.h"
#include "base/parse.h"

#include <string.h>

static bool is_builtin(const struct network_view *n)
{
	return network_is_predefined(n->spec.name);
}

/* The default bridge's, in the words by which it could have been made. */
static struct json *bridge_options(const struct network_view *n)
{
	static const char *const options[][2] = {
		{ "default_bridge", "true" },
		{ "enable_icc", "true" },
		{ "enable_ip_masquerade", "true" },
		{ "host_binding_ipv4", "0.0.0.0" },
	};
	struct json *j = json_new_kvs(&n->spec.options);

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		autofree char *key = xasprintf("com.docker.network.bridge.%s", options[i][0]);

		if (!json_get(j, key))
			json_set_string(j, key, options[i][1]);
	}
	json_set_string(j, "com.docker.network.bridge.name", n->link);
	if (!json_get(j, "com.docker.network.driver.mtu"))
		json_set_string(j, "com.docker.network.driver.mtu", "1500");
	return j;
}

static struct json *pools_document(const struct network_view *n)
{
	struct json *pools = json_new_array();

	for (size_t i = 0; i < n->spec.pools.n; i++) {
		const struct pool_spec *p = &n->spec.pools.v[i];
		struct json *pool = json_new_object();

		json_set_string(pool, "Subnet", p->subnet ? p->subnet : "");
		if (!str_empty(p->range))
			json_set_string(pool, "IPRange", p->range);
		if (!str_empty(p->gateway))
			json_set_string(pool, "Gateway", p->gateway);
		if (p->aux.n > 0)
			json_set(pool, "AuxiliaryAddresses", json_new_kvs(&p->aux));
		json_add(pools, pool);
	}
	return pools;
}

static char *with_prefix(const char *ip, unsigned prefix)
{
	return ip ? xasprintf("%s/%u", ip, prefix) : xstrdup("");
}

static struct json *members_document(struct http_request *r, const struct network_view *n)
{
	struct json *j = json_new_object();

	for (size_t i = 0; i < n->endpoints.n; i++) {
		CLEANUP(container_view_freep) struct container_view *v = NULL;
		const struct endpoint *e = &n->endpoints.v[i];
		struct json *c = json_new_object();
		autofree char *four = with_prefix(e->ip, e->prefix);
		autofree char *six = with_prefix(e->ip6, e->prefix6);

		engine_inspect(api_engine(r), api_ns(r), n->container_ids.v[i], &v, NULL);
		json_set_string(c, "Name", v ? v->name : "");
		json_set_string(c, "EndpointID", e->endpoint_id);
		json_set_string(c, "MacAddress", e->mac);
		json_set_string(c, "IPv4Address", four);
		json_set_string(c, "IPv6Address", six);
		json_set(j, n->container_ids.v[i], c);
	}
	return j;
}

static struct json *network_document(struct http_request *r, const struct network_view *n,
				     bool inspect, bool verbose)
{
	struct json *j = json_new_object();
	struct json *ipam = json_new_object(), *from = json_new_object();

	json_set_string(ipam, "Driver", "default");
	if (n->spec.ipam_options.n > 0)
		json_set(ipam, "Options", json_new_kvs(&n->spec.ipam_options));
	else
		json_set(ipam, "Options", is_builtin(n) ? NULL : json_new_object());
	json_set(ipam, "Config", pools_document(n));
	json_set_string(j, "Name", n->spec.name);
	json_set_string(j, "Id", n->id);
	json_set_time(j, "Created", n->created_at);
	json_set_string(j, "Scope", "local");
	json_set_string(j, "Driver", n->spec.driver);
	if (api_at_least(r, 47))
		json_set_bool(j, "EnableIPv4", !n->spec.no_ipv4);
	json_set_bool(j, "EnableIPv6", n->spec.ipv6);
	json_set(j, "IPAM", ipam);
	json_set_bool(j, "Internal", n->spec.internal);
	json_set_bool(j, "Attachable", n->spec.attachable);
	json_set_bool(j, "Ingress", false);
	json_set_string(from, "Network", "");
	json_set(j, "ConfigFrom", from);
	json_set_bool(j, "ConfigOnly", false);
	json_set(j, "Containers", inspect ? members_document(r, n) : json_new_object());
	json_set(j, "Options",
		 str_equal(n->spec.name, "bridge") ? bridge_options(n)
						   : json_new_kvs(&n->spec.options));
	json_set(j, "Labels", json_new_kvs(&n->spec.labels));
	if (verbose)
		json_set(j, "Services", json_new_object());
	return j;
}

static const char *const list_filters[] = { "driver", "id",   "label",	  "name",
					    "scope",  "type", "dangling", NULL };

static bool contains(const char *value, const void *arg)
{
	return strstr(arg, value) != NULL;
}

/* Referred to by no container, running or not. */
static bool is_dangling(const struct container_views *all, const struct network_view *n)
{
	for (size_t i = 0; i < all->n; i++) {
		for (size_t k = 0; k < all->v[i]->config.endpoints.n; k++) {
			if (str_equal(all->v[i]->config.endpoints.v[k].network, n->spec.name))
				return false;
		}
	}
	return n->endpoints.n == 0 && !is_builtin(n);
}

static bool dangling_matches(const struct filters *f, const struct container_views *all,
			     const struct network_view *n)
{
	bool dangling;

	if (!filters_has(f, "dangling"))
		return true;
	dangling = is_dangling(all, n);
	return filters_match(f, "dangling", dangling ? "true" : "false") ||
	       filters_match(f, "dangling", dangling ? "1" : "0");
}

static bool network_matches(const struct filters *f, const struct container_views *all,
			    const struct network_view *n)
{
	return filters_match(f, "driver", n->spec.driver) &&
	       filters_any(f, "id", contains, n->id) &&
	       filters_any(f, "name", contains, n->spec.name) &&
	       filters_match(f, "scope", "local") &&
	       filters_match(f, "type", is_builtin(n) ? "builtin" : "custom") &&
	       filters_labels(f, &n->spec.labels) && dangling_matches(f, all, n);
}

static int by_name(const void *a, const void *b)
{
	const struct network_view *x = a, *y = b;

	return strcmp(x->spec.name, y->spec.name);
}

static bool is_type(const char *value, const void *arg UNUSED)
{
	return str_equal(value, "custom") || str_equal(value, "builtin");
}

HANDLER(networks_list)
{
	CLEANUP(filters_done) struct filters f = { 0 };
	CLEANUP(network_views_done) struct network_views views = { 0 };
	CLEANUP(container_views_done) struct container_views all = { 0 };
	struct json *list;

	if (filters_parse(r, list_filters, &f, err) < 0 ||
	    network_list(engine_network(api_engine(r)), &views, err) < 0)
		return -1;
	if (filters_has(&f, "type") && !filters_any(&f, "type", is_type, NULL))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid filter 'type'");
	if (filters_has(&f, "dangling") && engine_list(api_engine(r), api_ns(r), &all, err) < 0)
		return -1;
	qsort(views.v, views.n, sizeof(*views.v), by_name);
	list = json_new_array();
	for (size_t i = 0; i < views.n; i++) {
		if (network_matches(&f, &all, &views.v[i]))
			json_add(list, network_document(r, &views.v[i], false, false));
	}
	http_reply_json(r, 200, list);
	return 0;
}

HANDLER(network_inspect)
{
	CLEANUP(network_view_done) struct network_view n = { 0 };
	const char *scope = api_query(r, "scope"), *verbose = api_query(r, "verbose");
	bool more = false;

	if (verbose && parse_bool(verbose, &more) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid value for verbose: strconv.ParseBool: parsing \"%s\": "
				 "invalid syntax",
				 verbose);
	if (network_get(engine_network(api_engine(r)), http_param(r, "id"), &n, err) < 0)
		return -1;
	if (scope && !str_equal(scope, "local"))
		return error_set(err, ERROR_NOT_FOUND, "network %s not found", http_param(r, "id"));
	http_reply_json(r, 200, network_document(r, &n, true, more));
	return 0;
}

static void emit_network(struct http_request *r, const char *action, const char *id,
			 const struct network_spec *spec)
{
	struct engine_event e = {
		.ns = api_ns(r),
		.type = "network",
		.action = action,
		.id = id,
	};

	kvs_set(&e.attributes, "name", spec->name);
	kvs_set(&e.attributes, "type", spec->driver);
	engine_emit(api_engine(r), &e);
	kvs_done(&e.attributes);
}

static const struct json_field pool_fields[] = {
	JSON_FIELD("Subnet", FIELD_STRING, struct pool_spec, subnet, 0),
	JSON_FIELD("IPRange", FIELD_STRING, struct pool_spec, range, 0),
	JSON_FIELD("Gateway", FIELD_STRING, struct pool_spec, gateway, 0),
	JSON_FIELD("AuxiliaryAddresses", FIELD_KVS, struct pool_spec, aux, 0),
	JSON_FIELD("AuxAddress", FIELD_KVS, struct pool_spec, aux, 0),
	JSON_END,
};

struct create_document {
	struct network_spec spec;
	char *scope, *ipam_driver;
	struct json *ipv4, *ipam;
	bool ingress, config_only;
};

#define D struct create_document
static const struct json_field create_fields[] = {
	JSON_FIELD("Name", FIELD_STRING, D, spec.name, 0),
	JSON_FIELD("Driver", FIELD_STRING, D, spec.driver, 0),
	JSON_FIELD("Scope", FIELD_STRING, D, scope, 0),
	JSON_FIELD("Internal", FIELD_BOOL, D, spec.internal, 0),
	JSON_FIELD("Attachable", FIELD_BOOL, D, spec.attachable, 0),
	JSON_FIELD("Ingress", FIELD_BOOL, D, ingress, 0),
	JSON_FIELD("ConfigOnly", FIELD_BOOL, D, config_only, 0),
	JSON_FIELD("EnableIPv4", FIELD_JSON, D, ipv4, 0),
	JSON_FIELD("EnableIPv6", FIELD_BOOL, D, spec.ipv6, 0),
	JSON_FIELD("Options", FIELD_KVS, D, spec.options, 0),
	JSON_FIELD("Labels", FIELD_KVS, D, spec.labels, 0),
	JSON_FIELD("IPAM", FIELD_JSON, D, ipam, 0),
	JSON_END,
};

static const struct json_field ipam_fields[] = {
	JSON_FIELD("Driver", FIELD_STRING, D, ipam_driver, 0),
	JSON_SUB("Config", FIELD_ARRAY, D, spec.pools, pool_fields, struct pool_spec, 0),
	JSON_FIELD("Options", FIELD_KVS, D, spec.ipam_options, 0),
	JSON_END,
};

static int create_parse(const struct json *body, struct create_document *d, struct error *err)
{
	if (jsontab_decode(create_fields, body, d, err) < 0)
		return -1;
	if (json_type(d->ipam) != JSON_NULL && jsontab_decode(ipam_fields, d->ipam, d, err) < 0)
		return error_wrap(err, "IPAM");
	d->spec.no_ipv4 = !json_bool(d->ipv4, true);
	if (str_empty(d->spec.name))
		return error_set(err, ERROR_INVALID_ARGUMENT, "network name is required");
	if (str_empty(d->spec.driver) || str_equal(d->spec.driver, "default"))
		str_replace(&d->spec.driver, "bridge");
	if (!str_empty(d->ipam_driver) && !str_equal(d->ipam_driver, "default"))
		return error_set(err, ERROR_NOT_FOUND, "plugin \"%s\" not found", d->ipam_driver);
	if (d->ingress || str_equal(d->spec.driver, "overlay") || str_equal(d->scope, "swarm"))
		return error_set(err, ERROR_UNAVAILABLE,
				 "This node is not a swarm manager. Use \"docker swarm init\" or "
				 "\"docker swarm join\" to connect this node to swarm and try "
				 "again.");
	if (d->config_only)
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "configuration-only networks are not supported");
	return 0;
}

HANDLER(networks_create)
{
	autojson struct json *body = NULL;
	struct create_document d = { 0 };
	struct json *reply;
	char id[65];
	int result;

	if (http_body_json(r, &body, err) < 0)
		return -1;
	result = create_parse(body, &d, err);
	if (result == 0)
		result = network_create(engine_network(api_engine(r)), &d.spec, id, err);
	if (result == 0) {
		emit_network(r, "create", id, &d.spec);
		reply = json_new_object();
		json_set_string(reply, "Id", id);
		json_set_string(reply, "Warning", "");
		http_reply_json(r, 201, reply);
	}
	jsontab_done(create_fields, &d);
	jsontab_done(ipam_fields, &d);
	return result;
}

HANDLER(network_delete)
{
	CLEANUP(network_view_done) struct network_view n = { 0 };
	struct network_service *s = engine_network(api_engine(r));

	if (network_get(s, http_param(r, "id"), &n, err) < 0 || network_remove(s, n.id, err) < 0)
		return -1;
	emit_network(r, "destroy", n.id, &n.spec);
	http_reply_empty(r, 204);
	return 0;
}

HANDLER(network_connect)
{
	autojson struct json *body = NULL;
	struct endpoint_spec spec = { 0 };
	const char *container;

	if (http_body_json(r, &body, err) < 0)
		return -1;
	container = json_get_string(body, "Container");
	if (str_empty(container))
		return error_set(err, ERROR_INVALID_ARGUMENT, "container name or id is required");
	if (endpoint_settings_parse(json_get(body, "EndpointConfig"), &spec, err) < 0)
		return error_wrap(err, "EndpointConfig");
	if (engine_network_connect(api_engine(r), api_ns(r), http_param(r, "id"), container, &spec,
				   err) < 0)
		return -1;
	http_reply_empty(r, 200);
	return 0;
}

HANDLER(network_disconnect)
{
	autojson struct json *body = NULL;
	const char *container;

	if (http_body_json(r, &body, err) < 0)
		return -1;
	container = json_get_string(body, "Container");
	if (str_empty(container))
		return error_set(err, ERROR_INVALID_ARGUMENT, "container name or id is required");
	if (engine_network_disconnect(api_engine(r), api_ns(r), http_param(r, "id"), container,
				      json_get_bool(body, "Force", false), err) < 0)
		return -1;
	http_reply_empty(r, 200);
	return 0;
}

static const char *const prune_filters[] = { "until", "label", "label!", NULL };

HANDLER(networks_prune)
{
	CLEANUP(filters_done) struct filters f = { 0 };
	CLEANUP(network_views_done) struct network_views views = { 0 };
	CLEANUP(container_views_done) struct container_views all = { 0 };
	struct network_service *s = engine_network(api_engine(r));
	struct json *reply, *deleted;

	if (filters_parse(r, prune_filters, &f, err) < 0 || network_list(s, &views, err) < 0 ||
	    engine_list(api_engine(r), api_ns(r), &all, err) < 0)
		return -1;
	reply = json_new_object();
	deleted = json_new_array();
	for (size_t i = 0; i < views.n; i++) {
		const struct network_view *n = &views.v[i];

		if (is_dangling(&all, n) && filters_labels(&f, &n->spec.labels) &&
		    network_remove(s, n->id, NULL) == 0) {
			emit_network(r, "destroy", n->id, &n->spec);
			json_add(deleted, json_new_string(n->spec.name));
		}
	}
	json_set(reply, "NetworksDeleted", deleted);
	http_reply_json(r, 200, reply);
	return 0;
}
