/* SPDX-License-Identifier: Apache-2.0 */
#include "network/dns.h"

#include "base/mem.h"

#include <ctype.h>
#include <string.h>

#define HEADER 12
#define FLAG_RESPONSE 0x80 /* third byte */
#define FLAG_TRUNCATED 0x02
#define FLAG_RECURSION 0x01
#define FLAG_AVAILABLE 0x80 /* fourth byte */
#define CLASS_IN 1
#define TYPE_OPT 41
#define LABEL_MAX 63
#define WIRE_NAME_MAX 255
#define OPT_SIZE 11
#define OPT_UDP_SIZE 4096
#define TTL 600

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static char name_byte(uint8_t c)
{
	return isalnum(c) || c == '-' || c == '_' ? (char)tolower(c) : '?';
}

/* Where the name ends, or 0. Names in questions are not compressed. */
static size_t name_parse(const uint8_t *p, size_t len, size_t at, char out[DNS_NAME_MAX])
{
	size_t start = at, n = 0;

	while (at < len && p[at] != 0) {
		size_t label = p[at++];

		if (label > LABEL_MAX || label > len - at || at + label - start > WIRE_NAME_MAX)
			return 0;
		if (n > 0)
			out[n++] = '.';
		for (size_t i = 0; i < label; i++)
			out[n++] = name_byte(p[at + i]);
		at += label;
	}
	out[n] = '\0';
	return at < len ? at + 1 : 0;
}

/* The one additional record that matters: how much the asker takes. */
static void edns_parse(const uint8_t *p, size_t len, size_t at, struct dns_query *q)
{
	if (get16(p + 6) != 0 || get16(p + 8) != 0 || get16(p + 10) == 0)
		return;
	if (len - at < OPT_SIZE || p[at] != 0 || get16(p + at + 1) != TYPE_OPT)
		return;
	q->edns = true;
	q->udp_size = (uint16_t)MAX(get16(p + at + 3), (unsigned)DNS_UDP_MIN);
}

int dns_query_parse(const void *message, size_t len, struct dns_query *ret)
{
	const uint8_t *p = message;
	size_t end;

	*ret = (struct dns_query){ .udp_size = DNS_UDP_MIN };
	if (len < HEADER || len > DNS_MESSAGE_MAX || p[2] & FLAG_RESPONSE || get16(p + 4) != 1)
		return -EBADMSG;
	ret->id = (uint16_t)get16(p);
	ret->opcode = p[2] >> 3 & 15;
	end = name_parse(p, len, HEADER, ret->name);
	if (end == 0 || len - end < 4)
		return -EBADMSG;
	ret->type = (uint16_t)get16(p + end);
	ret->class = (uint16_t)get16(p + end + 2);
	ret->question_end = end + 4;
	edns_parse(p, len, ret->question_end, ret);
	return 0;
}

/* A record whose name is the question's, by a pointer to it. */
static size_t record_put(uint8_t *out, size_t at, unsigned type, const void *data, size_t len)
{
	put16(out + at, 0xc000 | HEADER);
	put16(out + at + 2, type);
	put16(out + at + 4, CLASS_IN);
	put16(out + at + 6, 0);
	put16(out + at + 8, TTL);
	put16(out + at + 10, (unsigned)len);
	memcpy(out + at + 12, data, len);
	return at + 12 + len;
}

/* "a.b" in labels; returns the length, 0 for what is no name. */
static size_t name_put(const char *name, uint8_t out[DNS_NAME_MAX + 1])
{
	size_t n = 0;

	while (*name) {
		size_t label = strcspn(name, ".");

		if (label == 0 || label > LABEL_MAX || n + label + 2 > WIRE_NAME_MAX)
			return 0;
		out[n++] = (uint8_t)label;
		memcpy(out + n, name, label);
		n += label;
		name += label + (name[label] == '.');
	}
	out[n++] = 0;
	return n;
}

