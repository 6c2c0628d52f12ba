/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte chooses how the rest is cut into reads; the frames must be the same as uncut. */
#include "rpc/protobuf.h"
#include "rpc/ttrpc-frame.h"
#include "ttrpc.pb-c.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3ULL;
	return h;
}

static uint64_t run(const uint8_t *data, size_t size, size_t step)
{
	struct ttrpc_parser p;
	struct ttrpc_frame f;
	uint64_t h = 0xcbf29ce484222325ULL;

	ttrpc_parser_init(&p);
	while (size > 0) {
		size_t n = MIN(MIN(step, size), TTRPC_READ_CHUNK);

		memcpy(ttrpc_parser_reserve(&p), data, n);
		ttrpc_parser_commit(&p, n);
		data += n;
		size -= n;
		while (ttrpc_parser_next(&p, &f)) {
			h = mix(h, &f.stream, sizeof(f.stream));
			h = mix(h, &f.type, 1);
			h = mix(h, &f.len, sizeof(f.len));
			if (f.too_large)
				continue;
			h = mix(h, f.payload, f.len);

			autoarena struct arena a = ARENA_INIT;
			ProtobufCMessage *m;
			protobuf_unpack(&a, &ttrpc__request__descriptor, f.payload, f.len, &m,
					NULL);
		}
	}
	ttrpc_parser_done(&p);
	return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	uint64_t whole = run(data + 1, size - 1, SIZE_MAX);
	uint64_t cut = run(data + 1, size - 1, (size_t)data[0] + 1);
	assert(whole == cut);
	(void)whole;
	(void)cut;
	return 0;
}
