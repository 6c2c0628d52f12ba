/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands in containers: ExecSync, which no thread waits for, and what hands out an URL of the
 * streaming server.
 */
#include "api/cri/decode.h"

#include "api/cri/execsync.h"
#include "api/cri/streaming.h"
#include "base/mem.h"

#define COMMAND_MAX 4096
#define PORTS_MAX 1024

static int decode_command(char *const *v, size_t n, struct strv *ret, struct error *err)
{
	if (n == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "cmd: is empty");
	if (n > COMMAND_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "cmd: has %zu words", n);
	for (size_t i = 0; i < n; i++)
		strv_push(ret, v[i]);
	return 0;
}

/* Loop thread. The output goes into the message as it is, without another copy. */
static void on_exec_end(struct execsync_result *result, const struct error *err, void *arg)
{
	Runtime__V1__ExecSyncResponse reply = RUNTIME__V1__EXEC_SYNC_RESPONSE__INIT;
	struct grpc_call *c = arg;

	if (result) {
		reply.stdout.data = (uint8_t *)result->out.data;
		reply.stdout.len = result->out.len;
		reply.stderr.data = (uint8_t *)result->errs.data;
		reply.stderr.len = result->errs.len;
		reply.exit_code = result->exit_code;
		grpc_call_send(c, &reply.base);
	}
	grpc_call_finish(c, result ? NULL : err);
	grpc_call_unref(c);
}

static int exec_sync(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const Runtime__V1__ExecSyncRequest *request = (const Runtime__V1__ExecSyncRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	autostrv struct strv cmd = STRV_INIT;
	struct cri_api *api = cri_of(c);

	if (!request)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request has no message");
	if (cri_check_texts(m, err) < 0 ||
	    decode_command(request->cmd, request->n_cmd, &cmd, err) < 0)
		return -1;
	if (request->timeout < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "timeout: %lld is negative",
				 (long long)request->timeout);
	if (cri_running(api, request->container_id, &b, err) < 0)
		return -1;
	grpc_call_ref(c);
	if (execsync(api->engine, CRI_NAMESPACE, b.v[0].shared->id, &cmd, request->timeout,
		     on_exec_end, c, err) < 0) {
		grpc_call_unref(c);
		return -1;
	}
	return 0;
}

/* The URL lives as long as the reply. */
static int answer_url(struct grpc_call *c, char *url, char **ret)
{
	*ret = message_text(grpc_call_arena(c), url);
	free(url);
	return 0;
}

static int exec(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		struct error *err)
{
	const Runtime__V1__ExecRequest *request = (const Runtime__V1__ExecRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	autostrv struct strv cmd = STRV_INIT;
	struct cri_api *api = cri_of(c);
	char *url = NULL;

	if (cri_check_texts(m, err) < 0 || cri_running(api, request->container_id, &b, err) < 0 ||
	    decode_command(request->cmd, request->n_cmd, &cmd, err) < 0)
		return -1;
	const struct streaming_exec e = {
		.container_id = b.v[0].shared->id,
		.cmd = &cmd,
		.tty = request->tty,
		.in = request->stdin,
		.out = request->stdout,
		.errs = request->stderr,
	};
	if (streaming_exec(api->config.streaming, &e, &url, err) < 0)
		return -1;
	return answer_url(c, url, &((Runtime__V1__ExecResponse *)r)->url);
}

static int attach(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Runtime__V1__AttachRequest *request = (const Runtime__V1__AttachRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	struct cri_api *api = cri_of(c);
	char *url = NULL;

	if (cri_running(api, request->container_id, &b, err) < 0)
		return -1;
	const struct streaming_attach a = {
		.container_id = b.v[0].shared->id,
		.tty = request->tty,
		.in = request->stdin,
		.out = request->stdout,
		.errs = request->stderr,
	};
	if (streaming_attach(api->config.streaming, &a, &url, err) < 0)
		return -1;
	return answer_url(c, url, &((Runtime__V1__AttachResponse *)r)->url);
}

static int port_forward(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			struct error *err)
{
	const Runtime__V1__PortForwardRequest *request = (const Runtime__V1__PortForwardRequest *)m;
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = NULL;
	struct cri_api *api = cri_of(c);
	char *url = NULL;

	if (cri_sandbox(api, request->pod_sandbox_id, &v, err) < 0)
		return -1;
	if (v->state != SANDBOX_READY)
		return error_set(err, ERROR_FAILED_PRECONDITION, "sandbox \"%s\" is not ready",
				 v->id);
	if (request->n_port > PORTS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "port: has %zu entries",
				 request->n_port);
	for (size_t i = 0; i < request->n_port; i++)
		if (request->port[i] < 1 || request->port[i] > 65535)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "port[%zu]: %d is not 1 to 65535", i, request->port[i]);
	const struct streaming_portforward p = {
		.sandbox_id = v->id,
		.ports = request->port,
		.n_ports = request->n_port,
	};
	if (streaming_portforward(api->config.streaming, &p, &url, err) < 0)
		return -1;
	return answer_url(c, url, &((Runtime__V1__PortForwardResponse *)r)->url);
}

const struct grpc_method cri_exec_methods[] = {
	{ "ExecSync", .streaming = exec_sync, .pool = JOB_OPS },
	{ "Exec", .unary = exec, .pool = JOB_QUICK },
	{ "Attach", .unary = attach, .pool = JOB_QUICK },
	{ "PortForward", .unary = port_forward, .pool = JOB_QUICK },
	{ NULL },
};
