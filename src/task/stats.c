/* SPDX-License-Identifier: Apache-2.0 */
/* Task.Stats: the metrics of cgroup v1 or v2, whichever the shim found, as one struct. */

#include "base/mem.h"
#include "rpc/protobuf.h"
#include "task/internal.h"

#include "containerd.task.v3.pb-c.h"
#include "io.containerd.cgroups.v1.pb-c.h"
#include "io.containerd.cgroups.v2.pb-c.h"

#include <string.h>
#include <strings.h>

#define USEC 1000 /* ns */

static void from_v1(const Io__Containerd__Cgroups__V1__Metrics *m, struct task_stats *s)
{
	if (m->cpu && m->cpu->usage) {
		s->cpu_total = m->cpu->usage->total;
		s->cpu_user = m->cpu->usage->user;
		s->cpu_system = m->cpu->usage->kernel;
	}
	if (m->cpu && m->cpu->throttling) {
		s->throttling_periods = m->cpu->throttling->periods;
		s->throttled_periods = m->cpu->throttling->throttled_periods;
		s->throttled_time = m->cpu->throttling->throttled_time;
	}
	if (m->memory) {
		s->memory_inactive_file = m->memory->total_inactive_file;
		s->memory_cache = m->memory->total_cache;
		s->memory_rss = m->memory->total_rss;
		if (m->memory->usage) {
			s->memory_usage = m->memory->usage->usage;
			s->memory_max = m->memory->usage->max;
			s->memory_limit = m->memory->usage->limit;
		}
	}
	if (m->pids) {
		s->pids = m->pids->current;
		s->pids_limit = m->pids->limit;
	}
	for (size_t i = 0; m->blkio && i < m->blkio->n_io_service_bytes_recursive; i++) {
		const Io__Containerd__Cgroups__V1__BlkIOEntry *e =
			m->blkio->io_service_bytes_recursive[i];

		if (strcasecmp(e->op, "read") == 0)
			s->io_read += e->value;
		else if (strcasecmp(e->op, "write") == 0)
			s->io_write += e->value;
	}
	if (m->memory_oom_control)
		s->oom_kills = m->memory_oom_control->oom_kill;
}

/* What is not of memory.stat has a name with one of these. */
static bool is_detail(const ProtobufCFieldDescriptor *f)
{
	return f->type == PROTOBUF_C_TYPE_UINT64 && !strstr(f->name, "usage") &&
	       !strstr(f->name, "limit");
}

static void memory_detail(const Io__Containerd__Cgroups__V2__MemoryStat *m, struct task_stats *s)
{
	const ProtobufCMessageDescriptor *d = m->base.descriptor;

	for (unsigned i = 0; i < d->n_fields && s->n_memory_detail < MEMORY_DETAILS_MAX; i++) {
		if (!is_detail(&d->fields[i]))
			continue;
		s->memory_detail[s->n_memory_detail++] = (struct memory_detail){
			.name = d->fields[i].name,
			.value = *(const uint64_t *)((const char *)m + d->fields[i].offset),
		};
	}
}

static void from_v2(const Io__Containerd__Cgroups__V2__Metrics *m, struct task_stats *s)
{
	if (m->cpu) {
		s->cpu_total = m->cpu->usage_usec * USEC;
		s->cpu_user = m->cpu->user_usec * USEC;
		s->cpu_system = m->cpu->system_usec * USEC;
		s->throttling_periods = m->cpu->nr_periods;
		s->throttled_periods = m->cpu->nr_throttled;
		s->throttled_time = m->cpu->throttled_usec * USEC;
	}
	if (m->memory) {
		s->memory_usage = m->memory->usage;
		s->memory_max = m->memory->max_usage;
		s->memory_limit = m->memory->usage_limit;
		s->memory_inactive_file = m->memory->inactive_file;
		s->memory_cache = m->memory->file;
		s->memory_rss = m->memory->anon;
		memory_detail(m->memory, s);
	}
	if (m->pids) {
		s->pids = m->pids->current;
		s->pids_limit = m->pids->limit;
	}
	for (size_t i = 0; m->io && i < m->io->n_usage; i++) {
		s->io_read += m->io->usage[i]->rbytes;
		s->io_write += m->io->usage[i]->wbytes;
	}
	if (m->memory_events)
		s->oom_kills = m->memory_events->oom_kill;
}

int task_metrics(struct task *t, struct arena *a, Google__Protobuf__Any **ret, struct error *err)
{
	Containerd__Task__V3__StatsRequest request = CONTAINERD__TASK__V3__STATS_REQUEST__INIT;
	Containerd__Task__V3__StatsResponse *response = NULL;

	request.id = t->id;
	if (task_call(t, "Stats", &request.base, SHIM_CALL_MS,
		      &containerd__task__v3__stats_response__descriptor, a, &response, err) < 0)
		return -1;
	if (!response->stats)
		return error_set(err, ERROR_UNAVAILABLE, "the shim of '%s' gave no stats", t->id);
	*ret = response->stats;
	return 0;
}

int task_stats(struct task *t, struct task_stats *ret, struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	Google__Protobuf__Any *any = NULL;
	ProtobufCMessage *m = NULL;

	if (task_metrics(t, &arena, &any, err) < 0)
		return -1;
	*ret = (struct task_stats){ 0 };
	if (str_has_suffix(any->type_url, "io.containerd.cgroups.v1.Metrics")) {
		if (protobuf_unpack(&arena, &io__containerd__cgroups__v1__metrics__descriptor,
				    any->value.data, any->value.len, &m, err) < 0)
			return -1;
		from_v1((const Io__Containerd__Cgroups__V1__Metrics *)m, ret);
		return 0;
	}
	if (!str_has_suffix(any->type_url, "io.containerd.cgroups.v2.Metrics"))
		return error_set(err, ERROR_UNIMPLEMENTED, "unknown kind of stats '%s'",
				 any->type_url);
	if (protobuf_unpack(&arena, &io__containerd__cgroups__v2__metrics__descriptor,
			    any->value.data, any->value.len, &m, err) < 0)
		return -1;
	from_v2((const Io__Containerd__Cgroups__V2__Metrics *)m, ret);
	return 0;
}
