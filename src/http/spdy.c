/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Header blocks are packed by one zlib stream for each direction and the whole connection, each
 * block ended by a sync flush. Ours are always empty (replies carry no headers), so that no deflate
 * state is needed: they are written as stored blocks, which are the same bytes every time. The
 * empty stored block at the end is what makes Go's inflate hand out what came before.
 */

#include "http/spdy.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#define FRAME_HEADER 8
#define BUCKETS 64
#define LENGTH_MAX 0xffffff
#define ID_MASK 0x7fffffff
#define DATA_FRAME_MAX (64 << 10)

enum { FLAG_FIN = 1, FLAG_UNIDIRECTIONAL = 2 };

enum frame_type {
	SYN_STREAM = 1,
	SYN_REPLY = 2,
	RST_STREAM = 3,
	SETTINGS = 4,
	PING = 6,
	GOAWAY = 7,
	HEADERS = 8,
	WINDOW_UPDATE = 9,
};

struct stream {
	struct stream *next;
	uint32_t id;
	void *user;
	bool client_ended, server_ended;
};

enum stage {
	STAGE_FRAME,   /* within a frame's header */
	STAGE_DATA,    /* within a data frame */
	STAGE_CONTROL, /* within a control frame, kept whole */
	STAGE_BROKEN,
};

struct spdy {
	struct spdy_config config;
	enum stage stage;
	uint8_t head[FRAME_HEADER];
	size_t n_head;
	uint32_t left; /* of the frame */
	struct buf control;
	z_stream inflate;
	bool inflating; /* the state exists */
	bool replied;	/* the zlib stream of our blocks has begun */
	bool going_away;
	uint32_t last_id;
	unsigned n_streams;
	struct stream *buckets[BUCKETS];
};

/* SPDY/3, 2.6.10.1: words with their lengths, then the rest. */
static const char dictionary[] =
	"\0\0\0\007options"
	"\0\0\0\004head"
	"\0\0\0\004post"
	"\0\0\0\003put"
	"\0\0\0\006delete"
	"\0\0\0\005trace"
	"\0\0\0\006accept"
	"\0\0\0\016accept-charset"
	"\0\0\0\017accept-encoding"
	"\0\0\0\017accept-language"
	"\0\0\0\015accept-ranges"
	"\0\0\0\003age"
	"\0\0\0\005allow"
	"\0\0\0\015authorization"
	"\0\0\0\015cache-control"
	"\0\0\0\012connection"
	"\0\0\0\014content-base"
	"\0\0\0\020content-encoding"
	"\0\0\0\020content-language"
	"\0\0\0\016content-length"
	"\0\0\0\020content-location"
	"\0\0\0\013content-md5"
	"\0\0\0\015content-range"
	"\0\0\0\014content-type"
	"\0\0\0\004date"
	"\0\0\0\004etag"
	"\0\0\0\006expect"
	"\0\0\0\007expires"
	"\0\0\0\004from"
	"\0\0\0\004host"
	"\0\0\0\010if-match"
	"\0\0\0\021if-modified-since"
	"\0\0\0\015if-none-match"
	"\0\0\0\010if-range"
	"\0\0\0\023if-unmodified-since"
	"\0\0\0\015last-modified"
	"\0\0\0\010location"
	"\0\0\0\014max-forwards"
	"\0\0\0\006pragma"
	"\0\0\0\022proxy-authenticate"
	"\0\0\0\023proxy-authorization"
	"\0\0\0\005range"
	"\0\0\0\007referer"
	"\0\0\0\013retry-after"
	"\0\0\0\006server"
	"\0\0\0\002te"
	"\0\0\0\007trailer"
	"\0\0\0\021transfer-encoding"
	"\0\0\0\007upgrade"
	"\0\0\0\012user-agent"
	"\0\0\0\004vary"
	"\0\0\0\003via"
	"\0\0\0\007warning"
	"\0\0\0\020www-authenticate"
	"\0\0\0\006method"
	"\0\0\0\003get"
	"\0\0\0\006status"
	"\0\0\0\006200 OK"
	"\0\0\0\007version"
	"\0\0\0\010HTTP/1.1"
	"\0\0\0\003url"
	"\0\0\0\006public"
	"\0\0\0\012set-cookie"
	"\0\0\0\012keep-alive"
	"\0\0\0\006origin"
	"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
	"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
	"401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
	"503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
	"Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
	"application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
	"gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static_assert(sizeof(dictionary) - 1 == 1423, "SPDY/3's dictionary");

