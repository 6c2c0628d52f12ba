#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks: the built-in bridge driver over netlink and nftables (no external binary), namespaces,
 * address management, and the files that go with a network (hosts, resolv.conf).
 *
 * A container's network namespace is made here (netns_create) and given to the runtime by path; it
 * lives as long as a process is in it, or its name server's sockets, and its veth pairs die with
 * it. Run-time facts lie in <state>/network, so that a new daemon knows which address is whose. Any
 * pool thread; calls block briefly.
 */

#include "base/error.h"
#include "base/jsontab.h"
#include "base/map.h"
#include "loop/job.h"
#include "store/store.h"

struct network_service;

struct network_service_config {
	struct store *store;
	const char *state;
	const char *bridge; /* default bridge's interface, NULL: "kistl0" */
	const char *subnet; /* NULL: the first of 172.18.0.0/16 ... that no route of the host
			       overlaps */
	struct loop *loop;  /* serves container DNS, watches the rules; NULL: neither */
	struct jobs *jobs;  /* for what the loop finds to do */
};

/* Makes nothing on the host yet: the default bridge comes with its first container. */
int network_service_new(const struct network_service_config *config, struct network_service **ret,
			struct error *err);
void network_service_free(struct network_service *s); /* loop thread */

/* A new namespace with loopback up: a descriptor (O_CLOEXEC), or -1. */
int netns_create(struct error *err);

struct port_mapping {
	char *protocol;
	char *host_ip;		/* NULL in: every address of the host */
	unsigned host_port;	/* 0 in: choose; out: chosen */
	unsigned host_port_end; /* in: the first free one up to this; 0: just host_port */
	unsigned container_port;
};

struct port_mappings {
	struct port_mapping *v;
	size_t n;
};

struct endpoint {
	char *network; /* name */
	char *network_id;
	char *driver; /* of the network */
	char *endpoint_id;
	char *ifname;	   /* in the container: "eth0" */
	char *host_ifname; /* "veth..."; NULL: none */
	char *mac;
	char *ip; /* "172.18.0.2"; NULL: none */
	unsigned prefix;
	char *gateway;
	char *ip6;
	unsigned prefix6;
	char *gateway6;
	struct strv dns_names; /* what it is called on this network */
	struct strv links;     /* "container:alias", seen by this endpoint's container only */
	int64_t gw_priority;
	struct port_mappings ports; /* published through this endpoint */
};

struct endpoints {
	struct endpoint *v;
	size_t n;
};

extern const struct json_field endpoint_fields[];
void endpoint_done(struct endpoint *e);
void endpoint_copy(struct endpoint *dst, const struct endpoint *src);
void endpoints_done(struct endpoints *e);
void endpoints_copy(struct endpoints *dst, const struct endpoints *src);

/* Strings are borrowed. */
struct endpoint_request {
	const char *network;	    /* name or id; "bridge" is the default one */
	const char *ip, *ip6, *mac; /* NULL: choose */
	const char *ifname;	    /* NULL: "eth0" and so on */
	const struct strv *dns_names, *links;
	int64_t gw_priority;
};

/* A container's network namespace and all that is in it. */
struct netspace_request {
	const char *container_id;
	const char *name; /* for messages */
	const struct endpoint_request *endpoints;
	size_t n_endpoints;
	const struct port_mapping *ports;
	size_t n_ports;
	const struct strv *dns; /* servers asked from within the namespace; empty: the host's */
};

/*
 * Bridges, veths, addresses, routes, masquerade, published ports (nftables DNAT), name server. All
 * undone on failure. What the container has then, in order of joining.
 * RESOURCE_EXHAUSTED: no address; INTERNAL: port in use (Docker's words and status: "Bind for
 * 0.0.0.0:80 failed: port is already allocated"); PERMISSION_DENIED: address in use.
 */
int network_attach(struct network_service *s, int netns_fd, const struct netspace_request *r,
		   struct endpoints *ret, struct error *err);
/* One more, or one less, of a container that has been attached. */
int network_connect(struct network_service *s, int netns_fd, const char *container_id,
		    const struct endpoint_request *r, struct endpoints *ret, struct error *err);
