/* SPDX-License-Identifier: Apache-2.0 */
/* ContainerConfig to the engine's. */
#include "api/cri/decode.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"
#include "oci/digest.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define INVALID(err, ...) error_set(err, ERROR_INVALID_ARGUMENT, __VA_ARGS__)
#define MOUNTS_MAX 4096

/* --- mounts --- */

static const char *const propagations[] = { "rprivate", "rslave", "rshared" };

static int check_rro(const struct cri_api *api, const Runtime__V1__Mount *m, struct error *err)
{
	if (!m->recursive_read_only)
		return 0;
	if (!m->readonly)
		return INVALID(err, "recursive_read_only: needs readonly");
	if (m->propagation != RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE)
		return INVALID(err, "recursive_read_only: needs private propagation");
	if (!api->features.recursive_read_only)
		return error_set(err, ERROR_UNKNOWN,
				 "RROUnsupported: recursive read-only mounts are not possible "
				 "on this host");
	return 0;
}

static int mount_options(const Runtime__V1__Mount *m, struct mount_spec *ret, struct error *err)
{
	static const char *const known[] = { "noexec", "nodev", "nosuid" };

	for (size_t i = 0; i < m->n_mount_options; i++) {
		bool found = false;

		for (size_t k = 0; k < ARRAY_SIZE(known); k++)
			found |= str_equal(m->mount_options[i], known[k]);
		if (!found)
			return INVALID(err,
				       "mount_options: '%s' is not one of noexec, nodev, nosuid",
				       m->mount_options[i]);
		strv_push(&ret->options, m->mount_options[i]);
	}
	return 0;
}

/* An image is mounted by its id, so that it is this one whatever becomes of its name. */
static int image_mount(const struct cri_api *api, const Runtime__V1__Mount *m,
		       struct mount_spec *ret, struct json *mounted, struct error *err)
{
	CLEANUP(image_details_done) struct image_details d = { 0 };

	if (!m->readonly)
		return INVALID(err, "readonly: an image can only be mounted read-only");
	if (!str_empty(m->host_path))
		return INVALID(err, "host_path: must be empty, as image is given");
	if (image_lookup(api->images, CRI_NAMESPACE, m->image->image, &d, err) < 0) {
		error_wrap(err, "ImageVolumeMountFailed: image");
		if (err && err->code == ERROR_NOT_FOUND)
			err->code = ERROR_UNKNOWN;
		return -1;
	}
	struct json *j = json_new_object();
	json_set_string(j, "image", m->image->image);
	json_set_string(j, "ref", d.id); /* as PullImage answers it */
	json_set(mounted, ret->target, j);
	ret->type = xstrdup("image");
	ret->source = xstrdup(d.id);
	ret->sub_path = xstrdup(m->image_sub_path);
	return 0;
}

static int bind_mount(const Runtime__V1__Mount *m, struct mount_spec *ret, struct error *err)
{
	if (str_empty(m->host_path) || m->host_path[0] != '/')
		return INVALID(err, "host_path: '%s' is not an absolute path", m->host_path);
	if (!str_empty(m->image_sub_path))
		return INVALID(err, "image_sub_path: there is no image");
	ret->type = xstrdup("bind");
	ret->source = xstrdup(m->host_path);
	ret->create_source = true;
	return 0;
}

static int decode_mount(const struct cri_api *api, const Runtime__V1__Mount *m,
			struct mount_spec *ret, struct json *mounted, struct error *err)
{
	if (str_empty(m->container_path))
		return INVALID(err, "container_path: is empty");
	if ((unsigned)m->propagation >= ARRAY_SIZE(propagations))
		return INVALID(err, "propagation: unknown value %d", m->propagation);
	ret->target = m->container_path[0] == '/' ? xstrdup(m->container_path)
						  : xasprintf("/%s", m->container_path);
	ret->propagation = xstrdup(propagations[m->propagation]);
	ret->read_only = m->readonly;
	ret->recursive_read_only = m->recursive_read_only;
	ret->selinux_relabel = m->selinux_relabel;
	if (check_rro(api, m, err) < 0 || mount_options(m, ret, err) < 0 ||
	    cri_decode_mappings(m->uidmappings, m->n_uidmappings, &ret->uid_mappings, "uidMappings",
				err) < 0 ||
	    cri_decode_mappings(m->gidmappings, m->n_gidmappings, &ret->gid_mappings, "gidMappings",
				err) < 0)
		return -1;
	if (m->image && !str_empty(m->image->image))
		return image_mount(api, m, ret, mounted, err);
	return bind_mount(m, ret, err);
}

