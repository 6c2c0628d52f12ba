/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a run. The loop only notes it and wakes who waits; the clearing up is done under the
 * container's lock by whoever gets it first: the job posted here, or an operation that was waiting
 * for just this (so a stop does not depend on a free thread).
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/internal.h"
#include "engine/restart.h"
#include "engine/sandbox-internal.h"

#include <signal.h>
#include <unistd.h>

static void finish_work(void *arg)
{
	struct container *c = arg;

	container_lock(c);
	container_finish(c);
	container_release(c);
}

/* Is it a pod's? */
static void reaper_ended(struct engine *e, const char *key)
{
	pthread_mutex_lock(&e->lock);
	struct sandbox *s = sandbox_ref(map_get(&e->sandboxes, key));
	pthread_mutex_unlock(&e->lock);
	if (s)
		sandbox_on_exit(s);
	sandbox_unref(s);
}

void engine_on_exit(struct task *t, const struct task_exit *x, void *arg)
{
	struct engine *e = arg;
	autofree char *key = table_key(task_ns(t), task_id(t));

	if (e->closing)
		return;
	pthread_mutex_lock(&e->lock);
	struct container *c = container_ref(map_get(&e->containers, key));
	bool mine = c && c->task == t;
	bool init = x->exec_id[0] == '\0';
	if (mine && init) {
		c->exited = true;
		c->exit_status = x->status;
		c->exited_at = x->exited_at;
		pthread_cond_broadcast(&c->changed);
	}
	pthread_mutex_unlock(&e->lock);
	if (mine && init)
		job_submit(e->config.jobs, JOB_OPS, finish_work, NULL, container_ref(c));
	else if (mine)
		exec_ended(c, x->exec_id, x->status);
	else if (init && !c)
		reaper_ended(e, key);
	container_unref(c);
}

/* Was it the kernel's doing? The shim leaves a mark; another's may not, but the cgroup is there. */
static bool oom_killed(struct task *t, unsigned status)
{
	autofree char *mark = path_join(task_bundle(t), "oom", NULL);
	struct task_stats stats;

	if (access(mark, F_OK) == 0)
		return true;
	return status == 128 + SIGKILL && task_stats(t, &stats, NULL) == 0 && stats.oom_kills > 0;
}

void engine_note_oom(struct engine *e, const char *ns, const char *id)
{
	autofree char *key = table_key(ns, id);

	if (e->closing)
		return;
	pthread_mutex_lock(&e->lock);
	struct container *c = container_ref(map_get(&e->containers, key));
	bool runs = c && c->task;
	if (runs)
		c->s.oom_killed = true;
	pthread_mutex_unlock(&e->lock);
	if (runs)
		container_emit(c, "oom", NULL, NULL);
	container_unref(c);
}

static void unmount_events(struct container *c)
{
	for (size_t i = 0; i < c->config.mounts.n; i++)
		if (str_equal(c->config.mounts.v[i].type, "volume"))
			volume_emit(c->e, c->ns, c->config.mounts.v[i].source, "unmount",
				    "container", c->id);
}

/* The task's remains: the runtime's state, the mount, the shim. */
static void end_task(struct container *c, struct task *t)
{
	container_end_execs(c);
	task_destroy(t);
}

/*
 * May the container go before its task's remains do? Its client gets on sooner by what the OCI
 * runtime takes for its `delete`; a bundle without a container is cleared away by recovery. With
 * init all others of its PID namespace are dead; where it had none, the runtime has to end them.
 */
static bool removed_first(const struct container *c)
{
	const char *mode = c->config.pid_mode;

	return c->config.auto_remove && !c->keep && c->s.status == CONTAINER_EXITED &&
	       (str_empty(mode) || str_equal(mode, "private"));
}

void container_finish(struct container *c)
{
	struct engine *e = c->e;

	pthread_mutex_lock(&e->lock);
	bool due = c->exited && c->task;
	struct task *t = due ? task_ref(c->task) : NULL;
	unsigned status = c->exit_status;
	int64_t exited_at = c->exited_at;
	pthread_mutex_unlock(&e->lock);
	if (!due)
		return;
	health_stop(c);
	bool oom = oom_killed(t, status);
	pthread_mutex_lock(&e->lock);
	c->exited = false;
	struct task *mine = TAKE_PTR(c->task);
	bool oom_is_news = oom && !c->s.oom_killed;
	c->s.oom_killed = c->s.oom_killed || oom;
	container_note_end(c, (int)status, exited_at);
	bool last = e->recovering == 0 && removed_first(c);
	pthread_mutex_unlock(&e->lock);
	/* Who waits for the end is told so now, and must not do anything whose event comes first.
	 */
	if (oom_is_news)
		container_emit(c, "oom", NULL, NULL);
	autofree char *code = xasprintf("%u", status);
	container_emit(c, "die", "exitCode", code);
	/* First the fact, then the shim goes, which was the only other one to know it. */
	if (!last)
		container_save(c);
	if (!last)
		end_task(c, t);

	container_leave_networks(c);
	volumes_unmount(c);
	unmount_events(c);
	container_settle(c, /* booted */ false);
	if (last)
		end_task(c, t);
	task_unref(t);
	task_unref(mine);
}

