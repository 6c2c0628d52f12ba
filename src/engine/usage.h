#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cgroup uses, read from the kernel's files in the daemon itself: a list of all containers'
 * use must not ask their shims one after the other. cgroup v1, v2 and hybrid hosts. Any thread;
 * files of cgroupfs and procfs only, nothing blocks for long.
 */

#include "base/error.h"
#include "base/strv.h"

enum usage_controller {
	USAGE_CPU,
	USAGE_CPUACCT,
	USAGE_MEMORY,
	USAGE_PIDS,
	USAGE_BLKIO,
	USAGE_HUGETLB,
	USAGE_UNIFIED, /* v2: everything is here */
	USAGE_CONTROLLER_MAX
};

/* Directories of one cgroup; NULL where the controller is not there. */
struct cgroup_dirs {
	bool v2;
	char *dir[USAGE_CONTROLLER_MAX];
};

void cgroup_dirs_done(struct cgroup_dirs *d);
/* That a process is in. NOT_FOUND when it is gone. */
int cgroup_dirs_of_pid(int pid, struct cgroup_dirs *ret, struct error *err);
/* By its path below the mounts, or by a systemd slice's name. */
void cgroup_dirs_of_path(const char *path, struct cgroup_dirs *ret);
/* As the metrics' consumers name it: "/kubepods/...". Borrowed. */
const char *cgroup_dirs_path(const struct cgroup_dirs *d);

struct pressure_line {
	uint64_t total; /* ns */
	double avg10, avg60, avg300;
};

struct pressure {
	bool known;
	struct pressure_line some, full;
};

struct usage_device {
	unsigned major, minor;
	uint64_t read_bytes, write_bytes, reads, writes;
};

#define USAGE_DEVICES_MAX 32
#define USAGE_NO_LIMIT UINT64_MAX

struct usage {
	bool v2;
	int64_t at;			    /* ns since the epoch */
	uint64_t cpu, cpu_user, cpu_system; /* ns */
	uint64_t periods, throttled_periods, throttled_time;
	bool has_memory;
	uint64_t memory, memory_limit, memory_max, memory_failures; /* limit: USAGE_NO_LIMIT */
	uint64_t inactive_file, anon, cache, mapped_file, kernel, faults, major_faults;
	uint64_t swap, swap_limit;
	uint64_t oom_kills;
	uint64_t pids, pids_limit;
	struct usage_device devices[USAGE_DEVICES_MAX];
	size_t n_devices;
	struct pressure cpu_pressure, memory_pressure, io_pressure;
};

/* NOT_FOUND: the cgroup is gone. What a controller does not tell is 0. */
int usage_read(const struct cgroup_dirs *d, struct usage *ret, struct error *err);
/* Without what is inactive of the file cache, which goes first. */
uint64_t usage_working_set(const struct usage *u);

struct hugetlb_usage {
	char page_size[16]; /* "2MB" */
	uint64_t usage, max;
};

/* Returns how many (at most n). */
size_t usage_hugetlb(const struct cgroup_dirs *d, struct hugetlb_usage *ret, size_t n);
/* Processes, threads, descriptors and sockets among those in the cgroup and below. */
struct process_counts {
	uint64_t processes, threads, descriptors, sockets;
};
void usage_processes(const struct cgroup_dirs *d, struct process_counts *ret);

struct interface_usage {
	char name[16];
	uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped;
	uint64_t tx_bytes, tx_packets, tx_errors, tx_dropped;
};

/* All but the loopback of a network namespace, from the text of its /proc/net/dev. Returns how
 * many (at most n). */
size_t usage_parse_interfaces(const char *text, struct interface_usage *ret, size_t n);
/* Of the namespace that a descriptor is of: the calling thread goes there and comes back. */
size_t usage_interfaces(int netns_fd, struct interface_usage *ret, size_t n);

/* Sans-IO, for tests. */
void usage_parse_pressure(const char *text, struct pressure *ret);
