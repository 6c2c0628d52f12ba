/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/ttrpc-frame.h"

#include <assert.h>
#include <string.h>

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

void ttrpc_parser_init(struct ttrpc_parser *p)
{
	*p = (struct ttrpc_parser){
		.in = BUF_INIT(TTRPC_HEADER_SIZE + TTRPC_PAYLOAD_MAX + TTRPC_READ_CHUNK),
	};
}

void ttrpc_parser_done(struct ttrpc_parser *p)
{
	buf_done(&p->in);
	ttrpc_parser_init(p);
}

static void drop_taken(struct ttrpc_parser *p)
{
	if (p->taken == 0)
		return;
	buf_consume(&p->in, p->taken);
	p->taken = 0;
	if (p->in.len == 0)
		buf_done(&p->in);
}

void *ttrpc_parser_reserve(struct ttrpc_parser *p)
{
	drop_taken(p);
	/* Cannot overflow: a whole frame never stays in the buffer, so what does is shorter. */
	int r = buf_reserve(&p->in, TTRPC_READ_CHUNK);
	assert(r == 0);
	(void)r;
	return p->in.data + p->in.len;
}

void ttrpc_parser_commit(struct ttrpc_parser *p, size_t n)
{
	assert(n <= TTRPC_READ_CHUNK);
	buf_advance(&p->in, n);
	if (p->in.len == 0)
		buf_done(&p->in);
}

bool ttrpc_parser_next(struct ttrpc_parser *p, struct ttrpc_frame *ret)
{
	drop_taken(p);
	if (p->skip > 0) {
		p->taken = (size_t)MIN(p->skip, (uint64_t)p->in.len);
		p->skip -= p->taken;
		drop_taken(p);
	}
	if (p->in.len < TTRPC_HEADER_SIZE)
		return false;

	const uint8_t *h = (const uint8_t *)p->in.data;
	size_t len = get32(h);
	*ret = (struct ttrpc_frame){
		.stream = get32(h + 4),
		.type = h[8],
		.flags = h[9],
		.len = len,
		.too_large = len > TTRPC_PAYLOAD_MAX,
	};
	if (ret->too_large) {
		p->taken = TTRPC_HEADER_SIZE;
		p->skip = len;
		return true;
	}
	if (p->in.len - TTRPC_HEADER_SIZE < len)
		return false;
	ret->payload = h + TTRPC_HEADER_SIZE;
	p->taken = TTRPC_HEADER_SIZE + len;
	return true;
}

void ttrpc_header_write(uint8_t out[TTRPC_HEADER_SIZE], const struct ttrpc_frame *frame)
{
	assert(frame->len <= TTRPC_PAYLOAD_MAX);
	put32(out, (uint32_t)frame->len);
	put32(out + 4, frame->stream);
	out[8] = frame->type;
	out[9] = frame->flags;
}
