/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/detach.h"

#include <string.h>

bool detach_feed(struct detach_matcher *m, const uint8_t *p, size_t n, struct buf *out)
{
	if (m->n_keys == 0) {
		buf_append(out, p, n);
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		/* On a mismatch the longest tail of what was held that still begins the sequence
		 * stays; the rest is passed on. */
		while (m->matched > 0 && p[i] != m->keys[m->matched]) {
			size_t keep = m->matched - 1;

			while (keep > 0 && memcmp(m->keys, m->keys + m->matched - keep, keep) != 0)
				keep--;
			buf_append(out, m->keys, m->matched - keep);
			m->matched = keep;
		}
		if (p[i] != m->keys[m->matched]) {
			buf_putc(out, (char)p[i]);
			continue;
		}
		if (++m->matched == m->n_keys)
			return true;
	}
	return false;
}
