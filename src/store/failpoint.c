/* SPDX-License-Identifier: Apache-2.0 */

#include "store/failpoint.h"

#include "base/map.h"
#include "base/mem.h"
#include "base/strv.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { FAILPOINT_EXIT_STATUS = 99 };

static atomic_bool enabled;
static struct kvs points;
static pthread_mutex_t points_lock = PTHREAD_MUTEX_INITIALIZER;

void failpoint_setup(void)
{
	const char *env = getenv("KISTL_FAILPOINT");
	autostrv struct strv parts = STRV_INIT;

	pthread_mutex_lock(&points_lock);
	kvs_done(&points);
	points = KVS_INIT;
	if (!str_empty(env))
		strv_split(&parts, env, ",");
	for (size_t i = 0; i < parts.n; i++) {
		char *eq = strchr(parts.v[i], '=');

		if (!eq)
			continue;
		*eq = 0;
		kvs_set(&points, parts.v[i], eq + 1);
	}
	atomic_store(&enabled, points.n > 0);
	pthread_mutex_unlock(&points_lock);
}

int failpoint(const char *name, struct error *err)
{
	const char *action;
	int r = 0;

	if (!atomic_load_explicit(&enabled, memory_order_relaxed))
		return 0;
	pthread_mutex_lock(&points_lock);
	action = kvs_get(&points, name);
	if (str_equal(action, "exit"))
		_exit(FAILPOINT_EXIT_STATUS);
	if (str_equal(action, "enospc"))
		r = error_errno(err, ENOSPC, "failpoint '%s'", name);
	else if (str_equal(action, "eio"))
		r = error_errno(err, EIO, "failpoint '%s'", name);
	pthread_mutex_unlock(&points_lock);
	return r;
}
