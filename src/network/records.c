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

#define RECORD_MAX (1 << 20)

struct network_document {
	char *name, *id, *driver, *subnet, *gateway, *bridge;
	bool internal;
	int64_t created_at;
	struct kvs labels, options;
};

static const struct json_field network_fields[] = {
	JSON_FIELD("name", FIELD_STRING, struct network_document, name, JSON_REQUIRED),
	JSON_FIELD("id", FIELD_STRING, struct network_document, id, JSON_REQUIRED),
	JSON_FIELD("driver", FIELD_STRING, struct network_document, driver, JSON_REQUIRED),
	JSON_FIELD("subnet", FIELD_STRING, struct network_document, subnet, 0),
	JSON_FIELD("gateway", FIELD_STRING, struct network_document, gateway, 0),
	JSON_FIELD("bridge", FIELD_STRING, struct network_document, bridge, 0),
	JSON_FIELD("internal", FIELD_BOOL, struct network_document, internal, 0),
	JSON_FIELD("createdAt", FIELD_INT, struct network_document, created_at, 0),
	JSON_FIELD("labels", FIELD_KVS, struct network_document, labels, 0),
	JSON_FIELD("options", FIELD_KVS, struct network_document, options, 0),
	JSON_END,
};

struct port_document {
	char *protocol, *host_ip;
	int host_port, container_port;
};

static const struct json_field port_fields[] = {
	JSON_FIELD("protocol", FIELD_STRING, struct port_document, protocol, JSON_REQUIRED),
	JSON_FIELD("hostIp", FIELD_STRING, struct port_document, host_ip, 0),
	JSON_FIELD("hostPort", FIELD_INT32, struct port_document, host_port, 0),
	JSON_FIELD("containerPort", FIELD_INT32, struct port_document, container_port, 0),
	JSON_END,
};

struct attachment_document {
	char *container, *network_id, *endpoint_id, *ifname, *host_ifname, *mac, *ip;
	struct {
		struct port_document *v;
		size_t n;
	} ports;
};

static const struct json_field attachment_fields[] = {
	JSON_FIELD("container", FIELD_STRING, struct attachment_document, container, JSON_REQUIRED),
	JSON_FIELD("networkId", FIELD_STRING, struct attachment_document, network_id,
		   JSON_REQUIRED),
	JSON_FIELD("endpointId", FIELD_STRING, struct attachment_document, endpoint_id, 0),
	JSON_FIELD("ifname", FIELD_STRING, struct attachment_document, ifname, 0),
	JSON_FIELD("hostIfname", FIELD_STRING, struct attachment_document, host_ifname, 0),
	JSON_FIELD("mac", FIELD_STRING, struct attachment_document, mac, 0),
	JSON_FIELD("ip", FIELD_STRING, struct attachment_document, ip, JSON_REQUIRED),
	JSON_SUB("ports", FIELD_ARRAY, struct attachment_document, ports, port_fields,
		 struct port_document, 0),
	JSON_END,
};

static char *subnet_string(const struct subnet *s)
{
	char text[16];

	if (s->prefix == 0)
		return NULL;
	address_format(s->net, text);
	return xasprintf("%s/%u", text, s->prefix);
}

int network_save(struct network_service *s, const struct network *n, struct error *err)
{
	char gateway[16];
	autofree char *subnet = subnet_string(&n->subnet);
	struct network_document d = {
		.name = n->name,
		.id = n->id,
		.driver = n->driver,
		.subnet = subnet,
		.gateway = n->subnet.prefix ? gateway : NULL,
		.bridge = n->bridge,
		.internal = n->internal,
		.created_at = n->created_at,
		.labels = n->labels,
		.options = n->options,
	};

	address_format(n->gateway, gateway);
	autojson struct json *j = jsontab_encode(network_fields, &d);
	autofree char *text = json_format(j, false);
	return record_put(&s->store, "network", n->id, text, /* sync */ true, err);
}

