/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One poll loop. The stream's socket is never blocked on for writing while there is something to
 * read from it, so neither side can block the other; what was typed waits in a small buffer, and
 * stdin is not read before that is empty. stdin's own flags are not changed: it is shared with
 * the shell that started us.
 */
#include "cli/session.h"

#include "base/fs.h"
#include "base/mem.h"
#include "cli/terminal.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#define INPUT_SIZE 4096

static const struct {
	int signo;
	const char *name;
} proxied[] = {
	{ SIGHUP, "HUP" },   { SIGINT, "INT" },	  { SIGQUIT, "QUIT" }, { SIGALRM, "ALRM" },
	{ SIGTERM, "TERM" }, { SIGUSR1, "USR1" }, { SIGUSR2, "USR2" }, { SIGCONT, "CONT" },
	{ SIGTSTP, "TSTP" }, { SIGTTIN, "TTIN" }, { SIGTTOU, "TTOU" },
};

int session_check_tty(bool input, bool tty, struct error *err)
{
	if (input && tty && !terminal_is(STDIN_FILENO))
		return error_set(err, ERROR_FAILED_PRECONDITION, "the input device is not a TTY");
	return 0;
}

int session_open(struct session *s, struct error *err)
{
	sigset_t set;

	s->signal_fd = -EBADF;
	s->out = BUF_INIT(INPUT_SIZE + DETACH_KEYS_MAX);
	if (s->tty && detach_keys_parse(s->detach_keys, &s->keys, err) < 0)
		return -1;
	sigemptyset(&set);
	if (s->tty)
		sigaddset(&set, SIGWINCH);
	for (size_t i = 0; i < ARRAY_SIZE(proxied) && s->proxy_signals; i++)
		sigaddset(&set, proxied[i].signo);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_errno(err, errno, "block signals");
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return error_errno(err, errno, "signalfd");
	if (s->tty && s->input && terminal_is(STDIN_FILENO)) {
		if (terminal_raw(STDIN_FILENO, err) < 0)
			return -1;
		s->raw = true;
	}
	return 0;
}

void session_done(struct session *s)
{
	if (s->raw)
		terminal_restore();
	closep(&s->signal_fd);
	s->signal_fd = -EBADF;
	buf_done(&s->out);
}

static void resize(struct session *s)
{
	autofree char *path = NULL;
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	unsigned width, height;
	char number[16];

	if (!terminal_size(STDOUT_FILENO, &width, &height))
		return;
	path = s->exec ? url_format("/exec/{}/resize", s->exec)
		       : url_format("/containers/{}/resize", s->container);
	buf_puts(&url, path);
	snprintf(number, sizeof(number), "%u", height);
	url_query(&url, "h", number);
	snprintf(number, sizeof(number), "%u", width);
	url_query(&url, "w", number);
	/* The process may be gone already; nothing to tell the user. */
	client_post(s->client, url.data, NULL, NULL);
}

static void forward_signal(struct session *s, int signo)
{
	autofree char *path = url_format("/containers/{}/kill", s->container);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);

	buf_puts(&url, path);
	for (size_t i = 0; i < ARRAY_SIZE(proxied); i++)
		if (proxied[i].signo == signo)
			url_query(&url, "signal", proxied[i].name);
	client_post(s->client, url.data, NULL, NULL);
}

static void on_signal(struct session *s)
{
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGWINCH)
			resize(s);
		else
			forward_signal(s, (int)info.ssi_signo);
	}
}

static int show(struct session *s, const char *p, size_t len, struct error *err)
{
	if (s->tty)
		return s->output ? fs_write_all(STDOUT_FILENO, p, len) : 0;
	while (len) {
		enum stream_type type = STREAM_STDOUT;
		const char *piece;
		size_t used, n;

		if (demux_feed(&s->demux, p, len, &used, &type, &piece, &n, err) < 0)
			return -1;
		p += used;
		len -= used;
		if (n && type == STREAM_SYSTEM_ERROR)
			return error_set(err, ERROR_INTERNAL, "error from daemon in stream: %.*s",
					 (int)n, piece);
		if (n && type == STREAM_STDERR && s->errors)
			fs_write_all(STDERR_FILENO, piece, n);
		else if (n && type == STREAM_STDOUT && s->output)
			fs_write_all(STDOUT_FILENO, piece, n);
	}
	return 0;
}

/* All that the stream has now. */
static int on_stream(struct session *s, struct error *err)
{
	const char *p;
	size_t len;
	int r;

	while ((r = exchange_read(s->stream, /* wait= */ false, &p, &len, err)) == 1)
		if (show(s, p, len, err) < 0)
			return -1;
	if (r < 0)
		return -1;
	if (r == 0)
		s->stream_ended = true;
	return 0;
}

static void end_input(struct session *s)
{
	s->input_ended = true;
	shutdown(s->stream->fd, SHUT_WR);
}

static void on_input(struct session *s)
{
	char in[INPUT_SIZE], out[INPUT_SIZE + DETACH_KEYS_MAX];
	ssize_t n = read(STDIN_FILENO, in, sizeof(in));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		end_input(s);
		return;
	}
	if (s->raw) {
		size_t len = detach_keys_filter(&s->keys, in, (size_t)n, out, &s->detached);

		buf_append(&s->out, out, len);
	} else {
		buf_append(&s->out, in, (size_t)n);
	}
}

static int flush_input(struct session *s, struct error *err)
{
	ssize_t n = send(s->stream->fd, s->out.data, s->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0) {
		buf_consume(&s->out, (size_t)n);
	} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
		/* The other end does not read any more; what it says still counts. */
		buf_clear(&s->out);
		s->input_ended = true;
	}
	return 0;
}

static int step(struct session *s, struct error *err)
{
	bool reading = s->input && !s->input_ended && !s->stream_ended && !s->out.len;
	struct pollfd p[] = {
		{ s->signal_fd, POLLIN, 0 },
		{ s->stream_ended ? -1 : s->stream->fd, POLLIN, 0 },
		{ reading ? STDIN_FILENO : -1, POLLIN, 0 },
		{ s->wait && !s->wait_ended && s->stream_ended ? s->wait->fd : -1, POLLIN, 0 },
	};

	if (s->out.len && !s->stream_ended)
		p[1].events |= POLLOUT;
	if (poll(p, ARRAY_SIZE(p), -1) < 0)
		return errno == EINTR ? 0 : error_errno(err, errno, "poll");
	if (p[0].revents)
		on_signal(s);
	if ((p[1].revents & POLLOUT) && flush_input(s, err) < 0)
		return -1;
	if ((p[1].revents & (POLLIN | POLLHUP | POLLERR)) && on_stream(s, err) < 0)
		return -1;
	if (p[2].revents)
		on_input(s);
	if (p[3].revents)
		s->wait_ended = true;
	return 0;
}

int session_run(struct session *s, struct error *err)
{
	s->stream_ended = !s->stream;
	if (s->tty)
		resize(s);
	/* The reply's head may have come together with the first output. */
	if (s->stream && on_stream(s, err) < 0)
		return -1;
	while (!s->detached && (!s->stream_ended || (s->wait && !s->wait_ended))) {
		if (s->wait && s->stream_ended && s->wait->in.len)
			break;
		if (step(s, err) < 0)
			return -1;
	}
	if (s->raw)
		terminal_restore();
	return 0;
}
