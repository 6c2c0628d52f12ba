#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of nftables in the making: a transaction of a family (all or nothing), and the expressions
 * that rules of this project consist of. A batch belongs to one thread. What libnftnl cannot
 * allocate aborts. Addresses in network byte order.
 */

#include "base/error.h"

#include <libmnl/libmnl.h>

struct nftnl_expr;
struct nftnl_rule;

struct nft_batch {
	struct mnl_socket *sock;
	struct mnl_nlmsg_batch *b;
	char *buf;
	uint32_t seq;
	uint16_t family; /* NFPROTO_IPV4 ... */
	bool clean;	 /* nothing is left to be read */
};

/* A bound netfilter socket of the calling thread's namespace, and where it goes afterwards; clean:
 * every answer has been read, so it may be used again. */
struct mnl_socket *nft_socket_open(struct error *err);
void nft_socket_close(struct mnl_socket *s, bool clean);
/* Sends a request for a dump and reads it through cb; 0 or -errno. When somebody changes meanwhile
 * what is dumped, reset is called and it begins anew. */
int nft_dump(struct nlmsghdr *h, mnl_cb_t cb, void (*reset)(void *arg), void *arg);

int nft_batch_begin(struct nft_batch *b, uint16_t family, struct error *err);
/* The same, with room for `more` bytes beyond 64 KiB. */
int nft_batch_begin_sized(struct nft_batch *b, uint16_t family, size_t more, struct error *err);
void nft_batch_done(struct nft_batch *b);
/* Header of the next message, to be filled and then ended by nft_batch_next(). All together must
 * stay below 64 KiB. */
struct nlmsghdr *nft_batch_message(struct nft_batch *b, uint16_t type, uint16_t flags);
void nft_batch_next(struct nft_batch *b);
/* 0 or -errno of the first message that failed: nothing has been done then. */
int nft_batch_commit(struct nft_batch *b);

void nft_batch_table(struct nft_batch *b, const char *name, uint16_t type, uint16_t flags);
/* A base chain; policy accept. */
void nft_batch_chain(struct nft_batch *b, const char *table, const char *name, const char *type,
		     uint32_t hook, int32_t priority);
/* Takes the rule. */
void nft_batch_rule(struct nft_batch *b, struct nftnl_rule *r);

struct nftnl_rule *nft_rule_new(uint16_t family, const char *table, const char *chain);
/* The new expression belongs to the rule. */
struct nftnl_expr *nft_rule_add(struct nftnl_rule *r, const char *name);
void nft_load_payload(struct nftnl_rule *r, uint32_t base, uint32_t offset, uint32_t len,
		      uint32_t reg);
void nft_load_meta(struct nftnl_rule *r, uint32_t key, uint32_t reg);
void nft_mask(struct nftnl_rule *r, uint32_t reg, uint32_t mask_value);
void nft_compare(struct nftnl_rule *r, uint32_t reg, uint32_t op, const void *data, uint32_t len);
/* IPv4; offset 12: source address, 16: destination address. */
void nft_match_address(struct nftnl_rule *r, uint32_t offset, uint32_t net, unsigned prefix);
void nft_match_interface(struct nftnl_rule *r, uint32_t key, uint32_t op, const char *name);
void nft_match_dnatted(struct nftnl_rule *r);
void nft_match_local_destination(struct nftnl_rule *r);
/* Key in NFT_REG32_00 and up, answer in NFT_REG32_04 (address) and 05 (port). */
void nft_dnat_by_map(struct nftnl_rule *r, const char *map);
void nft_verdict(struct nftnl_rule *r, uint32_t code);
