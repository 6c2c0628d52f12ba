#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One interactive session: a hijacked stream connected to our stdin, stdout, stderr, with raw
 * terminal mode, resizing, signal proxying and detach keys. session_open() before the process is
 * started (it takes hold of the signals), session_run() after.
 */

#include "cli/cli.h"
#include "cli/stream.h"

struct session {
	struct client *client;
	struct exchange *stream; /* borrowed; NULL: only wait */
	struct exchange *wait;	 /* borrowed; NULL: ends with the stream */
	bool tty;
	bool input;		 /* forward stdin */
	bool output, errors;	 /* show stdout, stderr */
	bool proxy_signals;	 /* to container */
	const char *container;	 /* to signal and resize */
	const char *exec;	 /* to resize instead */
	const char *detach_keys; /* NULL: default */

	/* private */
	struct detach_keys keys;
	struct demux demux;
	int signal_fd;
	struct buf out; /* typed, not sent yet */
	bool stream_ended;
	bool wait_ended;
	bool input_ended;
	bool detached;
	bool raw;
};

int session_open(struct session *s, struct error *err);
/* Returns when the stream (and the wait) has ended or the user has detached (s->detached). */
int session_run(struct session *s, struct error *err);
void session_done(struct session *s);

/* "the input device is not a TTY" unless stdin may be used so. */
int session_check_tty(bool input, bool tty, struct error *err);
