#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by streams*.c only: flow (streams.c), opening (streams-open.c), attached clients
 * (streams-client.c). */

#include "base/list.h"
#include "shim/detach.h"
#include "shim/io-uri.h"
#include "shim/streams.h"
#include "shim/writer.h"

#define STREAMS_CHUNK ((size_t)32 << 10)

/* One of stdout and stderr, on its way from the process. */
struct output {
	struct streams *owner;
	enum log_stream which;
	struct watch *watch; /* NULL: not open, or at its end */
	struct writer *sink; /* fifo or logger */
	int file;	     /* file://, or -1 */
};

struct client {
	struct list node;
	struct streams *owner; /* NULL: lingering, only its backlog is left */
	struct writer *writer;
	bool want_in, want_out, want_err, mux;
	bool at_eof;
	bool never_served; /* its process did not start: who gave us the socket has more to say */
	struct detach_matcher detach;
};

struct streams {
	struct loop *loop;
	char *ns, *id;
	uint32_t uid, gid;
	bool terminal;
	char *in;
	struct io_uri out, err;
	struct logfile *log;
	struct output outputs[LOG_STREAM_MAX];
	struct writer *to_stdin; /* NULL: none, or closed */
	struct watch *from_fifo; /* stdin's source when it is a fifo */
	int fifo_keep;		 /* our write end of it */
	bool stdin_ends;	 /* close it when its backlog is written */
	int child[3];		 /* -1: /dev/null */
	int console;		 /* a dup of the master, for resizing */
	unsigned width, height;
	struct list clients;
	bool running, exited, finished;
	struct loop_timer *linger;
	void (*on_drained)(void *arg);
	void *on_drained_arg;
	/* A logger program getting ready. */
	struct watch *ready;
	void (*on_open)(const struct error *err, void *arg);
	void *on_open_arg;
};

/* streams.c */
extern char streams_chunk[STREAMS_CHUNK];
bool streams_is_kistl(const struct streams *s);
/* Some reader has too much to take: read nothing more for now. */
bool streams_is_stuck(const struct streams *s);
void streams_resume(struct streams *s);
void streams_on_output(int events, void *arg);
void streams_on_fifo_in(int events, void *arg);
extern const struct writer_ops streams_sink_ops;
extern const struct writer_ops streams_stdin_ops;
/* The terminal goes: who is on it gets SIGHUP. */
void streams_hang_up(struct streams *s);
/* Passes bytes to the process; they are dropped when it has no stdin. */
void streams_put_stdin(struct streams *s, const void *p, size_t n);

/* streams-client.c */
void client_put(struct client *c, enum log_stream which, const void *p, size_t n);
void client_drop(struct client *c);
/* No more output: closes when all has been taken. */
void client_finish(struct client *c);
void client_update_reading(struct client *c);
extern unsigned streams_n_lingering;
