/* SPDX-License-Identifier: Apache-2.0 */
/* Requests wait here for the connection that names their token; the listener makes connections. */

#include "api/cri/streaming-internal.h"

#include "base/fs.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define REQUESTS_MAX 1000
#define CONNS_MAX 1024
#define ACCEPT_AT_ONCE 16
#define BACKLOG 128
#define PAUSE_MS 200
#define KEEPALIVE_SECONDS 30
#define TOKEN_BYTES 6
#define PORTS_MAX 1024

static const char *const kind_names[] = {
	[STREAM_EXEC] = "exec",
	[STREAM_ATTACH] = "attach",
	[STREAM_PORTFORWARD] = "portforward",
};

void stream_request_free(struct stream_request *r)
{
	if (!r)
		return;
	free(r->id);
	strv_done(&r->cmd);
	free(r->ports);
	free(r);
}

/* --- tokens --- */

/* The lock is held. */
static void forget(struct streaming *s, struct stream_request *r)
{
	list_remove(&r->node);
	s->n_requests--;
}

static void expire(struct streaming *s)
{
	int64_t now = time_monotonic();

	LIST_FOREACH (r, &s->requests, struct stream_request, node) {
		if (r->expires > now)
			break;
		forget(s, r);
		stream_request_free(r);
	}
}

static struct stream_request *find(struct streaming *s, const char *token)
{
	LIST_FOREACH (r, &s->requests, struct stream_request, node)
		if (strcmp(r->token, token) == 0)
			return r;
	return NULL;
}

static void make_token(struct streaming *s, char token[9])
{
	do {
		autobuf struct buf text = BUF_INIT(16);
		uint8_t bytes[TOKEN_BYTES];

		random_bytes(bytes, sizeof(bytes));
		base64url_encode(bytes, sizeof(bytes), &text);
		assert(text.len == 8);
		memcpy(token, text.data, 9);
	} while (find(s, token));
}

struct stream_request *streaming_take(struct streaming *s, const char *token, enum stream_kind kind)
{
	pthread_mutex_lock(&s->lock);
	expire(s);
	struct stream_request *r = find(s, token);
	if (r && r->kind == kind)
		forget(s, r);
	else
		r = NULL;
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* Keeps the request and makes its URL. */
static int publish(struct streaming *s, struct stream_request *take, char **ret_url,
		   struct error *err)
{
	CLEANUP(stream_request_freep) struct stream_request *r = take;
	bool v6 = strchr(s->address, ':');

