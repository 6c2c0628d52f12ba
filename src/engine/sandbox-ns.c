/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The namespaces of a pod, pinned by bind mounts, so that neither daemon nor shim nor any process
 * has to hold them: a restart finds them as they were, and no death of a process loses them.
 *
 * <state>/pods is a mount of its own and shared, so that unmounting a pin unmounts the copies too
 * that other mount namespaces of the host have got; else they would keep the namespace alive. Our
 * own shims, of which there are many, give up their copies at once (shim/mountns.h) lest each
 * unmount visits them all.
 *
 * A thread that enters a namespace is lost for anything else, so each piece of work has one of its
 * own. A user namespace can be made by a process with one thread only: by a moment of kistl-pause,
 * which makes the others in it as well, so that they belong to it.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/process.h"
#include "engine/sandbox-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#ifndef NSFS_MAGIC
#define NSFS_MAGIC 0x6e736673
#endif
#define HELPER_MS 10000

static const struct {
	const char *file; /* of the pin, and of /proc/.../ns */
	int flag;
	char letter; /* for kistl-pause */
} kinds[SANDBOX_NS_MAX] = {
	[SANDBOX_NET] = { "net", CLONE_NEWNET, 'n' },
	[SANDBOX_IPC] = { "ipc", CLONE_NEWIPC, 'i' },
	[SANDBOX_UTS] = { "uts", CLONE_NEWUTS, 'u' },
	[SANDBOX_USER] = { "user", CLONE_NEWUSER, 0 },
};

static bool has_own(const struct sandbox *s, enum sandbox_ns which)
{
	switch (which) {
	case SANDBOX_NET:
	case SANDBOX_UTS:
		return s->config.network == POD_NS_POD;
	case SANDBOX_IPC:
		return s->config.ipc == POD_NS_POD;
	default:
		return s->config.userns;
	}
}

/* --- the mount that holds the pins --- */

static bool is_mount(const char *path)
{
	struct statx stx;

	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0, &stx) == 0 &&
	       stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

static int make_parent(struct engine *e, struct error *err)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	autofree char *path = path_join(e->config.state, "pods", NULL);
	int r = fs_mkdir_p(path, 0711);

	if (r < 0)
		return error_errno(err, -r, "make '%s'", path);
	pthread_mutex_lock(&once);
	if (!is_mount(path) && (mount(path, path, NULL, MS_BIND, NULL) < 0 ||
				mount(NULL, path, NULL, MS_PRIVATE, NULL) < 0 ||
				mount(NULL, path, NULL, MS_SHARED, NULL) < 0))
		r = errno;
	pthread_mutex_unlock(&once);
	return r ? error_errno(err, r, "make '%s' a mount of its own", path) : 0;
}

char *sandbox_ns_path(const struct sandbox *s, enum sandbox_ns which)
{
	struct statfs fs;

	if (!has_own(s, which))
		return NULL;
	char *path = path_join(s->dir, kinds[which].file, NULL);
	if (statfs(path, &fs) == 0 && (long)fs.f_type == NSFS_MAGIC)
		return path;
	free(path);
	return NULL;
}

int sandbox_ns_open(const struct sandbox *s, enum sandbox_ns which)
{
	autofree char *path = sandbox_ns_path(s, which);

	return path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
}

/* --- work inside --- */

struct inside {
	struct sandbox *s;
	int fds[SANDBOX_NS_MAX]; /* to be entered; -1 */
	int unshare;		 /* CLONE_NEW* to be made */
	bool pin;
	bool sysctls;
	struct error err;
};

static int loopback_up(struct error *err)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	autoclose int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &lo) < 0)
		return error_errno(err, errno, "set loopback up");
	return 0;
}

static int pin_all(const struct sandbox *s, struct error *err)
{
	for (int i = 0; i < SANDBOX_USER; i++) {
		if (!has_own(s, (enum sandbox_ns)i))
			continue;
		autofree char *from = xasprintf("/proc/thread-self/ns/%s", kinds[i].file);
		autofree char *to = path_join(s->dir, kinds[i].file, NULL);
		autoclose int fd = open(to, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (fd < 0 || mount(from, to, NULL, MS_BIND, NULL) < 0)
			return error_errno(err, errno, "pin a namespace at '%s'", to);
	}
	return 0;
}

/* "net.ipv4.conf.eth0/1.forwarding" is ".../eth0.1/forwarding", as sysctl(8) has it. */
static char *sysctl_path(const char *name)
{
	char *path = xasprintf("/proc/sys/%s", name);
	char *at = path + strlen("/proc/sys/");
	bool dots = at[strcspn(at, "./")] == '.';

	for (; dots && *at; at++)
		*at = *at == '.' ? '/' : *at == '/' ? '.' : *at;
	return path;
}

static int set_sysctl(const char *name, const char *value, struct error *err)
{
	autofree char *path = sysctl_path(name);
	autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "linux.sysctls: '%s' is not known to this kernel", name);
	if (fd < 0)
		return error_errno(err, errno, "open sysctl '%s'", name);
	int r = fs_write_all(fd, value, strlen(value));
	return r < 0 ? error_set(err, ERROR_INVALID_ARGUMENT, "linux.sysctls: set '%s' to '%s': %s",
				 name, value, strerror(-r))
		     : 0;
}

