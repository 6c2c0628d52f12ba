/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/reaper.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"

#include <assert.h>
#include <signal.h>
#include <sys/wait.h>

/* A container may lose many orphans while a runtime runs; older ones are the likelier strangers. */
#define UNKNOWN_MAX 1024

struct child {
	struct list node;
	pid_t pid;
	int status;
	int64_t when;
	reaper_fn fn;
	void *arg;
};

static struct {
	struct loop *loop;
	uv_signal_t sigchld;
	struct list watched;
	struct list unknown;
	struct list late; /* watched after they had ended; a post is on its way */
	unsigned n_unknown;
	unsigned holds;
} reaper;

static struct child *find(struct list *l, pid_t pid)
{
	LIST_FOREACH (c, l, struct child, node)
		if (c->pid == pid)
			return c;
	return NULL;
}

static void drop(struct child *c)
{
	list_remove(&c->node);
	free(c);
}

static void remember(pid_t pid, int status, int64_t when)
{
	struct child *c;

	if (reaper.holds == 0)
		return;
	if (reaper.n_unknown >= UNKNOWN_MAX) {
		drop(LIST_ENTRY(reaper.unknown.next, struct child, node));
		reaper.n_unknown--;
	}
	c = xnew(struct child);
	*c = (struct child){ .pid = pid, .status = status, .when = when };
	list_append(&reaper.unknown, &c->node);
	reaper.n_unknown++;
}

static void on_sigchld(uv_signal_t *handle UNUSED, int signum UNUSED)
{
	int status;

	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0;) {
		int64_t now = time_realtime();
		struct child *c = find(&reaper.watched, pid);

		if (!c) {
			remember(pid, status, now);
			continue;
		}
		reaper_fn fn = c->fn;
		void *arg = c->arg;

		drop(c);
		fn(status, now, arg);
	}
}

int reaper_start(struct loop *l, struct error *err)
{
	int r;

	reaper.loop = l;
	list_init(&reaper.watched);
	list_init(&reaper.unknown);
	list_init(&reaper.late);
	r = uv_signal_init(loop_uv(l), &reaper.sigchld);
	if (r == 0)
		r = uv_signal_start(&reaper.sigchld, on_sigchld, SIGCHLD);
	return r < 0 ? error_errno(err, -r, "watch for child processes") : 0;
}

void reaper_stop(void)
{
	uv_close((uv_handle_t *)&reaper.sigchld, NULL);
	LIST_FOREACH (c, &reaper.watched, struct child, node)
		drop(c);
	LIST_FOREACH (c, &reaper.unknown, struct child, node)
		drop(c);
	LIST_FOREACH (c, &reaper.late, struct child, node)
		drop(c);
}

void reaper_hold(void)
{
	reaper.holds++;
}

void reaper_release(void)
{
	assert(reaper.holds > 0);
	if (--reaper.holds > 0)
		return;
	LIST_FOREACH (c, &reaper.unknown, struct child, node)
		drop(c);
	reaper.n_unknown = 0;
}

static void run_late(void *arg UNUSED)
{
	while (!list_is_empty(&reaper.late)) {
		struct child *c = LIST_ENTRY(reaper.late.next, struct child, node);
		struct child copy = *c;

		drop(c);
		copy.fn(copy.status, copy.when, copy.arg);
	}
}

void reaper_watch(pid_t pid, reaper_fn fn, void *arg)
{
	struct child *c = find(&reaper.unknown, pid);

	if (c) {
		list_remove(&c->node);
		reaper.n_unknown--;
		list_append(&reaper.late, &c->node);
		loop_post(reaper.loop, run_late, NULL);
	} else {
		c = xnew(struct child);
		c->pid = pid;
		list_append(&reaper.watched, &c->node);
	}
	c->fn = fn;
	c->arg = arg;
}

void reaper_forget(pid_t pid)
{
	struct child *c = find(&reaper.watched, pid);

	if (!c)
		c = find(&reaper.late, pid);
	if (c)
		drop(c);
}

uint32_t reaper_exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + (uint32_t)WTERMSIG(status)
				   : (uint32_t)WEXITSTATUS(status);
}
