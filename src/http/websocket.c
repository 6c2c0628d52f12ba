/* SPDX-License-Identifier: Apache-2.0 */
#include "http/websocket.h"

#include "base/hex.h"
#include "base/mem.h"

#include <assert.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

#define CONTROL_MAX 125
#define HEAD_MAX 14
#define UNMASK_PIECE 4096

enum opcode {
	OP_CONTINUATION = 0,
	OP_TEXT = 1,
	OP_BINARY = 2,
	OP_CLOSE = 8,
	OP_PING = 9,
	OP_PONG = 10,
};

enum stage {
	STAGE_HEAD,
	STAGE_PAYLOAD,
	STAGE_CLOSED, /* by the client; what follows is dropped */
	STAGE_BROKEN,
};

/* How far a character of several bytes has come (RFC 3629). */
struct utf8 {
	uint8_t left;
	uint8_t low, high; /* bounds of the next byte */
};

struct websocket {
	struct websocket_config config;
	enum stage stage;
	uint8_t head[HEAD_MAX];
	size_t n_head;
	bool fin;
	enum opcode opcode;
	uint8_t mask[4];
	unsigned mask_pos;
	uint64_t left; /* of the frame */
	/* The message under way. */
	bool in_message, any_piece;
	enum websocket_type type;
	uint64_t message_len;
	struct utf8 utf8;
	uint8_t control[CONTROL_MAX];
	size_t n_control;
	bool closed;
};

/* --- UTF-8 --- */

static bool utf8_begin(struct utf8 *u, uint8_t b)
{
	*u = (struct utf8){ .low = 0x80, .high = 0xbf };
	if (b < 0x80)
		return true;
	if (b < 0xc2 || b > 0xf4)
		return false;
	u->left = b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
	/* Neither longer than needed, nor surrogates, nor past U+10FFFF. */
	if (b == 0xe0)
		u->low = 0xa0;
	else if (b == 0xed)
		u->high = 0x9f;
	else if (b == 0xf0)
		u->low = 0x90;
	else if (b == 0xf4)
		u->high = 0x8f;
	return true;
}

static bool utf8_check(struct utf8 *u, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++) {
		if (u->left == 0) {
			if (!utf8_begin(u, b[i]))
				return false;
			continue;
		}
		if (b[i] < u->low || b[i] > u->high)
			return false;
		u->left--;
		u->low = 0x80;
		u->high = 0xbf;
	}
	return true;
}

/* --- out --- */

static void put_frame(struct websocket *w, enum opcode opcode, const void *p1, size_t n1,
		      const void *p2, size_t n2)
{
	uint8_t head[10] = { (uint8_t)(0x80 | opcode) };
	uint64_t len = (uint64_t)n1 + n2;
	size_t n = 2;

	if (w->closed)
		return;
	if (len < 126) {
		head[1] = (uint8_t)len;
	} else if (len <= UINT16_MAX) {
		head[1] = 126;
		n = 4;
	} else {
		head[1] = 127;
		n = 10;
	}
	for (size_t i = 2; i < n; i++)
		head[i] = (uint8_t)(len >> 8 * (n - 1 - i));
	buf_append(w->config.out, head, n);
	if (n1 > 0)
		buf_append(w->config.out, p1, n1);
	if (n2 > 0)
		buf_append(w->config.out, p2, n2);
}

void websocket_send2(struct websocket *w, enum websocket_type type, const void *p1, size_t n1,
		     const void *p2, size_t n2)
{
	put_frame(w, (enum opcode)type, p1, n1, p2, n2);
}

void websocket_send(struct websocket *w, enum websocket_type type, const void *p, size_t n)
{
	put_frame(w, (enum opcode)type, p, n, NULL, 0);
}

void websocket_close(struct websocket *w, enum websocket_code code, const char *reason)
{
	uint8_t bytes[2] = { (uint8_t)((unsigned)code >> 8), (uint8_t)code };
	size_t len = strnlen(reason, CONTROL_MAX - sizeof(bytes));

	/* Not in the middle of a character. */
	while (reason[len] && len > 0 && ((uint8_t)reason[len] & 0xc0) == 0x80)
		len--;
	if (code == WEBSOCKET_NO_CODE)
		put_frame(w, OP_CLOSE, NULL, 0, NULL, 0);
	else
		put_frame(w, OP_CLOSE, bytes, sizeof(bytes), reason, len);
	w->closed = true;
}

bool websocket_is_closed(const struct websocket *w)
{
	return w->closed;
}

/* --- in --- */

static int fail(struct websocket *w, enum websocket_code code, const char *reason,
		struct error *err)
{
	websocket_close(w, code, reason);
	w->stage = STAGE_BROKEN;
	return error_set(err, ERROR_INVALID_ARGUMENT, "malformed WebSocket frame: %s", reason);
}

