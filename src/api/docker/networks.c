/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/mem.h"

#include <string.h>

static bool is_builtin(const struct network_view *n)
{
	return str_equal(n->name, "bridge") || str_equal(n->name, "host") ||
	       str_equal(n->name, "none");
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
	struct json *j = json_new_kvs(&n->options);

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		autofree char *key = xasprintf("com.docker.network.bridge.%s", options[i][0]);

		if (!json_get(j, key))
			json_set_string(j, key, options[i][1]);
	}
	return j;
}

static struct json *network_document(struct http_request *r, const struct network_view *n,
				     bool with_containers)
{
	struct json *j = json_new_object();
	struct json *ipam = json_new_object();
	struct json *pools = json_new_array();
	struct json *containers = json_new_object(), *from = json_new_object();

	if (n->subnet) {
		struct json *pool = json_new_object();

		json_set_string(pool, "Subnet", n->subnet);
		json_set_string(pool, "Gateway", n->gateway);
		json_add(pools, pool);
	}
	json_set_string(ipam, "Driver", "default");
	json_set(ipam, "Options", is_builtin(n) ? NULL : json_new_object());
	json_set(ipam, "Config", pools);
	for (size_t i = 0; with_containers && i < n->endpoints.n; i++) {
		CLEANUP(container_view_freep) struct container_view *v = NULL;
		const struct endpoint *e = &n->endpoints.v[i];
		struct json *c = json_new_object();
		autofree char *address = xasprintf("%s/%u", e->ip, e->prefix);

		engine_inspect(api_engine(r), api_ns(r), n->container_ids.v[i], &v, NULL);
		json_set_string(c, "Name", v ? v->name : "");
		json_set_string(c, "EndpointID", e->endpoint_id);
		json_set_string(c, "MacAddress", e->mac);
		json_set_string(c, "IPv4Address", address);
		json_set_string(c, "IPv6Address", "");
		json_set(containers, n->container_ids.v[i], c);
	}
	json_set_string(j, "Name", n->name);
	json_set_string(j, "Id", n->id);
	json_set_time(j, "Created", n->created_at);
	json_set_string(j, "Scope", "local");
	json_set_string(j, "Driver", n->driver);
	if (api_at_least(r, 47))
		json_set_bool(j, "EnableIPv4", true);
	json_set_bool(j, "EnableIPv6", false);
	json_set(j, "IPAM", ipam);
	json_set_bool(j, "Internal", n->internal);
	json_set_bool(j, "Attachable", false);
	json_set_bool(j, "Ingress", false);
	json_set_string(from, "Network", "");
	json_set(j, "ConfigFrom", from);
	json_set_bool(j, "ConfigOnly", false);
	json_set(j, "Containers", containers);
	json_set(j, "Options",
		 str_equal(n->name, "bridge") ? bridge_options(n) : json_new_kvs(&n->options));
	json_set(j, "Labels", json_new_kvs(&n->labels));
	return j;
}

static const char *const list_filters[] = { "driver", "id",   "label",	  "name",
					    "scope",  "type", "dangling", NULL };

static bool contains(const char *value, const void *arg)
{
	return strstr(arg, value) != NULL;
}

static bool network_matches(const struct filters *f, const struct network_view *n)
{
	return filters_match(f, "driver", n->driver) && filters_any(f, "id", contains, n->id) &&
	       filters_any(f, "name", contains, n->name) && filters_match(f, "scope", "local") &&
	       filters_match(f, "type", is_builtin(n) ? "builtin" : "custom") &&
	       filters_labels(f, &n->labels);
}

HANDLER(networks_list)
{
	CLEANUP(filters_done) struct filters f = { 0 };
	CLEANUP(network_views_done) struct network_views views = { 0 };
	struct json *list;

	if (filters_parse(r, list_filters, &f, err) < 0 ||
	    network_list(engine_network(api_engine(r)), &views, err) < 0)
		return -1;
	list = json_new_array();
	for (size_t i = 0; i < views.n; i++) {
		if (network_matches(&f, &views.v[i]))
			json_add(list, network_document(r, &views.v[i], false));
	}
	http_reply_json(r, 200, list);
	return 0;
}

