/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with pods that there are. */
#include "api/cri/decode.h"
#include "api/cri/encode.h"

#include "base/mem.h"
#include "base/time.h"
#include "rpc/retry.h"

#include <string.h>

int cri_sandbox(struct cri_api *api, const char *id, struct sandbox_view **ret, struct error *err)
{
	if (str_empty(id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "pod_sandbox_id: is empty");
	return engine_sandbox_get(api->engine, CRI_NAMESPACE, id, ret, err);
}

/* Kubelets stop and remove what has long gone. */
static int tolerate_unknown(int result, struct error *why, struct error *err)
{
	if (result == 0 || why->code == ERROR_NOT_FOUND)
		return 0;
	return error_move(err, why);
}

static int stop_pod_sandbox(struct grpc_call *c, const ProtobufCMessage *m,
			    ProtobufCMessage *r UNUSED, struct error *err)
{
	const Runtime__V1__StopPodSandboxRequest *request =
		(const Runtime__V1__StopPodSandboxRequest *)m;
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = NULL;
	autoerror struct error why = ERROR_INIT;
	struct cri_api *api = cri_of(c);

	if (str_empty(request->pod_sandbox_id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "pod_sandbox_id: is empty");
	int result = cri_sandbox(api, request->pod_sandbox_id, &v, &why);
	if (result == 0)
		result = engine_sandbox_stop(api->engine, CRI_NAMESPACE, v->id, &why);
	return tolerate_unknown(result, &why, err);
}

static int remove_pod_sandbox(struct grpc_call *c, const ProtobufCMessage *m,
			      ProtobufCMessage *r UNUSED, struct error *err)
{
	const Runtime__V1__RemovePodSandboxRequest *request =
		(const Runtime__V1__RemovePodSandboxRequest *)m;
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = NULL;
	autoerror struct error why = ERROR_INIT;
	struct cri_api *api = cri_of(c);

	if (str_empty(request->pod_sandbox_id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "pod_sandbox_id: is empty");
	int result = cri_sandbox(api, request->pod_sandbox_id, &v, &why);
	if (result == 0)
		result = engine_sandbox_remove(api->engine, CRI_NAMESPACE, v->id, &why);
	return tolerate_unknown(result, &why, err);
}

/* --- status --- */

Runtime__V1__ContainerStatus **cri_pod_statuses(struct cri_api *api, struct arena *a,
						const char *sandbox_id, size_t *ret_n)
{
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	Runtime__V1__ContainerStatus **out;

	engine_briefs(api->engine, CRI_NAMESPACE, sandbox_id, &b);
	out = message_array(a, b.n);
	*ret_n = 0;
	for (size_t i = 0; i < b.n; i++) {
		CLEANUP(container_view_freep) struct container_view *v = NULL;

		if (retry_hides(api->containers, b.v[i].shared->id) ||
		    engine_inspect(api->engine, CRI_NAMESPACE, b.v[i].shared->id, &v, NULL) < 0)
			continue;
		out[(*ret_n)++] = cri_encode_container_status(a, v);
	}
	return out;
}

static struct json *sandbox_info(const struct sandbox_view *v)
{
	struct json *j = json_new_object();

	json_set_int(j, "pid", v->pid);
	json_set_string(j, "processStatus", v->state == SANDBOX_READY ? "running" : "stopped");
	json_set_bool(j, "netNamespaceClosed", str_empty(v->netns_path));
	json_set_string(j, "netNamespace", v->netns_path);
	json_set_string(j, "image", "");
	json_set_string(j, "runtimeHandler", v->config.runtime);
	json_set_string(j, "runtimeType", v->runtime);
	json_set_string(j, "cgroup", v->cgroup);
	json_set_string(j, "directory", v->dir);
	json_set(j, "config", sandbox_config_to_json(&v->config));
	json_set(j, "cniResult", v->cni_result ? json_copy(v->cni_result) : NULL);
	return j;
}

static int pod_sandbox_status(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			      struct error *err)
{
	const Runtime__V1__PodSandboxStatusRequest *request =
		(const Runtime__V1__PodSandboxStatusRequest *)m;
	Runtime__V1__PodSandboxStatusResponse *reply = (Runtime__V1__PodSandboxStatusResponse *)r;
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = NULL;
	struct arena *a = grpc_call_arena(c);
	struct cri_api *api = cri_of(c);

	reply->timestamp = time_realtime();
	if (cri_sandbox(api, request->pod_sandbox_id, &v, err) < 0)
		return -1;
	reply->status = cri_encode_sandbox_status(a, v);
	reply->containers_statuses = cri_pod_statuses(api, a, v->id, &reply->n_containers_statuses);
	if (request->verbose)
		cri_info(a, &runtime__v1__pod_sandbox_status_response__info_entry__descriptor,
			 &reply->info, &reply->n_info, "info", sandbox_info(v));
	return 0;
}

/* --- lists --- */

bool cri_labels_match(const struct kvs *labels, void *selector, size_t n)
{
	autokvs struct kvs wanted = KVS_INIT;

	if (n == 0)
		return true;
	message_kvs(&wanted, selector, n);
	for (size_t i = 0; i < wanted.n; i++) {
		const char *value = kvs_get(labels, wanted.v[i].key);

		if (!value || !str_equal(value, wanted.v[i].value))
			return false;
	}
	return true;
}

static bool sandbox_matches(const Runtime__V1__PodSandboxFilter *f, const struct sandbox_view *v)
{
	if (!f)
		return true;
	if (!str_empty(f->id) && !str_has_prefix(v->id, f->id))
		return false;
	if (f->state && (f->state->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY) !=
				(v->state == SANDBOX_READY))
		return false;
	return cri_labels_match(&v->config.labels, f->label_selector, f->n_label_selector);
}

static ProtobufCMessage *encode_entry(struct arena *a, const void *item)
{
	return &cri_encode_sandbox(a, item)->base;
}

static void *hold_entry(void *arg UNUSED, const void *item)
{
	return sandbox_view_ref((struct sandbox_view *)(uintptr_t)item);
}

static void release_entry(void *held)
{
	sandbox_view_unref(held);
}

const struct packed_ops cri_packed_sandboxes = {
	.encode = encode_entry,
	.hold = hold_entry,
	.release = release_entry,
};

static Runtime__V1__PodSandbox **collect(struct grpc_call *c,
					 const Runtime__V1__PodSandboxFilter *f, size_t *ret_n)
{
	CLEANUP(sandbox_views_done) struct sandbox_views views = { 0 };
	struct cri_api *api = cri_of(c);
	struct arena *a = grpc_call_arena(c);

	engine_sandbox_list(api->engine, CRI_NAMESPACE, &views);
	Runtime__V1__PodSandbox **out = message_array(a, views.n);
	*ret_n = 0;
	for (size_t i = 0; i < views.n; i++) {
		if (sandbox_matches(f, views.v[i]) && !retry_hides(api->sandboxes, views.v[i]->id))
			out[(*ret_n)++] = (Runtime__V1__PodSandbox *)packed_get(
				api->packed_sandboxes, a, &runtime__v1__pod_sandbox__descriptor,
				views.v[i]->id, views.v[i], views.v[i]);
	}
	if (!f)
		packed_sweep(api->packed_sandboxes, *ret_n);
	return out;
}

static int list_pod_sandbox(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			    struct error *err UNUSED)
{
	Runtime__V1__ListPodSandboxResponse *reply = (Runtime__V1__ListPodSandboxResponse *)r;

	reply->items = collect(c, ((const Runtime__V1__ListPodSandboxRequest *)m)->filter,
			       &reply->n_items);
	return 0;
}

static int stream_pod_sandboxes(struct grpc_call *c, const ProtobufCMessage *m,
				struct error *err UNUSED)
{
	const Runtime__V1__StreamPodSandboxesRequest *request =
		(const Runtime__V1__StreamPodSandboxesRequest *)m;
	size_t n;
	Runtime__V1__PodSandbox **items = collect(c, request ? request->filter : NULL, &n);

	grpc_call_send_items(c, cri_of(c)->config.loop,
			     &runtime__v1__stream_pod_sandboxes_response__descriptor, items, n);
	return 0;
}

/* The kubelet has written the pod's cgroup itself; it only lets us know. */
static int update_pod_sandbox_resources(struct grpc_call *c, const ProtobufCMessage *m,
					ProtobufCMessage *r UNUSED, struct error *err)
{
	const Runtime__V1__UpdatePodSandboxResourcesRequest *request =
		(const Runtime__V1__UpdatePodSandboxResourcesRequest *)m;
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = NULL;

	return cri_sandbox(cri_of(c), request->pod_sandbox_id, &v, err);
}

const struct grpc_method cri_sandbox_methods[] = {
	{ "RunPodSandbox", .streaming = cri_run_pod_sandbox, .pool = JOB_OPS },
	{ "StopPodSandbox", .unary = stop_pod_sandbox, .pool = JOB_OPS },
	{ "RemovePodSandbox", .unary = remove_pod_sandbox, .pool = JOB_OPS },
	{ "PodSandboxStatus", .unary = pod_sandbox_status, .pool = JOB_QUICK },
	{ "ListPodSandbox", .unary = list_pod_sandbox, .pool = JOB_QUICK },
	{ "StreamPodSandboxes", .streaming = stream_pod_sandboxes, .pool = JOB_QUICK },
	{ "UpdatePodSandboxResources", .unary = update_pod_sandbox_resources, .pool = JOB_QUICK },
	{ NULL },
};
