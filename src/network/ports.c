/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host ports. The kernel decides whether one is free, and keeps it: a socket of ours holds it as
 * long as it is published, so that nobody takes a port whose packets go elsewhere. The socket gets
 * none of them: what is addressed to it is redirected before, and in the moments when it is not (a
 * new publication, foreign hands on the rules) a filter drops it, which makes clients try again.
 */

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "network/internal.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#define EPHEMERAL_TRIES 16
#define EPHEMERAL_FIRST 49152
#define EPHEMERAL_COUNT 16384

static const struct {
	const char *name;
	int type, number;
} protocols[] = {
	{ "tcp", SOCK_STREAM, IPPROTO_TCP },
	{ "udp", SOCK_DGRAM, IPPROTO_UDP },
	{ "sctp", SOCK_STREAM, IPPROTO_SCTP },
};

static int protocol_index(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		if (str_equal(protocols[i].name, name))
			return (int)i;
	}
	return -1;
}

static bool same_host(const char *a, const char *b)
{
	struct ip x, y;

	if (ip_parse(a, &x) < 0 || ip_parse(b, &y) < 0 || x.len != y.len)
		return false;
	return ip_is_any(&x) || ip_is_any(&y) || ip_compare(&x, &y) == 0;
}

static bool taken_in(const struct network *n, const struct port_mapping *p)
{
	LIST_FOREACH (a, &n->attachments, struct attachment, node) {
		for (size_t i = 0; i < a->endpoint.ports.n; i++) {
			const struct port_mapping *o = &a->endpoint.ports.v[i];

			if (o->host_port == p->host_port && str_equal(o->protocol, p->protocol) &&
			    same_host(o->host_ip, p->host_ip))
				return true;
		}
	}
	return false;
}

static bool taken(struct network_service *s, const struct port_mapping *p)
{
	LIST_FOREACH (n, &s->networks, struct network, node) {
		if (taken_in(n, p))
			return true;
	}
	return false;
}

/* Bound and, for streams, listening: only that keeps others out. Returns a socket, -EBADF when the
 * kernel knows no such protocol, or another -errno. Fills *port when it is 0. */
