#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* {"event":"progress"} at most every 100 ms for one thing. One thread at a time. */

#include "base/error.h"

struct meter {
	int sock;
	int64_t n; /* the protocol's number of the thing */
	int64_t total;
	int64_t last; /* monotonic time of the last report */
};

/* force: now, whenever the last one was. UNAVAILABLE when the peer is gone. */
int meter_report(struct meter *m, int64_t current, bool force, struct error *err);
