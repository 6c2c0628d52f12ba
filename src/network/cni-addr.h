#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 and IPv6 addresses and prefixes as CNI documents have them. Sans-IO; IPv4 in IPv6's mapped
 * form is IPv4. */

#include "base/macros.h"

struct cni_addr {
	uint8_t len; /* 4, 16; 0: none */
	uint8_t b[16];
};

struct cni_net {
	struct cni_addr addr; /* host bits are kept */
	unsigned prefix;
};

#define CNI_NET_STRING_MAX 64

/* -EINVAL. */
int cni_addr_parse(const char *s, struct cni_addr *ret);
/* "10.0.0.1/16"; -EINVAL. */
int cni_net_parse(const char *s, struct cni_net *ret);
void cni_addr_format(const struct cni_addr *a, char out[CNI_NET_STRING_MAX]);
void cni_net_format(const struct cni_net *n, char out[CNI_NET_STRING_MAX]);
bool cni_addr_equal(const struct cni_addr *a, const struct cni_addr *b);
/* Of one family only: as numbers. */
int cni_addr_compare(const struct cni_addr *a, const struct cni_addr *b);
/* One more; wraps. */
struct cni_addr cni_addr_next(const struct cni_addr *a);
/* Host bits cleared. */
struct cni_addr cni_net_base(const struct cni_net *n);
/* Host bits set. */
struct cni_addr cni_net_last(const struct cni_net *n);
bool cni_net_contains(const struct cni_net *n, const struct cni_addr *a);
bool cni_addr_unspecified(const struct cni_addr *a);
int cni_addr_family(const struct cni_addr *a); /* AF_INET, AF_INET6 */
