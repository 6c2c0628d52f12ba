#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only place that creates processes (vfork semantics; the child does async-signal-safe calls
 * only). Any thread. The child gets default signal dispositions, an empty signal mask, and no
 * descriptors but those named.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/strv.h"

enum {
	PROCESS_NEW_SESSION = 1 << 0,	  /* setsid() */
	PROCESS_DIE_WITH_PARENT = 1 << 1, /* PR_SET_PDEATHSIG SIGKILL (of the calling *thread*!) */
	PROCESS_NEW_PGRP = 1 << 2,	  /* process_run() kills all of it at its time-out */
};

struct process_fd {
	int fd;	    /* in the parent; < 0 means /dev/null */
	int target; /* number in the child */
};

struct process_spec {
	const char *path; /* searched in $PATH when it has no slash */
	int program_fd;	  /* > 0: executed in place of path, which then only names it; no script */
	char *const *argv;
	char *const *envp;	      /* NULL: the caller's */
	const char *cwd;	      /* NULL: unchanged */
	const struct process_fd *fds; /* 0, 1, 2 default to /dev/null, /dev/null, inherited */
	size_t n_fds;
	unsigned flags;
};

/* Starts it; *ret_pidfd may be NULL. NOT_FOUND when the program does not exist. An exec failure is
 * reported here, not as an exit status. Returns the pid or -1. */
pid_t process_spawn(const struct process_spec *spec, int *ret_pidfd, struct error *err);

/* Waits for the end; *ret_status as waitpid(2) gives it. timeout_ms < 0: no limit. On time-out the
 * process is killed, reaped, and DEADLINE_EXCEEDED returned. */
int process_wait(pid_t pid, int pidfd, int timeout_ms, int *ret_status, struct error *err);

/* Runs to the end with input on stdin (may be NULL), stdout and stderr collected (bounded by their
 * max, the rest is read and dropped). Non-zero exit is not an error here. */
int process_run(const struct process_spec *spec, const void *input, size_t input_len,
		struct buf *out, struct buf *errout, int timeout_ms, int *ret_status,
		struct error *err);

/* "exit status 3", "killed by signal 9 (Killed)"; malloc'ed. */
char *process_status_string(int status);
/* Absolute path of an executable found in path (NULL: $PATH), malloc'ed; NULL when there is none.
 */
char *process_find(const char *name, const char *path);
