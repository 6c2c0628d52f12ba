/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unshare(CLONE_NEWNET) moves the calling thread, so it is done on one that ends right after: the
 * pool's threads keep the host's namespace. The descriptor alone keeps the new namespace alive.
 */

#include "network/internal.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

struct creation {
	int fd;
	int error;
	const char *step;
};

static void *create_thread(void *arg)
{
	struct creation *c = arg;
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	autoclose int sock = -EBADF;
	autoclose int fd = -EBADF;

	c->step = "unshare";
	if (unshare(CLONE_NEWNET) < 0) {
		c->error = errno;
		return NULL;
	}
	c->step = "open";
	fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sock < 0) {
		c->error = errno;
		return NULL;
	}
	c->step = "set loopback up in";
	if (ioctl(sock, SIOCSIFFLAGS, &lo) < 0) {
		c->error = errno;
		return NULL;
	}
	c->fd = TAKE_FD(fd);
	return NULL;
}

int netns_create(struct error *err)
{
	struct creation c = { .fd = -EBADF };
	pthread_t thread;
	int r = pthread_create(&thread, NULL, create_thread, &c);

	if (r != 0)
		return error_errno(err, r, "start a thread for a network namespace");
	pthread_join(thread, NULL);
	if (c.fd < 0)
		return error_errno(err, c.error, "%s a new network namespace", c.step);
	return c.fd;
}

/* A thread that cannot come back must not go on. */
int netns_call(int netns_fd, int (*fn)(void *arg, struct error *err), void *arg, struct error *err)
{
	autoclose int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (own < 0)
		return error_errno(err, errno, "open the network namespace of this thread");
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return error_errno(err, errno, "enter the container's network namespace");
	r = fn(arg, err);
	if (setns(own, CLONE_NEWNET) < 0)
		abort();
	return r;
}

/* "  eth0: rx_bytes packets errs drop fifo frame compressed multicast tx_bytes ..." */
static void add_line(const char *line, struct network_counters *c)
{
	unsigned long long v[12];
	const char *colon = strchr(line, ':');
	const char *name = line + strspn(line, " ");

	if (!colon || strncmp(name, "lo:", 3) == 0)
		return;
	if (sscanf(colon + 1, "%llu %llu %llu %llu %*u %*u %*u %*u %llu %llu %llu %llu", &v[0],
		   &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) != 8)
		return;
	c->rx_bytes += v[0];
	c->rx_packets += v[1];
	c->rx_errors += v[2];
	c->rx_dropped += v[3];
	c->tx_bytes += v[4];
	c->tx_packets += v[5];
	c->tx_errors += v[6];
	c->tx_dropped += v[7];
}

int network_counters(int pid, struct network_counters *ret, struct error *err)
{
	autofree char *path = xasprintf("/proc/%d/net/dev", pid);
	autobuf struct buf text = BUF_INIT(1 << 20);
	autostrv struct strv lines = STRV_INIT;
	int r = fs_read(AT_FDCWD, path, &text);

	*ret = (struct network_counters){ 0 };
	if (r < 0)
		return error_errno(err, -r, "read '%s'", path);
	strv_split(&lines, text.data, "\n");
	for (size_t i = 0; i < lines.n; i++)
		add_line(lines.v[i], ret);
	return 0;
}
