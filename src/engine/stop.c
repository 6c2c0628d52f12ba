/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stop, kill, restart, pause. A stop gives the container's lock up while it waits, so that an
 * inspect, a kill or an attach is not held up by it.
 */

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/sandbox-internal.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define STOP_TIMEOUT 10 /* seconds */
#define KILL_TIMEOUT_MS 10000
#define YOUNG (10 * NSEC_PER_SEC) /* may not have set its handlers yet */
#define HANDLER_TIMEOUT_MS 5000

static struct timespec deadline_after(int64_t ms)
{
	int64_t at = time_monotonic() + ms * NSEC_PER_MSEC;

	return (struct timespec){ .tv_sec = at / NSEC_PER_SEC, .tv_nsec = at % NSEC_PER_SEC };
}

/* Waits, unlocked, until this task has ended or the time is over (ms, < 0: for ever). */
static bool wait_exit(struct container *c, const struct task *t, int64_t timeout_ms)
{
	struct engine *e = c->e;
	struct timespec until = deadline_after(MAX(timeout_ms, (int64_t)0));
	int r = 0;

	container_unlock(c);
	job_wait_begin();
	pthread_mutex_lock(&e->lock);
	while (c->task == t && !c->exited && r != ETIMEDOUT)
		r = timeout_ms < 0 ? pthread_cond_wait(&c->changed, &e->lock)
				   : pthread_cond_timedwait(&c->changed, &e->lock, &until);
	pthread_mutex_unlock(&e->lock);
	job_wait_end();
	container_lock(c);
	container_finish(c);
	return c->task != t;
}

int container_signal(struct container *c, struct task *t, int signal, struct error *err)
{
	autoerror struct error why = ERROR_INIT;

	/* A process that has just ended is as good as one that took the signal. */
	if (task_kill(t, "", signal, /* all */ false, &why) < 0 && !error_is(&why, ERROR_NOT_FOUND))
		return error_move(err, &why);
	if (c->s.status == CONTAINER_PAUSED && task_resume(t, NULL) == 0) {
		container_set_status(c, CONTAINER_RUNNING);
		container_save(c);
	}
	autofree char *number = xasprintf("%d", signal);
	container_emit(c, "kill", "signal", number);
	return 0;
}

static void note_stop(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	c->s.stopped_by_user = true;
	pthread_mutex_unlock(&c->e->lock);
	container_save(c);
}

int container_kill_wait(struct container *c, struct error *err)
{
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);

	if (!t)
		return -1;
	note_stop(c);
	if (container_signal(c, t, SIGKILL, err) < 0)
		return -1;
	if (!wait_exit(c, t, KILL_TIMEOUT_MS))
		return error_set(err, ERROR_DEADLINE_EXCEEDED,
				 "tried to kill container %s, but did not receive an exit event",
				 c->id);
	return 0;
}

/* A container that waits for its restart: it does not come. */
static void cancel_restart(struct container *c)
{
	container_cancel_timer(c);
	container_set_status(c, CONTAINER_EXITED);
	note_stop(c);
	container_save_record(c);
}

static int stop_signal(const struct container *c, const char *signal, struct error *err)
{
	const char *word = !str_empty(signal)		       ? signal
			   : !str_empty(c->config.stop_signal) ? c->config.stop_signal
							       : "SIGTERM";
	int n = signal_parse(word);

	if (n <= 0)
		error_set(err, ERROR_INVALID_ARGUMENT, "Invalid signal: %s", word);
	return n;
}

/* Of a line of /proc/PID/status: sixteen hexadecimal digits. */
static bool mask_has(const char *status, const char *name, int signal)
{
	const char *line = strstr(status, name), *digits = "0123456789abcdef", *digit;

	if (!line || strlen(line) < strlen(name) + 16 || signal > 64)
		return true;
	digit = strchr(digits, line[strlen(name) + 15 - (size_t)(signal - 1) / 4]);
	return !digit || (digit - digits) >> ((signal - 1) % 4) & 1;
}

/* The kernel throws signals away that the first process of a pid namespace has no handler for. */
static bool is_lost_on(int pid, int signal)
{
	autobuf struct buf status = BUF_INIT(64 << 10);
	autofree char *path = xasprintf("/proc/%d/status", pid);

	return pid > 0 && fs_read(AT_FDCWD, path, &status) == 0 &&
	       !mask_has(status.data, "\nSigCgt:\t", signal) &&
	       !mask_has(status.data, "\nSigBlk:\t", signal) &&
	       !mask_has(status.data, "\nSigIgn:\t", signal);
}

/*
 * A stop right after the start can be faster than the process, which then would live on until the
 * time is over. It gets the signal once more as soon as it has a handler. True: it has ended;
 * *left_ms is what remains of the time.
 */