int network_disconnect(struct network_service *s, int netns_fd, const char *container_id,
		       const char *network, struct endpoints *ret, struct error *err);
/* New names of one endpoint. Absent is success. */
int network_rename(struct network_service *s, const char *container_id, const char *network,
		   const struct strv *dns_names, struct error *err);
/* Addresses, rules, record; links if they are still there. Absent is success. */
int network_detach(struct network_service *s, const char *container_id, struct error *err);

/* A container that runs, and a process in its network namespace. */
struct network_alive {
	const char *container_id;
	int pid;
};

/* After a restart: releases what belongs to containers that are not alive, takes care of the
 * others: rules, reserved ports, name servers. Loop thread. */
int network_reconcile(struct network_service *s, const struct network_alive *alive, size_t n,
		      struct error *err);
/* Counters of the container's interfaces but lo, read in its namespace through /proc/<pid>/net/dev.
 */
struct network_counters {
	uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped;
	uint64_t tx_bytes, tx_packets, tx_errors, tx_dropped;
};
int network_counters(int pid, struct network_counters *ret, struct error *err);

/* One pool of addresses; all as text. */
struct pool_spec {
	char *subnet;	/* NULL: choose */
	char *range;	/* NULL: all of it */
	char *gateway;	/* NULL: choose */
	struct kvs aux; /* name to address: never given to anybody */
};

/* What a network is asked to be, and, in views and records, is. */
struct network_spec {
	char *name;
	char *driver; /* "bridge", "macvlan", "ipvlan"; "host", "null" are predefined only */
	bool internal, attachable, ipv6, no_ipv4;
	bool pools_chosen; /* the user named no subnet */
	struct {
		struct pool_spec *v;
		size_t n;
	} pools;
	struct kvs labels, options, ipam_options;
};

extern const struct json_field network_spec_fields[];
void network_spec_done(struct network_spec *s);

/* What exists: "bridge", "host", "none" and user-defined ones. */
struct network_view {
	struct network_spec spec;
	char *id;
	char *link; /* the bridge's interface, or the parent's; NULL: none */
	int64_t created_at;
	struct endpoints endpoints;
	struct strv container_ids; /* same order */
};

struct network_views {
	struct network_view *v;
	size_t n;
};

void network_view_done(struct network_view *v);
void network_views_done(struct network_views *v);
bool network_is_predefined(const char *name);
int network_list(struct network_service *s, struct network_views *ret, struct error *err);
int network_get(struct network_service *s, const char *name_or_id, struct network_view *ret,
		struct error *err);
/* Codes and words are Docker's: ALREADY_EXISTS, PERMISSION_DENIED (overlap, predefined). */
int network_create(struct network_service *s, const struct network_spec *spec, char ret_id[65],
		   struct error *err);
/* PERMISSION_DENIED while it has endpoints, or for a predefined one. */
int network_remove(struct network_service *s, const char *name_or_id, struct error *err);

struct host_entry {
	const char *ip;
	const char *names; /* separated by spaces */
};

/* Text of /etc/hosts: base (NULL: localhost lines), extra ("name:ip", "name=ip", "host-gateway"
 * resolved to gateway), further entries. malloc'ed. */
char *hosts_format(const char *base, const struct strv *extra_hosts, const char *gateway,
		   const struct host_entry *entries, size_t n);
/* Text of resolv.conf: the host's (systemd-resolved's real one when it is a stub), loopback servers
 * dropped unless host network; dns, search, options override. Nothing left: public fallback as
 * Docker has. `own`: the network's name server (127.0.0.11) is asked instead, which in turn asks
 * those. malloc'ed. Sans-IO. */
enum resolv_mode { RESOLV_BRIDGE, RESOLV_HOST, RESOLV_OWN };
char *resolv_conf_format(const char *host_text, const struct strv *dns, const struct strv *search,
			 const struct strv *options, enum resolv_mode mode);
/* Adds the addresses of its name servers, loopback ones included. Sans-IO. */
void resolv_conf_servers(const char *text, struct strv *ret);
char *resolv_conf_host(void); /* reads it */
