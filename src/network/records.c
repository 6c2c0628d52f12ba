/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks are records of the store; who has which address is a run-time fact: one file a container
 * under <state>/network, written before anything is made on the host, so that a new daemon can
 * release what an old one left half-made.
 */

#include "base/fs.h"
#include "base/jsontab.h"
#include "base/mem.h"
#include "network/internal.h"
#include "store/containers.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#define RECORD_MAX (8 << 20)

static const struct json_field pool_fields[] = {
	JSON_FIELD("subnet", FIELD_STRING, struct pool_spec, subnet, 0),
	JSON_FIELD("range", FIELD_STRING, struct pool_spec, range, 0),
	JSON_FIELD("gateway", FIELD_STRING, struct pool_spec, gateway, 0),
	JSON_FIELD("aux", FIELD_KVS, struct pool_spec, aux, 0),
	JSON_END,
};

#define S struct network_spec
const struct json_field network_spec_fields[] = {
	JSON_FIELD("name", FIELD_STRING, S, name, JSON_REQUIRED),
	JSON_FIELD("driver", FIELD_STRING, S, driver, JSON_REQUIRED),
	JSON_FIELD("internal", FIELD_BOOL, S, internal, 0),
	JSON_FIELD("attachable", FIELD_BOOL, S, attachable, 0),
	JSON_FIELD("ipv6", FIELD_BOOL, S, ipv6, 0),
	JSON_FIELD("noIPv4", FIELD_BOOL, S, no_ipv4, 0),
	JSON_FIELD("poolsChosen", FIELD_BOOL, S, pools_chosen, 0),
	JSON_SUB("pools", FIELD_ARRAY, S, pools, pool_fields, struct pool_spec, 0),
	JSON_FIELD("labels", FIELD_KVS, S, labels, 0),
	JSON_FIELD("options", FIELD_KVS, S, options, 0),
	JSON_FIELD("ipamOptions", FIELD_KVS, S, ipam_options, 0),
	JSON_END,
};

/* Beside the specification's members; subnet and gateway were all that an earlier version knew. */
struct network_document {
	char *id, *bridge, *subnet, *gateway;
	bool foreign;
	int64_t created_at;
};

static const struct json_field network_fields[] = {
	JSON_FIELD("id", FIELD_STRING, struct network_document, id, JSON_REQUIRED),
	JSON_FIELD("bridge", FIELD_STRING, struct network_document, bridge, 0),
	JSON_FIELD("subnet", FIELD_STRING, struct network_document, subnet, 0),
	JSON_FIELD("gateway", FIELD_STRING, struct network_document, gateway, 0),
	JSON_FIELD("foreign", FIELD_BOOL, struct network_document, foreign, 0),
	JSON_FIELD("createdAt", FIELD_INT, struct network_document, created_at, 0),
	JSON_END,
};

static const struct json_field port_fields[] = {
	JSON_FIELD("protocol", FIELD_STRING, struct port_mapping, protocol, 0),
	JSON_FIELD("hostIP", FIELD_STRING, struct port_mapping, host_ip, 0),
	JSON_FIELD("hostPort", FIELD_INT32, struct port_mapping, host_port, 0),
	JSON_FIELD("hostPortEnd", FIELD_INT32, struct port_mapping, host_port_end, 0),
	JSON_FIELD("containerPort", FIELD_INT32, struct port_mapping, container_port, 0),
	JSON_END,
};

#define E struct endpoint
const struct json_field endpoint_fields[] = {
	JSON_FIELD("network", FIELD_STRING, E, network, 0),
	JSON_FIELD("networkID", FIELD_STRING, E, network_id, 0),
	JSON_FIELD("driver", FIELD_STRING, E, driver, 0),
	JSON_FIELD("endpointID", FIELD_STRING, E, endpoint_id, 0),
	JSON_FIELD("ifname", FIELD_STRING, E, ifname, 0),
	JSON_FIELD("hostIfname", FIELD_STRING, E, host_ifname, 0),
	JSON_FIELD("mac", FIELD_STRING, E, mac, 0),
	JSON_FIELD("ip", FIELD_STRING, E, ip, 0),
	JSON_FIELD("prefix", FIELD_INT32, E, prefix, 0),
	JSON_FIELD("gateway", FIELD_STRING, E, gateway, 0),
	JSON_FIELD("ip6", FIELD_STRING, E, ip6, 0),
	JSON_FIELD("prefix6", FIELD_INT32, E, prefix6, 0),
	JSON_FIELD("gateway6", FIELD_STRING, E, gateway6, 0),
	JSON_FIELD("dnsNames", FIELD_STRV, E, dns_names, 0),
	JSON_FIELD("links", FIELD_STRV, E, links, 0),
	JSON_FIELD("gwPriority", FIELD_INT, E, gw_priority, 0),
	JSON_SUB("ports", FIELD_ARRAY, E, ports, port_fields, struct port_mapping, 0),
	JSON_END,
};

