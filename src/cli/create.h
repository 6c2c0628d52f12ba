#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What run and create share: their options, and making the container. */

#include "cli/cli.h"

struct create_options {
	struct strv add_host, annotations, attach, blkio_weight_devices, cap_add, cap_drop,
		device_read_bps, device_read_iops, device_rules, device_write_bps,
		device_write_iops, devices, dns, dns_options, link_local_ips, dns_search, env,
		env_files, expose, group_add, labels, label_files, links, log_opts, mounts,
		networks, network_aliases, publish, security_opts, storage_opts, sysctls, tmpfs,
		ulimits, volumes, volumes_from;
	const char *cgroup_parent, *cgroupns, *cidfile, *cpuset_cpus, *cpuset_mems, *domainname,
		*entrypoint, *gpus, *health_cmd, *hostname, *ip, *ip6, *ipc, *isolation,
		*log_driver, *mac_address, *name, *pid, *platform, *pull, *restart, *runtime,
		*stop_signal, *user, *userns, *uts, *volume_driver, *workdir;
	int64_t blkio_weight, cpu_period, cpu_quota, cpu_rt_period, cpu_rt_runtime, cpu_shares,
		cpus, health_interval, health_retries, health_start_interval, health_start_period,
		health_timeout, kernel_memory, memory, memory_reservation, memory_swap,
		memory_swappiness, oom_score_adj, pids_limit, shm_size, stop_timeout;
	bool disable_content_trust, interactive, no_healthcheck, oom_kill_disable, privileged,
		publish_all, quiet, read_only, remove, tty;
	int init; /* -1: the daemon's default */

	/* set by run */
	bool detach;
	const char *detach_keys;
	bool sig_proxy;
};

extern struct create_options create_options;
extern const struct option create_option_table[];

/* What is attached, after defaults. */
struct create_attach {
	bool in, out, err;
};

struct create_attach create_attach_get(const struct create_options *o);
/* The request's body. argv: image, command, arguments. */
struct json *create_config(const struct create_options *o, int argc, char **argv,
			   struct error *err);
/* Checks the image, pulls it as --pull says, creates, writes the cidfile. *ret_id malloc'ed. */
int create_container(struct cli *cli, const struct create_options *o, int argc, char **argv,
		     char **ret_id, struct error *err);