static int decode_mounts(const struct cri_api *api, const Runtime__V1__ContainerConfig *m,
			 struct container_config *ret, struct json *extension, struct error *err)
{
	struct json *mounted = json_new_object();

	json_set(extension, CRI_EXT_MOUNTED, mounted);
	if (m->n_mounts > MOUNTS_MAX)
		return INVALID(err, "mounts: has %zu entries", m->n_mounts);
	for (size_t i = 0; i < m->n_mounts; i++) {
		GROW_ARRAY(ret->mounts.v, ret->mounts.n);
		ret->mounts.v[ret->mounts.n++] = (struct mount_spec){ 0 };
		if (decode_mount(api, m->mounts[i], &ret->mounts.v[i], mounted, err) < 0) {
			/* These are matched by the kubelet from their beginning on. */
			if (err && err->code == ERROR_UNKNOWN)
				return -1;
			return error_wrap(err, "mounts[%zu]", i);
		}
	}
	return 0;
}

/* --- process --- */

static int decode_envs(const Runtime__V1__ContainerConfig *m, struct container_config *ret,
		       struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;

	for (size_t i = 0; i < m->n_envs; i++) {
		const Runtime__V1__KeyValue *e = m->envs[i];
		const char *value =
			arena_strndup(&arena, (const char *)e->value.data, e->value.len);

		if (str_empty(e->key) || strchr(e->key, '='))
			return INVALID(err, "envs[%zu].key: '%s' is no name of a variable", i,
				       e->key);
		if (strlen(value) != e->value.len)
			return INVALID(err, "envs[%zu].value: '%s' has a NUL in it", i, e->key);
		autofree char *assignment = xasprintf("%s=%s", e->key, message_text(&arena, value));
		strv_env_set(&ret->env, assignment);
	}
	return 0;
}

char *cri_signal_name(const char *protocol_name)
{
	static const struct {
		const char *word, *sign;
	} signs[] = { { "PLUS", "+" }, { "MINUS", "-" } };
	const char *name = protocol_name + strlen("SIGNAL_");

	for (size_t i = 0; i < ARRAY_SIZE(signs); i++) {
		const char *at = strstr(name, signs[i].word);

		if (at)
			return xasprintf("%.*s%s%s", (int)(at - name), name, signs[i].sign,
					 at + strlen(signs[i].word));
	}
	return xstrdup(name);
}

static int decode_signal(Runtime__V1__Signal signal, char **ret, struct error *err)
{
	const ProtobufCEnumValue *v =
		protobuf_c_enum_descriptor_get_value(&runtime__v1__signal__descriptor, (int)signal);

	if (!v)
		return INVALID(err, "stop_signal: unknown signal %d", (int)signal);
	if (signal != RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT)
		*ret = cri_signal_name(v->name);
	return 0;
}

static int decode_user(const Runtime__V1__LinuxContainerSecurityContext *m,
		       struct container_config *ret, struct error *err)
{
	autofree char *group = NULL;

	if (m->run_as_user && !str_empty(m->run_as_username))
		return INVALID(err, "run_as_user: excludes run_as_username");
	if (m->run_as_group && !m->run_as_user && str_empty(m->run_as_username))
		return INVALID(err, "run_as_group: needs run_as_user or run_as_username");
	if ((m->run_as_user && (m->run_as_user->value < 0 || m->run_as_user->value > UINT32_MAX)) ||
	    (m->run_as_group &&
	     (m->run_as_group->value < 0 || m->run_as_group->value > UINT32_MAX)))
		return INVALID(err, "run_as_user, run_as_group: ids are 0 to 4294967295");
	if (strchr(m->run_as_username, ':'))
		return INVALID(err, "run_as_username: '%s' is no name", m->run_as_username);
	if (m->run_as_group)
		group = xasprintf(":%lld", (long long)m->run_as_group->value);
	if (m->run_as_user)
		ret->user =
			xasprintf("%lld%s", (long long)m->run_as_user->value, group ? group : "");
	else if (!str_empty(m->run_as_username))
		ret->user = xasprintf("%s%s", m->run_as_username, group ? group : "");
	for (size_t i = 0; i < m->n_supplemental_groups; i++)
		strv_push_printf(&ret->group_add, "%lld", (long long)m->supplemental_groups[i]);
	if ((unsigned)m->supplemental_groups_policy >
	    RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Strict)
		return INVALID(err, "supplemental_groups_policy: unknown value %d",
			       m->supplemental_groups_policy);
	ret->groups_policy = xstrdup(m->supplemental_groups_policy ==
						     RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Strict
					     ? "strict"
					     : "merge");
	return 0;
}

