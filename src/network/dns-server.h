#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name servers of containers: each container on a network of a user's has one, at 127.0.0.11 in
 * its own network namespace. Its sockets are made there and served by the daemon's loop; they come
 * back with the next daemon, at the same ports, since the namespace's rules lead to them.
 *
 * What no network knows is asked from the servers that the container names, from within its
 * namespace, or from the host's, from the host. Containers that have no way out ask the former
 * only. Internal to src/network.
 */

#include "network/dns.h"

struct network_service;
struct netspace;
struct dns_service;

enum dns_verdict { DNS_ANSWER, DNS_FORWARD, DNS_FORWARD_INSIDE, DNS_REFUSE };

/* resolver.c; any thread, never blocks for long. */
enum dns_verdict netspace_resolve(struct network_service *s, const char *container_id,
				  const struct dns_query *q, struct dns_answer *ret);

/* Loop thread. */
struct dns_service *dns_service_new(struct network_service *s);
void dns_service_free(struct dns_service *d);

/* Makes the sockets and the rules that lead to them; the netspace gets to know its ports. Any
 * thread. Without a loop nothing is done. */
int dns_open(struct network_service *s, struct netspace *b, int netns_fd, struct error *err);
/* Absent is success. Any thread. */
void dns_close(struct network_service *s, const char *container_id);
/* Does it need one? */
bool dns_wanted(const struct netspace *b);
