#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers and sizes from text: whole string or -EINVAL, -ERANGE. Never locale-dependent. */

#include "base/macros.h"

int parse_int64(const char *s, int64_t *ret);
int parse_uint64(const char *s, uint64_t *ret);
int parse_double(const char *s, double *ret);
/* strconv.ParseBool: 1 t T TRUE true True 0 f F FALSE false False. */
int parse_bool(const char *s, bool *ret);
/* go-units RAMInBytes: "512", "10m", "1.5GiB", binary units, "b" suffix optional. */
int parse_size(const char *s, int64_t *ret);
