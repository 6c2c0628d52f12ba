/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "engine/spec-internal.h"

#include <string.h>

#define SHM_DEFAULT (64LL << 20)

static const struct {
	const char *target, *type, *source, *options;
} base_mounts[] = {
	{ "/proc", "proc", "proc", "nosuid,noexec,nodev" },
	{ "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k" },
	{ "/dev/pts", "devpts", "devpts",
	  "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5" },
	{ "/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro" },
	{ "/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev" },
	{ "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev" },
};

static void add_mount(struct json *list, const char *target, const char *type, const char *source,
		      const struct strv *options)
{
	struct json *m = json_new_object();

	json_set_string(m, "destination", target);
	json_set_string(m, "type", type);
	json_set_string(m, "source", source);
	json_set(m, "options", json_new_strv(options));
	json_add(list, m);
}

static bool user_mounts_at(const struct spec_inputs *in, const char *target)
{
	for (size_t i = 0; i < in->n_mounts; i++) {
		if (str_equal(in->mounts[i].target, target))
			return true;
	}
	return false;
}

static void add_base_mounts(const struct spec_inputs *in, struct json *list)
{

	for (size_t i = 0; i < ARRAY_SIZE(base_mounts); i++) {
		autostrv struct strv options = STRV_INIT;
		bool is_sys = str_has_prefix(base_mounts[i].target, "/sys");

		if (user_mounts_at(in, base_mounts[i].target))
			continue;
		/* The host's network shows in sysfs, which only its owner may mount. */
		if (in->userns_path && str_empty(in->netns_path) &&
		    str_equal(base_mounts[i].target, "/sys")) {
			strv_split(&options, "rbind,rslave,rro,nosuid,noexec,nodev", ",");
			add_mount(list, "/sys", "bind", "/sys", &options);
			continue;
		}
		strv_split(&options, base_mounts[i].options, ",");
		for (size_t k = 0; k < options.n; k++) {
			if (is_sys && in->config->privileged && str_equal(options.v[k], "ro"))
				str_replace(&options.v[k], "rw");
		}
		add_mount(list, base_mounts[i].target, base_mounts[i].type, base_mounts[i].source,
			  &options);
	}
}

static void add_shm(const struct spec_inputs *in, struct json *list)
{
	autostrv struct strv options = STRV_INIT;
	int64_t size = in->config->shm_size > 0 ? in->config->shm_size : SHM_DEFAULT;

	if (user_mounts_at(in, "/dev/shm") || spec_ns_mode(in->config->ipc_mode) == NS_NONE)
		return;
	if (in->shm_path) {
		strv_push(&options, "rbind");
		strv_push(&options, "rprivate");
		add_mount(list, "/dev/shm", "bind", in->shm_path, &options);
		return;
	}
	strv_split(&options, "nosuid,noexec,nodev,mode=1777", ",");
	strv_push_printf(&options, "size=%lld", (long long)size);
	add_mount(list, "/dev/shm", "tmpfs", "shm", &options);
}

static void add_file(const struct spec_inputs *in, struct json *list, const char *target,
		     const char *source)
{
	autostrv struct strv options = STRV_INIT;

	if (!source || user_mounts_at(in, target))
		return;
	strv_push(&options, "rbind");
	strv_push(&options, "rprivate");
	if (in->config->read_only_rootfs)
		strv_push(&options, "ro");
	add_mount(list, target, "bind", source, &options);
}

static void add_init(const struct spec_inputs *in, struct json *list)
{
	autostrv struct strv options = STRV_INIT;

	if (!in->config->init || !in->init_path)
		return;
	strv_split(&options, "bind,ro", ",");
	add_mount(list, "/sbin/docker-init", "bind", in->init_path, &options);
}

static void add_user_mount(struct json *list, const struct mount_spec *m)
{
	autostrv struct strv options = STRV_INIT;

	if (str_equal(m->type, "tmpfs")) {
		strv_split(&options, "noexec,nosuid,nodev", ",");
		for (size_t i = 0; i < m->options.n; i++) {
			if (str_equal(m->options.v[i], "exec"))
				str_replace(&options.v[0], "exec");
			else if (str_equal(m->options.v[i], "suid"))
				str_replace(&options.v[1], "suid");
			else if (str_equal(m->options.v[i], "dev"))
				str_replace(&options.v[2], "dev");
			else
				strv_push(&options, m->options.v[i]);
		}
		if (m->read_only)
			strv_push(&options, "ro");
		add_mount(list, m->target, "tmpfs", "tmpfs", &options);
		return;
	}
	strv_push(&options, m->non_recursive ? "bind" : "rbind");
	strv_push(&options, m->read_only ? "ro" : "rw");
	if (m->read_only && m->recursive_read_only)
		strv_push(&options, "rro");
	/* To crun "rprivate" says that a bind is recursive, too. */
	const char *propagation = str_empty(m->propagation) ? "rprivate" : m->propagation;
	strv_push(&options, propagation + (m->non_recursive && propagation[0] == 'r'));
	strv_extend(&options, &m->options);
	add_mount(list, m->target, "bind", m->source, &options);
}

static size_t depth(const char *path)
{
	size_t n = 0;

	for (; *path; path++)
		n += path[0] == '/' && path[1] != '\0' && path[1] != '/';
	return n;
}

/* Parents before what lies in them, whatever order they were asked for in; stable otherwise. */
static void add_user_mounts(const struct spec_inputs *in, struct json *list)
{
	size_t done = 0;

	for (size_t level = 0; done < in->n_mounts; level++) {
		for (size_t i = 0; i < in->n_mounts; i++) {
			if (depth(in->mounts[i].target) != level)
				continue;
			add_user_mount(list, &in->mounts[i]);
			done++;
		}
	}
}

/* A volume that shall propagate needs a root that lets it. */
static const char *rootfs_propagation(const struct spec_inputs *in)
{
	const char *result = NULL;

	for (size_t i = 0; i < in->n_mounts; i++) {
		const char *p = in->mounts[i].propagation;

		if (str_equal(p, "shared") || str_equal(p, "rshared"))
			return "shared";
		if (str_equal(p, "slave") || str_equal(p, "rslave"))
			result = "rslave";
	}
	return result;
}

int spec_mounts(const struct spec_inputs *in, struct json *spec, struct error *err)
{
	struct json *list = json_new_array();
	const char *propagation = rootfs_propagation(in);

	json_set(spec, "mounts", list);
	for (size_t i = 0; i < in->n_mounts; i++) {
		if (str_empty(in->mounts[i].target) || in->mounts[i].target[0] != '/')
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "invalid mount path: '%s' mount path must be absolute",
					 in->mounts[i].target ? in->mounts[i].target : "");
	}
	add_base_mounts(in, list);
	add_shm(in, list);
	add_file(in, list, "/etc/resolv.conf", in->resolv_conf_path);
	add_file(in, list, "/etc/hostname", in->hostname_path);
	add_file(in, list, "/etc/hosts", in->hosts_path);
	add_init(in, list);
	add_user_mounts(in, list);
	if (propagation)
		json_set_string(json_get(spec, "linux"), "rootfsPropagation", propagation);
	return 0;
}