/* --- namespaces and security --- */

static bool same_mapping(const Runtime__V1__IDMapping *a, const struct id_mapping *b)
{
	return a->container_id == b->container_id && a->host_id == b->host_id &&
	       a->length == b->length;
}

/* The pod's user namespace is everybody's in it. */
static int check_userns(const Runtime__V1__UserNamespace *m, const struct sandbox_config *pod,
			struct error *err)
{
	bool own = m && m->mode == RUNTIME__V1__NAMESPACE_MODE__POD;
	bool same = own == pod->userns;

	if (m && m->mode != RUNTIME__V1__NAMESPACE_MODE__POD &&
	    m->mode != RUNTIME__V1__NAMESPACE_MODE__NODE)
		return INVALID(err, "namespace_options.userns_options.mode: must be POD or NODE");
	if (same && own)
		same = m->n_uids == pod->uid_mappings.n && m->n_gids == pod->gid_mappings.n;
	for (size_t i = 0; same && own && i < m->n_uids; i++)
		same = same_mapping(m->uids[i], &pod->uid_mappings.v[i]);
	for (size_t i = 0; same && own && i < m->n_gids; i++)
		same = same_mapping(m->gids[i], &pod->gid_mappings.v[i]);
	return same ? 0
		    : INVALID(err, "namespace_options.userns_options: differs from the sandbox's");
}

static int decode_namespaces(const Runtime__V1__NamespaceOption *m, const struct sandbox_view *pod,
			     struct container_config *ret, struct error *err)
{
	if (!m)
		return 0;
	switch (m->pid) {
	case RUNTIME__V1__NAMESPACE_MODE__POD:
		ret->pid_mode = xstrdup(pod->config.pid == POD_NS_POD ? "pod" : "");
		break;
	case RUNTIME__V1__NAMESPACE_MODE__CONTAINER:
		ret->pid_mode = xstrdup("");
		break;
	case RUNTIME__V1__NAMESPACE_MODE__NODE:
		ret->pid_mode = xstrdup("host");
		break;
	case RUNTIME__V1__NAMESPACE_MODE__TARGET:
		if (str_empty(m->target_id))
			return INVALID(err, "namespace_options.target_id: is empty");
		ret->pid_mode = xasprintf("container:%s", m->target_id);
		break;
	default:
		return INVALID(err, "namespace_options.pid: unknown namespace mode %d", m->pid);
	}
	if ((m->network != RUNTIME__V1__NAMESPACE_MODE__POD &&
	     m->network != RUNTIME__V1__NAMESPACE_MODE__NODE) ||
	    (m->ipc != RUNTIME__V1__NAMESPACE_MODE__POD &&
	     m->ipc != RUNTIME__V1__NAMESPACE_MODE__NODE))
		return INVALID(err, "namespace_options: network and ipc must be POD or NODE");
	return check_userns(m->userns_options, &pod->config, err);
}

static void push_all(struct strv *ret, char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		strv_push(ret, v[i]);
}

static int decode_security(const struct cri_api *api,
			   const Runtime__V1__LinuxContainerSecurityContext *m,
			   const struct sandbox_view *pod, struct container_config *ret,
			   struct error *err)
{
	const struct cri_profiles profiles = {
		.seccomp = m->seccomp,
		.apparmor = m->apparmor,
		.legacy_seccomp = m->seccomp_profile_path,
		.legacy_apparmor = m->apparmor_profile,
		.privileged = m->privileged,
	};

	if (m->privileged && !pod->config.privileged)
		return INVALID(err, "privileged: the sandbox is not privileged");
	ret->privileged = m->privileged;
	ret->read_only_rootfs = m->readonly_rootfs;
	if (m->no_new_privs && !m->privileged)
		strv_push(&ret->security_opt, "no-new-privileges");
	if (m->capabilities) {
		push_all(&ret->cap_add, m->capabilities->add_capabilities,
			 m->capabilities->n_add_capabilities);
		push_all(&ret->cap_drop, m->capabilities->drop_capabilities,
			 m->capabilities->n_drop_capabilities);
		push_all(&ret->cap_ambient, m->capabilities->add_ambient_capabilities,
			 m->capabilities->n_add_ambient_capabilities);
	}
	push_all(&ret->masked_paths, m->masked_paths, m->n_masked_paths);
	push_all(&ret->readonly_paths, m->readonly_paths, m->n_readonly_paths);
	cri_decode_selinux(m->selinux_options, &ret->selinux);
	if (decode_user(m, ret, err) < 0 ||
	    decode_namespaces(m->namespace_options, pod, ret, err) < 0)
		return error_wrap(err, "linux.security_context");
	return cri_decode_profiles(api, &profiles, &ret->security_opt, err);
}

