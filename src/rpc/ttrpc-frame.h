#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ttrpc's framing, sans-IO: bytes in, frames out. A frame is ten bytes of header (payload length
 * and stream id, both big-endian 32 bits, type, flags) and at most 4 MiB of payload. A longer frame
 * is reported without its payload as soon as its header is there, and the payload is skipped as it
 * comes, so that a connection can answer RESOURCE_EXHAUSTED and go on.
 *
 * The parser allocates as bytes arrive, never by what a header claims, and keeps no memory while
 * it holds no bytes. One thread at a time.
 */

#include "base/buf.h"

#define TTRPC_HEADER_SIZE 10
#define TTRPC_PAYLOAD_MAX ((size_t)4 << 20)
#define TTRPC_READ_CHUNK ((size_t)16 << 10)

enum ttrpc_frame_type {
	TTRPC_REQUEST = 1,
	TTRPC_RESPONSE = 2,
	TTRPC_DATA = 3,
};

enum {
	TTRPC_REMOTE_CLOSED = 1 << 0,
	TTRPC_REMOTE_OPEN = 1 << 1,
	TTRPC_NO_DATA = 1 << 2,
};

struct ttrpc_frame {
	uint32_t stream;
	uint8_t type;
	uint8_t flags;
	bool too_large;		/* payload is NULL, len what the header says */
	const uint8_t *payload; /* valid until the parser is touched again */
	size_t len;
};

struct ttrpc_parser {
	struct buf in;
	size_t taken; /* bytes of the last frame, dropped at the next call */
	uint64_t skip;
};

void ttrpc_parser_init(struct ttrpc_parser *p);
void ttrpc_parser_done(struct ttrpc_parser *p);
/* Where the next bytes go, TTRPC_READ_CHUNK of them; then commit those that came. After each commit
 * ttrpc_parser_next() must be called until it returns false. */
void *ttrpc_parser_reserve(struct ttrpc_parser *p);
void ttrpc_parser_commit(struct ttrpc_parser *p, size_t n);
bool ttrpc_parser_next(struct ttrpc_parser *p, struct ttrpc_frame *ret);

void ttrpc_header_write(uint8_t out[TTRPC_HEADER_SIZE], const struct ttrpc_frame *frame);
