#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* An address with the prefix of its subnet, as CNI documents have them. Sans-IO, any thread. */

#include "network/ip.h"

struct cni_net {
	struct ip addr; /* host bits are kept */
	unsigned prefix;
};

#define CNI_NET_STRING_MAX 64

/* "10.0.0.1/16"; NULL and what is none: -EINVAL. */
int cni_net_parse(const char *s, struct cni_net *ret);
void cni_net_format(const struct cni_net *n, char out[CNI_NET_STRING_MAX]);
/* Host bits cleared, set. */
struct ip cni_net_base(const struct cni_net *n);
struct ip cni_net_last(const struct cni_net *n);
bool cni_net_contains(const struct cni_net *n, const struct ip *a);
/* The address behind this one. */
struct ip cni_net_next(const struct ip *a);
