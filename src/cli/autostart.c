/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readiness without polling: the daemon says READY=1 to a notify socket of ours, as it would to
 * systemd, and a pidfd tells when it ended instead. Clients that do this at once are serialised by
 * a lock beside the socket: the second finds the daemon of the first.
 */
#include "cli/autostart.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/random.h"
#include "base/strv.h"
#include "base/time.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

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

/* An abstract datagram socket; its name goes into $NOTIFY_SOCKET. */
static int open_notify(struct error *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	autoclose int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char id[33], name[64];

	random_hex(16, id);
	snprintf(name, sizeof(name), "@kistl-start-%s", id);
	memcpy(addr.sun_path, name, strlen(name));
	addr.sun_path[0] = '\0';
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr,
			   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))) < 0)
		return error_errno(err, errno, "make a notify socket");
	setenv("NOTIFY_SOCKET", name, /* overwrite= */ 1);
	return TAKE_FD(fd);
}

/* 1: ready, 0: it has ended. */
static int wait_ready(int notify, int pidfd, struct error *err)
{
	int64_t deadline = time_monotonic() + START_TIMEOUT;

	for (;;) {
		struct pollfd p[] = { { notify, POLLIN, 0 }, { pidfd, POLLIN, 0 } };
		int64_t left = deadline - time_monotonic();
		char message[256];
		ssize_t n;

		if (left <= 0 || poll(p, ARRAY_SIZE(p), (int)(left / NSEC_PER_MSEC)) == 0)
			return error_set(err, ERROR_DEADLINE_EXCEEDED, "kistld does not answer");
		n = recv(notify, message, sizeof(message) - 1, 0);
		if (n > 0) {
			message[n] = '\0';
			if (strstr(message, "READY=1"))
				return 1;
		} else if (p[1].revents) {
			return 0;
		}
	}
}

static int start_and_connect(const char *path, const char *program, const char *log,
			     struct error *err)
{
	autoclose int log_fd =
		open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	autoclose int pidfd = -EBADF;
	autoclose int notify = -EBADF;
	int r;

	if (log_fd < 0)
		return error_errno(err, errno, "open '%s'", log);
	notify = open_notify(err);
	if (notify < 0)
		return -1;
	if (spawn(program, path, log_fd, &pidfd, err) < 0)
		return error_wrap(err, "start '%s'", program);
	unsetenv("NOTIFY_SOCKET");
	if (wait_ready(notify, pidfd, err) < 0)
		return error_wrap(err, "start kistld (see '%s')", log);
	/* Even when it ended: another one may have been there first. */
	r = fs_unix_connect(path);
	if (r < 0)
		return error_set(err, ERROR_UNAVAILABLE, "kistld did not start, see '%s'", log);
	return r;
}

/* Held until the descriptor is closed. */
static int lock_start(const char *socket, struct error *err)
{
	autofree char *path = xasprintf("%s.start", socket);
	autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return error_errno(err, errno, "lock '%s'", path);
	return TAKE_FD(fd);
}

int autostart_daemon(const char *path, struct error *err)
{
	autofree char *program = find_daemon();
	autofree char *dir = xstrdup(path);
	autofree char *state = NULL;
	autofree char *log = NULL;
	autoclose int lock = -EBADF;
	char *slash = strrchr(dir, '/');
	int r;

	if (!program)
		return error_set(err, ERROR_NOT_FOUND,
				 "Cannot connect to the Kistl daemon at unix://%s, and kistld is "
				 "not installed",
				 path);
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
	lock = lock_start(path, err);
	if (lock < 0)
		return -1;
	r = fs_unix_connect(path);
	return r >= 0 ? r : start_and_connect(path, program, log, err);
}
