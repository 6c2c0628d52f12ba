/* SPDX-License-Identifier: Apache-2.0 */
/* A container's networks in Docker's documents: EndpointSettings both ways, ports. */

#include "api/docker/internal.h"
#include "base/jsontab.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_NETWORK "bridge"

struct ipam_document {
	char *ip, *ip6;
	struct strv link_local;
};

static const struct json_field ipam_fields[] = {
	JSON_FIELD("IPv4Address", FIELD_STRING, struct ipam_document, ip, 0),
	JSON_FIELD("IPv6Address", FIELD_STRING, struct ipam_document, ip6, 0),
	JSON_FIELD("LinkLocalIPs", FIELD_STRV, struct ipam_document, link_local, 0),
	JSON_END,
};

struct endpoint_document {
	struct endpoint_spec spec; /* what goes over one to one */
	struct ipam_document *ipam;
};

static const struct json_field settings_fields[] = {
	JSON_SUB("IPAMConfig", FIELD_OBJECT_PTR, struct endpoint_document, ipam, ipam_fields,
		 struct ipam_document, 0),
	JSON_FIELD("MacAddress", FIELD_STRING, struct endpoint_document, spec.mac, 0),
	JSON_FIELD("Aliases", FIELD_STRV, struct endpoint_document, spec.aliases, 0),
	JSON_FIELD("Links", FIELD_STRV, struct endpoint_document, spec.links, 0),
	JSON_FIELD("DriverOpts", FIELD_KVS, struct endpoint_document, spec.driver_opts, 0),
	JSON_FIELD("GwPriority", FIELD_INT, struct endpoint_document, spec.gw_priority, 0),
	JSON_END,
};

int endpoint_settings_parse(const struct json *j, struct endpoint_spec *s, struct error *err)
{
	struct endpoint_document d = { 0 };
	char *network;

	if (json_type(j) == JSON_NULL)
		return 0;
	if (jsontab_decode(settings_fields, j, &d, err) < 0) {
		jsontab_done(settings_fields, &d);
		return -1;
	}
	network = TAKE_PTR(s->network);
	endpoint_spec_done(s);
	*s = d.spec;
	d.spec = (struct endpoint_spec){ 0 };
	s->network = network;
	if (d.ipam) {
		s->addresses = true;
		s->ip = TAKE_PTR(d.ipam->ip);
		s->ip6 = TAKE_PTR(d.ipam->ip6);
		strv_copy(&s->link_local, &d.ipam->link_local);
	}
	jsontab_done(settings_fields, &d);
	return 0;
}

static struct json *ipam_document(const struct endpoint_spec *s)
{
	struct json *j;

	if (!s || !s->addresses)
		return NULL;
	j = json_new_object();
	if (!str_empty(s->ip))
		json_set_string(j, "IPv4Address", s->ip);
	if (!str_empty(s->ip6))
		json_set_string(j, "IPv6Address", s->ip6);
	if (s->link_local.n > 0)
		json_set(j, "LinkLocalIPs", json_new_strv(&s->link_local));
	return j;
}

static const char *text(const char *s)
{
	return s ? s : "";
}

/* Either may be missing: what was asked for, what there is. */
static struct json *endpoint_document(const struct endpoint_spec *s, const struct endpoint *e)
{
	static const struct endpoint none;
	struct json *j = json_new_object();

	if (!e)
		e = &none;
	json_set(j, "IPAMConfig", ipam_document(s));
	json_set(j, "Links", s ? json_strv_or_null(&s->links) : NULL);
	json_set(j, "Aliases", s ? json_strv_or_null(&s->aliases) : NULL);
	json_set_string(j, "MacAddress", e->mac ? e->mac : s ? text(s->mac) : "");
	json_set(j, "DriverOpts", s && s->driver_opts.n > 0 ? json_new_kvs(&s->driver_opts) : NULL);
	json_set_int(j, "GwPriority", s ? s->gw_priority : 0);
	json_set_string(j, "NetworkID", text(e->network_id));
	json_set_string(j, "EndpointID", text(e->endpoint_id));
	json_set_string(j, "Gateway", text(e->gateway));
	json_set_string(j, "IPAddress", text(e->ip));
	json_set_int(j, "IPPrefixLen", e->prefix);
	json_set_string(j, "IPv6Gateway", text(e->gateway6));
	json_set_string(j, "GlobalIPv6Address", text(e->ip6));
	json_set_int(j, "GlobalIPv6PrefixLen", e->prefix6);
	return j;
}

static const struct endpoint *endpoint_of(const struct container_view *v, const char *network)
{
	for (size_t i = 0; i < v->endpoints.n; i++) {
		if (str_equal(v->endpoints.v[i].network, network))
			return &v->endpoints.v[i];
	}
	return NULL;
}

/* What the container answers to, on networks that a user has made. */
static struct json *names_of(const struct container_view *v, const struct endpoint_spec *s)
{
	autostrv struct strv names = STRV_INIT;

	if (str_equal(s->network, DEFAULT_NETWORK))
		return NULL;
	container_dns_names(v->name, v->id, v->config.hostname, s, &names);
	return json_new_strv(&names);
}

struct json *container_networks_document(const struct container_view *v)
{
	struct json *j = json_new_object();
	const char *mode = v->config.network_mode;

