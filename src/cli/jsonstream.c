/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/jsonstream.h"

size_t json_scan(struct json_scanner *s, const char *p, size_t n, bool *ret_complete)
{
	*ret_complete = false;
	for (size_t i = 0; i < n; i++) {
		if (s->in_string) {
			if (s->escaped)
				s->escaped = false;
			else if (p[i] == '\\')
				s->escaped = true;
			else if (p[i] == '"')
				s->in_string = false;
			continue;
		}
		if (p[i] == '"') {
			s->in_string = true;
		} else if (p[i] == '{' || p[i] == '[') {
			s->depth++;
		} else if (p[i] == '}' || p[i] == ']') {
			if (s->depth)
				s->depth--;
			if (!s->depth) {
				*ret_complete = true;
				return i + 1;
			}
		}
	}
	return n;
}