/* --- devices, resources --- */

static int decode_devices(const Runtime__V1__ContainerConfig *m, struct container_config *ret,
			  struct error *err)
{
	for (size_t i = 0; i < m->n_devices; i++) {
		const Runtime__V1__Device *d = m->devices[i];
		const char *target =
			str_empty(d->container_path) ? d->host_path : d->container_path;

		if (d->host_path[0] != '/')
			return INVALID(err, "devices[%zu].host_path: '%s' is not an absolute path",
				       i, d->host_path);
		if (target[0] != '/')
			return INVALID(err,
				       "devices[%zu].container_path: '%s' is not an absolute path",
				       i, target);
		if (strspn(d->permissions, "rwm") != strlen(d->permissions))
			return INVALID(err, "devices[%zu].permissions: '%s' is not made of r, w, m",
				       i, d->permissions);
		GROW_ARRAY(ret->devices.v, ret->devices.n);
		ret->devices.v[ret->devices.n++] = (struct device_spec){
			.host_path = xstrdup(d->host_path),
			.container_path = xstrdup(target),
			.permissions = xstrdup(str_empty(d->permissions) ? "rwm" : d->permissions),
		};
	}
	for (size_t i = 0; i < m->n_cdi_devices; i++) {
		if (str_empty(m->cdi_devices[i]->name))
			return INVALID(err, "CDI_devices[%zu].name: is empty", i);
		if (!strv_contains(&ret->cdi_devices, m->cdi_devices[i]->name))
			strv_push(&ret->cdi_devices, m->cdi_devices[i]->name);
	}
	return 0;
}

int cri_decode_resources(const Runtime__V1__LinuxContainerResources *m, struct resources *ret,
			 struct error *err)
{
	if (!m)
		return 0;
	if (m->memory_limit_in_bytes < 0)
		return INVALID(err, "memory_limit_in_bytes: %lld is negative",
			       (long long)m->memory_limit_in_bytes);
	if (m->cpu_shares < 0 || m->cpu_period < 0 || m->cpu_quota < -1)
		return INVALID(err, "cpu_shares, cpu_period, cpu_quota: must not be negative");
	ret->cpu_period = m->cpu_period;
	ret->cpu_quota = m->cpu_quota;
	ret->cpu_shares = m->cpu_shares;
	ret->memory = m->memory_limit_in_bytes;
	ret->memory_swap = m->memory_swap_limit_in_bytes;
	ret->memory_swappiness = -1;
	if (!str_empty(m->cpuset_cpus))
		ret->cpuset_cpus = xstrdup(m->cpuset_cpus);
	if (!str_empty(m->cpuset_mems))
		ret->cpuset_mems = xstrdup(m->cpuset_mems);
	ret->hugepages.v = xnew_array(struct hugepage_limit, m->n_hugepage_limits + 1);
	for (size_t i = 0; i < m->n_hugepage_limits; i++)
		ret->hugepages.v[ret->hugepages.n++] = (struct hugepage_limit){
			.page_size = xstrdup(m->hugepage_limits[i]->page_size),
			.limit = m->hugepage_limits[i]->limit,
		};
	message_kvs(&ret->unified, m->unified, m->n_unified);
	for (size_t i = 0; i < ret->unified.n; i++) {
		const char *key = ret->unified.v[i].key;

		if (!path_component_valid(key) || !strchr(key, '.') || key[0] == '.')
			return INVALID(err, "unified: '%s' is no file of a cgroup", key);
	}
	/* Who has a limit on memory gets no swap beyond it, unless told so. */
	if (ret->memory > 0 && ret->memory_swap == 0 && !kvs_get(&ret->unified, "memory.swap.max"))
		ret->memory_swap = ret->memory;
	return 0;
}

