#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events as Docker's API has them. Any thread may emit; never blocks. The last 256 are kept for
 * `since`. Subscribers are called on the loop.
 */

#include "base/map.h"
#include "engine/engine.h"

struct engine_event {
	const char *ns;
	const char *type;   /* "container", "image", "volume", "network", "daemon" */
	const char *action; /* "create", "start", "die", "pull" ... */
	const char *id;	    /* actor */
	struct kvs attributes;
	int64_t time; /* ns; 0 when emitting: now */
};

void engine_emit(struct engine *e, const struct engine_event *event);

struct event_subscription;
/* Loop thread. First the kept events not before `since` (0: none), in this call, then live ones. */
struct event_subscription *engine_subscribe(struct engine *e, int64_t since,
					    void (*fn)(const struct engine_event *event, void *arg),
					    void *arg);
void engine_unsubscribe(struct event_subscription *s);
