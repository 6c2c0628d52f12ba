#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a shim is asked to serve a client's stream (attach) and to reopen its log. Any thread;
 *blocks.
 *
 * On the shim's ttrpc socket, a connection whose first byte is not 0 is a control connection. It
 * carries one message of at most CONTROL_MAX bytes, sent with a single sendmsg():
 *
 *	KATTACH1 {"id":…,"exec_id":…,"stdin":b,"stdout":b,"stderr":b,"mux":b,"hangup":b,
 *		"detach_keys":"hex"}\n
 *		with one descriptor (SCM_RIGHTS): the client's connected stream socket
 *	KREOPEN1 {"id":…}\n
 *		the log file has been moved away: close it and open its path again
 *
 * The shim answers "OK\n" or "ERR <code> <message>\n" (gRPC code as a number) and closes. After OK
 *it owns the client's socket, which therefore outlives the daemon: output is written to it (raw, or
 *with Docker's 8-byte header before each piece when mux is set), what it sends is the process's
 *stdin. The client's end of file closes a stdin that was opened with stdin=once; output goes on
 *until the process has ended and everything has been delivered, then the shim closes the socket.
 *The detach keys close only that client. With hangup a terminal goes with
 *its client: when that closes both sides, the processes on it get their SIGHUP. Attaching is
 *possible from Create or Exec on, before Start; a stopped process refuses with FAILED_PRECONDITION,
 *as does one whose stdio is not the shim's (kistl-log: URIs).
 */

#include "base/buf.h"
#include "base/error.h"

#define ATTACH_VERB "KATTACH1 "
#define REOPEN_VERB "KREOPEN1 "
#define CONTROL_MAX 4096
#define DETACH_KEYS_MAX 32

enum {
	ATTACH_STDOUT_HEADER = 1, /* first byte of Docker's stream header */
	ATTACH_STDERR_HEADER = 2,
	ATTACH_HEADER_SIZE = 8,
};

struct attach_request {
	char *id;
	char *exec_id; /* NULL or "": the container's first process */
	bool want_in, want_out, want_err;
	bool mux;
	bool hangup;
	uint8_t detach_keys[DETACH_KEYS_MAX];
	size_t n_detach_keys;
};

void attach_request_done(struct attach_request *r);
/* The whole line. */
int attach_request_format(const struct attach_request *r, struct buf *out, struct error *err);
/* text: what follows the verb, with or without the newline. INVALID_ARGUMENT. */
int attach_request_parse(const char *text, size_t len, struct attach_request *ret,
			 struct error *err);
/* type and length of the piece that follows. */
void attach_header_write(uint8_t out[ATTACH_HEADER_SIZE], uint8_t type, uint32_t len);

/* The daemon's side: asks the shim that listens on `socket`; client_fd stays the caller's (close
 * it: the shim has its own). Codes are the shim's. */
int attach_client(const char *socket, const struct attach_request *r, int client_fd,
		  struct error *err);
int attach_reopen_log(const char *socket, const char *id, struct error *err);