static size_t opt_put(uint8_t *out, size_t at)
{
	memset(out + at, 0, OPT_SIZE);
	put16(out + at + 1, TYPE_OPT);
	put16(out + at + 3, OPT_UDP_SIZE);
	return at + OPT_SIZE;
}

size_t dns_answer_format(const void *query, const struct dns_query *q, const struct dns_answer *a,
			 void *to, size_t max)
{
	uint8_t *out = to, name[DNS_NAME_MAX + 1];
	const uint8_t *in = query;
	size_t at = q->question_end, name_len = name_put(a->ptr, name);
	unsigned count = 0;

	memcpy(out, in, at);
	max -= q->edns ? OPT_SIZE : 0;
	out[2] = (uint8_t)(FLAG_RESPONSE | (in[2] & (0x78 | FLAG_RECURSION)));
	out[3] = (uint8_t)(FLAG_AVAILABLE | a->rcode);
	for (size_t i = 0; i < a->n; i++) {
		const struct ip *ip = &a->addresses[i];

		if (at + 12 + ip->len > max) {
			out[2] |= FLAG_TRUNCATED;
			break;
		}
		at = record_put(out, at, ip->len == 16 ? DNS_AAAA : DNS_A, ip->b, ip->len);
		count++;
	}
	if (a->ptr[0] && name_len > 0 && at + 12 + name_len <= max) {
		at = record_put(out, at, DNS_PTR, name, name_len);
		count++;
	}
	put16(out + 4, 1);
	put16(out + 6, count);
	put16(out + 8, 0);
	put16(out + 10, q->edns);
	return q->edns ? opt_put(out, at) : at;
}

bool dns_answer_matches(const void *query, const struct dns_query *q, const void *answer,
			size_t len)
{
	const uint8_t *a = query, *b = answer;

	if (len < HEADER || !(b[2] & FLAG_RESPONSE))
		return false;
	/* Some servers leave the question out when they refuse. */
	if (get16(b + 4) == 0)
		return dns_rcode_of(answer) != DNS_NOERROR;
	if (len < q->question_end)
		return false;
	for (size_t i = HEADER; i < q->question_end; i++) {
		if (tolower(a[i]) != tolower(b[i]))
			return false;
	}
	return true;
}

enum dns_rcode dns_rcode_of(const void *answer)
{
	return (enum dns_rcode)(((const uint8_t *)answer)[3] & 15);
}

static int reverse_v4(const char *name, size_t len, struct ip *ret)
{
	struct ip a = { .len = 4 };

	for (size_t i = 4; i-- > 0;) {
		unsigned v = 0;
		size_t digits = 0;

		for (; len > 0 && isdigit((unsigned char)*name) && digits < 3; digits++, len--)
			v = v * 10 + (unsigned)(*name++ - '0');
		if (digits == 0 || v > 255 || (i > 0 && (len == 0 || *name != '.')))
			return -EINVAL;
		a.b[i] = (uint8_t)v;
		if (i > 0) {
			name++;
			len--;
		}
	}
	*ret = a;
	return len == 0 ? 0 : -EINVAL;
}

static int nibble(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int reverse_v6(const char *name, size_t len, struct ip *ret)
{
	struct ip a = { .len = 16 };

	if (len != 63)
		return -EINVAL;
	for (size_t i = 0; i < 32; i++) {
		int v = nibble(name[2 * i]);

		if (v < 0 || (i < 31 && name[2 * i + 1] != '.'))
			return -EINVAL;
		a.b[15 - i / 2] |= (uint8_t)(i % 2 ? v << 4 : v);
	}
	*ret = a;
	return 0;
}

int dns_reverse_parse(const char *name, struct ip *ret)
{
	size_t len = strlen(name);

	if (str_has_suffix(name, ".in-addr.arpa"))
		return reverse_v4(name, len - strlen(".in-addr.arpa"), ret);
	if (str_has_suffix(name, ".ip6.arpa"))
		return reverse_v6(name, len - strlen(".ip6.arpa"), ret);
	return -EINVAL;
}
