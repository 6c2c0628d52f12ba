/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel tells all listeners of every change, transaction by transaction, and at the end of
 * each who has made it. So the loop only has to look at names until it knows whether anything of
 * ours went by a foreign hand; the rest is a job.
 */

#include "network/watch.h"

#include "base/log.h"
#include "base/mem.h"
#include "network/internal.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define SETTLE_MS 50
#define RECEIVE_SIZE 65536
#define RECEIVE_BUFFER (4 << 20)

/* What may be missing. */
enum { OUR_TABLES = 1 << 0, FOREIGN_CHAIN = 1 << 1 };

struct rules_watch {
	struct network_service *s;
	struct loop *loop;
	struct mnl_socket *sock; /* NULL: it could not be made */
	uv_poll_t poll;
	struct loop_timer *timer;
	unsigned touched;	   /* in the transaction that is being told of */
	unsigned missing, checked; /* to be checked; being checked by the job */
	bool running;
	atomic_bool closed;
};

static bool is_ours(struct rules_watch *w, const char *table)
{
	bool ours = false;

	pthread_mutex_lock(&w->s->lock);
	LIST_FOREACH (n, &w->s->networks, struct network, node)
		ours |= n->ready && str_equal(n->link, table);
	pthread_mutex_unlock(&w->s->lock);
	return ours;
}

static bool by_us(const struct nlmsghdr *h)
{
	const struct nlattr *a;
	char path[64] = "";

	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) == NFTA_GEN_PROC_PID && mnl_attr_get_payload_len(a) == 4)
			snprintf(path, sizeof(path), "/proc/self/task/%u",
				 ntohl(mnl_attr_get_u32(a)));
	}
	return path[0] && access(path, F_OK) == 0;
}

/* The first attribute of tables is their name, of all else their table. */
static const char *table_of(const struct nlmsghdr *h)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) == NFTA_TABLE_NAME &&
		    mnl_attr_validate(a, MNL_TYPE_NUL_STRING) == 0)
			return mnl_attr_get_str(a);
	}
	return NULL;
}

static void restore_network(struct network_service *s, struct network *n, unsigned what)
{
	autoerror struct error err = ERROR_INIT;

	if ((what & OUR_TABLES ? bridge_rules(s, n, &err) : bridge_way(n, &err)) < 0)
		log_err("make the rules of network '%s' again: %s", n->spec.name, error_msg(&err));
}

static void restore_work(void *arg)
{
	struct rules_watch *w = arg;
	struct network_service *s = w->s;

	if (w->checked & OUR_TABLES)
		log_info("somebody has deleted rules of ours, making them again");
	pthread_mutex_lock(&s->setup);
	LIST_FOREACH (n, &s->networks, struct network, node) {
		if (n->ready && n->driver == &bridge_driver)
			restore_network(s, n, w->checked);
	}
	pthread_mutex_unlock(&s->setup);
}

static void schedule(struct rules_watch *w, unsigned what);

static void restore_done(void *arg)
{
	struct rules_watch *w = arg;

	w->running = false;
	if (w->closed && !w->sock)
		free(w);
	else if (!w->closed && w->missing)
		schedule(w, 0);
}

static void on_settled(void *arg)
{
	struct rules_watch *w = arg;

	w->timer = NULL;
	w->running = true;
	w->checked = w->missing;
	w->missing = 0;
	job_submit(w->s->jobs, JOB_OPS, restore_work, restore_done, w);
}

static void schedule(struct rules_watch *w, unsigned what)
{
	w->missing |= what;
	if (!w->running && !w->timer)
		w->timer = loop_timer_start(w->loop, SETTLE_MS, on_settled, w);
}

/* What a message is about that deletes something, or makes a chain. */
static unsigned touched_by(struct rules_watch *w, const struct nlmsghdr *h)
{
	const char *table = table_of(h);

	if (!table)
		return 0;
	return (str_equal(table, "filter") ? FOREIGN_CHAIN : 0) |
	       (is_ours(w, table) ? OUR_TABLES : 0);
}

static int on_message(const struct nlmsghdr *h, void *arg)
{
	struct rules_watch *w = arg;

	switch (NFNL_MSG_TYPE(h->nlmsg_type)) {
	case NFT_MSG_NEWGEN:
		if (w->touched && !by_us(h))
			schedule(w, w->touched);
		w->touched = 0;
		break;
	case NFT_MSG_DELTABLE:
	case NFT_MSG_DELCHAIN:
	case NFT_MSG_DELRULE:
	case NFT_MSG_DELSETELEM:
	case NFT_MSG_NEWCHAIN:
		if (!(w->touched & OUR_TABLES))
			w->touched |= touched_by(w, h);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

static void on_readable(uv_poll_t *p, int status UNUSED, int events UNUSED)
{
	struct rules_watch *w = p->data;
	static char buf[RECEIVE_SIZE]; /* the loop's */

	while (!w->closed) {
		ssize_t n = recv(mnl_socket_get_fd(w->sock), buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0) {
			/* There was more than the buffer took: look. */
			if (errno == ENOBUFS)
				schedule(w, OUR_TABLES | FOREIGN_CHAIN);
			return;
		}
		mnl_cb_run(buf, (size_t)n, 0, 0, on_message, w);
	}
}

static struct mnl_socket *listen_to_changes(void)
{
	struct mnl_socket *sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int size = RECEIVE_BUFFER;

	if (!sock)
		return NULL;
	setsockopt(mnl_socket_get_fd(sock), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (mnl_socket_bind(sock, 1 << (NFNLGRP_NFTABLES - 1), MNL_SOCKET_AUTOPID) == 0)
		return sock;
	mnl_socket_close(sock);
	return NULL;
}

static void start_on_loop(void *arg)
{
	struct rules_watch *w = arg;

	w->sock = listen_to_changes();
	if (!w->sock) {
		log_warn("listen to changes of the packet filter: %s, rules that somebody deletes "
			 "come back with the next daemon",
			 strerror(errno));
		return;
	}
	uv_poll_init(loop_uv(w->loop), &w->poll, mnl_socket_get_fd(w->sock));
	w->poll.data = w;
	uv_poll_start(&w->poll, UV_READABLE, on_readable);
	uv_unref((uv_handle_t *)&w->poll);
}

struct rules_watch *rules_watch_new(struct network_service *s)
{
	struct rules_watch *w = xnew(struct rules_watch);

	w->s = s;
	w->loop = s->loop;
	loop_post(w->loop, start_on_loop, w);
	return w;
}

static void on_closed(uv_handle_t *h)
{
	struct rules_watch *w = h->data;

	w->sock = NULL;
	if (!w->running)
		free(w);
}

static void stop_on_loop(void *arg)
{
	struct rules_watch *w = arg;

	loop_timer_cancel(TAKE_PTR(w->timer));
	if (!w->sock) {
		if (!w->running)
			free(w);
		return;
	}
	uv_close((uv_handle_t *)&w->poll, on_closed);
	mnl_socket_close(w->sock);
}

void rules_watch_free(struct rules_watch *w)
{
	if (!w)
		return;
	w->closed = true;
	loop_post(w->loop, stop_on_loop, w);
}
