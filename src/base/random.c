/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"
#include "base/hex.h"

#include <assert.h>
#include <sys/random.h>

void random_bytes(void *p, size_t n)
{
	for (char *out = p; n > 0;) {
		ssize_t got = getrandom(out, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		assert(got > 0);
		out += got;
		n -= (size_t)got;
	}
}

void random_hex(size_t n, char *out)
{
	/* The raw bytes lie in the upper half, which the digits overwrite only after use. */
	random_bytes(out + n, n);
	hex_encode(out + n, n, out);
}

uint64_t random_u64(void)
{
	uint64_t v;

	random_bytes(&v, sizeof(v));
	return v;
}
