/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port-forward. Each connection of the client's is a pair of streams, data and error, with a socket
 * behind them. Only making the socket needs the sandbox's network namespace, and so a thread that
 * goes there for a moment; it stays in that namespace then, and connecting, copying and closing are
 * the loop's.
 *
 * A pair's trouble is its own: of what was connected and breaks, only the two streams are reset.
 */

#include "api/cri/streaming-internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#define PAIRS_MAX 2048
#define PAIR_HIGH (64 << 10)
#define PENDING_HIGH (4 << 20) /* of all pairs together */
/* After the target has closed, until the client's side has to be over too. */
#define CLOSE_WAIT_MS 1000

static void on_poll(uv_poll_t *handle, int status, int events);

static void forward_unref(struct forward *f)
{
	if (--f->refs > 0)
		return;
	stream_request_free(f->request);
	streaming_unref(f->s);
	free(f);
}

static void pair_unref(struct pair *p)
{
	if (--p->refs > 0)
		return;
	struct forward *f = p->forward;

	closep(&p->fd);
	closep(&p->other_fd);
	buf_done(&p->to_target);
	free(p->request_id);
	free(p->first_failure);
	free(p);
	forward_unref(f);
}

static size_t backlog(const struct pair *p)
{
	return p->to_target.len - p->off;
}

/* Its backlog was `before` bytes. */
static void count(struct pair *p, size_t before)
{
	struct forward *f = p->forward;
	bool stuck = !p->gone && backlog(p) > PAIR_HIGH;

	f->pending += backlog(p) - before;
	if (stuck != p->stuck)
		f->n_stuck += stuck ? 1 : -1u;
	p->stuck = stuck;
}

bool forward_wants_input(const struct forward *f)
{
	return f->n_stuck == 0 && f->pending < PENDING_HIGH;
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct pair *p = CONTAINER_OF(handle, struct pair, poll);

	p->polled = false;
	pair_unref(p);
}

static void stop_polling(struct pair *p)
{
	if (p->polled && !uv_is_closing((uv_handle_t *)&p->poll)) {
		uv_poll_stop(&p->poll);
		uv_close((uv_handle_t *)&p->poll, on_poll_closed);
	}
	closep(&p->fd);
	p->fd = -EBADF;
}

/* The pair is over; the client's transport has been told. */
static void discard(struct pair *p)
{
	size_t before = backlog(p);

	if (p->gone)
		return;
	p->gone = true;
	loop_timer_cancel(TAKE_PTR(p->timer));
	list_remove(&p->node);
	p->forward->n_pairs--;
	buf_done(&p->to_target);
	p->off = 0;
	count(p, before);
	stop_polling(p);
	pair_unref(p);
}

static void end_pair(struct pair *p, bool reset)
{
	struct forward *f = p->forward;

	if (p->gone)
		return;
	/* Any of these may find the connection broken, and end everything. */
	p->refs++;
	if (f->conn)
		f->ops->close(f->transport, p, reset);
	discard(p);
	if (f->conn)
		conn_flush(f->conn);
	pair_unref(p);
}

static void update(struct pair *p)
{
	struct forward *f = p->forward;
	int events = 0;

	if (!p->polled || p->gone || uv_is_closing((uv_handle_t *)&p->poll))
		return;
	if (p->connecting || backlog(p) > 0)
		events |= UV_WRITABLE;
	if (p->connected && !p->target_ended && !conn_is_full(f->conn))
		events |= UV_READABLE;
	if (events == p->events)
		return;
	p->events = events;
	if (events)
		uv_poll_start(&p->poll, events, on_poll);
	else
		uv_poll_stop(&p->poll);
}

void forward_on_room(struct forward *f)
{
	LIST_FOREACH (p, &f->pairs, struct pair, node)
		update(p);
}

/* --- data --- */

static void on_close_wait(void *arg)
{
	struct pair *p = arg;

	p->timer = NULL;
	end_pair(p, /* reset */ false);
}

static void check_end(struct pair *p)
{
	if (!p->target_ended || p->gone)
		return;
	if (p->client_ended)
		end_pair(p, /* reset */ false);
	else if (!p->timer)
		p->timer = loop_timer_start(p->forward->s->config.loop, CLOSE_WAIT_MS,
					    on_close_wait, p);
}

