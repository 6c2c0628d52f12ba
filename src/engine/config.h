#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container is asked to be: the one form that the API front ends translate into and spec.c
 * makes an OCI runtime spec from. Plain data with a JSON table (config.c), because it is stored
 * with the container's record. Sizes in bytes, times in ns unless named otherwise.
 */

#include "base/json.h"
#include "base/map.h"
#include "base/strv.h"
#include "oci/image.h"

enum ns_mode { NS_PRIVATE, NS_HOST, NS_CONTAINER, NS_NONE, NS_SHAREABLE, NS_POD };

struct id_mapping {
	int64_t container_id, host_id, length;
};

struct id_mappings {
	struct id_mapping *v;
	size_t n;
};

struct selinux_label {
	char *user, *role, *type, *level;
};

struct mount_spec {
	char *type;   /* "bind", "volume", "tmpfs", "image" (pods only) */
	char *source; /* host path, volume name ("" for an anonymous one), image's id or name */
	char *target; /* absolute path in the container */
	bool read_only;
	bool no_copy;	    /* volume: do not copy the image's content in */
	bool create_source; /* bind (-v form): make a missing host directory */
	bool anonymous;	    /* volume made for this container; goes with `rm -v` */
	struct kvs volume_labels, volume_options; /* of a volume that this mount makes */
	bool non_recursive;			  /* bind: without the mounts in it */
	bool ro_shallow; /* bind, read-only: the mounts in it stay as they are */
	/* Not stored: what the subpath has been seen to be. */
	uint64_t expect_dev, expect_ino;
	char *propagation;   /* "rprivate" ... */
	struct strv options; /* further mount options; for tmpfs "size=64m", "mode=1777", ... */
	bool recursive_read_only; /* read_only, for all mounts below as well */
	bool selinux_relabel;
	struct id_mappings uid_mappings, gid_mappings; /* ID-mapped; empty: not */
	char *sub_path; /* image, volume: what is mounted lies there in it; empty: all of it */
};

struct device_spec {
	char *host_path;
	char *container_path;
	char *permissions; /* "rwm" */
};

struct ulimit_spec {
	char *name;	    /* "nofile" */
	int64_t soft, hard; /* -1: unlimited */
};

struct port_spec {
	char *protocol; /* "tcp", "udp", "sctp" */
	char *host_ip;
	int64_t host_port;     /* 0: ephemeral */
	int64_t host_port_end; /* the first free one up to this; 0: just host_port */
	int64_t container_port;
};

/* A network that a container is to be in. */
struct endpoint_spec {
	char *network; /* its name */
	char *ip, *ip6, *mac;
	bool addresses; /* Docker's IPAMConfig was given, if only empty */
	struct strv link_local;
	struct strv aliases;
	struct strv links; /* "container:alias" */
	struct kvs driver_opts;
	int64_t gw_priority;
};

struct health_spec {
	struct strv test; /* empty: none */
	int64_t interval, timeout, start_period, start_interval;
	int64_t retries;
	bool none; /* NONE: the image's check is off */
};

struct hugepage_limit {
	char *page_size; /* "2MB" */
	uint64_t limit;
};

/* A limit for one device of the host. */
struct rate_device {
	char *path;
	int64_t rate; /* or weight */
};

struct rate_devices {
	struct rate_device *v;
	size_t n;
};

struct resources {
	int64_t memory, memory_reservation, memory_swap; /* 0: unset; swap -1: unlimited */
	int64_t memory_swappiness;			 /* -1: unset */
	bool oom_kill_disable;
	int64_t nano_cpus;
	int64_t cpu_shares, cpu_period, cpu_quota;
	int64_t cpu_rt_period, cpu_rt_runtime;
	char *cpuset_cpus, *cpuset_mems;
	int64_t pids_limit; /* 0: unset, -1: unlimited */
	int64_t blkio_weight;
	struct rate_devices blkio_weight_devices, blkio_read_bps, blkio_write_bps, blkio_read_iops,
		blkio_write_iops;
	struct {
		struct hugepage_limit *v;
		size_t n;
	} hugepages;
	struct kvs unified; /* files of cgroup v2 */
};

struct container_config {
	char *image; /* as asked for: "busybox" */
	char *image_id;
	char *chain_id; /* snapshot that the rootfs is made on */
	struct platform platform;

