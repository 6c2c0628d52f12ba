/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 is parsed here and not by libmicrohttpd, which was measured first (0.9.75, Debian 12):
 * it brings GnuTLS and nine more libraries, 2.9 MiB of resident memory and 0.9 ms at each start, of
 * a daemon that shall have less than 10 MiB; it does not notice that the client of a suspended
 * request went away; and an upgraded socket stays its own, while ours has to go to a shim.
 */

#include "http/internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <assert.h>

#define SWEEP_MS 5000
#define CONNECTIONS_MAX 4096

static void on_sweep(uv_timer_t *timer)
{
	struct http_server *s = CONTAINER_OF(timer, struct http_server, sweep);
	int64_t now = time_monotonic();

	LIST_FOREACH (c, &s->conns, struct http_conn, node)
		http_conn_check_timeout(c, now);
}

struct http_server *http_server_new(const struct http_server_config *config, struct error *err)
{
	struct http_server *s = xnew(struct http_server);

	assert(config->loop && config->routes);
	s->config = *config;
	s->refs = 1;
	list_init(&s->conns);
	int r = uv_timer_init(loop_uv(config->loop), &s->sweep);
	if (r < 0) {
		free(s);
		error_errno(err, -r, "make the HTTP server");
		return NULL;
	}
	return s;
}

void http_server_adopt(struct http_server *s, int fd)
{
	assert(loop_is_current(s->config.loop) && !s->freed);
	if (s->n_conns >= CONNECTIONS_MAX) {
		log_warn("more than %d connections, dropping a new one", CONNECTIONS_MAX);
		close(fd);
		return;
	}
	struct http_conn *c = http_conn_new(s, fd);
	if (!c)
		return;
	list_append(&s->conns, &c->node);
	if (s->n_conns++ == 0)
		uv_timer_start(&s->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
}

void http_server_conn_gone(struct http_server *s)
{
	assert(s->n_conns > 0);
	if (--s->n_conns == 0 && !s->freed)
		uv_timer_stop(&s->sweep);
}

unsigned http_server_connections(const struct http_server *s)
{
	return s->n_conns;
}

void http_server_drain(struct http_server *s)
{
	s->draining = true;
	LIST_FOREACH (c, &s->conns, struct http_conn, node)
		http_conn_drain(c);
}

static void on_sweep_closed(uv_handle_t *handle)
{
	struct http_server *s = CONTAINER_OF(handle, struct http_server, sweep);

	if (--s->refs == 0)
		free(s);
}

void http_server_free(struct http_server *s)
{
	if (!s)
		return;
	while (!list_is_empty(&s->conns))
		http_conn_close(LIST_ENTRY(s->conns.next, struct http_conn, node));
	s->freed = true;
	uv_close((uv_handle_t *)&s->sweep, on_sweep_closed);
}
