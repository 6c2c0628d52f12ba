/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RunPodSandbox and CreateContainer. The kubelet repeats a request whose answer it did not get, so
 * both go through rpc/retry.h: the work is done once under the object's name and goes on when its
 * client has gone. A name belongs to one object: who asks for it with the same request gets that
 * object, across restarts of the daemon too (the request's digest is kept with it), who asks with
 * another one is told whose it is.
 */
#include "api/cri/decode.h"

#include "base/log.h"
#include "base/mem.h"
#include "oci/digest.h"
#include "rpc/retry.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define REQUEST_MAX (4 << 20)

/* One call that waits. */
struct creation {
	struct grpc_call *call;
	char digest[DIGEST_MAX];
	const Runtime__V1__RunPodSandboxRequest *pod;
	const Runtime__V1__CreateContainerRequest *container;
	char *pod_id; /* of the container: the full one */
};

static void creation_free(struct creation *c)
{
	grpc_call_unref(c->call);
	free(c->pod_id);
	free(c);
}

static bool is_gone(void *arg UNUSED, void *waiter)
{
	struct creation *c = waiter;

	return cancel_is_set(grpc_call_cancel(c->call));
}

static void answer(void *arg UNUSED, void *waiter, const char *id, const struct error *err)
{
	Runtime__V1__RunPodSandboxResponse pod = RUNTIME__V1__RUN_POD_SANDBOX_RESPONSE__INIT;
	Runtime__V1__CreateContainerResponse ctr = RUNTIME__V1__CREATE_CONTAINER_RESPONSE__INIT;
	struct creation *c = waiter;

	pod.pod_sandbox_id = ctr.container_id = (char *)(uintptr_t)id;
	if (id)
		grpc_call_send(c->call, c->pod ? &pod.base : &ctr.base);
	else if (err && (err->code == ERROR_INTERNAL || err->code == ERROR_UNKNOWN))
		log_warn("%s: %s", c->pod ? "RunPodSandbox" : "CreateContainer", error_msg(err));
	grpc_call_finish(c->call, id ? NULL : err);
	creation_free(c);
}

static struct creation *creation_new(struct grpc_call *call)
{
	struct creation *c = xnew(struct creation);

	c->call = grpc_call_ref(call);
	grpc_call_cancel(call); /* from now on, so that it is known who has gone */
	return c;
}

/* Too much of it could not be kept, or would make lists that no client takes. */
static int check_request(const ProtobufCMessage *m, struct error *err)
{
	if (!m)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request has no message");
	if (protobuf_c_message_get_packed_size(m) > REQUEST_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "config: is larger than %d MiB",
				 REQUEST_MAX >> 20);
	return cri_check_texts(m, err);
}

/* --- sandboxes --- */

static bool same_metadata(const struct sandbox_config *a, const struct sandbox_config *b)
{
	return str_equal(a->name, b->name) && str_equal(a->namespace_, b->namespace_) &&
	       str_equal(a->uid, b->uid) && a->attempt == b->attempt;
}

/* 1: there is the very sandbox that is asked for, 0: there is none of that name. */
static int find_sandbox(struct cri_api *api, const struct sandbox_config *wanted,
			const char *digest, char **ret_id, struct error *err)
{
	CLEANUP(sandbox_views_done) struct sandbox_views views = { 0 };

	engine_sandbox_list(api->engine, CRI_NAMESPACE, &views);
	for (size_t i = 0; i < views.n; i++) {
		const struct sandbox_view *v = views.v[i];
		const char *made_by = json_get_string(v->extension, CRI_EXT_DIGEST);

		if (!same_metadata(&v->config, wanted))
			continue;
		if (v->state != SANDBOX_READY || !str_equal(made_by, digest))
			return error_set(err, ERROR_ALREADY_EXISTS,
					 "config.metadata: sandbox '%s' (%s) has the same", v->id,
					 v->state == SANDBOX_READY ? "ready" : "not ready");
		*ret_id = xstrdup(v->id);
		return 1;
	}
	return 0;
}

static int run_sandbox(void *arg, void *waiter, char **ret_id, struct error *err)
{
	CLEANUP(sandbox_config_done) struct sandbox_config config = { 0 };
	struct cri_api *api = arg;
	struct creation *c = waiter;
	char id[65];

	if (cri_decode_sandbox(api, c->pod->config, c->pod->runtime_handler, &config, err) < 0)
		return -1;
	int found = find_sandbox(api, &config, c->digest, ret_id, err);
	if (found != 0)
		return found < 0 ? -1 : 0;
	autojson struct json *extension = json_new_object();
	json_set_string(extension, CRI_EXT_DIGEST, c->digest);
	if (engine_sandbox_run(api->engine, CRI_NAMESPACE, &config, extension, id, err) < 0)
		return -1;
	extension = NULL;
	*ret_id = xstrdup(id);
	return 0;
}

static bool sandbox_usable(void *arg, const char *id)
{
	struct cri_api *api = arg;
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = NULL;

	return engine_sandbox_get(api->engine, CRI_NAMESPACE, id, &v, NULL) == 0 &&
	       v->state == SANDBOX_READY;
}

static void sandbox_discard(void *arg, const char *id)
{
	autoerror struct error err = ERROR_INIT;
	struct cri_api *api = arg;
	CLEANUP(container_briefs_done) struct container_briefs users = { 0 };

	engine_briefs(api->engine, CRI_NAMESPACE, id, &users);
	if (users.n > 0)
		return; /* somebody has found it */
	if (engine_sandbox_remove(api->engine, CRI_NAMESPACE, id, &err) < 0 &&
	    err.code != ERROR_NOT_FOUND)
		log_warn("remove sandbox '%s', which nobody came for: %s", id, error_msg(&err));
}

int cri_run_pod_sandbox(struct grpc_call *call, const ProtobufCMessage *m, struct error *err)
{
	const Runtime__V1__RunPodSandboxRequest *request =
		(const Runtime__V1__RunPodSandboxRequest *)m;
	CLEANUP(sandbox_config_done) struct sandbox_config config = { 0 };
	struct cri_api *api = cri_of(call);

	if (check_request(m, err) < 0 ||
	    cri_decode_sandbox(api, request->config, request->runtime_handler, &config, err) < 0)
		return -1;
	autofree char *name = xasprintf("%s_%s_%s_%lld", config.name, config.namespace_, config.uid,
					(long long)config.attempt);
	struct creation *c = creation_new(call);
	c->pod = request;
	retry_digest((ProtobufCMessage *)(uintptr_t)m, c->digest);
	retry_request(api->sandboxes, name, (ProtobufCMessage *)(uintptr_t)m, c);
	return 0;
}

const struct retry_ops cri_sandbox_creations = {
	.work = run_sandbox,
	.answer = answer,
	.gone = is_gone,
	.usable = sandbox_usable,
	.discard = sandbox_discard,
};

/* --- containers --- */

/* Unique in the engine; what its names cannot have in them makes it a digest. */
static char *container_name(const char *pod_id, const Runtime__V1__ContainerMetadata *m)
{
	autofree char *plain = xasprintf("k8s_%s_%s_%u", m->name, pod_id, (unsigned)m->attempt);
	char digest[DIGEST_MAX];

	for (const char *p = plain; *p; p++) {
		if (!isalnum((unsigned char)*p) && !strchr("_.-", *p)) {
			digest_bytes(plain, strlen(plain), digest);
			return xasprintf("k8s_%s", digest_hex(digest));
		}
	}
	return TAKE_PTR(plain);
}

/* The name is taken: is it by what the same request has made? */
static int find_container(struct cri_api *api, const struct creation *c, const char *name,
			  char **ret_id, struct error *err)
{
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };

	if (engine_brief(api->engine, CRI_NAMESPACE, name, &b, err) < 0)
		return -1;
	const struct container_shared *s = b.v[0].shared;
	if (b.v[0].status != CONTAINER_CREATED ||
	    !str_equal(json_get_string(s->extension, CRI_EXT_DIGEST), c->digest))
		return error_set(err, ERROR_ALREADY_EXISTS,
				 "config.metadata: container '%s' has the same in this sandbox",
				 s->id);
	*ret_id = xstrdup(s->id);
	return 0;
}

