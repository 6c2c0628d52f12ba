/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything here but dns_open() and dns_close() runs on the loop. Descriptors are watched with
 * uv_poll_t, whose memory may go only after its close callback: each lives in a small struct of its
 * own (`watch`) that outlives its owner for that long.
 */

#include "network/dns-server.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "network/internal.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>

#define SERVER "127.0.0.11"
#define UPSTREAMS_MAX 8
#define FORWARDS_MAX 512 /* a container */
#define CLIENTS_MAX 32	 /* by TCP, a container */
#define QUERY_MAX 4096
#define UPSTREAM_TIMEOUT_MS 4000 /* by TCP */
#define RESEND_MS 1300		 /* by UDP: a datagram may be lost */
#define DATAGRAMS 3		 /* to one server */
#define CLIENT_TIMEOUT_MS 10000
#define DATAGRAMS_AT_ONCE 64
#define BACKLOG 16

/* A descriptor and a timer; closed together. */
struct watch {
	uv_poll_t poll;
	uv_timer_t timer;
	int fd;
	int handles; /* not closed yet */
	void (*fn)(void *arg, bool timeout);
	void *arg;
};

struct upstream {
	struct ip ip;
	bool inside;
};

struct dns_server {
	struct dns_service *service;
	char *container_id;
	struct watch *udp, *listener;
	struct upstream upstreams[UPSTREAMS_MAX];
	size_t n_upstreams;
	struct list forwards, clients;
	size_t n_forwards, n_clients;
};

/* Counted: what is on its way to the loop may find it closed. */
struct dns_service {
	atomic_uint refs;
	struct network_service *s; /* NULL: closed */
	uv_loop_t *uv;
	struct map servers; /* by container id */
};

/* A client by TCP. */
struct client {
	struct list node;
	struct dns_server *server;
	struct watch *watch;
	uint8_t in[2 + QUERY_MAX];
	size_t n;
};

/* A query that is somebody else's to answer. */
struct forward {
	struct list node;
	struct dns_server *server;
	struct client *client; /* NULL: by UDP, from: */
	bool tcp;
	struct sockaddr_storage peer;
	socklen_t peer_len;
	struct dns_query q;
	uint8_t query[2 + QUERY_MAX]; /* with its length in front, and an id of its own */
	size_t len;
	bool inside_only;
	size_t next; /* upstream */
	struct watch *watch;
	bool sent;
	unsigned datagrams;
	uint8_t *in; /* TCP answer so far */
	size_t n;
};

/* --- watches --- */

static void on_closed(uv_handle_t *h)
{
	struct watch *w = h->data;

	if (--w->handles == 0)
		free(w);
}

static void watch_close(struct watch *w)
{
	if (!w)
		return;
	w->fn = NULL;
	uv_close((uv_handle_t *)&w->poll, on_closed);
	uv_close((uv_handle_t *)&w->timer, on_closed);
	close(w->fd);
}

static void on_event(uv_poll_t *p, int status UNUSED, int events UNUSED)
{
	struct watch *w = p->data;

	if (w->fn)
		w->fn(w->arg, /* timeout= */ false);
}

static void on_time(uv_timer_t *t)
{
	struct watch *w = t->data;

	if (w->fn)
		w->fn(w->arg, /* timeout= */ true);
}

/* Takes fd, also on failure (NULL). ms 0: no time limit; else it is told of again and again. */
static struct watch *watch_new(struct dns_service *d, int fd, int events, uint64_t ms,
			       void (*fn)(void *arg, bool timeout), void *arg)
{
	struct watch *w = xnew(struct watch);

	if (uv_poll_init(d->uv, &w->poll, fd) < 0) {
		close(fd);
		free(w);
		return NULL;
	}
	uv_timer_init(d->uv, &w->timer);
	w->poll.data = w->timer.data = w;
	w->fd = fd;
	w->handles = 2;
	w->fn = fn;
	w->arg = arg;
	uv_poll_start(&w->poll, events, on_event);
	if (ms)
		uv_timer_start(&w->timer, on_time, ms, ms);
	/* Name servers are no reason to stay. */
	uv_unref((uv_handle_t *)&w->poll);
	uv_unref((uv_handle_t *)&w->timer);
	return w;
}