static bool is_control(enum opcode op)
{
	return (unsigned)op & 8;
}

/* What the first two bytes say; the length of the whole head, -1. */
static int head_length(struct websocket *w, struct error *err)
{
	static const uint16_t known = 1 << OP_CONTINUATION | 1 << OP_TEXT | 1 << OP_BINARY |
				      1 << OP_CLOSE | 1 << OP_PING | 1 << OP_PONG;
	const uint8_t *h = w->head;
	unsigned opcode = h[0] & 0x0f, len = h[1] & 0x7f;

	if (h[0] & 0x70)
		return fail(w, WEBSOCKET_PROTOCOL_ERROR, "reserved bits are set", err);
	if (!(known >> opcode & 1))
		return fail(w, WEBSOCKET_PROTOCOL_ERROR, "unknown opcode", err);
	if (!(h[1] & 0x80))
		return fail(w, WEBSOCKET_PROTOCOL_ERROR, "frame is not masked", err);
	w->fin = h[0] & 0x80;
	w->opcode = (enum opcode)opcode;
	if (is_control(w->opcode)) {
		if (!w->fin || len > CONTROL_MAX)
			return fail(w, WEBSOCKET_PROTOCOL_ERROR,
				    "control frame is long or fragmented", err);
	} else if ((w->opcode == OP_CONTINUATION) != w->in_message) {
		return fail(w, WEBSOCKET_PROTOCOL_ERROR,
			    w->in_message ? "message begins within another"
					  : "continuation of nothing",
			    err);
	}
	return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + 4;
}

static int begin_frame(struct websocket *w, size_t head_len, struct error *err)
{
	unsigned len = w->head[1] & 0x7f;
	size_t extended = head_len - 6;

	w->left = extended ? 0 : len;
	for (size_t i = 0; i < extended; i++)
		w->left = w->left << 8 | w->head[2 + i];
	if (extended &&
	    (w->left < 126 || (extended == 8 && w->left <= UINT16_MAX) || w->left >> 63))
		return fail(w, WEBSOCKET_PROTOCOL_ERROR, "length is not minimal", err);
	memcpy(w->mask, w->head + head_len - 4, 4);
	w->mask_pos = 0;
	w->n_head = 0;
	w->n_control = 0;
	w->stage = STAGE_PAYLOAD;
	if (is_control(w->opcode))
		return 0;
	if (w->opcode != OP_CONTINUATION) {
		w->in_message = true;
		w->any_piece = false;
		w->type = (enum websocket_type)w->opcode;
		w->message_len = 0;
		w->utf8 = (struct utf8){ 0 };
	}
	if (w->left > w->config.max_message - w->message_len)
		return fail(w, WEBSOCKET_TOO_BIG, "message is too big", err);
	w->message_len += w->left;
	return 0;
}

static bool close_code_valid(unsigned code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
	       (code >= 3000 && code <= 4999);
}

static int on_close_frame(struct websocket *w, struct error *err)
{
	unsigned code = WEBSOCKET_NO_CODE;
	struct utf8 u = { 0 };

	if (w->n_control == 1)
		return fail(w, WEBSOCKET_PROTOCOL_ERROR, "close frame of one byte", err);
	if (w->n_control >= 2) {
		code = (unsigned)w->control[0] << 8 | w->control[1];
		if (!close_code_valid(code))
			return fail(w, WEBSOCKET_PROTOCOL_ERROR, "close code is not valid", err);
		if (!utf8_check(&u, w->control + 2, w->n_control - 2) || u.left > 0)
			return fail(w, WEBSOCKET_BAD_DATA, "close reason is not UTF-8", err);
	}
	websocket_close(w, (enum websocket_code)code, "");
	w->stage = STAGE_CLOSED;
	w->config.ops->on_close(code, w->config.arg);
	return 0;
}

/* The payload is there. */
static int end_frame(struct websocket *w, struct error *err)
{
	w->stage = STAGE_HEAD;
	switch (w->opcode) {
	case OP_CLOSE:
		return on_close_frame(w, err);
	case OP_PING:
		put_frame(w, OP_PONG, w->control, w->n_control, NULL, 0);
		return 0;
	case OP_PONG:
		return 0;
	default:
		break;
	}
	if (w->fin)
		w->in_message = false;
	return 0;
}

/* last: of the frame. */
static int deliver(struct websocket *w, const char *p, size_t n, bool last, struct error *err)
{
	bool ends = last && w->fin;

	if (w->type == WEBSOCKET_TEXT &&
	    (!utf8_check(&w->utf8, p, n) || (ends && w->utf8.left > 0)))
		return fail(w, WEBSOCKET_BAD_DATA, "text is not UTF-8", err);
	const struct websocket_piece piece = {
		.type = w->type,
		.first = !w->any_piece,
		.last = ends,
		.data = p,
		.len = n,
	};
	if (n == 0 && !ends)
		return 0;
	w->any_piece = true;
	w->config.ops->on_piece(&piece, w->config.arg);
	return 0;
}

