/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state directory is bind-mounted on itself and made private, so that what shims mount beneath
 * it (each in a mount namespace of its own) reaches neither the host nor each other, while volumes
 * elsewhere keep the propagation that they have. A mount left by a crash is found by its root in
 * mountinfo, which is "/" only for mounts of whole file systems, and used again.
 */

#include "daemon/state.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define LOCK_NAME "kistld.lock"
#define LOCK_WAIT_SECONDS 10

static void on_alarm(int signal)
{
}

/* flock() that gives up after a while. */
static int lock_wait(int fd)
{
	struct sigaction alarm_action = { .sa_handler = on_alarm }, old;

	sigaction(SIGALRM, &alarm_action, &old);
	alarm(LOCK_WAIT_SECONDS);
	int r = flock(fd, LOCK_EX) < 0 ? -errno : 0;
	alarm(0);
	sigaction(SIGALRM, &old, NULL);
	return r;
}

static bool is_served(const char *socket)
{
	autoclose int fd = fs_unix_connect(socket);

	return fd >= 0;
}

static int lock_state(struct state *s, const char *socket, struct error *err)
{
	autofree char *path = path_join(s->path, LOCK_NAME, NULL);
	autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return error_errno(err, errno, "open '%s'", path);
	int r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	if (r == -EWOULDBLOCK && !is_served(socket)) {
		log_info("another kistld holds '%s', waiting for it to leave", s->path);
		r = lock_wait(fd);
	}
	if (r == -EWOULDBLOCK || r == -EINTR) {
		autobuf struct buf pid = BUF_INIT(64);

		fs_read_fd(fd, &pid);
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "another kistld (pid %.*s) uses state directory '%s'",
				 (int)strcspn(pid.data, "\n"), pid.data, s->path);
	}
	if (r < 0)
		return error_errno(err, -r, "lock '%s'", path);
	autofree char *pid = xasprintf("%d\n", getpid());
	if (ftruncate(fd, 0) < 0 || fs_write_all(fd, pid, strlen(pid)) < 0)
		return error_errno(err, errno, "write '%s'", path);
	s->lock = TAKE_FD(fd);
	return 0;
}

/* Undoes mountinfo's octal escapes, in place. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

/* Whether there is a mount at path, and whether that is of a whole file system. */
static bool find_mount(const char *path, bool *ret_whole)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	autofree char *line = NULL;
	size_t size = 0;
	bool found = false;

	if (!f)
		return false;
	while (getline(&line, &size, f) > 0) {
		/* id, parent, device, root, mount point */
		char *field[5], *rest = line;

		for (int i = 0; i < 5; i++)
			field[i] = strsep(&rest, " ");
		if (!field[4])
			continue;
		unescape(field[4]);
		if (strcmp(field[4], path) != 0)
			continue;
		found = true;
		*ret_whole = strcmp(field[3], "/") == 0;
	}
	fclose(f);
	return found;
}

static void mount_private(struct state *s)
{
	bool whole = false;
	bool there = find_mount(s->path, &whole);

	if (!there && mount(s->path, s->path, NULL, MS_BIND, NULL) < 0) {
		log_warn("cannot make '%s' a mount of its own: %s, going on without", s->path,
			 strerror(errno));
		return;
	}
	s->mounted = !whole;
	if (mount(NULL, s->path, NULL, MS_PRIVATE, NULL) < 0)
		log_warn("cannot make the mount '%s' private: %s, going on", s->path,
			 strerror(errno));
}

static int make_dir(const char *path, mode_t mode, struct error *err)
{
	int r = fs_mkdir_p(path, mode);

	if (r < 0)
		return error_errno(err, -r, "make directory '%s'", path);
	return 0;
}

int state_open(struct state *s, const char *root, const char *path, const char *socket,
	       struct error *err)
{
	*s = STATE_INIT;
	/* The socket in it must be reachable for its group. */
	if (make_dir(root, 0700, err) < 0 || make_dir(path, 0711, err) < 0)
		return -1;
	s->path = realpath(path, NULL);
	if (!s->path)
		return error_errno(err, errno, "resolve '%s'", path);
	if (lock_state(s, socket, err) < 0)
		return -1;
	if (geteuid() == 0)
		mount_private(s);
	return 0;
}

/* Namespaces of pods are pinned there (engine/sandbox-ns.c): they outlive the daemon. */
static bool holds_pods(const struct state *s)
{
	autofree char *pods = path_join(s->path, "pods", NULL);

	return umount2(pods, UMOUNT_NOFOLLOW) < 0 && errno == EBUSY;
}

void state_close(struct state *s)
{
	if (s->mounted && holds_pods(s))
		s->mounted = false;
	if (s->mounted && umount2(s->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		log_warn("cannot unmount '%s': %s", s->path, strerror(errno));
	if (s->lock >= 0)
		close(s->lock);
	free(s->path);
	*s = STATE_INIT;
}
