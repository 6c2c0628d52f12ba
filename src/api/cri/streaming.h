#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CRI's streaming server: exec, attach and port-forward over SPDY/3.1 and WebSocket. The RPCs
 * only leave a request here and hand out an URL with a token that is good for one connection within
 * a minute; everything else happens on a TCP listener of its own, which is opened by the first
 * request. All connections belong to the loop: they are pumped between the client and one end of a
 * socket pair, whose other end the shim has.
 *
 * streaming_exec(), _attach(), _portforward(), _listen() may be called on any thread and do not
 * block; new and free belong to the loop's thread.
 */

#include "base/strv.h"
#include "engine/engine.h"

struct streaming;

struct streaming_tls {
	const char *cert, *key; /* PEM files; NULL: plain HTTP */
	const char *ca;		/* clients must have a certificate of these; NULL: need none */
};

/* What the server works on, where that is not the engine; for tests. */
struct streaming_backend;

struct streaming_config {
	struct loop *loop;
	struct jobs *jobs;
	struct engine *engine;
	const char *ns;	     /* of the containers */
	const char *address; /* NULL: 127.0.0.1 */
	uint16_t port;	     /* 0: any */
	struct streaming_tls tls;
	int64_t idle_timeout;	  /* ns without a byte either way; 0: four hours */
	int64_t creation_timeout; /* ns until the client's streams are there; 0: 30 s */
	int64_t token_ttl;	  /* ns; 0: a minute */
	/* A descriptor of the network namespace that a sandbox has (the host's own for a sandbox on
	 * the host's network). Pool thread. NOT_FOUND, FAILED_PRECONDITION. */
	int (*open_netns)(void *arg, const char *sandbox_id, struct error *err);
	void *arg;
	const struct streaming_backend *backend; /* NULL: the engine */
};

/* Opens nothing yet, but reads the certificates. */
int streaming_new(const struct streaming_config *config, struct streaming **ret, struct error *err);
/* Opens the listener, unless it is open. UNAVAILABLE and alike: the address cannot be had. */
int streaming_listen(struct streaming *s, struct error *err);
/* Ends all connections. NULL is fine. */
void streaming_free(struct streaming *s);
/* Connections that are open, requests that wait for theirs; loop thread. */
unsigned streaming_active(struct streaming *s);

/* ids: full ones, of what the caller has found to exist and to run. All strings are copied. */
struct streaming_exec {
	const char *container_id;
	const struct strv *cmd;
	bool tty, in, out, errs;
};

struct streaming_attach {
	const char *container_id;
	bool tty, in, out, errs;
};

struct streaming_portforward {
	const char *sandbox_id;
	const int32_t *ports; /* may be none: SPDY clients name theirs later */
	size_t n_ports;
};

/* *ret_url is the caller's to free. INVALID_ARGUMENT in the words of the Go implementation;
 * RESOURCE_EXHAUSTED: a thousand requests wait already. */
int streaming_exec(struct streaming *s, const struct streaming_exec *r, char **ret_url,
		   struct error *err);
int streaming_attach(struct streaming *s, const struct streaming_attach *r, char **ret_url,
		     struct error *err);
int streaming_portforward(struct streaming *s, const struct streaming_portforward *r,
			  char **ret_url, struct error *err);
