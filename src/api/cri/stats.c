/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of containers and pods, in cAdvisor's terms. */
#include "api/cri/encode.h"
#include "api/cri/sample.h"

#include "base/mem.h"
#include "base/time.h"
#include "rpc/retry.h"

#define INTERFACES_MAX 64

/* --- pieces --- */

static Runtime__V1__PsiData *encode_psi_line(struct arena *a, const struct pressure_line *p)
{
	Runtime__V1__PsiData *m = CRI_NEW(a, psi_data);

	m->total = p->total;
	m->avg10 = p->avg10;
	m->avg60 = p->avg60;
	m->avg300 = p->avg300;
	return m;
}

static Runtime__V1__PsiStats *encode_psi(struct arena *a, const struct pressure *p)
{
	if (!p->known)
		return NULL;
	Runtime__V1__PsiStats *m = CRI_NEW(a, psi_stats);
	m->full = encode_psi_line(a, &p->full);
	m->some = encode_psi_line(a, &p->some);
	return m;
}

static Runtime__V1__CpuUsage *encode_cpu(struct arena *a, const struct sample *s)
{
	Runtime__V1__CpuUsage *m = CRI_NEW(a, cpu_usage);

	m->timestamp = s->usage.at;
	m->usage_core_nano_seconds = cri_uint64(a, s->usage.cpu);
	m->usage_nano_cores = cri_uint64(a, s->nano_cores);
	m->psi = encode_psi(a, &s->usage.cpu_pressure);
	return m;
}

static Runtime__V1__MemoryUsage *encode_memory(struct arena *a, const struct usage *u)
{
	Runtime__V1__MemoryUsage *m = CRI_NEW(a, memory_usage);
	uint64_t working_set = usage_working_set(u);

	m->timestamp = u->at;
	if (!u->has_memory)
		return m;
	m->working_set_bytes = cri_uint64(a, working_set);
	if (u->memory_limit != USAGE_NO_LIMIT)
		m->available_bytes =
			cri_uint64(a, u->memory_limit - MIN(u->memory_limit, working_set));
	m->usage_bytes = cri_uint64(a, u->memory);
	m->rss_bytes = cri_uint64(a, u->anon);
	m->page_faults = cri_uint64(a, u->faults);
	m->major_page_faults = cri_uint64(a, u->major_faults);
	m->psi = encode_psi(a, &u->memory_pressure);
	return m;
}

static Runtime__V1__SwapUsage *encode_swap(struct arena *a, const struct usage *u)
{
	Runtime__V1__SwapUsage *m = CRI_NEW(a, swap_usage);

	m->timestamp = u->at;
	m->swap_usage_bytes = cri_uint64(a, u->swap);
	if (u->swap_limit != USAGE_NO_LIMIT)
		m->swap_available_bytes =
			cri_uint64(a, u->swap_limit - MIN(u->swap_limit, u->swap));
	return m;
}

static Runtime__V1__IoUsage *encode_io(struct arena *a, const struct usage *u)
{
	Runtime__V1__IoUsage *m = CRI_NEW(a, io_usage);

	m->timestamp = u->at;
	m->psi = encode_psi(a, &u->io_pressure);
	return m;
}

static Runtime__V1__FilesystemUsage *encode_layer(const struct cri_api *api, struct arena *a,
						  const struct sample *s)
{
	Runtime__V1__FilesystemUsage *m = CRI_NEW(a, filesystem_usage);

	m->timestamp = s->has_layer ? s->layer_at : s->usage.at;
	m->fs_id = CRI_NEW(a, filesystem_identifier);
	m->fs_id->mountpoint = message_text(a, store_root(api->store));
	if (s->has_layer) {
		m->used_bytes = cri_uint64(a, s->layer_bytes);
		m->inodes_used = cri_uint64(a, s->layer_inodes);
	}
	return m;
}

/* --- containers --- */

