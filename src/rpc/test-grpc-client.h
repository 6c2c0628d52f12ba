#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the gRPC server: the server in a loop of its own thread with a service whose
 * behaviour the requests' texts choose, and a client on nghttp2 with a blocking socket, in the
 * test's thread.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strv.h"
#include "rpc/grpc-frame.h"
#include "rpc/grpc-health.h"

#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

struct fixture {
	struct loop *loop;
	struct jobs *jobs;
	struct grpc_server *server;
	struct grpc_health *health;
	pthread_t thread;
	sem_t done;
	atomic_int sent;
};

extern struct fixture fixture;

int grpc_fixture_setup(void **state);
int grpc_fixture_teardown(void **state);

#define STREAMS 1024
#define PATIENCE_MS 60000 /* sanitizers on a busy machine */

struct stream {
	struct buf request;
	size_t request_sent;
	bool end; /* of the request, after what is in there */
	struct grpc_deframer in;
	struct strv messages; /* raw, text as far as it goes */
	size_t n_messages;
	size_t n_bytes; /* of messages */
	char http_status[4];
	char status[4];
	char message[8192];
	char accept_encoding[20];
	bool closed;
};

struct client {
	nghttp2_session *session;
	int fd;
	struct stream streams[STREAMS];
	unsigned goaways, pings;
};

struct request {
	const char *method, *path, *type, *timeout;
	const char *name, *value; /* one more header */
};

/* A socket whose other end the server has. */
int grpc_fixture_connect(void);
struct client *client_new(void);
void client_free(struct client *c);
void client_write(struct client *c);
/* One round; false when nothing came in time, or the server closed. */
bool client_step(struct client *c, int ms);
void client_wait(struct client *c, int32_t id);
struct stream *client_stream(struct client *c, int32_t id);
/* POST, gRPC, to path, unless the request says otherwise. */
int32_t client_open(struct client *c, const struct request *r);
/* A message that is one string of n bytes. */
void client_put_bytes(struct client *c, int32_t id, const char *text, size_t n);
void client_put(struct client *c, int32_t id, const char *text);
/* A whole call; text NULL: without a message. */
int32_t client_call(struct client *c, const char *path, const char *text, const char *timeout);
void client_expect(struct client *c, int32_t id, const char *status, const char *message);
