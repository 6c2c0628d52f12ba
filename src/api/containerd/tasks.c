/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks, as far as another front end's containers are looked at through this API: cAdvisor in the
 * kubelet needs the process of each.
 */
#include "api/containerd/internal.h"

#include "base/mem.h"

#include "containerd.services.tasks.v1.pb-c.h"

static int get(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
	       struct error *err)
{
	const char *id = ((const Containerd__Services__Tasks__V1__GetRequest *)m)->container_id;
	const struct containerd_view *pods = &ctrd_of(c)->config.pods;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	if (str_equal(ctx.ns, pods->ns))
		return pods->task(pods->arg, c, m, r, err);
	return error_set(err, ERROR_NOT_FOUND, "no running task found: task '%.128s' not found",
			 id);
}

const struct grpc_method tasks_methods[] = {
	{ "Get", .unary = get, .pool = JOB_OPS },
	{ NULL },
};
