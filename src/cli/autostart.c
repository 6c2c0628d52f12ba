/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readiness without polling: an inotify watch on the socket's directory is set up before the daemon
 * is started, and a pidfd tells when it ended instead. Two clients may do this at once: the daemon
 * that comes second finds the socket taken and leaves, upon which its client simply connects.
 */
#include "cli/autostart.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/strv.h"
#include "base/time.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>

#define START_TIMEOUT (20 * NSEC_PER_SEC)

static char *find_daemon(void)
{
	static const char *const places[] = { "kistld", "../libexec/kistld", "../sbin/kistld",
					      "../bin/kistld" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash)
			*slash = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
			autofree char *path = path_join(self, places[i], NULL);

			if (access(path, X_OK) == 0)
				return TAKE_PTR(path);
		}
	}
	return process_find("kistld", NULL);
}

/* The directory of the daemon's log: $KISTL_STATE, else that of the socket. */
static char *state_dir(const char *socket_dir)
{
	const char *state = getenv("KISTL_STATE");

	return xstrdup(str_empty(state) ? socket_dir : state);
}

static pid_t spawn(const char *program, const char *socket, int log_fd, int *ret_pidfd,
		   struct error *err)
{
	autostrv struct strv argv = STRV_INIT;
	const char *root = getenv("KISTL_ROOT");
	const char *state = getenv("KISTL_STATE");
	struct process_fd fds[] = { { -EBADF, 0 }, { -EBADF, 1 }, { log_fd, 2 } };
	struct process_spec spec = { .path = program,
				     .cwd = "/",
				     .fds = fds,
				     .n_fds = ARRAY_SIZE(fds),
				     .flags = PROCESS_NEW_SESSION };

	strv_push(&argv, "kistld");
	strv_push(&argv, "--socket");
	strv_push(&argv, socket);
	strv_push(&argv, "--idle-exit");
	strv_push(&argv, "10");
	if (!str_empty(root)) {
		strv_push(&argv, "--root");
		strv_push(&argv, root);
	}
	if (!str_empty(state)) {
		strv_push(&argv, "--state");
		strv_push(&argv, state);
	}
	spec.argv = strv_argv(&argv);
	return process_spawn(&spec, ret_pidfd, err);
}

/* Waits for a change in the directory or the daemon's end. 1: change, 0: it ended. */
static int wait_change(int watch, int pidfd, int64_t deadline, struct error *err)
{
	struct pollfd p[] = { { watch, POLLIN, 0 }, { pidfd, POLLIN, 0 } };
	int64_t left = deadline - time_monotonic();
	char events[4096] __attribute__((aligned(8)));

	if (left <= 0 || poll(p, ARRAY_SIZE(p), (int)(left / NSEC_PER_MSEC)) == 0)
		return error_set(err, ERROR_DEADLINE_EXCEEDED, "kistld does not answer");
	if (p[0].revents && read(watch, events, sizeof(events)) < 0 && errno != EAGAIN)
		return error_errno(err, errno, "read inotify events");
	return p[1].revents ? 0 : 1;
}

static int wait_for_socket(const char *path, int watch, int pidfd, const char *log,
			   struct error *err)
{
	int64_t deadline = time_monotonic() + START_TIMEOUT;

	for (;;) {
		int alive = wait_change(watch, pidfd, deadline, err);
		int fd;

		if (alive < 0)
			return error_wrap(err, "start kistld (see '%s')", log);
		fd = fs_unix_connect(path);
		if (fd >= 0)
			return fd;
		if (!alive)
			return error_set(err, ERROR_UNAVAILABLE, "kistld did not start, see '%s'",
					 log);
	}
}

int autostart_daemon(const char *path, struct error *err)
{
	autofree char *program = find_daemon();
	autofree char *dir = xstrdup(path);
	autofree char *state = NULL;
	autofree char *log = NULL;
	autoclose int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	autoclose int log_fd = -EBADF;
	autoclose int pidfd = -EBADF;
	char *slash = strrchr(dir, '/');
	int r;

	if (!program)
		return error_set(err, ERROR_NOT_FOUND, "kistld is not installed");
	if (!slash || slash == dir)
		return error_set(err, ERROR_INVALID_ARGUMENT, "bad socket path '%s'", path);
	*slash = '\0';
	state = state_dir(dir);
	log = path_join(state, "kistld.log", NULL);
	r = fs_mkdir_p(dir, 0711);
	if (r < 0)
		return error_errno(err, -r, "make directory '%s'", dir);
	r = fs_mkdir_p(state, 0711);
	if (r < 0)
		return error_errno(err, -r, "make directory '%s'", state);
	log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log_fd < 0)
		return error_errno(err, errno, "open '%s'", log);
	if (watch < 0 || inotify_add_watch(watch, dir, IN_CREATE | IN_MOVED_TO | IN_ATTRIB) < 0)
		return error_errno(err, errno, "watch '%s'", dir);
	if (spawn(program, path, log_fd, &pidfd, err) < 0)
		return error_wrap(err, "start '%s'", program);
	return wait_for_socket(path, watch, pidfd, log, err);
}