static int own_oom_score(void)
{
	autobuf struct buf b = BUF_INIT(64);
	int64_t v = 0;

	if (fs_read(AT_FDCWD, "/proc/self/oom_score_adj", &b) < 0)
		return 0;
	b.data[strcspn(b.data, "\n")] = '\0';
	return parse_int64(b.data, &v) == 0 ? (int)v : 0;
}

static int decode_linux(const struct cri_api *api, const Runtime__V1__LinuxContainerConfig *m,
			const struct sandbox_view *pod, struct container_config *ret,
			struct error *err)
{
	static const Runtime__V1__LinuxContainerSecurityContext none =
		RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
	const Runtime__V1__LinuxContainerResources *r = m ? m->resources : NULL;

	ret->resources.memory_swappiness = -1;
	if (r && cri_decode_resources(r, &ret->resources, err) < 0)
		return error_wrap(err, "linux.resources");
	if (r)
		ret->oom_score_adj = r->oom_score_adj;
	if (api->config.restrict_oom_score_adj)
		ret->oom_score_adj = MAX(ret->oom_score_adj, (int64_t)own_oom_score());
	return decode_security(api, m && m->security_context ? m->security_context : &none, pod,
			       ret, err);
}

/* --- annotations --- */

static const struct cri_handler *handler_of(const struct cri_api *api, const char *name)
{
	for (size_t i = 0; i < api->config.n_handlers; i++) {
		if (str_equal(api->config.handlers[i].name, name))
			return &api->config.handlers[i];
	}
	return NULL;
}

/* What runtimes look at: what containerd tells them, and what the administrator lets through. */
static void runtime_annotations(const struct cri_api *api, const Runtime__V1__ContainerConfig *m,
				const struct sandbox_view *pod, const struct kvs *own,
				struct kvs *ret)
{
	const struct cri_handler *h = handler_of(api, pod->runtime);
	const struct {
		const char *key, *value;
	} fixed[] = {
		{ "container-type", "container" },
		{ "sandbox-id", pod->id },
		{ "sandbox-name", pod->config.name },
		{ "sandbox-namespace", pod->config.namespace_ },
		{ "sandbox-uid", pod->config.uid },
		{ "container-name", m->metadata->name },
		{ "image-name", m->image->image },
	};

	for (size_t i = 0; h && i < pod->config.annotations.n; i++) {
		const struct kv *kv = &pod->config.annotations.v[i];

		if (cri_annotation_allowed(h->pod_annotations, kv->key))
			kvs_set(ret, kv->key, kv->value);
	}
	for (size_t i = 0; h && i < own->n; i++) {
		if (cri_annotation_allowed(h->container_annotations, own->v[i].key))
			kvs_set(ret, own->v[i].key, own->v[i].value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
		autofree char *key = xasprintf("io.kubernetes.cri.%s", fixed[i].key);

		kvs_set(ret, key, fixed[i].value);
	}
}

/* Devices by the older way: annotations "cdi.k8s.io/..." = "vendor/class=name,...". */
static void cdi_annotations(const struct kvs *own, struct container_config *ret)
{
	for (size_t i = 0; i < own->n; i++) {
		autostrv struct strv names = STRV_INIT;

		if (!str_has_prefix(own->v[i].key, "cdi.k8s.io/"))
			continue;
		strv_split(&names, own->v[i].value, ",");
		for (size_t k = 0; k < names.n; k++)
			if (!str_empty(names.v[k]) && !strv_contains(&ret->cdi_devices, names.v[k]))
				strv_push(&ret->cdi_devices, names.v[k]);
	}
}

/* --- the whole --- */

static int check_config(const Runtime__V1__ContainerConfig *m, struct error *err)
{
	if (!m)
		return INVALID(err, "config: is missing");
	if (!m->metadata || str_empty(m->metadata->name))
		return INVALID(err, "config.metadata.name: is empty");
	if (!m->image || str_empty(m->image->image))
		return INVALID(err, "config.image.image: is empty");
	if (!str_empty(m->log_path) && strstr(m->log_path, "../"))
		return INVALID(err, "config.log_path: '%s' leads out of the log directory",
			       m->log_path);
	return 0;
}

static int decode_process(const Runtime__V1__ContainerConfig *m, struct container_config *ret,
			  struct error *err)
{
	ret->cwd = xstrdup(m->working_dir);
	ret->tty = m->tty;
	ret->open_stdin = m->stdin;
	ret->stdin_once = m->stdin && m->stdin_once;
	ret->stop_timeout = -1;
	if (decode_envs(m, ret, err) < 0)
		return -1;
	return decode_signal(m->stop_signal, &ret->stop_signal, err);
}

int cri_decode_container(const struct cri_api *api, const Runtime__V1__ContainerConfig *m,
			 const struct sandbox_view *pod, struct container_config *ret,
			 struct json *extension, struct error *err)
{
	autokvs struct kvs annotations = KVS_INIT;

