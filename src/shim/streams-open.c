/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: from the request's strings to pipes, fifos, files, logs and logger programs. */

#include "shim/streams-impl.h"

#include "base/fs.h"
#include "base/mem.h"
#include "shim/reaper.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define LOGGER_READY_MS 10000

int streams_new(struct loop *l, const struct streams_spec *spec, struct streams **ret,
		struct error *err)
{
	struct streams *s = xnew(struct streams);

	*s = (struct streams){
		.loop = l,
		.ns = xstrdup(spec->ns),
		.id = xstrdup(spec->id),
		.uid = spec->uid,
		.gid = spec->gid,
		.terminal = spec->terminal,
		.in = str_empty(spec->in) ? NULL : xstrdup(spec->in),
		.fifo_keep = -1,
		.child = { -1, -1, -1 },
		.console = -1,
	};
	list_init(&s->clients);
	for (int i = 0; i < LOG_STREAM_MAX; i++)
		s->outputs[i] =
			(struct output){ .owner = s, .which = (enum log_stream)i, .file = -1 };
	if (io_uri_parse(spec->out, &s->out, err) < 0 ||
	    io_uri_parse(spec->err, &s->err, err) < 0) {
		streams_free(s);
		return -1;
	}
	*ret = s;
	return 0;
}

/* A pipe of the process: its end in *ret_child, ours returned. */
static int process_pipe(struct streams *s, bool child_writes, int *ret_child, struct error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, errno, "make a pipe");
	/* So that the process may open /dev/stdout again as its own user. */
	if ((s->uid || s->gid) && fchown(fds[child_writes], s->uid, s->gid) < 0) {
		int saved = errno;

		close(fds[0]);
		close(fds[1]);
		return error_errno(err, saved, "give a pipe to user %u", s->uid);
	}
	*ret_child = fds[child_writes];
	return fds[!child_writes];
}

static int open_fifo_out(struct output *o, const char *path, struct error *err)
{
	/* For reading too: no SIGPIPE when the reader goes, no waiting for it to come. */
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		int saved = errno;

		if (fd >= 0)
			close(fd);
		return error_errno(err, saved, "open '%s'", path);
	}
	if (S_ISREG(st.st_mode)) {
		o->file = fd;
		return fcntl(fd, F_SETFL, O_APPEND) < 0
			       ? error_errno(err, errno, "append to '%s'", path)
			       : 0;
	}
	o->sink = writer_new(o->owner->loop, fd, &streams_sink_ops, o);
	if (!o->sink)
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is not a fifo", path);
	return 0;
}

static int open_file_out(struct output *o, const char *path, struct error *err)
{
	autofree char *dir = xstrndup(path, (size_t)(path_base(path) - path));

	fs_mkdir_p(dir, 0755);
	o->file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	return o->file < 0 ? error_errno(err, errno, "open '%s'", path) : 0;
}

static int open_output(struct streams *s, enum log_stream which, const struct io_uri *u,
		       struct error *err)
{
	struct output *o = &s->outputs[which];
	int fd;

	if (u->kind == IO_FIFO && open_fifo_out(o, u->path, err) < 0)
		return -1;
	if (u->kind == IO_FILE && open_file_out(o, u->path, err) < 0)
		return -1;
	if (u->kind == IO_NULL || s->terminal)
		return 0; /* /dev/null, or the terminal's master will come */
	fd = process_pipe(s, /* child_writes= */ true, &s->child[which + 1], err);
	if (fd < 0)
		return -1;
	o->watch = watch_new(s->loop, fd, streams_on_output, o);
	return 0;
}

static int open_stdin_pipe(struct streams *s, struct error *err)
{
	int fd = process_pipe(s, /* child_writes= */ false, &s->child[0], err);

	if (fd < 0)
		return -1;
	s->to_stdin = writer_new(s->loop, fd, &streams_stdin_ops, s);
	return 0;
}

