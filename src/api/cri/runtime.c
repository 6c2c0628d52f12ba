/* SPDX-License-Identifier: Apache-2.0 */
/* The table of RuntimeService, the calls about the runtime itself, and the API's life. */
#include "api/cri/internal.h"

#include "api/cri/sample.h"
#include "base/mem.h"
#include "rpc/retry.h"

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
	reply->linux->cgroup_driver = cri_of(c)->features.systemd_cgroup
					      ? RUNTIME__V1__CGROUP_DRIVER__SYSTEMD
					      : RUNTIME__V1__CGROUP_DRIVER__CGROUPFS;
	return 0;
}

static const struct grpc_method own_methods[] = {
	{ "Version", .unary = version, .pool = JOB_QUICK },
	{ "Status", .unary = cri_status, .pool = JOB_QUICK },
	{ "RuntimeConfig", .unary = runtime_config, .pool = JOB_QUICK },
	{ "UpdateRuntimeConfig", .unary = update_runtime_config, .pool = JOB_QUICK },
	{ NULL },
};

static const struct grpc_method *const all_methods[] = {
	own_methods,	   cri_sandbox_methods, cri_container_methods, cri_exec_methods,
	cri_event_methods, cri_stats_methods,	cri_metric_methods,    cri_checkpoint_methods,
};

static struct grpc_method *join_methods(void)
{
	struct grpc_method *out = NULL;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(all_methods); i++) {
		for (const struct grpc_method *m = all_methods[i]; m->name; m++) {
			GROW_ARRAY(out, n);
			out[n++] = *m;
		}
	}
	GROW_ARRAY(out, n);
	out[n] = (struct grpc_method){ 0 };
	return out;
}

struct cri_api *cri_api_new(const struct cri_config *config)
{
	struct cri_api *a = xnew(struct cri_api);

	a->config = *config;
	list_init(&a->pulls);
	a->engine = config->engine;
	a->images = engine_images(config->engine);
	a->store = engine_store(config->engine);
	engine_features(a->engine, &a->features);
	a->sandboxes =
		retry_new(config->loop, config->jobs, &cri_sandbox_creations, a, RETRY_LIFETIME_MS);
	a->containers = retry_new(config->loop, config->jobs, &cri_container_creations, a,
				  RETRY_LIFETIME_MS);
	a->events = cri_events_new(a);
	a->samples = samples_new(a);
	a->packed_sandboxes = packed_cache_new(&cri_packed_sandboxes, a);
	a->packed_containers = packed_cache_new(&cri_packed_containers, a);
	a->runtime_methods = join_methods();
	a->runtime_service = (struct grpc_service){
		.descriptor = &runtime__v1__runtime_service__descriptor,
		.methods = a->runtime_methods,
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
	cri_events_start(a->events);
	grpc_server_add(server, &a->runtime_service);
	grpc_server_add(server, &a->image_service);
}

void cri_api_free(struct cri_api *a)
{
	if (!a)
		return;
	cri_pulls_free(a);
	cri_events_free(a->events);
	packed_cache_free(a->packed_sandboxes);
	packed_cache_free(a->packed_containers);
	samples_free(a->samples);
	retry_free(a->sandboxes);
	retry_free(a->containers);
	json_unref(a->config.shown);
	free(a->runtime_methods);
	free(a);
}
