/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's log for the API. Following watches the container's directory (so that rotation is
 * seen too) and the events, for the end; many changes at once are one call.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "engine/jsonlog.h"

struct log_reader {
	struct container *container;
	struct jsonlog *log;
	bool ended; /* the container had ended before the last look found nothing more */
	bool last_look;

	/* Loop: */
	struct loop *loop;
	uv_fs_event_t *watch;
	struct event_subscription *events;
	struct loop_timer *soon;
	void (*fn)(void *arg);
	void *arg;
};

static bool has_ended(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	bool ended =
		c->gone || !(c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED ||
			     c->s.status == CONTAINER_RESTARTING);
	pthread_mutex_unlock(&c->e->lock);
	return ended;
}

int log_reader_open(struct engine *e, const char *ns, const char *id, const struct log_options *o,
		    struct log_reader **ret, bool *ret_tty, struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);
	struct jsonlog *log = NULL;

	if (!c)
		return -1;
	if (str_equal(c->config.log_driver, "none"))
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "configured logging driver does not support reading");
	autofree char *path = xasprintf("%s/%s-json.log", c->dir, c->id);
	bool ended = has_ended(c);
	if (jsonlog_open(path, o, &log, err) < 0)
		return -1;
	struct log_reader *r = xnew(struct log_reader);
	r->container = TAKE_PTR(c);
	r->log = log;
	r->last_look = ended;
	*ret_tty = r->container->config.tty;
	*ret = r;
	return 0;
}

int log_reader_next(struct log_reader *r, struct log_line *ret, struct error *err)
{
	int n = jsonlog_next(r->log, ret, err);

	if (n != 0)
		return n;
	if (r->last_look || jsonlog_is_past(r->log)) {
		r->ended = true;
		return 0;
	}
	/* All is written before the end is known: what comes after this look is what there is. */
	if (!has_ended(r->container))
		return 0;
	r->last_look = true;
	return log_reader_next(r, ret, err);
}

bool log_reader_ended(struct log_reader *r)
{
	return r->ended;
}

static void call_now(void *arg)
{
	struct log_reader *r = arg;

	r->soon = NULL;
	r->fn(r->arg);
}

static void call_soon(struct log_reader *r)
{
	if (!r->soon)
		r->soon = loop_timer_start(r->loop, 0, call_now, r);
}

static void on_change(uv_fs_event_t *watch, const char *name UNUSED, int events UNUSED,
		      int status UNUSED)
{
	call_soon(watch->data);
}

static void on_event(const struct engine_event *event, void *arg)
{
	struct log_reader *r = arg;

	if (str_equal(event->type, "container") && str_equal(event->id, r->container->id) &&
	    (str_equal(event->action, "die") || str_equal(event->action, "destroy")))
		call_soon(r);
}

static void on_watch_closed(uv_handle_t *handle)
{
	free(handle);
}

int log_reader_follow(struct log_reader *r, struct loop *l, void (*fn)(void *arg), void *arg,
		      struct error *err)
{
	uv_fs_event_t *watch = xnew(uv_fs_event_t);

	uv_fs_event_init(loop_uv(l), watch);
	watch->data = r;
	int n = uv_fs_event_start(watch, on_change, r->container->dir, 0);
	if (n < 0) {
		uv_close((uv_handle_t *)watch, on_watch_closed);
		return error_errno(err, -n, "watch '%s'", r->container->dir);
	}
	r->loop = l;
	r->watch = watch;
	r->fn = fn;
	r->arg = arg;
	r->events = engine_subscribe(r->container->e, 0, on_event, r);
	/* What came before the watch was there. */
	call_soon(r);
	return 0;
}

void log_reader_free(struct log_reader *r)
{
	if (!r)
		return;
	if (r->watch)
		uv_close((uv_handle_t *)r->watch, on_watch_closed);
	loop_timer_cancel(r->soon);
	engine_unsubscribe(r->events);
	jsonlog_close(r->log);
	container_unref(r->container);
	free(r);
}
