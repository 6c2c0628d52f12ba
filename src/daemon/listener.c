/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/listener.h"

#include "base/fs.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define BACKLOG 512
#define ACCEPT_AT_ONCE 64
#define UNDECIDED_MAX 1024
#define SNIFF_TIMEOUT_MS 60000
#define SNIFF_RETRY_MS 20
#define GROUP_FILE_MAX (1 << 20)

struct socket {
	uv_poll_t poll;
	struct listener *listener;
	int fd;
};

struct listener {
	struct listener_config config;
	char *path;
	char *group;
	struct socket **sockets;
	size_t n_sockets;
	struct list undecided;
	unsigned n_undecided;
	bool own; /* the path is ours to unlink */
	bool stopped;
	dev_t dev;
	ino_t ino; /* of the path */
};

/* A connection whose protocol is not known yet. */
struct sniff {
	uv_poll_t poll;
	struct list node;
	struct listener *listener;
	int fd;
	struct loop_timer *timeout;
	struct loop_timer *retry;
};

enum protocol protocol_guess(const char *p, size_t n)
{
	static const char preface[] = "PRI ";

	if (n == 0)
		return PROTOCOL_UNKNOWN;
	if (p[0] == '\0')
		return PROTOCOL_TTRPC;
	if (memcmp(p, preface, MIN(n, strlen(preface))) != 0)
		return PROTOCOL_HTTP;
	return n < strlen(preface) ? PROTOCOL_UNKNOWN : PROTOCOL_GRPC;
}

static void on_sniff_closed(uv_handle_t *handle)
{
	free(CONTAINER_OF(handle, struct sniff, poll));
}

/* The socket is the caller's then. */
static int sniff_end(struct sniff *s)
{
	loop_timer_cancel(TAKE_PTR(s->timeout));
	loop_timer_cancel(TAKE_PTR(s->retry));
	list_remove(&s->node);
	s->listener->n_undecided--;
	uv_poll_stop(&s->poll);
	uv_close((uv_handle_t *)&s->poll, on_sniff_closed);
	return TAKE_FD(s->fd);
}

static void on_sniff(uv_poll_t *handle, int status, int events);

static void on_retry(void *arg)
{
	struct sniff *s = arg;

	s->retry = NULL;
	on_sniff(&s->poll, 0, UV_READABLE);
}

static void on_sniff(uv_poll_t *handle, int status, int events)
{
	struct sniff *s = CONTAINER_OF(handle, struct sniff, poll);
	struct listener *l = s->listener;
	char p[4];
	ssize_t n = status < 0 ? 0 : recv(s->fd, p, sizeof(p), MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		uv_poll_start(handle, UV_READABLE, on_sniff);
		return;
	}
	if (n <= 0) {
		close(sniff_end(s));
		return;
	}
	enum protocol protocol = protocol_guess(p, (size_t)n);
	if (protocol != PROTOCOL_UNKNOWN) {
		l->config.on_connection(sniff_end(s), protocol, l->config.arg);
		return;
	}
	/* "P", "PR": readable for as long as they are not read, so polling would spin. */
	uv_poll_stop(handle);
	if (!s->retry)
		s->retry = loop_timer_start(l->config.loop, SNIFF_RETRY_MS, on_retry, s);
}

static void on_timeout(void *arg)
{
	struct sniff *s = arg;

	s->timeout = NULL;
	close(sniff_end(s));
}

static void sniff_start(struct listener *l, int fd)
{
	struct sniff *s = xnew(struct sniff);

	s->listener = l;
	s->fd = fd;
	if (l->n_undecided >= UNDECIDED_MAX ||
	    uv_poll_init(loop_uv(l->config.loop), &s->poll, fd) < 0) {
		log_warn("too many connections that say nothing, dropping a new one");
		close(fd);
		free(s);
		return;
	}
	list_append(&l->undecided, &s->node);
	l->n_undecided++;
	s->timeout = loop_timer_start(l->config.loop, SNIFF_TIMEOUT_MS, on_timeout, s);
	/* Most clients have spoken by now. */
	on_sniff(&s->poll, 0, UV_READABLE);
}

/* Accepts what waits; returns how many. */
static int accept_waiting(struct socket *s, int max)
{
	for (int n = 0; n < max; n++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			if (errno != EAGAIN && errno != EINVAL)
				log_err("cannot accept a connection: %s", strerror(errno));
			return n;
		}
		sniff_start(s->listener, fd);
	}
	return max;
}

static void on_acceptable(uv_poll_t *handle, int status, int events)
{
	if (status >= 0)
		accept_waiting(CONTAINER_OF(handle, struct socket, poll), ACCEPT_AT_ONCE);
}

static int add_socket(struct listener *l, int take_fd, struct error *err)
{
	struct socket *s = xnew(struct socket);

	s->listener = l;
	s->fd = take_fd;
	int r = uv_poll_init(loop_uv(l->config.loop), &s->poll, s->fd);
	if (r < 0) {
		close(s->fd);
		free(s);
		return error_errno(err, -r, "poll a listening socket");
	}
	uv_poll_start(&s->poll, UV_READABLE, on_acceptable);
	GROW_ARRAY(l->sockets, l->n_sockets);
	l->sockets[l->n_sockets++] = s;
	return 0;
}

