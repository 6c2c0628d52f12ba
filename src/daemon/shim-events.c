/* SPDX-License-Identifier: Apache-2.0 */
/* The engine learns of exits from its shims' Wait calls; what they publish is for people to see. */
#include "daemon/services.h"

#include "base/log.h"

#include "containerd.services.events.ttrpc.v1.pb-c.h"

static void forward(struct ttrpc_call *call, const ProtobufCMessage *m, void *arg)
{
	const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *request =
		(const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *)m;
	Google__Protobuf__Empty reply = GOOGLE__PROTOBUF__EMPTY__INIT;

	if (request->envelope)
		log_debug("shim event '%s' in namespace '%s'", request->envelope->topic,
			  request->envelope->namespace_);
	ttrpc_call_reply(call, &reply.base);
}

const struct ttrpc_service *services_shim_events(void)
{
	static const ttrpc_handler handlers[] = { forward };
	static const struct ttrpc_service service = {
		.descriptor = &containerd__services__events__ttrpc__v1__events__descriptor,
		.handlers = handlers,
	};

	return &service;
}
