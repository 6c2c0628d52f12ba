#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service's tables and what its files share. Internal to src/network.
 *
 *	network		what a user made; its attachments are the endpoints in it
 *	netspace	a container's network namespace; its attachments are its endpoints, in
 *			order of joining
 *
 * `lock` guards the tables and all fields; it is not held over netlink. `setup` is taken before
 * it: networks come into being on the host, and go, one at a time. A netspace is changed by one
 * thread at a time: its container's operation lock sees to that.
 */

#include "base/list.h"
#include "network/ip.h"
#include "network/netlink.h"
#include "network/network.h"
#include "network/nft.h"

#include <net/if.h>
#include <pthread.h>

/* Networks belong to no namespace; this is where their records lie. */
#define NETWORKS_NS "default"
#define DEFAULT_NETWORK "bridge"
#define PORTS_MAX 4096	  /* published ones of a container */
#define ENDPOINTS_MAX 64  /* of a container */
#define ADDRESSES_MAX 256 /* pools of a network, and names set aside in one */

enum family { FAMILY_4, FAMILY_6, FAMILY_MAX };

struct pool {
	struct subnet subnet;
	struct subnet range; /* addresses are chosen from it; the subnet where none was given */
	struct ip gateway;
	struct ip *aux;
	size_t n_aux;
};

/* What options mean; see bridge.c and vlan.c. */
struct driver_options {
	bool icc, masquerade[FAMILY_MAX], routed[FAMILY_MAX];
	unsigned mtu; /* 0: the kernel's */
	struct ip host_binding;
	unsigned mode;	 /* of macvlan, ipvlan */
	unsigned vlan;	 /* id of a VLAN link to be made on the parent; 0: none */
	char *lower;	 /* what the VLAN link stands on */
	char *if_prefix; /* instead of "eth" */
};

struct network {
	struct list node;
	struct network_spec spec; /* pools are complete when `pools` is */
	const struct network_driver *driver;
	char *id;
	struct pool *pools; /* as many as spec.pools; none yet for the default network */
	size_t n_pools;
	struct driver_options options;
	char *link;   /* bridge, or parent */
	bool foreign; /* the link was there before us: it stays */
	bool fresh;   /* being created: a link that is there already is foreign */
	bool ready;   /* made or checked by this process */
	int64_t created_at;
	struct list attachments;
};

struct attachment {
	struct list node;	   /* network's */
	struct list netspace_node; /* netspace's */
	struct network *network;
	struct netspace *netspace;
	struct endpoint endpoint;
	struct ip ip[FAMILY_MAX];
	uint8_t mac[6];
	unsigned ifindex;  /* in the container, once it is known */
	int *reservations; /* one for each of endpoint.ports: sockets, or -EBADF */
	bool leaving;	   /* is no gateway any more */
};

struct netspace {
	char *container_id, *name;
	struct list attachments;
	struct attachment *gateway[FAMILY_MAX];
	struct port_mappings ports; /* as asked for */
	struct strv dns, host_dns;
	int dns_port[2]; /* UDP, TCP; 0: no name server */
	bool detaching;	 /* locked: by network_detach() */
};

struct network_service {
	struct store_ctx store;
	struct loop *loop;
	struct jobs *jobs;
	char *dir;	/* <state>/network */
	char *instance; /* tells daemons of one host apart: part of what is derived from it */
	struct list networks;
	struct map netspaces; /* by container id */
	struct dns_service *dns;
	struct rules_watch *watch;
	pthread_mutex_t lock;
	pthread_mutex_t setup;
	pthread_cond_t detached; /* with lock: a detach has ended */
};

/* A container's side and the host's. */
struct link_ends {
	struct netlink host, inside;
	int netns_fd;
};

struct network_driver {
	const char *name;
	/* Reads spec.options, at creation and at load. */
	int (*configure)(struct network *n, struct error *err);
	/* With `setup` held. */
	int (*ensure)(struct network_service *s, struct network *n, struct error *err);
	int (*remove)(struct network_service *s, struct network *n, struct error *err);
	/* An interface in the namespace, named as the endpoint says; down. */
	int (*join)(struct network *n, struct attachment *a, struct link_ends *ends,
		    struct error *err);
};

extern const struct network_driver bridge_driver, macvlan_driver, ipvlan_driver;

void network_free(struct network *n);
void attachment_free(struct attachment *a);
void netspace_free(struct netspace *b);
/* With the lock held. */
struct network *network_find(struct network_service *s, const char *name_or_id);
struct attachment *attachment_find(struct netspace *b, const char *network_id);
int attachment_count(const struct netspace *b);

/* ipam.c */
/* Parses and completes spec.pools into pools; with both locks held. Docker's words. */
int pools_plan(struct network_service *s, struct network *n, struct error *err);
/* Those of a record. */
int pools_load(struct network *n, struct error *err);
/* IPv4, when the default network comes to the host. */
int pool_choose_default(struct network_service *s, struct network *n, struct error *err);
/* The pool's lowest free address, or `wanted`. With the lock held. */
int address_choose(const struct network *n, enum family f, const struct ip *wanted,
		   const struct pool **ret_pool, struct ip *ret, struct error *err);
/* The pool of a family that an address is in (NULL address: the first). NULL: none. */
const struct pool *pool_of(const struct network *n, enum family f, const struct ip *a);

/* ports.c; with the lock held. */
/* Chooses and reserves a host port for each of the netspace's ports that suits the family; they
 * become the endpoint's. */
int ports_bind(struct network_service *s, struct attachment *a, enum family f, struct error *err);
/* After a restart, as well as it can be done. */
void ports_reserve(struct attachment *a);
void ports_release(struct attachment *a, enum family f);
void ports_move(struct attachment *from, struct attachment *to, enum family f);
/* Those of a family as rules; returns how many. out has room for all of the endpoint's. */
size_t ports_to_nft(const struct attachment *a, enum family f, struct nft_port *out);

/* records.c */
int network_save(struct network_service *s, const struct network *n, struct error *err);
int networks_load(struct network_service *s, struct error *err);
int netspace_save(struct network_service *s, const struct netspace *b, struct error *err);
void netspace_forget(struct network_service *s, const char *container_id);
int netspaces_load(struct network_service *s, struct error *err);
const struct network_driver *driver_find(const char *name);

/* ports, copied with "tcp" for no protocol */
void port_mappings_done(struct port_mappings *p);
void port_mappings_copy(struct port_mappings *dst, const struct port_mapping *v, size_t n);

/* bridge.c, with `setup` held: the network's table with all published ports, in one transaction. */
int bridge_rules(struct network_service *s, struct network *n, struct error *err);
/* Its way through iptables' FORWARD chain, which is part of the former. */
int bridge_way(const struct network *n, struct error *err);

/* netns.c: runs fn with the calling thread in the namespace. */
int netns_call(int netns_fd, int (*fn)(void *arg, struct error *err), void *arg, struct error *err);