	for (size_t i = 0; i < v->config.endpoints.n; i++) {
		const struct endpoint_spec *s = &v->config.endpoints.v[i];
		struct json *e = endpoint_document(s, endpoint_of(v, s->network));

		json_set(e, "DNSNames", names_of(v, s));
		json_set(j, s->network, e);
	}
	if (str_equal(mode, "host") || str_equal(mode, "none")) {
		struct json *e = endpoint_document(NULL, NULL);

		json_set(e, "DNSNames", NULL);
		json_set(j, mode, e);
	}
	return j;
}

static void add_binding(struct json *ports, const struct port_mapping *p)
{
	autofree char *key = xasprintf("%u/%s", p->container_port, p->protocol);
	autofree char *port = xasprintf("%u", p->host_port);
	struct json *b = json_new_object();
	struct json *list = json_get(ports, key);

	json_set_string(b, "HostIp", str_empty(p->host_ip) ? "0.0.0.0" : p->host_ip);
	json_set_string(b, "HostPort", port);
	if (!list) {
		list = json_new_array();
		json_set(ports, key, list);
	}
	json_add(list, b);
}

static bool is_running(const struct container_view *v)
{
	return v->status == CONTAINER_RUNNING || v->status == CONTAINER_PAUSED;
}

/* {"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"443/tcp":null}, while it runs. */
static struct json *ports_document(const struct container_view *v)
{
	struct json *j = json_new_object();

	if (!is_running(v))
		return j;
	for (size_t i = 0; i < v->config.exposed_ports.n; i++)
		json_set(j, v->config.exposed_ports.v[i], NULL);
	for (size_t i = 0; i < v->endpoints.n; i++) {
		for (size_t k = 0; k < v->endpoints.v[i].ports.n; k++)
			add_binding(j, &v->endpoints.v[i].ports.v[k]);
	}
	return j;
}

/* Where the network namespace can be entered; NULL when it is not this container's own. */
static char *sandbox_key(const struct container_view *v)
{
	const char *mode = v->config.network_mode;

	if (!is_running(v) || v->pid <= 0 || (mode && str_has_prefix(mode, "container:")))
		return NULL;
	return xasprintf("/proc/%d/ns/net", v->pid);
}

struct json *container_network_settings(const struct container_view *v)
{
	static const struct endpoint none;
	const struct endpoint *e = endpoint_of(v, DEFAULT_NETWORK);
	struct json *j = json_new_object();
	autofree char *sandbox = sandbox_key(v);

	if (!e)
		e = &none;
	json_set_string(j, "Bridge", "");
	json_set_string(j, "SandboxID", sandbox ? v->id : "");
	json_set_string(j, "SandboxKey", sandbox ? sandbox : "");
	json_set(j, "Ports", ports_document(v));
	json_set_bool(j, "HairpinMode", false);
	json_set_string(j, "LinkLocalIPv6Address", "");
	json_set_int(j, "LinkLocalIPv6PrefixLen", 0);
	json_set(j, "SecondaryIPAddresses", NULL);
	json_set(j, "SecondaryIPv6Addresses", NULL);
	json_set_string(j, "EndpointID", text(e->endpoint_id));
	json_set_string(j, "Gateway", text(e->gateway));
	json_set_string(j, "GlobalIPv6Address", text(e->ip6));
	json_set_int(j, "GlobalIPv6PrefixLen", e->prefix6);
	json_set_string(j, "IPAddress", text(e->ip));
	json_set_int(j, "IPPrefixLen", e->prefix);
	json_set_string(j, "IPv6Gateway", text(e->gateway6));
	json_set_string(j, "MacAddress", text(e->mac));
	json_set(j, "Networks", container_networks_document(v));
	return j;
}

bool container_publishes(const struct container_view *v,
			 bool (*fn)(const struct port_mapping *p, const void *arg), const void *arg)
{
	for (size_t i = 0; i < v->endpoints.n; i++) {
		for (size_t k = 0; k < v->endpoints.v[i].ports.n; k++) {
			if (fn(&v->endpoints.v[i].ports.v[k], arg))
				return true;
		}
	}
	return false;
}

struct exposed {
	unsigned port;
	char protocol[8];
};

static bool is_exposed(const struct port_mapping *p, const void *arg)
{
	const struct exposed *x = arg;

	return p->container_port == x->port && str_equal(p->protocol, x->protocol);
}

static void add_port(struct json *list, const struct port_mapping *p)
{
	struct json *j = json_new_object();

	json_set_string(j, "IP", str_empty(p->host_ip) ? "0.0.0.0" : p->host_ip);
	json_set_int(j, "PrivatePort", p->container_port);
	json_set_int(j, "PublicPort", p->host_port);
	json_set_string(j, "Type", p->protocol);
	json_add(list, j);
}

struct json *container_ports_summary(const struct container_view *v)
{
	struct json *list = json_new_array();

	for (size_t i = 0; i < v->endpoints.n; i++) {
		for (size_t k = 0; k < v->endpoints.v[i].ports.n; k++)
			add_port(list, &v->endpoints.v[i].ports.v[k]);
	}
	for (size_t i = 0; i < v->config.exposed_ports.n; i++) {
		struct exposed x = { .protocol = "tcp" };
		struct json *j;

		if (sscanf(v->config.exposed_ports.v[i], "%u/%7s", &x.port, x.protocol) < 1 ||
		    container_publishes(v, is_exposed, &x))
			continue;
		j = json_new_object();
		json_set_int(j, "PrivatePort", x.port);
		json_set_string(j, "Type", x.protocol);
		json_add(list, j);
	}
	return list;
}
