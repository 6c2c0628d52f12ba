/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The child shares the parent's memory until it executes (CLONE_VM | CLONE_VFORK), so a spawn costs
 * the same in a daemon of any size. Until then the child may only make system calls: other threads'
 * locks may be held at that moment. What it needs is worked out before; how it failed it writes
 * into the shared memory. It has a stack of its own, because the parent's frame must outlive it.
 */
#include "base/process.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STACK_SIZE (64 << 10)
#define FDS_MAX 64
#define READ_CHUNK (16 << 10)

/* The child runs on a foreign stack in shared memory: sanitizers must not keep books there. */
#define CHILD_CODE __attribute__((no_sanitize("address", "undefined", "thread")))

enum child_step { STEP_NONE, STEP_SESSION, STEP_FDS, STEP_CWD, STEP_EXEC };

struct child {
	const char *path;
	int program_fd;
	char *const *argv;
	char *const *envp;
	const char *cwd;
	unsigned flags;
	pid_t parent;
	/* Sorted by target, no two alike. */
	struct process_fd fds[FDS_MAX];
	size_t n_fds;
	/* Written by the child. */
	enum child_step failed_step;
	int failed_errno;
};

static CHILD_CODE int child_signals(void)
{
	/* The kernel's struct sigaction for SIG_DFL, whatever the architecture's layout. */
	static const uint64_t by_default[8];

	/* Ignored ones too: the program starts with none. Fails for KILL and STOP. Bare calls, as
	 * glibc refuses its own two signals, which make(1) passes on as ignored. */
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		syscall(SYS_rt_sigaction, sig, by_default, NULL, sizeof(uint64_t));
	return 0;
}

static CHILD_CODE int child_session(const struct child *c)
{
	if (c->flags & PROCESS_NEW_SESSION && setsid() < 0)
		return -1;
	if (c->flags & PROCESS_NEW_PGRP && setpgid(0, 0) < 0)
		return -1;
	if (c->flags & PROCESS_DIE_WITH_PARENT) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
			return -1;
		if (getppid() != c->parent)
			_exit(127);
	}
	return 0;
}

static CHILD_CODE int close_gap(unsigned first, unsigned last)
{
	return first <= last ? (int)syscall(SYS_close_range, first, last, 0U) : 0;
}

/*
 * First every source moves above all targets, then each goes to its target; so it does not matter
 * how the numbers overlap. What is between and above the targets is closed. A program's descriptor
 * comes after the last one, until it is executed.
 */
static CHILD_CODE int child_fds(struct child *c)
{
	int above = c->fds[c->n_fds - 1].target + 1;
	unsigned next = 0;

	if (c->program_fd > 0) {
		c->program_fd = fcntl(c->program_fd, F_DUPFD_CLOEXEC, above);
		if (c->program_fd < 0)
			return -1;
	}
	for (size_t i = 0; i < c->n_fds; i++) {
		c->fds[i].fd = fcntl(c->fds[i].fd, F_DUPFD, above);
		if (c->fds[i].fd < 0)
			return -1;
	}
	for (size_t i = 0; i < c->n_fds; i++) {
		unsigned target = (unsigned)c->fds[i].target;

		if (dup2(c->fds[i].fd, c->fds[i].target) < 0)
			return -1;
		if (target > next && close_gap(next, target - 1) < 0)
			return -1;
		next = target + 1;
	}
	if (c->program_fd > 0) {
		if (c->program_fd != above && dup3(c->program_fd, above, O_CLOEXEC) < 0)
			return -1;
		c->program_fd = above;
		next = (unsigned)above + 1;
	}
	return close_gap(next, ~0U);
}

static CHILD_CODE int child_main(void *arg)
{
	struct child *c = arg;
	sigset_t none;

	child_signals();
	c->failed_step = STEP_SESSION;
	if (child_session(c) < 0)
		goto failed;
	c->failed_step = STEP_FDS;
	if (child_fds(c) < 0)
		goto failed;
	c->failed_step = STEP_CWD;
	if (c->cwd && chdir(c->cwd) < 0)
		goto failed;
	c->failed_step = STEP_EXEC;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (c->program_fd > 0)
		syscall(SYS_execveat, c->program_fd, "", c->argv, c->envp, AT_EMPTY_PATH);
	else
		execve(c->path, c->argv, c->envp);
failed:
	c->failed_errno = errno;
	_exit(127);
}

