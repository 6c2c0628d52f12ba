/* SPDX-License-Identifier: Apache-2.0 */
#include "network/cni-net.h"

#include "base/mem.h"
#include "base/parse.h"

#include <stdio.h>
#include <string.h>

int cni_net_parse(const char *s, struct cni_net *ret)
{
	const char *slash = s ? strchr(s, '/') : NULL;
	autofree char *text = slash ? xstrndup(s, (size_t)(slash - s)) : NULL;
	struct cni_net n = { 0 };
	uint64_t prefix;

	if (!text || ip_parse(text, &n.addr) < 0 || parse_uint64(slash + 1, &prefix) < 0 ||
	    prefix > n.addr.len * 8U)
		return -EINVAL;
	n.prefix = (unsigned)prefix;
	*ret = n;
	return 0;
}

void cni_net_format(const struct cni_net *n, char out[CNI_NET_STRING_MAX])
{
	char text[IP_TEXT_MAX];

	ip_format(&n->addr, text);
	snprintf(out, CNI_NET_STRING_MAX, "%s/%u", text, n->prefix);
}

static struct subnet subnet_of(const struct cni_net *n)
{
	struct subnet s = { .net = n->addr, .prefix = n->prefix };

	for (unsigned i = n->prefix; i < n->addr.len * 8U; i++)
		s.net.b[i / 8] &= (uint8_t) ~(0x80 >> (i % 8));
	return s;
}

struct ip cni_net_base(const struct cni_net *n)
{
	return subnet_of(n).net;
}

struct ip cni_net_last(const struct cni_net *n)
{
	const struct subnet s = subnet_of(n);

	return subnet_last(&s);
}

bool cni_net_contains(const struct cni_net *n, const struct ip *a)
{
	const struct subnet s = subnet_of(n);

	return subnet_contains(&s, a);
}

struct ip cni_net_next(const struct ip *a)
{
	struct ip next = *a;

	ip_increment(&next);
	return next;
}