static int reserve(const char *protocol, const struct ip *host, unsigned *port)
{
	static struct sock_filter drop[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	const struct sock_fprog filter = { .len = 1, .filter = drop };
	int k = protocol_index(protocol), one = 1;
	struct sockaddr_storage sa;
	socklen_t len = ip_sockaddr(host, (uint16_t)*port, &sa);
	autoclose int fd =
		socket(sa.ss_family, protocols[k].type | SOCK_CLOEXEC, protocols[k].number);

	if (fd < 0)
		return errno == EPROTONOSUPPORT || errno == ESOCKTNOSUPPORT ? -EBADF : -errno;
	if (host->len == 16)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (protocols[k].type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0 ||
	    (protocols[k].type == SOCK_STREAM && listen(fd, 1) < 0))
		return -errno;
	getsockname(fd, (struct sockaddr *)&sa, &len);
	*port = ntohs(((struct sockaddr_in *)&sa)->sin_port); /* the same place in sockaddr_in6 */
	return TAKE_FD(fd);
}

static char *host_port_text(const struct port_mapping *p)
{
	return strchr(p->host_ip, ':') ? xasprintf("[%s]:%u", p->host_ip, p->host_port)
				       : xasprintf("%s:%u", p->host_ip, p->host_port);
}

static int fail_bind(const struct attachment *a, const struct port_mapping *p, int sys,
		     struct error *err)
{
	autofree char *host = host_port_text(p);
	const char *why = sys == EADDRINUSE ? "address already in use" : strerror(sys);

	return error_set(err, ERROR_INTERNAL,
			 "driver failed programming external connectivity on endpoint %s (%s): "
			 "failed to bind host port for %s:%s:%u/%s: %s",
			 a->netspace->name, a->endpoint.endpoint_id, host, a->endpoint.ip,
			 p->container_port, p->protocol, why);
}

/* Returns as reserve() does; -1 is an error that is set. */
static int choose_any(struct network_service *s, const struct attachment *a, const struct ip *host,
		      struct port_mapping *p, struct error *err)
{
	for (int i = 0; i < EPHEMERAL_TRIES; i++) {
		p->host_port = 0;
		int fd = reserve(p->protocol, host, &p->host_port);

		if (fd == -EBADF) /* nothing to ask: somewhere among the ephemeral ones */
			p->host_port = EPHEMERAL_FIRST + (unsigned)(random_u64() % EPHEMERAL_COUNT);
		else if (fd < 0)
			return fail_bind(a, p, -fd, err);
		if (!taken(s, p))
			return fd;
		closep(&fd);
	}
	return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no free host port on %s", p->host_ip);
}

/* One port, or the first that is free of a range. *ret_fd: the reservation, or -EBADF. */
static int choose(struct network_service *s, const struct attachment *a, const struct ip *host,
		  unsigned last, struct port_mapping *p, int *ret_fd, struct error *err)
{
	unsigned first = p->host_port;

	if (first == 0) {
		*ret_fd = choose_any(s, a, host, p, err);
		return *ret_fd == -1 ? -1 : 0;
	}
	for (;; p->host_port++) {
		bool is_taken = taken(s, p), over = p->host_port >= last;
		int fd = is_taken ? -EADDRINUSE : reserve(p->protocol, host, &p->host_port);

		if (fd >= 0 || fd == -EBADF) {
			*ret_fd = fd;
			return 0;
		}
		if (!over)
			continue;
		if (!is_taken)
			return fail_bind(a, p, -fd, err);
		autofree char *text = host_port_text(p);
		return error_set(err, ERROR_INTERNAL,
				 "driver failed programming external connectivity on endpoint %s "
				 "(%s): Bind for %s failed: port is already allocated",
				 a->netspace->name, a->endpoint.endpoint_id, text);
	}
}

/* Does the mapping ask for an address of this family? The text of it, NULL if not. */
static const char *host_address(const struct attachment *a, const struct port_mapping *p,
				enum family f, char binding[IP_TEXT_MAX])
{
	const struct driver_options *o = &a->network->options;

	if (!str_empty(p->host_ip))
		return (strchr(p->host_ip, ':') != NULL) == (f == FAMILY_6) ? p->host_ip : NULL;
	if (!ip_is_set(&o->host_binding))
		return f == FAMILY_4 ? "0.0.0.0" : "::";
	ip_format(&o->host_binding, binding);
	return (o->host_binding.len == 16) == (f == FAMILY_6) ? binding : NULL;
}

/* A port that has been chosen for the other family is taken for this one too. */
static void prefer_chosen(const struct netspace *b, struct port_mapping *p)
{
	const struct attachment *four = b->gateway[FAMILY_4];

	for (size_t i = 0; p->host_port == 0 && four && i < four->endpoint.ports.n; i++) {
		const struct port_mapping *o = &four->endpoint.ports.v[i];

		if (o->container_port == p->container_port && str_equal(o->protocol, p->protocol) &&
		    str_equal(o->host_ip, "0.0.0.0"))
			p->host_port = o->host_port;
	}
}

static int bind_one(struct network_service *s, struct attachment *a, enum family f,
		    const struct port_mapping *asked, struct error *err)
{
	char binding[IP_TEXT_MAX];
	const char *address = host_address(a, asked, f, binding);
	struct port_mappings *list = &a->endpoint.ports;
	struct ip host;
	int fd = -EBADF;

	if (!address)
		return 0;
	if (protocol_index(asked->protocol) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid proto: %s", asked->protocol);
	if (ip_parse(address, &host) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid IP address: %s", address);
	struct port_mapping p = {
		.protocol = xstrdup(asked->protocol),
		.host_ip = xstrdup(address),
		.host_port = asked->host_port,
		.container_port = asked->container_port,
	};
	if (f == FAMILY_6)
		prefer_chosen(a->netspace, &p);
	if (choose(s, a, &host, MAX(p.host_port, asked->host_port_end), &p, &fd, err) < 0) {
		free(p.protocol);
		free(p.host_ip);
		return -1;
	}
	list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
	a->reservations = xreallocarray(a->reservations, list->n + 1, sizeof(int));
	a->reservations[list->n] = fd;
	list->v[list->n++] = p;
	return 0;
}

int ports_bind(struct network_service *s, struct attachment *a, enum family f, struct error *err)
{
	const struct port_mappings *asked = &a->netspace->ports;

	for (size_t i = 0; i < asked->n; i++) {
		if (bind_one(s, a, f, &asked->v[i], err) < 0)
			return -1;
	}
	return 0;
}

static bool is_of(const struct port_mapping *p, enum family f)
{
	return (strchr(p->host_ip, ':') != NULL) == (f == FAMILY_6);
}

void ports_reserve(struct attachment *a)
{
	const struct port_mappings *list = &a->endpoint.ports;

	free(a->reservations);
	a->reservations = xnew_array(int, list->n + 1);
	for (size_t i = 0; i < list->n; i++) {
		struct port_mapping p = list->v[i];
		struct ip host;

		a->reservations[i] = -EBADF;
		if (protocol_index(p.protocol) < 0 || ip_parse(p.host_ip, &host) < 0)
			continue;
		a->reservations[i] = reserve(p.protocol, &host, &p.host_port);
		if (a->reservations[i] < 0 && a->reservations[i] != -EBADF)
			log_warn("port %u/%s of container '%s' is somebody else's too: %s",
				 p.host_port, p.protocol, a->netspace->container_id,
				 strerror(-a->reservations[i]));
	}
}

/* Those of a family go from one list to another, or away (to NULL). */
static void take_out(struct attachment *a, enum family f, struct attachment *to)
{
	struct port_mappings *list = &a->endpoint.ports;
	size_t kept = 0;

	for (size_t i = 0; i < list->n; i++) {
		struct port_mapping p = list->v[i];
		int fd = a->reservations ? a->reservations[i] : -EBADF;

		if (!is_of(&p, f)) {
			if (a->reservations)
				a->reservations[kept] = fd;
			list->v[kept++] = p;
		} else if (to) {
			struct port_mappings *other = &to->endpoint.ports;

			other->v = xreallocarray(other->v, other->n + 1, sizeof(*other->v));
			to->reservations =
				xreallocarray(to->reservations, other->n + 1, sizeof(int));
			to->reservations[other->n] = fd;
			other->v[other->n++] = p;
		} else {
			closep(&fd);
			free(p.protocol);
			free(p.host_ip);
		}
	}
	list->n = kept;
}

void ports_release(struct attachment *a, enum family f)
{
	take_out(a, f, NULL);
}

void ports_move(struct attachment *from, struct attachment *to, enum family f)
{
	take_out(from, f, to);
}

size_t ports_to_nft(const struct attachment *a, enum family f, struct nft_port *out)
{
	size_t n = 0;

	for (size_t i = 0; i < a->endpoint.ports.n; i++) {
		const struct port_mapping *m = &a->endpoint.ports.v[i];
		int k = protocol_index(m->protocol);

		if (!is_of(m, f) || k < 0)
			continue;
		out[n] = (struct nft_port){
			.protocol = (uint8_t)protocols[k].number,
			.host_port = (uint16_t)m->host_port,
			.port = (uint16_t)m->container_port,
			.ip = a->ip[f],
		};
		if (ip_parse(m->host_ip, &out[n].host_ip) == 0)
			n++;
	}
	return n;
}