static Runtime__V1__ContainerAttributes *encode_attributes(struct arena *a,
							   const struct container_shared *s)
{
	Runtime__V1__ContainerAttributes *m = CRI_NEW(a, container_attributes);

	m->id = message_text(a, s->id);
	m->metadata = cri_encode_container_metadata(a, s->extension);
	m->labels = message_map(a, &runtime__v1__container_attributes__labels_entry__descriptor,
				&s->config.labels, &m->n_labels);
	m->annotations = cri_annotation_map(
		a, &runtime__v1__container_attributes__annotations_entry__descriptor, s->extension,
		&m->n_annotations);
	return m;
}

/* NULL: it has ended meanwhile. */
static Runtime__V1__ContainerStats *container_stats(struct cri_api *api, struct arena *a,
						    const struct container_brief *b,
						    struct sample *ret_sample, struct error *err)
{
	struct sample s;

	if (samples_container(api->samples, b, &s, NULL, err) < 0)
		return NULL;
	Runtime__V1__ContainerStats *m = CRI_NEW(a, container_stats);
	m->attributes = encode_attributes(a, b->shared);
	m->cpu = encode_cpu(a, &s);
	m->memory = encode_memory(a, &s.usage);
	m->writable_layer = encode_layer(api, a, &s);
	m->swap = encode_swap(a, &s.usage);
	m->io = encode_io(a, &s.usage);
	if (ret_sample)
		*ret_sample = s;
	return m;
}

static int stats_of_container(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			      struct error *err)
{
	const Runtime__V1__ContainerStatsRequest *request =
		(const Runtime__V1__ContainerStatsRequest *)m;
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	struct cri_api *api = cri_of(c);

	if (cri_running(api, request->container_id, &b, err) < 0)
		return -1;
	Runtime__V1__ContainerStats *stats =
		container_stats(api, grpc_call_arena(c), &b.v[0], NULL, err);
	((Runtime__V1__ContainerStatsResponse *)r)->stats = stats;
	return stats ? 0 : -1;
}

static bool runs(const struct container_brief *b)
{
	return b->pid > 0 &&
	       cri_container_state(b->status) == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
}

static bool stats_match(const Runtime__V1__ContainerStatsFilter *f, const struct container_brief *b)
{
	if (!f)
		return true;
	if (!str_empty(f->id) && !str_has_prefix(b->shared->id, f->id))
		return false;
	if (!str_empty(f->pod_sandbox_id) &&
	    !str_has_prefix(b->shared->config.sandbox_id, f->pod_sandbox_id))
		return false;
	return cri_labels_match(&b->shared->config.labels, f->label_selector, f->n_label_selector);
}

static Runtime__V1__ContainerStats **collect(struct grpc_call *c,
					     const Runtime__V1__ContainerStatsFilter *f,
					     size_t *ret_n)
{
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	struct arena *a = grpc_call_arena(c);
	struct cri_api *api = cri_of(c);

	if (!f)
		samples_prune(api->samples);
	engine_briefs(api->engine, CRI_NAMESPACE, NULL, &b);
	Runtime__V1__ContainerStats **out = message_array(a, b.n);
	*ret_n = 0;
	for (size_t i = 0; i < b.n; i++) {
		if (!cri_is_ours(&b.v[i]) || !runs(&b.v[i]) || !stats_match(f, &b.v[i]))
			continue;
		out[*ret_n] = container_stats(api, a, &b.v[i], NULL, NULL);
		*ret_n += out[*ret_n] != NULL;
	}
	return out;
}

static int list_container_stats(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
				struct error *err UNUSED)
{
	Runtime__V1__ListContainerStatsResponse *reply =
		(Runtime__V1__ListContainerStatsResponse *)r;

	reply->stats = collect(c, ((const Runtime__V1__ListContainerStatsRequest *)m)->filter,
			       &reply->n_stats);
	return 0;
}

static int stream_container_stats(struct grpc_call *c, const ProtobufCMessage *m,
				  struct error *err UNUSED)
{
	const Runtime__V1__StreamContainerStatsRequest *request =
		(const Runtime__V1__StreamContainerStatsRequest *)m;
	size_t n;
	Runtime__V1__ContainerStats **items = collect(c, request ? request->filter : NULL, &n);

	grpc_call_send_items(c, cri_of(c)->config.loop,
			     &runtime__v1__stream_container_stats_response__descriptor, items, n);
	return 0;
}

/* --- pods --- */

