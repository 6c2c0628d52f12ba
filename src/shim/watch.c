/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/watch.h"

#include "base/fs.h"
#include "base/mem.h"

struct watch {
	uv_poll_t poll;
	int fd;
	int events;
	void (*fn)(int events, void *arg);
	void *arg;
};

struct watch *watch_new(struct loop *l, int fd, void (*fn)(int events, void *arg), void *arg)
{
	struct watch *w = xnew(struct watch);

	fs_set_nonblock(fd, true);
	if (uv_poll_init(loop_uv(l), &w->poll, fd) < 0) {
		close(fd);
		free(w);
		return NULL;
	}
	w->poll.data = w;
	w->fd = fd;
	w->fn = fn;
	w->arg = arg;
	return w;
}

static void on_event(uv_poll_t *handle, int status, int events)
{
	struct watch *w = handle->data;

	/* An error makes the descriptor ready for whatever was asked: the system call will tell. */
	w->fn(status < 0 ? w->events : events, w->arg);
}

void watch_set(struct watch *w, int events)
{
	if (w->events == events)
		return;
	w->events = events;
	if (events)
		uv_poll_start(&w->poll, events, on_event);
	else
		uv_poll_stop(&w->poll);
}

int watch_fd(const struct watch *w)
{
	return w->fd;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	uv_close((uv_handle_t *)&w->poll, on_closed);
	close(w->fd);
}