	if (streaming_listen(s, err) < 0)
		return -1;
	pthread_mutex_lock(&s->lock);
	expire(s);
	bool full = s->n_requests >= REQUESTS_MAX;
	if (!full) {
		make_token(s, r->token);
		r->expires = time_monotonic() + s->config.token_ttl;
		*ret_url = xasprintf("%s://%s%s%s:%u/%s/%s", s->tls ? "https" : "http",
				     v6 ? "[" : "", s->address, v6 ? "]" : "", s->port,
				     kind_names[r->kind], r->token);
		list_append(&s->requests, &TAKE_PTR(r)->node);
		s->n_requests++;
	}
	pthread_mutex_unlock(&s->lock);
	return full ? error_set(err, ERROR_RESOURCE_EXHAUSTED,
				"maximum number of in-flight requests exceeded")
		    : 0;
}

static int check_streams(const char *id, bool tty, bool in, bool out, bool errs, struct error *err)
{
	if (str_empty(id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "missing required container_id");
	if (tty && errs)
		return error_set(err, ERROR_INVALID_ARGUMENT, "tty and stderr cannot both be true");
	if (!in && !out && !errs)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "one of stdin, stdout, or stderr must be set");
	return 0;
}

int streaming_exec(struct streaming *s, const struct streaming_exec *r, char **ret_url,
		   struct error *err)
{
	if (check_streams(r->container_id, r->tty, r->in, r->out, r->errs, err) < 0)
		return -1;
	struct stream_request *q = xnew(struct stream_request);
	q->kind = STREAM_EXEC;
	q->id = xstrdup(r->container_id);
	strv_copy(&q->cmd, r->cmd);
	q->tty = r->tty;
	q->in = r->in;
	q->out = r->out;
	q->errs = r->errs;
	return publish(s, q, ret_url, err);
}

int streaming_attach(struct streaming *s, const struct streaming_attach *r, char **ret_url,
		     struct error *err)
{
	if (check_streams(r->container_id, r->tty, r->in, r->out, r->errs, err) < 0)
		return -1;
	struct stream_request *q = xnew(struct stream_request);
	q->kind = STREAM_ATTACH;
	q->id = xstrdup(r->container_id);
	q->tty = r->tty;
	q->in = r->in;
	q->out = r->out;
	q->errs = r->errs;
	return publish(s, q, ret_url, err);
}

int streaming_portforward(struct streaming *s, const struct streaming_portforward *r,
			  char **ret_url, struct error *err)
{
	if (str_empty(r->sandbox_id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "missing required pod_sandbox_id");
	if (r->n_ports > PORTS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "port: more than %d", PORTS_MAX);
	for (size_t i = 0; i < r->n_ports; i++)
		if (r->ports[i] <= 0 || r->ports[i] > UINT16_MAX)
			return error_set(err, ERROR_INVALID_ARGUMENT, "port: %d is not one",
					 r->ports[i]);
	struct stream_request *q = xnew(struct stream_request);
	q->kind = STREAM_PORTFORWARD;
	q->id = xstrdup(r->sandbox_id);
	q->ports = xnew_array(uint16_t, r->n_ports);
	q->n_ports = r->n_ports;
	for (size_t i = 0; i < r->n_ports; i++)
		q->ports[i] = (uint16_t)r->ports[i];
	return publish(s, q, ret_url, err);
}

/* --- listener --- */

static void on_connection(uv_poll_t *handle, int status, int events);

static void on_pause_end(void *arg)
{
	struct streaming *s = arg;

	s->pause = NULL;
	uv_poll_start(s->poll, UV_READABLE, on_connection);
}

/* Readable for as long as nobody accepts: trying again at once would only burn time. */
static void pause_accepting(struct streaming *s)
{
	log_warn("streaming server: accept: %s", strerror(errno));
	uv_poll_stop(s->poll);
	s->pause = loop_timer_start(s->config.loop, PAUSE_MS, on_pause_end, s);
}

static void adopt(struct streaming *s, int fd)
{
	int on = 1, idle = KEEPALIVE_SECONDS, interval = KEEPALIVE_SECONDS / 2;

	if (s->n_conns >= CONNS_MAX) {
		log_warn("streaming server: more than %d connections, dropping a new one",
			 CONNS_MAX);
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* A peer that has vanished is noticed. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	conn_new(s, fd);
}

static void on_connection(uv_poll_t *handle, int status UNUSED, int events UNUSED)
{
	struct streaming *s = handle->data;

	for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			adopt(s, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_accepting(s);
		return;
	}
}

static void on_poll_closed(uv_handle_t *handle)
{
	free(handle);
}

static void start_polling(void *arg)
{
	struct streaming *s = arg;

	if (s->closing || s->poll) {
		streaming_unref(s);
		return;
	}
	s->refs--; /* the post's; the owner has its own */
	s->poll = xnew(uv_poll_t);
	s->poll->data = s;
	int r = uv_poll_init(loop_uv(s->config.loop), s->poll, s->fd);
	if (r < 0) {
		log_err("streaming server: %s", uv_strerror(r));
		free(TAKE_PTR(s->poll));
		return;
	}
	uv_poll_start(s->poll, UV_READABLE, on_connection);
}

static socklen_t make_address(const struct streaming *s, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

	*ret = (struct sockaddr_storage){ 0 };
	if (inet_pton(AF_INET, s->address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(s->config.port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, s->address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(s->config.port);
		return sizeof(*v6);
	}
	return 0;
}

static int open_listener(struct streaming *s, struct error *err)
{
	struct sockaddr_storage sa;
	socklen_t len = make_address(s, &sa);
	int on = 1;
	autoclose int fd =
		socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);

	if (fd < 0)
		return error_errno(err, errno, "streaming server: make a socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&sa, len) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0) {
		int saved = errno;

		error_errno(err, saved, "streaming server: listen on '%s' port %u", s->address,
			    s->config.port);
		if (err)
			err->code = ERROR_UNAVAILABLE;
		return -1;
	}
	s->port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
						 : ((struct sockaddr_in *)&sa)->sin_port);
	s->fd = TAKE_FD(fd);
	s->refs++;
	loop_post(s->config.loop, start_polling, s);
	log_info("streaming server listens on '%s' port %u", s->address, s->port);
	return 0;
}

int streaming_listen(struct streaming *s, struct error *err)
{
	pthread_mutex_lock(&s->lock);
	int r = s->fd >= 0 ? 0 : open_listener(s, err);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* --- life --- */

int streaming_new(const struct streaming_config *config, struct streaming **ret, struct error *err)
{
	struct streaming *s = xnew(struct streaming);
	struct sockaddr_storage sa;

	s->refs = 1;
	s->config = *config;
	s->address = xstrdup(str_empty(config->address) ? "127.0.0.1" : config->address);
	s->ns = xstrdup(config->ns);
	s->fd = -EBADF;
	s->backend = config->backend ? config->backend : &streaming_engine;
	if (s->config.idle_timeout <= 0)
		s->config.idle_timeout = 4 * 3600 * NSEC_PER_SEC;
	if (s->config.creation_timeout <= 0)
		s->config.creation_timeout = 30 * NSEC_PER_SEC;
	if (s->config.token_ttl <= 0)
		s->config.token_ttl = 60 * NSEC_PER_SEC;
	list_init(&s->requests);
	list_init(&s->conns);
	pthread_mutex_init(&s->lock, NULL);
	int r = 0;
	if (make_address(s, &sa) == 0)
		r = error_set(err, ERROR_INVALID_ARGUMENT,
			      "streaming server: '%s' is not an IP address", s->address);
	else if (config->tls.cert || config->tls.key)
		r = tls_context_new(&config->tls, &s->tls, err);
	if (r < 0) {
		streaming_free(s);
		return -1;
	}
	*ret = s;
	return 0;
}

struct streaming *streaming_ref(struct streaming *s)
{
	s->refs++;
	return s;
}

void streaming_unref(struct streaming *s)
{
	if (--s->refs > 0)
		return;
	LIST_FOREACH (r, &s->requests, struct stream_request, node)
		stream_request_free(r);
	tls_context_free(s->tls);
	pthread_mutex_destroy(&s->lock);
	free(s->address);
	free(s->ns);
	free(s);
}

void streaming_free(struct streaming *s)
{
	if (!s)
		return;
	s->closing = true;
	conn_close_all(s);
	loop_timer_cancel(s->pause);
	if (s->poll) {
		uv_poll_stop(s->poll);
		uv_close((uv_handle_t *)s->poll, on_poll_closed);
	}
	closep(&s->fd);
	streaming_unref(s);
}

unsigned streaming_active(struct streaming *s)
{
	pthread_mutex_lock(&s->lock);
	expire(s);
	unsigned n = s->n_requests;
	pthread_mutex_unlock(&s->lock);
	return n + s->n_conns;
}
