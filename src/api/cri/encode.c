/* SPDX-License-Identifier: Apache-2.0 */
#include "api/cri/encode.h"

#include "api/cri/decode.h"
#include "base/mem.h"

#include <string.h>

/* --- pods --- */

Runtime__V1__PodSandboxMetadata *cri_encode_pod_metadata(struct arena *a,
							 const struct sandbox_view *v)
{
	Runtime__V1__PodSandboxMetadata *m = CRI_NEW(a, pod_sandbox_metadata);

	m->name = message_text(a, v->config.name);
	m->uid = message_text(a, v->config.uid);
	m->namespace_ = message_text(a, v->config.namespace_);
	m->attempt = (uint32_t)v->config.attempt;
	return m;
}

static Runtime__V1__PodSandboxState sandbox_state(const struct sandbox_view *v)
{
	return v->state == SANDBOX_READY ? RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY
					 : RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
}

Runtime__V1__PodSandbox *cri_encode_sandbox(struct arena *a, const struct sandbox_view *v)
{
	Runtime__V1__PodSandbox *m = CRI_NEW(a, pod_sandbox);

	m->id = message_text(a, v->id);
	m->metadata = cri_encode_pod_metadata(a, v);
	m->state = sandbox_state(v);
	m->created_at = v->created_at;
	m->labels = message_map(a, &runtime__v1__pod_sandbox__labels_entry__descriptor,
				&v->config.labels, &m->n_labels);
	m->annotations = message_map(a, &runtime__v1__pod_sandbox__annotations_entry__descriptor,
				     &v->config.annotations, &m->n_annotations);
	m->runtime_handler = message_text(a, v->config.runtime);
	return m;
}

static Runtime__V1__IDMapping **encode_mappings(struct arena *a, const struct id_mappings *m,
						size_t *ret_n)
{
	Runtime__V1__IDMapping **out = message_array(a, m->n);

	for (size_t i = 0; i < m->n; i++) {
		out[i] = CRI_NEW(a, idmapping);
		out[i]->container_id = (uint32_t)m->v[i].container_id;
		out[i]->host_id = (uint32_t)m->v[i].host_id;
		out[i]->length = (uint32_t)m->v[i].length;
	}
	*ret_n = m->n;
	return out;
}

static Runtime__V1__LinuxPodSandboxStatus *encode_namespaces(struct arena *a,
							     const struct sandbox_config *c)
{
	Runtime__V1__LinuxPodSandboxStatus *m = CRI_NEW(a, linux_pod_sandbox_status);
	Runtime__V1__NamespaceOption *o = CRI_NEW(a, namespace_option);

	m->namespaces = CRI_NEW(a, namespace);
	m->namespaces->options = o;
	o->network = (Runtime__V1__NamespaceMode)c->network;
	o->pid = (Runtime__V1__NamespaceMode)c->pid;
	o->ipc = (Runtime__V1__NamespaceMode)c->ipc;
	if (!c->userns)
		return m;
	o->userns_options = CRI_NEW(a, user_namespace);
	o->userns_options->mode = RUNTIME__V1__NAMESPACE_MODE__POD;
	o->userns_options->uids = encode_mappings(a, &c->uid_mappings, &o->userns_options->n_uids);
	o->userns_options->gids = encode_mappings(a, &c->gid_mappings, &o->userns_options->n_gids);
	return m;
}

/* None on the host's network. */
static Runtime__V1__PodSandboxNetworkStatus *encode_network(struct arena *a,
							    const struct sandbox_view *v)
{
	if (v->config.network == POD_NS_NODE || v->ips.n == 0)
		return NULL;
	Runtime__V1__PodSandboxNetworkStatus *m = CRI_NEW(a, pod_sandbox_network_status);
	m->ip = message_text(a, v->ips.v[0]);
	m->additional_ips = message_array(a, v->ips.n);
	for (size_t i = 1; i < v->ips.n; i++) {
		Runtime__V1__PodIP *ip = CRI_NEW(a, pod_ip);

		ip->ip = message_text(a, v->ips.v[i]);
		m->additional_ips[m->n_additional_ips++] = ip;
	}
	return m;
}

Runtime__V1__PodSandboxStatus *cri_encode_sandbox_status(struct arena *a,
							 const struct sandbox_view *v)
{
	Runtime__V1__PodSandboxStatus *m = CRI_NEW(a, pod_sandbox_status);

	m->id = message_text(a, v->id);
	m->metadata = cri_encode_pod_metadata(a, v);
	m->state = sandbox_state(v);
	m->created_at = v->created_at;
	m->network = encode_network(a, v);
	m->linux = encode_namespaces(a, &v->config);
	m->labels = message_map(a, &runtime__v1__pod_sandbox_status__labels_entry__descriptor,
				&v->config.labels, &m->n_labels);
	m->annotations =
		message_map(a, &runtime__v1__pod_sandbox_status__annotations_entry__descriptor,
			    &v->config.annotations, &m->n_annotations);
	m->runtime_handler = message_text(a, v->config.runtime);
	return m;
}

