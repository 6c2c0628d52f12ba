/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/services.h"

#include "api/containerd/containerd.h"
#include "api/docker/docker.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/services-pods.h"
#include "engine/engine.h"
#include "image/service.h"
#include "network/network.h"
#include "store/store.h"

struct services {
	struct store *store;
	struct image_service *images;
	struct network_service *network;
	struct engine *engine;
	struct docker_api *docker;
	struct pod_services *pods;
	struct containerd_api *containerd;
	struct runtime_entry *runtimes;
	struct shim_events listeners;
	struct ttrpc_service shim_events;
};

static int find_programs(const struct config *c, struct error *err)
{
	const struct {
		const char *name, *path;
	} programs[] = { { "kistl-shim", c->shim }, { "kistl-image", c->worker } };

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		if (!programs[i].path)
			return error_set(err, ERROR_NOT_FOUND,
					 "'%s' is neither beside kistld nor in $PATH",
					 programs[i].name);
	}
	return 0;
}

static int start_store(struct services *s, const struct config *c, struct error *err)
{
	const struct store_config store = { .root = c->root, .snapshotter = c->snapshotter };
	const struct image_service_config images = {
		.worker = c->worker,
		.hosts_dirs = &c->hosts_dirs,
		.insecure = &c->insecure_registries,
		.max_downloads = (unsigned)MIN(c->max_downloads, (int64_t)64),
		.stall_timeout = c->stall_timeout,
	};
	struct image_service_config with_store = images;

	if (store_open(&store, &s->store, err) < 0)
		return -1;
	with_store.store = s->store;
	s->images = image_service_new(&with_store, err);
	return s->images ? 0 : -1;
}

static int start_engine(struct services *s, const struct config *c, struct loop *loop,
			struct jobs *jobs, struct error *err)
{
	const struct network_service_config network = {
		.store = s->store,
		.state = c->state,
		.bridge = c->bridge,
		.subnet = c->subnet,
		.loop = loop,
		.jobs = jobs,
	};
	const struct config_runtime *r = config_runtime(c, c->default_runtime);

	if (network_service_new(&network, &s->network, err) < 0)
		return -1;
	s->pods = pod_services_new(c, loop, jobs, err);
	if (!s->pods)
		return -1;
	s->runtimes = xnew_array(struct runtime_entry, c->runtimes.n);
	for (size_t i = 0; i < c->runtimes.n; i++) {
		s->runtimes[i].name = c->runtimes.v[i].name;
		s->runtimes[i].path = c->runtimes.v[i].path;
	}
	struct engine_config engine = {
		.loop = loop,
		.jobs = jobs,
		.store = s->store,
		.images = s->images,
		.network = s->network,
		.root = c->root,
		.state = c->state,
		.shim = c->shim,
		.init = c->init,
		.address = c->socket,
		.runtimes = s->runtimes,
		.n_runtimes = c->runtimes.n,
		.default_runtime = c->default_runtime,
		.log_driver = c->log_driver,
		.pod_log_line = c->cri.max_log_line,
		.cdi_dirs = &c->cri.cdi_spec_dirs,
		.log_options = c->log_options,
		.dns = &c->dns,
		.systemd_cgroup = c->cri.systemd_cgroup || (r && r->systemd_cgroup),
	};
	pod_services_networks(s->pods, &engine, s->runtimes);
	return engine_new(&engine, &s->engine, err);
}

static const char *runtime_path(void *arg, const char *name)
{
	const struct config *c = arg;

	return config_runtime_path(c, name[0] ? name : c->default_runtime);
}

static int start_containerd(struct services *s, const struct config *c, struct loop *loop,
			    struct jobs *jobs, struct error *err)
{
	const struct containerd_config config = {
		.loop = loop,
		.jobs = jobs,
		.store = s->store,
		.images = s->images,
		.root = c->root,
		.state = c->state,
		.shim = c->shim,
		.address = c->socket,
		.runtime = runtime_path,
		.runtime_arg = (void *)(uintptr_t)c,
		.pods = {
			.ns = CRI_NAMESPACE,
			.container = cri_containerd_container,
			.task = cri_containerd_task,
			.arg = pod_services_cri(s->pods),
		},
	};

	s->containerd = containerd_api_new(&config, err);
	return s->containerd ? 0 : -1;
}

struct services *services_start(const struct config *config, struct loop *loop, struct jobs *jobs,
				struct error *err)
{
	struct services *s = xnew(struct services);

	if (find_programs(config, err) < 0 || start_store(s, config, err) < 0 ||
	    start_engine(s, config, loop, jobs, err) < 0) {
		services_stop(s);
		return NULL;
	}
	s->docker = docker_api_new(s->engine);
	if (pod_services_start(s->pods, s->engine, err) < 0 ||
	    start_containerd(s, config, loop, jobs, err) < 0) {
		services_stop(s);
		return NULL;
	}
	return s;
}

void services_grpc(struct services *s, struct grpc_server *server)
{
	cri_api_add(pod_services_cri(s->pods), server);
	containerd_api_add(s->containerd, server);
}

void services_http_config(struct services *s, struct http_server_config *ret)
{
	docker_api_config(s->docker, ret);
}

bool services_idle(struct services *s)
{
	return engine_idle(s->engine) && pod_services_idle(s->pods);
}

void services_stop(struct services *s)
{
	if (!s)
		return;
	containerd_api_free(s->containerd);
	pod_services_stop(s->pods);
	docker_api_free(s->docker);
	engine_free(s->engine);
	pod_services_free(s->pods);
	network_service_free(s->network);
	image_service_free(s->images);
	store_close(s->store);
	free(s->runtimes);
	free(s);
}

const struct ttrpc_service *services_shim_events(struct services *s)
{
	s->listeners = (struct shim_events){ s->engine, s->containerd };
	shim_events_service(&s->listeners, &s->shim_events);
	return &s->shim_events;
}
