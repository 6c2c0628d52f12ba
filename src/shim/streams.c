/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow. Each readable event moves one piece from the process to everybody who wants it. When one of
 * them is full, reading stops, so the process blocks in its write() as it would on a slow terminal;
 * when there is room again, reading goes on.
 *
 * After the exit, what the pipe still holds is taken without regard to that (it is bounded by the
 * pipe's size): EAGAIN from pipe or pty then means that all the process has written is here. A
 * child that outlives an exec may hold the pipe open; clients get its output for two more seconds.
 */

#include "shim/streams-impl.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"

#include <assert.h>
#include <sys/ioctl.h>
#include <termios.h>

#define LINGER_MS 2000
#define DRAIN_ROUNDS 128

char streams_chunk[STREAMS_CHUNK];

bool streams_is_kistl(const struct streams *s)
{
	return s->out.kind == IO_KISTL;
}

bool streams_is_stuck(const struct streams *s)
{
	for (int i = 0; i < LOG_STREAM_MAX; i++)
		if (s->outputs[i].sink && writer_is_full(s->outputs[i].sink))
			return true;
	LIST_FOREACH (c, &s->clients, struct client, node)
		if (writer_is_full(c->writer))
			return true;
	return false;
}

void streams_resume(struct streams *s)
{
	if (!s->running || (streams_is_stuck(s) && !s->exited))
		return;
	for (int i = 0; i < LOG_STREAM_MAX; i++)
		if (s->outputs[i].watch)
			watch_set(s->outputs[i].watch, UV_READABLE);
}

static void deliver(struct output *o, const char *p, size_t n)
{
	struct streams *s = o->owner;

	if (s->log)
		logfile_write(s->log, o->which, p, n, time_realtime());
	if (o->sink && !writer_put(o->sink, p, n)) {
		writer_free(o->sink);
		o->sink = NULL;
	}
	if (o->file >= 0)
		fs_write_all(o->file, p, n); /* a full disk loses output, as a log does */
	LIST_FOREACH (c, &s->clients, struct client, node)
		client_put(c, o->which, p, n);
}

static void finish(struct streams *s);

static void check_end(struct streams *s)
{
	if (!s->exited || s->finished)
		return;
	if (!s->outputs[LOG_STDOUT].watch && !s->outputs[LOG_STDERR].watch)
		finish(s);
}

static void output_end(struct output *o)
{
	watch_free(o->watch);
	o->watch = NULL;
	if (o->owner->log)
		logfile_end(o->owner->log, o->which);
}

/* One piece. 1: there may be more, 0: no more at present, -1: the end. */
static int move_piece(struct output *o)
{
	ssize_t n = read(watch_fd(o->watch), streams_chunk, sizeof(streams_chunk));

	if (n > 0) {
		deliver(o, streams_chunk, (size_t)n);
		return 1;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	/* EIO: all ends of the terminal are closed. */
	output_end(o);
	return -1;
}

void streams_on_output(int events UNUSED, void *arg)
{
	struct output *o = arg;
	struct streams *s = o->owner;

	if (streams_is_stuck(s) && !s->exited) {
		watch_set(o->watch, 0);
		return;
	}
	if (move_piece(o) < 0)
		check_end(s);
}

static void sink_has_room(void *arg)
{
	struct output *o = arg;

	streams_resume(o->owner);
}

static void sink_broken(void *arg)
{
	struct output *o = arg;

	writer_free(o->sink);
	o->sink = NULL;
	streams_resume(o->owner);
}

const struct writer_ops streams_sink_ops = {
	.on_room = sink_has_room,
	.on_broken = sink_broken,
};

/* Standard input */

static void stdin_gone(struct streams *s)
{
	writer_free(s->to_stdin);
	s->to_stdin = NULL;
	watch_free(s->from_fifo);
	s->from_fifo = NULL;
	LIST_FOREACH (c, &s->clients, struct client, node)
		client_update_reading(c);
}

static void stdin_has_room(void *arg)
{
	struct streams *s = arg;

	if (s->from_fifo)
		watch_set(s->from_fifo, UV_READABLE);
	LIST_FOREACH (c, &s->clients, struct client, node)
		client_update_reading(c);
}

static void stdin_empty(void *arg)
{
	struct streams *s = arg;

	if (s->stdin_ends)
		stdin_gone(s);
}

static void stdin_broken(void *arg)
{
	stdin_gone(arg);
}

const struct writer_ops streams_stdin_ops = {
	.on_room = stdin_has_room,
	.on_empty = stdin_empty,
	.on_broken = stdin_broken,
};

void streams_put_stdin(struct streams *s, const void *p, size_t n)
{
	if (!s->to_stdin || s->stdin_ends || n == 0)
		return;
	if (!writer_put(s->to_stdin, p, n))
		stdin_gone(s);
}

void streams_close_stdin(struct streams *s)
{
	if (s->fifo_keep >= 0) {
		/* The fifo's end comes when its last writer goes. */
		close(s->fifo_keep);
		s->fifo_keep = -1;
		return;
	}
	/* A terminal has no half that could be closed. */
	if (!s->to_stdin || s->terminal)
		return;
	s->stdin_ends = true;
	if (writer_is_empty(s->to_stdin))
		stdin_gone(s);
}

void streams_on_fifo_in(int events UNUSED, void *arg)
{
	struct streams *s = arg;

	if (s->to_stdin && writer_is_full(s->to_stdin)) {
		watch_set(s->from_fifo, 0);
		return;
	}
	ssize_t n = read(watch_fd(s->from_fifo), streams_chunk, sizeof(streams_chunk));
	if (n > 0) {
		streams_put_stdin(s, streams_chunk, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		watch_free(s->from_fifo);
		s->from_fifo = NULL;
		streams_close_stdin(s);
	}
}

/* Terminal */

static void apply_size(const struct streams *s)
{
	struct winsize size = {
		.ws_row = (unsigned short)s->height,
		.ws_col = (unsigned short)s->width,
	};

	if (s->console >= 0 && (s->width > 0 || s->height > 0))
		ioctl(s->console, TIOCSWINSZ, &size);
}

void streams_set_console(struct streams *s, int master)
{
	struct output *o = &s->outputs[LOG_STDOUT];
	int in = dup(master);

	assert(s->terminal && !o->watch);
	s->console = dup(master);
	if (in >= 0)
		s->to_stdin = writer_new(s->loop, in, &streams_stdin_ops, s);
	o->watch = watch_new(s->loop, master, streams_on_output, o);
	apply_size(s);
}

int streams_resize(struct streams *s, unsigned width, unsigned height, struct error *err)
{
	if (!s->terminal)
		return error_set(err, ERROR_FAILED_PRECONDITION, "process has no terminal");
	s->width = width;
	s->height = height;
	apply_size(s);
	return 0;
}

bool streams_size(const struct streams *s, unsigned *ret_width, unsigned *ret_height)
{
	*ret_width = s->width;
	*ret_height = s->height;
	return s->width > 0 || s->height > 0;
}

/* The kernel does it when all descriptors of the master are closed. */
void streams_hang_up(struct streams *s)
{
	struct output *o = &s->outputs[LOG_STDOUT];

	if (s->console >= 0)
		close(s->console);
	s->console = -1;
	stdin_gone(s);
	if (o->watch)
		output_end(o);
	check_end(s);
}

/* Beginning and end */

void streams_running(struct streams *s)
{
	for (int i = 0; i < 3; i++) {
		if (s->child[i] >= 0)
			close(s->child[i]);
		s->child[i] = -1;
	}
	s->running = true;
	if (s->from_fifo)
		watch_set(s->from_fifo, UV_READABLE);
	LIST_FOREACH (c, &s->clients, struct client, node)
		client_update_reading(c);
	streams_resume(s);
}

static void linger_over(void *arg)
{
	struct streams *s = arg;

	s->linger = NULL;
	finish(s);
}

void streams_process_exited(struct streams *s, void (*done)(void *arg), void *arg)
{
	assert(!s->exited);
	s->exited = true;
	for (int i = 0; i < LOG_STREAM_MAX; i++) {
		struct output *o = &s->outputs[i];

		for (int n = 0; o->watch && n < DRAIN_ROUNDS; n++)
			if (move_piece(o) <= 0)
				break;
	}
	check_end(s);
	if (!s->finished) {
		streams_resume(s);
		s->linger = loop_timer_start(s->loop, LINGER_MS, linger_over, s);
	}
	done(arg);
}

static void lingering_sink_done(void *arg)
{
	struct writer **w = arg;

	writer_free(*w);
	free(w);
	streams_n_lingering--;
}

static const struct writer_ops lingering_sink_ops = {
	.on_empty = lingering_sink_done,
	.on_broken = lingering_sink_done,
};

/* A fifo's reader may still have to take the last bytes: the sink lives until then. */
static void sink_finish(struct output *o)
{
	if (!o->sink)
		return;
	if (writer_is_empty(o->sink)) {
		writer_free(o->sink);
	} else {
		struct writer **own = xnew(struct writer *);

		*own = o->sink;
		writer_set_owner(o->sink, &lingering_sink_ops, own);
		streams_n_lingering++;
	}
	o->sink = NULL;
}

static void finish(struct streams *s)
{
	if (s->finished)
		return;
	s->finished = true;
	loop_timer_cancel(s->linger);
	s->linger = NULL;
	for (int i = 0; i < LOG_STREAM_MAX; i++) {
		struct output *o = &s->outputs[i];

		if (o->watch)
			output_end(o);
		sink_finish(o);
		if (o->file >= 0)
			close(o->file);
		o->file = -1;
	}
	LIST_FOREACH (c, &s->clients, struct client, node)
		client_finish(c);
	s->stdin_ends = true;
	if (s->fifo_keep >= 0)
		close(s->fifo_keep);
	s->fifo_keep = -1;
	stdin_gone(s);
	if (s->console >= 0)
		close(s->console);
	s->console = -1;
}

int streams_reopen_log(struct streams *s, struct error *err)
{
	return s->log ? logfile_reopen(s->log, err) : 0;
}

void streams_free(struct streams *s)
{
	if (!s)
		return;
	finish(s);
	for (int i = 0; i < 3; i++)
		if (s->child[i] >= 0)
			close(s->child[i]);
	watch_free(s->ready);
	logfile_free(s->log);
	io_uri_done(&s->out);
	io_uri_done(&s->err);
	free(s->in);
	free(s->ns);
	free(s->id);
	free(s);
}
