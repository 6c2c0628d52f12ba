#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 and IPv6 addresses and subnets as plain values. Sans-IO, any thread. */

#include "base/error.h"

#include <sys/socket.h>

#define IP_TEXT_MAX 46
#define SUBNET_TEXT_MAX 50

struct ip {
	uint8_t len;   /* 4, 16; 0: none */
	uint8_t b[16]; /* network byte order; bytes beyond len are 0 */
};

struct subnet {
	struct ip net; /* no host bits */
	unsigned prefix;
};

static inline bool ip_is_set(const struct ip *a)
{
	return a->len > 0;
}

static inline sa_family_t ip_family(const struct ip *a)
{
	return a->len == 16 ? AF_INET6 : AF_INET;
}

/* 0 or -EINVAL. */
int ip_parse(const char *s, struct ip *ret);
/* "" for none. */
void ip_format(const struct ip *a, char out[IP_TEXT_MAX]);
/* malloc'ed; NULL for none. */
char *ip_string(const struct ip *a);
/* IPv4 before IPv6, then by number. */
int ip_compare(const struct ip *a, const struct ip *b);
struct ip ip_from_v4(uint32_t host_order);
/* IPv4 only: host byte order. */
uint32_t ip_to_v4(const struct ip *a);
/* The next address; wraps. */
void ip_increment(struct ip *a);
/* 0.0.0.0 or ::. */
bool ip_is_any(const struct ip *a);
bool ip_is_loopback(const struct ip *a);
/* The port is in host byte order. Returns the length. */
socklen_t ip_sockaddr(const struct ip *a, uint16_t port, struct sockaddr_storage *ret);

/* "172.18.0.0/16", "fd00::/64". 0 or -EINVAL; host bits are cleared, and *ret_host_bits (may be
 * NULL) tells whether there were any. */
int subnet_parse(const char *s, struct subnet *ret, bool *ret_host_bits);
void subnet_format(const struct subnet *s, char out[SUBNET_TEXT_MAX]);
struct ip subnet_last(const struct subnet *s);
bool subnet_contains(const struct subnet *s, const struct ip *a);
bool subnet_overlaps(const struct subnet *a, const struct subnet *b);
