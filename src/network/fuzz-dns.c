/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "network/dns.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dns_query q;
	struct dns_answer a = { .n = 3, .ptr = "some.name" };
	uint8_t out[4096];
	struct ip ip;
	size_t n;

	if (dns_query_parse(data, size, &q) < 0)
		return 0;
	assert(strlen(q.name) < DNS_NAME_MAX && q.question_end <= size);
	ip_parse("10.0.0.1", &a.addresses[0]);
	ip_parse("fd00::1", &a.addresses[1]);
	ip_parse("10.0.0.2", &a.addresses[2]);
	n = dns_answer_format(data, &q, &a, out, DNS_UDP_MIN);
	assert(n <= DNS_UDP_MIN && dns_answer_matches(data, &q, out, n));
	/* The same bytes as somebody's answer. */
	dns_answer_matches(data, &q, data, size);
	dns_reverse_parse(q.name, &ip);
	return 0;
}
