/* SPDX-License-Identifier: Apache-2.0 */
#include "network/ip.h"

#include "base/mem.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

int ip_parse(const char *s, struct ip *ret)
{
	struct ip a = { 0 };

	if (inet_pton(AF_INET, s, a.b) == 1)
		a.len = 4;
	else if (inet_pton(AF_INET6, s, a.b) == 1)
		a.len = 16;
	else
		return -EINVAL;
	*ret = a;
	return 0;
}

void ip_format(const struct ip *a, char out[IP_TEXT_MAX])
{
	out[0] = '\0';
	if (a->len > 0)
		inet_ntop(ip_family(a), a->b, out, IP_TEXT_MAX);
}

char *ip_string(const struct ip *a)
{
	char text[IP_TEXT_MAX];

	ip_format(a, text);
	return a->len > 0 ? xstrdup(text) : NULL;
}

int ip_compare(const struct ip *a, const struct ip *b)
{
	return a->len != b->len ? (int)a->len - (int)b->len : memcmp(a->b, b->b, sizeof(a->b));
}

struct ip ip_from_v4(uint32_t v)
{
	return (struct ip){
		.len = 4,
		.b = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v },
	};
}

uint32_t ip_to_v4(const struct ip *a)
{
	return (uint32_t)a->b[0] << 24 | (uint32_t)a->b[1] << 16 | (uint32_t)a->b[2] << 8 | a->b[3];
}

void ip_increment(struct ip *a)
{
	for (size_t i = a->len; i-- > 0;) {
		if (++a->b[i] != 0)
			return;
	}
}

bool ip_is_any(const struct ip *a)
{
	static const uint8_t zero[16];

	return a->len > 0 && memcmp(a->b, zero, sizeof(zero)) == 0;
}

bool ip_is_loopback(const struct ip *a)
{
	static const uint8_t one[16] = { [15] = 1 };

	return a->len == 4 ? a->b[0] == 127 : a->len == 16 && memcmp(a->b, one, sizeof(one)) == 0;
}

socklen_t ip_sockaddr(const struct ip *a, uint16_t port, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (a->len == 16) {
		struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;

		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		memcpy(&six->sin6_addr, a->b, 16);
		return sizeof(*six);
	}
	struct sockaddr_in *four = (struct sockaddr_in *)ret;

	four->sin_family = AF_INET;
	four->sin_port = htons(port);
	memcpy(&four->sin_addr, a->b, 4);
	return sizeof(*four);
}

/* The byte of a mask of `prefix` bits. */
static uint8_t mask_byte(unsigned prefix, unsigned index)
{
	unsigned from = index * 8;

	if (prefix >= from + 8)
		return 0xff;
	return prefix <= from ? 0 : (uint8_t)(0xff << (8 - (prefix - from)));
}

int subnet_parse(const char *s, struct subnet *ret, bool *ret_host_bits)
{
	const char *slash = strchr(s, '/');
	autofree char *address = slash ? xstrndup(s, (size_t)(slash - s)) : NULL;
	struct subnet n = { 0 };
	bool host_bits = false;
	int64_t prefix;

	if (!slash || ip_parse(address, &n.net) < 0 || parse_int64(slash + 1, &prefix) < 0 ||
	    prefix < 0 || prefix > n.net.len * 8)
		return -EINVAL;
	n.prefix = (unsigned)prefix;
	for (unsigned i = 0; i < n.net.len; i++) {
		uint8_t kept = n.net.b[i] & mask_byte(n.prefix, i);

		host_bits |= kept != n.net.b[i];
		n.net.b[i] = kept;
	}
	if (ret_host_bits)
		*ret_host_bits = host_bits;
	*ret = n;
	return 0;
}

void subnet_format(const struct subnet *s, char out[SUBNET_TEXT_MAX])
{
	char text[IP_TEXT_MAX];

	ip_format(&s->net, text);
	snprintf(out, SUBNET_TEXT_MAX, "%s/%u", text, s->prefix);
}

struct ip subnet_last(const struct subnet *s)
{
	struct ip a = s->net;

	for (unsigned i = 0; i < a.len; i++)
		a.b[i] |= (uint8_t)~mask_byte(s->prefix, i);
	return a;
}

bool subnet_contains(const struct subnet *s, const struct ip *a)
{
	if (a->len != s->net.len || a->len == 0)
		return false;
	for (unsigned i = 0; i < a->len; i++) {
		if ((a->b[i] & mask_byte(s->prefix, i)) != s->net.b[i])
			return false;
	}
	return true;
}

bool subnet_overlaps(const struct subnet *a, const struct subnet *b)
{
	return subnet_contains(a, &b->net) || subnet_contains(b, &a->net);
}
