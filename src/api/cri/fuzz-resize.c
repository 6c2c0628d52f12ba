/* SPDX-License-Identifier: Apache-2.0 */
#include "api/cri/streaming-internal.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* However the bytes are cut, the same size comes last. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct resize_parser whole = { 0 }, cut = { 0 };
	unsigned a[2] = { 0 }, b[2] = { 0 };

	resize_feed(&whole, (const char *)data, size, &a[0], &a[1]);
	for (size_t i = 0; i < size; i++)
		resize_feed(&cut, (const char *)data + i, 1, &b[0], &b[1]);
	assert(a[0] == b[0] && a[1] == b[1] && whole.broken == cut.broken);
	assert(a[0] <= UINT16_MAX && a[1] <= UINT16_MAX);
	return 0;
}
