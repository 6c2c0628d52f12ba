/* SPDX-License-Identifier: Apache-2.0 */
#include "network/cni-addr.h"

#include "base/parse.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

int cni_addr_parse(const char *s, struct cni_addr *ret)
{
	struct cni_addr a = { .len = 16 };

	if (!s)
		return -EINVAL;
	if (!strchr(s, ':')) {
		a.len = 4;
		if (inet_pton(AF_INET, s, a.b) != 1)
			return -EINVAL;
	} else if (inet_pton(AF_INET6, s, a.b) != 1) {
		return -EINVAL;
	}
	if (a.len == 16 && memcmp(a.b, mapped, sizeof(mapped)) == 0) {
		memmove(a.b, a.b + 12, 4);
		memset(a.b + 4, 0, 12);
		a.len = 4;
	}
	*ret = a;
	return 0;
}

int cni_net_parse(const char *s, struct cni_net *ret)
{
	const char *slash = s ? strchr(s, '/') : NULL;
	char text[CNI_NET_STRING_MAX];
	struct cni_net n = { 0 };
	uint64_t prefix;

	if (!slash || (size_t)(slash - s) >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, (size_t)(slash - s));
	text[slash - s] = '\0';
	if (cni_addr_parse(text, &n.addr) < 0 || parse_uint64(slash + 1, &prefix) < 0)
		return -EINVAL;
	/* A mapped address has the prefix of its IPv6 form. */
	if (n.addr.len == 4 && strchr(text, ':')) {
		if (prefix < 96)
			return -EINVAL;
		prefix -= 96;
	}
	if (prefix > n.addr.len * 8U)
		return -EINVAL;
	n.prefix = (unsigned)prefix;
	*ret = n;
	return 0;
}

int cni_addr_family(const struct cni_addr *a)
{
	return a->len == 4 ? AF_INET : AF_INET6;
}

void cni_addr_format(const struct cni_addr *a, char out[CNI_NET_STRING_MAX])
{
	out[0] = '\0';
	if (a->len)
		inet_ntop(cni_addr_family(a), a->b, out, CNI_NET_STRING_MAX);
}

void cni_net_format(const struct cni_net *n, char out[CNI_NET_STRING_MAX])
{
	size_t len;

	cni_addr_format(&n->addr, out);
	len = strlen(out);
	snprintf(out + len, CNI_NET_STRING_MAX - len, "/%u", n->prefix);
}

bool cni_addr_equal(const struct cni_addr *a, const struct cni_addr *b)
{
	return a->len == b->len && memcmp(a->b, b->b, a->len) == 0;
}

int cni_addr_compare(const struct cni_addr *a, const struct cni_addr *b)
{
	return memcmp(a->b, b->b, a->len);
}

struct cni_addr cni_addr_next(const struct cni_addr *a)
{
	struct cni_addr r = *a;

	for (int i = r.len - 1; i >= 0 && ++r.b[i] == 0; i--)
		;
	return r;
}

static struct cni_addr with_host_bits(const struct cni_net *n, bool set)
{
	struct cni_addr r = n->addr;

	for (unsigned i = n->prefix; i < r.len * 8U; i++) {
		uint8_t bit = (uint8_t)(0x80 >> (i % 8));

		r.b[i / 8] = set ? r.b[i / 8] | bit : (uint8_t)(r.b[i / 8] & ~bit);
	}
	return r;
}

struct cni_addr cni_net_base(const struct cni_net *n)
{
	return with_host_bits(n, false);
}

struct cni_addr cni_net_last(const struct cni_net *n)
{
	return with_host_bits(n, true);
}

bool cni_net_contains(const struct cni_net *n, const struct cni_addr *a)
{
	struct cni_net other = { .addr = *a, .prefix = n->prefix };
	struct cni_addr x, y;

	if (n->addr.len != a->len)
		return false;
	x = cni_net_base(n);
	y = cni_net_base(&other);
	return cni_addr_equal(&x, &y);
}

bool cni_addr_unspecified(const struct cni_addr *a)
{
	for (unsigned i = 0; i < a->len; i++) {
		if (a->b[i])
			return false;
	}
	return true;
}
