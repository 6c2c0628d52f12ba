/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/services-pods.h"

#include "api/cri/streaming.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "engine/sandbox.h"
#include "network/cni.h"

#include <semaphore.h>
#include <string.h>

#define PULL_TIMEOUT (300 * NSEC_PER_SEC)

struct pod_services {
	const struct config *config;
	struct loop *loop;
	struct jobs *jobs;
	struct engine *engine;
	struct pod_network network;
	struct pod_network *of_runtimes; /* cni NULL: the common one */
	struct streaming *streaming;
	struct cri_handler *handlers;
	struct strv pinned;
	struct cri_api *cri;
};

/* --- on the loop --- */

struct errand {
	int (*fn)(void *arg, struct error *err);
	void *arg;
	struct error *err;
	int result;
	sem_t done;
};

static void run_errand(void *arg)
{
	struct errand *e = arg;

	e->result = e->fn(e->arg, e->err);
	sem_post(&e->done);
}

static int on_loop(struct loop *loop, int (*fn)(void *arg, struct error *err), void *arg,
		   struct error *err)
{
	struct errand e = { .fn = fn, .arg = arg, .err = err };

	if (loop_is_current(loop))
		return fn(arg, err);
	sem_init(&e.done, 0, 0);
	loop_post(loop, run_errand, &e);
	while (sem_wait(&e.done) < 0)
		;
	sem_destroy(&e.done);
	return e.result;
}

/* --- networks --- */

static int make_network(struct pod_services *s, const char *conf_dir, struct pod_network *ret,
			struct error *err)
{
	const struct config_cri *c = &s->config->cri;
	const struct cni_config config = {
		.conf_dir = conf_dir,
		.bin_dirs = &c->cni_bin_dirs,
		.root = s->config->root,
		.binaries_only = c->cni_binaries_only,
		.loop = s->loop,
		.jobs = s->jobs,
	};

	*ret = (struct pod_network){ .attach = cni_attach,
				     .detach = cni_detach,
				     .result_done = cni_result_done };
	return cni_new(&config, &ret->cni, err);
}

static int make_networks(void *arg, struct error *err)
{
	struct pod_services *s = arg;
	const struct config *c = s->config;

	if (make_network(s, c->cri.cni_conf_dir, &s->network, err) < 0)
		return -1;
	for (size_t i = 0; i < c->runtimes.n; i++) {
		const char *dir = c->runtimes.v[i].cni_conf_dir;

		if (!str_empty(dir) && make_network(s, dir, &s->of_runtimes[i], err) < 0)
			return -1;
	}
	return 0;
}

static int free_networks(void *arg, struct error *err UNUSED)
{
	struct pod_services *s = arg;

	for (size_t i = 0; i < s->config->runtimes.n; i++)
		if (s->of_runtimes[i].cni)
			cni_free(s->of_runtimes[i].cni);
	if (s->network.cni)
		cni_free(s->network.cni);
	return 0;
}

struct pod_services *pod_services_new(const struct config *config, struct loop *loop,
				      struct jobs *jobs, struct error *err)
{
	struct pod_services *s = xnew(struct pod_services);

	s->config = config;
	s->loop = loop;
	s->jobs = jobs;
	s->of_runtimes = xnew_array(struct pod_network, config->runtimes.n + 1);
	if (on_loop(loop, make_networks, s, err) == 0)
		return s;
	pod_services_free(s);
	return NULL;
}

void pod_services_networks(struct pod_services *s, struct engine_config *engine,
			   struct runtime_entry *runtimes)
{
	engine->pod_network = &s->network;
	for (size_t i = 0; i < s->config->runtimes.n; i++)
		if (s->of_runtimes[i].cni)
			runtimes[i].pod_network = &s->of_runtimes[i];
}

/* --- streaming --- */

static int open_netns(void *arg, const char *sandbox_id, struct error *err)
{
	struct pod_services *s = arg;

	return engine_sandbox_open_netns(s->engine, CRI_NAMESPACE, sandbox_id, err);
}

static int make_streaming(void *arg, struct error *err)
{
	struct pod_services *s = arg;
	const struct config_cri *c = &s->config->cri;
	int64_t port = 0;

	if (!str_empty(c->stream_port) &&
	    (parse_int64(c->stream_port, &port) < 0 || port < 0 || port > 65535))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "'stream_server_port' is no port: '%s'", c->stream_port);
	if (c->stream_tls && (str_empty(c->stream_cert) || str_empty(c->stream_key)))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "'enable_tls_streaming' needs 'x509_key_pair_streaming'");
	const struct streaming_config config = {
		.loop = s->loop,
		.jobs = s->jobs,
		.engine = s->engine,
		.ns = CRI_NAMESPACE,
		.address = str_empty(c->stream_address) ? NULL : c->stream_address,
		.port = (uint16_t)port,
		.tls = { .cert = c->stream_tls ? c->stream_cert : NULL,
			 .key = c->stream_tls ? c->stream_key : NULL,
			 .ca = c->stream_tls ? c->stream_ca : NULL },
		.idle_timeout = c->stream_idle_timeout,
		.open_netns = open_netns,
		.arg = s,
	};
	return streaming_new(&config, &s->streaming, err);
}