static int compare_targets(const void *a, const void *b)
{
	const struct process_fd *x = a, *y = b;

	return (x->target > y->target) - (x->target < y->target);
}

static bool has_target(const struct child *c, int target)
{
	for (size_t i = 0; i < c->n_fds; i++)
		if (c->fds[i].target == target)
			return true;
	return false;
}

/* Fills c->fds; null is an open /dev/null. */
static void plan_fds(struct child *c, const struct process_spec *spec, int null)
{
	assert(spec->n_fds <= FDS_MAX - 3);
	for (size_t i = 0; i < spec->n_fds; i++) {
		assert(spec->fds[i].target >= 0 && !has_target(c, spec->fds[i].target));
		c->fds[c->n_fds] = spec->fds[i];
		if (c->fds[c->n_fds].fd < 0)
			c->fds[c->n_fds].fd = null;
		c->n_fds++;
	}
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		bool inherit = fd == STDERR_FILENO && fcntl(fd, F_GETFD) >= 0;

		if (!has_target(c, fd))
			c->fds[c->n_fds++] =
				(struct process_fd){ .fd = inherit ? fd : null, .target = fd };
	}
	qsort(c->fds, c->n_fds, sizeof(c->fds[0]), compare_targets);
}

/* ThreadSanitizer's clone() takes any child for one with memory of its own, and stops seeing locks
 * in the parent; the C library's has this name too. */
#ifdef __SANITIZE_THREAD__
int __clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);
#define clone __clone
#endif

/* clone() with the signals blocked: a handler must not run in the child on shared memory. */
static pid_t clone_child(struct child *c, int *ret_pidfd, struct error *err)
{
	sigset_t all, old;
	char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	if (stack == MAP_FAILED)
		return error_errno(err, errno, "map a stack");
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid_t pid = clone(child_main, stack + STACK_SIZE,
			  CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, c, ret_pidfd);
	int failed = errno;

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	munmap(stack, STACK_SIZE);
	return pid < 0 ? error_errno(err, failed, "create a process") : pid;
}

static int reap(pid_t pid, int *ret_status)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (ret_status)
		*ret_status = status;
	return 0;
}

static int spawn_failure(const struct child *c, struct error *err)
{
	switch (c->failed_step) {
	case STEP_CWD:
		return error_errno(err, c->failed_errno, "change directory to '%s'", c->cwd);
	case STEP_FDS:
		return error_errno(err, c->failed_errno, "place descriptors for '%s'", c->path);
	case STEP_SESSION:
		return error_errno(err, c->failed_errno, "start a session for '%s'", c->path);
	case STEP_EXEC:
	case STEP_NONE:
		break;
	}
	return error_errno(err, c->failed_errno, "execute '%s'", c->path);
}

pid_t process_spawn(const struct process_spec *spec, int *ret_pidfd, struct error *err)
{
	static char *const no_env[1];
	autofree char *path =
		spec->program_fd > 0 ? xstrdup(spec->path) : process_find(spec->path, NULL);
	autoclose int null = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
	autoclose int pidfd = -EBADF;

	if (!path)
		return error_errno(err, ENOENT, "program '%s'", spec->path);
	if (null < 0)
		return error_errno(err, errno, "open '/dev/null'");

	struct child c = {
		.path = path,
		.program_fd = spec->program_fd,
		.argv = spec->argv,
		.envp = spec->envp ? spec->envp : environ,
		.cwd = spec->cwd,
		.flags = spec->flags,
		.parent = getpid(),
	};

	if (!c.envp)
		c.envp = no_env;
	plan_fds(&c, spec, null);
	pid_t pid = clone_child(&c, &pidfd, err);

	if (pid < 0)
		return -1;
	if (c.failed_errno) {
		reap(pid, NULL);
		return spawn_failure(&c, err);
	}
	if (ret_pidfd)
		*ret_pidfd = TAKE_FD(pidfd);
	return pid;
}

