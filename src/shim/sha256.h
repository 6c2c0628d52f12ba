#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of short strings, for the names of sockets: the shim links no crypto library for that. */

#include "base/macros.h"

/* 64 lower-case hex digits and NUL. */
void sha256_hex(const void *p, size_t n, char out[65]);