/* --- answers --- */

static void client_free(struct client *c);

static void send_tcp(struct client *c, const void *message, size_t len)
{
	uint8_t head[2] = { (uint8_t)(len >> 8), (uint8_t)len };
	struct iovec iov[] = { { head, 2 }, { (void *)message, len } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

	/* Who does not read its answers loses them. */
	if (sendmsg(c->watch->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)(len + 2))
		client_free(c);
}

static void send_udp(struct dns_server *v, const struct sockaddr_storage *peer, socklen_t peer_len,
		     const void *message, size_t len)
{
	sendto(v->udp->fd, message, len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)peer,
	       peer_len);
}

static void forward_free(struct forward *f)
{
	watch_close(f->watch);
	list_remove(&f->node);
	f->server->n_forwards--;
	free(f->in);
	free(f);
}

/* The last of it: the answer goes to who has asked. */
static void forward_finish(struct forward *f, const void *message, size_t len)
{
	autofree uint8_t *in UNUSED = TAKE_PTR(f->in); /* the message may lie there */
	struct client *c = f->client;
	struct dns_server *v = f->server;

	if (!c && !f->tcp)
		send_udp(v, &f->peer, f->peer_len, message, len);
	forward_free(f);
	if (c)
		send_tcp(c, message, len);
}

static void forward_fail(struct forward *f)
{
	const struct dns_answer a = { .rcode = DNS_SERVFAIL };
	uint8_t out[DNS_UDP_MIN];
	size_t len;

	f->query[2] = (uint8_t)(f->q.id >> 8);
	f->query[3] = (uint8_t)f->q.id;
	len = dns_answer_format(f->query + 2, &f->q, &a, out, sizeof(out));
	forward_finish(f, out, len);
}

/* --- forwarding --- */

struct dialling {
	sa_family_t family;
	int type;
	int fd;
};

