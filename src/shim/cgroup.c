/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/cgroup-impl.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/strv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#define MOUNTINFO_MAX ((size_t)16 << 20)
#define PIDS_MAX ((size_t)1 << 20)
#define DEPTH_MAX 32

static const char *const controllers[CGROUP_CONTROLLER_MAX] = {
	[CGROUP_UNIFIED] = "",	      [CGROUP_MEMORY] = "memory", [CGROUP_CPU] = "cpu",
	[CGROUP_CPUACCT] = "cpuacct", [CGROUP_PIDS] = "pids",	  [CGROUP_BLKIO] = "blkio",
};

/* Is word one of the comma-separated words of list? */
static bool has_word(const char *list, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list, *end = list + len; p < end;) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		size_t part = (size_t)((comma ? comma : end) - p);

		if (part == n && memcmp(p, word, n) == 0)
			return true;
		p += part + 1;
	}
	return false;
}

/* "4:memory:/a/b" -> "/a/b"; for v2 "0::/a/b". */
static char *member_path(const char *membership, const char *controller)
{
	for (const char *line = membership; *line;) {
		size_t len = strcspn(line, "\n");
		const char *names = memchr(line, ':', len);
		const char *path =
			names ? memchr(names + 1, ':', len - (size_t)(names + 1 - line)) : NULL;

		if (path) {
			size_t n = (size_t)(path - names - 1);

			if (*controller ? has_word(names + 1, n, controller) : n == 0)
				return xstrndup(path + 1, len - (size_t)(path + 1 - line));
		}
		line += len + (line[len] == '\n');
	}
	return NULL;
}

/* From "ID PARENT DEV ROOT MOUNTPOINT OPTIONS... - TYPE SOURCE SUPEROPTIONS" */
static bool is_hierarchy(const struct strv *f, const char *controller)
{
	for (size_t i = 6; i + 3 < f->n; i++) {
		if (!str_equal(f->v[i], "-"))
			continue;
		if (!*controller)
			return str_equal(f->v[i + 1], "cgroup2");
		return str_equal(f->v[i + 1], "cgroup") &&
		       has_word(f->v[i + 3], strlen(f->v[i + 3]), controller);
	}
	return false;
}

char *cgroup_path(const char *membership, const char *mountinfo, const char *controller)
{
	autofree char *member = member_path(membership, controller);

	for (const char *line = mountinfo; member && *line;) {
		size_t len = strcspn(line, "\n");
		autofree char *text = xstrndup(line, len);
		autostrv struct strv f = STRV_INIT;

		strv_split(&f, text, " ");
		if (f.n > 6 && is_hierarchy(&f, controller)) {
			const char *root = f.v[3], *below = member;

			/* A mount of a part of the hierarchy shows only what is in that part. */
			if (!str_equal(root, "/") && str_has_prefix(member, root))
				below = member + strlen(root);
			return path_join(f.v[4], below + (*below == '/'), NULL);
		}
		line += len + (line[len] == '\n');
	}
	return NULL;
}

uint64_t cgroup_flat_value(const char *text, const char *key)
{
	size_t n = strlen(key);
	uint64_t v;

	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");

		if (len > n && memcmp(line, key, n) == 0 && line[n] == ' ') {
			autofree char *value = xstrndup(line + n + 1, len - n - 1);

			return parse_uint64(value, &v) == 0 ? v : 0;
		}
		line += len + (line[len] == '\n');
	}
	return 0;
}

int cgroup_open(pid_t pid, struct cgroup **ret, struct error *err)
{
	autobuf struct buf membership = BUF_INIT(64 << 10);
	autobuf struct buf mountinfo = BUF_INIT(MOUNTINFO_MAX);
	autofree char *path = xasprintf("/proc/%d/cgroup", pid);
	int r = fs_read(AT_FDCWD, path, &membership);

	if (r < 0)
		return error_errno(err, -r, "read '%s'", path);
	r = fs_read(AT_FDCWD, "/proc/self/mountinfo", &mountinfo);
	if (r < 0)
		return error_errno(err, -r, "read the mount table");

	struct cgroup *c = xnew(struct cgroup);
	for (int i = 0; i < CGROUP_CONTROLLER_MAX; i++)
		c->paths[i] = cgroup_path(membership.data, mountinfo.data, controllers[i]);
	/* On hybrid hosts v1 has the controllers. */
	c->v2 = c->paths[CGROUP_UNIFIED] && !c->paths[CGROUP_MEMORY] && !c->paths[CGROUP_PIDS] &&
		!c->paths[CGROUP_CPU];
	*ret = c;
	return 0;
}

