#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd's events: envelopes of a time, namespace, topic and a message, for whoever subscribes
 * at the time. Publishing never blocks and may be done on any thread; a subscriber that does not
 * read is dropped when too much waits for it.
 */

#include "base/arena.h"
#include "loop/loop.h"

#include <protobuf-c/protobuf-c.h>

#include "containerd.types.pb-c.h"

struct exchange;
struct exchange_subscription;

struct exchange *exchange_new(struct loop *l);
/* Loop thread, no subscription left. */
void exchange_free(struct exchange *x);
/* Now. The event's type URL is its message's name. */
void exchange_publish(struct exchange *x, const char *ns, const char *topic,
		      const ProtobufCMessage *event);
/* The same for what has happened while no daemon ran: those who subscribe in the first minute are
 * told too, since they come back at their own pace. */
void exchange_publish_missed(struct exchange *x, const char *ns, const char *topic,
			     const ProtobufCMessage *event);
/* As it is. */
void exchange_forward(struct exchange *x, const Containerd__Types__Envelope *e);
/* Loop thread: fn on the loop for each event from now on, until exchange_unsubscribe(). */
struct exchange_subscription *exchange_subscribe(
	struct exchange *x, void (*fn)(const Containerd__Types__Envelope *e, void *arg), void *arg);
void exchange_unsubscribe(struct exchange_subscription *s);
