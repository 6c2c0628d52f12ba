/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ports.h"

#include "base/buf.h"
#include "base/mem.h"

#include <string.h>

#define PORTS_MAX 65536

struct port {
	const char *ip, *type;
	int64_t private, public; /* public 0: not published */
	bool taken;
};

static int compare(const void *pa, const void *pb)
{
	const struct port *a = pa, *b = pb;
	int r;

	if (a->private != b->private)
		return a->private < b->private ? -1 : 1;
	r = strcmp(a->ip, b->ip);
	if (r)
		return r;
	if (a->public != b->public)
		return a->public < b->public ? -1 : 1;
	return strcmp(a->type, b->type);
}

/* b continues the range that a is the end of. */
static bool continues(const struct port *a, const struct port *b)
{
	return b->private == a->private + 1 && strcmp(a->ip, b->ip) == 0 &&
	       strcmp(a->type, b->type) == 0 &&
	       (a->public ? b->public == a->public + 1 : !b->public);
}

static void print_range(struct buf *b, const char *separator, int64_t first, int64_t last)
{
	buf_printf(b, "%s%lld", separator, (long long)first);
	if (last != first)
		buf_printf(b, "-%lld", (long long)last);
}

static void print(struct buf *b, const struct port *first, const struct port *last)
{
	if (b->len)
		buf_puts(b, ", ");
	if (first->public) {
		bool v6 = strchr(first->ip, ':');

		if (*first->ip)
			buf_printf(b, "%s%s%s", v6 ? "[" : "", first->ip, v6 ? "]" : "");
		print_range(b, *first->ip ? ":" : "", first->public, last->public);
		buf_puts(b, "->");
	}
	print_range(b, "", first->private, last->private);
	buf_printf(b, "/%s", first->type);
}

char *ports_display(const struct json *ports)
{
	size_t n = MIN(json_array_len(ports), (size_t)PORTS_MAX);
	autofree struct port *list = xnew_array(struct port, n + 1);
	struct buf b = BUF_INIT(BUF_NO_LIMIT);

	for (size_t i = 0; i < n; i++) {
		const struct json *p = json_array_get(ports, i);
		const char *ip = json_get_string(p, "IP"), *type = json_get_string(p, "Type");

		list[i] = (struct port){ .ip = ip ? ip : "",
					 .type = type ? type : "tcp",
					 .private = json_get_int(p, "PrivatePort", 0),
					 .public = json_get_int(p, "PublicPort", 0) };
	}
	qsort(list, n, sizeof(*list), compare);
	/* Ranges of one address may interleave with another's: each port is taken once. */
	for (size_t i = 0; i < n; i++) {
		struct port last = list[i];

		if (list[i].taken)
			continue;
		for (size_t k = i + 1; k < n; k++) {
			if (list[k].taken || !continues(&last, &list[k]))
				continue;
			last = list[k];
			list[k].taken = true;
		}
		print(&b, &list[i], &last);
	}
	return buf_steal(&b, NULL);
}
