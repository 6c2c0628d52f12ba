#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and durations as Docker's go-units prints them. Results are malloc'ed. Any thread. */

#include "base/macros.h"

/* "1.23MB": decimal units, so many significant digits. */
char *human_size(double bytes, int precision);
/* "1.234MiB" */
char *human_bytes(double bytes);
/* "2 minutes", "About an hour", "3 weeks" */
char *human_duration(int64_t seconds);