/* --- containers --- */

Runtime__V1__ContainerState cri_container_state(enum container_status s)
{
	switch (s) {
	case CONTAINER_CREATED:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED;
	case CONTAINER_RUNNING:
	case CONTAINER_PAUSED:
	case CONTAINER_RESTARTING:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	case CONTAINER_EXITED:
	case CONTAINER_REMOVING:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
	default:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_UNKNOWN;
	}
}

Runtime__V1__ContainerMetadata *cri_encode_container_metadata(struct arena *a,
							      const struct json *extension)
{
	Runtime__V1__ContainerMetadata *m = CRI_NEW(a, container_metadata);

	m->name = message_text(a, json_get_string(extension, CRI_EXT_NAME));
	m->attempt = (uint32_t)json_get_int(extension, CRI_EXT_ATTEMPT, 0);
	return m;
}

void cri_annotations(const struct json *extension, struct kvs *ret)
{
	(void)json_get_kvs(extension, CRI_EXT_ANNOTATIONS, ret, NULL);
}

void *cri_annotation_map(struct arena *a, const ProtobufCMessageDescriptor *entry,
			 const struct json *extension, size_t *ret_n)
{
	autokvs struct kvs annotations = KVS_INIT;

	cri_annotations(extension, &annotations);
	return message_map(a, entry, &annotations, ret_n);
}

static Runtime__V1__ImageSpec *encode_image(struct arena *a, const struct json *extension,
					    const char *name)
{
	Runtime__V1__ImageSpec *m = CRI_NEW(a, image_spec);

	m->image = message_text(a, name);
	m->user_specified_image = message_text(a, json_get_string(extension, CRI_EXT_USER_IMAGE));
	m->runtime_handler = message_text(a, json_get_string(extension, CRI_EXT_HANDLER));
	return m;
}

Runtime__V1__Container *cri_encode_container(struct arena *a, const struct container_brief *b)
{
	Runtime__V1__Container *m = CRI_NEW(a, container);
	const struct container_shared *s = b->shared;

	m->id = message_text(a, s->id);
	m->pod_sandbox_id = message_text(a, s->config.sandbox_id);
	m->metadata = cri_encode_container_metadata(a, s->extension);
	m->image = encode_image(a, s->extension, json_get_string(s->extension, CRI_EXT_IMAGE));
	m->image_ref = m->image_id = message_text(a, s->config.image_id);
	m->state = cri_container_state(b->status);
	m->created_at = s->created_at;
	m->labels = message_map(a, &runtime__v1__container__labels_entry__descriptor,
				&s->config.labels, &m->n_labels);
	m->annotations =
		cri_annotation_map(a, &runtime__v1__container__annotations_entry__descriptor,
				   s->extension, &m->n_annotations);
	return m;
}

Runtime__V1__LinuxContainerResources *cri_encode_resources(struct arena *a,
							   const struct container_config *c)
{
	Runtime__V1__LinuxContainerResources *m = CRI_NEW(a, linux_container_resources);
	const struct resources *r = &c->resources;

	m->cpu_period = r->cpu_period;
	m->cpu_quota = r->cpu_quota;
	m->cpu_shares = r->cpu_shares;
	m->memory_limit_in_bytes = r->memory;
	m->memory_swap_limit_in_bytes = r->memory_swap;
	m->oom_score_adj = c->oom_score_adj;
	m->cpuset_cpus = message_text(a, r->cpuset_cpus);
	m->cpuset_mems = message_text(a, r->cpuset_mems);
	m->hugepage_limits = message_array(a, r->hugepages.n);
	for (size_t i = 0; i < r->hugepages.n; i++) {
		Runtime__V1__HugepageLimit *h = CRI_NEW(a, hugepage_limit);

		h->page_size = message_text(a, r->hugepages.v[i].page_size);
		h->limit = r->hugepages.v[i].limit;
		m->hugepage_limits[m->n_hugepage_limits++] = h;
	}
	m->unified =
		message_map(a, &runtime__v1__linux_container_resources__unified_entry__descriptor,
			    &r->unified, &m->n_unified);
	return m;
}

static Runtime__V1__MountPropagation propagation(const char *s)
{
	if (str_equal(s, "rslave"))
		return RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER;
	if (str_equal(s, "rshared"))
		return RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL;
	return RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE;
}

