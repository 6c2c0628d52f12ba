#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Time: nanoseconds since the epoch (CLOCK_REALTIME) or of CLOCK_MONOTONIC, int64_t. */

#include "base/error.h"

#define NSEC_PER_SEC 1000000000LL
#define NSEC_PER_MSEC 1000000LL

int64_t time_realtime(void);
int64_t time_monotonic(void);

#define TIME_RFC3339_MAX 40
/* "2026-11-23T10:00:00.123456789Z", fraction as Go's RFC3339Nano prints it (trailing zeros cut). */
void time_format_rfc3339(int64_t ns, char out[TIME_RFC3339_MAX]);
/* Fixed nine digits of fraction, as CRI logs have it. */
void time_format_rfc3339_fixed(int64_t ns, char out[TIME_RFC3339_MAX]);
/* -EINVAL; -ERANGE for what int64_t cannot hold, Go's zero time (year 1) for one. */
int time_parse_rfc3339(const char *s, int64_t *ret);
/* Go durations: "1h2m3.5s", "300ms". -EINVAL. */
int time_parse_duration(const char *s, int64_t *ret_ns);
/* Docker's since/until: RFC 3339, unix seconds with fraction, or a Go duration before `now`. */
int time_parse_docker(const char *s, int64_t now, int64_t *ret);