static void unmask(struct websocket *w, char *out, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = (char)(p[i] ^ w->mask[(w->mask_pos + i) & 3]);
	w->mask_pos = (w->mask_pos + (unsigned)n) & 3;
}

/* Bytes taken, which may be none at a frame's end, or -1. */
static ssize_t take_payload(struct websocket *w, const char *p, size_t n, struct error *err)
{
	char plain[UNMASK_PIECE];
	size_t take = MIN(n, sizeof(plain));

	if (take > w->left)
		take = (size_t)w->left;
	unmask(w, plain, p, take);
	w->left -= take;
	if (is_control(w->opcode)) {
		memcpy(w->control + w->n_control, plain, take);
		w->n_control += take;
	} else if (deliver(w, plain, take, w->left == 0, err) < 0) {
		return -1;
	}
	if (w->left == 0 && end_frame(w, err) < 0)
		return -1;
	return (ssize_t)take;
}

/* Up to `want` bytes of the head; how many of p it took. */
static size_t collect(struct websocket *w, const char *p, size_t n, size_t want)
{
	size_t take = w->n_head < want ? MIN(n, want - w->n_head) : 0;

	memcpy(w->head + w->n_head, p, take);
	w->n_head += take;
	return take;
}

static ssize_t take_head(struct websocket *w, const char *p, size_t n, struct error *err)
{
	size_t took = collect(w, p, n, 2);

	if (w->n_head < 2)
		return (ssize_t)took;
	int whole = head_length(w, err);
	if (whole < 0)
		return -1;
	took += collect(w, p + took, n - took, (size_t)whole);
	if (w->n_head < (size_t)whole)
		return (ssize_t)took;
	if (begin_frame(w, (size_t)whole, err) < 0)
		return -1;
	/* An empty frame is complete here. */
	return w->left == 0 && take_payload(w, p, 0, err) < 0 ? -1 : (ssize_t)took;
}

int websocket_feed(struct websocket *w, const void *p, size_t n, struct error *err)
{
	const char *bytes = p;

	if (w->stage == STAGE_BROKEN)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the connection is broken");
	while (n > 0 && w->stage != STAGE_CLOSED) {
		ssize_t took = w->stage == STAGE_HEAD ? take_head(w, bytes, n, err)
						      : take_payload(w, bytes, n, err);

		if (took < 0)
			return -1;
		bytes += took;
		n -= (size_t)took;
	}
	return 0;
}

struct websocket *websocket_new(const struct websocket_config *config)
{
	struct websocket *w = xnew(struct websocket);

	assert(config->out && config->ops);
	w->config = *config;
	return w;
}

void websocket_free(struct websocket *w)
{
	free(w);
}

/* --- handshake --- */

int websocket_accept(const char *key, char ret[WEBSOCKET_ACCEPT_SIZE], struct error *err)
{
	static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	autobuf struct buf nonce = BUF_INIT(64);
	autobuf struct buf out = BUF_INIT(64);
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (!key || strlen(key) != 24 || base64_decode(key, 24, &nonce) < 0 || nonce.len != 16)
		return error_set(err, ERROR_INVALID_ARGUMENT, "bad Sec-WebSocket-Key");
	autofree char *text = xasprintf("%s%s", key, magic);
	if (EVP_Digest(text, strlen(text), digest, &n, EVP_sha1(), NULL) != 1)
		return error_set(err, ERROR_INTERNAL, "cannot compute SHA-1");
	base64_encode(digest, n, &out);
	assert(out.len == WEBSOCKET_ACCEPT_SIZE - 1);
	memcpy(ret, out.data, WEBSOCKET_ACCEPT_SIZE);
	return 0;
}

/* The next token of a list, without the blanks around it; false at the end. */
static bool next_token(const char **list, const char **ret, size_t *ret_len)
{
	const char *p = *list + strspn(*list, ", \t");
	size_t len = strcspn(p, ",");

	*list = p + len;
	while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\t'))
		len--;
	*ret = p;
	*ret_len = len;
	return len > 0;
}

bool websocket_has_token(const char *list, const char *token)
{
	const char *t;
	size_t len;

	while (list && next_token(&list, &t, &len))
		if (len == strlen(token) && strncasecmp(t, token, len) == 0)
			return true;
	return false;
}

const char *websocket_choose(const char *list, const char *const *supported)
{
	const char *t;
	size_t len;

	while (list && next_token(&list, &t, &len))
		for (const char *const *s = supported; *s; s++)
			if (len == strlen(*s) && strncmp(t, *s, len) == 0)
				return *s;
	return NULL;
}
