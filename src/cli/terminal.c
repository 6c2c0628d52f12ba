/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

static struct termios saved;
static volatile sig_atomic_t changed_fd = -1;

bool terminal_is(int fd)
{
	return isatty(fd) == 1;
}

bool terminal_size(int fd, unsigned *ret_width, unsigned *ret_height)
{
	struct winsize w;

	if (ioctl(fd, TIOCGWINSZ, &w) < 0 || !w.ws_col || !w.ws_row)
		return false;
	*ret_width = w.ws_col;
	*ret_height = w.ws_row;
	return true;
}

unsigned terminal_width(unsigned fallback)
{
	unsigned width, height;

	return terminal_size(STDOUT_FILENO, &width, &height) ? width : fallback;
}

void terminal_restore(void)
{
	int fd = changed_fd;

	if (fd >= 0) {
		changed_fd = -1;
		tcsetattr(fd, TCSANOW, &saved);
	}
}

/* Puts the terminal in order, then dies of the signal. */
static void on_fatal(int signo)
{
	terminal_restore();
	signal(signo, SIG_DFL);
	raise(signo);
}

static int change(int fd, void (*modify)(struct termios *), struct error *err)
{
	static const int fatal[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGABRT,
				     SIGSEGV, SIGPIPE, SIGBUS,	SIGFPE };
	struct termios t;
	static bool registered;

	if (changed_fd >= 0)
		return 0;
	if (tcgetattr(fd, &saved) < 0)
		return error_errno(err, errno, "get terminal mode");
	if (!registered) {
		atexit(terminal_restore);
		for (size_t i = 0; i < ARRAY_SIZE(fatal); i++) {
			struct sigaction sa = { .sa_handler = on_fatal };

			sigaction(fatal[i], &sa, NULL);
		}
		registered = true;
	}
	t = saved;
	modify(&t);
	changed_fd = fd;
	if (tcsetattr(fd, TCSANOW, &t) < 0) {
		changed_fd = -1;
		return error_errno(err, errno, "set terminal mode");
	}
	return 0;
}

static void make_raw(struct termios *t)
{
	cfmakeraw(t);
	t->c_cc[VMIN] = 1;
	t->c_cc[VTIME] = 0;
}

static void make_silent(struct termios *t)
{
	t->c_lflag &= ~(tcflag_t)ECHO;
}

int terminal_raw(int fd, struct error *err)
{
	return change(fd, make_raw, err);
}

int terminal_no_echo(int fd, struct error *err)
{
	return change(fd, make_silent, err);
}
