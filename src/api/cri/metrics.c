/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics as cAdvisor named them, for a kubelet that has none of its own. One table says what there
 * is; a metric's labels are the base ones and those of its kind, in this order. Values are whole
 * numbers by the protocol, seconds too.
 */
#include "api/cri/encode.h"
#include "api/cri/sample.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "rpc/retry.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#define INTERFACES_MAX 64
#define HUGETLB_MAX 8
#define METRICS_MAX 1024
#define KEYS_MAX 10

static const char *const base_keys[] = { "id", "name", "image", "namespace", "pod", "container" };

enum metric {
	M_BLKIO,
	M_CFS_PERIODS,
	M_CFS_THROTTLED,
	M_CFS_THROTTLED_TIME,
	M_CPU_SYSTEM,
	M_CPU_USAGE,
	M_CPU_USER,
	M_DESCRIPTORS,
	M_FS_INODES_FREE,
	M_FS_INODES_TOTAL,
	M_FS_LIMIT,
	M_FS_READS_BYTES,
	M_FS_READS,
	M_FS_USAGE,
	M_FS_WRITES_BYTES,
	M_FS_WRITES,
	M_HUGETLB_MAX,
	M_HUGETLB_USAGE,
	M_LAST_SEEN,
	M_MEMORY_CACHE,
	M_MEMORY_FAILCNT,
	M_MEMORY_FAILURES,
	M_MEMORY_KERNEL,
	M_MEMORY_MAPPED,
	M_MEMORY_MAX,
	M_MEMORY_RSS,
	M_MEMORY_SWAP,
	M_MEMORY_USAGE,
	M_MEMORY_WORKING_SET,
	M_RX_BYTES,
	M_RX_ERRORS,
	M_RX_DROPPED,
	M_RX_PACKETS,
	M_TX_BYTES,
	M_TX_ERRORS,
	M_TX_DROPPED,
	M_TX_PACKETS,
	M_OOM,
	M_PRESSURE_CPU_STALLED,
	M_PRESSURE_CPU_WAITING,
	M_PRESSURE_IO_STALLED,
	M_PRESSURE_IO_WAITING,
	M_PRESSURE_MEMORY_STALLED,
	M_PRESSURE_MEMORY_WAITING,
	M_PROCESSES,
	M_SOCKETS,
	M_SPEC_CPU_PERIOD,
	M_SPEC_CPU_QUOTA,
	M_SPEC_CPU_SHARES,
	M_SPEC_MEMORY_LIMIT,
	M_SPEC_MEMORY_RESERVATION,
	M_SPEC_MEMORY_SWAP,
	M_START_TIME,
	M_THREADS,
	M_THREADS_MAX,
	M_ULIMITS,
	METRIC_MAX
};

#define COUNTER RUNTIME__V1__METRIC_TYPE__COUNTER
#define GAUGE RUNTIME__V1__METRIC_TYPE__GAUGE

