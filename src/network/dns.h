#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the domain name system (RFC 1035, EDNS by RFC 6891), as far as a name server of
 * containers needs them: queries are read, answers written. Sans-IO, any thread, nothing is
 * allocated.
 */

#include "network/ip.h"

#define DNS_NAME_MAX 256 /* as text, with NUL */
#define DNS_MESSAGE_MAX 65535
#define DNS_UDP_MIN 512
#define DNS_ADDRESSES_MAX 64 /* of one answer */

enum dns_type { DNS_A = 1, DNS_PTR = 12, DNS_AAAA = 28 };
enum dns_rcode {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5
};

struct dns_query {
	uint16_t id;
	unsigned opcode;
	char name[DNS_NAME_MAX]; /* lower case, no dot at the end; bytes that are in no host name
				    are '?' */
	uint16_t type, class;
	size_t question_end; /* length of header and question */
	uint16_t udp_size;   /* what the asker takes */
	bool edns;
};

struct dns_answer {
	enum dns_rcode rcode;
	struct ip addresses[DNS_ADDRESSES_MAX];
	size_t n;
	char ptr[DNS_NAME_MAX]; /* of a PTR answer; else "" */
};

/* One question of a standard query. -EBADMSG: not even an error can be answered. */
int dns_query_parse(const void *message, size_t len, struct dns_query *ret);
/* The answer to a query that has been parsed; what does not fit into max bytes is left out, with
 * the flag that says so. Returns its length. max is DNS_UDP_MIN at least. */
size_t dns_answer_format(const void *query, const struct dns_query *q, const struct dns_answer *a,
			 void *out, size_t max);
/* Is this the answer to that query? Its id is not compared. */
bool dns_answer_matches(const void *query, const struct dns_query *q, const void *answer,
			size_t len);
enum dns_rcode dns_rcode_of(const void *answer);
/* "2.0.18.172.in-addr.arpa", "...ip6.arpa" to the address. -EINVAL. */
int dns_reverse_parse(const char *name, struct ip *ret);