static Runtime__V1__NetworkInterfaceUsage *encode_interface(struct arena *a,
							    const struct interface_usage *u)
{
	Runtime__V1__NetworkInterfaceUsage *m = CRI_NEW(a, network_interface_usage);

	m->name = message_text(a, u->name);
	m->rx_bytes = cri_uint64(a, u->rx_bytes);
	m->rx_errors = cri_uint64(a, u->rx_errors);
	m->tx_bytes = cri_uint64(a, u->tx_bytes);
	m->tx_errors = cri_uint64(a, u->tx_errors);
	return m;
}

size_t cri_pod_interfaces(struct cri_api *api, const struct sandbox_view *v,
			  struct interface_usage *ret, size_t n)
{
	if (v->config.network == POD_NS_NODE || v->state != SANDBOX_READY)
		return 0;
	autoclose int fd = engine_sandbox_open_netns(api->engine, CRI_NAMESPACE, v->id, NULL);
	return fd < 0 ? 0 : usage_interfaces(fd, ret, n);
}

/* The first one is what the pod is reached by. */
static Runtime__V1__NetworkUsage *encode_network(struct cri_api *api, struct arena *a,
						 const struct sandbox_view *v)
{
	struct interface_usage interfaces[INTERFACES_MAX];
	size_t n = cri_pod_interfaces(api, v, interfaces, INTERFACES_MAX);

	if (n == 0)
		return NULL;
	Runtime__V1__NetworkUsage *m = CRI_NEW(a, network_usage);
	m->timestamp = time_realtime();
	m->interfaces = message_array(a, n);
	for (size_t i = 0; i < n; i++) {
		Runtime__V1__NetworkInterfaceUsage *one = encode_interface(a, &interfaces[i]);

		m->interfaces[m->n_interfaces++] = one;
		if (!m->default_interface || str_equal(interfaces[i].name, "eth0"))
			m->default_interface = one;
	}
	return m;
}

static void add_usage(struct sample *sum, const struct sample *s)
{
	sum->nano_cores += s->nano_cores;
	sum->usage.cpu += s->usage.cpu;
	sum->usage.has_memory |= s->usage.has_memory;
	sum->usage.memory += s->usage.memory;
	sum->usage.inactive_file += s->usage.inactive_file;
	sum->usage.anon += s->usage.anon;
	sum->usage.faults += s->usage.faults;
	sum->usage.major_faults += s->usage.major_faults;
	sum->usage.pids += s->usage.pids;
}

static Runtime__V1__LinuxPodSandboxStats *encode_linux(struct cri_api *api, struct arena *a,
						       const struct sandbox_view *v)
{
	Runtime__V1__LinuxPodSandboxStats *m = CRI_NEW(a, linux_pod_sandbox_stats);
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	struct sample sum = { .usage = { .at = time_realtime(), .memory_limit = USAGE_NO_LIMIT } };
	struct sample own;

	engine_briefs(api->engine, CRI_NAMESPACE, v->id, &b);
	m->containers = message_array(a, b.n);
	for (size_t i = 0; i < b.n; i++) {
		Runtime__V1__ContainerStats *s =
			runs(&b.v[i]) ? container_stats(api, a, &b.v[i], &own, NULL) : NULL;

		if (s) {
			m->containers[m->n_containers++] = s;
			add_usage(&sum, &own);
		}
	}
	if (samples_pod(api->samples, v, &own, NULL, NULL) == 0)
		sum = own;
	m->cpu = encode_cpu(a, &sum);
	m->memory = encode_memory(a, &sum.usage);
	m->io = encode_io(a, &sum.usage);
	m->network = encode_network(api, a, v);
	m->process = CRI_NEW(a, process_usage);
	m->process->timestamp = sum.usage.at;
	m->process->process_count = cri_uint64(a, sum.usage.pids);
	return m;
}