static int dial(void *arg, struct error *err UNUSED)
{
	struct dialling *d = arg;

	d->fd = socket(d->family, d->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return 0;
}

/* A socket of the host, or of the container. */
static int upstream_socket(const struct dns_server *v, const struct upstream *u, int type)
{
	struct dialling d = { .family = ip_family(&u->ip), .type = type, .fd = -EBADF };
	autoclose int netns = u->inside ? ioctl(v->udp->fd, SIOCGSKNS) : -EBADF;

	if (!u->inside)
		dial(&d, NULL);
	else if (netns < 0 || netns_call(netns, dial, &d, NULL) < 0)
		return -EBADF;
	return d.fd;
}

static void forward_next(struct forward *f);

/* True when it was an answer that the asker gets. */
static bool forward_take(struct forward *f, uint8_t *message, size_t len)
{
	enum dns_rcode rcode;

	if (len < 4 || memcmp(message, f->query + 2, 2) != 0 ||
	    !dns_answer_matches(f->query + 2, &f->q, message, len))
		return false;
	rcode = dns_rcode_of(message);
	if ((rcode == DNS_SERVFAIL || rcode == DNS_REFUSED || rcode == DNS_NOTIMP) &&
	    f->next < f->server->n_upstreams) {
		forward_next(f);
		return true;
	}
	message[0] = (uint8_t)(f->q.id >> 8);
	message[1] = (uint8_t)f->q.id;
	forward_finish(f, message, len);
	return true;
}

static void on_udp_answer(void *arg, bool timeout)
{
	struct forward *f = arg;
	static uint8_t message[DNS_MESSAGE_MAX]; /* the loop's */

	if (timeout) {
		if (f->datagrams++ >= DATAGRAMS ||
		    send(f->watch->fd, f->query + 2, f->len, MSG_NOSIGNAL) < 0)
			forward_next(f);
		return;
	}
	for (;;) {
		ssize_t n = recv(f->watch->fd, message, sizeof(message), MSG_DONTWAIT);

		if (n < 0) {
			/* Nobody there: the kernel says so at once. */
			if (errno != EAGAIN && errno != EINTR)
				forward_next(f);
			return;
		}
		if (forward_take(f, message, (size_t)n))
			return;
	}
}

static void on_tcp_answer(void *arg, bool timeout)
{
	struct forward *f = arg;
	ssize_t n = -1;

	if (!timeout && !f->sent) {
		n = send(f->watch->fd, f->query, 2 + f->len, MSG_NOSIGNAL | MSG_DONTWAIT);
		f->sent = n == (ssize_t)(2 + f->len);
		if (f->sent) {
			uv_poll_start(&f->watch->poll, UV_READABLE, on_event);
			return;
		}
	} else if (!timeout) {
		if (!f->in)
			f->in = xmalloc(2 + DNS_MESSAGE_MAX);
		n = recv(f->watch->fd, f->in + f->n, 2 + DNS_MESSAGE_MAX - f->n, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
	}
	if (timeout || n <= 0) {
		forward_next(f);
		return;
	}
	f->n += (size_t)n;
	if (f->n < 2 || f->n - 2 < ((size_t)f->in[0] << 8 | f->in[1]))
		return;
	if (!forward_take(f, f->in + 2, (size_t)f->in[0] << 8 | f->in[1]))
		forward_next(f);
}

/* Asks the next server; after the last one it fails. */
static void forward_next(struct forward *f)
{
	struct dns_server *v = f->server;

	watch_close(TAKE_PTR(f->watch));
	f->sent = false;
	f->datagrams = 1;
	f->n = 0;
	while (f->next < v->n_upstreams) {
		const struct upstream *u = &v->upstreams[f->next++];
		struct sockaddr_storage sa;
		socklen_t len = ip_sockaddr(&u->ip, 53, &sa);
		int fd;

		if (f->inside_only && !u->inside)
			continue;
		fd = upstream_socket(v, u, f->tcp ? SOCK_STREAM : SOCK_DGRAM);
		if (fd < 0)
			continue;
		if ((connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS) ||
		    (!f->tcp && send(fd, f->query + 2, f->len, MSG_NOSIGNAL) < 0)) {
			close(fd);
			continue;
		}
		f->watch = watch_new(v->service, fd, f->tcp ? UV_WRITABLE : UV_READABLE,
				     f->tcp ? UPSTREAM_TIMEOUT_MS : RESEND_MS,
				     f->tcp ? on_tcp_answer : on_udp_answer, f);
		if (f->watch)
			return;
	}
	forward_fail(f);
}

static struct forward *forward_new(struct dns_server *v, const uint8_t *message, size_t len,
				   const struct dns_query *q)
{
	struct forward *f = xnew(struct forward);

	f->server = v;
	f->q = *q;
	f->len = len;
	f->query[0] = (uint8_t)(len >> 8);
	f->query[1] = (uint8_t)len;
	memcpy(f->query + 2, message, len);
	random_bytes(f->query + 2, 2);
	list_append(&v->forwards, &f->node);
	v->n_forwards++;
	return f;
}

/* --- queries --- */

/* client NULL: from peer by UDP. */
static void on_query(struct dns_server *v, const uint8_t *message, size_t len, struct client *c,
		     const struct sockaddr_storage *peer, socklen_t peer_len)
{
	static uint8_t out[DNS_MESSAGE_MAX];
	struct dns_query q;
	struct dns_answer a;
	enum dns_verdict verdict;
	struct forward *f;

	if (len > QUERY_MAX || dns_query_parse(message, len, &q) < 0)
		return;
	verdict = netspace_resolve(v->service->s, v->container_id, &q, &a);
	if (q.opcode != 0)
		a = (struct dns_answer){ .rcode = DNS_NOTIMP };
	else if (verdict == DNS_REFUSE || (verdict != DNS_ANSWER && v->n_forwards >= FORWARDS_MAX))
		a = (struct dns_answer){ .rcode = DNS_SERVFAIL };
	else if (verdict != DNS_ANSWER) {
		f = forward_new(v, message, len, &q);
		f->client = c;
		f->tcp = c != NULL;
		f->inside_only = verdict == DNS_FORWARD_INSIDE;
		if (peer)
			memcpy(&f->peer, peer, sizeof(f->peer));
		f->peer_len = peer_len;
		forward_next(f);
		return;
	}
	len = dns_answer_format(message, &q, &a, out,
				c ? sizeof(out) : MIN((size_t)q.udp_size, sizeof(out)));
	if (c)
		send_tcp(c, out, len);
	else
		send_udp(v, peer, peer_len, out, len);
}

static void on_udp(void *arg, bool timeout UNUSED)
{
	struct dns_server *v = arg;
	uint8_t message[QUERY_MAX];

	for (int i = 0; i < DATAGRAMS_AT_ONCE; i++) {
		struct sockaddr_storage peer;
		socklen_t len = sizeof(peer);
		ssize_t n = recvfrom(v->udp->fd, message, sizeof(message), MSG_DONTWAIT,
				     (struct sockaddr *)&peer, &len);

		if (n < 0)
			return;
		on_query(v, message, (size_t)n, NULL, &peer, len);
	}
}

static void client_free(struct client *c)
{
	LIST_FOREACH (f, &c->server->forwards, struct forward, node) {
		if (f->client == c)
			forward_free(f);
	}
	watch_close(c->watch);
	list_remove(&c->node);
	c->server->n_clients--;
	free(c);
}

/* Is the client still there? It may go with any of its answers. */
static bool has_client(const struct dns_server *v, const struct client *c)
{
	LIST_FOREACH (o, &v->clients, struct client, node) {
		if (o == c)
			return true;
	}
	return false;
}

static void on_client(void *arg, bool timeout)
{
	struct client *c = arg;
	struct dns_server *v = c->server;
	ssize_t n =
		timeout ? 0 : recv(c->watch->fd, c->in + c->n, sizeof(c->in) - c->n, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		client_free(c);
		return;
	}
	c->n += (size_t)n;
	while (c->n >= 2) {
		size_t len = (size_t)c->in[0] << 8 | c->in[1];

		if (len > QUERY_MAX) {
			client_free(c);
			return;
		}
		if (c->n - 2 < len)
			return;
		on_query(v, c->in + 2, len, c, NULL, 0);
		if (!has_client(v, c))
			return;
		c->n -= 2 + len;
		memmove(c->in, c->in + 2 + len, c->n);
	}
}

static void on_connection(void *arg, bool timeout UNUSED)
{
	struct dns_server *v = arg;
	int fd = accept4(v->listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;

	if (fd < 0)
		return;
	if (v->n_clients >= CLIENTS_MAX) {
		close(fd);
		return;
	}
	c = xnew(struct client);
	c->server = v;
	list_append(&v->clients, &c->node);
	v->n_clients++;
	c->watch = watch_new(v->service, fd, UV_READABLE, CLIENT_TIMEOUT_MS, on_client, c);
	if (!c->watch)
		client_free(c);
}

/* --- servers --- */

static void server_free(struct dns_server *v)
{
	while (!list_is_empty(&v->clients))
		client_free(LIST_ENTRY(v->clients.next, struct client, node));
	while (!list_is_empty(&v->forwards))
		forward_free(LIST_ENTRY(v->forwards.next, struct forward, node));
	watch_close(v->udp);
	watch_close(v->listener);
	free(v->container_id);
	free(v);
}

struct dns_service *dns_service_new(struct network_service *s)
{
	struct dns_service *d = xnew(struct dns_service);

	d->refs = 1;
	d->s = s;
	d->uv = loop_uv(s->loop);
	return d;
}

static void free_server(void *p)
{
	server_free(p);
}

static struct dns_service *service_ref(struct dns_service *d)
{
	d->refs++;
	return d;
}

static void service_unref(struct dns_service *d)
{
	if (--d->refs == 0)
		free(d);
}

void dns_service_free(struct dns_service *d)
{
	if (!d)
		return;
	map_done_values(&d->servers, free_server);
	d->servers = MAP_INIT;
	d->s = NULL;
	service_unref(d);
}

struct opening {
	struct dns_service *service;
	struct dns_server *server;
	int fds[2]; /* UDP, TCP */
	int ports[2];
};

static void start_on_loop(void *arg)
{
	struct opening *o = arg;
	struct dns_service *d = o->service;
	struct dns_server *v = o->server;

	v->service = d;
	v->udp = watch_new(d, TAKE_FD(o->fds[0]), UV_READABLE, 0, on_udp, v);
	v->listener = watch_new(d, TAKE_FD(o->fds[1]), UV_READABLE, 0, on_connection, v);
	if (!d->s || !v->udp || !v->listener) {
		if (d->s)
			log_err("no name server for container '%s', ignoring", v->container_id);
		server_free(v);
	} else {
		struct dns_server *old = map_set(&d->servers, v->container_id, v);

		if (old)
			server_free(old);
	}
	service_unref(d);
	free(o);
}

struct closing {
	struct dns_service *service;
	char *container_id;
};

static void stop_on_loop(void *arg)
{
	struct closing *c = arg;
	struct dns_server *v = map_remove(&c->service->servers, c->container_id);

	if (v)
		server_free(v);
	service_unref(c->service);
	free(c->container_id);
	free(c);
}

void dns_close(struct network_service *s, const char *container_id)
{
	struct closing *c;

	if (!s->dns)
		return;
	c = xnew(struct closing);
	c->service = service_ref(s->dns);
	c->container_id = xstrdup(container_id);
	if (loop_is_current(s->loop))
		stop_on_loop(c);
	else
		loop_post(s->loop, stop_on_loop, c);
}

/* At the port of before, if there is one and it is free. */
static int open_at(int type, int *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)*port) };
	socklen_t len = sizeof(sa);
	autoclose int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	inet_pton(AF_INET, SERVER, &sa.sin_addr);
	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		sa.sin_port = 0;
		if (*port == 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
			return -errno;
	}
	if (type == SOCK_STREAM && listen(fd, BACKLOG) < 0)
		return -errno;
	getsockname(fd, (struct sockaddr *)&sa, &len);
	*port = ntohs(sa.sin_port);
	return TAKE_FD(fd);
}

