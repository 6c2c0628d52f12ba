/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/usage.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CGROUP_ROOT "/sys/fs/cgroup"
#define FILE_MAX_BYTES ((size_t)64 << 10)
#define USEC 1000 /* ns */

static const char *const controller_names[USAGE_CONTROLLER_MAX] = {
	[USAGE_CPU] = "cpu",   [USAGE_CPUACCT] = "cpuacct", [USAGE_MEMORY] = "memory",
	[USAGE_PIDS] = "pids", [USAGE_BLKIO] = "blkio",	    [USAGE_HUGETLB] = "hugetlb",
	[USAGE_UNIFIED] = "",
};

/* --- where --- */

void cgroup_dirs_done(struct cgroup_dirs *d)
{
	for (size_t i = 0; i < USAGE_CONTROLLER_MAX; i++)
		free(d->dir[i]);
	*d = (struct cgroup_dirs){ 0 };
}

/* Without controllers of version 1 everything is in the unified hierarchy. */
static bool host_is_v2(void)
{
	return access(CGROUP_ROOT "/cgroup.controllers", F_OK) == 0;
}

/* A line "5:cpu,cpuacct:/path". */
static void take_line(char *line, struct cgroup_dirs *ret)
{
	char *names = strchr(line, ':');
	char *path = names ? strchr(names + 1, ':') : NULL;

	if (!path)
		return;
	*path++ = '\0';
	names++;
	if (*names == '\0' && ret->v2)
		ret->dir[USAGE_UNIFIED] = path_join(CGROUP_ROOT, path, NULL);
	if (ret->v2)
		return;
	for (char *name = names; name; name = strchr(name, ',')) {
		name += *name == ',';
		size_t len = strcspn(name, ",");

		for (size_t i = 0; i < USAGE_UNIFIED; i++) {
			const char *known = controller_names[i];

			if (strlen(known) == len && strncmp(known, name, len) == 0 && !ret->dir[i])
				ret->dir[i] = path_join(CGROUP_ROOT, known, path, NULL);
		}
	}
}

int cgroup_dirs_of_pid(int pid, struct cgroup_dirs *ret, struct error *err)
{
	autobuf struct buf b = BUF_INIT(FILE_MAX_BYTES);
	char path[64];

	*ret = (struct cgroup_dirs){ .v2 = host_is_v2() };
	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (pid <= 0 || fs_read(AT_FDCWD, path, &b) < 0)
		return error_set(err, ERROR_NOT_FOUND, "process %d is gone", pid);
	for (char *line = b.data, *end; *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = '\0';
		take_line(line, ret);
	}
	return 0;
}

/* "a-b-c.slice" lies in a.slice/a-b.slice. */
static char *slice_path(const char *slice)
{
	autobuf struct buf b = BUF_INIT(8192);
	size_t n = strlen(slice) - strlen(".slice");

	for (size_t i = 1; i <= n; i++) {
		if (i == n || slice[i] == '-')
			buf_printf(&b, "/%.*s.slice", (int)i, slice);
	}
	return xstrdup(b.data);
}

void cgroup_dirs_of_path(const char *path, struct cgroup_dirs *ret)
{
	const char *base = path_base(path);
	bool slice = str_has_suffix(path, ".slice") && base == path;
	autofree char *full = slice ? slice_path(path) : xstrdup(path);

	*ret = (struct cgroup_dirs){ .v2 = host_is_v2() };
	if (ret->v2)
		ret->dir[USAGE_UNIFIED] = path_join(CGROUP_ROOT, full, NULL);
	for (size_t i = 0; i < USAGE_UNIFIED && !ret->v2; i++) {
		char *dir = path_join(CGROUP_ROOT, controller_names[i], full, NULL);

		if (access(dir, F_OK) == 0)
			ret->dir[i] = dir;
		else
			free(dir);
	}
}

const char *cgroup_dirs_path(const struct cgroup_dirs *d)
{
	enum usage_controller which = d->v2 ? USAGE_UNIFIED : USAGE_MEMORY;

	if (!d->dir[which] && !d->v2)
		which = USAGE_PIDS;
	if (!d->dir[which])
		return "";
	return d->dir[which] + strlen(CGROUP_ROOT) +
	       (d->v2 ? 0 : 1 + strlen(controller_names[which]));
}

/* --- reading --- */

static int read_file(const struct cgroup_dirs *d, enum usage_controller which, const char *file,
		     struct buf *b)
{
	const char *dir = d->dir[d->v2 ? USAGE_UNIFIED : which];
	char path[PATH_MAX];

