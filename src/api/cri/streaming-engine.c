/* SPDX-License-Identifier: Apache-2.0 */
#include "api/cri/streaming-internal.h"

#include "base/mem.h"
#include "engine/sandbox.h"

static int exec(struct streaming *s, const struct stream_request *r, int fd, unsigned width,
		unsigned height, void (*on_ended)(int exit_code, void *arg), void *arg,
		char ret_exec_id[65], struct error *err)
{
	struct exec_config config = {
		.tty = r->tty,
		.attach_stdin = r->in,
		.attach_stdout = r->out,
		.attach_stderr = r->errs,
	};
	const struct exec_run run = {
		.ns = s->ns,
		.id = r->id,
		.config = &config,
		.attach = {
			.in = r->in,
			/* The end is seen by the stream's, so there is always one. */
			.out = true,
			.errs = true,
			.mux = !r->tty,
			.no_detach_keys = true,
			.hangup = r->tty,
		},
		.width = width,
		.height = height,
		.fn = on_ended,
		.arg = arg,
	};

	strv_copy(&config.args, &r->cmd);
	int result = engine_exec_run(s->config.engine, &run, fd, ret_exec_id, err);
	exec_config_done(&config);
	return result;
}

/* The engine would keep the client for a start, which a pod's container does not get twice. */
static int check_running(struct streaming *s, const char *id, struct error *err)
{
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };

	if (engine_brief(s->config.engine, s->ns, id, &b, err) < 0)
		return -1;
	if (b.v[0].status != CONTAINER_RUNNING && b.v[0].status != CONTAINER_CREATED)
		return error_set(err, ERROR_FAILED_PRECONDITION, "container %s is not running", id);
	return 0;
}

static int attach(struct streaming *s, const struct stream_request *r, int fd, bool *ret_tty,
		  struct error *err)
{
	autoclose int mine = fd;
	struct attach_options o = {
		.in = r->in,
		.out = r->out,
		.errs = r->errs,
		.no_detach_keys = true,
	};

	if (check_running(s, r->id, err) < 0 ||
	    engine_attach_check(s->config.engine, s->ns, r->id, ret_tty, err) < 0)
		return -1;
	o.mux = !*ret_tty;
	return engine_attach(s->config.engine, s->ns, r->id, &o, TAKE_FD(mine), err);
}

static int resize(struct streaming *s, const struct stream_request *r, const char *exec_id,
		  unsigned width, unsigned height, struct error *err)
{
	if (str_empty(exec_id))
		return engine_resize(s->config.engine, s->ns, r->id, height, width, err);
	return engine_exec_resize(s->config.engine, exec_id, height, width, err);
}

const struct streaming_backend streaming_engine = {
	.exec = exec,
	.attach = attach,
	.resize = resize,
};
