#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers and their processes: what the Task service acts on. Everything on the loop thread.
 *
 * A container has a first process (init) and any number of execs. What changes a container goes
 * through its operation queue, one at a time; an exec's start runs beside it. A process's exit is
 * told (event, waiters) once, after its output has been taken, after its start has been told, and
 * an init's after those of its execs. The status is kept until Delete.
 */

#include "base/list.h"
#include "base/map.h"
#include "containerd.task.v3.pb-c.h"
#include "rpc/ttrpc-server.h"
#include "shim/cgroup.h"
#include "shim/runtime.h"
#include "shim/streams.h"

enum process_state { PROCESS_CREATED, PROCESS_RUNNING, PROCESS_STOPPED, PROCESS_STATE_MAX };

struct container;

struct process {
	struct container *container;
	char *exec_id;	  /* NULL: init */
	struct list node; /* execs */
	enum process_state state;
	bool busy;     /* being started or removed */
	bool starting; /* its exit, should it come, waits for the start to be told */
	bool ended;    /* exit known */
	bool told;     /* exit told */
	bool watched;  /* by the reaper */
	pid_t pid;
	int pidfd;
	uint32_t exit_status;
	int64_t exited_at;
	struct streams *io;
	char *in, *out, *err; /* as given */
	bool terminal;
	char *spec; /* exec: process.json */
	size_t spec_len;
	struct watch *console; /* the runtime is to send a pty */
	bool console_connected;
	int console_dir;    /* the bundle, while listening */
	int console_master; /* -1 until it came */
	struct list waiters;
};

struct operation {
	struct list node;
	struct container *container;
	struct process *process;
	void (*run)(struct operation *op);
	struct ttrpc_call *call;
	const void *request; /* in the call's arena */
	const char *verb;
	char *log;	      /* the runtime's, when it is not the container's */
	bool blocked;	      /* waits for the execs that are being started */
	struct error failure; /* to be told after the undoing */
};

struct container {
	char *id, *bundle;
	struct runtime runtime;
	struct process init;
	struct list execs;
	bool paused;
	bool created; /* the runtime knows it */
	bool removed; /* Delete has gone through */
	struct list operations;
	struct operation *current;
	struct cgroup *cgroup;
	struct watch *oom;
	uint64_t oom_kills; /* told so far */
	struct loop_timer *exec_grace;
};

struct shim {
	struct loop *loop;
	const char *ns, *id, *address;
	struct map containers;
	struct ttrpc_server *server;
	bool leaving;
	bool has_mounts; /* those of its own bundle: a pod's */
	const char *pods;
};

extern struct shim shim;

/* container.c */
struct container *container_new(const char *id, const char *bundle);
void container_free(struct container *c);
/* NOT_FOUND. */
struct container *container_find(const char *id, struct error *err);
struct process *container_process(struct container *c, const char *exec_id, struct error *err);
struct process *exec_new(struct container *c, const char *exec_id);
void exec_free(struct process *p);
const char *process_id(const struct process *p);

/* Queue an operation for the container; run is called when its turn comes. */
void operation_queue(struct container *c, struct process *p, void (*run)(struct operation *op),
		     struct ttrpc_call *call, const void *request, const char *verb);
/* Not in the queue: at once. */
void operation_start(struct container *c, struct process *p, void (*run)(struct operation *op),
		     struct ttrpc_call *call, const void *request, const char *verb);
/* Ends it with a reply or, when err is set, a failure; the next one starts. */
void operation_reply(struct operation *op, const ProtobufCMessage *reply);
void operation_fail(struct operation *op, const struct error *err);
/* Runs the container's runtime for it; fails the operation itself when it cannot be started. */
void operation_runtime(struct operation *op, const struct strv *args,
		       void (*done)(const struct error *err, void *op));

/* process.c */
/* The pid is known from now on; its end will be noticed. */
int process_started(struct process *p, const char *pid_file, struct error *err);
/* The start has been told (or never will be): an exit may be told. */
void process_settle(struct process *p);
void process_add_waiter(struct process *p, struct ttrpc_call *call);
int process_kill(struct process *p, int signal, struct error *err);
void process_check_oom(struct container *c);
void process_watch_oom(struct container *c);
void process_done(struct process *p);
void timestamp_set(Google__Protobuf__Timestamp *t, int64_t ns);

/* console.c */
/* A socket in the bundle to which the runtime sends a pty; *ret_path for its command line. */
int console_listen(struct process *p, char **ret_path, struct error *err);
/* The master that has come, if any; the socket is gone afterwards. */
int console_take(struct process *p);

/* lifecycle.c, exec.c, control.c: operations */
void create_run(struct operation *op);
void start_run(struct operation *op);
void delete_run(struct operation *op);
void exec_start_run(struct operation *op);
void simple_run(struct operation *op); /* pause, resume, kill --all, update, checkpoint */

/* task.c */
extern const struct ttrpc_service task_v2, task_v3;

/* control.c */
void control_accept(int fd, void *arg);

/* serve.c */
/* No container is left: leave as soon as all has been delivered. */
void shim_leave(void);
/* There is no container (any more). If that is so for a while and nobody is connected, whoever
 * started this shim has died: it leaves by itself. */
void shim_is_idle(void);