	if (check_config(m, err) < 0)
		return -1;
	ret->sandbox_id = xstrdup(pod->id);
	ret->runtime = xstrdup(pod->runtime);
	ret->cgroupns_mode = xstrdup("");
	if (!str_empty(m->log_path) && !str_empty(pod->config.log_directory))
		ret->log_path = path_join(pod->config.log_directory, m->log_path, NULL);
	message_kvs(&annotations, m->annotations, m->n_annotations);
	if (decode_process(m, ret, err) < 0 || decode_mounts(api, m, ret, extension, err) < 0 ||
	    decode_devices(m, ret, err) < 0 || decode_linux(api, m->linux, pod, ret, err) < 0) {
		if (err && err->code == ERROR_UNKNOWN)
			return -1;
		return error_wrap(err, "config");
	}
	const struct cri_handler *h = handler_of(api, pod->runtime);
	ret->no_host_devices = h && h->no_host_devices;
	if (api->config.cdi)
		cdi_annotations(&annotations, ret);
	else
		strv_done(&ret->cdi_devices);
	runtime_annotations(api, m, pod, &annotations, &ret->annotations);
	json_set_string(extension, CRI_EXT_NAME, m->metadata->name);
	json_set_int(extension, CRI_EXT_ATTEMPT, m->metadata->attempt);
	json_set(extension, CRI_EXT_ANNOTATIONS, json_new_kvs(&annotations));
	json_set_string(extension, CRI_EXT_IMAGE, m->image->image);
	json_set_string(extension, CRI_EXT_USER_IMAGE, m->image->user_specified_image);
	json_set_string(extension, CRI_EXT_HANDLER, m->image->runtime_handler);
	return 0;
}

/* Volumes are the image's wish only. */
static void drop_volumes(struct container_config *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->mounts.n; i++) {
		struct mount_spec *v = &c->mounts.v[i];

		if (!str_equal(v->type, "volume")) {
			c->mounts.v[n++] = *v;
			continue;
		}
		free(v->type);
		free(v->target);
	}
	c->mounts.n = n;
}

int cri_decode_image(const struct cri_api *api, const Runtime__V1__ContainerConfig *m,
		     struct container_config *ret, struct json *extension, struct error *err)
{
	CLEANUP(image_details_done) struct image_details d = { 0 };
	const struct transfer t = { .ns = CRI_NAMESPACE };
	autostrv struct strv entrypoint = STRV_INIT, cmd = STRV_INIT;
	autoarena struct arena arena = ARENA_INIT;
	char chain[DIGEST_MAX];

	if (image_lookup(api->images, CRI_NAMESPACE, m->image->image, &d, err) < 0)
		return error_wrap(err, "config.image.image '%s'", m->image->image);
	push_all(&entrypoint, m->command, m->n_command);
	push_all(&cmd, m->args, m->n_args);
	if (container_config_apply_image(ret, &d.config, &entrypoint, m->n_command > 0, &cmd, err) <
	    0)
		return error_wrap(err, "config");
	if (image_unpack(api->images, &t, &d.image, NULL, chain, err) < 0)
		return error_wrap(err, "unpack image '%s'", m->image->image);
	if (api->config.ignore_image_volumes)
		drop_volumes(ret);
	kvs_done(&ret->labels); /* not the image's */
	ret->labels = KVS_INIT;
	message_kvs(&ret->labels, m->labels, m->n_labels);
	strv_done(&ret->health.test);
	ret->health = (struct health_spec){ .none = true };
	ret->image = xstrdup(m->image->image);
	ret->image_id = xstrdup(d.id);
	ret->chain_id = xstrdup(chain);
	platform_copy(&ret->platform, &d.config.platform);
	json_set_string(extension, CRI_EXT_IMAGE_NAME,
			d.tags.n > 0 ? cri_canonical(&arena, d.tags.v[0]) : m->image->image);
	json_set_string(extension, CRI_EXT_IMAGE_REF,
			d.digests.n > 0 ? cri_canonical(&arena, d.digests.v[0]) : d.id);
	return 0;
}
