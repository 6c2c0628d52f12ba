/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attach and exec: after the upgrade the client's socket goes to the shim, which serves it; the
 * daemon sees none of its bytes and may die meanwhile.
 */

#include "api/docker/bridge.h"
#include "api/docker/internal.h"
#include "base/fs.h"
#include "base/mem.h"
#include "http/websocket.h"

#include <string.h>
#include <sys/socket.h>

struct handover {
	struct engine *engine;
	char *ns, *id, *detach_keys;
	struct attach_options options;
	unsigned height, width;
	bool is_exec, logs, stream, announced, websocket;
	int fd;
	int client;  /* of a bridge, which begins when the shim has the other end */
	char *extra; /* bytes that the client sent ahead */
	size_t n_extra;
};

static void handover_free(struct handover *h)
{
	if (h->announced)
		engine_attach_settle(h->engine, h->ns, h->id);
	if (h->fd >= 0)
		close(h->fd);
	if (h->client >= 0)
		close(h->client);
	free(h->ns);
	free(h->id);
	free(h->detach_keys);
	free(h->extra);
	free(h);
}

static int write_frame(int fd, bool mux, bool is_stderr, const char *data, size_t len)
{
	uint8_t head[8] = {
		is_stderr ? 2 : 1,   0,		  0, 0, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
		(uint8_t)(len >> 8), (uint8_t)len
	};
	int r = mux ? fs_write_all(fd, head, sizeof(head)) : 0;

	return r < 0 ? r : fs_write_all(fd, data, len);
}

/* logs=1: what there is so far goes first. */
static void replay_logs(const struct handover *h)
{
	struct log_options o = { .out = h->options.out, .errs = h->options.errs, .tail = -1 };
	struct log_reader *reader = NULL;
	struct log_line line;
	bool tty;

	if (log_reader_open(h->engine, h->ns, h->id, &o, &reader, &tty, NULL) < 0)
		return;
	fs_set_nonblock(h->fd, false);
	while (log_reader_next(reader, &line, NULL) > 0 &&
	       write_frame(h->fd, h->options.mux, line.is_stderr, line.data, line.len) == 0)
		continue;
	log_reader_free(reader);
}

/* The status is out already: an error can only be told as a line of the stream. */
static void tell(int fd, bool mux, bool is_stderr, const char *message)
{
	autofree char *line = xasprintf("%s\r\n", message);

	write_frame(fd, mux, is_stderr, line, strlen(line));
}

static void start_bridge(void *arg)
{
	struct handover *h = arg;

	bridge_start(engine_loop(h->engine), TAKE_FD(h->client), TAKE_FD(h->fd), h->websocket,
		     h->extra, h->n_extra);
	handover_free(h);
}

/* From here on h->fd is one end of a socket pair, and a bridge has the client and the other end. */
static int insert_bridge(struct handover *h)
{
	struct handover *b = xnew(struct handover);
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		free(b);
		return -errno;
	}
	b->engine = h->engine;
	b->websocket = h->websocket;
	b->extra = TAKE_PTR(h->extra);
	b->n_extra = h->n_extra;
	b->client = TAKE_FD(h->fd);
	b->fd = pair[0];
	h->fd = pair[1];
	loop_post(engine_loop(h->engine), start_bridge, b);
	return 0;
}

static void hand_over(void *arg)
{
	struct handover *h = arg;
	autoerror struct error err = ERROR_INIT;
	int r;

	if ((h->websocket || h->n_extra > 0) && insert_bridge(h) < 0) {
		handover_free(h);
		return;
	}
	autoclose int told = dup(h->fd);
	if (h->logs)
		replay_logs(h);
	if (h->is_exec)
		r = engine_exec_start(h->engine, h->id, &h->options, TAKE_FD(h->fd), h->height,
				      h->width, &err);
	else if (h->stream)
		r = engine_attach(h->engine, h->ns, h->id, &h->options, TAKE_FD(h->fd), &err);
	else
		r = 0;
	if (r < 0 && told >= 0)
		tell(told, h->options.mux, /* is_stderr */ !h->is_exec || !h->options.out,
		     error_msg(&err));
	handover_free(h);
}

