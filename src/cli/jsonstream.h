#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the end of each document in a stream of concatenated JSON objects. Sans-IO. */

#include "base/macros.h"

struct json_scanner {
	unsigned depth;
	bool in_string;
	bool escaped;
};

/* Returns how many of the bytes belong to the current object; *ret_complete says that it ends with
 * them. Bytes between objects count as belonging to the next. */
size_t json_scan(struct json_scanner *s, const char *p, size_t n, bool *ret_complete);
