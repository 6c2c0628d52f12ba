/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server that gets the HTTP/2 preface and then the input, and messages as their checks see them.
 * The server's threads live through all inputs.
 */
#include "base/log.h"
#include "base/mem.h"
#include "rpc/grpc-health.h"
#include "rpc/protobuf-wire.h"

#include "runtime.v1.pb-c.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct server {
	struct loop *loop;
	struct grpc_server *grpc;
	struct grpc_health *health;
} server;

struct connection {
	int ours, theirs;
};

static void set_up(void)
{
	log_setup("fuzz", LOG_ERR, LOG_FORMAT_TEXT);
	server.loop = loop_new(NULL);
	server.grpc = grpc_server_new(server.loop, jobs_new(server.loop), NULL, NULL);
	server.health = grpc_health_new(server.grpc, server.loop);
}

/* Takes what the server writes until it has closed. */
static void tick(void *arg)
{
	struct connection *c = arg;
	char bytes[4096];

	while (recv(c->ours, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	if (grpc_server_connections(server.grpc) == 0)
		loop_stop(server.loop);
	else
		loop_post(server.loop, tick, c);
}

static void begin(void *arg)
{
	struct connection *c = arg;

	grpc_server_adopt(server.grpc, c->theirs);
	tick(c);
}

static void fuzz_session(const uint8_t *data, size_t size)
{
	int fds[2];

	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	struct connection c = { .ours = fds[0], .theirs = fds[1] };
	assert(send(c.ours, PREFACE, strlen(PREFACE), MSG_NOSIGNAL) == (ssize_t)strlen(PREFACE));
	assert(send(c.ours, data, size, MSG_NOSIGNAL) == (ssize_t)size);
	shutdown(c.ours, SHUT_WR);
	loop_post(server.loop, begin, &c);
	loop_run(server.loop);
	close(c.ours);
}

static void fuzz_message(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t size)
{
	autofree uint8_t *repaired = xmemdup(data, size + !size);
	autofree uint8_t *twice = NULL;
	bool good = protobuf_check(d, data, size, 1 << 20, NULL) == 0;

	protobuf_repair(d, repaired, size);
	twice = xmemdup(repaired, size + !size);
	protobuf_repair(d, twice, size);
	assert(memcmp(repaired, twice, size) == 0);
	if (!good)
		return;
	assert(memcmp(repaired, data, size) == 0);
	ProtobufCMessage *m = protobuf_c_message_unpack(d, NULL, size, data);
	if (m)
		protobuf_c_message_free_unpacked(m, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 65536)
		return 0;
	if (!server.loop)
		set_up();
	fuzz_session(data, size);
	fuzz_message(&runtime__v1__create_container_request__descriptor, data, size);
	fuzz_message(&runtime__v1__container_status__descriptor, data, size);
	return 0;
}
