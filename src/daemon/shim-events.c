/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine learns of exits from its shims' Wait calls, and from here that a container ran out of
 * memory and went on. All that they publish goes to the subscribers of containerd's API.
 */
#include "daemon/services.h"

#include "api/containerd/containerd.h"
#include "base/log.h"
#include "engine/engine.h"
#include "rpc/protobuf.h"

#include "containerd.events.pb-c.h"
#include "containerd.services.events.ttrpc.v1.pb-c.h"

#include <string.h>

static void note_oom(struct engine *e, const Containerd__Types__Envelope *envelope,
		     struct arena *arena)
{
	ProtobufCMessage *m = NULL;

	if (!envelope->event ||
	    protobuf_unpack(arena, &containerd__events__task_oom__descriptor,
			    envelope->event->value.data, envelope->event->value.len, &m, NULL) < 0)
		return;
	engine_note_oom(e, envelope->namespace_,
			((const Containerd__Events__TaskOOM *)m)->container_id);
}

static void forward(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg)
{
	const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *request =
		(const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *)m;
	Google__Protobuf__Empty reply = GOOGLE__PROTOBUF__EMPTY__INIT;
	const struct shim_events *to = arg;

	if (request->envelope) {
		log_debug("shim event '%s' in namespace '%s'", request->envelope->topic,
			  request->envelope->namespace_);
		if (strcmp(request->envelope->topic, "/tasks/oom") == 0)
			note_oom(to->engine, request->envelope, ttrpc_call_arena(call));
		containerd_api_event(to->containerd, request->envelope);
	}
	ttrpc_call_reply(call, &reply.base);
}

void shim_events_service(const struct shim_events *to, struct ttrpc_service *ret)
{
	static const ttrpc_handler handlers[] = { forward };

	*ret = (struct ttrpc_service){
		.descriptor = &containerd__services__events__ttrpc__v1__events__descriptor,
		.handlers = handlers,
		.arg = (void *)(uintptr_t)to,
	};
}