/* Milliseconds until the deadline for poll(); -1 for none. */
static int remaining(int64_t deadline)
{
	if (deadline < 0)
		return -1;
	int64_t left = deadline - time_monotonic();

	return left <= 0 ? 0 : (int)MIN((left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, INT_MAX);
}

static int64_t deadline_from(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : time_monotonic() + timeout_ms * NSEC_PER_MSEC;
}

static int end_late(pid_t pid, bool group, int *ret_status, struct error *err)
{
	/* Not reaped yet, so the number is still this process's. */
	kill(group ? -pid : pid, SIGKILL);
	reap(pid, ret_status);
	return error_set(err, ERROR_DEADLINE_EXCEEDED, "process %d did not end in time", (int)pid);
}

int process_wait(pid_t pid, int pidfd, int timeout_ms, int *ret_status, struct error *err)
{
	autoclose int own = -EBADF;
	int64_t deadline = deadline_from(timeout_ms);

	if (timeout_ms >= 0 && pidfd < 0) {
		own = (int)syscall(SYS_pidfd_open, pid, 0);
		if (own < 0)
			return error_errno(err, errno, "open process %d", (int)pid);
		pidfd = own;
	}
	while (timeout_ms >= 0) {
		struct pollfd p = { .fd = pidfd, .events = POLLIN };
		int r = poll(&p, 1, remaining(deadline));

		if (r > 0)
			break;
		if (r == 0)
			return end_late(pid, /* group= */ false, ret_status, err);
		if (errno != EINTR)
			return error_errno(err, errno, "wait for process %d", (int)pid);
	}
	int r = reap(pid, ret_status);

	return r < 0 ? error_errno(err, -r, "wait for process %d", (int)pid) : 0;
}

/* A file in memory, not a pipe: nobody has to feed it, and SIGPIPE cannot happen. */
static int make_input(const void *input, size_t len, struct error *err)
{
	autoclose int fd = memfd_create("input", MFD_CLOEXEC);

	if (fd < 0)
		return error_errno(err, errno, "create the input");
	int r = fs_write_all(fd, input, len);

	if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, r < 0 ? -r : errno, "write the input");
	return TAKE_FD(fd);
}

struct run {
	struct pollfd polled[3]; /* stdout, stderr, pidfd */
	struct buf *bufs[2];
	int writers[2];
};

static void run_done(struct run *run)
{
	for (size_t i = 0; i < 2; i++) {
		closep(&run->polled[i].fd);
		closep(&run->writers[i]);
	}
	closep(&run->polled[2].fd);
}

static int make_output(struct run *run, size_t i, struct buf *b, struct error *err)
{
	int fds[2];

	if (!b)
		return 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, errno, "create a pipe");
	run->bufs[i] = b;
	run->polled[i].fd = fds[0];
	run->writers[i] = fds[1];
	int r = fs_set_nonblock(fds[0], true);

	return r < 0 ? error_errno(err, -r, "set up a pipe") : 0;
}

