#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/1.1 server on the daemon's loop. Connections come already accepted
 * (http_server_adopt); requests are matched against a route table and run on a job pool as blocking
 * functions; the reply goes back through the loop.
 *
 * A handler runs on a pool thread and owns the request until it replies: exactly one of
 * http_reply*, http_stream_start ... http_stream_end, http_upgrade; or it returns an error, which
 * the server's `encode_error` turns into a reply; or it keeps a reference (http_request_ref),
 * returns 0, and replies later from any thread (Wait, events, followed logs hold no thread). A
 * request that nobody replies to when its last reference goes is answered with 500. Strings from a
 * request live as long as it does.
 */

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "loop/job.h"

struct http_server;
struct http_request;

typedef int (*http_handler)(struct http_request *r, struct error *err);

enum {
	HTTP_ON_LOOP = 1 << 0,	/* cheap and non-blocking: run right on the loop */
	HTTP_TRANSFER = 1 << 1, /* long: run on JOB_TRANSFER */
	HTTP_STREAM_BODY =
		1 << 2, /* body is not collected: the handler reads it by http_body_read() */
};

struct http_route {
	const char *method;
	const char *path; /* "/containers/{id}/json"; "{name...}" matches several segments, as image
			     names need */
	http_handler handler;
	unsigned flags;
	size_t max_body; /* 0: no body expected beyond 64 KiB */
};

struct http_server_config {
	struct loop *loop;
	struct jobs *jobs;
	const struct http_route *routes; /* ends with method NULL */
	void *arg;			 /* http_request_arg() */
	/* Path rewriting before routing ("/v1.43/..."): returns the rest and fills ret_version (may
	 * fail: Docker's "client version is too new"). NULL: none. */
	int (*strip_version)(const char *path, const char **ret_rest, char ret_version[16],
			     struct error *err);
	int (*status_of)(const struct error *err); /* HTTP status for an error */
	struct json *(*encode_error)(const struct error *err);
	/* Headers on every reply: pairs, ends with NULL. */
	const char *const *headers;
};

struct http_server *http_server_new(const struct http_server_config *config, struct error *err);
/* Takes the connected socket. Loop thread. */
void http_server_adopt(struct http_server *s, int fd);
unsigned http_server_connections(
	const struct http_server *s); /* incl. hijacked ones not yet handed over */
/* From now on idle connections end, and busy ones after their reply. */
void http_server_drain(struct http_server *s);
/* Ends all connections. Requests that handlers still hold see their client gone. */
void http_server_free(struct http_server *s);

void *http_request_arg(const struct http_request *r);
struct http_request *http_request_ref(struct http_request *r);
void http_request_unref(struct http_request *r);
struct arena *http_arena(struct http_request *r); /* handler thread only */
const char *http_method(const struct http_request *r);
const char *http_path(const struct http_request *r);
const char *http_api_version(const struct http_request *r);		/* "1.43" or "" */
const char *http_param(const struct http_request *r, const char *name); /* decoded path parameter */
const char *http_query(const struct http_request *r,
		       const char *name); /* first one, NULL when absent */
size_t http_query_all(const struct http_request *r, const char *name, const char **ret, size_t max);
bool http_query_bool(const struct http_request *r, const char *name, bool fallback);
const char *http_header(const struct http_request *r, const char *name);
const char *http_body(const struct http_request *r, size_t *ret_len);
/* Body as JSON (empty body: NULL and success), INVALID_ARGUMENT otherwise. */
int http_body_json(struct http_request *r, struct json **ret, struct error *err);
/* HTTP_STREAM_BODY: blocks for bytes; 0 at the end, -1 when the client is gone. */
ssize_t http_body_read(struct http_request *r, void *p, size_t n, struct error *err);
/* Credentials of the connection's peer (SO_PEERCRED). */
void http_peer(const struct http_request *r, pid_t *ret_pid, uid_t *ret_uid);

/* Before the reply. */
void http_set_header(struct http_request *r, const char *name, const char *value);
void http_reply(struct http_request *r, int status, const char *content_type, const void *p,
		size_t n);
void http_reply_json(struct http_request *r, int status, struct json *take);
void http_reply_empty(struct http_request *r, int status);
void http_reply_error(struct http_request *r, const struct error *err);

/* Chunked. write: blocks a pool thread while more than 256 KiB wait; on the loop thread it never
 * blocks and returns 1 when the mark is exceeded (wait for on_drain). -1: the client is gone. */
void http_stream_start(struct http_request *r, int status, const char *content_type);
int http_stream_write(struct http_request *r, const void *p, size_t n);
void http_stream_on_drain(struct http_request *r, void (*fn)(void *arg), void *arg);
void http_stream_end(struct http_request *r);

/* 101 (with Upgrade: header) or, for clients that did not ask to upgrade, 200 and the raw stream;
 * then fn on the loop with the client's socket (taken, blocking mode as it was) and bytes already
 * read; with fd < 0 when the client went away before. Not for HTTP_STREAM_BODY. */
void http_upgrade(struct http_request *r, const char *content_type,
		  void (*fn)(int fd, const void *extra, size_t n_extra, void *arg), void *arg);

/* fn on the loop when the client goes away before the reply is complete; at most once. Not called
 * any more after http_reply*, http_stream_end or http_upgrade have returned, if these were called
 * on the loop; on another thread fn may just be running. */
void http_on_disconnect(struct http_request *r, void (*fn)(void *arg), void *arg);
bool http_disconnected(const struct http_request *r);