static const struct {
	const char *name, *help;
	Runtime__V1__MetricType type;
	const char *keys[4]; /* besides the base ones */
} metrics[METRIC_MAX] = {
	[M_BLKIO] = { "container_blkio_device_usage_total",
		      "Bytes moved by device and operation",
		      COUNTER,
		      { "device", "major", "minor", "operation" } },
	[M_CFS_PERIODS] = { "container_cpu_cfs_periods_total",
			    "Elapsed enforcement periods",
			    COUNTER,
			    { 0 } },
	[M_CFS_THROTTLED] = { "container_cpu_cfs_throttled_periods_total",
			      "Enforcement periods in which it was throttled",
			      COUNTER,
			      { 0 } },
	[M_CFS_THROTTLED_TIME] = { "container_cpu_cfs_throttled_seconds_total",
				   "Time for which it was throttled",
				   COUNTER,
				   { 0 } },
	[M_CPU_SYSTEM] = { "container_cpu_system_seconds_total",
			   "CPU time in the kernel",
			   COUNTER,
			   { 0 } },
	[M_CPU_USAGE] = { "container_cpu_usage_seconds_total", "CPU time", COUNTER, { 0 } },
	[M_CPU_USER] = { "container_cpu_user_seconds_total",
			 "CPU time in user space",
			 COUNTER,
			 { 0 } },
	[M_DESCRIPTORS] = { "container_file_descriptors", "Open file descriptors", GAUGE, { 0 } },
	[M_FS_INODES_FREE] = { "container_fs_inodes_free",
			       "Inodes that are free",
			       GAUGE,
			       { "device" } },
	[M_FS_INODES_TOTAL] = { "container_fs_inodes_total",
				"Inodes of the file system",
				GAUGE,
				{ "device" } },
	[M_FS_LIMIT] = { "container_fs_limit_bytes",
			 "Size of the file system",
			 GAUGE,
			 { "device" } },
	[M_FS_READS_BYTES] = { "container_fs_reads_bytes_total",
			       "Bytes read",
			       COUNTER,
			       { "device" } },
	[M_FS_READS] = { "container_fs_reads_total", "Reads", COUNTER, { "device" } },
	[M_FS_USAGE] = { "container_fs_usage_bytes",
			 "Bytes of its own layer",
			 GAUGE,
			 { "device" } },
	[M_FS_WRITES_BYTES] = { "container_fs_writes_bytes_total",
				"Bytes written",
				COUNTER,
				{ "device" } },
	[M_FS_WRITES] = { "container_fs_writes_total", "Writes", COUNTER, { "device" } },
	[M_HUGETLB_MAX] = { "container_hugetlb_max_usage_bytes",
			    "Most huge pages in use",
			    GAUGE,
			    { "pagesize" } },
	[M_HUGETLB_USAGE] = { "container_hugetlb_usage_bytes",
			      "Huge pages in use",
			      GAUGE,
			      { "pagesize" } },
	[M_LAST_SEEN] = { "container_last_seen", "When it was last seen", GAUGE, { 0 } },
	[M_MEMORY_CACHE] = { "container_memory_cache", "Page cache", GAUGE, { 0 } },
	[M_MEMORY_FAILCNT] = { "container_memory_failcnt",
			       "How often the limit was hit",
			       COUNTER,
			       { 0 } },
	[M_MEMORY_FAILURES] = { "container_memory_failures_total",
				"Page faults",
				COUNTER,
				{ "failure_type", "scope" } },
	[M_MEMORY_KERNEL] = { "container_memory_kernel_usage",
			      "Memory of the kernel",
			      GAUGE,
			      { 0 } },
	[M_MEMORY_MAPPED] = { "container_memory_mapped_file", "Mapped files", GAUGE, { 0 } },
	[M_MEMORY_MAX] = { "container_memory_max_usage_bytes", "Most memory in use", GAUGE, { 0 } },
	[M_MEMORY_RSS] = { "container_memory_rss", "Anonymous memory", GAUGE, { 0 } },
	[M_MEMORY_SWAP] = { "container_memory_swap", "Swap in use", GAUGE, { 0 } },
	[M_MEMORY_USAGE] = { "container_memory_usage_bytes",
			     "Memory in use, with caches",
			     GAUGE,
			     { 0 } },
	[M_MEMORY_WORKING_SET] = { "container_memory_working_set_bytes",
				   "Memory in use, without inactive caches",
				   GAUGE,
				   { 0 } },
	[M_RX_BYTES] = { "container_network_receive_bytes_total",
			 "Bytes received",
			 COUNTER,
			 { "interface" } },
	[M_RX_ERRORS] = { "container_network_receive_errors_total",
			  "Errors while receiving",
			  COUNTER,
			  { "interface" } },
	[M_RX_DROPPED] = { "container_network_receive_packets_dropped_total",
			   "Packets dropped while receiving",
			   COUNTER,
			   { "interface" } },
	[M_RX_PACKETS] = { "container_network_receive_packets_total",
			   "Packets received",
			   COUNTER,
			   { "interface" } },
	[M_TX_BYTES] = { "container_network_transmit_bytes_total",
			 "Bytes sent",
			 COUNTER,
			 { "interface" } },
	[M_TX_ERRORS] = { "container_network_transmit_errors_total",
			  "Errors while sending",
			  COUNTER,
			  { "interface" } },
	[M_TX_DROPPED] = { "container_network_transmit_packets_dropped_total",
			   "Packets dropped while sending",
			   COUNTER,
			   { "interface" } },
	[M_TX_PACKETS] = { "container_network_transmit_packets_total",
			   "Packets sent",
			   COUNTER,
			   { "interface" } },
	[M_OOM] = { "container_oom_events_total",
		    "Processes killed for want of memory",
		    COUNTER,
		    { 0 } },
	[M_PRESSURE_CPU_STALLED] = { "container_pressure_cpu_stalled_seconds_total",
				     "Time in which no task had a CPU",
				     COUNTER,
				     { 0 } },
	[M_PRESSURE_CPU_WAITING] = { "container_pressure_cpu_waiting_seconds_total",
				     "Time in which tasks waited for a CPU",
				     COUNTER,
				     { 0 } },
	[M_PRESSURE_IO_STALLED] = { "container_pressure_io_stalled_seconds_total",
				    "Time in which all tasks waited for I/O",
				    COUNTER,
				    { 0 } },
	[M_PRESSURE_IO_WAITING] = { "container_pressure_io_waiting_seconds_total",
				    "Time in which tasks waited for I/O",
				    COUNTER,
				    { 0 } },
	[M_PRESSURE_MEMORY_STALLED] = { "container_pressure_memory_stalled_seconds_total",
					"Time in which all tasks waited for memory",
					COUNTER,
					{ 0 } },
	[M_PRESSURE_MEMORY_WAITING] = { "container_pressure_memory_waiting_seconds_total",
					"Time in which tasks waited for memory",
					COUNTER,
					{ 0 } },
	[M_PROCESSES] = { "container_processes", "Processes", GAUGE, { 0 } },
	[M_SOCKETS] = { "container_sockets", "Open sockets", GAUGE, { 0 } },
	[M_SPEC_CPU_PERIOD] = { "container_spec_cpu_period",
				"CPU period in microseconds",
				GAUGE,
				{ 0 } },
	[M_SPEC_CPU_QUOTA] = { "container_spec_cpu_quota",
			       "CPU quota in microseconds",
			       GAUGE,
			       { 0 } },
	[M_SPEC_CPU_SHARES] = { "container_spec_cpu_shares", "CPU shares", GAUGE, { 0 } },
	[M_SPEC_MEMORY_LIMIT] = { "container_spec_memory_limit_bytes",
				  "Limit of memory",
				  GAUGE,
				  { 0 } },
	[M_SPEC_MEMORY_RESERVATION] = { "container_spec_memory_reservation_limit_bytes",
					"Reservation of memory",
					GAUGE,
					{ 0 } },
	[M_SPEC_MEMORY_SWAP] = { "container_spec_memory_swap_limit_bytes",
				 "Limit of memory and swap",
				 GAUGE,
				 { 0 } },
	[M_START_TIME] = { "container_start_time_seconds", "When it was started", GAUGE, { 0 } },
	[M_THREADS] = { "container_threads", "Threads", GAUGE, { 0 } },
	[M_THREADS_MAX] = { "container_threads_max",
			    "Most threads allowed, 0: no limit",
			    GAUGE,
			    { 0 } },
	[M_ULIMITS] = { "container_ulimits_soft",
			"Soft limits of the first process, -1: none",
			GAUGE,
			{ "ulimit" } },
};

