/* SPDX-License-Identifier: Apache-2.0 */
#include "image/worker.h"

#include "base/mem.h"

#include <assert.h>
#include <poll.h>
#include <sys/socket.h>

#define END_TIMEOUT_MS 5000

int worker_spawn(struct worker *w, const char *program, const char *verb, struct error *err)
{
	static char *const no_env[] = { NULL };
	char *const argv[] = { (char *)"kistl-image", (char *)verb, NULL };
	int pair[2];
	struct process_fd fd;
	const struct process_spec spec = {
		.path = program,
		.argv = argv,
		.envp = no_env,
		.cwd = "/",
		.fds = &fd,
		.n_fds = 1,
		.flags = PROCESS_NEW_SESSION,
	};

	assert(w->pid == 0);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "socketpair");
	fd = (struct process_fd){ .fd = pair[1], .target = WORKER_FD };
	w->pid = process_spawn(&spec, &w->pidfd, err);
	close(pair[1]);
	if (w->pid < 0) {
		w->pid = 0;
		close(pair[0]);
		return error_wrap(err, "start '%s %s'", program, verb);
	}
	w->sock = pair[0];
	w->verb = verb;
	w->done = false;
	return 0;
}

/* The worker is gone without a word. */
static int report_death(struct worker *w, struct error *err)
{
	autofree char *how = NULL;
	int status;

	if (process_wait(w->pid, w->pidfd, END_TIMEOUT_MS, &status, err) < 0)
		error_wrap(err, "kistl-image %s", w->verb);
	else {
		how = process_status_string(status);
		error_set(err, ERROR_INTERNAL, "kistl-image %s: %s", w->verb, how);
	}
	w->pid = 0;
	closep(&w->pidfd);
	w->pidfd = -1;
	return -1;
}

int worker_tell(struct worker *w, struct json *json, const int *fds, size_t n_fds,
		struct error *err)
{
	autoworkermessage struct worker_message last = WORKER_MESSAGE_INIT;
	autoerror struct error lost = ERROR_INIT;

	if (worker_send(w->sock, json, fds, n_fds, &lost) == 0)
		return 0;
	/* Its last word, if there is one, says more than "broken pipe". */
	for (;;) {
		if (worker_read(w, &last, err) < 0)
			return -1;
		if (w->done)
			return error_move(err, &lost);
		worker_message_done(&last);
	}
}

int worker_read(struct worker *w, struct worker_message *ret, struct error *err)
{
	autoerror struct error gone = ERROR_INIT;
	const char *event;

	if (worker_recv(w->sock, ret, &gone) < 0)
		return gone.code == ERROR_UNAVAILABLE ? report_death(w, err)
						      : error_move(err, &gone);
	event = worker_event(ret);
	if (str_equal(event, "error")) {
		worker_error_decode(ret->json, err);
		worker_message_done(ret);
		return -1;
	}
	w->done = str_equal(event, "done");
	return 0;
}

int worker_next(struct worker *w, struct cancel *cancel, struct worker_message *ret,
		struct error *err)
{
	struct pollfd p[2] = {
		{ .fd = w->sock, .events = POLLIN },
		{ .fd = cancel ? cancel_fd(cancel) : -1, .events = POLLIN },
	};

	for (;;) {
		int r = poll(p, 2, -1);

		if (r < 0 && errno != EINTR)
			return error_errno(err, errno, "poll");
		if (p[1].revents)
			return error_set(err, ERROR_CANCELLED, "cancelled");
		if (r > 0 && p[0].revents)
			return worker_read(w, ret, err);
	}
}

void worker_end(struct worker *w)
{
	int status;

	if (w->sock >= 0)
		close(w->sock); /* which ends the process */
	if (w->pid > 0)
		(void)process_wait(w->pid, w->pidfd, END_TIMEOUT_MS, &status, NULL);
	if (w->pidfd >= 0)
		close(w->pidfd);
	*w = WORKER_INIT;
}

const char *worker_event(const struct worker_message *m)
{
	const char *event = json_get_string(m->json, "event");

	return event ? event : "";
}
