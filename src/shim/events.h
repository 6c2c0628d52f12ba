#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells the daemon what happens, in order, by containerd.services.events.ttrpc.v1.Events/Forward.
 * One for the process. Never blocks: the connection is made when there is something to say, an
 * event is tried five times with growing pauses, at most 1024 wait; the oldest go first. So a
 * daemon that was away for long reconciles by State, not by events. Loop thread only.
 */

#include "loop/loop.h"

#include <protobuf-c/protobuf-c.h>

/* address: a unix socket path, with or without "unix://"; NULL or "": nobody listens. */
void events_start(struct loop *l, const char *ns, const char *address);
void events_stop(void);
/* Packed before it returns. */
void event_publish(const char *topic, const ProtobufCMessage *event);
bool events_pending(void);
