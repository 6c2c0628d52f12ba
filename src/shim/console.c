/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime sends a pty's master over a socket that it is given by path. Its path in the bundle
 * may be too long for an address, so it is named through this process's descriptor of the bundle.
 */

#include "shim/container.h"

#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

static char *socket_name(const struct process *p)
{
	return xasprintf("tty-%d.sock", p->console_dir);
}

static void on_event(int events UNUSED, void *arg);

/* First the connection, then its message; neither is waited for. */
static void advance(struct process *p)
{
	char bytes[256];
	int fds[1];
	size_t n = 1;

	if (!p->console_connected) {
		int conn = accept4(watch_fd(p->console), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (conn < 0)
			return;
		watch_free(p->console);
		p->console = watch_new(shim.loop, conn, on_event, p);
		watch_set(p->console, UV_READABLE);
		p->console_connected = true;
	}
	ssize_t got = fs_recv_fds(watch_fd(p->console), bytes, sizeof(bytes), fds, &n);
	if (got == -EAGAIN)
		return;
	watch_set(p->console, 0);
	if (got > 0 && n == 1)
		p->console_master = fds[0];
}

static void on_event(int events UNUSED, void *arg)
{
	advance(arg);
}

int console_listen(struct process *p, char **ret_path, struct error *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	autoclose int dir = open(p->container->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (dir < 0 || fd < 0)
		return error_errno(err, errno, "make a console socket");
	/* The descriptor's number is its own, so execs do not meet. */
	p->console_dir = TAKE_FD(dir);
	autofree char *name = socket_name(p);
	unlinkat(p->console_dir, name, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", p->console_dir, name);
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 1) < 0)
		return error_errno(err, errno, "make a console socket");
	*ret_path = xasprintf("/proc/%d/fd/%d/%s", getpid(), p->console_dir, name);
	p->console = watch_new(shim.loop, TAKE_FD(fd), on_event, p);
	watch_set(p->console, UV_READABLE);
	return 0;
}

int console_take(struct process *p)
{
	autofree char *name = socket_name(p);

	if (!p->console)
		return -1;
	/* The runtime may be known to have ended before the loop saw its message. */
	if (p->console_master < 0)
		advance(p);
	watch_free(p->console);
	p->console = NULL;
	unlinkat(p->console_dir, name, 0);
	close(p->console_dir);
	p->console_dir = -1;
	return TAKE_FD(p->console_master);
}
