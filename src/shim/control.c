/* SPDX-License-Identifier: Apache-2.0 */
/* Control connections: attach and reopen (rpc/attach-proto.h). */

#include "shim/container.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int attach(const char *text, size_t len, int *client, struct error *err)
{
	CLEANUP(attach_request_done) struct attach_request r = { 0 };

	if (attach_request_parse(text, len, &r, err) < 0)
		return -1;
	if (*client < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "attach request without a socket");
	struct container *c = container_find(r.id, err);
	struct process *p = c ? container_process(c, r.exec_id, err) : NULL;
	if (!p)
		return -1;
	if (!p->io)
		return error_set(err, ERROR_FAILED_PRECONDITION, "process has ended");
	return streams_attach(p->io, &r, TAKE_FD(*client), err);
}

static int reopen(const char *text, size_t len, int *client UNUSED, struct error *err)
{
	autojson struct json *j = json_parse(text, len, CONTROL_MAX, err);
	const char *id = json_get_string(j, "id");

	if (!j)
		return -1;
	struct container *c = container_find(id ? id : "", err);
	if (!c)
		return -1;
	return c->init.io ? streams_reopen_log(c->init.io, err) : 0;
}

static const struct {
	const char *verb;
	int (*fn)(const char *text, size_t len, int *client, struct error *err);
} verbs[] = {
	{ ATTACH_VERB, attach },
	{ REOPEN_VERB, reopen },
};

static int perform(const char *text, size_t len, int *client, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		size_t n = strlen(verbs[i].verb);

		if (len >= n && memcmp(text, verbs[i].verb, n) == 0)
			return verbs[i].fn(text + n, len - n, client, err);
	}
	return error_set(err, ERROR_UNIMPLEMENTED, "unknown control message");
}

void control_accept(int fd, void *arg UNUSED)
{
	autoerror struct error err = ERROR_INIT;
	autoclose int conn = fd;
	autoclose int client = -1;
	char text[CONTROL_MAX];
	char answer[512];
	int fds[1];
	size_t n_fds = 1;
	ssize_t n = fs_recv_fds(conn, text, sizeof(text), fds, &n_fds);

	if (n <= 0)
		return;
	if (n_fds == 1)
		client = fds[0];
	int len =
		perform(text, (size_t)n, &client, &err) < 0
			? snprintf(answer, sizeof(answer), "ERR %d %s\n", err.code, error_msg(&err))
			: snprintf(answer, sizeof(answer), "OK\n");
	if ((size_t)len >= sizeof(answer))
		len = sizeof(answer) - 1;
	/* It fits into an empty socket's buffer; a client that does not wait for it has lost
	 * nothing. */
	if (send(conn, answer, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("control connection: %s, ignoring", strerror(errno));
}
