#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standard streams of one process (a container's first one, or an exec). Loop thread only.
 *
 * Life: streams_new() with the request's strings; clients may attach from then on; streams_open()
 * makes pipes (or a terminal comes through streams_set_console()); the runtime gets the child's
 * ends; streams_running() closes those here and starts the flow; streams_process_exited() takes
 * what the pipes still hold, after which the exit may be told; streams_free() ends it. Clients that
 * have not taken all their bytes live on by themselves (streams_lingering()).
 *
 * Nothing is ever waited for, and memory is bounded: one piece is read at a time, and no more is
 * read while a client or fifo has more than 256 KiB to take.
 */

#include "base/error.h"
#include "base/process.h"
#include "loop/loop.h"
#include "rpc/attach-proto.h"

struct streams;

struct streams_spec {
	const char *ns, *id; /* for loggers' environment */
	const char *in, *out, *err;
	bool terminal;
	uint32_t uid, gid; /* owners of pipes */
};

/* Checks the strings; opens nothing. */
int streams_new(struct loop *l, const struct streams_spec *spec, struct streams **ret,
		struct error *err);
void streams_free(struct streams *s);
/* Opens everything; done runs, maybe from within, when the process may start (a logger program gets
 * ready first). err is owned by the caller. */
void streams_open(struct streams *s, void (*done)(const struct error *err, void *arg), void *arg);
/* The child's 0, 1 and 2; valid until streams_running(). */
size_t streams_child_fds(const struct streams *s, struct process_fd ret[3]);
/* Takes the pty's master. */
void streams_set_console(struct streams *s, int master);
void streams_running(struct streams *s);
/* done runs on the loop when everything written before the exit has been taken. Once. */
void streams_process_exited(struct streams *s, void (*done)(void *arg), void *arg);

void streams_close_stdin(struct streams *s);
/* Remembered when the terminal is not there yet. FAILED_PRECONDITION: no terminal. */
int streams_resize(struct streams *s, unsigned width, unsigned height, struct error *err);
/* False: none has been set. */
bool streams_size(const struct streams *s, unsigned *ret_width, unsigned *ret_height);
/* Takes fd, also on failure. FAILED_PRECONDITION: not a kistl-log process, or it has ended. */
int streams_attach(struct streams *s, const struct attach_request *r, int fd, struct error *err);
int streams_reopen_log(struct streams *s, struct error *err);

/* Clients and fifos of processes that are gone, with bytes still to take. */
unsigned streams_lingering(void);
