/* SPDX-License-Identifier: Apache-2.0 */
/* The long-lived shim: set-up, the loop, and leaving when nothing is left to do. */

#include "shim/command.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "shim/bundle-mounts.h"
#include "shim/container.h"
#include "shim/events.h"
#include "shim/mountns.h"
#include "shim/reaper.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define LISTENER_FD 3
#define SEALED_FD 4
#define LOG_MAX (256 << 10)
#define LEAVE_CHECK_MS 20
#define LEAVE_LIMIT_NS (60 * NSEC_PER_SEC)
#define IDLE_MS 30000
#define EVENTS_LIMIT_NS (3 * NSEC_PER_SEC)

/* The daemon's fifo when somebody reads it, else a file that begins anew when it has grown. */
static int open_log(const char *bundle)
{
	autofree char *fifo = path_join(bundle, "log", NULL);
	autofree char *file = path_join(bundle, "shim.log", NULL);
	struct stat st;
	int fd = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	int flags = stat(file, &st) == 0 && st.st_size > LOG_MAX ? O_TRUNC : 0;
	return open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | flags, 0600);
}

static void redirect_stdio(const char *bundle)
{
	autoclose int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	autoclose int log = open_log(bundle);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	if (log >= 0 || null >= 0)
		dup2(log >= 0 ? log : null, STDERR_FILENO);
}

/* The OOM killer takes a shim a little sooner than the daemon. */
static void adjust_oom_score(void)
{
	static const char path[] = "/proc/self/oom_score_adj";
	autobuf struct buf text = BUF_INIT(32);
	int64_t score;
	char out[16];

	if (fs_read(AT_FDCWD, path, &text) < 0)
		return;
	text.data[strcspn(text.data, "\n")] = '\0';
	if (parse_int64(text.data, &score) < 0 || score >= 1000)
		return;
	int len = snprintf(out, sizeof(out), "%d", (int)score + 1);
	autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		fs_write_all(fd, out, (size_t)len);
}

/* Of a pod's shim: what its containers share. */
static int make_pod_mounts(const char *bundle, struct error *err)
{
	autofree char *list = path_join(bundle, "mounts.json", NULL);

	if (access(list, F_OK) < 0)
		return 0;
	shim.has_mounts = true;
	return mountns_shield(bundle, err) < 0 ? -1 : bundle_mounts_attach(bundle, err);
}

static int set_up(const struct command *c, struct error *err)
{
	autofree char *pid_file = path_join(*c->bundle ? c->bundle : ".", "shim.pid", NULL);
	int listening = 0;
	socklen_t len = sizeof(listening);
	char pid[16];

	if (getsockopt(LISTENER_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "descriptor %d is not a listening socket", LISTENER_FD);
	fs_set_cloexec(LISTENER_FD, true);
	if (*c->sealed && fs_set_cloexec(SEALED_FD, true) == 0)
		runtime_set_sealed(c->sealed, SEALED_FD);
	setsid(); /* fails when the parent has done so */
	umask(0);
	signal(SIGPIPE, SIG_IGN);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return error_errno(err, errno, "become the reaper of containers");
	if (*c->bundle && chdir(c->bundle) < 0)
		return error_errno(err, errno, "enter '%s'", c->bundle);
	int n = snprintf(pid, sizeof(pid), "%d", getpid());
	int r = fs_write_atomic(AT_FDCWD, pid_file, pid, (size_t)n, 0600, /* sync= */ false);
	if (r < 0)
		return error_errno(err, -r, "write '%s'", pid_file);
	adjust_oom_score();
	if (mountns_enter(err) < 0 || (*c->pods && mountns_forget(c->pods, err) < 0))
		return -1;
	return *c->bundle ? make_pod_mounts(c->bundle, err) : 0;
}

/* Leaving */

static int64_t leaving_since;

static void check_leave(void *arg UNUSED)
{
	int64_t waited = time_monotonic() - leaving_since;
	bool busy = (streams_lingering() > 0 && waited < LEAVE_LIMIT_NS) ||
		    (events_pending() && waited < EVENTS_LIMIT_NS);

	if (busy)
		loop_timer_start(shim.loop, LEAVE_CHECK_MS, check_leave, NULL);
	else
		loop_stop(shim.loop);
}

void shim_leave(void)
{
	if (shim.leaving)
		return;
	shim.leaving = true;
	leaving_since = time_monotonic();
	/* From the loop, so that the reply to Shutdown has gone. */
	loop_timer_start(shim.loop, 0, check_leave, NULL);
}

static void check_idle(void *arg UNUSED)
{
	if (shim.containers.n > 0 || shim.leaving)
		return;
	if (ttrpc_server_connections(shim.server) > 0)
		shim_is_idle();
	else
		shim_leave();
}

void shim_is_idle(void)
{
	loop_timer_start(shim.loop, IDLE_MS, check_idle, NULL);
}

static char *event_address(const struct command *c)
{
	const char *from_env = getenv("TTRPC_ADDRESS");

	if (!str_empty(from_env))
		return xstrdup(from_env);
	return *c->address ? xasprintf("%s.ttrpc", c->address) : NULL;
}

/* So that the next shim for this id need not find out that nobody listens. */
static void remove_socket(void)
{
	struct sockaddr_storage unused;
	socklen_t len = sizeof(unused);
	autofree char *path = shim_socket_path(shim.address, shim.ns, shim.id);

	if (getsockname(LISTENER_FD, (struct sockaddr *)&unused, &len) == 0)
		unlink(path);
}

int command_serve(const struct command *c)
{
	autoerror struct error err = ERROR_INIT;
	autofree char *address = event_address(c);

	redirect_stdio(*c->bundle ? c->bundle : ".");
	log_setup("kistl-shim", c->debug ? LOG_DEBUG : LOG_INFO, LOG_FORMAT_AUTO);
	if (set_up(c, &err) < 0) {
		log_err("%s", error_msg(&err));
		return 1;
	}
	shim.ns = c->ns;
	shim.id = c->id;
	shim.address = c->address;
	shim.pods = c->pods;
	shim.loop = loop_new(&err);
	if (!shim.loop || reaper_start(shim.loop, &err) < 0) {
		log_err("%s", error_msg(&err));
		return 1;
	}
	events_start(shim.loop, c->ns, address);
	shim.server = ttrpc_server_new(shim.loop);
	ttrpc_server_add(shim.server, &task_v3);
	ttrpc_server_add(shim.server, &task_v2);
	ttrpc_server_set_other(shim.server, control_accept, NULL);
	if (ttrpc_server_listen(shim.server, LISTENER_FD, &err) < 0) {
		log_err("%s", error_msg(&err));
		return 1;
	}
	shim_is_idle();
	loop_run(shim.loop);
	remove_socket();
	return 0;
}
