#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tasks that clients of containerd's API have made, and who waits for them. What runs is known
 * to the shims (task/task.h); this has what they do not tell: the streams that a client named, and
 * its outstanding Waits. Any thread unless marked.
 */

#include "base/json.h"
#include "base/list.h"
#include "base/mount.h"
#include "rpc/grpc.h"
#include "task/task.h"

#include <stdatomic.h>

struct task_table;

struct task_streams {
	char *in, *out, *err;
	bool terminal;
};

void task_streams_done(struct task_streams *s);

/* A task of the table; counted. */
struct api_task {
	struct task_table *table;
	atomic_uint refs;
	struct task *task;
	struct list processes; /* of struct api_process; the table's lock */
};

void api_task_unref(struct api_task *t);
DEFINE_CLEANUP(struct api_task *, api_task_unref)

struct task_table_config {
	struct loop *loop;
	struct jobs *jobs;
	struct store *store;
	const char *root, *state, *shim, *address;
	/* A task's first process has ended while no daemon was there. */
	void (*on_missed)(struct task *t, const struct task_state *state, void *arg);
	void *arg;
};

struct task_table *task_table_new(const struct task_table_config *config, struct error *err);
/* Takes over the tasks that an earlier daemon left. Pool thread. */
int task_table_recover(struct task_table *t, struct error *err);
/* Loop thread, outside loop_run(). The tasks live on. */
void task_table_free(struct task_table *t);

struct tasks *task_table_tasks(struct task_table *t);
/* NOT_FOUND, in the words that clients look for. */
struct api_task *task_table_find(struct task_table *t, const char *ns, const char *id,
				 struct error *err);
/* References; the caller's to release with free(). */
struct api_task **task_table_list(struct task_table *t, const char *ns, size_t *ret_n);
/* ALREADY_EXISTS. Takes the task over, and copies. */
int task_table_add(struct task_table *t, struct task *task, const struct task_streams *streams,
		   struct error *err);
/* Off the table; waits that are left are told NOT_FOUND. */
void task_table_remove(struct api_task *t);

/* exec_id "": the first process. ALREADY_EXISTS. */
int api_task_add_process(struct api_task *t, const char *exec_id,
			 const struct task_streams *streams, struct error *err);
void api_task_remove_process(struct api_task *t, const char *exec_id);
/* Copies; false when there is none. */
bool api_task_streams(struct api_task *t, const char *exec_id, struct task_streams *ret);
/* Answers the call, whose reply has an exit status and time, when the process has ended. */
int api_task_wait(struct api_task *t, const char *exec_id, struct grpc_call *c, struct error *err);
