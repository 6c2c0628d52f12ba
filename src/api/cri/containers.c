/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with containers that there are. */
#include "api/cri/decode.h"
#include "api/cri/encode.h"

#include "base/fs.h"
#include "base/mem.h"
#include "rpc/retry.h"

#include <fcntl.h>
#include <string.h>

#define SPEC_MAX (4 << 20)

int cri_container(struct cri_api *api, const char *id, struct container_briefs *ret,
		  struct error *err)
{
	autoerror struct error why = ERROR_INIT;

	if (str_empty(id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "container_id: is empty");
	if (engine_brief(api->engine, CRI_NAMESPACE, id, ret, &why) == 0)
		return 0;
	if (why.code == ERROR_NOT_FOUND)
		return error_set(err, ERROR_NOT_FOUND, "container \"%s\" not found", id);
	return error_move(err, &why);
}

int cri_running(struct cri_api *api, const char *id, struct container_briefs *ret,
		struct error *err)
{
	if (cri_container(api, id, ret, err) < 0)
		return -1;
	if (cri_container_state(ret->v[0].status) ==
	    RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
		return 0;
	return error_set(err, ERROR_FAILED_PRECONDITION, "container \"%s\" is not running (%s)",
			 ret->v[0].shared->id, container_status_name(ret->v[0].status));
}

static int start_container(struct grpc_call *c, const ProtobufCMessage *m,
			   ProtobufCMessage *r UNUSED, struct error *err)
{
	const Runtime__V1__StartContainerRequest *request =
		(const Runtime__V1__StartContainerRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	struct cri_api *api = cri_of(c);
	bool changed;

	if (cri_container(api, request->container_id, &b, err) < 0)
		return -1;
	const char *id = b.v[0].shared->id;
	if (b.v[0].status != CONTAINER_CREATED)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "container \"%s\" cannot be started, it is %s", id,
				 container_status_name(b.v[0].status));
	if (engine_start(api->engine, CRI_NAMESPACE, id, &changed, err) < 0)
		return error_wrap(err, "failed to start container \"%s\"", id);
	return 0;
}

static int stop_container(struct grpc_call *c, const ProtobufCMessage *m,
			  ProtobufCMessage *r UNUSED, struct error *err)
{
	const Runtime__V1__StopContainerRequest *request =
		(const Runtime__V1__StopContainerRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	autoerror struct error why = ERROR_INIT;
	struct cri_api *api = cri_of(c);
	int64_t timeout = MAX(request->timeout, (int64_t)0);
	bool changed;

	int result = cri_container(api, request->container_id, &b, &why);
	if (result == 0)
		result = engine_stop(api->engine, CRI_NAMESPACE, b.v[0].shared->id,
				     (int)MIN(timeout, (int64_t)INT32_MAX), NULL, &changed, &why);
	return result == 0 || why.code == ERROR_NOT_FOUND ? 0 : error_move(err, &why);
}

static int remove_container(struct grpc_call *c, const ProtobufCMessage *m,
			    ProtobufCMessage *r UNUSED, struct error *err)
{
	const Runtime__V1__RemoveContainerRequest *request =
		(const Runtime__V1__RemoveContainerRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	autoerror struct error why = ERROR_INIT;
	struct cri_api *api = cri_of(c);

	int result = cri_container(api, request->container_id, &b, &why);
	if (result == 0)
		result = engine_remove(api->engine, CRI_NAMESPACE, b.v[0].shared->id,
				       /* force= */ true, /* volumes= */ true, &why);
	return result == 0 || why.code == ERROR_NOT_FOUND ? 0 : error_move(err, &why);
}

static int update_container_resources(struct grpc_call *c, const ProtobufCMessage *m,
				      ProtobufCMessage *r UNUSED, struct error *err)
{
	const Runtime__V1__UpdateContainerResourcesRequest *request =
		(const Runtime__V1__UpdateContainerResourcesRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	CLEANUP(container_config_done) struct container_config holder = { 0 };
	struct cri_api *api = cri_of(c);

	if (cri_check_texts(m, err) < 0 || cri_container(api, request->container_id, &b, err) < 0)
		return -1;
	if (!request->linux)
		return 0;
	if (b.v[0].status != CONTAINER_CREATED && b.v[0].status != CONTAINER_RUNNING &&
	    b.v[0].status != CONTAINER_PAUSED)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "container \"%s\" is neither created nor running",
				 b.v[0].shared->id);
	if (cri_decode_resources(request->linux, &holder.resources, err) < 0)
		return error_wrap(err, "linux");
	return engine_update(api->engine, CRI_NAMESPACE, b.v[0].shared->id, &holder.resources, NULL,
			     0, err);
}

static int reopen_container_log(struct grpc_call *c, const ProtobufCMessage *m,
				ProtobufCMessage *r UNUSED, struct error *err)
{
	const Runtime__V1__ReopenContainerLogRequest *request =
		(const Runtime__V1__ReopenContainerLogRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	struct cri_api *api = cri_of(c);

	if (cri_running(api, request->container_id, &b, err) < 0)
		return -1;
	return engine_reopen_log(api->engine, CRI_NAMESPACE, b.v[0].shared->id, err);
}

/* --- status --- */

struct json *cri_runtime_spec(struct cri_api *api, const char *id)
{
	autofree char *path =
		path_join(engine_get_config(api->engine)->state, "io.containerd.runtime.v2.task",
			  CRI_NAMESPACE, id, "config.json", NULL);

	return json_load_at(AT_FDCWD, path, SPEC_MAX, NULL);
}

static struct json *container_info(struct cri_api *api, const struct container_view *v)
{
	struct json *j = json_new_object();

	json_set_string(j, "sandboxID", v->config.sandbox_id);
	json_set_int(j, "pid", v->pid);
	json_set_bool(j, "removing", v->status == CONTAINER_REMOVING);
	json_set_string(j, "snapshotKey", v->snapshot_key);
	json_set_string(j, "snapshotter", v->snapshotter);
	json_set_string(j, "runtimeType", v->config.runtime);
	json_set(j, "config", container_config_to_json(&v->config));
	json_set(j, "runtimeSpec", cri_runtime_spec(api, v->id));
	return j;
}

static int container_status(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			    struct error *err)
{
	const Runtime__V1__ContainerStatusRequest *request =
		(const Runtime__V1__ContainerStatusRequest *)m;
	Runtime__V1__ContainerStatusResponse *reply = (Runtime__V1__ContainerStatusResponse *)r;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	CLEANUP(container_view_freep) struct container_view *v = NULL;
	struct arena *a = grpc_call_arena(c);
	struct cri_api *api = cri_of(c);

	if (cri_container(api, request->container_id, &b, err) < 0 ||
	    engine_inspect(api->engine, CRI_NAMESPACE, b.v[0].shared->id, &v, err) < 0)
		return -1;
	reply->status = cri_encode_container_status(a, v);
	if (request->verbose)
		cri_info(a, &runtime__v1__container_status_response__info_entry__descriptor,
			 &reply->info, &reply->n_info, "info", container_info(api, v));
	return 0;
}

/* --- lists --- */

static bool container_matches(const Runtime__V1__ContainerFilter *f,
			      const struct container_brief *b)
{
	if (!f)
		return true;
	if (!str_empty(f->id) && !str_has_prefix(b->shared->id, f->id))
		return false;
	if (!str_empty(f->pod_sandbox_id) &&
	    !str_has_prefix(b->shared->config.sandbox_id, f->pod_sandbox_id))
		return false;
	if (f->state && f->state->state != cri_container_state(b->status))
		return false;
	return cri_labels_match(&b->shared->config.labels, f->label_selector, f->n_label_selector);
}

/* All but the state, which changes while the rest stays. */
static ProtobufCMessage *encode_entry(struct arena *a, const void *item)
{
	Runtime__V1__Container *m = cri_encode_container(a, item);

	m->state = RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED;
	return &m->base;
}

static void *hold_entry(void *arg, const void *item)
{
	const struct container_brief *b = item;
	struct container_briefs *held = xnew(struct container_briefs);
	struct cri_api *api = arg;

	if (engine_brief(api->engine, CRI_NAMESPACE, b->shared->id, held, NULL) == 0 &&
	    held->v[0].shared == b->shared)
		return held;
	container_briefs_done(held);
	free(held);
	return NULL;
}

static void release_entry(void *held)
{
	container_briefs_done(held);
	free(held);
}

const struct packed_ops cri_packed_containers = {
	.encode = encode_entry,
	.hold = hold_entry,
	.release = release_entry,
};

static Runtime__V1__Container *entry(struct cri_api *api, struct arena *a,
				     const struct container_brief *b)
{
	Runtime__V1__Container *m = (Runtime__V1__Container *)packed_get(
		api->packed_containers, a, &runtime__v1__container__descriptor, b->shared->id,
		b->shared, b);

	m->state = cri_container_state(b->status);
	return m;
}

/* The namespace may have containers of other clients too, which are none of the CRI's. */
bool cri_is_ours(const struct container_brief *b)
{
	return !str_empty(b->shared->config.sandbox_id);
}

static Runtime__V1__Container **collect(struct grpc_call *c, const Runtime__V1__ContainerFilter *f,
					size_t *ret_n)
{
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	struct cri_api *api = cri_of(c);
	struct arena *a = grpc_call_arena(c);

	engine_briefs(api->engine, CRI_NAMESPACE, NULL, &b);
	Runtime__V1__Container **out = message_array(a, b.n);
	*ret_n = 0;
	for (size_t i = 0; i < b.n; i++) {
		if (cri_is_ours(&b.v[i]) && container_matches(f, &b.v[i]) &&
		    !retry_hides(api->containers, b.v[i].shared->id))
			out[(*ret_n)++] = entry(api, a, &b.v[i]);
	}
	if (!f)
		packed_sweep(api->packed_containers, *ret_n);
	return out;
}

static int list_containers(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			   struct error *err UNUSED)
{
	Runtime__V1__ListContainersResponse *reply = (Runtime__V1__ListContainersResponse *)r;

	reply->containers = collect(c, ((const Runtime__V1__ListContainersRequest *)m)->filter,
				    &reply->n_containers);
	return 0;
}

static int stream_containers(struct grpc_call *c, const ProtobufCMessage *m,
			     struct error *err UNUSED)
{
	const Runtime__V1__StreamContainersRequest *request =
		(const Runtime__V1__StreamContainersRequest *)m;
	size_t n;
	Runtime__V1__Container **items = collect(c, request ? request->filter : NULL, &n);

	grpc_call_send_items(c, cri_of(c)->config.loop,
			     &runtime__v1__stream_containers_response__descriptor, items, n);
	return 0;
}

const struct grpc_method cri_container_methods[] = {
	{ "CreateContainer", .streaming = cri_create_container, .pool = JOB_OPS },
	{ "StartContainer", .unary = start_container, .pool = JOB_OPS },
	{ "StopContainer", .unary = stop_container, .pool = JOB_OPS },
	{ "RemoveContainer", .unary = remove_container, .pool = JOB_OPS },
	{ "ListContainers", .unary = list_containers, .pool = JOB_QUICK },
	{ "StreamContainers", .streaming = stream_containers, .pool = JOB_QUICK },
	{ "ContainerStatus", .unary = container_status, .pool = JOB_QUICK },
	{ "UpdateContainerResources", .unary = update_container_resources, .pool = JOB_OPS },
	{ "ReopenContainerLog", .unary = reopen_container_log, .pool = JOB_OPS },
	{ NULL },
};
