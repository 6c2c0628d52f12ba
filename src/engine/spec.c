/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/spec.h"

#include "base/mem.h"
#include "engine/cdi.h"
#include "engine/spec-internal.h"

#include <string.h>

enum ns_mode spec_ns_mode(const char *mode)
{
	if (str_empty(mode) || str_equal(mode, "private"))
		return NS_PRIVATE;
	if (str_equal(mode, "host"))
		return NS_HOST;
	if (str_equal(mode, "none"))
		return NS_NONE;
	if (str_equal(mode, "shareable"))
		return NS_SHAREABLE;
	if (str_equal(mode, "pod"))
		return NS_POD;
	if (str_has_prefix(mode, "container:"))
		return NS_CONTAINER;
	return NS_PRIVATE;
}

/* path NULL: a new one; "": the host's, which is no entry at all. */
static void add_namespace(struct json *list, const char *type, const char *path)
{
	struct json *j;

	if (path && path[0] == '\0')
		return;
	j = json_new_object();
	json_set_string(j, "type", type);
	if (path)
		json_set_string(j, "path", path);
	json_add(list, j);
}

static const char *by_mode(const char *mode, const char *path)
{
	return spec_ns_mode(mode) == NS_HOST ? "" : path;
}

static struct json *namespaces(const struct spec_inputs *in)
{
	const struct container_config *c = in->config;
	struct json *list = json_new_array();
	bool own_cgroupns = c->privileged ? str_equal(c->cgroupns_mode, "private")
					  : !str_equal(c->cgroupns_mode, "host");

	add_namespace(list, "mount", NULL);
	add_namespace(list, "pid", by_mode(c->pid_mode, in->pidns_path));
	add_namespace(list, "network", in->netns_path);
	add_namespace(list, "uts", by_mode(c->uts_mode, in->utsns_path));
	add_namespace(list, "ipc", by_mode(c->ipc_mode, in->ipcns_path));
	if (in->userns_path)
		add_namespace(list, "user", in->userns_path);
	/* Docker's default: private with v2, the host's with v1. */
	if (own_cgroupns && (in->cgroup_v2 || str_equal(c->cgroupns_mode, "private")))
		add_namespace(list, "cgroup", NULL);
	return list;
}

struct json *spec_id_mappings(const struct id_mappings *m)
{
	struct json *list = json_new_array();

	for (size_t i = 0; i < m->n; i++) {
		struct json *j = json_new_object();

		json_set_int(j, "containerID", m->v[i].container_id);
		json_set_int(j, "hostID", m->v[i].host_id);
		json_set_int(j, "size", m->v[i].length);
		json_add(list, j);
	}
	return list;
}

static struct json *sysctls(const struct spec_inputs *in)
{
	const struct container_config *c = in->config;
	bool own_network = !in->netns_path || in->netns_path[0] != '\0';
	bool own_uts = spec_ns_mode(c->uts_mode) == NS_PRIVATE;
	autokvs struct kvs k = KVS_INIT;

	/* A pod's are set once, in its sandbox. */
	if (own_network && spec_ns_mode(c->network_mode) != NS_POD &&
	    !str_has_prefix(c->network_mode, "container:")) {
		/* Every user may ping and bind low ports, as in Docker since 20.10. */
		kvs_set(&k, "net.ipv4.ip_unprivileged_port_start", "0");
		kvs_set(&k, "net.ipv4.ping_group_range", "0 2147483647");
	}
	if (own_uts && !str_empty(c->domainname))
		kvs_set(&k, "kernel.domainname", c->domainname);
	for (size_t i = 0; i < c->sysctls.n; i++)
		kvs_set(&k, c->sysctls.v[i].key, c->sysctls.v[i].value);
	return json_new_kvs(&k);
}

static int build_linux(const struct spec_inputs *in, const struct strv *caps, struct json *spec,
		       struct error *err)
{
	struct json *linux_ = json_get(spec, "linux");
	struct json *resources = json_new_object();

	json_set(linux_, "resources", resources);
	json_set(linux_, "namespaces", namespaces(in));
	json_set(linux_, "sysctl", sysctls(in));
	if (in->userns_path) {
		json_set(linux_, "uidMappings", spec_id_mappings(in->uid_mappings));
		json_set(linux_, "gidMappings", spec_id_mappings(in->gid_mappings));
	}
	if (!str_empty(in->cgroups_path))
		json_set_string(linux_, "cgroupsPath", in->cgroups_path);
	if (spec_check_rates(&in->config->resources, err) < 0)
		return -1;
	spec_resources(in, resources);
	if (spec_devices(in, linux_, resources, err) < 0)
		return -1;
	return spec_security(in, caps, spec, linux_, err);
}

int spec_build(const struct spec_inputs *in, struct json **ret, struct error *err)
{
	const struct container_config *c = in->config;
	autojson struct json *spec = json_new_object();
	autostrv struct strv caps = STRV_INIT;
	struct json *root = json_new_object();

	json_set_string(spec, "ociVersion", "1.0.2");
	json_set_string(root, "path", in->rootfs_path);
	json_set_bool(root, "readonly", c->read_only_rootfs);
	json_set(spec, "root", root);
	json_set(spec, "linux", json_new_object());
	if (spec_ns_mode(c->uts_mode) == NS_PRIVATE && !str_empty(c->hostname))
		json_set_string(spec, "hostname", c->hostname);
	if (c->annotations.n > 0)
		json_set(spec, "annotations", json_new_kvs(&c->annotations));
	if (caps_resolve(c, &caps, err) < 0 || spec_process(in, &caps, spec, err) < 0 ||
	    spec_mounts(in, spec, err) < 0 || build_linux(in, &caps, spec, err) < 0)
		return -1;
	if (c->cdi_devices.n > 0 && cdi_apply(in->cdi_dirs, &c->cdi_devices, spec, err) < 0)
		return -1;
	*ret = TAKE_PTR(spec);
	return 0;
}
