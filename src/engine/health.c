/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Health checks: an exec every interval, judged by its exit code. The monitor lives on the loop;
 * the exec is started by a job, its end comes back to the loop, a timer ends one that takes too
 * long. No thread waits for a check.
 */

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/internal.h"

#include <signal.h>
#include <string.h>

#define DEFAULT_INTERVAL (30 * NSEC_PER_SEC)
#define DEFAULT_TIMEOUT (30 * NSEC_PER_SEC)
#define DEFAULT_START_INTERVAL (5 * NSEC_PER_SEC)
#define DEFAULT_RETRIES 3

struct health {
	atomic_uint refs;
	struct container *container; /* referenced */
	struct health_spec spec;     /* numbers only */
	/* Loop: */
	bool stopped;
	struct loop_timer *next;    /* holds a reference */
	struct loop_timer *timeout; /* so does this */
	struct exec *exec;	    /* of the check under way; e->lock too: the job sets it */
	int64_t probe_start;	    /* e->lock */
	bool timed_out;
};

static void health_unref(struct health *h)
{
	if (--h->refs > 0)
		return;
	container_unref(h->container);
	free(h);
}

static struct health *health_ref(struct health *h)
{
	h->refs++;
	return h;
}

static int64_t or_default(int64_t v, int64_t fallback)
{
	return v > 0 ? v : fallback;
}

static void cancel(struct health *h, struct loop_timer **t)
{
	if (!*t)
		return;
	loop_timer_cancel(*t);
	*t = NULL;
	health_unref(h);
}

static bool in_start_period(struct health *h)
{
	struct container *c = h->container;

	pthread_mutex_lock(&c->e->lock);
	bool starting = str_equal(c->s.health, "starting");
	int64_t started = c->s.started_at;
	pthread_mutex_unlock(&c->e->lock);
	return starting && time_realtime() - started < h->spec.start_period;
}

static void probe_work(void *arg);

static void on_next(void *arg)
{
	struct health *h = arg;

	h->next = NULL;
	/* The timer's reference goes on to the job. */
	job_submit(h->container->e->config.jobs, JOB_OPS, probe_work, NULL, h);
}

static void schedule(struct health *h)
{
	int64_t ns = in_start_period(h) && h->spec.start_interval > 0
			     ? or_default(h->spec.start_interval, DEFAULT_START_INTERVAL)
			     : or_default(h->spec.interval, DEFAULT_INTERVAL);

	if (h->stopped || h->container->e->closing)
		return;
	h->next = loop_timer_start(h->container->e->config.loop, (uint64_t)(ns / NSEC_PER_MSEC),
				   on_next, health_ref(h));
}

/* Loop. */
static void judge(struct health *h, bool good)
{
	struct container *c = h->container;
	bool lenient = in_start_period(h);
	int64_t retries = or_default(h->spec.retries, DEFAULT_RETRIES);

	pthread_mutex_lock(&c->e->lock);
	autofree char *before = xstrdup(c->s.health);
	if (good) {
		c->s.health_failures = 0;
		str_replace(&c->s.health, "healthy");
	} else if (!lenient && ++c->s.health_failures >= retries) {
		str_replace(&c->s.health, "unhealthy");
	}
	autofree char *after = xstrdup(c->s.health);
	pthread_mutex_unlock(&c->e->lock);
	if (str_equal(before, after))
		return;
	container_save(c);
	autofree char *action = xasprintf("health_status: %s", after);
	container_emit(c, action, NULL, NULL);
}

struct verdict {
	struct health *h; /* referenced */
	int exit_code;
};

/* Loop: into the log that inspect shows. */
static void note_result(struct health *h, int exit_code)
{
	struct container *c = h->container;
	struct health_result result = { .end = time_realtime(), .exit_code = exit_code };

	if (h->timed_out) {
		int64_t ns = or_default(h->spec.timeout, DEFAULT_TIMEOUT);

		result.exit_code = -1;
		result.output = xasprintf("Health check exceeded timeout (%lldms)",
					  (long long)(ns / NSEC_PER_MSEC));
	}
	h->timed_out = false;
	pthread_mutex_lock(&c->e->lock);
	result.start = h->probe_start;
	if (c->n_health_results == HEALTH_RESULTS) {
		free(c->health_results[0].output);
		memmove(&c->health_results[0], &c->health_results[1],
			(HEALTH_RESULTS - 1) * sizeof(c->health_results[0]));
		c->n_health_results--;
	}
	c->health_results[c->n_health_results++] = result;
	pthread_mutex_unlock(&c->e->lock);
}

void health_forget(struct container *c)
{
	while (c->n_health_results > 0)
		free(c->health_results[--c->n_health_results].output);
}

static void conclude(void *arg)
{
	struct verdict *v = arg;
	struct health *h = v->h;

	cancel(h, &h->timeout);
	if (!h->stopped) {
		note_result(h, v->exit_code);
		judge(h, v->exit_code == 0);
		schedule(h);
	}
	health_unref(h);
	free(v);
}

/* Takes the reference. */
static void conclude_later(struct health *h, int exit_code)
{
	struct verdict *v = xnew(struct verdict);

	*v = (struct verdict){ .h = h, .exit_code = exit_code };
	loop_post(h->container->e->config.loop, conclude, v);
}

