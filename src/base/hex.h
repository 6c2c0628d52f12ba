#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Hexadecimal and base64 (standard and URL alphabets). */

#include "base/buf.h"

/* out holds 2n + 1 bytes. */
void hex_encode(const void *p, size_t n, char *out);
/* -EINVAL unless s is exactly 2n hex digits. */
int hex_decode(const char *s, void *out, size_t n);
int base64_encode(const void *p, size_t n, struct buf *out);
int base64url_encode(const void *p, size_t n, struct buf *out);
/* Accepts both alphabets, with or without padding. -EINVAL. */
int base64_decode(const char *s, size_t n, struct buf *out);
