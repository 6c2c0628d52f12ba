/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim's process. Our own shim is started straight into serving, with its listening socket as
 * descriptor 3: one exec and nothing to wait for, where the protocol's `start` costs two. This is
 * the one place to learn that protocol when other shims come.
 *
 * A shim that this daemon has started is its child and is reaped through a pidfd on the loop; one
 * from before a restart belongs to init.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/time.h"
#include "rpc/protobuf.h"
#include "task/internal.h"

#include "containerd.task.v3.pb-c.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct reaper {
	uv_poll_t poll;
	struct list node;
	pid_t pid;
	int pidfd;
	struct tasks *m;
};

static void on_reaper_closed(uv_handle_t *h)
{
	struct reaper *r = CONTAINER_OF(h, struct reaper, poll);

	close(r->pidfd);
	free(r);
}

static void on_shim_exit(uv_poll_t *h, int status UNUSED, int events UNUSED)
{
	struct reaper *r = CONTAINER_OF(h, struct reaper, poll);

	if (waitpid(r->pid, NULL, WNOHANG) == 0)
		return;
	uv_poll_stop(h);
	list_remove(&r->node);
	uv_close((uv_handle_t *)h, on_reaper_closed);
}

static void start_reaper(void *arg)
{
	struct reaper *r = arg;

	list_append(&r->m->reapers, &r->node);
	uv_poll_init(loop_uv(r->m->config.loop), &r->poll, r->pidfd);
	uv_poll_start(&r->poll, UV_READABLE, on_shim_exit);
}

void tasks_stop_reapers(struct tasks *m)
{
	LIST_FOREACH (r, &m->reapers, struct reaper, node) {
		uv_poll_stop(&r->poll);
		list_remove(&r->node);
		uv_close((uv_handle_t *)&r->poll, on_reaper_closed);
	}
}

int shim_start(struct task *t, int listener, const char *runtime, struct error *err)
{
	const struct tasks_config *c = &t->m->config;
	autofree char *log_path = path_join(t->bundle, "log", NULL);
	autoclose int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	autofree char *sealed_path = NULL;
	autoclose int sealed = sealed_open(t->m, runtime, &sealed_path);
	autostrv struct strv argv = STRV_INIT;
	int pidfd = -1;

	if (log < 0)
		return error_errno(err, errno, "open '%s'", log_path);
	const char *const args[] = { c->shim, "-namespace", t->ns,     "-address", c->address,
				     "-id",   t->id,	    "-bundle", t->bundle };
	for (size_t i = 0; i < ARRAY_SIZE(args); i++)
		strv_push(&argv, args[i]);
	autofree char *pods = path_join(c->state, "pods", NULL);
	strv_push(&argv, "-pods");
	strv_push(&argv, pods);
	if (sealed >= 0) {
		strv_push(&argv, "-sealed");
		strv_push(&argv, sealed_path);
	}
	strv_push(&argv, "serve");
	const struct process_fd fds[] = {
		{ .fd = -1, .target = 0 },     { .fd = log, .target = 1 },
		{ .fd = log, .target = 2 },    { .fd = listener, .target = 3 },
		{ .fd = sealed, .target = 4 },
	};
	const struct process_spec spec = {
		.path = c->shim,
		.argv = strv_argv(&argv),
		.cwd = t->bundle,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds) - (sealed < 0),
		.flags = PROCESS_NEW_SESSION,
	};
	pid_t pid = process_spawn(&spec, &pidfd, err);
	if (pid < 0)
		return error_wrap(err, "start shim '%s'", c->shim);
	t->shim_pid = pid;
	struct reaper *r = xnew(struct reaper);
	*r = (struct reaper){ .pid = pid, .pidfd = pidfd, .m = t->m };
	list_init(&r->node);
	loop_post(c->loop, start_reaper, r);
	return 0;
}

