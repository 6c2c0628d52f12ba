#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP exchange: a request, a response, no redirect followed, no retry, no opinion about status
 * codes. On libcurl's easy interface, which blocks: every transfer has a thread of its own (fetch.c
 * says why). Connections are kept for the next exchange of any thread.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/strv.h"

#define HTTP_HEADERS_MAX (64 << 10) /* bytes of one response's header */
#define HTTP_ERROR_BODY_MAX (64 << 10)

struct http;

struct http_config {
	const char *http_proxy, *https_proxy, *no_proxy; /* NULL: none */
	int64_t stall_ms; /* no byte in either direction for so long: broken */
};

struct http *http_new(const struct http_config *config);
void http_free(struct http *h);

/* How to trust and reach the server; strings are borrowed. */
struct http_peer {
	bool skip_verify;
	const char *ca; /* PEM, besides the system's */
	const char *client_cert, *client_key;
	int64_t dial_timeout_ms; /* 0: 30 s */
};

struct http_request {
	const char *method;
	const char *url;
	struct strv headers; /* "Name: value", checked by who puts them there */
	/* Body: bytes, or a part of a file when body_fd >= 0. */
	const void *body;
	int64_t body_len;
	int body_fd;
	int64_t body_offset;
	/* Bytes sent so far of a body from a file; may be NULL. */
	void (*on_sent)(int64_t sent, void *arg);
	/* Where the body of a 2xx goes, after on_head said that it is welcome; NULL: response.body,
	 * bounded by response.body.max. Non-zero ends the exchange with ABORTED: they keep why. */
	int (*on_data)(const void *p, size_t n, void *arg);
	void *arg;
};

#define HTTP_REQUEST_INIT ((struct http_request){ .body_fd = -1 })

enum http_failure {
	HTTP_FAILURE_NONE,
	HTTP_UNREACHABLE, /* no such host, refused, no route: asking again soon is of no use */
	HTTP_UNTRUSTED,	  /* certificate or TLS handshake */
	HTTP_BROKEN,	  /* timed out, reset, ended too early, stalled */
	HTTP_REFUSED,	  /* by us: a bound passed, on_data said no */
};

struct http_response {
	int status;
	struct strv names, values; /* header fields, names in lower case */
	size_t header_bytes;
	struct buf body;
	enum http_failure failure;
};

#define HTTP_RESPONSE_INIT(max) ((struct http_response){ .body = BUF_INIT(max) })

void http_request_done(struct http_request *q);
void http_response_done(struct http_response *r);
/* First field of that name (lower case), or NULL. */
const char *http_header(const struct http_response *r, const char *name);

/* 0: a whole response came. -1: none did (UNAVAILABLE, or what response.failure says). May be
 * called again with the same response, which is emptied first. */
int http_exchange(struct http *h, const struct http_peer *peer, const struct http_request *q,
		  struct http_response *ret, struct error *err);

#define autorequest CLEANUP(http_request_done)
#define autoresponse CLEANUP(http_response_done)
