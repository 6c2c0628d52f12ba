/* SPDX-License-Identifier: Apache-2.0 */
/* The table of RuntimeService, the calls about the runtime itself, and the API's life. */
#include "api/cri/internal.h"

#include "base/mem.h"

#define KUBELET_API_VERSION "0.1.0" /* what the kubelet asks for, whatever the API's version */

struct cri_api *cri_of(const struct grpc_call *c)
{
	return grpc_call_arg(c);
}

static int version(struct grpc_call *c UNUSED, const ProtobufCMessage *m UNUSED,
		   ProtobufCMessage *r, struct error *err UNUSED)
{
	Runtime__V1__VersionResponse *reply = (Runtime__V1__VersionResponse *)r;

	reply->version = (char *)(uintptr_t)KUBELET_API_VERSION;
	reply->runtime_name = (char *)(uintptr_t) "kistl";
	reply->runtime_version = (char *)(uintptr_t)KISTL_VERSION;
	reply->runtime_api_version = (char *)(uintptr_t) "v1";
	return 0;
}

/* Carries the node's address range only, which the network's configuration has of its own. */
static int update_runtime_config(struct grpc_call *c UNUSED, const ProtobufCMessage *m UNUSED,
				 ProtobufCMessage *r UNUSED, struct error *err UNUSED)
{
	return 0;
}

static int runtime_config(struct grpc_call *c, const ProtobufCMessage *m UNUSED,
			  ProtobufCMessage *r, struct error *err UNUSED)
{
	Runtime__V1__RuntimeConfigResponse *reply = (Runtime__V1__RuntimeConfigResponse *)r;

	reply->linux = CRI_NEW(grpc_call_arena(c), linux_runtime_configuration);
	reply->linux->cgroup_driver = cri_of(c)->config.systemd_cgroup
					      ? RUNTIME__V1__CGROUP_DRIVER__SYSTEMD
					      : RUNTIME__V1__CGROUP_DRIVER__CGROUPFS;
	return 0;
}

static int unimplemented(struct grpc_call *c UNUSED, const ProtobufCMessage *m,
			 ProtobufCMessage *r UNUSED, struct error *err)
{
	return error_set(err, ERROR_UNIMPLEMENTED, "'%s' is not implemented",
			 m->descriptor->short_name);
}

const struct grpc_method cri_runtime_methods[] = {
	{ "Version", .unary = version, .pool = JOB_OPS },
	{ "Status", .unary = cri_status, .pool = JOB_OPS },
	{ "RuntimeConfig", .unary = runtime_config, .pool = JOB_OPS },
	{ "UpdateRuntimeConfig", .unary = update_runtime_config, .pool = JOB_OPS },
	{ "CheckpointPod", .unary = unimplemented, .pool = JOB_OPS },
	{ "RestorePod", .unary = unimplemented, .pool = JOB_OPS },
	{ NULL },
};

struct cri_api *cri_api_new(const struct cri_config *config, struct error *err UNUSED)
{
	struct cri_api *a = xnew(struct cri_api);

	a->config = *config;
	a->engine = config->engine;
	a->images = engine_images(config->engine);
	a->store = engine_store(config->engine);
	a->runtime_service = (struct grpc_service){
		.descriptor = &runtime__v1__runtime_service__descriptor,
		.methods = cri_runtime_methods,
		.arg = a,
	};
	a->image_service = (struct grpc_service){
		.descriptor = &runtime__v1__image_service__descriptor,
		.methods = cri_image_methods,
		.arg = a,
	};
	return a;
}

void cri_api_add(struct cri_api *a, struct grpc_server *server)
{
	grpc_server_add(server, &a->runtime_service);
	grpc_server_add(server, &a->image_service);
}

void cri_api_free(struct cri_api *a)
{
	if (!a)
		return;
	json_unref(a->config.shown);
	free(a);
}