/* What the shim wrote for people, when it is known to have failed: its end goes to our log. */
static void log_shim_words(struct task *t)
{
	autofree char *path = path_join(t->bundle, "log", NULL);
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	char tail[1024];

	if (fd < 0)
		return;
	off_t size = lseek(fd, 0, SEEK_END);
	ssize_t n =
		pread(fd, tail, sizeof(tail) - 1, MAX(size - (off_t)sizeof(tail) + 1, (off_t)0));
	if (n <= 0)
		return;
	tail[n] = '\0';
	for (ssize_t i = 0; i < n; i++)
		if (tail[i] == '\n')
			tail[i] = i == n - 1 ? '\0' : ';';
	log_warn("shim of '%s' said: %s", t->id, tail);
}

static void parse_delete_response(const struct buf *out, struct task_exit *ret)
{
	autoarena struct arena arena = ARENA_INIT;
	ProtobufCMessage *m = NULL;

	if (protobuf_unpack(&arena, &containerd__task__v3__delete_response__descriptor, out->data,
			    out->len, &m, NULL) < 0)
		return;
	const Containerd__Task__V3__DeleteResponse *d =
		(const Containerd__Task__V3__DeleteResponse *)m;
	ret->pid = (int)d->pid;
	ret->status = d->exit_status;
	if (d->exited_at)
		ret->exited_at = d->exited_at->seconds * NSEC_PER_SEC + d->exited_at->nanos;
}

void shim_delete(struct task *t, struct task_exit *ret)
{
	const struct tasks_config *c = &t->m->config;
	const char *const argv[] = { c->shim,	 "-namespace", t->ns, "-address",
				     c->address, "-id",	       t->id, "-bundle",
				     t->bundle,	 "delete",     NULL };
	const struct process_spec spec = {
		.path = c->shim,
		.argv = (char *const *)argv,
		.cwd = t->bundle,
	};
	autobuf struct buf out = BUF_INIT(64 << 10);
	autobuf struct buf errout = BUF_INIT(64 << 10);
	autoerror struct error err = ERROR_INIT;
	int status = 0;

	*ret = (struct task_exit){ .exec_id = "", .status = 128 + SIGKILL, .lost = true };
	if (access(t->bundle, F_OK) < 0)
		return;
	log_shim_words(t);
	if (process_run(&spec, NULL, 0, &out, &errout, SHIM_CLEANUP_MS, &status, &err) < 0) {
		log_warn("clean up after the shim of '%s': %s, ignoring", t->id, error_msg(&err));
	} else if (status != 0) {
		autofree char *how = process_status_string(status);

		log_warn("clean up after the shim of '%s': %s: %s, ignoring", t->id, how,
			 errout.data);
	} else {
		parse_delete_response(&out, ret);
	}
	if (ret->exited_at <= 0)
		ret->exited_at = time_realtime();
}

/* The pid of a shim that we did not start is taken from its bundle, and believed only when that
 * process names the bundle's id. */
static int shim_pid_from_bundle(struct task *t)
{
	autofree char *path = path_join(t->bundle, "shim.pid", NULL);
	autobuf struct buf text = BUF_INIT(64);
	autobuf struct buf cmdline = BUF_INIT(64 << 10);
	long pid = 0;

	if (fs_read(AT_FDCWD, path, &text) < 0)
		return -1;
	for (size_t i = 0; i < text.len && text.data[i] >= '0' && text.data[i] <= '9'; i++)
		pid = MIN(pid * 10 + (text.data[i] - '0'), 1L << 30);
	autofree char *proc = xasprintf("/proc/%ld/cmdline", pid);
	if (pid <= 1 || fs_read(AT_FDCWD, proc, &cmdline) < 0 ||
	    !memmem(cmdline.data, cmdline.len, t->id, strlen(t->id)))
		return -1;
	return (int)pid;
}

void shim_kill(struct task *t)
{
	int pid = t->shim_pid > 0 ? t->shim_pid : shim_pid_from_bundle(t);
	autofree char *proc = xasprintf("/proc/%d/cmdline", pid);
	autobuf struct buf cmdline = BUF_INIT(64 << 10);

	if (pid <= 1)
		return;
	autoclose int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* Looked at while the pidfd holds the number: it cannot be anyone else's then. */
	if (pidfd < 0 || fs_read(AT_FDCWD, proc, &cmdline) < 0 ||
	    !memmem(cmdline.data, cmdline.len, t->id, strlen(t->id)))
		return;
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}
