/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets at paths of any length, and descriptors over them. */
#include "base/fs.h"
#include "base/mem.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define FDS_MAX 16

/* *ret_dir must stay open for as long as the address is used. */
static int make_address(const char *path, struct sockaddr_un *ret, int *ret_dir)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) < sizeof(ret->sun_path)) {
		memcpy(ret->sun_path, path, strlen(path) + 1);
		return *path ? 0 : -EINVAL;
	}

	const char *base = path_base(path);
	autofree char *dir = xstrndup(path, (size_t)(base - path));
	autoclose int fd = open(*dir ? dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", fd, base);

	if (n < 0 || (size_t)n >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	*ret_dir = TAKE_FD(fd);
	return 0;
}

static int connect_retry(int fd, const struct sockaddr_un *addr)
{
	int r;

	do
		r = connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int fs_unix_connect(const char *path)
{
	autoclose int dir = -EBADF;
	struct sockaddr_un addr;
	int r = make_address(path, &addr, &dir);

	if (r < 0)
		return r;
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	r = connect_retry(fd, &addr);
	return r < 0 ? r : TAKE_FD(fd);
}

/* Unlinks a socket that nobody listens on. */
static int remove_stale(const struct sockaddr_un *addr)
{
	struct stat st;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	/* A full backlog must not block this: it is a listener all the same. */
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect_retry(fd, addr) != -ECONNREFUSED)
		return -EADDRINUSE;
	if (unlink(addr->sun_path) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

int fs_unix_listen(const char *path, mode_t mode, int backlog)
{
	autoclose int dir = -EBADF;
	struct sockaddr_un addr;
	int r = make_address(path, &addr, &dir);

	if (r < 0)
		return r;
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno != EADDRINUSE)
			return -errno;
		r = remove_stale(&addr);
		if (r < 0)
			return r;
		if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
			return -errno;
	}
	/* Nobody can connect before listen(), so the mode is in force from the first connection. */
	if (chmod(addr.sun_path, mode) < 0 || listen(fd, backlog) < 0) {
		r = -errno;
		unlink(addr.sun_path);
		return r;
	}
	return TAKE_FD(fd);
}

union control {
	struct cmsghdr align;
	char data[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

ssize_t fs_send_fds(int sock, const void *p, size_t n, const int *fds, size_t n_fds)
{
	struct iovec iov = { .iov_base = (void *)p, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control = { .data = { 0 } };

	assert(n_fds <= FDS_MAX);
	if (n_fds > 0) {
		msg.msg_control = control.data;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	for (;;) {
		ssize_t sent = sendmsg(sock, &msg, MSG_NOSIGNAL);

		if (sent >= 0 || errno != EINTR)
			return sent < 0 ? -errno : sent;
	}
}

/* Keeps what fits, closes the rest; true when all fitted. */
static bool collect_fds(struct msghdr *msg, int *ret_fds, size_t capacity, size_t *ret_n)
{
	bool fitted = !(msg->msg_flags & MSG_CTRUNC);

	*ret_n = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (*ret_n < capacity) {
				ret_fds[(*ret_n)++] = fd;
			} else {
				close(fd);
				fitted = false;
			}
		}
	}
	return fitted;
}

ssize_t fs_recv_fds(int sock, void *p, size_t n, int *ret_fds, size_t *ret_n_fds)
{
	struct iovec iov = { .iov_base = p, .iov_len = n };
	union control control = { .data = { 0 } };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.data,
			      .msg_controllen = sizeof(control.data) };
	size_t capacity = *ret_n_fds;
	ssize_t got;

	*ret_n_fds = 0;
	do
		got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	bool fitted = collect_fds(&msg, ret_fds, capacity, ret_n_fds);

	if (fitted && !(msg.msg_flags & MSG_TRUNC))
		return got;
	for (size_t i = 0; i < *ret_n_fds; i++)
		close(ret_fds[i]);
	*ret_n_fds = 0;
	return -EMSGSIZE;
}
