#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the streaming server share:
 *
 *	streaming.c		requests with their tokens, the listener
 *	streaming-conn.c	a connection: socket, TLS, HTTP head, both buffers, its end
 *	streaming-upgrade.c	which protocol it becomes
 *	streaming-command.c	exec and attach: pump between the client and the shim's socket
 *	streaming-spdy.c	... over SPDY
 *	streaming-websocket.c	... over WebSocket
 *	streaming-forward.c	port-forward: pairs of streams and the connections behind them
 *	streaming-forward-*.c	... over SPDY and WebSocket
 *	streaming-channels.c	WebSocket messages that begin with a channel's number
 *	streaming-engine.c	what the engine does for it
 *
 * Flow: a session stops reading its container's socket while the connection is full, and the
 * connection stops reading its client while the session has too much for the container.
 */

#include "api/cri/streaming-tls.h"
#include "api/cri/streaming.h"
#include "base/list.h"
#include "base/map.h"

#include <pthread.h>
#include <stdatomic.h>

#define STREAM_OUT_HIGH (256 << 10) /* to the client, before its session has to wait */
#define STREAM_IN_HIGH (128 << 10)  /* to the container, before the client has to wait */
#define STREAM_READ_SIZE (32 << 10)
/* What may come on top of the marks: answers to one read, one read of each of many targets. */
#define STREAM_BUF_MAX (16 << 20)

struct conn;

/* --- requests --- */

enum stream_kind { STREAM_EXEC, STREAM_ATTACH, STREAM_PORTFORWARD };

struct stream_request {
	struct list node;
	char token[9];
	enum stream_kind kind;
	char *id; /* of the container, of the sandbox */
	struct strv cmd;
	bool tty, in, out, errs;
	uint16_t *ports;
	size_t n_ports;
	int64_t expires;
};

void stream_request_free(struct stream_request *r);
DEFINE_CLEANUP(struct stream_request *, stream_request_free)

/* Pool threads. */
struct streaming_backend {
	/* As engine_exec_run(); fd is taken. */
	int (*exec)(struct streaming *s, const struct stream_request *r, int fd, unsigned width,
		    unsigned height, void (*on_ended)(int exit_code, void *arg), void *arg,
		    char ret_exec_id[65], struct error *err);
	/* fd is taken. *ret_tty: it will carry plain output, not Docker's stream framing. */
	int (*attach)(struct streaming *s, const struct stream_request *r, int fd, bool *ret_tty,
		      struct error *err);
	/* exec_id "": of the container. */
	int (*resize)(struct streaming *s, const struct stream_request *r, const char *exec_id,
		      unsigned width, unsigned height, struct error *err);
};

extern const struct streaming_backend streaming_engine;

struct streaming {
	atomic_uint refs; /* the owner, sessions, posts; jobs have those of their session */
	struct streaming_config config;
	char *address, *ns;
	const struct streaming_backend *backend;
	struct tls_context *tls; /* NULL: none */
	pthread_mutex_t lock;	 /* requests, port, fd */
	struct list requests;	 /* oldest first */
	unsigned n_requests;
	int fd; /* listener, < 0: not open */
	uint16_t port;
	/* Loop: */
	uv_poll_t *poll;
	struct loop_timer *pause; /* no descriptors: nothing is accepted until it ends */
	struct list conns;
	unsigned n_conns;
	bool closing;
};

struct streaming *streaming_ref(struct streaming *s);
void streaming_unref(struct streaming *s);
/* The request of this token and kind, which nobody else gets; NULL: none. */
struct stream_request *streaming_take(struct streaming *s, const char *token,
				      enum stream_kind kind);

/* --- connections; loop --- */

struct session_ops {
	/* Bytes from the client. -1: it breaks the protocol, or says that it ends. */
	int (*feed)(void *session, const void *p, size_t n, struct error *err);
	/* false: not now. */
	bool (*wants_input)(void *session);
	/* The connection is not full any more. */
	void (*on_room)(void *session);
	/* The connection is gone, and the session shall go. Once. */
	void (*on_gone)(void *session);
};

struct conn *conn_new(struct streaming *s, int fd);
void conn_close(struct conn *c); /* at once */
void conn_close_all(struct streaming *s);
struct streaming *conn_streaming(const struct conn *c);
/* The protocol has been settled; tunnel: a WebSocket carries it as binary messages. */
void conn_begin(struct conn *c, const struct session_ops *ops, void *session, bool tunnel);
/* Where the session puts what it sends, then conn_flush(). */
struct buf *conn_out(struct conn *c);
void conn_flush(struct conn *c);
bool conn_is_full(const struct conn *c);
/* The session's wish to read has changed. */
void conn_update(struct conn *c);
/* What is in conn_out() is the last: no input is passed on any more, and the connection ends when
 * it is written and the client has closed, or does not. shut: tell the client that it has ended. */
