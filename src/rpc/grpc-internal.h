#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the gRPC server share. A connection and its nghttp2 session belong to the loop.
 * A call is held by its stream (until that closes), by its users (handler and grpc_call_ref)
 * together, and by posts on their way; the members below `lock` are the border between loop and
 * threads.
 */

#include "base/list.h"
#include "base/map.h"
#include "rpc/grpc-filter.h"
#include "rpc/grpc-frame.h"
#include "rpc/grpc.h"

#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdatomic.h>

#define GRPC_STREAMS_MAX 1000
#define GRPC_HEADERS_MAX (64 << 10)
#define GRPC_WINDOW (256 << 10)	   /* of a stream, in the client's direction */
#define GRPC_SEND_HIGH (256 << 10) /* waiting for the client, before on_drain has to be awaited */
#define GRPC_SEND_MAX (64 << 20)   /* and where a call that does not wait is broken off */
#define GRPC_CONNECTIONS_MAX 1024
#define GRPC_CALLS_MAX 8192 /* also those whose clients have gone, until their handler ends */
#define GRPC_HELD_MAX (256UL << 20)   /* bytes of messages that wait, both ways, of all calls */
#define GRPC_UNPACKED_MAX (128 << 20) /* of one message */

struct grpc_server {
	struct loop *loop;
	struct jobs *jobs;
	void *arg;
	atomic_uint refs; /* calls, and the owner */
	atomic_size_t held;
	struct map services; /* full name: const struct grpc_service * */
	struct list conns;
	unsigned n_conns;
	bool draining;
};

struct grpc_conn {
	uv_poll_t poll;
	int events;
	struct list node;
	struct grpc_server *server;
	int fd;
	bool closed;
	bool draining; /* the PING behind the first GOAWAY has no answer yet */
	nghttp2_session *session;
	struct grpc_filter filter;
	struct loop_timer *handshake;
	const uint8_t *pending; /* of the session, not yet written */
	size_t n_pending;
	struct list calls;
};

/* A message that waits for on_message. */
struct grpc_message {
	struct list node;
	char *data;
	size_t len;
};

/* Of a call whose handler takes messages by grpc_call_read(); guarded by the call's lock. */
struct grpc_pull {
	pthread_cond_t changed;
	bool wanted;
	bool end;  /* the client has half-closed */
	bool full; /* grpc_call_write() waits for room */
	struct grpc_message *message;
};

struct grpc_call {
	unsigned magic;
	atomic_uint refs;  /* of the memory */
	atomic_uint users; /* handler and its references */
	struct grpc_server *server;

	/* Loop only. */
	struct grpc_conn *conn; /* NULL once the stream has closed */
	struct list node;
	int32_t stream;
	struct grpc_deframer in;
	bool headers_sent;
	bool ending;	 /* nothing comes after what is in `sending` but the status */
	bool dispatched; /* the users' reference has left the stream */
	bool remote_end; /* the client has half-closed */
	bool end_told;	 /* and on_message knows */
	size_t window;	 /* bytes received and not given back to the stream's window */
	struct list messages;
	struct loop_timer *deadline;
	struct buf sending; /* taken from `out` */
	size_t sent;
	size_t header_bytes;
	bool is_post, is_grpc;
	bool has_request;
	char *path;
	char *timeout;
	char *encoding; /* of messages, when it is not identity */
	bool headers_too_large;
	bool refuses_encoding;

	struct kvs metadata; /* constant once dispatched */
	const struct grpc_service *service;
	const struct grpc_method *method;
	const ProtobufCMethodDescriptor *descriptor;
	char *request; /* the first message, when there is one */
	size_t request_len;
	struct arena arena;
	ProtobufCAllocator allocator;

	pthread_mutex_t lock;
	struct buf out;
	size_t in_flight;
	size_t held_in, held_out; /* parts of server->held */
	bool flush_posted;
	bool finished; /* there is a status; nothing more comes from users */
	bool cancelled;
	enum error_code status;
	char *status_message;
	struct cancel *cancel;
	void (*on_drain)(void *arg);
	void *drain_arg;
	void (*on_cancel)(void *arg);
	void *cancel_arg;
	void (*on_message)(struct grpc_call *c, const ProtobufCMessage *m, void *arg);
	void *message_arg;
	struct grpc_pull *pull; /* NULL until the first read */
};

#define GRPC_CALL_MAGIC 0x67437261

/* grpc.c */
void grpc_server_unref(struct grpc_server *s);
/* Finds service and method by c->path. */
int grpc_server_resolve(struct grpc_call *c, struct error *err);

/* grpc-call.c */
struct grpc_call *grpc_call_new(struct grpc_conn *conn, int32_t stream);
void grpc_call_release(struct grpc_call *c); /* a reference to the memory */
/* Runs the handler on its pool. Loop. */
void grpc_call_dispatch(struct grpc_call *c);
/* Loop: the client has gone, or the deadline is over (then status goes out as well). */
void grpc_call_cancelled(struct grpc_call *c, enum error_code status, const char *why);
void grpc_call_deliver(struct grpc_call *c);	  /* loop: messages to on_message */
void grpc_call_signal_drain(struct grpc_call *c); /* loop */

/* Unpacks after checking what it would take. */
int grpc_call_decode(struct arena *a, const ProtobufCMessageDescriptor *d, const char *p,
		     size_t len, ProtobufCMessage **ret, struct error *err);

/* grpc-read.c. Loop: a reader that waits gets what there is. */
void grpc_pull_deliver(struct grpc_call *c);
void grpc_pull_wake(struct grpc_call *c); /* with the call's lock held */
void grpc_pull_free(struct grpc_pull *p); /* NULL is fine */

/* Accounts for n bytes of messages in *held, one of the call's; false when that is too much. With
 * the call's lock held. */
bool grpc_call_hold(struct grpc_call *c, size_t *held, size_t n);
void grpc_call_let_go(struct grpc_call *c, size_t *held, size_t n);

/* grpc-conn.c; loop only */
struct grpc_conn *grpc_conn_new(struct grpc_server *s, int fd);
void grpc_conn_close(struct grpc_conn *c);
void grpc_conn_drain(struct grpc_conn *c);
void grpc_conn_drained(struct grpc_conn *c); /* a PING was answered */
void grpc_conn_greeted(struct grpc_conn *c); /* the handshake is done */
void grpc_conn_write(struct grpc_conn *c);   /* not from within the session's callbacks */
void grpc_conn_flush_post(void *call);	     /* loop_post target: the call has something to send */

/* grpc-stream.c: the session's callbacks; loop only */
int grpc_session_new(struct grpc_conn *c, struct error *err);
/* Hands what the call has to its session. */
void grpc_stream_flush(struct grpc_call *c);
void grpc_stream_consumed(struct grpc_call *c); /* gives `window` back to the stream's window */
/* The stream is over: the call goes on without. */
void grpc_stream_detach(struct grpc_call *c);
