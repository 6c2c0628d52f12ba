#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place where an OCI runtime spec is made (runtime-spec 1.1), with Docker's defaults. Any
 * thread; touches the rootfs only through the given descriptor.
 */

#include "base/error.h"
#include "base/json.h"
#include "engine/config.h"

struct user_ids;

struct spec_inputs {
	const struct container_config *config;
	const char *id;
	/* O_PATH of the mounted rootfs: users and groups are looked up in it */
	int rootfs_fd;
	const struct user_ids *user; /* not NULL: in place of looking them up */
	const char *rootfs_path;     /* goes into root.path, e.g. "rootfs" */
	const char *cgroups_path;    /* "/kistl/<id>" */
	const char *netns_path;	     /* NULL: new one by the runtime; "" host */
	const char *pidns_path, *ipcns_path, *utsns_path; /* for container:ID modes; NULL by mode */
	const char *userns_path;			  /* NULL: the host's */
	const struct id_mappings *uid_mappings, *gid_mappings;	   /* with userns_path */
	const char *hosts_path, *resolv_conf_path, *hostname_path; /* bind-mounted when not NULL */
	const char *shm_path;  /* shared shm of another container, or NULL: tmpfs */
	const char *init_path; /* host path of the init program, when config->init */
	/* Volumes resolved to host paths, in the order to mount. */
	const struct mount_spec *mounts;
	size_t n_mounts;
	const struct strv *cdi_dirs; /* NULL: the usual ones */
	bool cgroup_v2;
	bool systemd_cgroup;
};

/* INVALID_ARGUMENT for unknown user, capability, signal, bad device ...; names it. */
int spec_build(const struct spec_inputs *in, struct json **ret, struct error *err);

/* Docker's lists, for those who show them. */
struct json *spec_masked_paths(void);
struct json *spec_readonly_paths(void);

/* An exec's process document. */
struct exec_config {
	struct strv args, env;
	char *cwd, *user;
	bool tty, privileged;
	bool attach_stdin, attach_stdout, attach_stderr;
	char *detach_keys;
};

void exec_config_done(struct exec_config *c);
int spec_build_exec(const struct spec_inputs *in, const struct json *spec,
		    const struct exec_config *exec, struct json **ret, struct error *err);

/* "SIGTERM", "TERM", "15", "RTMIN+3" -> number; -1 when unknown. */
int signal_parse(const char *s);
/* Docker's default seccomp profile for these capabilities as a runtime-spec object. */
struct json *seccomp_default(const struct strv *capabilities);
/* A profile in Docker's format (archMap, includes, excludes) to the runtime's. */
int seccomp_from_profile(const struct json *profile, const struct strv *capabilities,
			 struct json **ret, struct error *err);