/* As it was asked for. */
static Runtime__V1__Mount *encode_mount(struct arena *a, const struct mount_spec *s,
					const struct json *extension)
{
	Runtime__V1__Mount *m = CRI_NEW(a, mount);

	m->container_path = message_text(a, s->target);
	m->readonly = s->read_only;
	m->selinux_relabel = s->selinux_relabel;
	m->recursive_read_only = s->recursive_read_only;
	m->propagation = propagation(s->propagation);
	m->uidmappings = encode_mappings(a, &s->uid_mappings, &m->n_uidmappings);
	m->gidmappings = encode_mappings(a, &s->gid_mappings, &m->n_gidmappings);
	m->n_mount_options = s->options.n;
	m->mount_options = message_texts(a, &s->options);
	if (!str_equal(s->type, "image")) {
		m->host_path = message_text(a, s->source);
		return m;
	}
	const struct json *image = json_get(json_get(extension, CRI_EXT_MOUNTED), s->target);
	m->image = CRI_NEW(a, image_spec);
	m->image->image = message_text(a, json_get_string(image, "image"));
	m->image->image_ref = message_text(a, json_get_string(image, "ref"));
	m->image_sub_path = message_text(a, s->sub_path);
	return m;
}

static void encode_mounts(struct arena *a, const struct container_view *v,
			  Runtime__V1__ContainerStatus *m)
{
	m->mounts = message_array(a, v->config.mounts.n);
	for (size_t i = 0; i < v->config.mounts.n; i++) {
		const struct mount_spec *s = &v->config.mounts.v[i];

		if (str_equal(s->type, "bind") || str_equal(s->type, "image"))
			m->mounts[m->n_mounts++] = encode_mount(a, s, v->extension);
	}
}

static Runtime__V1__ContainerUser *encode_user(struct arena *a, const struct container_view *v)
{
	Runtime__V1__ContainerUser *m;

	if (v->uid < 0)
		return NULL;
	m = CRI_NEW(a, container_user);
	m->linux = CRI_NEW(a, linux_container_user);
	m->linux->uid = v->uid;
	m->linux->gid = v->gid;
	m->linux->n_supplemental_groups = v->groups.n;
	m->linux->supplemental_groups = arena_alloc(a, (v->groups.n + 1) * sizeof(int64_t));
	for (size_t i = 0; i < v->groups.n; i++)
		m->linux->supplemental_groups[i] = v->groups.v[i];
	return m;
}

/* The first of the protocol's names that stands for the same number. */
static Runtime__V1__Signal encode_signal(const char *name)
{
	const ProtobufCEnumDescriptor *d = &runtime__v1__signal__descriptor;
	int number = signal_parse(str_empty(name) ? "SIGTERM" : name);

	for (unsigned i = 1; i < d->n_values; i++) {
		autofree char *own = cri_signal_name(d->values[i].name);

		if (signal_parse(own) == number)
			return (Runtime__V1__Signal)d->values[i].value;
	}
	return RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT;
}

/* "OOMKilled" is a word that clients compare. */
static const char *reason(const struct container_view *v)
{
	if (v->status != CONTAINER_EXITED && v->status != CONTAINER_DEAD)
		return "";
	if (v->oom_killed)
		return "OOMKilled";
	if (v->start_failed)
		return "StartError";
	return v->exit_code == 0 ? "Completed" : v->exit_code == 255 ? "Unknown" : "Error";
}

Runtime__V1__ContainerStatus *cri_encode_container_status(struct arena *a,
							  const struct container_view *v)
{
	Runtime__V1__ContainerStatus *m = CRI_NEW(a, container_status);

	m->id = message_text(a, v->id);
	m->metadata = cri_encode_container_metadata(a, v->extension);
	m->state = cri_container_state(v->status);
	m->created_at = v->created_at;
	m->started_at = v->started_at;
	m->finished_at = v->started_at > v->finished_at ? 0 : v->finished_at;
	m->exit_code = v->exit_code;
	m->image = encode_image(a, v->extension, json_get_string(v->extension, CRI_EXT_IMAGE_NAME));
	m->image_ref = message_text(a, json_get_string(v->extension, CRI_EXT_IMAGE_REF));
	m->image_id = message_text(a, v->config.image_id);
	m->reason = message_text(a, reason(v));
	m->message = message_text(a, v->error);
	m->labels = message_map(a, &runtime__v1__container_status__labels_entry__descriptor,
				&v->config.labels, &m->n_labels);
	m->annotations =
		cri_annotation_map(a, &runtime__v1__container_status__annotations_entry__descriptor,
				   v->extension, &m->n_annotations);
	m->log_path = message_text(a, v->config.log_path);
	m->resources = CRI_NEW(a, container_resources);
	m->resources->linux = cri_encode_resources(a, &v->config);
	m->user = encode_user(a, v);
	m->stop_signal = encode_signal(v->config.stop_signal);
	encode_mounts(a, v, m);
	return m;
}