static int create_container(void *arg, void *waiter, char **ret_id, struct error *err)
{
	CLEANUP(container_config_done) struct container_config config = { 0 };
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *pod = NULL;
	autojson struct json *extension = json_new_object();
	autoerror struct error why = ERROR_INIT;
	struct cri_api *api = arg;
	struct creation *c = waiter;
	char id[65];

	if (engine_sandbox_get(api->engine, CRI_NAMESPACE, c->pod_id, &pod, err) < 0)
		return -1;
	if (cri_decode_container(api, c->container->config, pod, &config, extension, err) < 0 ||
	    cri_decode_image(api, c->container->config, &config, extension, err) < 0)
		return -1;
	json_set_string(extension, CRI_EXT_DIGEST, c->digest);
	autofree char *name = container_name(pod->id, c->container->config->metadata);
	if (engine_create(api->engine, CRI_NAMESPACE, name, &config, extension, id, NULL, &why) <
	    0) {
		if (why.code == ERROR_ABORTED)
			return find_container(api, c, name, ret_id, err);
		return error_move(err, &why);
	}
	extension = NULL;
	*ret_id = xstrdup(id);
	return 0;
}

static bool container_usable(void *arg, const char *id)
{
	struct cri_api *api = arg;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };

	return engine_brief(api->engine, CRI_NAMESPACE, id, &b, NULL) == 0 &&
	       b.v[0].status == CONTAINER_CREATED;
}

static void container_discard(void *arg, const char *id)
{
	autoerror struct error err = ERROR_INIT;
	struct cri_api *api = arg;

	if (engine_remove(api->engine, CRI_NAMESPACE, id, /* force= */ true, /* volumes= */ true,
			  &err) < 0 &&
	    err.code != ERROR_NOT_FOUND)
		log_warn("remove container '%s', which nobody came for: %s", id, error_msg(&err));
}

int cri_create_container(struct grpc_call *call, const ProtobufCMessage *m, struct error *err)
{
	const Runtime__V1__CreateContainerRequest *request =
		(const Runtime__V1__CreateContainerRequest *)m;
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *pod = NULL;
	struct cri_api *api = cri_of(call);

	if (check_request(m, err) < 0)
		return -1;
	if (!request->config || !request->config->metadata)
		return error_set(err, ERROR_INVALID_ARGUMENT, "config.metadata: is missing");
	if (cri_sandbox(api, request->pod_sandbox_id, &pod, err) < 0)
		return -1;
	autofree char *name = container_name(pod->id, request->config->metadata);
	struct creation *c = creation_new(call);
	c->container = request;
	c->pod_id = xstrdup(pod->id);
	retry_digest((ProtobufCMessage *)(uintptr_t)m, c->digest);
	retry_request(api->containers, name, (ProtobufCMessage *)(uintptr_t)m, c);
	return 0;
}

const struct retry_ops cri_container_creations = {
	.work = create_container,
	.answer = answer,
	.gone = is_gone,
	.usable = container_usable,
	.discard = container_discard,
};