struct netspace_document {
	char *container, *name;
	int udp_port, tcp_port;
	struct strv dns, host_dns;
	struct port_mappings ports;
	struct endpoints endpoints;
};

#define B struct netspace_document
static const struct json_field netspace_fields[] = {
	JSON_FIELD("container", FIELD_STRING, B, container, JSON_REQUIRED),
	JSON_FIELD("name", FIELD_STRING, B, name, 0),
	JSON_FIELD("dnsUDPPort", FIELD_INT32, B, udp_port, 0),
	JSON_FIELD("dnsTCPPort", FIELD_INT32, B, tcp_port, 0),
	JSON_FIELD("dns", FIELD_STRV, B, dns, 0),
	JSON_FIELD("hostDNS", FIELD_STRV, B, host_dns, 0),
	JSON_SUB("ports", FIELD_ARRAY, B, ports, port_fields, struct port_mapping, 0),
	JSON_SUB("endpoints", FIELD_ARRAY, B, endpoints, endpoint_fields, struct endpoint, 0),
	JSON_END,
};

void network_spec_done(struct network_spec *s)
{
	jsontab_done(network_spec_fields, s);
	*s = (struct network_spec){ 0 };
}

const struct network_driver *driver_find(const char *name)
{
	static const struct network_driver *const drivers[] = { &bridge_driver, &macvlan_driver,
								&ipvlan_driver };

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		if (str_equal(drivers[i]->name, name))
			return drivers[i];
	}
	return NULL;
}

int network_save(struct network_service *s, const struct network *n, struct error *err)
{
	autojson struct json *j = jsontab_encode(network_spec_fields, &n->spec);

	json_set_string(j, "id", n->id);
	if (n->link)
		json_set_string(j, "bridge", n->link);
	json_set_bool(j, "foreign", n->foreign);
	json_set_int(j, "createdAt", n->created_at);
	autofree char *text = json_format(j, false);
	return record_put(&s->store, "network", n->id, text, /* sync */ true, err);
}

static void take_old_pool(struct network *n, struct network_document *d)
{
	n->spec.pools.v = xnew_array(struct pool_spec, 1);
	n->spec.pools.n = 1;
	n->spec.pools.v[0].subnet = TAKE_PTR(d->subnet);
	n->spec.pools.v[0].gateway = TAKE_PTR(d->gateway);
}

static int network_load(struct network_service *s, const char *text, struct error *err)
{
	autojson struct json *j = json_parse(text, strlen(text), RECORD_MAX, err);
	struct network_document d = { 0 };
	struct network *n = xnew(struct network);
	int r;

	list_init(&n->node);
	list_init(&n->attachments);
	r = !j || jsontab_decode(network_spec_fields, j, &n->spec, err) < 0 ||
			    jsontab_decode(network_fields, j, &d, err) < 0
		    ? -1
		    : 0;
	if (r == 0) {
		if (d.subnet && n->spec.pools.n == 0)
			take_old_pool(n, &d);
		n->id = TAKE_PTR(d.id);
		n->link = TAKE_PTR(d.bridge);
		n->foreign = d.foreign;
		n->created_at = d.created_at;
		n->driver = driver_find(n->spec.driver);
		r = pools_load(n, err);
	}
	if (r == 0 && n->driver)
		r = n->driver->configure(n, err);
	jsontab_done(network_fields, &d);
	if (r == 0)
		list_append(&s->networks, &n->node);
	else
		network_free(n);
	return r;
}

