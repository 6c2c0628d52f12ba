#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Docker Engine API client over a unix socket. Connects on first use (starting kistld when
 * nothing listens, see autostart.h) and agrees on the API version once. An idle connection is
 * kept for the next request. Errors that the daemon reports read "Error response from daemon: …"
 * and carry a code from the HTTP status (404 NOT_FOUND, 409 ALREADY_EXISTS, 304 is success).
 * One thread.
 */

#include "cli/http.h"
#include "cli/jsonstream.h"

#include "base/json.h"

#define API_VERSION_MAX "1.47"
#define API_DOCUMENT_MAX (64 * 1024 * 1024)

struct client {
	char *socket;	 /* path */
	char *namespace; /* of objects ("k8s.io"); NULL: the daemon's default */
	bool autostart;
	char *version;	 /* "1.47" once agreed */
	char *server_os; /* from /_ping */
	int idle_fd;
};

/* One request and its reply on a connection of their own. */
struct exchange {
	struct client *client;
	int fd;
	struct http_parser parser;
	struct buf in; /* received, not parsed yet */
	bool head_done;
	bool ended;
	struct buf piece; /* what exchange_read() handed out */
	struct json_scanner scanner;
	struct buf rest;     /* body bytes after the current JSON document */
	struct buf document; /* JSON text being collected */
};

typedef int (*request_write_fn)(void *sink, const void *p, size_t n, struct error *err);

struct request {
	const char *method;
	const char *path; /* with query, without version */
	const struct json *body;
	const char *auth; /* X-Registry-Auth */
	bool upgrade;	  /* hijack: Connection: Upgrade, Upgrade: tcp */
	int body_fd;	  /* > 0: stream this as application/x-tar */
	/* Writes the body (application/x-tar) by calling write(sink, …) until it returns non-zero,
	 * which is then to be returned at once: without an error when the daemon wants no more. */
	int (*produce)(void *arg, request_write_fn write, void *sink, struct error *err);
	void *produce_arg;
};

/* host: NULL ($KISTL_HOST, $DOCKER_HOST, default) or "unix:///path". namespace: NULL or a name. */
int client_init(struct client *c, const char *host, const char *namespace, struct error *err);
void client_done(struct client *c);
/* Connects and agrees on the version; every call does it when needed. */
int client_connect(struct client *c, struct error *err);
/* "unix:///run/kistl/kistl.sock"; malloc'ed. */
char *client_host(const struct client *c);
/* -1, 0, 1 as a is older than, same as, newer than b ("1.41"). */
int api_version_compare(const char *a, const char *b);

/* Sends a request; the reply's head may be read later by exchange_head(). NULL with err. */
struct exchange *client_send(struct client *c, const struct request *req, struct error *err);
/* Waits for the head; a status ≥ 400 becomes an error. */
int exchange_head(struct exchange *ex, struct error *err);
/* The next piece of the body, borrowed until the next call. 1: a piece, 0: the end, -1: error,
 * with wait false also 2: nothing there now. */
int exchange_read(struct exchange *ex, bool wait, const char **ret, size_t *ret_len,
		  struct error *err);
/* The next document of a stream of JSON documents; NULL with err unset at the end. */
struct json *exchange_next_json(struct exchange *ex, struct error *err);
/* Something was received already: the next read may not have to wait for the socket. */
bool exchange_buffered(const struct exchange *ex);
/* The rest of the body as one document (NULL document when empty). */
int exchange_json(struct exchange *ex, struct json **ret, struct error *err);
void exchange_free(struct exchange *ex);

/* client_send + exchange_head. */
struct exchange *client_open(struct client *c, const struct request *req, struct error *err);
/* The whole exchange; ret may be NULL. */
int client_call(struct client *c, const char *method, const char *path, const struct json *body,
		struct json **ret, struct error *err);
int client_get(struct client *c, const char *path, struct json **ret, struct error *err);
int client_post(struct client *c, const char *path, const struct json *body, struct error *err);

DEFINE_CLEANUP(struct exchange *, exchange_free)
#define autoexchange CLEANUP(exchange_freep)