/* e->lock is held: an ended container becomes one that waits for its restart, if that is wanted. */
static void decide(struct container *c, int64_t run_ns, bool booted)
{
	struct restart_question q = {
		.max_retries = c->config.restart_max_retries,
		.retries = c->s.restart_count,
		.exit_code = c->s.exit_code,
		.stopped_by_user = c->s.stopped_by_user,
		.booted = booted,
	};

	restart_policy_parse(c->config.restart_policy, &q.policy);
	if (!restart_wanted(&q))
		return;
	c->s.restart_delay = booted ? 0 : restart_delay(c->s.restart_delay, run_ns);
	c->s.restart_count += !booted;
	c->s.status = CONTAINER_RESTARTING;
	c->s.stopped_by_user = false;
}

void container_note_end(struct container *c, int code, int64_t at)
{
	c->s.status = CONTAINER_EXITED;
	c->s.exit_code = code;
	c->s.finished_at = at;
	c->s.pid = 0;
	c->s.unsettled = true;
	decide(c, at - c->s.started_at, /* booted */ false);
	/* Who waits for the end need not wait for the clearing up: any further operation does. */
	waits_fire(c, /* removed */ false);
	pthread_cond_broadcast(&c->changed);
}

void container_settle(struct container *c, bool booted)
{
	struct engine *e = c->e;
	autoerror struct error err = ERROR_INIT;

	pthread_mutex_lock(&e->lock);
	if (e->recovering > 0) {
		pthread_mutex_unlock(&e->lock);
		return;
	}
	if (booted && c->s.status == CONTAINER_EXITED)
		decide(c, 0, /* booted */ true);
	c->s.unsettled = false;
	bool restart = c->s.status == CONTAINER_RESTARTING;
	bool remove = !restart && c->config.auto_remove && !c->keep;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&e->lock);
	if (remove) {
		if (container_remove(c, /* volumes */ true, &err) < 0)
			log_err("remove container '%s': %s", c->id, error_msg(&err));
		return;
	}
	container_save(c);
	container_save_record(c);
	if (restart)
		container_start_timer(c, c->s.restart_delay);
}

/* --- the timer: one a container, on the loop --- */

struct timer_start {
	struct container *c;
	uint64_t ms, serial;
};

static void stop_timer_now(struct container *c)
{
	if (!c->timer)
		return;
	loop_timer_cancel(TAKE_PTR(c->timer));
	container_unref(c);
}

static void timer_work(void *arg)
{
	struct container *c = arg;
	autoerror struct error err = ERROR_INIT;

	container_lock(c);
	if (c->gone) {
		container_release(c);
		return;
	}
	if (c->s.status == CONTAINER_RESTARTING) {
		if (container_start(c, &err) < 0) {
			log_warn("restart container '%s': %s", c->id, error_msg(&err));
			pthread_mutex_lock(&c->e->lock);
			container_note_end(c, c->s.exit_code, time_realtime());
			pthread_mutex_unlock(&c->e->lock);
			container_settle(c, /* booted */ false);
		}
	} else if (c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED) {
		container_reconnect(c);
	}
	container_release(c);
}

static void on_timer(void *arg)
{
	struct container *c = arg;

	c->timer = NULL;
	/* The timer's reference goes on to the job. */
	job_submit(c->e->config.jobs, JOB_OPS, timer_work, NULL, c);
}

static void start_timer_now(void *arg)
{
	struct timer_start *s = arg;
	struct container *c = s->c;

	pthread_mutex_lock(&c->e->lock);
	bool wanted = c->timer_serial == s->serial && !c->e->closing;
	pthread_mutex_unlock(&c->e->lock);
	if (wanted) {
		stop_timer_now(c);
		c->timer = loop_timer_start(c->e->config.loop, s->ms, on_timer, container_ref(c));
	}
	container_unref(c);
	free(s);
}

void container_start_timer(struct container *c, uint64_t ms)
{
	struct timer_start *s = xnew(struct timer_start);

	s->c = container_ref(c);
	s->ms = ms;
	pthread_mutex_lock(&c->e->lock);
	s->serial = ++c->timer_serial;
	pthread_mutex_unlock(&c->e->lock);
	loop_post(c->e->config.loop, start_timer_now, s);
}

static void cancel_on_loop(void *arg)
{
	struct container *c = arg;

	stop_timer_now(c);
	container_unref(c);
}

void container_cancel_timer(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	c->timer_serial++;
	pthread_mutex_unlock(&c->e->lock);
	if (loop_is_current(c->e->config.loop))
		stop_timer_now(c);
	else
		loop_post(c->e->config.loop, cancel_on_loop, container_ref(c));
}