/* False: the target is gone. */
static bool write_target(struct pair *p)
{
	size_t before = backlog(p);
	bool ok = true;

	while (ok && backlog(p) > 0) {
		ssize_t n = send(p->fd, p->to_target.data + p->off, backlog(p),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			ok = false;
		else
			p->off += (size_t)n;
	}
	if (backlog(p) == 0) {
		buf_done(&p->to_target);
		p->off = 0;
		if (p->client_ended)
			shutdown(p->fd, SHUT_WR);
	} else if (p->off > PAIR_HIGH) {
		buf_consume(&p->to_target, p->off);
		p->off = 0;
	}
	count(p, before);
	return ok;
}

static void read_target(struct pair *p)
{
	struct forward *f = p->forward;
	char bytes[STREAM_READ_SIZE];
	ssize_t n = recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		end_pair(p, /* reset */ true);
		return;
	}
	if (n > 0) {
		f->ops->send(f->transport, p, bytes, (size_t)n);
		return;
	}
	p->target_ended = true;
	f->ops->end(f->transport, p);
	check_end(p);
}

/* --- connecting --- */

static void fail(struct pair *p, const char *why)
{
	struct forward *f = p->forward;
	autofree char *text = xasprintf("error forwarding port %u to pod %s, uid : %s", p->port,
					f->request->id, why);

	if (p->gone)
		return;
	if (f->conn)
		f->ops->fail(f->transport, p, text);
	end_pair(p, /* reset */ false);
}

static void connect_v4(struct pair *p);
static void connect_v6(struct pair *p);

static void fail_connect(struct pair *p, bool v6, int why)
{
	if (!v6 && p->other_fd >= 0) {
		p->first_failure = xstrdup(strerror(why));
		connect_v6(p);
		return;
	}
	autofree char *text =
		p->first_failure
			? xasprintf("failed to connect to localhost:%u inside namespace of sandbox "
				    "%s, IPv4: %s, IPv6: %s",
				    p->port, p->forward->request->id, p->first_failure,
				    strerror(why))
			: xasprintf("failed to connect to localhost:%u inside namespace of sandbox "
				    "%s: %s",
				    p->port, p->forward->request->id, strerror(why));
	fail(p, text);
}

static void start_connect(struct pair *p, const struct sockaddr *sa, socklen_t len, bool v6)
{
	int r;

	do
		r = connect(p->fd, sa, len) < 0 ? errno : 0;
	while (r == EINTR);
	if (r != 0 && r != EINPROGRESS) {
		fail_connect(p, v6, r);
		return;
	}
	r = uv_poll_init(loop_uv(p->forward->s->config.loop), &p->poll, p->fd);
	if (r < 0) {
		fail(p, uv_strerror(r));
		return;
	}
	p->polled = true;
	p->refs++;
	p->connecting = true;
	p->events = 0;
	update(p);
}

