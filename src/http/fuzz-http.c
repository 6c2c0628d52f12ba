/* SPDX-License-Identifier: Apache-2.0 */
#include "http/parse.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_body(const struct http_head *h, const char *p, size_t n)
{
	struct http_body body;

	http_body_init(&body, h);
	while (n > 0 && body.state != HTTP_BODY_END) {
		const char *piece;
		size_t len;
		ssize_t used = http_body_feed(&body, p, n, &piece, &len);

		if (used < 0)
			return;
		assert(used > 0 && (size_t)used <= n);
		assert(piece >= p && piece + len <= p + used);
		p += used;
		n -= (size_t)used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t scan = 0, half = size / 2;
	const char *text = (const char *)data;
	size_t early = http_head_end(text, half, &scan);
	size_t end = http_head_end(text, size, &scan);
	size_t fresh = 0;

	assert(early ? early <= half : end == http_head_end(text, size, &fresh));
	if (end == 0 || early || end > HTTP_HEAD_MAX)
		return 0;
	autofree char *copy = xmemdup(text, end);
	struct http_head head;
	const char *reason;

	if (http_head_parse(copy, end, &head, &reason) != 0) {
		assert(reason);
		return 0;
	}
	autofree char *target = xstrdup(head.target);
	http_percent_decode(target, true);
	fuzz_body(&head, text + end, size - end);
	return 0;
}
