/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/decompress.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct decompress_limits limits = { .max_bytes = 4 << 20, .all_formats = true };
	CLEANUP(decompress_freep) struct decompress *d = decompress_new(&limits);
	autoerror struct error err = ERROR_INIT;
	size_t step = size > 0 && data[0] ? data[0] : SIZE_MAX, at = 1;
	uint8_t out[4096];
	size_t got = 1;

	if (size == 0)
		return 0;
	while (at < size || got > 0) {
		const uint8_t *p = data + at;
		size_t n = MIN(step, size - at), before = n;
		bool eof = at == size;
		if (decompress_run(d, &p, &n, eof, out, sizeof(out), &got, &err) < 0)
			return 0;
		assert(n <= before && got <= sizeof(out));
		/* Something moves, or it is the end. */
		assert(n < before || got > 0 || eof);
		at += before - n;
	}
	return 0;
}