	struct strv args; /* resolved: entrypoint ++ cmd */
	struct strv env;  /* resolved: image's, then the user's */
	char *cwd;
	char *user; /* "", "uid", "name:group" ... resolved at start, inside the rootfs */
	struct strv group_add;
	char *hostname, *domainname;
	bool tty, open_stdin, stdin_once;
	char *stop_signal;    /* "SIGTERM" when empty */
	int64_t stop_timeout; /* seconds; -1: default 10 */
	struct kvs labels;
	struct kvs annotations;

	struct {
		struct mount_spec *v;
		size_t n;
	} mounts;
	struct strv volumes_from; /* "container[:ro]" */
	bool read_only_rootfs;
	int64_t shm_size; /* 0: 64 MiB */
	bool auto_remove;
	bool init;

	char *network_mode; /* "bridge", "host", "none", "container:ID", network name */
	struct strv dns, dns_search, dns_options;
	struct strv extra_hosts; /* "name:ip", "name=ip" */
	char *mac_address;	 /* of the first network, where that one's says nothing */
	struct strv links;	 /* "container:alias", on the default network */
	struct {
		struct endpoint_spec *v;
		size_t n;
	} endpoints; /* the one of network_mode first */
	struct {
		struct port_spec *v;
		size_t n;
	} ports;
	struct strv exposed_ports; /* "80/tcp" */
	bool publish_all;	   /* of them, those that have no host port */
	char *pid_mode, *ipc_mode, *uts_mode, *cgroupns_mode, *userns_mode; /* Docker's words */

	bool privileged;
	struct strv cap_add, cap_drop;
	/* "no-new-privileges", "seccomp=unconfined" or JSON, "seccomp-file=/path" (a profile of
	 * the host's; pods only), "apparmor=...", "label=...", "systempaths=unconfined" */
	struct strv security_opt;
	struct {
		struct device_spec *v;
		size_t n;
	} devices;
	struct strv device_cgroup_rules;
	struct strv masked_paths, readonly_paths;
	bool default_paths; /* use Docker's lists for the two above */
	struct kvs sysctls;
	struct {
		struct ulimit_spec *v;
		size_t n;
	} ulimits;
	struct resources resources;
	int64_t oom_score_adj;
	char *cgroup_parent;

	char *runtime;	  /* name from the configuration; NULL: default */
	char *log_driver; /* "json-file", "none", "local"; NULL: default */
	struct kvs log_options;
	char *restart_policy; /* "no", "always", "on-failure", "unless-stopped" */
	int64_t restart_max_retries;
	struct health_spec health;

	/* What only containers of pods have (engine/sandbox.h). */
	char *sandbox_id; /* full id; empty: not of a pod */
	char *log_path;	  /* absolute; empty: no log */
	/* Which groups a process gets besides group_add: "": Docker's rule; "merge": the user's of
	 * /etc/group, whatever the user was given as; "strict": none. */
	char *groups_policy;
	struct strv cap_ambient; /* as cap_add; added to the other sets too */
	struct selinux_label selinux;
	struct strv cdi_devices; /* "vendor.com/class=name" */
	char *unmet_request;	 /* for devices that no driver here has: what a start says */
	bool no_host_devices;	 /* privileged, but with its own devices only */
};

void mount_spec_copy(struct mount_spec *dst, const struct mount_spec *src);
void mount_spec_done(struct mount_spec *m);
void resources_done(struct resources *r);
void container_config_done(struct container_config *c);
/* A new one at the end, or the one that is there. */
struct endpoint_spec *container_config_endpoint(struct container_config *c, const char *network);
void container_config_drop_endpoint(struct container_config *c, const char *network);
void endpoint_spec_done(struct endpoint_spec *e);
void container_config_copy(struct container_config *dst, const struct container_config *src);
struct json *container_config_to_json(const struct container_config *c);
int container_config_from_json(const struct json *j, struct container_config *ret,
			       struct error *err);
/* Entrypoint, cmd, env, user, workdir, labels, volumes, stop signal, health check of the image
 * where the user said nothing. `entrypoint`/`cmd`: what the user gave (n == 0 and !set: nothing
 * given). / */
int container_config_apply_image(struct container_config *c, const struct image_config *image,
				 const struct strv *entrypoint, bool entrypoint_set,
				 const struct strv *cmd, struct error *err);
/* Everything that can be said wrong without looking at the host: names the field as Docker does. */
int container_config_validate(const struct container_config *c, struct error *err);