/* /etc/group alone: NSS modules would stay in memory for this one question. */
static bool find_group(const char *name, gid_t *ret)
{
	autobuf struct buf b = BUF_INIT(GROUP_FILE_MAX);
	size_t len = strlen(name);

	if (fs_read(AT_FDCWD, "/etc/group", &b) < 0)
		return false;
	for (char *line = b.data, *next; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (strncmp(line, name, len) != 0 || line[len] != ':')
			continue;
		char *id = strchr(line + len + 1, ':');
		uint64_t gid;

		if (!id)
			continue;
		id[1 + strcspn(id + 1, ":")] = '\0';
		if (parse_uint64(id + 1, &gid) == 0 && gid < UINT32_MAX) {
			*ret = (gid_t)gid;
			return true;
		}
	}
	return false;
}

static int set_group(const char *path, const char *name, struct error *err)
{
	gid_t gid;

	if (geteuid() != 0)
		return 0;
	if (name) {
		if (!find_group(name, &gid))
			return error_set(err, ERROR_NOT_FOUND, "no group '%s'", name);
	} else if (!find_group("kistl", &gid) && !find_group("docker", &gid)) {
		return 0;
	}
	if (lchown(path, (uid_t)-1, gid) < 0)
		return error_errno(err, errno, "change the group of '%s'", path);
	return 0;
}

/* Listens at the path, with its final owner before anyone can connect who should not: the mode
 * comes with the socket, and only widens for the group. */
static int listen_at_path(struct listener *l, struct error *err)
{
	struct stat st;
	autofree char *dir = xstrndup(l->path, (size_t)(path_base(l->path) - l->path));
	int r = str_empty(dir) ? 0 : fs_mkdir_p(dir, 0755);

	if (r < 0)
		return error_errno(err, -r, "make directory '%s'", dir);
	int fd = fs_unix_listen(l->path, 0660, BACKLOG);
	if (fd == -EADDRINUSE)
		return error_set(err, ERROR_ALREADY_EXISTS, "socket '%s' is in use", l->path);
	if (fd < 0)
		return error_errno(err, -fd, "listen on '%s'", l->path);
	fs_set_nonblock(fd, true);
	if (add_socket(l, fd, err) < 0 || set_group(l->path, l->group, err) < 0)
		return -1;
	if (lstat(l->path, &st) == 0) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	l->own = true;
	return 0;
}

struct listener *listener_new(const struct listener_config *config, struct error *err)
{
	struct listener *l = xnew(struct listener);
	int r = 0;

	l->config = *config;
	l->path = xstrdup(config->path);
	l->group = xstrdup(config->group);
	list_init(&l->undecided);
	for (size_t i = 0; i < config->n_fds && r == 0; i++)
		r = add_socket(l, config->fds[i], err);
	if (config->n_fds == 0)
		r = listen_at_path(l, err);
	if (r < 0) {
		listener_free(l);
		return NULL;
	}
	return l;
}

unsigned listener_undecided(const struct listener *l)
{
	return l->n_undecided;
}

/* Only if it is still the one that we made. */
static void unlink_path(struct listener *l)
{
	struct stat st;

	if (l->own && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	l->own = false;
}

static void on_socket_closed(uv_handle_t *handle)
{
	free(CONTAINER_OF(handle, struct socket, poll));
}

static void close_sockets(struct listener *l)
{
	for (size_t i = 0; i < l->n_sockets; i++) {
		struct socket *s = l->sockets[i];

		uv_poll_stop(&s->poll);
		close(TAKE_FD(s->fd));
		uv_close((uv_handle_t *)&s->poll, on_socket_closed);
	}
	free(TAKE_PTR(l->sockets));
	l->n_sockets = 0;
}

bool listener_stop(struct listener *l, bool force)
{
	autoerror struct error err = ERROR_INIT;
	bool own = l->own;
	int late = 0;

	if (l->stopped)
		return true;
	/* Sockets of the service manager stay with it, and so do the clients that wait there. Ours:
	 * nobody finds the path any more, nobody who found it gets through, and who got through is
	 * taken. */
	unlink_path(l);
	for (size_t i = 0; i < l->n_sockets && own; i++) {
		shutdown(l->sockets[i]->fd, SHUT_RDWR);
		late += accept_waiting(l->sockets[i], BACKLOG * 2);
	}
	if (late > 0 && !force) {
		close_sockets(l);
		if (listen_at_path(l, &err) == 0)
			return false;
		log_err("cannot listen again: %s", error_msg(&err));
	}
	close_sockets(l);
	l->stopped = true;
	return true;
}

void listener_free(struct listener *l)
{
	if (!l)
		return;
	unlink_path(l);
	close_sockets(l);
	LIST_FOREACH (s, &l->undecided, struct sniff, node)
		close(sniff_end(s));
	free(l->path);
	free(l->group);
	free(l);
}
