/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of a task and the Waits that are outstanding for them. A Wait holds its process, and a
 * process its task, until it is answered or the connection ends, which answers it too.
 */

#include "base/mem.h"
#include "base/time.h"
#include "rpc/protobuf.h"
#include "task/internal.h"

#include "containerd.task.v3.pb-c.h"

#include <signal.h>

static void process_unref(struct process *p)
{
	if (--p->refs > 0)
		return;
	task_unref(p->task);
	free(p->exec_id);
	free(p);
}

/* Locked. */
static struct process *process_find(struct task *t, const char *exec_id)
{
	LIST_FOREACH (p, &t->processes, struct process, node)
		if (str_equal(p->exec_id, exec_id))
			return p;
	return NULL;
}

/* Loop thread. */
static void report(struct process *p, const struct task_exit *x)
{
	struct task *t = p->task;

	pthread_mutex_lock(&t->lock);
	bool skip = p->reported || t->silent;
	p->reported = true;
	pthread_mutex_unlock(&t->lock);
	if (!skip)
		t->m->config.on_exit(t, x, t->m->config.arg);
}

static void on_waited(const struct error *err, const void *payload, size_t len, void *arg)
{
	struct process *p = arg;
	struct task *t = p->task;
	autoarena struct arena arena = ARENA_INIT;
	ProtobufCMessage *m = NULL;
	struct task_exit x = { .exec_id = p->exec_id, .exited_at = time_realtime() };

	pthread_mutex_lock(&t->lock);
	x.pid = p->pid;
	pthread_mutex_unlock(&t->lock);
	if (!err && protobuf_unpack(&arena, &containerd__task__v3__wait_response__descriptor,
				    payload, len, &m, NULL) == 0) {
		const Containerd__Task__V3__WaitResponse *w =
			(const Containerd__Task__V3__WaitResponse *)m;

		x.status = w->exit_status;
		if (w->exited_at && w->exited_at->seconds > 0)
			x.exited_at = w->exited_at->seconds * NSEC_PER_SEC + w->exited_at->nanos;
		report(p, &x);
	} else if (!error_is(err, ERROR_UNAVAILABLE) && x.pid > 0) {
		/* It ran, and the shim knows nothing of it any more. */
		x.status = 255;
		x.lost = true;
		report(p, &x);
	}
	/* UNAVAILABLE: the end of the connection is dealt with once for all processes. */
	process_unref(p);
}

/* Loop thread; owns a reference. */
static void wait_on_loop(void *arg)
{
	struct process *p = arg;
	struct task *t = p->task;
	Containerd__Task__V3__WaitRequest request = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;

	pthread_mutex_lock(&t->lock);
	struct ttrpc_client *client = ttrpc_client_ref(t->client);
	pthread_mutex_unlock(&t->lock);
	if (!client) {
		process_unref(p);
		return;
	}
	request.id = t->id;
	request.exec_id = p->exec_id;
	ttrpc_client_call_async(client, "containerd.task.v3.Task", "Wait", &request.base, 0,
				on_waited, p);
	ttrpc_client_unref(client);
}

static void wait_for(struct process *p)
{
	p->refs++;
	loop_post(p->task->m->config.loop, wait_on_loop, p);
}

void process_watch(struct task *t, const char *exec_id)
{
	struct process *p = xnew(struct process);

	p->task = task_ref(t);
	p->exec_id = xstrdup(exec_id);
	p->refs = 1;
	pthread_mutex_lock(&t->lock);
	list_append(&t->processes, &p->node);
	pthread_mutex_unlock(&t->lock);
	wait_for(p);
}

void process_watch_all(struct task *t)
{
	pthread_mutex_lock(&t->lock);
	LIST_FOREACH (p, &t->processes, struct process, node)
		if (!p->reported)
			wait_for(p);
	pthread_mutex_unlock(&t->lock);
}

void process_set_pid(struct task *t, const char *exec_id, int pid)
{
	pthread_mutex_lock(&t->lock);
	struct process *p = process_find(t, exec_id);
	if (p)
		p->pid = pid;
	pthread_mutex_unlock(&t->lock);
}

void process_drop(struct task *t, const char *exec_id)
{
	pthread_mutex_lock(&t->lock);
	struct process *p = process_find(t, exec_id);
	if (p) {
		list_remove(&p->node);
		p->reported = true;
	}
	pthread_mutex_unlock(&t->lock);
	if (p)
		process_unref(p);
}

void process_drop_all(struct task *t)
{
	for (;;) {
		pthread_mutex_lock(&t->lock);
		struct process *p = NULL;
		if (!list_is_empty(&t->processes)) {
			p = LIST_ENTRY(t->processes.next, struct process, node);
			list_remove(&p->node);
			p->reported = true;
		}
		pthread_mutex_unlock(&t->lock);
		if (!p)
			return;
		process_unref(p);
	}
}

void process_report_lost(struct task *t)
{
	/* Taken off the list one by one, so that the lock is free while each is reported. */
	for (;;) {
		struct process *next = NULL;

		pthread_mutex_lock(&t->lock);
		LIST_FOREACH (p, &t->processes, struct process, node) {
			if (p->reported)
				continue;
			if (!next || next->exec_id[0] == '\0')
				next = p;
		}
		if (next)
			next->refs++;
		struct task_exit x = t->lost_exit;
		pthread_mutex_unlock(&t->lock);
		if (!next)
			return;
		x.exec_id = next->exec_id;
		x.lost = true;
		if (next->exec_id[0] != '\0')
			x.status = 128 + SIGKILL;
		report(next, &x);
		process_unref(next);
	}
}
