/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics. The messages' own descriptors say which keys of memory.stat and its like are wanted: a
 * field takes the line whose key is its name, underscores aside (pg_pg_in is pgpgin).
 */

#include "shim/cgroup-impl.h"

#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "io.containerd.cgroups.v1.pb-c.h"
#include "io.containerd.cgroups.v2.pb-c.h"
#include "rpc/protobuf.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX ((size_t)64 << 10)
#define IO_ENTRIES_MAX 256

static bool same_key(const char *key, size_t len, const char *name)
{
	const char *end = key + len;

	for (;;) {
		while (key < end && *key == '_')
			key++;
		while (*name == '_')
			name++;
		if (key == end || !*name)
			return key == end && !*name;
		if (*key++ != *name++)
			return false;
	}
}

/* Fills the uint64 members of m from "key value" lines. */
static void fill(ProtobufCMessage *m, const char *text)
{
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		const char *space = memchr(line, ' ', len);
		size_t key_len = space ? (size_t)(space - line) : 0;

		for (unsigned i = 0; space && i < m->descriptor->n_fields; i++) {
			const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];

			if (f->type != PROTOBUF_C_TYPE_UINT64 ||
			    f->label == PROTOBUF_C_LABEL_REPEATED ||
			    !same_key(line, key_len, f->name))
				continue;
			autofree char *value = xstrndup(space + 1, len - key_len - 1);
			uint64_t v;

			if (parse_uint64(value, &v) == 0)
				*(uint64_t *)((char *)m + f->offset) = v;
		}
		line += len + (line[len] == '\n');
	}
}

static void fill_from(const struct cgroup *c, enum cgroup_controller which, const char *file,
		      ProtobufCMessage *m)
{
	autobuf struct buf text = BUF_INIT(FILE_MAX);

	if (cgroup_read(c, which, file, &text) == 0)
		fill(m, text.data);
}

/* A file with one number; "max" and what cannot be read are `otherwise`. */
static uint64_t number(const struct cgroup *c, enum cgroup_controller which, const char *file,
		       uint64_t otherwise)
{
	autobuf struct buf text = BUF_INIT(4096);
	uint64_t v;

	if (cgroup_read(c, which, file, &text) < 0)
		return otherwise;
	text.data[strcspn(text.data, " \n")] = '\0';
	return parse_uint64(text.data, &v) == 0 ? v : otherwise;
}

#define NEW(a, type, fn)                         \
	({                                       \
		type *m_ = arena_new((a), type); \
		fn(m_);                          \
		m_;                              \
	})

/* v1 */

static Io__Containerd__Cgroups__V1__CPUStat *v1_cpu(const struct cgroup *c, struct arena *a)
{
	autobuf struct buf text = BUF_INIT(FILE_MAX);
	Io__Containerd__Cgroups__V1__CPUStat *cpu = NEW(a, Io__Containerd__Cgroups__V1__CPUStat,
							io__containerd__cgroups__v1__cpustat__init);
	Io__Containerd__Cgroups__V1__CPUUsage *usage =
		NEW(a, Io__Containerd__Cgroups__V1__CPUUsage,
		    io__containerd__cgroups__v1__cpuusage__init);
	Io__Containerd__Cgroups__V1__Throttle *t = NEW(a, Io__Containerd__Cgroups__V1__Throttle,
						       io__containerd__cgroups__v1__throttle__init);
	uint64_t tick = (uint64_t)NSEC_PER_SEC / (uint64_t)MAX(sysconf(_SC_CLK_TCK), 1L);

	cpu->usage = usage;
	cpu->throttling = t;
	usage->total = number(c, CGROUP_CPUACCT, "cpuacct.usage", 0);
	if (cgroup_read(c, CGROUP_CPUACCT, "cpuacct.stat", &text) == 0) {
		usage->user = cgroup_flat_value(text.data, "user") * tick;
		usage->kernel = cgroup_flat_value(text.data, "system") * tick;
	}
	if (cgroup_read(c, CGROUP_CPU, "cpu.stat", &text) == 0) {
		t->periods = cgroup_flat_value(text.data, "nr_periods");
		t->throttled_periods = cgroup_flat_value(text.data, "nr_throttled");
		t->throttled_time = cgroup_flat_value(text.data, "throttled_time");
	}
	return cpu;
}

