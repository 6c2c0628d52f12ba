#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks: the built-in bridge driver over netlink and nftables (no external binary), namespaces,
 * address management, and the files that go with a network (hosts, resolv.conf).
 *
 * A container's network namespace is made here (netns_create) and given to the runtime by path;
 * nothing pins it: it lives as long as a process is in it, and its veth pair dies with it. Run-time
 * facts lie in <state>/network, so that a new daemon knows which address is whose. Any pool thread;
 * calls block briefly.
 */

#include "base/error.h"
#include "base/map.h"
#include "store/store.h"

struct network_service;

struct network_service_config {
	struct store *store;
	const char *state;
	const char *bridge; /* default bridge's interface, NULL: "kistl0" */
	const char *subnet; /* NULL: the first of 172.18.0.0/16 ... that no route of the host
			       overlaps */
};

/* Makes nothing on the host yet: the default bridge comes with its first container. */
int network_service_new(const struct network_service_config *config, struct network_service **ret,
			struct error *err);
void network_service_free(struct network_service *s);

/* A new namespace with loopback up: a descriptor (O_CLOEXEC), or -1. */
int netns_create(struct error *err);

struct port_mapping {
	char *protocol;
	char *host_ip;
	unsigned host_port; /* 0 in: choose; out: chosen */
	unsigned container_port;
};

struct endpoint {
	char *network; /* name */
	char *network_id;
	char *endpoint_id;
	char *ifname;	   /* in the container: "eth0" */
	char *host_ifname; /* "veth..." */
	char *mac;
	char *ip; /* "172.18.0.2" */
	unsigned prefix;
	char *gateway;
	struct {
		struct port_mapping *v;
		size_t n;
	} ports;
};

void endpoint_done(struct endpoint *e);
void endpoint_copy(struct endpoint *dst, const struct endpoint *src);

struct endpoint_request {
	const char *container_id;
	const char *network;  /* name or id; "bridge" is the default one */
	const char *ip, *mac; /* NULL: choose */
	const struct port_mapping *ports;
	size_t n_ports;
};

/* Bridge, veth, address, route, masquerade, published ports (nftables DNAT). All undone on failure.
 * RESOURCE_EXHAUSTED: no address; ALREADY_EXISTS: address or port in use (Docker's words: "Bind for
 * 0.0.0.0:80 failed: port is already allocated"). */
int network_attach(struct network_service *s, int netns_fd, const struct endpoint_request *r,
		   struct endpoint *ret, struct error *err);
/* Address, rules, record; the veth if it is still there. Absent is success. */
int network_detach(struct network_service *s, const char *container_id, struct error *err);
/* After a restart: releases what belongs to containers not in `alive`. */
int network_reconcile(struct network_service *s, const struct strv *alive, struct error *err);
/* Counters of the container's interfaces but lo, read in its namespace through /proc/<pid>/net/dev.
 */
struct network_counters {
	uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped;
	uint64_t tx_bytes, tx_packets, tx_errors, tx_dropped;
};
int network_counters(int pid, struct network_counters *ret, struct error *err);

/* What exists: "bridge", "host", "none" and user-defined ones. */
struct network_view {
	char *name, *id, *driver; /* "bridge", "host", "null" */
	char *subnet, *gateway, *bridge;
	int64_t created_at;
	bool internal;
	struct kvs labels, options;
	struct {
		struct endpoint *v;
		size_t n;
	} endpoints;		   /* endpoint_id, mac, ip ... of each */
	struct strv container_ids; /* same order */
};

struct network_views {
	struct network_view *v;
	size_t n;
};

void network_view_done(struct network_view *v);
void network_views_done(struct network_views *v);
int network_list(struct network_service *s, struct network_views *ret, struct error *err);
int network_get(struct network_service *s, const char *name_or_id, struct network_view *ret,
		struct error *err);
int network_create(struct network_service *s, const char *name, const char *subnet,
		   const char *gateway, bool internal, const struct kvs *labels,
		   const struct kvs *options, char ret_id[65], struct error *err);
/* FAILED_PRECONDITION while it has endpoints, or for a predefined one. */
int network_remove(struct network_service *s, const char *name_or_id, struct error *err);

/* Text of /etc/hosts: localhost lines, extra ("name:ip", "host-gateway" resolved to gateway), own
 * name. malloc'ed. */
char *hosts_format(const struct strv *extra_hosts, const char *gateway, const char *ip,
		   const char *hostname, const char *domainname);
/* Text of resolv.conf: the host's (systemd-resolved's real one when it is a stub), loopback servers
 * dropped unless host network; dns, search, options override. Nothing left: public fallback as
 * Docker has. malloc'ed. Sans-IO. */
char *resolv_conf_format(const char *host_text, const struct strv *dns, const struct strv *search,
			 const struct strv *options, bool host_network);
char *resolv_conf_host(void); /* reads it */