/* Reads what is there; at the end the descriptor is closed. */
static void drain(struct run *run, size_t i)
{
	char chunk[READ_CHUNK];
	struct buf *b = run->bufs[i];

	/* Bounded: a process that never stops writing must not keep us from the clock. */
	for (int rounds = 0; rounds < 16 && run->polled[i].fd >= 0; rounds++) {
		ssize_t n = read(run->polled[i].fd, chunk, sizeof(chunk));

		if (n > 0) {
			/* What exceeds the ceiling is dropped, so that the process can go on. */
			buf_append(b, chunk, MIN((size_t)n, b->max - b->len));
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		closep(&run->polled[i].fd);
		run->polled[i].fd = -EBADF;
	}
}

/* Until the process has ended: one that it left behind may hold the pipes for ever. */
static int collect(struct run *run, int64_t deadline)
{
	for (;;) {
		int r = poll(run->polled, ARRAY_SIZE(run->polled), remaining(deadline));

		if (r < 0 && errno != EINTR)
			return -errno;
		bool ended = r > 0 && run->polled[2].revents;

		for (size_t i = 0; i < 2; i++)
			drain(run, i);
		if (ended)
			return 0;
		if (remaining(deadline) == 0)
			return -ETIMEDOUT;
	}
}

static int spawn_with_pipes(const struct process_spec *spec, struct run *run, int input,
			    bool merged, pid_t *ret_pid, struct error *err)
{
	struct process_fd fds[FDS_MAX];
	struct process_fd ours[3] = {
		{ .fd = input, .target = STDIN_FILENO },
		{ .fd = run->writers[0], .target = STDOUT_FILENO },
		{ .fd = merged ? run->writers[0] : run->writers[1], .target = STDERR_FILENO },
	};
	struct process_spec full = *spec;

	full.fds = fds;
	full.n_fds = 0;
	assert(spec->n_fds <= FDS_MAX - 6);
	for (size_t i = 0; i < 3; i++)
		if (ours[i].fd >= 0)
			fds[full.n_fds++] = ours[i];
	for (size_t i = 0; i < spec->n_fds; i++) {
		int target = spec->fds[i].target;

		if (target > STDERR_FILENO || ours[target].fd < 0)
			fds[full.n_fds++] = spec->fds[i];
	}
	*ret_pid = process_spawn(&full, &run->polled[2].fd, err);
	return *ret_pid < 0 ? -1 : 0;
}

int process_run(const struct process_spec *spec, const void *input, size_t input_len,
		struct buf *out, struct buf *errout, int timeout_ms, int *ret_status,
		struct error *err)
{
	CLEANUP(run_done)
	struct run run = {
		.polled = { { .fd = -1, .events = POLLIN },
			    { .fd = -1, .events = POLLIN },
			    { .fd = -1, .events = POLLIN } },
		.writers = { -1, -1 },
	};
	bool merged = out && out == errout;
	int64_t deadline = deadline_from(timeout_ms);
	autoclose int in = input ? make_input(input, input_len, err) : -EBADF;
	pid_t pid;

	if (input && in < 0)
		return -1;
	if (make_output(&run, 0, out, err) < 0 ||
	    make_output(&run, 1, merged ? NULL : errout, err) < 0)
		return -1;
	if (spawn_with_pipes(spec, &run, in, merged, &pid, err) < 0)
		return -1;
	for (size_t i = 0; i < 2; i++) {
		closep(&run.writers[i]);
		run.writers[i] = -EBADF;
	}

	int r = collect(&run, deadline);
	bool group = spec->flags & PROCESS_NEW_PGRP;

	if (r == -ETIMEDOUT)
		return end_late(pid, group, ret_status, err);
	if (r < 0) {
		kill(group ? -pid : pid, SIGKILL);
		reap(pid, NULL);
		return error_errno(err, -r, "wait for process %d", (int)pid);
	}
	return process_wait(pid, run.polled[2].fd, -1, ret_status, err);
}

char *process_status_string(int status)
{
	if (WIFSIGNALED(status)) {
		int sig = WTERMSIG(status);
		const char *text = sigdescr_np(sig);

		return xasprintf("killed by signal %d (%s)", sig, text ? text : "unknown");
	}
	return xasprintf("exit status %d", WEXITSTATUS(status));
}

static bool is_executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *process_find(const char *name, const char *path)
{
	if (!*name)
		return NULL;
	if (strchr(name, '/'))
		return access(name, F_OK) == 0 ? xstrdup(name) : NULL;
	if (!path)
		path = getenv("PATH");
	if (str_empty(path))
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	for (;;) {
		size_t n = strcspn(path, ":");
		autofree char *dir = xstrndup(path, n);
		autofree char *full = path_join(dir, name, NULL);

		/* Relative entries (the current directory among them) are not for a daemon. */
		if (dir[0] == '/' && is_executable(full))
			return TAKE_PTR(full);
		if (!path[n])
			return NULL;
		path += n + 1;
	}
}