static Io__Containerd__Cgroups__V1__MemoryEntry *v1_entry(const struct cgroup *c, struct arena *a,
							  const char *prefix)
{
	static const struct {
		const char *suffix;
		size_t offset;
	} files[] = {
		{ "limit_in_bytes", offsetof(Io__Containerd__Cgroups__V1__MemoryEntry, limit) },
		{ "usage_in_bytes", offsetof(Io__Containerd__Cgroups__V1__MemoryEntry, usage) },
		{ "max_usage_in_bytes", offsetof(Io__Containerd__Cgroups__V1__MemoryEntry, max) },
		{ "failcnt", offsetof(Io__Containerd__Cgroups__V1__MemoryEntry, failcnt) },
	};
	Io__Containerd__Cgroups__V1__MemoryEntry *e =
		NEW(a, Io__Containerd__Cgroups__V1__MemoryEntry,
		    io__containerd__cgroups__v1__memory_entry__init);

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		*(uint64_t *)((char *)e + files[i].offset) = number(
			c, CGROUP_MEMORY, arena_printf(a, "%s.%s", prefix, files[i].suffix), 0);
	return e;
}

static Io__Containerd__Cgroups__V1__MemoryStat *v1_memory(const struct cgroup *c, struct arena *a)
{
	Io__Containerd__Cgroups__V1__MemoryStat *m =
		NEW(a, Io__Containerd__Cgroups__V1__MemoryStat,
		    io__containerd__cgroups__v1__memory_stat__init);

	fill_from(c, CGROUP_MEMORY, "memory.stat", &m->base);
	m->usage = v1_entry(c, a, "memory");
	m->swap = v1_entry(c, a, "memory.memsw");
	m->kernel = v1_entry(c, a, "memory.kmem");
	m->kernel_tcp = v1_entry(c, a, "memory.kmem.tcp");
	return m;
}

/* "8:0 Read 4096" lines. */
static size_t v1_blkio(const struct cgroup *c, struct arena *a, const char *file,
		       Io__Containerd__Cgroups__V1__BlkIOEntry ***ret)
{
	autobuf struct buf text = BUF_INIT(FILE_MAX);
	size_t n = 0;

	if (cgroup_read(c, CGROUP_BLKIO, file, &text) < 0)
		return 0;
	*ret = arena_alloc(a, IO_ENTRIES_MAX * sizeof(**ret));
	for (const char *line = text.data; *line && n < IO_ENTRIES_MAX;) {
		size_t len = strcspn(line, "\n");
		autofree char *copy = xstrndup(line, len);
		unsigned major, minor;
		unsigned long long value;
		char op[16];

		line += len + (line[len] == '\n');
		if (sscanf(copy, "%u:%u %15s %llu", &major, &minor, op, &value) != 4)
			continue;
		Io__Containerd__Cgroups__V1__BlkIOEntry *e =
			NEW(a, Io__Containerd__Cgroups__V1__BlkIOEntry,
			    io__containerd__cgroups__v1__blk_ioentry__init);
		e->op = arena_strdup(a, op);
		e->major = major;
		e->minor = minor;
		e->value = value;
		(*ret)[n++] = e;
	}
	return n;
}

static Io__Containerd__Cgroups__V1__BlkIOStat *v1_io(const struct cgroup *c, struct arena *a)
{
	Io__Containerd__Cgroups__V1__BlkIOStat *io =
		NEW(a, Io__Containerd__Cgroups__V1__BlkIOStat,
		    io__containerd__cgroups__v1__blk_iostat__init);

	/* With the bfq or cfq scheduler the recursive files count; else only what throttling saw.
	 */
	io->n_io_service_bytes_recursive =
		v1_blkio(c, a, "blkio.io_service_bytes_recursive", &io->io_service_bytes_recursive);
	io->n_io_serviced_recursive =
		v1_blkio(c, a, "blkio.io_serviced_recursive", &io->io_serviced_recursive);
	if (io->n_io_service_bytes_recursive > 0)
		return io;
	io->n_io_service_bytes_recursive =
		v1_blkio(c, a, "blkio.throttle.io_service_bytes", &io->io_service_bytes_recursive);
	io->n_io_serviced_recursive =
		v1_blkio(c, a, "blkio.throttle.io_serviced", &io->io_serviced_recursive);
	return io;
}

static ProtobufCMessage *v1_metrics(const struct cgroup *c, struct arena *a)
{
	Io__Containerd__Cgroups__V1__Metrics *m = NEW(a, Io__Containerd__Cgroups__V1__Metrics,
						      io__containerd__cgroups__v1__metrics__init);

	m->pids = NEW(a, Io__Containerd__Cgroups__V1__PidsStat,
		      io__containerd__cgroups__v1__pids_stat__init);
	m->pids->current = number(c, CGROUP_PIDS, "pids.current", 0);
	m->pids->limit = number(c, CGROUP_PIDS, "pids.max", 0);
	m->cpu = v1_cpu(c, a);
	m->memory = v1_memory(c, a);
	m->blkio = v1_io(c, a);
	m->memory_oom_control = NEW(a, Io__Containerd__Cgroups__V1__MemoryOomControl,
				    io__containerd__cgroups__v1__memory_oom_control__init);
	fill_from(c, CGROUP_MEMORY, "memory.oom_control", &m->memory_oom_control->base);
	return &m->base;
}