/* On the loop, when the head has gone out. */
static void on_upgraded(int fd, const void *extra, size_t n_extra, void *arg)
{
	struct handover *h = arg;

	if (fd < 0) {
		handover_free(h);
		return;
	}
	h->fd = fd;
	if (n_extra > 0) {
		h->extra = xmemdup(extra, n_extra);
		h->n_extra = n_extra;
	}
	job_submit(engine_jobs(h->engine), JOB_OPS, hand_over, NULL, h);
}

static struct handover *handover_new(struct http_request *r)
{
	struct handover *h = xnew(struct handover);

	h->engine = api_engine(r);
	h->ns = xstrdup(api_ns(r));
	h->id = xstrdup(http_param(r, "id"));
	h->detach_keys = xstrdup(api_query(r, "detachKeys"));
	h->options.detach_keys = h->detach_keys;
	h->fd = -EBADF;
	h->client = -EBADF;
	return h;
}

static const char *stream_type(const struct http_request *r, bool mux)
{
	return mux && api_at_least(r, 42) ? MUX_STREAM : RAW_STREAM;
}

static int attach(struct http_request *r, bool websocket, struct error *err)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;
	struct handover *h;
	bool tty;

	if (engine_inspect(api_engine(r), api_ns(r), http_param(r, "id"), &v, err) < 0 ||
	    engine_attach_check(api_engine(r), api_ns(r), v->id, &tty, err) < 0)
		return -1;
	h = handover_new(r);
	str_replace(&h->id, v->id);
	h->stream = http_query_bool(r, "stream", false);
	h->logs = http_query_bool(r, "logs", false);
	h->options.in = h->stream && http_query_bool(r, "stdin", false);
	h->options.out = http_query_bool(r, "stdout", false);
	h->options.errs = http_query_bool(r, "stderr", false);
	h->options.mux = !tty && !websocket;
	h->websocket = websocket;
	h->announced = true;
	engine_attach_announce(h->engine, h->ns, h->id);
	http_upgrade(r, websocket ? NULL : stream_type(r, !tty), on_upgraded, h);
	return 0;
}

HANDLER(container_attach)
{
	return attach(r, /* websocket */ false, err);
}

/* Output comes as it is, not multiplexed: that is what Docker's has. */
HANDLER(container_attach_ws)
{
	char accept[WEBSOCKET_ACCEPT_SIZE];
	const char *key = http_header(r, "Sec-WebSocket-Key");

	if (!websocket_has_token(http_header(r, "Upgrade"), "websocket") || !key)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "attach/ws: the request is no WebSocket handshake");
	if (websocket_accept(key, accept, err) < 0)
		return -1;
	http_set_header(r, "Sec-WebSocket-Accept", accept);
	return attach(r, /* websocket */ true, err);
}

static int exec_parse(const struct json *body, struct exec_config *c, struct error *err)
{
	c->cwd = xstrdup(json_get_string(body, "WorkingDir"));
	c->user = xstrdup(json_get_string(body, "User"));
	c->detach_keys = xstrdup(json_get_string(body, "DetachKeys"));
	c->tty = json_get_bool(body, "Tty", false);
	c->privileged = json_get_bool(body, "Privileged", false);
	c->attach_stdin = json_get_bool(body, "AttachStdin", false);
	c->attach_stdout = json_get_bool(body, "AttachStdout", false);
	c->attach_stderr = json_get_bool(body, "AttachStderr", false);
	if (json_get_strv(body, "Cmd", &c->args, err) < 0 ||
	    json_get_strv(body, "Env", &c->env, err) < 0)
		return -1;
	if (c->args.n == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "no exec command specified");
	return 0;
}

