/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command's output comes over a socket pair, whose other end the shim writes to with Docker's
 * stream headers. Usually the shim closes it right after the exit. It cannot while something that
 * the command has left behind holds the pipes open: then the answer goes as soon as nothing has
 * come for a moment, since a probe must not hang on what runs on behind it.
 */

#include "api/cri/execsync.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <string.h>
#include <sys/socket.h>

#define READ_SIZE (64 << 10)
#define DRAIN_MS 100
#define DRAIN_ROUNDS 20

struct run {
	struct engine *engine;
	void (*fn)(struct execsync_result *result, const struct error *err, void *arg);
	void *arg;
	char exec_id[65];
	int64_t deadline, timeout; /* 0: none */
	/* Loop: */
	unsigned refs; /* the answer, the exit, a kill under way */
	uv_poll_t poll;
	int fd;
	struct loop_timer *timer;
	struct execsync_result result;
	uint8_t head[ATTACH_HEADER_SIZE];
	size_t n_head;
	uint32_t left; /* of the piece */
	bool begun, ended, at_eof, timed_out, answered;
	bool busy; /* something came since the timer was set */
	unsigned rounds;
};

static void run_free(struct run *r)
{
	closep(&r->fd);
	buf_done(&r->result.out);
	buf_done(&r->result.errs);
	free(r);
}

static void run_unref(struct run *r)
{
	if (--r->refs == 0)
		run_free(r);
}

static void on_closed(uv_handle_t *handle)
{
	run_unref(CONTAINER_OF(handle, struct run, poll));
}

/* Once; err NULL: with the result. */
static void answer(struct run *r, const struct error *err)
{
	if (r->answered)
		return;
	r->answered = true;
	loop_timer_cancel(TAKE_PTR(r->timer));
	uv_poll_stop(&r->poll);
	r->fn(err ? NULL : &r->result, err, r->arg);
	uv_close((uv_handle_t *)&r->poll, on_closed);
}

static void take_piece(struct run *r, const char *p, size_t n)
{
	struct buf *b = r->head[0] == ATTACH_STDERR_HEADER ? &r->result.errs : &r->result.out;
	size_t room = b->max - b->len;

	buf_append(b, p, MIN(n, room));
}

static void take(struct run *r, const char *p, size_t n)
{
	while (n > 0) {
		size_t part;

		if (r->left > 0) {
			part = MIN(n, (size_t)r->left);
			take_piece(r, p, part);
			r->left -= (uint32_t)part;
		} else {
			part = MIN(n, sizeof(r->head) - r->n_head);
			memcpy(r->head + r->n_head, p, part);
			r->n_head += part;
			if (r->n_head == sizeof(r->head)) {
				r->n_head = 0;
				r->left = (uint32_t)r->head[4] << 24 | (uint32_t)r->head[5] << 16 |
					  (uint32_t)r->head[6] << 8 | r->head[7];
			}
		}
		p += part;
		n -= part;
	}
}

static void check_done(struct run *r)
{
	if (r->ended && r->at_eof && !r->timed_out)
		answer(r, NULL);
}

static void on_readable(uv_poll_t *handle, int status, int events UNUSED)
{
	struct run *r = CONTAINER_OF(handle, struct run, poll);
	char bytes[READ_SIZE];
	ssize_t n = status < 0 ? 0 : recv(r->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		uv_poll_stop(handle);
		r->at_eof = true;
		check_done(r);
		return;
	}
	r->busy = true;
	take(r, bytes, (size_t)n);
}

static void on_drain(void *arg);

static void start_drain(struct run *r)
{
	r->busy = false;
	r->timer = loop_timer_start(engine_loop(r->engine), DRAIN_MS, on_drain, r);
}

static void on_drain(void *arg)
{
	struct run *r = arg;

	r->timer = NULL;
	if (r->busy && ++r->rounds < DRAIN_ROUNDS)
		start_drain(r);
	else
		answer(r, NULL);
}

static void kill_work(void *arg)
{
	struct run *r = arg;
	autoerror struct error err = ERROR_INIT;

	if (engine_exec_kill_all(r->engine, r->exec_id, &err) < 0 && err.code != ERROR_NOT_FOUND)
		log_warn("kill a command that takes too long: %s", error_msg(&err));
}

static void on_killed(void *arg)
{
	struct run *r = arg;
	autoerror struct error err = ERROR_INIT;

	error_set(&err, ERROR_DEADLINE_EXCEEDED,
		  "failed to exec in container: timeout %llds exceeded: context deadline exceeded",
		  (long long)r->timeout);
	answer(r, &err);
	run_unref(r);
}

static void on_timeout(void *arg)
{
	struct run *r = arg;

	r->timer = NULL;
	r->timed_out = true;
	r->refs++;
	job_submit(engine_jobs(r->engine), JOB_OPS, kill_work, on_killed, r);
}

/* The command has ended; what it wrote has been sent. */
static void settle(struct run *r)
{
	if (r->answered || r->timed_out)
		return;
	loop_timer_cancel(TAKE_PTR(r->timer));
	check_done(r);
	if (!r->answered)
		start_drain(r);
}

static void on_ended(int exit_code, void *arg)
{
	struct run *r = arg;

	r->ended = true;
	r->result.exit_code = exit_code;
	if (r->begun)
		settle(r);
	run_unref(r);
}

static void begin(void *arg)
{
	struct run *r = arg;
	autoerror struct error err = ERROR_INIT;
	int64_t now = time_monotonic();

	r->begun = true;
	int rc = uv_poll_init(loop_uv(engine_loop(r->engine)), &r->poll, r->fd);
	if (rc < 0) {
		error_errno(&err, -rc, "watch the output of a command");
		r->answered = true;
		r->fn(NULL, &err, r->arg);
		run_unref(r);
		return;
	}
	uv_poll_start(&r->poll, UV_READABLE, on_readable);
	if (r->ended) {
		settle(r);
		return;
	}
	if (r->deadline > 0) {
		int64_t left = r->deadline > now ? (r->deadline - now) / NSEC_PER_MSEC : 0;

		r->timer = loop_timer_start(engine_loop(r->engine), (uint64_t)left, on_timeout, r);
	}
}

int execsync(struct engine *e, const char *ns, const char *container_id, const struct strv *cmd,
	     int64_t timeout,
	     void (*fn)(struct execsync_result *result, const struct error *err, void *arg),
	     void *arg, struct error *err)
{
	struct exec_config config = { .attach_stdout = true, .attach_stderr = true };
	struct exec_run run = {
		.ns = ns,
		.id = container_id,
		.config = &config,
		.attach = { .out = true, .errs = true, .mux = true },
		.fn = on_ended,
	};
	int pair[2];

	if (timeout < 0 || timeout > INT32_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "timeout of %lld seconds",
				 (long long)timeout);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_errno(err, errno, "make a socket pair");
	struct run *r = xnew(struct run);
	r->engine = e;
	r->fn = fn;
	r->arg = arg;
	r->refs = 2;
	r->fd = pair[0];
	r->result.out = r->result.errs = BUF_INIT(EXECSYNC_OUTPUT_MAX);
	r->timeout = timeout;
	if (timeout > 0)
		r->deadline = time_monotonic() + timeout * NSEC_PER_SEC;
	strv_copy(&config.args, cmd);
	run.arg = r;
	int rc = engine_exec_run(e, &run, pair[1], r->exec_id, err);
	exec_config_done(&config);
	if (rc < 0)
		run_free(r);
	else
		loop_post(engine_loop(e), begin, r);
	return rc;
}