static int open_inside(void *arg, struct error *err)
{
	struct opening *o = arg;
	bool again = o->ports[0] != 0;

	for (int i = 0; i < 2; i++) {
		o->fds[i] = open_at(i == 0 ? SOCK_DGRAM : SOCK_STREAM, &o->ports[i]);
		if (o->fds[i] < 0)
			return error_errno(err, -o->fds[i], "open the name server's sockets");
	}
	return nft_dns_create(o->ports[0], o->ports[1], again, err);
}

static void add_upstreams(struct dns_server *v, const struct strv *servers, bool inside)
{
	for (size_t i = 0; i < servers->n && v->n_upstreams < UPSTREAMS_MAX; i++) {
		struct upstream *u = &v->upstreams[v->n_upstreams];

		u->inside = inside;
		if (ip_parse(servers->v[i], &u->ip) == 0)
			v->n_upstreams++;
	}
}

int dns_open(struct network_service *s, struct netspace *b, int netns_fd, struct error *err)
{
	struct opening *o;

	if (!s->dns)
		return 0;
	o = xnew(struct opening);
	o->fds[0] = o->fds[1] = -EBADF;
	memcpy(o->ports, b->dns_port, sizeof(o->ports));
	if (netns_call(netns_fd, open_inside, o, err) < 0) {
		closep(&o->fds[0]);
		closep(&o->fds[1]);
		free(o);
		return error_wrap(err, "name server");
	}
	memcpy(b->dns_port, o->ports, sizeof(o->ports));
	o->service = service_ref(s->dns);
	o->server = xnew(struct dns_server);
	o->server->container_id = xstrdup(b->container_id);
	list_init(&o->server->forwards);
	list_init(&o->server->clients);
	add_upstreams(o->server, &b->dns, /* inside= */ true);
	add_upstreams(o->server, &b->host_dns, /* inside= */ false);
	if (loop_is_current(s->loop))
		start_on_loop(o);
	else
		loop_post(s->loop, start_on_loop, o);
	return 0;
}

bool dns_wanted(const struct netspace *b)
{
	LIST_FOREACH (a, &b->attachments, struct attachment, netspace_node) {
		if (!str_equal(a->network->spec.name, DEFAULT_NETWORK))
			return true;
	}
	return false;
}
