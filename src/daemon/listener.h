#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sockets that kistld serves, and the first look at each connection: the first bytes tell gRPC
 * (the HTTP/2 preface), ttrpc (a zero byte) and HTTP/1 apart. They are only peeked at, whoever gets
 * the connection reads them. One that says nothing keeps nobody else waiting, and is dropped after
 * a minute. Loop thread.
 */

#include "loop/loop.h"

enum protocol { PROTOCOL_UNKNOWN, PROTOCOL_HTTP, PROTOCOL_GRPC, PROTOCOL_TTRPC };

/* From the first n bytes; UNKNOWN: more are needed. */
enum protocol protocol_guess(const char *p, size_t n);

struct listener;

struct listener_config {
	struct loop *loop;
	const char *path;  /* NULL with sockets from the service manager */
	const char *group; /* NULL: "kistl" or "docker", whichever there is */
	const int *fds;	   /* taken; n_fds 0: listens on path itself */
	size_t n_fds;
	/* Takes the connection. */
	void (*on_connection)(int fd, enum protocol p, void *arg);
	void *arg;
};

struct listener *listener_new(const struct listener_config *config, struct error *err);
/* Connections that have said nothing yet. */
unsigned listener_undecided(const struct listener *l);
/*
 * Stops accepting so that no client is lost: each connect(2) before it succeeded and will be
 * served, each after it fails and may start another daemon. False: clients came in the last moment,
 * and it listens again; `force` takes them in and stops all the same.
 */
bool listener_stop(struct listener *l, bool force);
void listener_free(struct listener *l);