	buf_clear(b);
	if (!dir || snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
		return -ENOENT;
	return fs_read(AT_FDCWD, path, b);
}

/* A file with one number; "max" and what cannot be read are `otherwise`. */
static uint64_t number(const struct cgroup_dirs *d, enum usage_controller which, const char *file,
		       uint64_t otherwise)
{
	autobuf struct buf b = BUF_INIT(256);
	uint64_t v;

	if (read_file(d, which, file, &b) < 0)
		return otherwise;
	b.data[strcspn(b.data, "\n")] = '\0';
	return parse_uint64(b.data, &v) == 0 ? v : otherwise;
}

/* A line "key value" of such a file. */
struct line {
	const char *key;
	uint64_t *value;
};

static uint64_t digits(const char *s)
{
	uint64_t v = 0;

	for (; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	return v;
}

static void take_lines(const char *text, const struct line *lines, size_t n)
{
	for (const char *s = text; *s; s += strcspn(s, "\n"), s += *s == '\n') {
		size_t key = strcspn(s, " \n");

		for (size_t i = 0; s[key] == ' ' && i < n; i++) {
			if (strlen(lines[i].key) == key && strncmp(lines[i].key, s, key) == 0)
				*lines[i].value = digits(s + key + 1);
		}
	}
}

#define READ_LINES(d, which, file, ...)                                     \
	do {                                                                \
		const struct line lines_[] = { __VA_ARGS__ };               \
		autobuf struct buf text_ = BUF_INIT(FILE_MAX_BYTES);        \
		if (read_file(d, which, file, &text_) == 0)                 \
			take_lines(text_.data, lines_, ARRAY_SIZE(lines_)); \
	} while (0)

static void pressure_line(const char *s, struct pressure_line *ret)
{
	unsigned long long total = 0;

	if (sscanf(s, "%*s avg10=%lf avg60=%lf avg300=%lf total=%llu", &ret->avg10, &ret->avg60,
		   &ret->avg300, &total) == 4)
		ret->total = total * USEC;
}

void usage_parse_pressure(const char *text, struct pressure *ret)
{
	*ret = (struct pressure){ 0 };
	for (const char *s = text; *s; s += strcspn(s, "\n"), s += *s == '\n') {
		ret->known = true;
		if (strncmp(s, "some ", 5) == 0)
			pressure_line(s, &ret->some);
		else if (strncmp(s, "full ", 5) == 0)
			pressure_line(s, &ret->full);
	}
}

static void read_pressure(const struct cgroup_dirs *d, const char *file, struct pressure *ret)
{
	autobuf struct buf b = BUF_INIT(4096);

	if (d->v2 && read_file(d, USAGE_UNIFIED, file, &b) == 0)
		usage_parse_pressure(b.data, ret);
}

static struct usage_device *device_of(struct usage *u, unsigned major, unsigned minor)
{
	for (size_t i = 0; i < u->n_devices; i++) {
		if (u->devices[i].major == major && u->devices[i].minor == minor)
			return &u->devices[i];
	}
	if (u->n_devices == USAGE_DEVICES_MAX)
		return NULL;
	u->devices[u->n_devices] = (struct usage_device){ .major = major, .minor = minor };
	return &u->devices[u->n_devices++];
}

/* "8:0 Read 4096" */
static void read_blkio(const struct cgroup_dirs *d, const char *file, bool bytes, struct usage *u)
{
	autobuf struct buf b = BUF_INIT(FILE_MAX_BYTES);

	if (read_file(d, USAGE_BLKIO, file, &b) < 0)
		return;
	for (const char *s = b.data; *s; s += strcspn(s, "\n"), s += *s == '\n') {
		unsigned major, minor;
		unsigned long long value;
		char op[16];
		struct usage_device *dev;

		if (sscanf(s, "%u:%u %15s %llu", &major, &minor, op, &value) != 4 ||
		    !(dev = device_of(u, major, minor)))
			continue;
		if (str_equal(op, "Read"))
			*(bytes ? &dev->read_bytes : &dev->reads) = value;
		else if (str_equal(op, "Write"))
			*(bytes ? &dev->write_bytes : &dev->writes) = value;
	}
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..." */
static void read_io(const struct cgroup_dirs *d, struct usage *u)
{
	autobuf struct buf b = BUF_INIT(FILE_MAX_BYTES);

	if (read_file(d, USAGE_UNIFIED, "io.stat", &b) < 0)
		return;
	for (const char *s = b.data; *s; s += strcspn(s, "\n"), s += *s == '\n') {
		unsigned long long rb, wb, r, w;
		unsigned major, minor;
		struct usage_device *dev;

		if (sscanf(s, "%u:%u rbytes=%llu wbytes=%llu rios=%llu wios=%llu", &major, &minor,
			   &rb, &wb, &r, &w) != 6 ||
		    !(dev = device_of(u, major, minor)))
			continue;
		dev->read_bytes = rb;
		dev->write_bytes = wb;
		dev->reads = r;
		dev->writes = w;
	}
}

/* The kernel's "no limit" of version 1 is the last page. */
static uint64_t limit(uint64_t v)
{
	return v >= (uint64_t)INT64_MAX - 65536 ? USAGE_NO_LIMIT : v;
}

static void read_v1(const struct cgroup_dirs *d, struct usage *u)
{
	uint64_t memsw = 0;

	u->cpu = number(d, USAGE_CPUACCT, "cpuacct.usage", 0);
	u->cpu_user = number(d, USAGE_CPUACCT, "cpuacct.usage_user", 0);
	u->cpu_system = number(d, USAGE_CPUACCT, "cpuacct.usage_sys", 0);
	READ_LINES(d, USAGE_CPU, "cpu.stat", { "nr_periods", &u->periods },
		   { "nr_throttled", &u->throttled_periods },
		   { "throttled_time", &u->throttled_time });
	u->has_memory = d->dir[USAGE_MEMORY];
	u->memory = number(d, USAGE_MEMORY, "memory.usage_in_bytes", 0);
	u->memory_limit = limit(number(d, USAGE_MEMORY, "memory.limit_in_bytes", USAGE_NO_LIMIT));
	u->memory_max = number(d, USAGE_MEMORY, "memory.max_usage_in_bytes", 0);
	u->memory_failures = number(d, USAGE_MEMORY, "memory.failcnt", 0);
	u->kernel = number(d, USAGE_MEMORY, "memory.kmem.usage_in_bytes", 0);
	READ_LINES(d, USAGE_MEMORY, "memory.stat", { "total_inactive_file", &u->inactive_file },
		   { "total_rss", &u->anon }, { "total_cache", &u->cache },
		   { "total_mapped_file", &u->mapped_file }, { "total_swap", &u->swap },
		   { "total_pgfault", &u->faults }, { "total_pgmajfault", &u->major_faults });
	memsw = limit(number(d, USAGE_MEMORY, "memory.memsw.limit_in_bytes", USAGE_NO_LIMIT));
	u->swap_limit = memsw == USAGE_NO_LIMIT || u->memory_limit == USAGE_NO_LIMIT
				? USAGE_NO_LIMIT
				: memsw - MIN(memsw, u->memory_limit);
	READ_LINES(d, USAGE_MEMORY, "memory.oom_control", { "oom_kill", &u->oom_kills });
	read_blkio(d, "blkio.throttle.io_service_bytes_recursive", true, u);
	read_blkio(d, "blkio.throttle.io_serviced_recursive", false, u);
}

static void read_v2(const struct cgroup_dirs *d, struct usage *u)
{
	READ_LINES(d, USAGE_UNIFIED, "cpu.stat", { "usage_usec", &u->cpu },
		   { "user_usec", &u->cpu_user }, { "system_usec", &u->cpu_system },
		   { "nr_periods", &u->periods }, { "nr_throttled", &u->throttled_periods },
		   { "throttled_usec", &u->throttled_time });
	u->cpu *= USEC;
	u->cpu_user *= USEC;
	u->cpu_system *= USEC;
	u->throttled_time *= USEC;
	u->memory = number(d, USAGE_UNIFIED, "memory.current", UINT64_MAX);
	u->has_memory = u->memory != UINT64_MAX;
	u->memory = u->has_memory ? u->memory : 0;
	u->memory_limit = number(d, USAGE_UNIFIED, "memory.max", USAGE_NO_LIMIT);
	u->memory_max = number(d, USAGE_UNIFIED, "memory.peak", 0);
	u->swap = number(d, USAGE_UNIFIED, "memory.swap.current", 0);
	u->swap_limit = number(d, USAGE_UNIFIED, "memory.swap.max", USAGE_NO_LIMIT);
	READ_LINES(d, USAGE_UNIFIED, "memory.stat", { "inactive_file", &u->inactive_file },
		   { "anon", &u->anon }, { "file", &u->cache }, { "file_mapped", &u->mapped_file },
		   { "kernel", &u->kernel }, { "pgfault", &u->faults },
		   { "pgmajfault", &u->major_faults });
	READ_LINES(d, USAGE_UNIFIED, "memory.events", { "max", &u->memory_failures },
		   { "oom_kill", &u->oom_kills });
	read_io(d, u);
	read_pressure(d, "cpu.pressure", &u->cpu_pressure);
	read_pressure(d, "memory.pressure", &u->memory_pressure);
	read_pressure(d, "io.pressure", &u->io_pressure);
}

int usage_read(const struct cgroup_dirs *d, struct usage *ret, struct error *err)
{
	const char *probe = d->v2		   ? d->dir[USAGE_UNIFIED]
			    : d->dir[USAGE_MEMORY] ? d->dir[USAGE_MEMORY]
						   : d->dir[USAGE_CPUACCT];

	*ret = (struct usage){ .v2 = d->v2, .at = time_realtime() };
	if (!probe || access(probe, F_OK) < 0)
		return error_set(err, ERROR_NOT_FOUND, "cgroup '%s' is gone", probe ? probe : "");
	if (d->v2)
		read_v2(d, ret);
	else
		read_v1(d, ret);
	ret->pids = number(d, USAGE_PIDS, "pids.current", 0);
	ret->pids_limit = number(d, USAGE_PIDS, "pids.max", USAGE_NO_LIMIT);
	return 0;
}

uint64_t usage_working_set(const struct usage *u)
{
	return u->memory - MIN(u->memory, u->inactive_file);
}
