#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Identifiers and randomness (getrandom). Cannot fail. */

#include "base/macros.h"

void random_bytes(void *p, size_t n);
/* n bytes as 2n lower-case hex digits and NUL. */
void random_hex(size_t n, char *out);
uint64_t random_u64(void);