int networks_load(struct network_service *s, struct error *err)
{
	autokvs struct kvs records = KVS_INIT;

	if (record_list(&s->store, "network", &records, err) < 0)
		return -1;
	for (size_t i = 0; i < records.n; i++) {
		if (network_load(s, records.v[i].value, err) < 0)
			return error_wrap(err, "network record '%s'", records.v[i].key);
	}
	return 0;
}

int netspace_save(struct network_service *s, const struct netspace *b, struct error *err)
{
	autofree char *path = xasprintf("%s/%s.json", s->dir, b->container_id);
	autofree struct endpoint *endpoints =
		xnew_array(struct endpoint, (size_t)attachment_count(b) + 1);
	/* Borrowed throughout: the document is only read. */
	struct netspace_document d = {
		.container = b->container_id,
		.name = b->name,
		.udp_port = b->dns_port[0],
		.tcp_port = b->dns_port[1],
		.dns = b->dns,
		.host_dns = b->host_dns,
		.ports = b->ports,
		.endpoints = { .v = endpoints },
	};
	int r;

	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node)
		endpoints[d.endpoints.n++] = a->endpoint;
	autojson struct json *j = jsontab_encode(netspace_fields, &d);
	autofree char *text = json_format(j, false);
	r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, /* sync */ false);
	return r < 0 ? error_errno(err, -r, "write '%s'", path) : 0;
}

void netspace_forget(struct network_service *s, const char *container_id)
{
	autofree char *path = xasprintf("%s/%s.json", s->dir, container_id);

	unlink(path);
}

/* Takes the endpoint's contents. */
static void attachment_take(struct netspace *b, struct network *n, struct endpoint *e)
{
	struct attachment *a = xnew(struct attachment);

	a->endpoint = *e;
	*e = (struct endpoint){ 0 };
	a->network = n;
	a->netspace = b;
	if (a->endpoint.ip)
		ip_parse(a->endpoint.ip, &a->ip[FAMILY_4]);
	if (a->endpoint.ip6)
		ip_parse(a->endpoint.ip6, &a->ip[FAMILY_6]);
	for (size_t i = 0; i < a->endpoint.ports.n; i++) {
		if (!a->endpoint.ports.v[i].host_ip)
			a->endpoint.ports.v[i].host_ip = xstrdup("0.0.0.0");
	}
	list_append(&n->attachments, &a->node);
	list_append(&b->attachments, &a->netspace_node);
}

/* A file that cannot be read names no address that could be released: it goes. */
static void netspace_load(struct network_service *s, int dir, const char *name)
{
	autojson struct json *j = json_load_at(dir, name, RECORD_MAX, NULL);
	struct netspace_document d = { 0 };

	if (!j || jsontab_decode(netspace_fields, j, &d, NULL) < 0 ||
	    map_get(&s->netspaces, d.container)) {
		unlinkat(dir, name, 0);
		jsontab_done(netspace_fields, &d);
		return;
	}
	struct netspace *b = xnew(struct netspace);

	list_init(&b->attachments);
	b->container_id = TAKE_PTR(d.container);
	b->name = TAKE_PTR(d.name);
	b->dns_port[0] = d.udp_port;
	b->dns_port[1] = d.tcp_port;
	strv_copy(&b->dns, &d.dns);
	strv_copy(&b->host_dns, &d.host_dns);
	b->ports = d.ports;
	d.ports = (struct port_mappings){ 0 };
	for (size_t i = 0; i < d.endpoints.n; i++) {
		struct endpoint *e = &d.endpoints.v[i];
		struct network *n = e->network_id ? network_find(s, e->network_id) : NULL;

		if (n)
			attachment_take(b, n, e);
	}
	map_set(&s->netspaces, b->container_id, b);
	jsontab_done(netspace_fields, &d);
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

int netspaces_load(struct network_service *s, struct error *err)
{
	CLEANUP(closedirp) DIR *dir = opendir(s->dir);

	if (!dir)
		return error_errno(err, errno, "open '%s'", s->dir);
	for (struct dirent *e; (e = readdir(dir));) {
		if (str_has_suffix(e->d_name, ".json"))
			netspace_load(s, dirfd(dir), e->d_name);
	}
	return 0;
}
