/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a process, in steps: the reaper knows (`ended`); its start has been told (`starting`
 * is over); its output has been taken; for an init, its execs' ends have been told; then the exit
 * is told, once (`told`): OOM first, then the event, then those who wait.
 */

#include "shim/container.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "containerd.events.pb-c.h"
#include "shim/events.h"
#include "shim/reaper.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#define EXEC_GRACE_MS 2000

struct waiter {
	struct list node;
	struct ttrpc_call *call;
};

void timestamp_set(Google__Protobuf__Timestamp *t, int64_t ns)
{
	t->seconds = ns / NSEC_PER_SEC;
	t->nanos = (int32_t)(ns % NSEC_PER_SEC);
}

/* Out of memory */

static void tell_oom(struct container *c)
{
	Containerd__Events__TaskOOM e = CONTAINERD__EVENTS__TASK_OOM__INIT;
	autofree char *mark = path_join(c->bundle, "oom", NULL);
	/* For a daemon that was away when the event was sent. */
	autoclose int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		log_warn("create '%s': %s, ignoring", mark, strerror(errno));
	e.container_id = c->id;
	event_publish("/tasks/oom", &e.base);
}

void process_check_oom(struct container *c)
{
	uint64_t n = c->cgroup ? cgroup_oom_kills(c->cgroup) : 0;

	if (n > c->oom_kills)
		tell_oom(c);
	c->oom_kills = MAX(n, c->oom_kills);
}

static void on_oom(int events UNUSED, void *arg)
{
	struct container *c = arg;
	char bytes[4096];
	ssize_t n = read(watch_fd(c->oom), bytes, sizeof(bytes));

	/* v1 signals also when the cgroup goes, again and again. */
	if (n <= 0 || c->init.ended) {
		watch_free(c->oom);
		c->oom = NULL;
		return;
	}
	process_check_oom(c);
}

void process_watch_oom(struct container *c)
{
	if (!c->cgroup || c->oom)
		return;
	c->oom = cgroup_watch_oom(c->cgroup, shim.loop, on_oom, c);
	if (c->oom)
		watch_set(c->oom, UV_READABLE);
}

/* Waiting */

static void reply_wait(const struct process *p, struct ttrpc_call *call)
{
	Containerd__Task__V3__WaitResponse reply = CONTAINERD__TASK__V3__WAIT_RESPONSE__INIT;
	Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	timestamp_set(&when, p->exited_at);
	reply.exit_status = p->exit_status;
	reply.exited_at = &when;
	ttrpc_call_reply(call, &reply.base);
}

static void on_wait_cancelled(struct ttrpc_call *call, void *arg)
{
	autoerror struct error err = ERROR_INIT;
	struct waiter *w = arg;

	list_remove(&w->node);
	free(w);
	error_set(&err, ERROR_CANCELLED, "client is gone");
	ttrpc_call_fail(call, &err);
}

void process_add_waiter(struct process *p, struct ttrpc_call *call)
{
	if (p->told) {
		reply_wait(p, call);
		return;
	}
	struct waiter *w = xnew(struct waiter);

	w->call = call;
	list_append(&p->waiters, &w->node);
	ttrpc_call_on_cancel(call, on_wait_cancelled, w);
}

/* The end */

static void tell_exit(struct process *p)
{
	Containerd__Events__TaskExit e = CONTAINERD__EVENTS__TASK_EXIT__INIT;
	Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	if (p->told)
		return;
	p->told = true;
	process_check_oom(p->container);
	timestamp_set(&when, p->exited_at);
	e.container_id = p->container->id;
	e.id = (char *)(uintptr_t)process_id(p);
	e.pid = (uint32_t)p->pid;
	e.exit_status = p->exit_status;
	e.exited_at = &when;
	event_publish("/tasks/exit", &e.base);
	LIST_FOREACH (w, &p->waiters, struct waiter, node) {
		list_remove(&w->node);
		reply_wait(p, w->call);
		free(w);
	}
}

static bool has_untold_execs(const struct container *c)
{
	LIST_FOREACH (p, &c->execs, struct process, node)
		if (p->pid > 0 && !p->told)
			return true;
	return false;
}

static void grace_over(void *arg)
{
	struct container *c = arg;

	c->exec_grace = NULL;
	tell_exit(&c->init);
}

static void on_drained(void *arg)
{
	struct process *p = arg;
	struct container *c = p->container;

	if (p->exec_id) {
		tell_exit(p);
		if (c->exec_grace && !has_untold_execs(c)) {
			loop_timer_cancel(c->exec_grace);
			c->exec_grace = NULL;
			tell_exit(&c->init);
		}
	} else if (has_untold_execs(c)) {
		c->exec_grace = loop_timer_start(shim.loop, EXEC_GRACE_MS, grace_over, c);
	} else {
		tell_exit(p);
	}
}

void process_settle(struct process *p)
{
	p->starting = false;
	if (p->ended && !p->told && p->state != PROCESS_STOPPED) {
		p->state = PROCESS_STOPPED;
		streams_process_exited(p->io, on_drained, p);
	}
}

static void on_exit_of_process(int status, int64_t when, void *arg)
{
	struct process *p = arg;

	p->watched = false;
	p->exit_status = reaper_exit_code(status);
	p->exited_at = when;
	p->ended = true;
	if (!p->starting)
		process_settle(p);
}

static pid_t read_pid(const char *path)
{
	autobuf struct buf text = BUF_INIT(32);
	int64_t pid = 0;

	if (fs_read(AT_FDCWD, path, &text) < 0 || parse_int64(text.data, &pid) < 0 || pid <= 1 ||
	    pid > INT32_MAX)
		return -1;
	return (pid_t)pid;
}

int process_started(struct process *p, const char *pid_file, struct error *err)
{
	pid_t pid = read_pid(pid_file);

	if (pid < 0)
		return error_set(err, ERROR_INTERNAL, "the OCI runtime left no pid in '%s'",
				 pid_file);
	p->pid = pid;
	/* Fails when it has ended and been reaped already; then there is nobody to signal either.
	 */
	p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	p->watched = true;
	reaper_watch(pid, on_exit_of_process, p);
	return 0;
}

int process_kill(struct process *p, int signal, struct error *err)
{
	if (p->pid <= 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "process '%s' is not running",
				 process_id(p));
	if (p->ended || p->pidfd < 0)
		return error_set(err, ERROR_NOT_FOUND, "process already finished: not found");
	if (syscall(SYS_pidfd_send_signal, p->pidfd, signal, NULL, 0) == 0)
		return 0;
	if (errno == ESRCH)
		return error_set(err, ERROR_NOT_FOUND, "process already finished: not found");
	return error_errno(err, errno, "send signal %d to process '%s'", signal, process_id(p));
}

void process_done(struct process *p)
{
	autoerror struct error err = ERROR_INIT;

	if (p->watched)
		reaper_forget(p->pid);
	error_set(&err, ERROR_NOT_FOUND, "process '%s': not found", process_id(p));
	LIST_FOREACH (w, &p->waiters, struct waiter, node) {
		list_remove(&w->node);
		ttrpc_call_fail(w->call, &err);
		free(w);
	}
	if (p->pidfd >= 0)
		close(p->pidfd);
	if (p->console_master >= 0)
		close(p->console_master);
	if (p->console_dir >= 0)
		close(p->console_dir);
	watch_free(p->console);
	streams_free(p->io);
	free(p->exec_id);
	free(p->in);
	free(p->out);
	free(p->err);
	free(p->spec);
}
