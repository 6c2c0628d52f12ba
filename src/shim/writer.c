/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/writer.h"

#include "base/buf.h"
#include "base/mem.h"

struct writer {
	struct watch *watch;
	struct buf backlog;
	const struct writer_ops *ops;
	void *arg;
	bool reading;
	bool hangup; /* is waited for */
	bool broken;
	bool in_callback;
	bool doomed; /* freed from within a callback */
};

static void set_events(struct writer *w)
{
	int events = w->reading ? UV_READABLE : 0;

	if (w->backlog.len > 0 && !w->broken)
		events |= UV_WRITABLE;
	/* epoll tells a hang-up whatever is asked, but libuv wants to be asked for something. */
	if (w->hangup)
		events |= UV_PRIORITIZED;
	watch_set(w->watch, events);
}

/* Bytes taken, 0 for none at present, -1: broken. */
static ssize_t try_write(struct writer *w, const void *p, size_t n)
{
	for (;;) {
		ssize_t r = write(watch_fd(w->watch), p, n);

		if (r >= 0)
			return r;
		if (errno == EAGAIN)
			return 0;
		if (errno != EINTR)
			return -1;
	}
}

static void call(struct writer *w, void (*fn)(void *arg))
{
	if (fn)
		fn(w->arg);
}

static void on_writable(struct writer *w)
{
	bool was_full = writer_is_full(w);
	ssize_t n = try_write(w, w->backlog.data, w->backlog.len);

	if (n < 0) {
		w->broken = true;
		buf_done(&w->backlog);
		set_events(w);
		call(w, w->ops->on_broken);
		return;
	}
	buf_consume(&w->backlog, (size_t)n);
	if (w->backlog.len == 0)
		buf_done(&w->backlog);
	set_events(w);
	if (was_full && !writer_is_full(w))
		call(w, w->ops->on_room);
	if (!w->doomed && w->backlog.len == 0)
		call(w, w->ops->on_empty);
}

static void on_events(int events, void *arg)
{
	struct writer *w = arg;

	w->in_callback = true;
	if (events & UV_WRITABLE && w->backlog.len > 0 && !w->broken)
		on_writable(w);
	if (!w->doomed && events & UV_READABLE && w->reading)
		call(w, w->ops->on_readable);
	if (!w->doomed && w->hangup && (events & UV_PRIORITIZED)) {
		w->hangup = false;
		set_events(w);
		call(w, w->ops->on_hangup);
	}
	w->in_callback = false;
	if (w->doomed)
		free(w);
}

struct writer *writer_new(struct loop *l, int fd, const struct writer_ops *ops, void *arg)
{
	struct writer *w = xnew(struct writer);

	w->watch = watch_new(l, fd, on_events, w);
	if (!w->watch) {
		free(w);
		return NULL;
	}
	w->backlog = BUF_INIT(WRITER_MAX);
	w->ops = ops;
	w->arg = arg;
	return w;
}

void writer_free(struct writer *w)
{
	if (!w)
		return;
	watch_free(w->watch);
	buf_done(&w->backlog);
	w->doomed = true;
	if (!w->in_callback)
		free(w);
}

void writer_set_owner(struct writer *w, const struct writer_ops *ops, void *arg)
{
	w->ops = ops;
	w->arg = arg;
}

int writer_fd(const struct writer *w)
{
	return watch_fd(w->watch);
}

bool writer_put(struct writer *w, const void *p, size_t n)
{
	ssize_t done = 0;

	if (w->broken)
		return false;
	if (w->backlog.len == 0)
		done = try_write(w, p, n);
	if (done < 0 || (done < (ssize_t)n &&
			 buf_append(&w->backlog, (const char *)p + done, n - (size_t)done) < 0)) {
		w->broken = true;
		buf_done(&w->backlog);
	}
	set_events(w);
	return !w->broken;
}

bool writer_is_full(const struct writer *w)
{
	return w->backlog.len >= WRITER_FULL;
}

bool writer_is_empty(const struct writer *w)
{
	return w->backlog.len == 0;
}

void writer_set_reading(struct writer *w, bool on)
{
	w->reading = on;
	set_events(w);
}

void writer_watch_hangup(struct writer *w)
{
	w->hangup = true;
	set_events(w);
}