/* --- descriptors --- */

static size_t keys_of(enum metric m, char *ret[KEYS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(base_keys); i++)
		ret[n++] = (char *)(uintptr_t)base_keys[i];
	for (size_t i = 0; i < ARRAY_SIZE(metrics[m].keys) && metrics[m].keys[i]; i++)
		ret[n++] = (char *)(uintptr_t)metrics[m].keys[i];
	return n;
}

static int list_metric_descriptors(struct grpc_call *c, const ProtobufCMessage *m UNUSED,
				   ProtobufCMessage *r, struct error *err UNUSED)
{
	Runtime__V1__ListMetricDescriptorsResponse *reply =
		(Runtime__V1__ListMetricDescriptorsResponse *)r;
	struct arena *a = grpc_call_arena(c);

	reply->descriptors = message_array(a, METRIC_MAX);
	for (int i = 0; i < METRIC_MAX; i++) {
		Runtime__V1__MetricDescriptor *d = CRI_NEW(a, metric_descriptor);

		d->name = (char *)(uintptr_t)metrics[i].name;
		d->help = (char *)(uintptr_t)metrics[i].help;
		d->label_keys = message_array(a, KEYS_MAX);
		d->n_label_keys = keys_of((enum metric)i, d->label_keys);
		reply->descriptors[reply->n_descriptors++] = d;
	}
	return 0;
}

