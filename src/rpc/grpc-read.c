/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream's messages for a handler that reads them one after another on its thread. The messages
 * are the loop's: a reader says that it wants one, the loop hands it over undecoded, now or when
 * one comes. What nobody asks for stays in the stream's window, so a slow reader stops its client.
 * A writer that has filled the client's window waits until the loop says that it has drained.
 */

#include "rpc/grpc-internal.h"

#include "base/mem.h"

void grpc_pull_free(struct grpc_pull *p)
{
	if (!p)
		return;
	if (p->message) {
		free(p->message->data);
		free(p->message);
	}
	pthread_cond_destroy(&p->changed);
	free(p);
}

void grpc_pull_wake(struct grpc_call *c)
{
	if (c->pull)
		pthread_cond_broadcast(&c->pull->changed);
}

/* With the lock held. */
static void hand_over(struct grpc_call *c, struct grpc_pull *p)
{
	if (!list_is_empty(&c->messages)) {
		p->message = LIST_ENTRY(c->messages.next, struct grpc_message, node);
		list_remove(&p->message->node);
		grpc_call_let_go(c, &c->held_in, GRPC_PREFIX + p->message->len);
	} else if (c->remote_end) {
		p->end = true;
	} else {
		return;
	}
	p->wanted = false;
	pthread_cond_broadcast(&p->changed);
}

void grpc_pull_deliver(struct grpc_call *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->pull && c->pull->wanted)
		hand_over(c, c->pull);
	pthread_mutex_unlock(&c->lock);
	if (list_is_empty(&c->messages))
		grpc_stream_consumed(c);
}

static void deliver_post(void *arg)
{
	struct grpc_call *c = arg;

	grpc_pull_deliver(c);
	if (c->conn)
		grpc_conn_write(c->conn);
	grpc_call_release(c);
}

/* With the lock held. */
static struct grpc_pull *pull_of(struct grpc_call *c)
{
	if (!c->pull) {
		c->pull = xnew(struct grpc_pull);
		pthread_cond_init(&c->pull->changed, NULL);
	}
	return c->pull;
}

/* NULL: the end, or (err is set) no more. */
static struct grpc_message *next_message(struct grpc_call *c, struct error *err)
{
	job_wait_begin();
	pthread_mutex_lock(&c->lock);
	struct grpc_pull *p = pull_of(c);
	if (!p->end && !c->finished) {
		p->wanted = true;
		c->refs++;
		loop_post(c->server->loop, deliver_post, c);
	}
	while (p->wanted && !c->finished)
		pthread_cond_wait(&p->changed, &c->lock);
	p->wanted = false;
	struct grpc_message *m = TAKE_PTR(p->message);
	if (!m && !p->end)
		error_set(err, c->status != ERROR_OK ? c->status : ERROR_CANCELLED,
			  "the client has gone");
	pthread_mutex_unlock(&c->lock);
	job_wait_end();
	return m;
}

int grpc_call_read(struct grpc_call *c, struct arena *a, ProtobufCMessage **ret, struct error *err)
{
	autoerror struct error why = ERROR_INIT;
	struct grpc_message *m = next_message(c, &why);

	if (!m)
		return why.code == ERROR_OK ? 0 : error_move(err, &why);
	int r = grpc_call_decode(a, c->descriptor->input, m->data, m->len, ret, err);
	free(m->data);
	free(m);
	return r < 0 ? -1 : 1;
}

static void on_room(void *arg)
{
	struct grpc_call *c = arg;

	pthread_mutex_lock(&c->lock);
	c->pull->full = false;
	pthread_cond_broadcast(&c->pull->changed);
	pthread_mutex_unlock(&c->lock);
}

static void wait_for_room(struct grpc_call *c)
{
	pthread_mutex_lock(&c->lock);
	pull_of(c)->full = true;
	pthread_mutex_unlock(&c->lock);
	grpc_call_on_drain(c, on_room, c);
	job_wait_begin();
	pthread_mutex_lock(&c->lock);
	while (c->pull->full && !c->finished)
		pthread_cond_wait(&c->pull->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
	job_wait_end();
}

int grpc_call_write(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	int r = grpc_call_send(c, m);

	if (r > 0)
		wait_for_room(c);
	return r < 0 ? error_set(err, ERROR_CANCELLED, "the client has gone") : 0;
}