/* v2 */

static Io__Containerd__Cgroups__V2__IOStat *v2_io(const struct cgroup *c, struct arena *a)
{
	autobuf struct buf text = BUF_INIT(FILE_MAX);
	Io__Containerd__Cgroups__V2__IOStat *io = NEW(a, Io__Containerd__Cgroups__V2__IOStat,
						      io__containerd__cgroups__v2__iostat__init);

	if (cgroup_read(c, CGROUP_UNIFIED, "io.stat", &text) < 0)
		return io;
	io->usage = arena_alloc(a, IO_ENTRIES_MAX * sizeof(*io->usage));
	for (char *line = text.data; *line && io->n_usage < IO_ENTRIES_MAX;) {
		size_t len = strcspn(line, "\n");
		autofree char *copy = xstrndup(line, len);
		unsigned major, minor;
		int end = 0;

		line += len + (line[len] == '\n');
		if (sscanf(copy, "%u:%u %n", &major, &minor, &end) != 2 || end == 0)
			continue;
		/* "rbytes=1 wbytes=2" to the lines that fill() reads. */
		for (char *p = copy + end; *p; p++)
			*p = (char)(*p == ' ' ? '\n' : *p == '=' ? ' ' : *p);
		Io__Containerd__Cgroups__V2__IOEntry *e =
			NEW(a, Io__Containerd__Cgroups__V2__IOEntry,
			    io__containerd__cgroups__v2__ioentry__init);
		fill(&e->base, copy + end);
		e->major = major;
		e->minor = minor;
		io->usage[io->n_usage++] = e;
	}
	return io;
}

static Io__Containerd__Cgroups__V2__MemoryStat *v2_memory(const struct cgroup *c, struct arena *a)
{
	Io__Containerd__Cgroups__V2__MemoryStat *m =
		NEW(a, Io__Containerd__Cgroups__V2__MemoryStat,
		    io__containerd__cgroups__v2__memory_stat__init);

	fill_from(c, CGROUP_UNIFIED, "memory.stat", &m->base);
	m->usage = number(c, CGROUP_UNIFIED, "memory.current", 0);
	m->usage_limit = number(c, CGROUP_UNIFIED, "memory.max", UINT64_MAX);
	m->swap_usage = number(c, CGROUP_UNIFIED, "memory.swap.current", 0);
	m->swap_limit = number(c, CGROUP_UNIFIED, "memory.swap.max", UINT64_MAX);
	m->max_usage = number(c, CGROUP_UNIFIED, "memory.peak", 0);
	m->swap_max_usage = number(c, CGROUP_UNIFIED, "memory.swap.peak", 0);
	return m;
}

static ProtobufCMessage *v2_metrics(const struct cgroup *c, struct arena *a)
{
	Io__Containerd__Cgroups__V2__Metrics *m = NEW(a, Io__Containerd__Cgroups__V2__Metrics,
						      io__containerd__cgroups__v2__metrics__init);

	m->pids = NEW(a, Io__Containerd__Cgroups__V2__PidsStat,
		      io__containerd__cgroups__v2__pids_stat__init);
	m->pids->current = number(c, CGROUP_UNIFIED, "pids.current", 0);
	m->pids->limit = number(c, CGROUP_UNIFIED, "pids.max", 0);
	m->cpu = NEW(a, Io__Containerd__Cgroups__V2__CPUStat,
		     io__containerd__cgroups__v2__cpustat__init);
	fill_from(c, CGROUP_UNIFIED, "cpu.stat", &m->cpu->base);
	m->memory = v2_memory(c, a);
	m->memory_events = NEW(a, Io__Containerd__Cgroups__V2__MemoryEvents,
			       io__containerd__cgroups__v2__memory_events__init);
	fill_from(c, CGROUP_UNIFIED, "memory.events", &m->memory_events->base);
	m->io = v2_io(c, a);
	return &m->base;
}

void cgroup_stats(const struct cgroup *c, struct arena *a, Google__Protobuf__Any *ret)
{
	ProtobufCMessage *m = c->v2 ? v2_metrics(c, a) : v1_metrics(c, a);

	ret->type_url = arena_strdup(a, m->descriptor->name);
	ret->value = protobuf_pack(a, m);
}