/* --- values --- */

/* Where metrics of one pod or container are collected. */
struct collector {
	struct arena *arena;
	char *base[ARRAY_SIZE(base_keys)];
	int64_t at;
	Runtime__V1__Metric *v[METRICS_MAX];
	size_t n;
};

/* The labels are those of the metric's keys; NULL ends them. */
static void add(struct collector *c, enum metric which, uint64_t value, const char *l1,
		const char *l2, const char *l3, const char *l4)
{
	const char *const labels[] = { l1, l2, l3, l4 };

	if (c->n == METRICS_MAX)
		return;
	Runtime__V1__Metric *m = CRI_NEW(c->arena, metric);
	m->name = (char *)(uintptr_t)metrics[which].name;
	m->timestamp = c->at;
	m->metric_type = metrics[which].type;
	m->value = cri_uint64(c->arena, value);
	m->label_values = message_array(c->arena, KEYS_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(base_keys); i++)
		m->label_values[m->n_label_values++] = c->base[i];
	for (size_t i = 0; i < ARRAY_SIZE(labels) && metrics[which].keys[i]; i++)
		m->label_values[m->n_label_values++] = message_text(c->arena, labels[i]);
	c->v[c->n++] = m;
}

static void add_plain(struct collector *c, enum metric which, uint64_t value)
{
	add(c, which, value, NULL, NULL, NULL, NULL);
}

static uint64_t seconds(uint64_t ns)
{
	return ns / NSEC_PER_SEC;
}

static void add_cpu(struct collector *c, const struct usage *u)
{
	add_plain(c, M_CFS_PERIODS, u->periods);
	add_plain(c, M_CFS_THROTTLED, u->throttled_periods);
	add_plain(c, M_CFS_THROTTLED_TIME, seconds(u->throttled_time));
	add_plain(c, M_CPU_SYSTEM, seconds(u->cpu_system));
	add_plain(c, M_CPU_USAGE, seconds(u->cpu));
	add_plain(c, M_CPU_USER, seconds(u->cpu_user));
}

static void add_memory(struct collector *c, const struct usage *u)
{
	add_plain(c, M_MEMORY_CACHE, u->cache);
	add_plain(c, M_MEMORY_FAILCNT, u->memory_failures);
	add(c, M_MEMORY_FAILURES, u->faults, "pgfault", "hierarchy", NULL, NULL);
	add(c, M_MEMORY_FAILURES, u->major_faults, "pgmajfault", "hierarchy", NULL, NULL);
	add_plain(c, M_MEMORY_KERNEL, u->kernel);
	add_plain(c, M_MEMORY_MAPPED, u->mapped_file);
	add_plain(c, M_MEMORY_MAX, u->memory_max);
	add_plain(c, M_MEMORY_RSS, u->anon);
	add_plain(c, M_MEMORY_SWAP, u->swap);
	add_plain(c, M_MEMORY_USAGE, u->memory);
	add_plain(c, M_MEMORY_WORKING_SET, usage_working_set(u));
	add_plain(c, M_OOM, u->oom_kills);
}

