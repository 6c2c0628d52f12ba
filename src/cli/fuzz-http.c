/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/http.h"
#include "cli/jsonstream.h"
#include "cli/stream.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demux(const char *p, size_t len)
{
	struct demux d = { 0 };

	while (len) {
		enum stream_type type;
		const char *piece;
		size_t used, n;

		if (demux_feed(&d, p, len, &used, &type, &piece, &n, NULL) < 0)
			return;
		assert(used && used <= len && n <= used);
		p += used;
		len -= used;
	}
}

/* The first byte says how large the pieces are. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_parser p;
	struct json_scanner s = { 0 };
	size_t step = size ? data[0] % 64 + 1 : 1;

	http_parser_init(&p);
	for (size_t at = 1; at < size;) {
		size_t n = MIN(step, size - at), used, body_len;
		const char *body;
		bool complete;
		int ev = http_parser_feed(&p, (const char *)data + at, n, &used, &body, &body_len,
					  NULL);

		if (ev < 0)
			break;
		assert(used <= n);
		assert(used || ev == HTTP_END || ev == HTTP_HEAD);
		if (ev == HTTP_BODY)
			json_scan(&s, body, body_len, &complete);
		if (ev == HTTP_END)
			http_parser_reset(&p, false);
		at += used;
	}
	http_parser_eof(&p, NULL);
	http_parser_done(&p);
	if (size)
		demux((const char *)data + 1, size - 1);
	return 0;
}
