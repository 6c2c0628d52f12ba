/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/meter.h"

#include "base/time.h"
#include "oci/worker-proto.h"

#define INTERVAL (100 * NSEC_PER_MSEC)

int meter_report(struct meter *m, int64_t current, bool force, struct error *err)
{
	int64_t now = time_monotonic();

	if (!force && now - m->last < INTERVAL)
		return 0;
	m->last = now;
	struct json *j = json_new_object();
	json_set_string(j, "event", "progress");
	json_set_int(j, "n", m->n);
	json_set_int(j, "current", current);
	json_set_int(j, "total", m->total);
	return worker_send(m->sock, j, NULL, 0, err);
}
