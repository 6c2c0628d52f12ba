/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/grpc-internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

struct grpc_server *grpc_server_new(struct loop *loop, struct jobs *jobs, void *arg,
				    struct error *err)
{
	struct grpc_server *s = xnew(struct grpc_server);

	s->loop = loop;
	s->jobs = jobs;
	s->arg = arg;
	s->refs = 1;
	s->services = MAP_INIT;
	list_init(&s->conns);
	return s;
}

void grpc_server_unref(struct grpc_server *s)
{
	if (--s->refs > 0)
		return;
	map_done(&s->services);
	free(s);
}

void grpc_server_add(struct grpc_server *s, const struct grpc_service *service)
{
	for (const struct grpc_method *m = service->methods; m->name; m++) {
		assert(protobuf_c_service_descriptor_get_method_by_name(service->descriptor,
									m->name));
		assert(!m->unary != !m->streaming);
	}
	void *old = map_set(&s->services, service->descriptor->name,
			    (struct grpc_service *)(uintptr_t)service);
	assert(!old);
	(void)old;
}

void grpc_server_adopt(struct grpc_server *s, int fd)
{
	assert(loop_is_current(s->loop));
	if (s->n_conns >= GRPC_CONNECTIONS_MAX) {
		log_warn("more than %d gRPC connections, dropping a new one", GRPC_CONNECTIONS_MAX);
		close(fd);
		return;
	}
	struct grpc_conn *c = grpc_conn_new(s, fd);
	if (!c)
		return;
	list_append(&s->conns, &c->node);
	s->n_conns++;
}

unsigned grpc_server_connections(const struct grpc_server *s)
{
	return s->n_conns;
}

void grpc_server_drain(struct grpc_server *s)
{
	s->draining = true;
	LIST_FOREACH (c, &s->conns, struct grpc_conn, node)
		grpc_conn_drain(c);
}

void grpc_server_free(struct grpc_server *s)
{
	if (!s)
		return;
	while (!list_is_empty(&s->conns))
		grpc_conn_close(LIST_ENTRY(s->conns.next, struct grpc_conn, node));
	grpc_server_unref(s);
}

/* The wording is grpc-go's, which clients of containerd look at. */
int grpc_server_resolve(struct grpc_call *c, struct error *err)
{
	const char *slash = c->path && c->path[0] == '/' ? strrchr(c->path, '/') : NULL;

	if (!slash || slash == c->path)
		return error_set(err, ERROR_UNIMPLEMENTED, "malformed method name: \"%s\"",
				 c->path ? c->path : "");
	autofree char *service = xstrndup(c->path + 1, (size_t)(slash - c->path - 1));
	c->service = map_get(&c->server->services, service);
	if (!c->service)
		return error_set(err, ERROR_UNIMPLEMENTED, "unknown service %s", service);
	for (const struct grpc_method *m = c->service->methods; m->name; m++) {
		if (strcmp(m->name, slash + 1) == 0)
			c->method = m;
	}
	if (!c->method)
		return error_set(err, ERROR_UNIMPLEMENTED, "unknown method %s for service %s",
				 slash + 1, service);
	c->descriptor = protobuf_c_service_descriptor_get_method_by_name(c->service->descriptor,
									 c->method->name);
	return 0;
}
