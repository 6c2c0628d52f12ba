#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of WebSocket (RFC 6455), without extensions. Sans-IO: bytes go in by
 * websocket_feed(), frames to be sent are appended to a buffer of the caller's. One thread at a
 * time. A message is passed on in pieces as it comes, fragmented or not, and never kept, so its
 * ceiling costs no memory. Pings are answered. The caller bounds `out` by not feeding while it is
 * full: answers are never longer than what they answer.
 */

#include "base/buf.h"
#include "base/error.h"

struct websocket;

enum websocket_type { WEBSOCKET_TEXT = 1, WEBSOCKET_BINARY = 2 };

enum websocket_code {
	WEBSOCKET_NORMAL = 1000,
	WEBSOCKET_GOING_AWAY = 1001,
	WEBSOCKET_PROTOCOL_ERROR = 1002,
	WEBSOCKET_UNSUPPORTED = 1003,
	WEBSOCKET_NO_CODE = 1005, /* never sent */
	WEBSOCKET_BAD_DATA = 1007,
	WEBSOCKET_POLICY = 1008,
	WEBSOCKET_TOO_BIG = 1009,
	WEBSOCKET_INTERNAL = 1011,
};

struct websocket_piece {
	enum websocket_type type;
	bool first, last; /* of its message */
	const char *data;
	size_t len; /* 0 only where first or last says something */
};

struct websocket_ops {
	/* Text is known to be UTF-8 up to here, but for a character that is not complete. May send
	 * and close, but not free. */
	void (*on_piece)(const struct websocket_piece *p, void *arg);
	/* The client closes; the answer is in `out`, and the connection shall end after it. */
	void (*on_close)(unsigned code, void *arg);
};

struct websocket_config {
	struct buf *out;
	uint64_t max_message; /* longer ones end the connection with 1009 */
	const struct websocket_ops *ops;
	void *arg;
};

struct websocket *websocket_new(const struct websocket_config *config);
void websocket_free(struct websocket *w); /* no callbacks */
/* Takes all of it; what follows a close frame is dropped. -1: the client breaks the protocol; the
 * close frame is in `out`, the connection shall end after it. */
int websocket_feed(struct websocket *w, const void *p, size_t n, struct error *err);
/* One message; nothing after a close. */
void websocket_send(struct websocket *w, enum websocket_type type, const void *p, size_t n);
/* The same of two parts: channel and data. */
void websocket_send2(struct websocket *w, enum websocket_type type, const void *p1, size_t n1,
		     const void *p2, size_t n2);
/* Once. */
void websocket_close(struct websocket *w, enum websocket_code code, const char *reason);
bool websocket_is_closed(const struct websocket *w); /* by us */

/* --- handshake --- */

#define WEBSOCKET_ACCEPT_SIZE 29
/* The value of Sec-WebSocket-Accept. INVALID_ARGUMENT unless key is 16 bytes in base64. */
int websocket_accept(const char *key, char ret[WEBSOCKET_ACCEPT_SIZE], struct error *err);
/* Does a header's list (tokens with commas; NULL: empty) contain token, in any case? */
bool websocket_has_token(const char *list, const char *token);
/* Of those that a list of sub-protocols has, in its order, the first that is among `supported`
 * (ends with NULL); NULL when there is none. */
const char *websocket_choose(const char *list, const char *const *supported);

DEFINE_CLEANUP(struct websocket *, websocket_free)
