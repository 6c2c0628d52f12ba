/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Status: from memory, since the kubelet asks every five seconds and calls the node dead when the
 * answer takes long.
 */
#include "api/cri/internal.h"

#include "base/mem.h"
#include "network/cni.h"

static Runtime__V1__RuntimeCondition *condition(struct arena *a, const char *type, bool status,
						const char *reason, const char *message)
{
	Runtime__V1__RuntimeCondition *m = CRI_NEW(a, runtime_condition);

	m->type = message_text(a, type);
	m->status = status;
	m->reason = message_text(a, reason);
	m->message = message_text(a, message);
	return m;
}

static Runtime__V1__RuntimeHandler *handler(const struct cri_api *api, struct arena *a,
					    const char *name)
{
	Runtime__V1__RuntimeHandler *m = CRI_NEW(a, runtime_handler);

	m->name = message_text(a, name);
	m->features = CRI_NEW(a, runtime_handler_features);
	m->features->recursive_read_only_mounts = api->features.recursive_read_only;
	m->features->user_namespaces = api->features.user_namespaces;
	return m;
}

/* The default one has an entry of its own, without a name. */
static void fill_handlers(const struct cri_api *api, struct arena *a,
			  Runtime__V1__StatusResponse *reply)
{
	const struct engine_config *e = engine_get_config(api->engine);

	reply->n_runtime_handlers = e->n_runtimes + 1;
	reply->runtime_handlers = message_array(a, e->n_runtimes + 1);
	reply->runtime_handlers[0] = handler(api, a, "");
	for (size_t i = 0; i < e->n_runtimes; i++)
		reply->runtime_handlers[i + 1] = handler(api, a, e->runtimes[i].name);
}

static void fill_network(const struct cri_api *api, struct arena *a,
			 Runtime__V1__RuntimeStatus *status)
{
	CLEANUP(cni_status_done) struct cni_status s = { 0 };

	cni_status(api->config.cni, &s);
	status->conditions[status->n_conditions++] =
		condition(a, "NetworkReady", s.ready, s.ready ? "" : "NetworkPluginNotReady",
			  s.ready ? "" : s.reason);
}

static void add_info(const struct cri_api *api, struct arena *a, Runtime__V1__StatusResponse *reply,
		     const char *key, struct json *json)
{
	cri_info(a, &runtime__v1__status_response__info_entry__descriptor, &reply->info,
		 &reply->n_info, key, json);
}

static void fill_info(const struct cri_api *api, struct arena *a,
		      Runtime__V1__StatusResponse *reply)
{
	CLEANUP(cni_status_done) struct cni_status s = { 0 };
	struct json *config = api->config.shown ? json_copy(api->config.shown) : json_new_object();

	json_set_string(config, "stateDir", engine_get_config(api->engine)->state);
	json_set_string(config, "rootDir", engine_get_config(api->engine)->root);
	add_info(api, a, reply, "config", config);
	add_info(api, a, reply, "cniconfig", cni_describe(api->config.cni));
	cni_status(api->config.cni, &s);
	add_info(api, a, reply, "lastCNILoadStatus",
		 json_new_string(s.load_error ? s.load_error : "OK"));
}

int cri_status(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
	       struct error *err UNUSED)
{
	const Runtime__V1__StatusRequest *request = (const Runtime__V1__StatusRequest *)m;
	Runtime__V1__StatusResponse *reply = (Runtime__V1__StatusResponse *)r;
	const struct cri_api *api = cri_of(c);
	struct arena *a = grpc_call_arena(c);

	reply->status = CRI_NEW(a, runtime_status);
	reply->status->conditions = message_array(a, 2);
	reply->status->conditions[reply->status->n_conditions++] =
		condition(a, "RuntimeReady", true, "", "");
	fill_network(api, a, reply->status);
	fill_handlers(api, a, reply);
	reply->features = CRI_NEW(a, runtime_features);
	reply->features->supplemental_groups_policy = true;
	reply->features->user_namespaces_host_network = api->features.user_namespaces;
	reply->features->mount_options = true;
	if (request->verbose)
		fill_info(api, a, reply);
	return 0;
}
