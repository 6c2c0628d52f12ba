/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Time of all CPUs together, idle too, as the first line of /proc/stat has it. */
static uint64_t host_cpu_time(void)
{
	autobuf struct buf b = BUF_INIT(1 << 20);
	uint64_t t[8] = { 0 }, sum = 0;
	long hz = sysconf(_SC_CLK_TCK);

	if (fs_read(AT_FDCWD, "/proc/stat", &b) < 0 ||
	    sscanf(b.data, "cpu %lu %lu %lu %lu %lu %lu %lu %lu", &t[0], &t[1], &t[2], &t[3], &t[4],
		   &t[5], &t[6], &t[7]) < 7)
		return 0;
	for (size_t i = 0; i < 8; i++)
		sum += t[i];
	return sum * (uint64_t)(NSEC_PER_SEC / (hz > 0 ? hz : 100));
}

static uint64_t host_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

static void from_task(const struct task_stats *t, struct container_stats *s)
{
	uint64_t host = host_memory();

	s->cpu_total = t->cpu_total;
	s->cpu_user = t->cpu_user;
	s->cpu_system = t->cpu_system;
	s->throttling_periods = t->throttling_periods;
	s->throttled_periods = t->throttled_periods;
	s->throttled_time = t->throttled_time;
	s->memory_usage = t->memory_usage;
	s->memory_max = t->memory_max;
	/* No limit is what the machine has. */
	s->memory_limit = t->memory_limit == 0 || t->memory_limit > host ? host : t->memory_limit;
	s->memory_inactive_file = t->memory_inactive_file;
	s->memory_cache = t->memory_cache;
	s->memory_rss = t->memory_rss;
	s->pids = t->pids;
	s->pids_limit = t->pids_limit;
	s->io_read = t->io_read;
	s->io_write = t->io_write;
	memcpy(s->memory_detail, t->memory_detail, sizeof(s->memory_detail));
	s->n_memory_detail = t->n_memory_detail;
}

int engine_stats(struct engine *e, const char *ns, const char *id, struct container_stats *ret,
		 struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);
	struct task_stats stats;
	struct network_counters n;

	if (!c)
		return -1;
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	if (!t || task_stats(t, &stats, err) < 0)
		return -1;
	*ret = (struct container_stats){
		.read_at = time_realtime(),
		.system_cpu = host_cpu_time(),
		.online_cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN),
	};
	from_task(&stats, ret);
	pthread_mutex_lock(&e->lock);
	int pid = c->s.pid;
	pthread_mutex_unlock(&e->lock);
	const char *mode = c->config.network_mode;
	if (str_equal(mode, "host") || network_counters(pid, &n, NULL) < 0)
		return 0;
	ret->has_network = true;
	ret->net_rx_bytes = n.rx_bytes;
	ret->net_rx_packets = n.rx_packets;
	ret->net_rx_errors = n.rx_errors;
	ret->net_rx_dropped = n.rx_dropped;
	ret->net_tx_bytes = n.tx_bytes;
	ret->net_tx_packets = n.tx_packets;
	ret->net_tx_errors = n.tx_errors;
	ret->net_tx_dropped = n.tx_dropped;
	return 0;
}