static bool signal_once_caught(struct container *c, struct task *t, int signal, int64_t *left_ms)
{
	int64_t pause = 5;

	for (int64_t waited = 0; waited < HANDLER_TIMEOUT_MS; waited += pause) {
		pause = MIN(MIN(pause * 2, (int64_t)100), *left_ms);
		if (wait_exit(c, t, pause))
			return true;
		*left_ms -= pause;
		if (*left_ms <= 0)
			return false;
		if (!is_lost_on(c->s.pid, signal)) {
			task_kill(t, "", signal, /* all= */ false, NULL);
			return false;
		}
	}
	return false;
}

/* Time in seconds, < 0: for ever. */
static bool wait_stop(struct container *c, struct task *t, int signal, bool lost, int timeout)
{
	int64_t left = timeout < 0 ? INT64_MAX : (int64_t)timeout * 1000;

	if (lost && left > 0 && signal_once_caught(c, t, signal, &left))
		return true;
	return wait_exit(c, t, timeout < 0 ? -1 : left);
}

static int stop_running(struct container *c, int timeout, const char *signal, struct error *err)
{
	int number = stop_signal(c, signal, err);

	if (number <= 0)
		return -1;
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	if (!t)
		return -1;
	if (timeout == -2)
		timeout = c->config.stop_timeout >= 0 ? (int)c->config.stop_timeout : STOP_TIMEOUT;
	note_stop(c);
	/* Of a pod's: calls may overlap, and the process hears of it once. */
	bool silent = container_in_pod(c) && (c->stopping || timeout == 0);
	c->stopping = true;
	bool lost = !silent && time_realtime() - c->s.started_at < YOUNG &&
		    is_lost_on(c->s.pid, number);
	if (!silent && container_signal(c, t, number, err) < 0)
		return -1;
	if (!wait_stop(c, t, number, lost, timeout) && container_kill_wait(c, err) < 0)
		return -1;
	container_emit(c, "stop", NULL, NULL);
	return 0;
}

int engine_stop(struct engine *e, const char *ns, const char *id, int timeout, const char *signal,
		bool *ret_changed, struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	if (!c)
		return -1;
	bool restarting = c->s.status == CONTAINER_RESTARTING;
	bool running = c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED;
	if (ret_changed)
		*ret_changed = running || restarting;
	if (restarting)
		cancel_restart(c);
	return running ? stop_running(c, timeout, signal, err) : 0;
}

int engine_restart(struct engine *e, const char *ns, const char *id, int timeout,
		   const char *signal, struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	if (!c)
		return -1;
	if (c->s.status == CONTAINER_RESTARTING)
		cancel_restart(c);
	if (c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED) {
		c->keep = true;
		int r = stop_running(c, timeout, signal, err);
		c->keep = false;
		if (r < 0)
			return -1;
	}
	if (c->gone)
		return error_set(err, ERROR_NOT_FOUND, "No such container: %s", id);
	if (c->s.status != CONTAINER_RUNNING && container_start(c, err) < 0)
		return -1;
	container_emit(c, "restart", NULL, NULL);
	return 0;
}

int engine_kill(struct engine *e, const char *ns, const char *id, int signal, struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	if (!c)
		return -1;
	if (c->s.status == CONTAINER_RESTARTING && signal == SIGKILL) {
		cancel_restart(c);
		return 0;
	}
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	if (!t)
		return error_wrap(err, "cannot kill container: %s", id);
	if (signal == SIGKILL)
		return container_kill_wait(c, err);
	note_stop(c);
	return container_signal(c, t, signal, err);
}

int engine_pause(struct engine *e, const char *ns, const char *id, struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	if (!c)
		return -1;
	if (c->s.status == CONTAINER_PAUSED)
		return error_set(err, ERROR_FAILED_PRECONDITION, "Container %s is already paused",
				 c->id);
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	if (!t)
		return -1;
	if (task_pause(t, err) < 0)
		return error_wrap(err, "cannot pause container %s", id);
	container_set_status(c, CONTAINER_PAUSED);
	container_save(c);
	container_emit(c, "pause", NULL, NULL);
	return 0;
}

int engine_unpause(struct engine *e, const char *ns, const char *id, struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	if (!c)
		return -1;
	if (c->s.status != CONTAINER_PAUSED)
		return error_set(err, ERROR_FAILED_PRECONDITION, "Container %s is not paused",
				 c->id);
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	if (!t)
		return -1;
	if (task_resume(t, err) < 0)
		return error_wrap(err, "cannot unpause container %s", id);
	container_set_status(c, CONTAINER_RUNNING);
	container_save(c);
	container_emit(c, "unpause", NULL, NULL);
	return 0;
}

int engine_resize(struct engine *e, const char *ns, const char *id, unsigned height, unsigned width,
		  struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);

	if (!c)
		return -1;
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	if (!t || task_resize(t, "", width, height, err) < 0)
		return -1;
	container_emit(c, "resize", NULL, NULL);
	return 0;
}
