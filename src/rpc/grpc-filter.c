/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/grpc-filter.h"

#include <assert.h>
#include <string.h>

#define PREFACE_SIZE 24
#define HEADERS 1
#define RST_STREAM 3

static void begin_frame(struct grpc_filter *f, const uint8_t *head)
{
	uint32_t stream = (uint32_t)(head[5] & 0x7f) << 24 | (uint32_t)head[6] << 16 |
			  (uint32_t)head[7] << 8 | head[8];

	f->left = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
	if (head[3] == HEADERS && stream > f->last)
		f->last = stream;
	f->drop = head[3] == RST_STREAM && f->left == 4 && stream % 2 == 1 && stream > f->last;
}

size_t grpc_filter_run(struct grpc_filter *f, uint8_t *p, size_t n)
{
	size_t in = 0, out = 0;

	n += f->n_held;
	f->n_held = 0;
	while (in < n) {
		bool drop = false;
		size_t take;

		if (f->preface < PREFACE_SIZE) {
			take = MIN(n - in, (size_t)(PREFACE_SIZE - f->preface));
			f->preface += (unsigned)take;
		} else if (f->left > 0) {
			take = MIN(n - in, (size_t)f->left);
			f->left -= (uint32_t)take;
			drop = f->drop;
		} else if (n - in < GRPC_FILTER_HEAD) {
			f->n_held = n - in;
			memcpy(f->held, p + in, f->n_held);
			break;
		} else {
			take = GRPC_FILTER_HEAD;
			begin_frame(f, p + in);
			drop = f->drop;
		}
		if (!drop && in != out)
			memmove(p + out, p + in, take);
		out += drop ? 0 : take;
		in += take;
	}
	return out;
}
