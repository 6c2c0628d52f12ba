/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/notify.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define LISTEN_FDS_START 3

/* Out of the environment: an OCI runtime that inherits it lets a start wait for the container's own
 * READY=1, which never comes. */
static char *notify_path;

void notify_send(const char *state)
{
	const char *path = notify_path;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(addr.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	autoclose int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		log_warn("cannot notify '%s': %s, ignoring", path, strerror(errno));
}

static int check_listening(int fd, struct error *err)
{
	int listening = 0, type = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		return error_errno(err, errno, "descriptor %d from $LISTEN_FDS", fd);
	len = sizeof(type);
	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
	if (!listening || type != SOCK_STREAM)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "descriptor %d from $LISTEN_FDS is no listening stream socket",
				 fd);
	fs_set_cloexec(fd, true);
	fs_set_nonblock(fd, true);
	return 0;
}

int notify_listen_fds(int *ret_fds, int max, struct error *err)
{
	const char *pid_text = getenv("LISTEN_PID"), *n_text = getenv("LISTEN_FDS");
	int64_t pid = 0, n = 0;
	bool ours = pid_text && n_text && parse_int64(pid_text, &pid) == 0 && pid == getpid() &&
		    parse_int64(n_text, &n) == 0;

	str_replace(&notify_path, getenv("NOTIFY_SOCKET"));
	unsetenv("NOTIFY_SOCKET");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (!ours || n == 0)
		return 0;
	if (n < 0 || n > max)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cannot listen on %lld sockets at once", (long long)n);
	for (int i = 0; i < n; i++) {
		if (check_listening(LISTEN_FDS_START + i, err) < 0)
			return -1;
		ret_fds[i] = LISTEN_FDS_START + i;
	}
	return (int)n;
}
