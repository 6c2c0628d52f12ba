/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at the directory when it changes, and every now and then anyway: it may not exist yet, its
 * file system may not tell, a plugin's binary may come later, and plugins may change their mind.
 * Reading is done on a pool thread; the loop only learns when to ask for it.
 */
#include "base/mem.h"
#include "loop/job.h"
#include "network/cni-internal.h"

#include <assert.h>

/* Between two looks: while a directory or a plugin is missing, while plugins are asked, else. */
#define RESCAN_MISSING_MS 2000
#define RESCAN_ASKING_MS 5000
#define RESCAN_MS 30000
/* Files come in several steps; each event but the first of a burst waits for this. */
#define SETTLE_MS 50

struct cni_watch {
	struct cni *cni; /* NULL: stopped */
	struct loop *loop;
	struct jobs *jobs;
	uv_fs_event_t *event; /* NULL: the directory was not there */
	struct loop_timer *timer;
	bool running, again;
};

static void rescan(void *arg);

static void on_event_closed(uv_handle_t *handle)
{
	free(handle);
}

static void event_stop(struct cni_watch *w)
{
	if (w->event)
		uv_close((uv_handle_t *)w->event, on_event_closed);
	w->event = NULL;
}

static void schedule(struct cni_watch *w, uint64_t ms)
{
	loop_timer_cancel(w->timer);
	w->timer = loop_timer_start(w->loop, ms, rescan, w);
}

static void on_event(uv_fs_event_t *handle, const char *name UNUSED, int events UNUSED,
		     int status UNUSED)
{
	struct cni_watch *w = handle->data;

	if (w->running)
		w->again = true;
	else
		schedule(w, SETTLE_MS);
}

/* Anew each time: the directory may have been replaced, and a watch follows the old one. */
static void event_start(struct cni_watch *w)
{
	uv_fs_event_t *event = xnew(uv_fs_event_t);

	event_stop(w);
	uv_fs_event_init(loop_uv(w->loop), event);
	event->data = w;
	if (uv_fs_event_start(event, on_event, w->cni->conf_dir, 0) < 0)
		uv_close((uv_handle_t *)event, on_event_closed);
	else
		w->event = event;
}

static void work(void *arg)
{
	struct cni_watch *w = arg;

	cni_reload(w->cni);
}

static uint64_t next_look(const struct cni_watch *w)
{
	struct cni *c = w->cni;
	uint64_t ms = RESCAN_MS;

	pthread_mutex_lock(&c->lock);
	/* That a directory is empty need not be found out again and again. */
	if (c->loaded.reason && (c->loaded.text || !w->event))
		ms = RESCAN_MISSING_MS;
	else if (c->loaded.external && !c->asked)
		ms = 0;
	else if (c->loaded.asks)
		ms = RESCAN_ASKING_MS;
	pthread_mutex_unlock(&c->lock);
	return ms;
}

static void done(void *arg)
{
	struct cni_watch *w = arg;
	struct cni *c = w->cni;

	w->running = false;
	if (c->watch == w)
		schedule(w, w->again ? SETTLE_MS : next_look(w));
	else
		free(w);
	cni_unref(c);
}

static void rescan(void *arg)
{
	struct cni_watch *w = arg;

	w->timer = NULL;
	w->running = true;
	w->again = false;
	/* Before the look: what changes during it is an event. */
	event_start(w);
	cni_ref(w->cni);
	job_submit(w->jobs, JOB_OPS, work, done, w);
}

int cni_watch_start(struct cni *c, const struct cni_config *config, struct error *err)
{
	struct cni_watch *w;

	assert(loop_is_current(config->loop));
	if (!config->jobs)
		return error_set(err, ERROR_INVALID_ARGUMENT, "a loop without threads");
	w = xnew(struct cni_watch);
	w->cni = c;
	w->loop = config->loop;
	w->jobs = config->jobs;
	c->watch = w;
	event_start(w);
	schedule(w, next_look(w));
	return 0;
}

void cni_watch_stop(struct cni *c)
{
	struct cni_watch *w = c->watch;

	if (!w)
		return;
	c->watch = NULL;
	loop_timer_cancel(w->timer);
	w->timer = NULL;
	event_stop(w);
	/* Else done() frees it. */
	if (!w->running)
		free(w);
}