/* Everyone may bind low ports, as with containerd. Not ping without its capability: who drops that
 * means it. */
static int set_sysctls(const struct sandbox *s, struct error *err)
{
	static const struct {
		const char *name, *value;
	} defaults[] = {
		{ "net.ipv4.ip_unprivileged_port_start", "0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(defaults) && s->config.network == POD_NS_POD; i++) {
		autoerror struct error why = ERROR_INIT;

		if (kvs_get(&s->config.sysctls, defaults[i].name))
			continue;
		if (set_sysctl(defaults[i].name, defaults[i].value, &why) < 0)
			log_debug("sandbox %s: %s, ignoring", s->id, error_msg(&why));
	}
	for (size_t i = 0; i < s->config.sysctls.n; i++)
		if (set_sysctl(s->config.sysctls.v[i].key, s->config.sysctls.v[i].value, err) < 0)
			return -1;
	return 0;
}

static int work_inside(struct inside *in)
{
	const struct sandbox *s = in->s;

	if (in->unshare && unshare(in->unshare) < 0)
		return error_errno(&in->err, errno, "make namespaces");
	for (int i = 0; i < SANDBOX_USER; i++)
		if (in->fds[i] >= 0 && setns(in->fds[i], kinds[i].flag) < 0)
			return error_errno(&in->err, errno, "enter the %s namespace",
					   kinds[i].file);
	if (in->pin) {
		if (has_own(s, SANDBOX_NET) && loopback_up(&in->err) < 0)
			return -1;
		if (has_own(s, SANDBOX_UTS) && !str_empty(s->config.hostname) &&
		    sethostname(s->config.hostname, strlen(s->config.hostname)) < 0)
			return error_errno(&in->err, errno, "set the hostname '%s'",
					   s->config.hostname);
		if (pin_all(s, &in->err) < 0)
			return -1;
	}
	return in->sysctls ? set_sysctls(s, &in->err) : 0;
}

static void *inside_thread(void *arg)
{
	struct inside *in = arg;

	work_inside(in);
	return NULL;
}

static int run_inside(struct inside *in, struct error *err)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, inside_thread, in);

	if (r != 0)
		return error_errno(err, r, "start a thread for a namespace");
	pthread_join(thread, NULL);
	return in->err.code == ERROR_OK ? 0 : error_move(err, &in->err);
}

static void inside_done(struct inside *in)
{
	for (int i = 0; i < SANDBOX_NS_MAX; i++)
		closep(&in->fds[i]);
	error_done(&in->err);
}

#define INSIDE(sandbox)                                   \
	{                                                 \
		.s = (sandbox), .fds = { -1, -1, -1, -1 } \
	}

/* --- a user namespace --- */

struct helper {
	pid_t pid;
	int pidfd, to, from;
};

static void helper_done(struct helper *h)
{
	closep(&h->to);
	closep(&h->from);
	if (h->pid > 0) {
		int status;

		process_wait(h->pid, h->pidfd, HELPER_MS, &status, NULL);
	}
	closep(&h->pidfd);
}

static int helper_start(const char *pause, const char *letters, struct helper *h, struct error *err)
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) < 0)
		return error_errno(err, errno, "make a pipe");
	h->to = in[1];
	autoclose int child_in = in[0];
	if (pipe2(out, O_CLOEXEC) < 0)
		return error_errno(err, errno, "make a pipe");
	h->from = out[0];
	autoclose int child_out = out[1];
	const char *const argv[] = { pause, "unshare", letters, NULL };
	const struct process_fd fds[] = { { child_in, 0 }, { child_out, 1 } };
	const struct process_spec spec = {
		.path = pause,
		.argv = (char *const *)argv,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
	};
	h->pid = process_spawn(&spec, &h->pidfd, err);
	return h->pid < 0 ? error_wrap(err, "make a user namespace") : 0;
}

static int helper_hear(struct helper *h, struct error *err)
{
	struct pollfd p = { .fd = h->from, .events = POLLIN };
	char byte;

	if (poll(&p, 1, HELPER_MS) == 1 && read(h->from, &byte, 1) == 1)
		return 0;
	return error_set(err, ERROR_INTERNAL, "kistl-pause could not make namespaces");
}

static int write_map(const struct helper *h, const char *file, const struct id_mapping *m,
		     struct error *err)
{
	autofree char *path = xasprintf("/proc/%d/%s", (int)h->pid, file);
	autofree char *text = xasprintf("%lld %lld %lld\n", (long long)m->container_id,
					(long long)m->host_id, (long long)m->length);
	autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : fs_write_all(fd, text, strlen(text));

	return r < 0 ? error_errno(err, -r, "write %s", file) : 0;
}