/* zlib's header with the dictionary's id. */
static const uint8_t zlib_begin[] = { 0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2 };
/* A stored block with the count of headers, 0, and an empty one. */
static const uint8_t no_headers[] = { 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static uint32_t get32(const void *p)
{
	const uint8_t *b = p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static uint32_t get24(const uint8_t *b)
{
	return (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
}

static void put32(uint8_t *b, uint32_t v)
{
	b[0] = (uint8_t)(v >> 24);
	b[1] = (uint8_t)(v >> 16);
	b[2] = (uint8_t)(v >> 8);
	b[3] = (uint8_t)v;
}

static void put_head(struct spdy *s, uint32_t first, uint8_t flags, size_t length)
{
	uint8_t b[FRAME_HEADER];

	assert(length <= LENGTH_MAX);
	put32(b, first);
	put32(b + 4, (uint32_t)flags << 24 | (uint32_t)length);
	buf_append(s->config.out, b, sizeof(b));
}

static void put_control(struct spdy *s, enum frame_type type, const uint32_t *words, size_t n)
{
	uint8_t b[4];

	put_head(s, 0x80030000 | (uint32_t)type, 0, n * 4);
	for (size_t i = 0; i < n; i++) {
		put32(b, words[i]);
		buf_append(s->config.out, b, sizeof(b));
	}
}

static void put_reset(struct spdy *s, uint32_t id, enum spdy_status status)
{
	const uint32_t words[] = { id, (uint32_t)status };

	put_control(s, RST_STREAM, words, 2);
}

static void put_reply(struct spdy *s, uint32_t id)
{
	size_t begin = s->replied ? 0 : sizeof(zlib_begin);
	uint8_t b[4];

	put_head(s, 0x80030000 | SYN_REPLY, 0, sizeof(b) + begin + sizeof(no_headers));
	put32(b, id);
	buf_append(s->config.out, b, sizeof(b));
	buf_append(s->config.out, zlib_begin, begin);
	buf_append(s->config.out, no_headers, sizeof(no_headers));
	s->replied = true;
}

/* --- streams --- */

static struct stream **find_slot(struct spdy *s, uint32_t id)
{
	struct stream **p = &s->buckets[id / 2 % BUCKETS];

	while (*p && (*p)->id != id)
		p = &(*p)->next;
	return p;
}

static void drop(struct spdy *s, uint32_t id)
{
	struct stream **p = find_slot(s, id), *st = *p;

	if (!st)
		return;
	*p = st->next;
	s->n_streams--;
	free(st);
}

static struct stream *add(struct spdy *s, uint32_t id)
{
	struct stream *st = xnew(struct stream);

	st->id = id;
	st->next = s->buckets[id / 2 % BUCKETS];
	s->buckets[id / 2 % BUCKETS] = st;
	s->n_streams++;
	return st;
}

static void client_ends(struct spdy *s, uint32_t id)
{
	struct stream *st = *find_slot(s, id);

	if (!st || st->client_ended)
		return;
	void *user = st->user;
	st->client_ended = true;
	if (st->server_ended)
		drop(s, id);
	s->config.ops->on_end(id, user, s->config.arg);
}

static void client_resets(struct spdy *s, uint32_t id)
{
	struct stream *st = *find_slot(s, id);

	if (!st)
		return;
	void *user = st->user;
	drop(s, id);
	s->config.ops->on_reset(id, user, s->config.arg);
}

/* --- header blocks --- */

static int inflate_begin(struct spdy *s, struct error *err)
{
	if (s->inflating)
		return 0;
	if (inflateInit(&s->inflate) != Z_OK)
		return error_set(err, ERROR_INTERNAL, "cannot begin to inflate headers");
	s->inflating = true;
	return 0;
}

/* Every block has to go through, also of a stream that is refused: the next one builds on it. */
static int unpack(struct spdy *s, const char *p, size_t n, struct buf *out, struct error *err)
{
	z_stream *z = &s->inflate;

	if (inflate_begin(s, err) < 0)
		return -1;
	buf_reserve(out, SPDY_HEADERS_MAX);
	z->next_in = (Bytef *)(uintptr_t)p;
	z->avail_in = (uInt)n;
	z->next_out = (Bytef *)out->data;
	z->avail_out = SPDY_HEADERS_MAX;
	for (;;) {
		int r = inflate(z, Z_SYNC_FLUSH);

		if (r == Z_NEED_DICT)
			r = inflateSetDictionary(z, (const Bytef *)dictionary,
						 sizeof(dictionary) - 1);
		if (r == Z_BUF_ERROR)
			break;
		if (r != Z_OK)
			return error_set(err, ERROR_INVALID_ARGUMENT, "malformed header block");
		if (z->avail_in == 0 || z->avail_out == 0)
			break;
	}
	if (z->avail_out == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "header block of more than %d bytes",
				 SPDY_HEADERS_MAX);
	buf_advance(out, SPDY_HEADERS_MAX - z->avail_out);
	return 0;
}

/* Of the string at *pos; it is ended by a NUL in the place of the length that follows, or of the
 * buffer's end. NULL: there is none. */
static char *take_string(struct buf *b, size_t *pos)
{
	if (b->len - *pos < 4)
		return NULL;
	size_t len = get32(b->data + *pos);
	char *string = b->data + *pos + 4 - 1;

	if (len > b->len - *pos - 4)
		return NULL;
	/* One to the left: its own length is known by now. */
	memmove(string, string + 1, len);
	string[len] = '\0';
	*pos += 4 + len;
	return string;
}

static bool parse_headers(struct buf *b, struct spdy_headers *ret)
{
	size_t pos = 4;

	if (b->len < 4)
		return false;
	size_t n = get32(b->data);
	if (n > SPDY_HEADER_COUNT_MAX)
		return false;
	for (ret->n = 0; ret->n < n; ret->n++) {
		const char *name = take_string(b, &pos);
		const char *value = name ? take_string(b, &pos) : NULL;

		if (!value || !name[0])
			return false;
		ret->v[ret->n] = (struct spdy_header){ name, value };
	}
	return pos == b->len;
}

const char *spdy_header_get(const struct spdy_headers *h, const char *name)
{
	for (size_t i = 0; i < h->n; i++)
		if (strcasecmp(h->v[i].name, name) == 0)
			return h->v[i].value;
	return NULL;
}

/* --- control frames --- */

static int malformed(struct error *err, const char *what)
{
	return error_set(err, ERROR_INVALID_ARGUMENT, "malformed SPDY frame: %s", what);
}

static void open_stream(struct spdy *s, uint32_t id, uint8_t flags, struct buf *block)
{
	struct spdy_headers headers = { 0 };
	enum spdy_status status = SPDY_OK;
	void *user = NULL;

	if (s->n_streams >= s->config.max_streams || s->going_away)
		status = SPDY_REFUSED_STREAM;
	else if (!parse_headers(block, &headers))
		status = SPDY_PROTOCOL_ERROR;
	else
		status = s->config.ops->on_stream(id, &headers, &user, s->config.arg);
	if (status != SPDY_OK) {
		put_reset(s, id, status);
		return;
	}
	struct stream *st = add(s, id);
	st->user = user;
	if (flags & FLAG_UNIDIRECTIONAL)
		st->server_ended = true;
	else
		put_reply(s, id);
	if (flags & FLAG_FIN)
		client_ends(s, id);
}

static int on_syn_stream(struct spdy *s, uint8_t flags, struct error *err)
{
	autobuf struct buf block = BUF_INIT(SPDY_HEADERS_MAX);

	if (s->control.len < 10)
		return malformed(err, "SYN_STREAM is too short");
	uint32_t id = get32(s->control.data) & ID_MASK;
	if (id % 2 == 0 || id <= s->last_id)
		return malformed(err, "stream ids do not ascend");
	s->last_id = id;
	if (unpack(s, s->control.data + 10, s->control.len - 10, &block, err) < 0)
		return -1;
	open_stream(s, id, flags, &block);
	return 0;
}

/* HEADERS, and replies to streams that we never open: what they say is of no use. */
static int on_headers(struct spdy *s, uint8_t flags, struct error *err)
{
	autobuf struct buf block = BUF_INIT(SPDY_HEADERS_MAX);

	if (s->control.len < 4)
		return malformed(err, "HEADERS is too short");
	if (unpack(s, s->control.data + 4, s->control.len - 4, &block, err) < 0)
		return -1;
	if (flags & FLAG_FIN)
		client_ends(s, get32(s->control.data) & ID_MASK);
	return 0;
}

static void on_ping(struct spdy *s, uint32_t id)
{
	/* Even ones would be answers to ours. */
	if (id % 2 == 1)
		put_control(s, PING, &id, 1);
}

static int on_control(struct spdy *s, struct error *err)
{
	uint32_t first = get32(s->head);
	uint8_t flags = s->head[4];
	const char *p = s->control.data;

	switch (first & 0xffff) {
	case SYN_STREAM:
		return on_syn_stream(s, flags, err);
	case SYN_REPLY:
	case HEADERS:
		return on_headers(s, flags, err);
	case RST_STREAM:
		if (s->control.len != 8)
			return malformed(err, "RST_STREAM of a wrong length");
		client_resets(s, get32(p) & ID_MASK);
		return 0;
	case PING:
		if (s->control.len != 4)
			return malformed(err, "PING of a wrong length");
		on_ping(s, get32(p));
		return 0;
	case GOAWAY:
		if (s->control.len != 8)
			return malformed(err, "GOAWAY of a wrong length");
		s->going_away = true;
		return 0;
	default:
		/* SETTINGS, WINDOW_UPDATE: nobody here controls flows. */
		return 0;
	}
}

static int begin_frame(struct spdy *s, struct error *err)
{
	uint32_t first = get32(s->head);

	s->left = get24(s->head + 5);
	if (!(first >> 31)) {
		s->stage = STAGE_DATA;
		return 0;
	}
	if ((first >> 16 & 0x7fff) != 3)
		return error_set(err, ERROR_INVALID_ARGUMENT, "SPDY version %u",
				 first >> 16 & 0x7fff);
	if (s->left > SPDY_HEADERS_MAX)
		return malformed(err, "control frame is too long");
	s->stage = STAGE_CONTROL;
	buf_clear(&s->control);
	return 0;
}

/* --- data frames --- */

/* Data of a stream that is not there: closed ones may have some on its way. */
static void on_stray(struct spdy *s, uint32_t id)
{
	if (id % 2 == 0 || id > s->last_id)
		put_reset(s, id, SPDY_INVALID_STREAM);
}

static void end_data(struct spdy *s)
{
	uint32_t id = get32(s->head);

	if (!*find_slot(s, id))
		on_stray(s, id);
	else if (s->head[4] & FLAG_FIN)
		client_ends(s, id);
}

static void take_data(struct spdy *s, const char *p, size_t n)
{
	uint32_t id = get32(s->head);
	struct stream *st = *find_slot(s, id);

	if (!st || n == 0)
		return;
	if (st->client_ended) {
		put_reset(s, id, SPDY_STREAM_ALREADY_CLOSED);
		client_resets(s, id);
		return;
	}
	s->config.ops->on_data(id, st->user, p, n, s->config.arg);
}

/* --- in and out --- */

/* One step: how many bytes of p it took, -1. Ends of frames take none. */
static ssize_t step(struct spdy *s, const char *p, size_t n, struct error *err)
{
	size_t take = 0;

	if (s->stage == STAGE_FRAME) {
		take = MIN(n, FRAME_HEADER - s->n_head);
		memcpy(s->head + s->n_head, p, take);
		s->n_head += take;
		if (s->n_head == FRAME_HEADER && begin_frame(s, err) < 0)
			return -1;
	} else {
		take = MIN(n, (size_t)s->left);
		if (s->stage == STAGE_DATA)
			take_data(s, p, take);
		else
			buf_append(&s->control, p, take);
		s->left -= (uint32_t)take;
	}
	if (s->stage == STAGE_FRAME || s->left > 0)
		return (ssize_t)take;
	enum stage ended = s->stage;
	s->stage = STAGE_FRAME;
	s->n_head = 0;
	if (ended == STAGE_DATA)
		end_data(s);
	else if (on_control(s, err) < 0)
		return -1;
	return (ssize_t)take;
}

int spdy_feed(struct spdy *s, const void *p, size_t n, struct error *err)
{
	const char *bytes = p;

	if (s->stage == STAGE_BROKEN)
		return malformed(err, "the connection is broken");
	while (n > 0) {
		ssize_t took = step(s, bytes, n, err);

		if (took < 0) {
			s->stage = STAGE_BROKEN;
			spdy_goaway(s, SPDY_PROTOCOL_ERROR);
			return -1;
		}
		bytes += took;
		n -= (size_t)took;
	}
	if (s->stage == STAGE_FRAME)
		buf_done(&s->control);
	return 0;
}

void spdy_send(struct spdy *s, uint32_t id, const void *p, size_t n)
{
	struct stream *st = *find_slot(s, id);
	const char *bytes = p;

	if (!st || st->server_ended)
		return;
	while (n > 0) {
		size_t piece = MIN(n, (size_t)DATA_FRAME_MAX);

		put_head(s, id, 0, piece);
		buf_append(s->config.out, bytes, piece);
		bytes += piece;
		n -= piece;
	}
}

void spdy_end(struct spdy *s, uint32_t id)
{
	struct stream *st = *find_slot(s, id);

	if (!st || st->server_ended)
		return;
	put_head(s, id, FLAG_FIN, 0);
	st->server_ended = true;
	if (st->client_ended)
		drop(s, id);
}

void spdy_reset(struct spdy *s, uint32_t id, enum spdy_status status)
{
	if (!*find_slot(s, id))
		return;
	put_reset(s, id, status);
	drop(s, id);
}

void spdy_goaway(struct spdy *s, enum spdy_status status)
{
	const uint32_t words[] = { s->last_id, (uint32_t)status };

	s->going_away = true;
	put_control(s, GOAWAY, words, 2);
}

unsigned spdy_streams(const struct spdy *s)
{
	return s->n_streams;
}

const void *spdy_dictionary(size_t *ret_len)
{
	*ret_len = sizeof(dictionary) - 1;
	return dictionary;
}

struct spdy *spdy_new(const struct spdy_config *config)
{
	struct spdy *s = xnew(struct spdy);

	assert(config->out && config->ops && config->max_streams > 0);
	s->config = *config;
	s->control = BUF_INIT(SPDY_HEADERS_MAX);
	return s;
}

void spdy_free(struct spdy *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (s->buckets[i])
			drop(s, s->buckets[i]->id);
	if (s->inflating)
		inflateEnd(&s->inflate);
	buf_done(&s->control);
	free(s);
}
