#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's configuration: containerd's config.toml (versions 2 and 3, the keys that apply) and
 * a table [kistl] of our own, then the command line, then defaults. kistld.conf(5) lists the keys.
 */

#include "base/error.h"
#include "base/map.h"
#include "base/strv.h"

struct config_runtime {
	char *name;
	char *path;
	char *type; /* containerd's "io.containerd.runc.v2", from which the path follows */
	char *cni_conf_dir;
	bool systemd_cgroup;
	bool privileged_without_host_devices;
	/* Patterns of annotations that are handed on to the runtime. */
	struct strv pod_annotations, container_annotations;
};

/* What only the CRI needs. */
struct config_cri {
	struct kvs pinned_images; /* by purpose */
	int64_t pull_timeout;	  /* ns without progress; INT64_MAX: never; 0: 5 min */
	struct strv cni_bin_dirs;
	char *cni_conf_dir;
	bool cni_binaries_only;
	char *stream_address, *stream_port; /* the port is a string in containerd's file */
	int64_t stream_idle_timeout;	    /* ns; 0: 4 h */
	bool stream_tls;
	char *stream_cert, *stream_key, *stream_ca;
	int64_t max_log_line; /* bytes; -1: no limit; 0: 16 KiB */
	bool disable_cdi;
	struct strv cdi_spec_dirs;
	bool systemd_cgroup; /* [kistl] or version 1's key, whatever the runtimes say */
	bool ignore_image_volumes;
	bool restrict_oom_score_adj;
	bool no_unprivileged_ports, unprivileged_icmp;
	char *unset_seccomp_profile;
};

struct config {
	char *root, *state, *socket;
	char *log_level, *log_format;
	char *group; /* of the socket */
	char *snapshotter;
	char *default_runtime;
	struct {
		struct config_runtime *v;
		size_t n;
	} runtimes;
	struct strv hosts_dirs;
	struct strv insecure_registries;
	char *log_driver;
	struct kvs log_options;
	struct strv dns;
	char *shim, *worker, *init; /* paths of our other programs */
	char *bridge, *subnet;
	int64_t max_downloads;
	int64_t stall_timeout; /* ns without a byte until a download is retried; 0: 60 s */
	int64_t idle_exit;     /* seconds; 0: stays */
	struct config_cri cri;
	struct strv unknown; /* keys of the file that mean nothing here */
};

#define CONFIG_MAX (1 << 20) /* bytes of the file */

void config_done(struct config *c);
/* What the text says goes over what *c has. Errors name the key. */
int config_parse(struct config *c, const char *text, size_t len, struct error *err);
/* path NULL: the default one, which may be absent. */
int config_load(struct config *c, const char *path, struct error *err);
/* Fills what nobody has set. Rootless when euid is not 0. */
int config_defaults(struct config *c, struct error *err);
/* NULL: unknown. */
const struct config_runtime *config_runtime(const struct config *c, const char *name);
/* The path that a runtime's name stands for; NULL: unknown. */
const char *config_runtime_path(const struct config *c, const char *name);

#define autoconfig CLEANUP(config_done)
