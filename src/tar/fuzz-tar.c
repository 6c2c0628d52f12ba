/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte chooses the size of the steps in which the rest is fed. */
#include "base/mem.h"
#include "tar/tar.h"
#include "tar/testing-tar.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	if (size == 0)
		return 0;
	autofree uint8_t *data = xmemdup(input, size);
	tar_fix_checksums(data + 1, size - 1);

	CLEANUP(tar_freep) struct tar *t = tar_new();
	autoerror struct error err = ERROR_INIT;
	size_t step = data[0] ? data[0] : SIZE_MAX;
	bool in_entry = false;

	for (size_t at = 1; at < size;) {
		const uint8_t *p = data + at;
		size_t n = MIN(step, size - at), before = n;
		struct tar_data d = { 0 };
		int r = tar_next(t, &p, &n, &d, &err);
		at += before - n;
		if (r < 0 || r == TAR_END)
			return 0;
		if (r == TAR_ENTRY) {
			const struct tar_entry *e = tar_entry(t);
			assert(!in_entry && strlen(e->path) <= TAR_PATH_MAX && e->size >= 0);
			in_entry = true;
		}
		if (r == TAR_DATA)
			assert(in_entry && d.offset >= 0 && d.n > 0 &&
			       d.offset + (int64_t)d.n <= tar_entry(t)->size);
		if (r == TAR_ENTRY_END) {
			assert(in_entry);
			in_entry = false;
		}
	}
	tar_finish(t, &err);
	return 0;
}
