/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cAdvisor in the kubelet asks of containerd, with the answers that it needs to put names
 * to the cgroups that it finds: two calls of containerd's API, whose front end asks here for the
 * CRI's namespace. A sandbox is a container of kind "sandbox" there, whose task is any process in
 * the pod's network.
 */
#include "api/cri/encode.h"

#include "base/mem.h"
#include "base/time.h"

#include "containerd.services.containers.v1.pb-c.h"
#include "containerd.services.tasks.v1.pb-c.h"

#include <string.h>

#define SPEC_TYPE "types.containerd.io/opencontainers/runtime-spec/1/Spec"
#define KIND "io.cri-containerd.kind"
#define NEW(arena, name) message_new(arena, &containerd__services__##name##__descriptor)

static Google__Protobuf__Timestamp *timestamp(struct arena *a, int64_t ns)
{
	Google__Protobuf__Timestamp *m = message_new(a, &google__protobuf__timestamp__descriptor);

	m->seconds = ns / NSEC_PER_SEC;
	m->nanos = (int32_t)(ns % NSEC_PER_SEC);
	return m;
}

static Containerd__Services__Containers__V1__Container *encode(struct cri_api *api, struct arena *a,
							       const char *id,
							       const struct kvs *labels,
							       const char *kind, int64_t created_at)
{
	Containerd__Services__Containers__V1__Container *m = NEW(a, containers__v1__container);
	autojson struct json *spec = cri_runtime_spec(api, id);
	autofree char *text = spec ? json_format(spec, /* pretty= */ false) : xstrdup("{}");
	autokvs struct kvs all = KVS_INIT;

	kvs_copy(&all, labels);
	kvs_set(&all, KIND, kind);
	m->id = message_text(a, id);
	m->labels = message_map(
		a, &containerd__services__containers__v1__container__labels_entry__descriptor, &all,
		&m->n_labels);
	m->created_at = m->updated_at = timestamp(a, created_at);
	m->spec = message_new(a, &google__protobuf__any__descriptor);
	m->spec->type_url = (char *)(uintptr_t)SPEC_TYPE;
	m->spec->value.data = (uint8_t *)arena_strdup(a, text);
	m->spec->value.len = strlen(text);
	m->runtime = NEW(a, containers__v1__container__runtime);
	m->runtime->name = (char *)(uintptr_t) "io.containerd.kistl.v2";
	m->snapshotter = message_text(a, store_default_snapshotter(api->store));
	return m;
}

int cri_containerd_container(void *arg, struct grpc_call *c, const ProtobufCMessage *m,
			     ProtobufCMessage *r, struct error *err)
{
	const char *id = ((const Containerd__Services__Containers__V1__GetContainerRequest *)m)->id;
	Containerd__Services__Containers__V1__GetContainerResponse *reply =
		(Containerd__Services__Containers__V1__GetContainerResponse *)r;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = NULL;
	struct arena *a = grpc_call_arena(c);
	struct cri_api *api = arg;

	if (cri_container(api, id, &b, NULL) == 0) {
		const struct container_shared *s = b.v[0].shared;

		reply->container =
			encode(api, a, s->id, &s->config.labels, "container", s->created_at);
		reply->container->image = message_text(a, s->config.image);
		reply->container->snapshot_key = reply->container->id;
		reply->container->sandbox = message_text(a, s->config.sandbox_id);
		return 0;
	}
	if (cri_sandbox(api, id, &v, err) < 0)
		return -1;
	reply->container = encode(api, a, v->id, &v->config.labels, "sandbox", v->created_at);
	return 0;
}

/* A process of the pod: its reaper, or any container's. */
static int pod_pid(struct cri_api *api, const struct sandbox_view *v)
{
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };

	if (v->pid > 0)
		return v->pid;
	engine_briefs(api->engine, CRI_NAMESPACE, v->id, &b);
	for (size_t i = 0; i < b.n; i++)
		if (b.v[i].pid > 0)
			return b.v[i].pid;
	return 0;
}

static Containerd__V1__Types__Status task_status(Runtime__V1__ContainerState s)
{
	static const Containerd__V1__Types__Status map[] = {
		[RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED] =
			CONTAINERD__V1__TYPES__STATUS__CREATED,
		[RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING] =
			CONTAINERD__V1__TYPES__STATUS__RUNNING,
		[RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED] =
			CONTAINERD__V1__TYPES__STATUS__STOPPED,
		[RUNTIME__V1__CONTAINER_STATE__CONTAINER_UNKNOWN] =
			CONTAINERD__V1__TYPES__STATUS__UNKNOWN,
	};

	return map[s];
}

int cri_containerd_task(void *arg, struct grpc_call *c, const ProtobufCMessage *m,
			ProtobufCMessage *r, struct error *err)
{
	const char *id = ((const Containerd__Services__Tasks__V1__GetRequest *)m)->container_id;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = NULL;
	struct arena *a = grpc_call_arena(c);
	struct cri_api *api = arg;
	Containerd__V1__Types__Process *p =
		message_new(a, &containerd__v1__types__process__descriptor);

	if (cri_container(api, id, &b, NULL) == 0) {
		p->id = p->container_id = message_text(a, b.v[0].shared->id);
		p->pid = (uint32_t)b.v[0].pid;
		p->status = task_status(cri_container_state(b.v[0].status));
		p->exit_status = (uint32_t)b.v[0].exit_code;
	} else {
		if (cri_sandbox(api, id, &v, err) < 0)
			return -1;
		p->id = p->container_id = message_text(a, v->id);
		p->pid = (uint32_t)pod_pid(api, v);
		p->status = v->state == SANDBOX_READY ? CONTAINERD__V1__TYPES__STATUS__RUNNING
						      : CONTAINERD__V1__TYPES__STATUS__STOPPED;
	}
	if (p->pid == 0)
		return error_set(err, ERROR_NOT_FOUND, "no running task found: task %s not found",
				 p->id);
	((Containerd__Services__Tasks__V1__GetResponse *)r)->process = p;
	return 0;
}
