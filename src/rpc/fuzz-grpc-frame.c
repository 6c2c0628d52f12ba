/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "rpc/grpc-filter.h"
#include "rpc/grpc-frame.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Messages that come out when the bytes come in pieces of `step`. */
static size_t deframe(const uint8_t *data, size_t size, size_t step, struct buf *out)
{
	struct grpc_deframer d;
	size_t messages = 0;

	grpc_deframer_init(&d);
	for (size_t pos = 0; pos < size; pos += step) {
		const uint8_t *p = data + pos;
		size_t n = MIN(step, size - pos);
		enum grpc_frame_result r;

		while ((r = grpc_deframer_feed(&d, &p, &n, NULL)) == GRPC_FRAME_MESSAGE) {
			assert(grpc_deframer_is_empty(&d));
			assert(grpc_frame(out, d.message.data, d.message.len) == 0);
			buf_clear(&d.message);
			messages++;
		}
		if (r == GRPC_FRAME_ERROR)
			break;
		assert(n == 0);
	}
	grpc_deframer_done(&d);
	return messages;
}

/* What passes when the bytes come in pieces of `step`. */
static void filter(const uint8_t *data, size_t size, size_t step, struct buf *out)
{
	struct grpc_filter f = { .preface = 24 };
	uint8_t bytes[GRPC_FILTER_HEAD + 4096];

	for (size_t pos = 0; pos < size; pos += step) {
		size_t n = MIN(step, size - pos), held = f.n_held;

		assert(held < GRPC_FILTER_HEAD);
		memcpy(bytes, f.held, held);
		memcpy(bytes + held, data + pos, n);
		size_t len = grpc_filter_run(&f, bytes, n);
		assert(len + f.n_held <= held + n);
		buf_append(out, bytes, len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autobuf struct buf passed = BUF_INIT(BUF_NO_LIMIT);
	autobuf struct buf passed_pieces = BUF_INIT(BUF_NO_LIMIT);
	autobuf struct buf whole = BUF_INIT(BUF_NO_LIMIT);
	autobuf struct buf pieces = BUF_INIT(BUF_NO_LIMIT);
	autobuf struct buf encoded = BUF_INIT(BUF_NO_LIMIT);
	autofree char *text = xstrndup((const char *)data, size);
	int64_t ns;

	if (size > 4096)
		return 0;
	assert(deframe(data, size, size + 1, &whole) == deframe(data, size, 3, &pieces));
	filter(data, size, size + 1, &passed);
	filter(data, size, 1, &passed_pieces);
	assert(passed.len == passed_pieces.len);
	assert(memcmp(passed.data, passed_pieces.data, passed.len) == 0);
	/* What came out is what went in. */
	assert(whole.len == pieces.len && whole.len <= size);
	assert(memcmp(whole.data, data, whole.len) == 0);
	if (grpc_timeout_parse(text, &ns) == 0)
		assert(ns >= 0);
	grpc_status_message_encode(text, &encoded);
	assert(!strpbrk(encoded.data, "\x01\n\r\x1f\x7f\xff"));
	return 0;
}