HANDLER(network_inspect)
{
	CLEANUP(network_view_done) struct network_view n = { 0 };

	if (network_get(engine_network(api_engine(r)), http_param(r, "id"), &n, err) < 0)
		return -1;
	http_reply_json(r, 200, network_document(r, &n, true));
	return 0;
}

static void emit_network(struct http_request *r, const char *action, const char *id,
			 const char *name)
{
	struct engine_event e = {
		.ns = api_ns(r),
		.type = "network",
		.action = action,
		.id = id,
	};

	kvs_set(&e.attributes, "name", name);
	kvs_set(&e.attributes, "type", "bridge");
	engine_emit(api_engine(r), &e);
	kvs_done(&e.attributes);
}

HANDLER(networks_create)
{
	autokvs struct kvs labels = KVS_INIT, options = KVS_INIT;
	autojson struct json *body = NULL;
	const struct json *pool;
	const char *driver, *name;
	struct json *reply;
	char id[65];

	if (http_body_json(r, &body, err) < 0 || json_get_kvs(body, "Labels", &labels, err) < 0 ||
	    json_get_kvs(body, "Options", &options, err) < 0)
		return -1;
	name = json_get_string(body, "Name");
	driver = json_get_string(body, "Driver");
	if (str_empty(name))
		return error_set(err, ERROR_INVALID_ARGUMENT, "network name is required");
	if (!str_empty(driver) && !str_equal(driver, "bridge") && !str_equal(driver, "default"))
		return error_set(err, ERROR_NOT_FOUND, "plugin \"%s\" not found", driver);
	if (str_equal(name, "bridge") || str_equal(name, "host") || str_equal(name, "none"))
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "operation is not permitted on predefined %s network", name);
	pool = json_array_get(json_get(json_get(body, "IPAM"), "Config"), 0);
	if (network_create(engine_network(api_engine(r)), name, json_get_string(pool, "Subnet"),
			   json_get_string(pool, "Gateway"), json_get_bool(body, "Internal", false),
			   &labels, &options, id, err) < 0)
		return -1;
	reply = json_new_object();
	emit_network(r, "create", id, name);
	json_set_string(reply, "Id", id);
	json_set_string(reply, "Warning", "");
	http_reply_json(r, 201, reply);
	return 0;
}

HANDLER(network_delete)
{
	CLEANUP(network_view_done) struct network_view n = { 0 };
	struct network_service *s = engine_network(api_engine(r));

	if (network_get(s, http_param(r, "id"), &n, err) < 0 || network_remove(s, n.id, err) < 0)
		return -1;
	emit_network(r, "destroy", n.id, n.name);
	http_reply_empty(r, 204);
	return 0;
}

static const char *const prune_filters[] = { "until", "label", "label!", NULL };

HANDLER(networks_prune)
{
	CLEANUP(filters_done) struct filters f = { 0 };
	CLEANUP(network_views_done) struct network_views views = { 0 };
	struct network_service *s = engine_network(api_engine(r));
	struct json *reply, *deleted;

	if (filters_parse(r, prune_filters, &f, err) < 0 || network_list(s, &views, err) < 0)
		return -1;
	reply = json_new_object();
	deleted = json_new_array();
	for (size_t i = 0; i < views.n; i++) {
		const struct network_view *n = &views.v[i];

		if (!is_builtin(n) && n->endpoints.n == 0 && filters_labels(&f, &n->labels) &&
		    network_remove(s, n->id, NULL) == 0) {
			emit_network(r, "destroy", n->id, n->name);
			json_add(deleted, json_new_string(n->name));
		}
	}
	json_set(reply, "NetworksDeleted", deleted);
	http_reply_json(r, 200, reply);
	return 0;
}
