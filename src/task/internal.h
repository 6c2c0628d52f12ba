#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of task/ share. task->lock guards what is marked; it is never held over I/O.
 */

#include "base/list.h"
#include "oci/digest.h"
#include "rpc/ttrpc-client.h"
#include "task/task.h"

#include <pthread.h>
#include <stdatomic.h>

/* Below state: where OCI runtimes keep theirs, in a directory for each namespace. */
#define RUNTIME_DIR "runtime"

/* Below state and root, as containerd names it. */
#define TASK_DIR "io.containerd.runtime.v2.task"

#define SHIM_CALL_MS 10000    /* State, Kill, Pids ... */
#define SHIM_CREATE_MS 120000 /* runs the OCI runtime */
#define SHIM_LOAD_MS 5000
#define SHIM_SHUTDOWN_MS 3000
#define SHIM_CLEANUP_MS 10000

struct tasks {
	struct tasks_config config; /* strings are owned */
	pthread_mutex_t lock;
	struct list tasks;   /* of struct task: weak */
	struct list sealed;  /* locked: sealed.c's */
	struct list filters; /* locked: filter.c's */
	struct list reapers; /* loop */
};

struct process {
	struct list node; /* in the task's list */
	atomic_uint refs;
	struct task *task; /* referenced */
	char *exec_id;
	int pid;       /* locked */
	bool reported; /* locked: on_exit has been called or will never be */
};

struct task {
	struct tasks *m;
	atomic_uint refs;
	struct list node;
	char *ns, *id;
	char *bundle, *work, *socket;
	char *group; /* the pod whose shim it lives in; NULL: one of its own */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Locked: */
	struct ttrpc_client *client;
	bool opening;		    /* a connection is on its way to the loop */
	bool registered;	    /* loop thread only: on_close holds a reference */
	bool deleted;		    /* Task.Delete of init has succeeded */
	bool silent;		    /* being destroyed: nothing is reported any more */
	bool cleaning, cleaned;	    /* the dead shim's remains are being, have been cleared away */
	struct task_exit lost_exit; /* what `shim delete` said */
	struct list processes;
	int shim_pid;
};

/* bundle.c: paths, making and removing. */
struct task *task_new(struct tasks *m, const char *ns, const char *id);
/* ret_listener NULL: in another's shim. mounts may be NULL. */
int bundle_make(struct task *t, const struct mounts *mounts, int *ret_listener, struct error *err);
int bundle_write_mounts(struct task *t, const struct mounts *mounts, struct error *err);
int bundle_write_spec(struct task *t, const struct json *spec, struct error *err);
void bundle_remove(struct task *t);
char *bundle_parent(const struct tasks *m);

/* shim.c: the process behind a task. */
int shim_start(struct task *t, int listener, const char *runtime, struct error *err);
/* `kistl-shim ... delete`: kills, unmounts, frees the cgroup of a task whose shim is gone. */
void shim_delete(struct task *t, struct task_exit *ret);
/* A shim that does not answer any more. */
void shim_kill(struct task *t);
/* Loop thread. */
void tasks_stop_reapers(struct tasks *m);

/* warm.c: the cgroup.procs file of the process whose /proc/self/cgroup this is; NULL: none known.
 * Sans-IO.
 */
char *warm_path(const char *membership);

/* sealed.c: a descriptor of a sealed copy of the runtime, of what file in *ret_path; -1: without.
 */
int sealed_open(struct tasks *m, const char *runtime, char **ret_path);
void sealed_free_all(struct tasks *m);

/* filter.c: false when the profile of this specification cannot be kept compiled. */
bool filter_key(const char *runtime, const struct json *spec, char ret[DIGEST_MAX]);
/* Adds the compiled filter to a specification; false when there is none yet. */
bool filter_use(struct tasks *m, const char *key, struct json *spec);
/* Keeps what the runtime has compiled for a task that has been created without. */
void filter_learn(struct task *t, const char *key);
void filters_free(struct tasks *m);

/* Connects on the loop; task_client() waits for it. */
void task_open(struct task *t, int fd);
/* Runs shim_delete() once, whoever comes first; the others wait. */
void task_clear_dead(struct task *t);
/* A reference, or NULL with UNAVAILABLE. */
struct ttrpc_client *task_client(struct task *t, struct error *err);
int task_call(struct task *t, const char *method, const ProtobufCMessage *request, int timeout_ms,
	      const ProtobufCMessageDescriptor *type, struct arena *arena, void *ret,
	      struct error *err);
/* Registers a process and keeps a Wait for it outstanding. */
void process_watch(struct task *t, const char *exec_id);
void process_set_pid(struct task *t, const char *exec_id, int pid);
void process_drop(struct task *t, const char *exec_id);
void process_drop_all(struct task *t);
/* After a reconnection. */
void process_watch_all(struct task *t);
/* Loop thread: the shim is gone, so each has ended; init last. */
void process_report_lost(struct task *t);