void cgroup_free(struct cgroup *c)
{
	if (!c)
		return;
	for (int i = 0; i < CGROUP_CONTROLLER_MAX; i++)
		free(c->paths[i]);
	free(c);
}

int cgroup_read(const struct cgroup *c, enum cgroup_controller which, const char *file,
		struct buf *ret)
{
	const char *dir = c->paths[c->v2 ? CGROUP_UNIFIED : which];

	buf_clear(ret);
	if (!dir)
		return -ENOENT;
	autofree char *path = path_join(dir, file, NULL);
	return fs_read(AT_FDCWD, path, ret);
}

static void add_pids(int dirfd, pid_t **v, size_t *n)
{
	autobuf struct buf text = BUF_INIT(PIDS_MAX * 11);

	if (fs_read(dirfd, "cgroup.procs", &text) < 0)
		return;
	for (char *line = text.data; *line && *n < PIDS_MAX;) {
		size_t len = strcspn(line, "\n");
		bool more = line[len] == '\n';
		int64_t pid;

		line[len] = '\0';
		if (parse_int64(line, &pid) == 0) {
			GROW_ARRAY(*v, *n);
			(*v)[(*n)++] = (pid_t)pid;
		}
		line += len + more;
	}
}

/* Takes fd. */
static void walk(int fd, unsigned depth, pid_t **v, size_t *n)
{
	DIR *dir = fdopendir(fd);

	if (!dir) {
		close(fd);
		return;
	}
	add_pids(fd, v, n);
	for (struct dirent *e; depth < DEPTH_MAX && (e = readdir(dir));) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		int child = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (child >= 0)
			walk(child, depth + 1, v, n);
	}
	closedir(dir);
}

static const char *any_path(const struct cgroup *c)
{
	static const enum cgroup_controller order[] = { CGROUP_PIDS, CGROUP_MEMORY, CGROUP_CPU,
							CGROUP_UNIFIED };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		if (c->paths[order[i]])
			return c->paths[order[i]];
	return NULL;
}

int cgroup_pids(const struct cgroup *c, pid_t **ret, size_t *ret_n, struct error *err)
{
	const char *path = any_path(c);
	int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0)
		return error_errno(err, path ? errno : ENOENT, "open cgroup '%s'",
				   path ? path : "");
	*ret = NULL;
	*ret_n = 0;
	walk(fd, 0, ret, ret_n);
	return 0;
}

uint64_t cgroup_oom_kills(const struct cgroup *c)
{
	autobuf struct buf text = BUF_INIT(4096);

	/* On v2 not `oom`: a limit higher up counts that elsewhere. */
	if (cgroup_read(c, CGROUP_MEMORY, c->v2 ? "memory.events" : "memory.oom_control", &text) <
	    0)
		return 0;
	return cgroup_flat_value(text.data, "oom_kill");
}

static int watch_v1(const char *dir)
{
	autofree char *path = path_join(dir, "memory.oom_control", NULL);
	autofree char *control = path_join(dir, "cgroup.event_control", NULL);
	autoclose int source = open(path, O_RDONLY | O_CLOEXEC);
	autoclose int out = open(control, O_WRONLY | O_CLOEXEC);
	autoclose int efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	char line[32];

	if (source < 0 || out < 0 || efd < 0)
		return -1;
	int len = snprintf(line, sizeof(line), "%d %d", efd, source);
	return fs_write_all(out, line, (size_t)len) < 0 ? -1 : TAKE_FD(efd);
}

static int watch_v2(const char *dir)
{
	autofree char *path = path_join(dir, "memory.events", NULL);
	autoclose int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd < 0 || inotify_add_watch(fd, path, IN_MODIFY) < 0)
		return -1;
	return TAKE_FD(fd);
}

struct watch *cgroup_watch_oom(const struct cgroup *c, struct loop *l,
			       void (*fn)(int events, void *arg), void *arg)
{
	const char *dir = c->paths[c->v2 ? CGROUP_UNIFIED : CGROUP_MEMORY];
	int fd = !dir ? -1 : c->v2 ? watch_v2(dir) : watch_v1(dir);

	return fd < 0 ? NULL : watch_new(l, fd, fn, arg);
}