static int network_load(struct network_service *s, const char *text, struct error *err)
{
	autojson struct json *j = json_parse(text, strlen(text), RECORD_MAX, err);
	struct network_document d = { 0 };
	struct network *n;

	if (!j || jsontab_decode(network_fields, j, &d, err) < 0)
		return -1;
	n = xnew(struct network);
	list_init(&n->attachments);
	if ((d.subnet && subnet_parse(d.subnet, &n->subnet, err) < 0) ||
	    (d.gateway && address_parse(d.gateway, &n->gateway) < 0)) {
		jsontab_done(network_fields, &d);
		list_init(&n->node);
		network_free(n);
		return error_set(err, ERROR_DATA_LOSS, "bad subnet or gateway");
	}
	n->name = TAKE_PTR(d.name);
	n->id = TAKE_PTR(d.id);
	n->driver = TAKE_PTR(d.driver);
	n->bridge = TAKE_PTR(d.bridge);
	n->internal = d.internal;
	n->created_at = d.created_at;
	kvs_copy(&n->labels, &d.labels);
	kvs_copy(&n->options, &d.options);
	jsontab_done(network_fields, &d);
	list_append(&s->networks, &n->node);
	return 0;
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

int attachment_save(struct network_service *s, const struct attachment *a, struct error *err)
{
	const struct endpoint *e = &a->endpoint;
	autofree char *path = xasprintf("%s/%s.json", s->dir, a->container_id);
	autofree struct port_document *ports = xnew_array(struct port_document, e->ports.n + 1);
	struct attachment_document d = {
		.container = a->container_id,
		.network_id = e->network_id,
		.endpoint_id = e->endpoint_id,
		.ifname = e->ifname,
		.host_ifname = e->host_ifname,
		.mac = e->mac,
		.ip = e->ip,
		.ports = { ports, e->ports.n },
	};
	int r;

	for (size_t i = 0; i < e->ports.n; i++)
		ports[i] = (struct port_document){
			.protocol = e->ports.v[i].protocol,
			.host_ip = e->ports.v[i].host_ip,
			.host_port = (int)e->ports.v[i].host_port,
			.container_port = (int)e->ports.v[i].container_port,
		};
	autojson struct json *j = jsontab_encode(attachment_fields, &d);
	autofree char *text = json_format(j, false);
	r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, /* sync */ false);
	return r < 0 ? error_errno(err, -r, "write '%s'", path) : 0;
}

void attachment_forget(struct network_service *s, const char *container_id)
{
	autofree char *path = xasprintf("%s/%s.json", s->dir, container_id);

	unlink(path);
}

static void attachment_take(struct network *n, struct attachment_document *d)
{
	struct attachment *a = xnew(struct attachment);
	struct endpoint *e = &a->endpoint;
	char gateway[16];

	address_format(n->gateway, gateway);
	a->container_id = TAKE_PTR(d->container);
	e->network = xstrdup(n->name);
	e->network_id = TAKE_PTR(d->network_id);
	e->endpoint_id = TAKE_PTR(d->endpoint_id);
	e->ifname = TAKE_PTR(d->ifname);
	e->host_ifname = TAKE_PTR(d->host_ifname);
	e->mac = TAKE_PTR(d->mac);
	e->ip = TAKE_PTR(d->ip);
	e->gateway = xstrdup(gateway);
	e->prefix = n->subnet.prefix;
	e->ports.v = xnew_array(struct port_mapping, d->ports.n + 1);
	for (; e->ports.n < d->ports.n; e->ports.n++) {
		struct port_document *p = &d->ports.v[e->ports.n];

		e->ports.v[e->ports.n] = (struct port_mapping){
			.protocol = TAKE_PTR(p->protocol),
			.host_ip = TAKE_PTR(p->host_ip),
			.host_port = (unsigned)p->host_port,
			.container_port = (unsigned)p->container_port,
		};
	}
	list_append(&n->attachments, &a->node);
}

/* A file that cannot be read names no address that could be released: it goes. */
static void attachment_load(struct network_service *s, int dir, const char *name)
{
	autojson struct json *j = json_load_at(dir, name, RECORD_MAX, NULL);
	struct attachment_document d = { 0 };
	struct network *n = NULL;

	if (j && jsontab_decode(attachment_fields, j, &d, NULL) == 0)
		n = network_find(s, d.network_id);
	if (n)
		attachment_take(n, &d);
	else
		unlinkat(dir, name, 0);
	jsontab_done(attachment_fields, &d);
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

int attachments_load(struct network_service *s, struct error *err)
{
	CLEANUP(closedirp) DIR *dir = opendir(s->dir);

	if (!dir)
		return error_errno(err, errno, "open '%s'", s->dir);
	for (struct dirent *e; (e = readdir(dir));) {
		if (str_has_suffix(e->d_name, ".json"))
			attachment_load(s, dirfd(dir), e->d_name);
	}
	return 0;
}
