/* SPDX-License-Identifier: Apache-2.0 */
/* CheckpointContainer. Checkpoints of whole pods are not made. */
#include "api/cri/decode.h"
#include "api/cri/encode.h"

#include "base/mem.h"
#include "engine/checkpoint.h"

static int checkpoint_container(struct grpc_call *c, const ProtobufCMessage *m,
				ProtobufCMessage *r UNUSED, struct error *err)
{
	const Runtime__V1__CheckpointContainerRequest *request =
		(const Runtime__V1__CheckpointContainerRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	struct cri_api *api = cri_of(c);

	if (cri_running(api, request->container_id, &b, err) < 0)
		return -1;
	if (request->location[0] != '/')
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "location: '%s' is not an absolute path", request->location);
	if (request->timeout < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "timeout: %lld is negative",
				 (long long)request->timeout);
	const struct json *extension = b.v[0].shared->extension;
	const struct checkpoint_options o = {
		.location = request->location,
		.timeout = request->timeout,
		.name = json_get_string(extension, CRI_EXT_NAME),
		.image_name = json_get_string(extension, CRI_EXT_IMAGE_NAME),
		.image_ref = json_get_string(extension, CRI_EXT_IMAGE_REF),
	};
	return engine_checkpoint(api->engine, CRI_NAMESPACE, b.v[0].shared->id, &o, err);
}

static int unimplemented(struct grpc_call *c UNUSED, const ProtobufCMessage *m,
			 ProtobufCMessage *r UNUSED, struct error *err)
{
	return error_set(err, ERROR_UNIMPLEMENTED, "'%s' is not implemented",
			 m->descriptor->short_name);
}

const struct grpc_method cri_checkpoint_methods[] = {
	{ "CheckpointContainer", .unary = checkpoint_container, .pool = JOB_TRANSFER },
	{ "CheckpointPod", .unary = unimplemented, .pool = JOB_QUICK },
	{ "RestorePod", .unary = unimplemented, .pool = JOB_QUICK },
	{ NULL },
};