static int open_stdin(struct streams *s, struct error *err)
{
	if (streams_is_kistl(s))
		return s->out.in == IO_STDIN_NONE || s->terminal ? 0 : open_stdin_pipe(s, err);
	if (!s->in)
		return 0;

	int fd = open(s->in, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "open '%s'", s->in);
	s->from_fifo = watch_new(s->loop, fd, streams_on_fifo_in, s);
	if (!s->from_fifo)
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is not a fifo", s->in);
	s->fifo_keep = open(s->in, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	return s->terminal ? 0 : open_stdin_pipe(s, err);
}

/* Logger programs */

static void logger_ended(int status UNUSED, int64_t when UNUSED, void *arg UNUSED)
{
}

static void opened(struct streams *s, const struct error *err)
{
	void (*fn)(const struct error *, void *) = s->on_open;

	watch_free(s->ready);
	s->ready = NULL;
	loop_timer_cancel(s->linger);
	s->linger = NULL;
	s->on_open = NULL;
	if (fn)
		fn(err, s->on_open_arg);
}

static void on_logger_ready(int events UNUSED, void *arg)
{
	/* A byte or the end: both mean ready. */
	opened(arg, NULL);
}

static void on_logger_timeout(void *arg)
{
	autoerror struct error err = ERROR_INIT;
	struct streams *s = arg;

	s->linger = NULL;
	error_set(&err, ERROR_DEADLINE_EXCEEDED, "logger '%s' does not get ready", s->out.path);
	opened(s, &err);
}

static int spawn_logger(const struct streams *s, int out, int errs, int ready, struct error *err)
{
	autostrv struct strv argv = STRV_INIT;
	autostrv struct strv env = STRV_INIT;
	autofree char *id = xasprintf("CONTAINER_ID=%s", s->id);
	autofree char *ns = xasprintf("CONTAINER_NAMESPACE=%s", s->ns);

	strv_push(&argv, s->out.path);
	for (size_t i = 0; i < s->out.query.n; i++) {
		strv_push(&argv, s->out.query.v[i].key);
		strv_push(&argv, s->out.query.v[i].value);
	}
	for (char **e = environ; *e; e++)
		strv_push(&env, *e);
	strv_env_set(&env, id);
	strv_env_set(&env, ns);

	const struct process_fd fds[] = { { -1, 2 }, { out, 3 }, { errs, 4 }, { ready, 5 } };
	const struct process_spec spec = {
		.path = s->out.path,
		.argv = strv_argv(&argv),
		.envp = strv_argv(&env),
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
	};
	pid_t pid = process_spawn(&spec, NULL, err);
	if (pid < 0)
		return -1;
	reaper_watch(pid, logger_ended, NULL);
	return 0;
}

/* The process writes to the logger's pipes itself; of a terminal's output the shim makes a copy. */
static int open_logger(struct streams *s, struct error *err)
{
	int ready[2];
	autoclose int errs = -1;
	autoclose int out = process_pipe(s, /* child_writes= */ true, &s->child[1], err);

	if (out < 0)
		return -1;
	errs = process_pipe(s, /* child_writes= */ true, &s->child[2], err);
	if (errs < 0)
		return -1;
	if (pipe2(ready, O_CLOEXEC) < 0)
		return error_errno(err, errno, "make a pipe");
	int r = spawn_logger(s, out, errs, ready[1], err);
	close(ready[1]);
	s->ready = watch_new(s->loop, ready[0], on_logger_ready, s);
	if (r < 0)
		return -1;
	if (s->terminal) {
		struct output *o = &s->outputs[LOG_STDOUT];

		o->sink = writer_new(s->loop, TAKE_FD(s->child[1]), &streams_sink_ops, o);
		close(TAKE_FD(s->child[2]));
	}
	watch_set(s->ready, UV_READABLE);
	s->linger = loop_timer_start(s->loop, LOGGER_READY_MS, on_logger_timeout, s);
	return 0;
}

static int open_all(struct streams *s, struct error *err)
{
	if (streams_is_kistl(s) && s->out.log.driver != LOG_DRIVER_NONE &&
	    logfile_open(&s->out.log, &s->log, err) < 0)
		return -1;
	if (open_stdin(s, err) < 0)
		return -1;
	if (s->out.kind == IO_BINARY)
		return open_logger(s, err);
	if (open_output(s, LOG_STDOUT, &s->out, err) < 0)
		return -1;
	if (s->terminal)
		return 0;
	/* Of a kistl-log process the shim keeps both, whatever stderr says. */
	return open_output(s, LOG_STDERR, streams_is_kistl(s) ? &s->out : &s->err, err);
}

void streams_open(struct streams *s, void (*done)(const struct error *err, void *arg), void *arg)
{
	autoerror struct error err = ERROR_INIT;

	s->on_open = done;
	s->on_open_arg = arg;
	if (open_all(s, &err) < 0)
		opened(s, &err);
	else if (s->out.kind != IO_BINARY)
		opened(s, NULL);
}

size_t streams_child_fds(const struct streams *s, struct process_fd ret[3])
{
	for (int i = 0; i < 3; i++)
		ret[i] = (struct process_fd){ s->child[i], i };
	return 3;
}
