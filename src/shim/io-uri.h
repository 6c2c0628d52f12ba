#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a process's output goes, from the strings of Create and Exec:
 *
 *	""			nowhere
 *	/path			a fifo that the client made
 *	file:///path		appended to
 *	binary:///path?k=v	a logger program, argv = path k v ...
 *	kistl-log:///path?driver=json-file|local|cri|none&max-size=BYTES&max-file=N&max-line=BYTES
 *				&stdin=open|once|none&attrs=JSON&remote=journald|syslog...
 *				the shim writes the log itself and serves attach; `local` is written
 *as json-file
 */

#include "base/error.h"
#include "base/map.h"
#include "shim/logfile.h"

enum io_kind {
	IO_NULL,
	IO_FIFO,
	IO_FILE,
	IO_BINARY,
	IO_KISTL,
};

enum io_stdin { IO_STDIN_NONE, IO_STDIN_OPEN, IO_STDIN_ONCE };

struct io_uri {
	enum io_kind kind;
	char *path;
	struct kvs query;	/* IO_BINARY, IO_KISTL */
	struct log_options log; /* IO_KISTL; log.path is borrowed from path */
	enum io_stdin in;	/* IO_KISTL */
};

void io_uri_done(struct io_uri *u);
/* text may be NULL. INVALID_ARGUMENT, UNIMPLEMENTED for schemes that are not known. */
int io_uri_parse(const char *text, struct io_uri *ret, struct error *err);