static void connect_v4(struct pair *p)
{
	const struct sockaddr_in sa = {
		.sin_family = AF_INET,
		.sin_port = htons(p->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	if (p->fd < 0)
		fail_connect(p, /* v6 */ false, EAFNOSUPPORT);
	else
		start_connect(p, (const struct sockaddr *)&sa, sizeof(sa), /* v6 */ false);
}

static void connect_v6(struct pair *p)
{
	const struct sockaddr_in6 sa = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(p->port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};

	closep(&p->fd);
	p->fd = TAKE_FD(p->other_fd);
	start_connect(p, (const struct sockaddr *)&sa, sizeof(sa), /* v6 */ true);
}

static void on_old_poll_closed(uv_handle_t *handle)
{
	struct pair *p = CONTAINER_OF(handle, struct pair, poll);

	p->polled = false;
	if (!p->gone)
		connect_v6(p);
	pair_unref(p);
}

static void on_connect_result(struct pair *p)
{
	int why = 0;
	socklen_t len = sizeof(why);

	getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &why, &len);
	p->connecting = false;
	if (why == 0) {
		p->connected = true;
		closep(&p->other_fd);
		p->other_fd = -EBADF;
		return;
	}
	if (p->other_fd < 0) {
		fail_connect(p, /* v6 */ true, why);
		return;
	}
	/* The handle is this socket's: the other one needs its memory. */
	p->first_failure = xstrdup(strerror(why));
	uv_poll_stop(&p->poll);
	uv_close((uv_handle_t *)&p->poll, on_old_poll_closed);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	struct pair *p = CONTAINER_OF(handle, struct pair, poll);
	struct forward *f = p->forward;
	bool writable = events & UV_WRITABLE || status < 0;

	p->refs++;
	if (p->connecting && writable)
		on_connect_result(p);
	if (p->connected && writable && !p->gone && !write_target(p))
		end_pair(p, /* reset */ true);
	if (p->connected && !p->gone && !p->target_ended && (events & UV_READABLE || status < 0))
		read_target(p);
	if (f->conn) {
		conn_flush(f->conn);
		/* Flushing may have been the connection's end. */
		if (f->conn)
			conn_update(f->conn);
	}
	if (f->conn)
		update(p);
	pair_unref(p);
}

struct job {
	struct pair *p; /* referenced */
	int fds[2];
	struct error err;
	int result;
};

/* The thread must come back, or not go on. */
static int make_sockets(int netns, int fds[2], struct error *err)
{
	autoclose int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

	if (own < 0)
		return error_errno(err, errno, "open the network namespace of this thread");
	if (setns(netns, CLONE_NEWNET) < 0)
		return error_errno(err, errno, "enter the sandbox's network namespace");
	fds[0] = socket(AF_INET, type, IPPROTO_TCP);
	int saved = errno;
	fds[1] = socket(AF_INET6, type, IPPROTO_TCP);
	if (setns(own, CLONE_NEWNET) < 0)
		abort();
	return fds[0] < 0 && fds[1] < 0 ? error_errno(err, saved, "make a socket") : 0;
}

static void job_work(void *arg)
{
	struct job *j = arg;
	struct forward *f = j->p->forward;
	const struct streaming_config *k = &f->s->config;
	autoclose int netns = k->open_netns(k->arg, f->request->id, &j->err);

	j->result = netns < 0 ? -1 : make_sockets(netns, j->fds, &j->err);
}

static void job_done(void *arg)
{
	struct job *j = arg;
	struct pair *p = j->p;

	p->fd = j->fds[0];
	p->other_fd = j->fds[1];
	if (!p->gone && j->result < 0)
		fail(p, error_msg(&j->err));
	else if (!p->gone)
		connect_v4(p);
	error_done(&j->err);
	free(j);
	pair_unref(p);
}

void pair_connect(struct pair *p)
{
	struct job *j = xnew(struct job);

	j->p = p;
	j->fds[0] = j->fds[1] = -EBADF;
	p->refs++;
	loop_timer_cancel(TAKE_PTR(p->timer));
	job_submit(p->forward->s->config.jobs, JOB_OPS, job_work, job_done, j);
}

/* --- the client's side --- */

void pair_data(struct pair *p, const void *data, size_t n)
{
	size_t before = backlog(p);

	if (p->gone || p->client_ended)
		return;
	buf_append(&p->to_target, data, n);
	count(p, before);
	if (p->connected && !write_target(p))
		end_pair(p, /* reset */ true);
	else
		update(p);
}

void pair_client_ends(struct pair *p)
{
	if (p->gone || p->client_ended)
		return;
	p->client_ended = true;
	if (p->connected && !write_target(p)) {
		end_pair(p, /* reset */ true);
		return;
	}
	check_end(p);
	update(p);
}

void pair_client_resets(struct pair *p)
{
	end_pair(p, /* reset */ false);
}

static void on_unpaired(void *arg)
{
	struct pair *p = arg;

	p->timer = NULL;
	log_debug("streaming server: half a pair of streams, dropping it");
	end_pair(p, /* reset */ true);
}

struct pair *pair_new(struct forward *f, uint16_t port)
{
	if (f->n_pairs >= PAIRS_MAX)
		return NULL;
	struct pair *p = xnew(struct pair);
	p->forward = f;
	f->refs++;
	f->n_pairs++;
	p->refs = 1;
	p->port = port;
	p->fd = p->other_fd = -EBADF;
	p->to_target = BUF_INIT(STREAM_BUF_MAX);
	p->timer = loop_timer_start(f->s->config.loop,
				    (uint64_t)(f->s->config.creation_timeout / NSEC_PER_MSEC),
				    on_unpaired, p);
	list_append(&f->pairs, &p->node);
	return p;
}

void forward_on_gone(struct forward *f)
{
	f->conn = NULL;
	LIST_FOREACH (p, &f->pairs, struct pair, node)
		discard(p);
	f->ops->free(f->transport);
	forward_unref(f);
}

struct forward *forward_new(struct conn *c, struct stream_request *take,
			    const struct forward_ops *ops, void *transport)
{
	struct forward *f = xnew(struct forward);

	f->conn = c;
	f->s = streaming_ref(conn_streaming(c));
	f->request = take;
	f->ops = ops;
	f->transport = transport;
	f->refs = 1;
	list_init(&f->pairs);
	return f;
}
