/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox's network. That it has to be released is on record before it is made, and until its
 * release has worked, so that no crash between loses an address.
 */

#include "base/log.h"
#include "base/mem.h"
#include "engine/sandbox-internal.h"
#include "network/cni.h"

#include <string.h>

static const struct pod_network *network_of(const struct sandbox *s)
{
	const struct runtime_entry *runtime = engine_runtime(s->e, s->config.runtime, NULL);

	return runtime && runtime->pod_network ? runtime->pod_network : s->e->config.pod_network;
}

struct request {
	struct cni_request r;
	struct port_mapping *ports;
	char *netns, *cgroup;
};

static void request_done(struct request *q)
{
	free(q->ports);
	free(q->netns);
	free(q->cgroup);
}

static void request_fill(const struct sandbox *s, struct request *q)
{
	const struct sandbox_config *c = &s->config;

	q->ports = xnew_array(struct port_mapping, c->ports.n + 1);
	for (size_t i = 0; i < c->ports.n; i++)
		q->ports[i] = (struct port_mapping){
			.protocol = c->ports.v[i].protocol,
			.host_ip = c->ports.v[i].host_ip,
			.host_port = (unsigned)c->ports.v[i].host_port,
			.container_port = (unsigned)c->ports.v[i].container_port,
		};
	q->netns = sandbox_ns_path(s, SANDBOX_NET);
	q->cgroup = sandbox_cgroup(s, NULL);
	q->r = (struct cni_request){
		.id = s->id,
		.netns = q->netns,
		.pod_name = c->name,
		.pod_namespace = c->namespace_ ? c->namespace_ : "",
		.pod_uid = c->uid ? c->uid : "",
		.ports = q->ports,
		.n_ports = c->ports.n,
		.annotations = &c->annotations,
		.dns_servers = &c->dns_servers,
		.dns_searches = &c->dns_searches,
		.dns_options = &c->dns_options,
		.cgroup_path = q->cgroup,
	};
}

static void keep_result(struct sandbox *s, const struct cni_result *r)
{
	pthread_mutex_lock(&s->e->lock);
	if (!str_empty(r->ip))
		strv_push(&s->ips, r->ip);
	strv_extend(&s->ips, &r->additional_ips);
	if (r->json)
		s->cni_result = json_format(r->json, /* pretty */ false);
	pthread_mutex_unlock(&s->e->lock);
}

static void note_attached(struct sandbox *s, bool attached)
{
	pthread_mutex_lock(&s->e->lock);
	s->attached = attached;
	pthread_mutex_unlock(&s->e->lock);
}

int sandbox_net_attach(struct sandbox *s, struct error *err)
{
	const struct pod_network *net = network_of(s);
	CLEANUP(request_done) struct request q = { 0 };
	struct cni_result result = { 0 };

	if (s->config.network != POD_NS_POD)
		return 0;
	if (!net)
		return error_set(err, ERROR_UNAVAILABLE,
				 "no network for pods is configured in this daemon");
	note_attached(s, true);
	if (sandbox_save(s, err) < 0)
		return -1;
	request_fill(s, &q);
	if (net->attach(net->cni, &q.r, &result, err) < 0)
		return error_wrap(err, "set up the network of sandbox \"%s\"", s->id);
	keep_result(s, &result);
	net->result_done(&result);
	return 0;
}

int sandbox_net_detach(struct sandbox *s, struct error *err)
{
	const struct pod_network *net = network_of(s);
	CLEANUP(request_done) struct request q = { 0 };

	if (!s->attached)
		return 0;
	if (!net)
		return error_set(err, ERROR_UNAVAILABLE,
				 "no network for pods is configured in this daemon");
	request_fill(s, &q);
	if (net->detach(net->cni, &q.r, err) < 0)
		return error_wrap(err, "release the network of sandbox \"%s\"", s->id);
	note_attached(s, false);
	return 0;
}
