/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted rather than read: huge pages by size, processes, interfaces. */
#include "engine/usage.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define PIDS_BYTES_MAX ((size_t)1 << 20)
#define DESCRIPTORS_COUNTED 65536

/* --- huge pages --- */

static uint64_t read_number(const char *dir, const char *file)
{
	autofree char *path = path_join(dir, file, NULL);
	autobuf struct buf b = BUF_INIT(256);
	uint64_t v;

	if (fs_read(AT_FDCWD, path, &b) < 0)
		return 0;
	b.data[strcspn(b.data, "\n")] = '\0';
	return parse_uint64(b.data, &v) == 0 ? v : 0;
}

/* "hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.current": the size, if it is such a file. */
static bool page_size_of(const char *file, const char *suffix, char ret[16])
{
	size_t n = strlen("hugetlb."), len;

	if (!str_has_prefix(file, "hugetlb.") || !str_has_suffix(file, suffix))
		return false;
	len = strcspn(file + n, ".");
	if (len == 0 || len >= 16 || !str_equal(file + n + len, suffix))
		return false;
	memcpy(ret, file + n, len);
	ret[len] = '\0';
	return true;
}

size_t usage_hugetlb(const struct cgroup_dirs *d, struct hugetlb_usage *ret, size_t n)
{
	const char *dir = d->dir[d->v2 ? USAGE_UNIFIED : USAGE_HUGETLB];
	const char *suffix = d->v2 ? ".current" : ".usage_in_bytes";
	DIR *handle = dir ? opendir(dir) : NULL;
	size_t found = 0;

	while (handle && found < n) {
		const struct dirent *e = readdir(handle);
		struct hugetlb_usage *h = &ret[found];
		char max[64];

		if (!e)
			break;
		if (!page_size_of(e->d_name, suffix, h->page_size))
			continue;
		h->usage = read_number(dir, e->d_name);
		snprintf(max, sizeof(max), "hugetlb.%s.max_usage_in_bytes", h->page_size);
		h->max = d->v2 ? 0 : read_number(dir, max);
		found++;
	}
	if (handle)
		closedir(handle);
	return found;
}

/* --- processes --- */

static void count_descriptors(const char *pid, struct process_counts *ret)
{
	autofree char *path = path_join("/proc", pid, "fd", NULL);
	DIR *handle = opendir(path);
	const struct dirent *e;
	char target[16];

	while (handle && ret->descriptors < DESCRIPTORS_COUNTED && (e = readdir(handle))) {
		if (e->d_name[0] == '.')
			continue;
		ret->descriptors++;
		ssize_t n = readlinkat(dirfd(handle), e->d_name, target, sizeof(target));
		ret->sockets += n > 7 && strncmp(target, "socket:", 7) == 0;
	}
	if (handle)
		closedir(handle);
}

static void count_threads(const char *pid, struct process_counts *ret)
{
	autofree char *path = path_join("/proc", pid, "status", NULL);
	autobuf struct buf b = BUF_INIT(65536);

	if (fs_read(AT_FDCWD, path, &b) < 0)
		return;
	const char *line = strstr(b.data, "\nThreads:");
	unsigned long n = 0;
	if (line && sscanf(line, "\nThreads: %lu", &n) == 1)
		ret->threads += n;
}

void usage_processes(const struct cgroup_dirs *d, struct process_counts *ret)
{
	const char *dir = d->dir[d->v2 ? USAGE_UNIFIED : USAGE_PIDS];
	autofree char *path = dir ? path_join(dir, "cgroup.procs", NULL) : NULL;
	autobuf struct buf b = BUF_INIT(PIDS_BYTES_MAX);

	*ret = (struct process_counts){ 0 };
	if (!path || fs_read(AT_FDCWD, path, &b) < 0)
		return;
	for (char *pid = b.data, *end; *pid; pid = end) {
		end = pid + strcspn(pid, "\n");
		if (*end)
			*end++ = '\0';
		ret->processes++;
		count_threads(pid, ret);
		count_descriptors(pid, ret);
	}
}

/* --- interfaces --- */

size_t usage_parse_interfaces(const char *text, struct interface_usage *ret, size_t n)
{
	size_t found = 0;

	for (const char *s = text; *s && found < n; s += strcspn(s, "\n"), s += *s == '\n') {
		unsigned long long v[16];
		const char *colon = strchr(s, ':');
		const char *name = s + strspn(s, " ");

		if (!colon || colon > s + strcspn(s, "\n") || colon - name > 15 ||
		    sscanf(colon + 1,
			   "%llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu "
			   "%llu %llu",
			   &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9],
			   &v[10], &v[11], &v[12], &v[13], &v[14], &v[15]) != 16)
			continue;
		if (colon - name == 2 && strncmp(name, "lo", 2) == 0)
			continue;
		struct interface_usage *i = &ret[found++];
		*i = (struct interface_usage){ .rx_bytes = v[0],
					       .rx_packets = v[1],
					       .rx_errors = v[2],
					       .rx_dropped = v[3],
					       .tx_bytes = v[8],
					       .tx_packets = v[9],
					       .tx_errors = v[10],
					       .tx_dropped = v[11] };
		memcpy(i->name, name, (size_t)(colon - name));
	}
	return found;
}

/* /proc/thread-self/net is the namespace of the one thread that asks. */
size_t usage_interfaces(int netns_fd, struct interface_usage *ret, size_t n)
{
	autoclose int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	autobuf struct buf b = BUF_INIT((size_t)1 << 20);

	if (own < 0 || setns(netns_fd, CLONE_NEWNET) < 0)
		return 0;
	int r = fs_read(AT_FDCWD, "/proc/thread-self/net/dev", &b);
	if (setns(own, CLONE_NEWNET) < 0)
		abort(); /* this thread would do the host's work elsewhere */
	return r < 0 ? 0 : usage_parse_interfaces(b.data, ret, n);
}