static int take_namespaces(struct sandbox *s, const struct helper *h, struct inside *in,
			   struct error *err)
{
	autofree char *user = xasprintf("/proc/%d/ns/user", (int)h->pid);
	autofree char *to = path_join(s->dir, kinds[SANDBOX_USER].file, NULL);
	autoclose int fd = open(to, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || mount(user, to, NULL, MS_BIND, NULL) < 0)
		return error_errno(err, errno, "pin a namespace at '%s'", to);
	for (int i = 0; i < SANDBOX_USER; i++) {
		autofree char *path = xasprintf("/proc/%d/ns/%s", (int)h->pid, kinds[i].file);

		if (!has_own(s, (enum sandbox_ns)i))
			continue;
		in->fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (in->fds[i] < 0)
			return error_errno(err, errno, "open '%s'", path);
	}
	return 0;
}

static int make_userns(struct sandbox *s, struct inside *in, struct error *err)
{
	CLEANUP(helper_done) struct helper h = { .pid = -1, .pidfd = -1, .to = -1, .from = -1 };
	char letters[SANDBOX_NS_MAX + 1] = "";

	for (int i = 0, n = 0; i < SANDBOX_USER; i++)
		if (has_own(s, (enum sandbox_ns)i))
			letters[n++] = kinds[i].letter;
	if (helper_start(s->e->config.pause, letters, &h, err) < 0 || helper_hear(&h, err) < 0 ||
	    write_map(&h, "uid_map", &s->config.uid_mappings.v[0], err) < 0 ||
	    write_map(&h, "gid_map", &s->config.gid_mappings.v[0], err) < 0)
		return -1;
	if (fs_write_all(h.to, "+", 1) < 0 || helper_hear(&h, err) < 0)
		return error_set(err, ERROR_INTERNAL, "kistl-pause could not make namespaces");
	return take_namespaces(s, &h, in, err);
}

int sandbox_ns_probe_userns(struct engine *e, struct error *err)
{
	static const struct id_mapping map = { 0, 100000, 65536 };
	CLEANUP(helper_done) struct helper h = { .pid = -1, .pidfd = -1, .to = -1, .from = -1 };

	if (helper_start(e->config.pause, "", &h, err) < 0 || helper_hear(&h, err) < 0 ||
	    write_map(&h, "uid_map", &map, err) < 0 || write_map(&h, "gid_map", &map, err) < 0)
		return -1;
	autofree char *path = xasprintf("/proc/%d/ns/user", (int)h.pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, errno, "open '%s'", path) : fd;
}

/* --- */

int sandbox_ns_make(struct sandbox *s, struct error *err)
{
	CLEANUP(inside_done) struct inside in = INSIDE(s);

	in.pin = true;
	if (make_parent(s->e, err) < 0)
		return -1;
	if (mkdir(s->dir, 0711) < 0)
		return error_errno(err, errno, "make '%s'", s->dir);
	for (int i = 0; i < SANDBOX_USER && !s->config.userns; i++)
		if (has_own(s, (enum sandbox_ns)i))
			in.unshare |= kinds[i].flag;
	if (s->config.userns && make_userns(s, &in, err) < 0)
		return -1;
	return run_inside(&in, err);
}

int sandbox_ns_apply(struct sandbox *s, struct error *err)
{
	CLEANUP(inside_done) struct inside in = INSIDE(s);

	in.sysctls = true;
	if (s->config.network != POD_NS_POD && s->config.sysctls.n == 0)
		return 0;
	for (int i = 0; i < SANDBOX_USER; i++)
		in.fds[i] = sandbox_ns_open(s, (enum sandbox_ns)i);
	return run_inside(&in, err);
}

static int release_dir(const char *dir, struct error *err)
{
	for (int i = 0; i < SANDBOX_NS_MAX; i++) {
		autofree char *path = path_join(dir, kinds[i].file, NULL);

		if (mount_detach_all(path, MNT_DETACH, err) < 0)
			return -1;
		unlink(path);
	}
	return 0;
}

int sandbox_ns_release(struct sandbox *s, struct error *err)
{
	return release_dir(s->dir, err);
}

static bool is_known(struct engine *e, const char *id)
{
	bool known = false;

	pthread_mutex_lock(&e->lock);
	MAP_FOREACH (item, &e->sandboxes) {
		const struct sandbox *s = map_value(item);

		known |= str_equal(s->id, id);
	}
	pthread_mutex_unlock(&e->lock);
	return known;
}

void sandbox_ns_sweep(struct engine *e)
{
	autofree char *parent = path_join(e->config.state, "pods", NULL);
	DIR *d = opendir(parent);

	if (!d)
		return;
	for (struct dirent *entry; (entry = readdir(d));) {
		autoerror struct error err = ERROR_INIT;
		autofree char *dir = path_join(parent, entry->d_name, NULL);

		if (!path_component_valid(entry->d_name) || is_known(e, entry->d_name))
			continue;
		if (release_dir(dir, &err) < 0)
			log_warn("clear away '%s': %s, ignoring", dir, error_msg(&err));
		fs_remove_tree(AT_FDCWD, dir);
	}
	closedir(d);
	if (is_mount(parent))
		umount2(parent, UMOUNT_NOFOLLOW); /* busy while there are pins */
}