HANDLER(exec_create)
{
	CLEANUP(exec_config_done) struct exec_config c = { 0 };
	autojson struct json *body = NULL;
	struct json *reply;
	char id[65];

	if (api_body_json(r, &body, err) < 0 || exec_parse(body, &c, err) < 0 ||
	    engine_exec_create(api_engine(r), api_ns(r), http_param(r, "id"), &c, id, err) < 0)
		return -1;
	reply = json_new_object();
	json_set_string(reply, "Id", id);
	http_reply_json(r, 201, reply);
	return 0;
}

static void console_size(const struct json *body, struct handover *h)
{
	const struct json *size = json_get(body, "ConsoleSize");

	if (json_array_len(size) != 2)
		return;
	h->height = (unsigned)json_int(json_array_get(size, 0), 0) & 0xffff;
	h->width = (unsigned)json_int(json_array_get(size, 1), 0) & 0xffff;
}

HANDLER(exec_start)
{
	CLEANUP(exec_view_done) struct exec_view v = { 0 };
	autojson struct json *body = NULL;
	struct handover *h;
	bool tty;

	if (api_body_json(r, &body, err) < 0 ||
	    engine_exec_check(api_engine(r), http_param(r, "id"), &tty, err) < 0 ||
	    engine_exec_inspect(api_engine(r), http_param(r, "id"), &v, err) < 0)
		return -1;
	if (json_get_bool(body, "Detach", false)) {
		struct attach_options none = { 0 };

		if (engine_exec_start(api_engine(r), v.id, &none, -1, 0, 0, err) < 0)
			return -1;
		http_reply_empty(r, 200);
		return 0;
	}
	h = handover_new(r);
	str_replace(&h->id, v.id);
	str_replace(&h->detach_keys, v.config.detach_keys);
	h->options.detach_keys = h->detach_keys;
	h->is_exec = true;
	h->options.in = v.config.attach_stdin;
	h->options.out = v.config.attach_stdout;
	h->options.errs = v.config.attach_stderr;
	h->options.mux = !tty;
	console_size(body, h);
	http_upgrade(r, stream_type(r, !tty), on_upgraded, h);
	return 0;
}

HANDLER(exec_inspect)
{
	CLEANUP(exec_view_done) struct exec_view v = { 0 };
	struct json *j, *process;
	struct strv rest = STRV_INIT;

	if (engine_exec_inspect(api_engine(r), http_param(r, "id"), &v, err) < 0)
		return -1;
	j = json_new_object();
	process = json_new_object();
	for (size_t i = 1; i < v.config.args.n; i++)
		strv_push(&rest, v.config.args.v[i]);
	json_set_string(j, "ID", v.id);
	json_set_bool(j, "Running", v.running);
	json_set(j, "ExitCode", v.started && !v.running ? json_new_int(v.exit_code) : NULL);
	json_set_bool(process, "tty", v.config.tty);
	json_set_string(process, "entrypoint", v.config.args.n > 0 ? v.config.args.v[0] : "");
	json_set(process, "arguments", json_new_strv(&rest));
	json_set_bool(process, "privileged", v.config.privileged);
	if (!str_empty(v.config.user))
		json_set_string(process, "user", v.config.user);
	json_set(j, "ProcessConfig", process);
	json_set_bool(j, "OpenStdin", v.config.attach_stdin);
	json_set_bool(j, "OpenStderr", v.config.attach_stderr);
	json_set_bool(j, "OpenStdout", v.config.attach_stdout);
	json_set_bool(j, "CanRemove", !v.running);
	json_set_string(j, "ContainerID", v.container_id);
	json_set_string(j, "DetachKeys", v.config.detach_keys ? v.config.detach_keys : "");
	json_set_int(j, "Pid", v.running ? v.pid : 0);
	strv_done(&rest);
	http_reply_json(r, 200, j);
	return 0;
}
