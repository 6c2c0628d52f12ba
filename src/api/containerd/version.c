/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Version and Introspection. What is announced is the containerd whose API this is: below 2.0, so
 * that clients pull by themselves and do not count on the Transfer service.
 */
#include "api/containerd/internal.h"

#include "base/mem.h"
#include "oci/platform.h"
#include "store/snapshots.h"

#include "containerd.services.introspection.v1.pb-c.h"
#include "containerd.services.version.v1.pb-c.h"

#include <sys/stat.h>
#include <unistd.h>

#define CONTAINERD_VERSION "v1.7.28+kistl." KISTL_VERSION
#define PLUGIN(a) CTRD_NEW(a, services__introspection__v1__plugin)

typedef Containerd__Services__Introspection__V1__Plugin plugin;

static int version(struct grpc_call *c, const ProtobufCMessage *m UNUSED, ProtobufCMessage *r,
		   struct error *err UNUSED)
{
	Containerd__Services__Version__V1__VersionResponse *reply =
		(Containerd__Services__Version__V1__VersionResponse *)r;

	reply->version = message_text(grpc_call_arena(c), CONTAINERD_VERSION);
	reply->revision = message_text(grpc_call_arena(c), KISTL_VERSION);
	return 0;
}

const struct grpc_method version_methods[] = {
	{ "Version", .unary = version, .pool = JOB_OPS },
	{ NULL },
};

static int server(struct grpc_call *c, const ProtobufCMessage *m UNUSED, ProtobufCMessage *r,
		  struct error *err UNUSED)
{
	Containerd__Services__Introspection__V1__ServerResponse *reply =
		(Containerd__Services__Introspection__V1__ServerResponse *)r;
	struct stat st;

	reply->uuid = ctrd_of(c)->uuid;
	reply->pid = (uint64_t)getpid();
	if (stat("/proc/self/ns/pid", &st) == 0)
		reply->pidns = (uint64_t)st.st_ino;
	return 0;
}

/* What clients look for, and what they look for in it. */
static const struct {
	const char *type, *id;
	bool has_platform;
	const char *capabilities[5];
	const char *exports[2]; /* one pair */
} plugins[] = {
	{ "io.containerd.content.v1", "content",
	  .exports = { "root", "io.containerd.content.v1.content" } },
	{ "io.containerd.snapshotter.v1", "native", true },
	{ "io.containerd.snapshotter.v1", "overlayfs", true },
	{ "io.containerd.metadata.v1", "bolt", .exports = { "path", "metadata.db" } },
	{ "io.containerd.differ.v1", "walking", true },
	{ "io.containerd.event.v1", "exchange" },
	{ "io.containerd.gc.v1", "scheduler" },
	{ "io.containerd.lease.v1", "manager" },
	{ "io.containerd.runtime.v2", "task", true },
	{ "io.containerd.service.v1", "containers-service" },
	{ "io.containerd.service.v1", "content-service" },
	{ "io.containerd.service.v1", "diff-service" },
	{ "io.containerd.service.v1", "images-service" },
	{ "io.containerd.service.v1", "introspection-service" },
	{ "io.containerd.service.v1", "namespaces-service" },
	{ "io.containerd.service.v1", "snapshots-service" },
	{ "io.containerd.service.v1", "tasks-service" },
	{ "io.containerd.grpc.v1", "containers" },
	{ "io.containerd.grpc.v1", "content" },
	{ "io.containerd.grpc.v1", "diff" },
	{ "io.containerd.grpc.v1", "events" },
	{ "io.containerd.grpc.v1", "healthcheck" },
	{ "io.containerd.grpc.v1", "images" },
	{ "io.containerd.grpc.v1", "introspection" },
	{ "io.containerd.grpc.v1", "leases" },
	{ "io.containerd.grpc.v1", "namespaces" },
	{ "io.containerd.grpc.v1", "snapshots" },
	{ "io.containerd.grpc.v1", "tasks" },
	{ "io.containerd.grpc.v1", "version" },
	{ "io.containerd.grpc.v1", "cri", true },
};

static const char *plugin_field(const void *object, const struct strv *path)
{
	const plugin *p = object;

	if (path->n == 1 && str_equal(path->v[0], "type"))
		return p->type;
	return path->n == 1 && str_equal(path->v[0], "id") ? p->id : NULL;
}

static void set_platform(struct arena *a, plugin *p)
{
	autoplatform struct platform host = PLATFORM_INIT;
	Containerd__Types__Platform *out = CTRD_NEW(a, types__platform);

	platform_host(&host);
	out->os = message_text(a, host.os);
	out->architecture = message_text(a, host.architecture);
	out->variant = message_text(a, host.variant);
	p->platforms = message_array(a, 1);
	p->platforms[p->n_platforms++] = out;
}

static void set_exports(struct arena *a, plugin *p, const char *key, const char *value)
{
	autokvs struct kvs k = KVS_INIT;

	kvs_set(&k, key, value);
	p->exports = message_map(
		a, &containerd__services__introspection__v1__plugin__exports_entry__descriptor, &k,
		&p->n_exports);
}

static plugin *make_plugin(struct arena *a, const struct store *s, size_t i)
{
	plugin *p = PLUGIN(a);
	const char *const *exports = plugins[i].exports;
	unsigned capabilities = 0;

	p->type = message_text(a, plugins[i].type);
	p->id = message_text(a, plugins[i].id);
	if (plugins[i].has_platform)
		set_platform(a, p);
	if (exports[0])
		set_exports(a, p, exports[0], arena_printf(a, "%s/%s", store_root(s), exports[1]));
	if (str_equal(p->type, "io.containerd.snapshotter.v1") &&
	    snapshotter_capabilities((struct store *)(uintptr_t)s, p->id, &capabilities, NULL) ==
		    0) {
		set_exports(a, p, "root",
			    arena_printf(a, "%s/%s.%s", store_root(s), p->type, p->id));
		p->capabilities = message_array(a, 1);
		if (capabilities & SNAPSHOT_CAN_REBASE)
			p->capabilities[p->n_capabilities++] = message_text(a, "rebase");
	}
	return p;
}

static int list_plugins(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			struct error *err)
{
	const Containerd__Services__Introspection__V1__PluginsRequest *request =
		(const Containerd__Services__Introspection__V1__PluginsRequest *)m;
	Containerd__Services__Introspection__V1__PluginsResponse *reply =
		(Containerd__Services__Introspection__V1__PluginsResponse *)r;
	struct arena *a = grpc_call_arena(c);
	autofilter struct filter *f = NULL;

	if (filter_parse(request->filters, request->n_filters, &f, err) < 0)
		return -1;
	reply->plugins = message_array(a, ARRAY_SIZE(plugins));
	for (size_t i = 0; i < ARRAY_SIZE(plugins); i++) {
		plugin *p = make_plugin(a, ctrd_of(c)->config.store, i);

		if (filter_match(f, plugin_field, p))
			reply->plugins[reply->n_plugins++] = p;
	}
	return 0;
}

const struct grpc_method introspection_methods[] = {
	{ "Server", .unary = server, .pool = JOB_OPS },
	{ "Plugins", .unary = list_plugins, .pool = JOB_OPS },
	{ NULL },
};