static Runtime__V1__PodSandboxStats *sandbox_stats(struct cri_api *api, struct arena *a,
						   const struct sandbox_view *v)
{
	Runtime__V1__PodSandboxStats *m = CRI_NEW(a, pod_sandbox_stats);
	Runtime__V1__PodSandboxAttributes *t = CRI_NEW(a, pod_sandbox_attributes);

	t->id = message_text(a, v->id);
	t->metadata = cri_encode_pod_metadata(a, v);
	t->labels = message_map(a, &runtime__v1__pod_sandbox_attributes__labels_entry__descriptor,
				&v->config.labels, &t->n_labels);
	t->annotations =
		message_map(a, &runtime__v1__pod_sandbox_attributes__annotations_entry__descriptor,
			    &v->config.annotations, &t->n_annotations);
	m->attributes = t;
	m->linux = encode_linux(api, a, v);
	return m;
}

static int pod_sandbox_stats(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			     struct error *err)
{
	const Runtime__V1__PodSandboxStatsRequest *request =
		(const Runtime__V1__PodSandboxStatsRequest *)m;
	CLEANUP(sandbox_view_unrefp) struct sandbox_view *v = NULL;
	struct cri_api *api = cri_of(c);

	if (cri_sandbox(api, request->pod_sandbox_id, &v, err) < 0)
		return -1;
	if (v->state != SANDBOX_READY)
		return error_set(err, ERROR_FAILED_PRECONDITION, "sandbox \"%s\" is not ready",
				 v->id);
	((Runtime__V1__PodSandboxStatsResponse *)r)->stats =
		sandbox_stats(api, grpc_call_arena(c), v);
	return 0;
}

static Runtime__V1__PodSandboxStats **collect_pods(struct grpc_call *c,
						   const Runtime__V1__PodSandboxStatsFilter *f,
						   size_t *ret_n)
{
	CLEANUP(sandbox_views_done) struct sandbox_views views = { 0 };
	struct cri_api *api = cri_of(c);
	struct arena *a = grpc_call_arena(c);

	if (!f)
		samples_prune(api->samples);
	engine_sandbox_list(api->engine, CRI_NAMESPACE, &views);
	Runtime__V1__PodSandboxStats **out = message_array(a, views.n);
	*ret_n = 0;
	for (size_t i = 0; i < views.n; i++) {
		const struct sandbox_view *v = views.v[i];

		if (v->state != SANDBOX_READY || retry_hides(api->sandboxes, v->id) ||
		    (f && !str_empty(f->id) && !str_has_prefix(v->id, f->id)) ||
		    (f &&
		     !cri_labels_match(&v->config.labels, f->label_selector, f->n_label_selector)))
			continue;
		out[(*ret_n)++] = sandbox_stats(api, a, v);
	}
	return out;
}

static int list_pod_sandbox_stats(struct grpc_call *c, const ProtobufCMessage *m,
				  ProtobufCMessage *r, struct error *err UNUSED)
{
	Runtime__V1__ListPodSandboxStatsResponse *reply =
		(Runtime__V1__ListPodSandboxStatsResponse *)r;

	reply->stats = collect_pods(c, ((const Runtime__V1__ListPodSandboxStatsRequest *)m)->filter,
				    &reply->n_stats);
	return 0;
}

static int stream_pod_sandbox_stats(struct grpc_call *c, const ProtobufCMessage *m,
				    struct error *err UNUSED)
{
	const Runtime__V1__StreamPodSandboxStatsRequest *request =
		(const Runtime__V1__StreamPodSandboxStatsRequest *)m;
	size_t n;
	Runtime__V1__PodSandboxStats **items =
		collect_pods(c, request ? request->filter : NULL, &n);

	grpc_call_send_items(c, cri_of(c)->config.loop,
			     &runtime__v1__stream_pod_sandbox_stats_response__descriptor, items, n);
	return 0;
}

const struct grpc_method cri_stats_methods[] = {
	{ "ContainerStats", .unary = stats_of_container, .pool = JOB_OPS },
	{ "ListContainerStats", .unary = list_container_stats, .pool = JOB_OPS },
	{ "StreamContainerStats", .streaming = stream_container_stats, .pool = JOB_OPS },
	{ "PodSandboxStats", .unary = pod_sandbox_stats, .pool = JOB_OPS },
	{ "ListPodSandboxStats", .unary = list_pod_sandbox_stats, .pool = JOB_OPS },
	{ "StreamPodSandboxStats", .streaming = stream_pod_sandbox_stats, .pool = JOB_OPS },
	{ NULL },
};
