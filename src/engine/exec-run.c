/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Execs that belong to one call, and their violent end. Neither runtime gives an exec a cgroup of
 * its own, so what belongs to it is found by its session (a detached exec has its own) and by
 * descent; who has left both on purpose is a daemon, and stays.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "engine/internal.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define KILL_ROUNDS 8
#define STAT_MAX 4096
#define SKIP_5 " %*s %*s %*s %*s %*s"
#define SKIP_15 SKIP_5 SKIP_5 SKIP_5

struct told {
	void (*fn)(int exit_code, void *arg);
	void *arg;
	int exit_code;
};

static void tell(void *arg)
{
	struct told *t = arg;

	t->fn(t->exit_code, t->arg);
	free(t);
}

void exec_tell_exit(struct exec *x)
{
	struct engine *e = x->container->e;

	pthread_mutex_lock(&e->lock);
	struct told told = { .fn = TAKE_PTR(x->on_exit),
			     .arg = x->exit_arg,
			     .exit_code = x->exit_code };
	pthread_mutex_unlock(&e->lock);
	if (told.fn)
		loop_post(e->config.loop, tell, xmemdup(&told, sizeof(told)));
}

/* It could not be started; false: its end has been told all the same. */
static bool take_back(struct exec *x)
{
	pthread_mutex_lock(&x->container->e->lock);
	bool mine = TAKE_PTR(x->on_exit) != NULL;
	pthread_mutex_unlock(&x->container->e->lock);
	return mine;
}

static void exec_run_unref(struct exec *x)
{
	exec_unref(x);
}
DEFINE_CLEANUP(struct exec *, exec_run_unref)

int engine_exec_run(struct engine *e, const struct exec_run *r, int client_fd, char ret_exec_id[65],
		    struct error *err)
{
	autoclose int fd = client_fd;
	CLEANUP(container_unrefp) struct container *c = container_find(e, r->ns, r->id, err);

	if (!c || exec_admit(c, r->config, err) < 0)
		return -1;
	CLEANUP(exec_run_unrefp) struct exec *x = exec_new(c, r->config);
	x->hidden = true;
	x->once = true;
	x->width = r->width;
	x->height = r->height;
	x->exit_arg = r->arg;
	x->on_exit = r->fn;
	memcpy(ret_exec_id, x->id, sizeof(x->id));
	if (exec_start(x, &r->attach, fd, err) < 0 && take_back(x)) {
		exec_forget(x);
		return -1;
	}
	/* The container's end has passed by an exec that did not run yet. */
	CLEANUP(task_unrefp) struct task *t = container_task(c, NULL);
	if (!t)
		container_end_execs(c);
	return 0;
}

/* --- killing --- */

struct member {
	int pid, parent, session;
	unsigned long long started; /* tells it from another of the same number */
	bool in;
};

struct members {
	struct member *v;
	size_t n;
};

static void members_done(struct members *m)
{
	free(m->v);
}

/* False: it is not there, or dead already. */
static bool read_stat(int pid, struct member *ret)
{
	autobuf struct buf text = BUF_INIT(STAT_MAX);
	autofree char *path = xasprintf("/proc/%d/stat", pid);
	char state;

	if (fs_read(AT_FDCWD, path, &text) < 0)
		return false;
	const char *p = strrchr(text.data, ')');
	*ret = (struct member){ .pid = pid };
	return p &&
	       sscanf(p + 1, " %c %d %*d %d" SKIP_15 " %llu", &state, &ret->parent, &ret->session,
		      &ret->started) == 4 &&
	       state != 'Z' && state != 'X';
}

static int look(struct task *t, struct members *ret, struct error *err)
{
	CLEANUP(task_pids_done) struct task_pids pids = { 0 };

	if (task_pids(t, &pids, err) < 0)
		return -1;
	for (size_t i = 0; i < pids.n; i++) {
		struct member m;

		if (!read_stat(pids.v[i], &m))
			continue;
		GROW_ARRAY(ret->v, ret->n);
		ret->v[ret->n++] = m;
	}
	return 0;
}

static bool is_in(const struct members *m, int pid)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].pid == pid)
			return m->v[i].in;
	return false;
}

/* Session 0: it is not known. */
static void choose(struct members *m, int pid, int session)
{
	bool more = true;

	for (size_t i = 0; i < m->n; i++)
		m->v[i].in = m->v[i].pid == pid || (session > 0 && m->v[i].session == session);
	while (more) {
		more = false;
		for (size_t i = 0; i < m->n; i++) {
			if (m->v[i].in || !is_in(m, m->v[i].parent))
				continue;
			m->v[i].in = more = true;
		}
	}
}

static void kill_member(const struct member *m)
{
	autoclose int fd = (int)syscall(SYS_pidfd_open, m->pid, 0);
	struct member now;

	if (fd >= 0 && read_stat(m->pid, &now) && now.started == m->started)
		syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

/* How many it has killed, or -1. */
static int kill_round(struct task *t, int pid, int session, struct error *err)
{
	CLEANUP(members_done) struct members m = { 0 };
	int n = 0;

	if (look(t, &m, err) < 0)
		return -1;
	choose(&m, pid, session);
	for (size_t i = 0; i < m.n; i++) {
		if (!m.v[i].in)
			continue;
		kill_member(&m.v[i]);
		n++;
	}
	return n;
}

/* 0: none that it has for itself. */
static int own_session(int pid, int init)
{
	struct member x, first;

	if (!read_stat(pid, &x) || (read_stat(init, &first) && first.session == x.session))
		return 0;
	return x.session;
}

int engine_exec_kill_all(struct engine *e, const char *exec_id, struct error *err)
{
	CLEANUP(exec_run_unrefp) struct exec *x = exec_find(e, exec_id, err);

	if (!x)
		return -1;
	CLEANUP(task_unrefp) struct task *t = container_task(x->container, err);
	pthread_mutex_lock(&e->lock);
	int pid = x->running ? x->pid : 0, init = x->container->s.pid;
	pthread_mutex_unlock(&e->lock);
	if (!t)
		return -1;
	if (pid <= 0)
		return error_set(err, ERROR_NOT_FOUND, "exec %s does not run", exec_id);
	int session = own_session(pid, init);
	/* Until those are gone that were being made meanwhile. */
	for (int i = 0, n = 1; i < KILL_ROUNDS && n > 0; i++) {
		n = kill_round(t, pid, session, err);
		if (n < 0)
			return -1;
	}
	return 0;
}
