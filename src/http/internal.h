#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the HTTP server share. A connection belongs to the loop. A request is held by
 * its connection (until one of both ends), by its users (handler and http_request_ref) and by posts
 * on their way; the members below `lock` are the border between loop and threads.
 */

#include "base/list.h"
#include "base/map.h"
#include "http/parse.h"
#include "http/server.h"

#include <pthread.h>
#include <stdatomic.h>

#define HTTP_PARAMS_MAX 8
#define HTTP_QUERY_MAX 256
#define HTTP_BODY_QUEUE (1 << 20)    /* of a streamed body, before the client has to wait */
#define HTTP_STREAM_HIGH (256 << 10) /* of a streamed reply, before the writer has to wait */
#define HTTP_OUT_MAX (64 << 20)	     /* of a reply in all: beyond it the connection is dropped */
#define HTTP_DISCARD_MAX (1 << 20)   /* of a body that nobody wants, before the connection ends */
#define HTTP_BODY_DEFAULT (64 << 10)

struct http_conn;

struct http_server {
	struct http_server_config config;
	atomic_uint refs; /* requests, and the owner */
	atomic_bool draining;
	struct list conns;
	unsigned n_conns;
	uv_timer_t sweep;
	bool freed;
};

struct http_pair {
	const char *name, *value;
};

enum http_reply_state {
	HTTP_REPLY_NONE,
	HTTP_REPLY_STREAM,
	HTTP_REPLY_UPGRADE,
	HTTP_REPLY_DONE,
};

struct http_request {
	unsigned magic;
	atomic_uint refs;  /* of the memory */
	atomic_uint users; /* handler and its references */
	struct http_server *server;
	struct http_conn *conn; /* loop only; NULL once the connection has let go */
	bool dispatched;	/* loop only: the users' reference has left the connection */
	const struct http_route *route;
	struct arena arena;
	struct http_head head;
	char *path; /* decoded, the version stripped */
	char version[16];
	struct http_pair params[HTTP_PARAMS_MAX];
	size_t n_params;
	struct http_pair *query;
	size_t n_query;
	pid_t pid;
	uid_t uid;
	int64_t start;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct buf body;
	size_t body_off;
	bool body_end;
	bool body_paused;
	struct buf out;	  /* for the connection, not yet taken by it */
	size_t in_flight; /* taken, not yet written */
	bool flush_posted;
	enum http_reply_state state;
	int status;
	bool chunked;
	bool keep_alive;
	bool broken; /* the reply cannot be completed: end the connection */
	bool gone;   /* the client */
	struct buf headers;
	void (*on_disconnect)(void *arg);
	void *disconnect_arg;
	void (*on_drain)(void *arg);
	void *drain_arg;
	void (*on_upgrade)(int fd, const void *extra, size_t n_extra, void *arg);
	void *upgrade_arg;
};

#define HTTP_REQUEST_MAGIC 0x48747271

enum http_stage {
	HTTP_STAGE_HEAD,  /* between requests, or within a head */
	HTTP_STAGE_BODY,  /* within a body; a streamed one's request runs already */
	HTTP_STAGE_REPLY, /* body complete, waiting for the reply */
	HTTP_STAGE_CLOSE, /* refused: ends when the output is written */
};

struct http_conn {
	uv_poll_t poll;
	int events; /* polled for */
	struct list node;
	struct http_server *server;
	int fd;
	int fd_flags; /* as they were when adopted */
	bool is_unix;
	bool half_closed; /* the client's writing side has ended; seen, not read yet */
	bool eof;	  /* read */
	bool closed;
	bool busy; /* in conn_advance() */
	enum http_stage stage;
	pid_t pid;
	uid_t uid;
	int64_t since; /* of the last thing that happened, for time-outs */
	struct buf in;
	size_t scan;
	struct http_body body;
	size_t discarded;
	struct buf out;
	size_t out_off;
	struct http_request *request;
};

/* request.c */
struct http_request *http_request_new(struct http_server *s, struct http_conn *c);
void http_request_release(struct http_request *r); /* a reference to the memory */
/* Parses the head (copied). -1: refuse it with this status and reason. */
int http_request_parse(struct http_request *r, const char *text, size_t len, int *ret_status,
		       const char **ret_reason);
int http_request_route(struct http_request *r, struct error *err);
/* Runs the handler where its route says. */
void http_request_dispatch(struct http_request *r);

/* route.c */
bool http_route_match(const char *pattern, const char *path, struct http_request *r);
int http_parse_query(struct http_request *r, char *query);
int http_status_of(const struct http_server *s, const struct error *err);
char *http_error_body(const struct http_server *s, const struct error *err, size_t *ret_len);

/* reply.c */
const char *http_status_text(int status);
void http_reply_abandoned(struct http_request *r); /* the last user left */
void http_signal_gone(struct http_request *r);	   /* loop: callbacks, wakes threads */
void http_signal_drain(struct http_request *r);	   /* loop: after output was written */
void http_drop_output(struct http_request *r);	   /* loop: there is no connection any more */

/* server.c */
void http_server_conn_gone(struct http_server *s);

/* conn.c; loop only */
struct http_conn *http_conn_new(struct http_server *s, int fd);
void http_conn_close(struct http_conn *c);
void http_conn_drain(struct http_conn *c); /* ends when idle */
void http_conn_check_timeout(struct http_conn *c, int64_t now);
void http_conn_flush_post(void *request);  /* loop_post target: output has come */
void http_conn_resume_post(void *request); /* loop_post target: room for body bytes */