static int free_streaming(void *arg, struct error *err UNUSED)
{
	struct pod_services *s = arg;

	cri_api_free(TAKE_PTR(s->cri));
	streaming_free(TAKE_PTR(s->streaming));
	return 0;
}

bool pod_services_idle(struct pod_services *s)
{
	return streaming_active(s->streaming) == 0;
}

/* --- the CRI --- */

/* What Status shows when asked for all: containerd's names, where there are any. */
static struct json *shown_config(const struct config *c)
{
	struct json *j = json_new_object(), *containerd = json_new_object();
	struct json *runtimes = json_new_object(), *cni = json_new_object();

	for (size_t i = 0; i < c->runtimes.n; i++) {
		const struct config_runtime *r = &c->runtimes.v[i];
		struct json *one = json_new_object(), *options = json_new_object();

		json_set_string(one, "runtimeType", r->type ? r->type : "");
		json_set_string(options, "BinaryName", r->path);
		json_set_bool(options, "SystemdCgroup", r->systemd_cgroup);
		json_set(one, "options", options);
		json_set_bool(one, "privileged_without_host_devices",
			      r->privileged_without_host_devices);
		json_set(runtimes, r->name, one);
	}
	json_set_string(containerd, "defaultRuntimeName", c->default_runtime);
	json_set(containerd, "runtimes", runtimes);
	json_set(j, "containerd", containerd);
	json_set_string(cni, "confDir", c->cri.cni_conf_dir ? c->cri.cni_conf_dir : "");
	json_set(cni, "binDirs", json_new_strv(&c->cri.cni_bin_dirs));
	json_set(j, "cni", cni);
	json_set_bool(j, "enableCDI", !c->cri.disable_cdi);
	json_set_string(j, "rootDir", c->root);
	json_set_string(j, "stateDir", c->state);
	return j;
}

static void fill_handlers(struct pod_services *s)
{
	const struct config *c = s->config;

	s->handlers = xnew_array(struct cri_handler, c->runtimes.n + 1);
	for (size_t i = 0; i < c->runtimes.n; i++) {
		s->handlers[i].name = c->runtimes.v[i].name;
		s->handlers[i].no_host_devices = c->runtimes.v[i].privileged_without_host_devices;
		s->handlers[i].pod_annotations = &c->runtimes.v[i].pod_annotations;
		s->handlers[i].container_annotations = &c->runtimes.v[i].container_annotations;
	}
	for (size_t i = 0; i < c->cri.pinned_images.n; i++)
		strv_push(&s->pinned, c->cri.pinned_images.v[i].value);
}

/* What the last daemon attached and no pod knows of: it died in between. */
static void collect_networks(void *arg)
{
	struct pod_services *s = arg;
	struct sandbox_views views = { 0 };
	autostrv struct strv valid = STRV_INIT;

	engine_sandbox_list(s->engine, CRI_NAMESPACE, &views);
	for (size_t i = 0; i < views.n; i++)
		strv_push(&valid, views.v[i]->id);
	sandbox_views_done(&views);
	for (size_t i = 0; i <= s->config->runtimes.n; i++) {
		struct cni *cni = i == 0 ? s->network.cni : s->of_runtimes[i - 1].cni;
		autoerror struct error err = ERROR_INIT;

		/* Without a configuration there is nothing to collect with. */
		if (cni && cni_gc(cni, &valid, &err) < 0 && !error_is(&err, ERROR_UNAVAILABLE))
			log_warn("collect unused networks of pods: %s, ignoring", err.msg);
	}
}

int pod_services_start(struct pod_services *s, struct engine *engine, struct error *err)
{
	const struct config_cri *c = &s->config->cri;

	s->engine = engine;
	fill_handlers(s);
	if (on_loop(s->loop, make_streaming, s, err) < 0)
		return -1;
	const struct cri_config config = {
		.engine = engine,
		.loop = s->loop,
		.jobs = s->jobs,
		.cni = s->network.cni,
		.streaming = s->streaming,
		.pinned = &s->pinned,
		.pull_timeout = c->pull_timeout ? c->pull_timeout : PULL_TIMEOUT,
		.handlers = s->handlers,
		.n_handlers = s->config->runtimes.n,
		.unset_seccomp = c->unset_seccomp_profile,
		.restrict_oom_score_adj = c->restrict_oom_score_adj,
		.ignore_image_volumes = c->ignore_image_volumes,
		.privileged_ports = c->no_unprivileged_ports,
		.unprivileged_ping = c->unprivileged_icmp,
		.cdi = !c->disable_cdi,
		.shown = shown_config(s->config),
	};
	s->cri = cri_api_new(&config);
	job_submit(s->jobs, JOB_OPS, collect_networks, NULL, s);
	return 0;
}

struct cri_api *pod_services_cri(struct pod_services *s)
{
	return s->cri;
}

void pod_services_stop(struct pod_services *s)
{
	if (s)
		on_loop(s->loop, free_streaming, s, NULL);
}

void pod_services_free(struct pod_services *s)
{
	if (!s)
		return;
	on_loop(s->loop, free_networks, s, NULL);
	strv_done(&s->pinned);
	free(s->handlers);
	free(s->of_runtimes);
	free(s);
}
