#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* The service's table of networks and its records. Internal to src/network. */

#include "base/list.h"
#include "network/network.h"
#include "network/nft.h"

#include <pthread.h>

#define NETWORKS_NS                                                                   \
	"default" /* networks belong to no namespace; this is where their records lie \
		   */

/* Host byte order. */
struct subnet {
	uint32_t net;
	unsigned prefix;
};

struct attachment {
	struct list node;
	char *container_id;
	struct endpoint endpoint;
};

struct network {
	struct list node;
	char *name, *id, *driver;
	struct subnet subnet; /* prefix 0: none yet */
	uint32_t gateway;
	char *bridge;
	bool internal;
	bool ready; /* bridge and rules have been made or checked by this process */
	int64_t created_at;
	struct kvs labels, options;
	struct list attachments;
};

struct network_service {
	struct store_ctx store;
	char *dir; /* <state>/network */
	struct list networks;
	pthread_mutex_t lock;  /* tables; not held over netlink */
	pthread_mutex_t setup; /* making and removing bridges; taken before lock */
};

void network_free(struct network *n);
void attachment_free(struct attachment *a);
/* With the lock held. */
struct network *network_find(struct network_service *s, const char *name_or_id);
struct attachment *attachment_find(struct network_service *s, const char *container_id,
				   struct network **ret_network);

/* "172.18.0.0/16": INVALID_ARGUMENT. */
int subnet_parse(const char *s, struct subnet *ret, struct error *err);
bool subnet_overlaps(const struct subnet *a, const struct subnet *b);
void address_format(uint32_t host_order, char out[16]);
int address_parse(const char *s, uint32_t *ret);
/* A pool that neither a route of the host nor a network of ours overlaps. RESOURCE_EXHAUSTED. */
int subnet_choose(struct network_service *s, struct subnet *ret, struct error *err);
/* Lowest free address of the network, or `wanted` (0: any). With the lock held. */
int address_choose(const struct network *n, uint32_t wanted, uint32_t *ret, struct error *err);
/* Fills host ports that are 0, refuses those in use. With the lock held. */
int ports_choose(struct network_service *s, struct endpoint *e, struct error *err);

int network_save(struct network_service *s, const struct network *n, struct error *err);
int networks_load(struct network_service *s, struct error *err);
int attachment_save(struct network_service *s, const struct attachment *a, struct error *err);
void attachment_forget(struct network_service *s, const char *container_id);
int attachments_load(struct network_service *s, struct error *err);

/* One for each port of the endpoint; returns how many. */
size_t endpoint_nft_ports(const struct endpoint *e, struct nft_port *out);

/* Bridge, address, rules and published ports, once a process. With `setup` held. */
int bridge_ensure(struct network_service *s, struct network *n, struct error *err);
int bridge_remove(const struct network *n, struct error *err);