void conn_finish(struct conn *c, bool shut);
/* Replies with an error and finishes. */
void conn_refuse(struct conn *c, int status, const char *headers, const char *text);

/* --- upgrade --- */

struct http_head;
/* path: "/exec/token". Replies and begins a session, or refuses. */
void stream_upgrade(struct conn *c, const struct http_head *h, const char *path);

/* --- exec and attach --- */

enum channel {
	CHANNEL_STDIN,
	CHANNEL_STDOUT,
	CHANNEL_STDERR,
	CHANNEL_ERROR,
	CHANNEL_RESIZE,
	CHANNEL_MAX
};

struct command;

struct command_ops {
	void (*send)(void *transport, enum channel channel, const void *p, size_t n);
	void (*end)(void *transport, enum channel channel);
	/* All has been sent: ends the protocol and the connection. */
	void (*finish)(void *transport);
	void (*free)(void *transport);
};

/* Takes the request. version: 1 to 5. */
struct command *command_new(struct conn *c, struct stream_request *take, int version,
			    const struct command_ops *ops, void *transport);
bool command_has(const struct command *c, enum channel channel);
/* The client is ready: runs it. */
void command_start(struct command *c);
void command_stdin(struct command *c, const void *p, size_t n);
void command_stdin_end(struct command *c);
void command_resize(struct command *c, const void *p, size_t n);
bool command_wants_input(const struct command *c);
void command_on_room(struct command *c);
void command_on_gone(struct command *c);

void command_spdy_begin(struct conn *c, struct stream_request *take, int version);
void command_websocket_begin(struct conn *c, struct stream_request *take, int version, bool base64);

/* The document for the error channel. */
char *status_success(void);
char *status_exit(int exit_code);
char *status_failure(const char *message);

/* JSON objects one after another, {"Width":80,"Height":24}. */
struct resize_parser {
	char text[256];
	size_t n;
	unsigned depth;
	bool broken;
};

/* True: at least one was complete; *ret_* are the last one's. */
bool resize_feed(struct resize_parser *p, const char *data, size_t n, unsigned *ret_width,
		 unsigned *ret_height);

/* --- port-forward --- */

struct forward;

/* A connection of the client's, and the one behind it. */
struct pair {
	struct list node;
	struct forward *forward;
	char *request_id;
	uint16_t port;
	uint32_t data_id, error_id; /* the transport's */
	bool has_data, has_error;
	unsigned refs; /* the list, a job, the poll handle */
	bool gone;
	int fd, other_fd; /* to the target; to try when that fails */
	bool connecting, connected;
	char *first_failure;
	uv_poll_t poll;
	bool polled;
	int events;
	struct buf to_target;
	size_t off;
	bool stuck, client_ended, target_ended;
	struct loop_timer *timer;
};

struct forward_ops {
	void (*send)(void *transport, struct pair *p, const void *data, size_t n);
	void (*end)(void *transport, struct pair *p); /* of the data */
	void (*fail)(void *transport, struct pair *p, const char *text);
	/* It is over; reset: not in good order. p goes. */
	void (*close)(void *transport, struct pair *p, bool reset);
	void (*free)(void *transport);
};

struct forward {
	struct conn *conn; /* NULL: gone */
	struct streaming *s;
	struct stream_request *request;
	const struct forward_ops *ops;
	void *transport;
	unsigned refs; /* the connection, pairs */
	struct list pairs;
	unsigned n_pairs, n_stuck;
	size_t pending;
};

struct forward *forward_new(struct conn *c, struct stream_request *take,
			    const struct forward_ops *ops, void *transport);
struct pair *pair_new(struct forward *f, uint16_t port);
void pair_connect(struct pair *p);
void pair_data(struct pair *p, const void *data, size_t n);
void pair_client_ends(struct pair *p);
/* The client has given it up. */
void pair_client_resets(struct pair *p);
bool forward_wants_input(const struct forward *f);
void forward_on_room(struct forward *f);
void forward_on_gone(struct forward *f);

void forward_spdy_begin(struct conn *c, struct stream_request *take, bool tunnel);
void forward_websocket_begin(struct conn *c, struct stream_request *take, bool base64);

/* --- WebSocket messages with channels --- */

struct channels;

struct channels_ops {
	void (*on_data)(unsigned channel, const void *p, size_t n, void *arg);
	/* v5's half-close. */
	void (*on_end)(unsigned channel, void *arg);
};

struct channels *channels_new(struct conn *c, bool base64, bool with_close,
			      const struct channels_ops *ops, void *arg);
void channels_free(struct channels *c);
/* -1 also when the client has closed. */
int channels_feed(struct channels *c, const void *p, size_t n, struct error *err);
void channels_send(struct channels *c, unsigned channel, const void *p, size_t n);
void channels_close(struct channels *c);