static void add_pressure(struct collector *c, const struct pressure *p, enum metric stalled,
			 enum metric waiting)
{
	if (!p->known)
		return;
	add_plain(c, stalled, seconds(p->full.total));
	add_plain(c, waiting, seconds(p->some.total));
}

static void device_name(const struct usage_device *d, char ret[64])
{
	char path[64], target[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", d->major, d->minor);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		n = 0;
	target[n] = '\0';
	snprintf(ret, 64, "/dev/%.48s", n ? path_base(target) : "");
}

static void add_io(struct collector *c, const struct usage *u)
{
	static const struct usage_device none;

	/* One at least, so that readers see a zero where nothing has been moved. */
	for (size_t i = 0; i < MAX(u->n_devices, (size_t)1); i++) {
		const struct usage_device *d = i < u->n_devices ? &u->devices[i] : &none;
		char major[16], minor[16], device[64] = "";

		snprintf(major, sizeof(major), "%u", d->major);
		snprintf(minor, sizeof(minor), "%u", d->minor);
		if (u->n_devices > 0)
			device_name(d, device);
		add(c, M_BLKIO, d->read_bytes, device, major, minor, "Read");
		add(c, M_BLKIO, d->write_bytes, device, major, minor, "Write");
		add(c, M_FS_READS_BYTES, d->read_bytes, device, NULL, NULL, NULL);
		add(c, M_FS_READS, d->reads, device, NULL, NULL, NULL);
		add(c, M_FS_WRITES_BYTES, d->write_bytes, device, NULL, NULL, NULL);
		add(c, M_FS_WRITES, d->writes, device, NULL, NULL, NULL);
	}
}

static void add_layer(const struct cri_api *api, struct collector *c, const struct sample *s)
{
	const char *root = store_root(api->store);
	struct statvfs fs;

	if (s->has_layer)
		add(c, M_FS_USAGE, s->layer_bytes, root, NULL, NULL, NULL);
	if (statvfs(root, &fs) < 0)
		return;
	add(c, M_FS_LIMIT, (uint64_t)fs.f_blocks * fs.f_frsize, root, NULL, NULL, NULL);
	add(c, M_FS_INODES_TOTAL, fs.f_files, root, NULL, NULL, NULL);
	add(c, M_FS_INODES_FREE, fs.f_ffree, root, NULL, NULL, NULL);
}

static void add_counts(struct collector *c, const struct cgroup_dirs *dirs, const struct usage *u)
{
	struct hugetlb_usage pages[HUGETLB_MAX];
	struct process_counts counts;
	size_t n = usage_hugetlb(dirs, pages, HUGETLB_MAX);

	usage_processes(dirs, &counts);
	add_plain(c, M_PROCESSES, counts.processes);
	add_plain(c, M_THREADS, counts.threads);
	add_plain(c, M_DESCRIPTORS, counts.descriptors);
	add_plain(c, M_SOCKETS, counts.sockets);
	add_plain(c, M_THREADS_MAX, u->pids_limit == USAGE_NO_LIMIT ? 0 : u->pids_limit);
	for (size_t i = 0; i < n; i++) {
		add(c, M_HUGETLB_USAGE, pages[i].usage, pages[i].page_size, NULL, NULL, NULL);
		add(c, M_HUGETLB_MAX, pages[i].max, pages[i].page_size, NULL, NULL, NULL);
	}
}

static void add_spec(struct collector *c, const struct resources *r)
{
	add_plain(c, M_SPEC_CPU_PERIOD, r->cpu_period > 0 ? (uint64_t)r->cpu_period : 100000);
	if (r->cpu_quota > 0)
		add_plain(c, M_SPEC_CPU_QUOTA, (uint64_t)r->cpu_quota);
	add_plain(c, M_SPEC_CPU_SHARES, r->cpu_shares > 0 ? (uint64_t)r->cpu_shares : 1024);
	add_plain(c, M_SPEC_MEMORY_LIMIT, (uint64_t)MAX(r->memory, (int64_t)0));
	add_plain(c, M_SPEC_MEMORY_RESERVATION, (uint64_t)MAX(r->memory_reservation, (int64_t)0));
	add_plain(c, M_SPEC_MEMORY_SWAP, (uint64_t)MAX(r->memory_swap, (int64_t)0));
}

/* "Max open files            1024                 524288               files" */
static void add_ulimits(struct collector *c, int pid)
{
	autobuf struct buf b = BUF_INIT(65536);
	unsigned long long soft;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	if (fs_read(AT_FDCWD, path, &b) < 0)
		return;
	const char *line = strstr(b.data, "\nMax open files");
	if (line && sscanf(line, "\nMax open files %llu", &soft) == 1)
		add(c, M_ULIMITS, soft, "max_open_files", NULL, NULL, NULL);
}

static void add_interfaces(struct cri_api *api, struct collector *c, const struct sandbox_view *v)
{
	struct interface_usage list[INTERFACES_MAX];
	size_t n = cri_pod_interfaces(api, v, list, INTERFACES_MAX);

	for (size_t i = 0; i < n; i++) {
		const struct interface_usage *u = &list[i];

		add(c, M_RX_BYTES, u->rx_bytes, u->name, NULL, NULL, NULL);
		add(c, M_RX_ERRORS, u->rx_errors, u->name, NULL, NULL, NULL);
		add(c, M_RX_DROPPED, u->rx_dropped, u->name, NULL, NULL, NULL);
		add(c, M_RX_PACKETS, u->rx_packets, u->name, NULL, NULL, NULL);
		add(c, M_TX_BYTES, u->tx_bytes, u->name, NULL, NULL, NULL);
		add(c, M_TX_ERRORS, u->tx_errors, u->name, NULL, NULL, NULL);
		add(c, M_TX_DROPPED, u->tx_dropped, u->name, NULL, NULL, NULL);
		add(c, M_TX_PACKETS, u->tx_packets, u->name, NULL, NULL, NULL);
	}
}

/* What every cgroup has. */
static void add_usage(struct collector *c, const struct sample *s, const struct cgroup_dirs *dirs)
{
	const struct usage *u = &s->usage;

	add_cpu(c, u);
	add_memory(c, u);
	add_io(c, u);
	add_counts(c, dirs, u);
	add_pressure(c, &u->cpu_pressure, M_PRESSURE_CPU_STALLED, M_PRESSURE_CPU_WAITING);
	add_pressure(c, &u->memory_pressure, M_PRESSURE_MEMORY_STALLED, M_PRESSURE_MEMORY_WAITING);
	add_pressure(c, &u->io_pressure, M_PRESSURE_IO_STALLED, M_PRESSURE_IO_WAITING);
	add_plain(c, M_LAST_SEEN, seconds((uint64_t)u->at));
}

/* --- pods and containers --- */

static struct collector *collector_new(struct arena *a, const struct sandbox_view *v,
				       const char *cgroup, const char *name, const char *image,
				       const char *container)
{
	struct collector *c = arena_new(a, struct collector);
	const char *const base[] = { cgroup,	     name,     image, v->config.namespace_,
				     v->config.name, container };

	c->arena = a;
	c->at = time_realtime();
	for (size_t i = 0; i < ARRAY_SIZE(base); i++)
		c->base[i] = message_text(a, base[i]);
	return c;
}

static Runtime__V1__ContainerMetrics *container_metrics(struct cri_api *api, struct arena *a,
							const struct sandbox_view *v,
							const struct container_brief *b)
{
	CLEANUP(cgroup_dirs_done) struct cgroup_dirs dirs = { 0 };
	const struct container_shared *s = b->shared;
	struct sample sample;

	if (b->pid <= 0 || samples_container(api->samples, b, &sample, &dirs, NULL) < 0)
		return NULL;
	struct collector *c = collector_new(a, v, cgroup_dirs_path(&dirs), s->id, s->config.image,
					    cri_encode_container_metadata(a, s->extension)->name);
	add_usage(c, &sample, &dirs);
	add_layer(api, c, &sample);
	add_spec(c, &s->config.resources);
	add_ulimits(c, b->pid);
	add_plain(c, M_START_TIME, seconds((uint64_t)b->started_at));
	Runtime__V1__ContainerMetrics *m = CRI_NEW(a, container_metrics);
	m->container_id = message_text(a, s->id);
	m->n_metrics = c->n;
	m->metrics = c->v;
	return m;
}

static Runtime__V1__PodSandboxMetrics *pod_metrics(struct cri_api *api, struct arena *a,
						   const struct sandbox_view *v)
{
	CLEANUP(container_briefs_done) struct container_briefs b = { 0 };
	CLEANUP(cgroup_dirs_done) struct cgroup_dirs dirs = { 0 };
	Runtime__V1__PodSandboxMetrics *m = CRI_NEW(a, pod_sandbox_metrics);
	struct sample sample;

	bool own = samples_pod(api->samples, v, &sample, &dirs, NULL) == 0;
	struct collector *c =
		collector_new(a, v, own ? cgroup_dirs_path(&dirs) : v->cgroup, "", "", "");
	if (own)
		add_usage(c, &sample, &dirs);
	add_interfaces(api, c, v);
	add_plain(c, M_START_TIME, seconds((uint64_t)v->created_at));
	m->pod_sandbox_id = message_text(a, v->id);
	m->n_metrics = c->n;
	m->metrics = c->v;
	engine_briefs(api->engine, CRI_NAMESPACE, v->id, &b);
	m->container_metrics = message_array(a, b.n);
	for (size_t i = 0; i < b.n; i++) {
		Runtime__V1__ContainerMetrics *one = container_metrics(api, a, v, &b.v[i]);

		if (one)
			m->container_metrics[m->n_container_metrics++] = one;
	}
	return m;
}

static Runtime__V1__PodSandboxMetrics **collect(struct grpc_call *c, size_t *ret_n)
{
	CLEANUP(sandbox_views_done) struct sandbox_views views = { 0 };
	struct cri_api *api = cri_of(c);
	struct arena *a = grpc_call_arena(c);

	samples_prune(api->samples);
	engine_sandbox_list(api->engine, CRI_NAMESPACE, &views);
	Runtime__V1__PodSandboxMetrics **out = message_array(a, views.n);
	*ret_n = 0;
	for (size_t i = 0; i < views.n; i++) {
		if (views.v[i]->state == SANDBOX_READY &&
		    !retry_hides(api->sandboxes, views.v[i]->id))
			out[(*ret_n)++] = pod_metrics(api, a, views.v[i]);
	}
	return out;
}

static int list_pod_sandbox_metrics(struct grpc_call *c, const ProtobufCMessage *m UNUSED,
				    ProtobufCMessage *r, struct error *err UNUSED)
{
	Runtime__V1__ListPodSandboxMetricsResponse *reply =
		(Runtime__V1__ListPodSandboxMetricsResponse *)r;

	reply->pod_metrics = collect(c, &reply->n_pod_metrics);
	return 0;
}

static int stream_pod_sandbox_metrics(struct grpc_call *c, const ProtobufCMessage *m UNUSED,
				      struct error *err UNUSED)
{
	size_t n;
	Runtime__V1__PodSandboxMetrics **items = collect(c, &n);

	grpc_call_send_items(c, cri_of(c)->config.loop,
			     &runtime__v1__stream_pod_sandbox_metrics_response__descriptor, items,
			     n);
	return 0;
}

const struct grpc_method cri_metric_methods[] = {
	{ "ListMetricDescriptors", .unary = list_metric_descriptors, .pool = JOB_QUICK },
	{ "ListPodSandboxMetrics", .unary = list_pod_sandbox_metrics, .pool = JOB_OPS },
	{ "StreamPodSandboxMetrics", .streaming = stream_pod_sandbox_metrics, .pool = JOB_OPS },
	{ NULL },
};