static struct exec *take_exec(struct health *h)
{
	pthread_mutex_lock(&h->container->e->lock);
	struct exec *x = TAKE_PTR(h->exec);
	pthread_mutex_unlock(&h->container->e->lock);
	return x;
}

/* Loop; the exec's reference of h goes on to the verdict. */
static void on_exec_end(struct exec *x, void *arg)
{
	struct health *h = arg;
	struct exec *mine = take_exec(h);

	conclude_later(h, x->exit_code);
	if (mine) {
		exec_forget(mine);
		exec_unref(mine);
	}
}

static void kill_work(void *arg)
{
	struct health *h = arg;
	struct container *c = h->container;
	CLEANUP(task_unrefp) struct task *t = container_task(c, NULL);

	pthread_mutex_lock(&c->e->lock);
	char id[65] = "";
	if (h->exec)
		memcpy(id, h->exec->id, sizeof(id));
	pthread_mutex_unlock(&c->e->lock);
	if (t && id[0])
		task_kill(t, id, SIGKILL, /* all */ false, NULL);
	health_unref(h);
}

static void on_timeout(void *arg)
{
	struct health *h = arg;

	h->timeout = NULL;
	h->timed_out = true;
	job_submit(h->container->e->config.jobs, JOB_OPS, kill_work, NULL, h);
}

static void start_timeout(void *arg)
{
	struct health *h = arg;
	int64_t ns = or_default(h->spec.timeout, DEFAULT_TIMEOUT);

	pthread_mutex_lock(&h->container->e->lock);
	bool running = h->exec != NULL;
	pthread_mutex_unlock(&h->container->e->lock);
	if (running && !h->stopped)
		h->timeout =
			loop_timer_start(h->container->e->config.loop,
					 (uint64_t)(ns / NSEC_PER_MSEC), on_timeout, health_ref(h));
	health_unref(h);
}

static void check_args(const struct container_config *k, struct strv *args)
{
	const struct strv *test = &k->health.test;

	if (str_equal(test->v[0], "CMD-SHELL")) {
		strv_push(args, "/bin/sh");
		strv_push(args, "-c");
	}
	bool verb = str_equal(test->v[0], "CMD") || str_equal(test->v[0], "CMD-SHELL");
	for (size_t i = verb; i < test->n; i++)
		strv_push(args, test->v[i]);
}

/* A job; owns a reference. */
static void probe_work(void *arg)
{
	struct health *h = arg;
	struct container *c = h->container;
	struct exec_config config = { 0 };
	const struct attach_options none = { 0 };
	autoerror struct error err = ERROR_INIT;

	check_args(&c->config, &config.args);
	struct exec *x = exec_new(c, &config);
	x->hidden = true;
	x->on_end = on_exec_end;
	x->arg = health_ref(h);
	pthread_mutex_lock(&c->e->lock);
	h->exec = x; /* with the reference */
	h->probe_start = time_realtime();
	pthread_mutex_unlock(&c->e->lock);
	loop_post(c->e->config.loop, start_timeout, health_ref(h));
	if (exec_start(x, &none, -1, &err) < 0) {
		struct exec *mine = take_exec(h);

		/* If it is not there any more, its end has been told all the same. */
		if (mine) {
			log_debug("health check of '%s': %s", c->id, error_msg(&err));
			exec_forget(mine);
			exec_unref(mine);
			conclude_later(h, -1);
		}
	}
	health_unref(h);
}

struct beginning {
	struct container *c; /* referenced */
	struct health *h;
};

static void stop_now(struct container *c)
{
	struct health *h = TAKE_PTR(c->health);

	if (!h)
		return;
	h->stopped = true;
	cancel(h, &h->next);
	cancel(h, &h->timeout);
	health_unref(h);
}

static void begin(void *arg)
{
	struct beginning *b = arg;

	stop_now(b->c);
	b->c->health = b->h;
	schedule(b->h);
	container_unref(b->c);
	free(b);
}

void health_start(struct container *c, bool fresh)
{
	const struct health_spec *spec = &c->config.health;

	if (spec->none || spec->test.n == 0 || str_equal(spec->test.v[0], "NONE"))
		return;
	struct beginning *b = xnew(struct beginning);
	b->c = container_ref(c);
	b->h = xnew(struct health);
	b->h->refs = 1;
	b->h->container = container_ref(c);
	b->h->spec = *spec;
	b->h->spec.test = STRV_INIT;
	pthread_mutex_lock(&c->e->lock);
	if (fresh || str_empty(c->s.health)) {
		str_replace(&c->s.health, "starting");
		c->s.health_failures = 0;
		health_forget(c);
	}
	pthread_mutex_unlock(&c->e->lock);
	loop_post(c->e->config.loop, begin, b);
}

static void stop_on_loop(void *arg)
{
	struct container *c = arg;

	stop_now(c);
	container_unref(c);
}

void health_stop(struct container *c)
{
	if (c->config.health.test.n == 0)
		return;
	if (loop_is_current(c->e->config.loop))
		stop_now(c);
	else
		loop_post(c->e->config.loop, stop_on_loop, container_ref(c));
}
