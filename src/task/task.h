#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim manager: one shim process per task (or per pod), its bundle directory, and the client's
 *side of the shim protocol (containerd-api.md 3). It knows nothing of policies; the engine owns
 *those.
 *
 *	<state>/io.containerd.runtime.v2.task/<ns>/<id>/	bundle
 *	<root>/io.containerd.runtime.v2.task/<ns>/<id>/		its work directory
 *	<state>/s/<sha256 of "address/ns/id">			the shim's socket
 *
 * Calls block and run on pool threads, never on the loop; each has a deadline. Tasks are
 * reference-counted. Codes that callers may branch on: NOT_FOUND (no such process, or it has
 * ended), UNAVAILABLE (the shim is gone), DEADLINE_EXCEEDED, and what the shim says.
 */

#include "base/arena.h"
#include "base/json.h"
#include "base/mount.h"
#include "loop/job.h"
#include "rpc/attach-proto.h"

struct tasks;
struct task;

/* containerd.v1.types.Status's numbers. */
enum task_status {
	TASK_UNKNOWN,
	TASK_CREATED,
	TASK_RUNNING,
	TASK_STOPPED,
	TASK_PAUSED,
	TASK_PAUSING,
};

struct task_exit {
	const char *exec_id; /* "" for the init process */
	int pid;	     /* 0 unknown */
	unsigned status;     /* 128 + n when killed by a signal */
	int64_t exited_at;   /* ns */
	bool lost;	     /* made up, since the shim has died */
};

struct tasks_config {
	struct loop *loop;
	struct jobs *jobs;
	const char *root, *state;
	const char *shim;    /* path of kistl-shim */
	const char *address; /* the daemon's socket */
	/* Loop thread: a process has ended; once for each that was started. x lives for the call.
	 */
	void (*on_exit)(struct task *t, const struct task_exit *x, void *arg);
	void *arg;
};

int tasks_new(const struct tasks_config *config, struct tasks **ret, struct error *err);
/* Loop thread, outside loop_run(), when no call is under way any more and the callers have given
 * their references back. The shims live on. */
void tasks_free(struct tasks *m);

struct task *task_ref(struct task *t);
void task_unref(struct task *t);
const char *task_id(const struct task *t);
const char *task_ns(const struct task *t);
const char *task_bundle(const struct task *t);
DEFINE_CLEANUP(struct task *, task_unref)

/* A start is likely to come soon: what the runtime is going to wait for in the kernel begins. Never
 * blocks. */
void tasks_warm(struct tasks *m);
/* Makes the bundle and starts its shim without waiting for it: the socket listens already, so other
 * preparation goes on meanwhile. runtime: the binary that task_create() is going to name.
 * ALREADY_EXISTS when there is a bundle of this id. */
int task_prepare(struct tasks *m, const char *ns, const char *id, const char *runtime,
		 struct task **ret, struct error *err);

/* Of a pod: its bundle, named like its sandbox, and a shim that the pod's containers share. Whether
 * task_create() is called for it, with a reaper for the pod's PID namespace, is the caller's
 * matter. mounts: what all of its containers may bind from task_mount_path() (may be NULL). The
 * shim lives until task_destroy(), which comes after that of the pod's containers. */
int task_prepare_pod(struct tasks *m, const char *ns, const char *id, const char *runtime,
		     const struct mounts *mounts, struct task **ret, struct error *err);
/* A container's bundle in a pod's shim. UNAVAILABLE: that shim is dead. */
int task_prepare_in(struct task *pod, const char *id, struct task **ret, struct error *err);
/* False once its shim is known to be dead. */
bool task_is_alive(struct task *t);
/* Option of a bind in these lists: the source is this path in the given source, resolved as if that
 * were the root directory. */
#define TASK_MOUNT_BENEATH "X-kistl.beneath="
/* Where a mount of `target` in the lists of mounts is found; malloc'ed. */
char *task_mount_path(const struct task *t, const char *target);

struct task_create {
	struct json *spec; /* annotations for the runtime are added */
	/* Further ones that the specification binds from task_mount_path(); targets are plain
	 * names. NULL: none. */
	const struct mounts *mounts;
	const struct mounts *rootfs;
	bool terminal;
	const char *stdin_uri, *stdout_uri, *stderr_uri; /* NULL: /dev/null */
	const char *runtime;				 /* binary of the OCI runtime */
	bool systemd_cgroup;
};

int task_create(struct task *t, const struct task_create *r, int *ret_pid, struct error *err);
/* exec_id "" is the init process, here and below. */
int task_start(struct task *t, const char *exec_id, int *ret_pid, struct error *err);
int task_exec(struct task *t, const char *exec_id, const struct json *process, bool terminal,
	      const char *stdin_uri, const char *stdout_uri, const char *stderr_uri,
	      struct error *err);
/* The log has been moved away: a new one is there when this returns. */
int task_reopen_log(struct task *t, struct error *err);
/* Hands a client's stream to the shim; client_fd stays the caller's to close. r->id is filled in.
 */
int task_attach(struct task *t, const struct attach_request *r, int client_fd, struct error *err);
int task_kill(struct task *t, const char *exec_id, int signal, bool all, struct error *err);
/* Forgets an ended process; ret may be NULL. */
int task_delete(struct task *t, const char *exec_id, struct task_exit *ret, struct error *err);
int task_resize(struct task *t, const char *exec_id, unsigned width, unsigned height,
		struct error *err);
int task_close_stdin(struct task *t, const char *exec_id, struct error *err);
int task_pause(struct task *t, struct error *err);
int task_resume(struct task *t, struct error *err);
/* CRIU's images of all its processes, which go on, in a directory that is there and empty. */
int task_checkpoint(struct task *t, const char *path, bool tty, unsigned timeout_ms,
		    struct error *err);
/* resources: LinuxResources of the runtime spec. */
int task_update(struct task *t, const struct json *resources, struct error *err);

struct task_state {
	enum task_status status;
	int pid;
	unsigned exit_status;
	int64_t exited_at; /* ns, 0: not */
};

int task_state(struct task *t, const char *exec_id, struct task_state *ret, struct error *err);

struct task_pids {
	int *v;
	size_t n;
};

void task_pids_done(struct task_pids *p);
int task_pids(struct task *t, struct task_pids *ret, struct error *err);

/* name is static. */
struct memory_detail {
	const char *name;
	uint64_t value;
};

#define MEMORY_DETAILS_MAX 48

struct task_stats {
	uint64_t cpu_total, cpu_user, cpu_system; /* ns */
	uint64_t throttling_periods, throttled_periods, throttled_time;
	uint64_t memory_usage, memory_max, memory_limit, memory_inactive_file, memory_cache,
		memory_rss;
	uint64_t pids, pids_limit;
	uint64_t io_read, io_write; /* bytes */
	uint64_t oom_kills;
	/* What v2's memory.stat has, with its names. */
	struct memory_detail memory_detail[MEMORY_DETAILS_MAX];
	size_t n_memory_detail;
};

int task_stats(struct task *t, struct task_stats *ret, struct error *err);
/* As the shim tells them, in the arena: io.containerd.cgroups.v1.Metrics or .v2.Metrics. */
struct Google__Protobuf__Any;
int task_metrics(struct task *t, struct arena *a, struct Google__Protobuf__Any **ret,
		 struct error *err);

/* Ends it all, whatever stage it is in: kills what runs, deletes, shuts the shim down (or cleans up
 * after a dead one), removes the bundle. Always succeeds in the end; idempotent; no exit is
 * reported any more from when it is called. The reference stays. */
void task_destroy(struct task *t);

/* The bundles that are there, as "ns/id", after a restart; half-removed ones are finished off. */
int tasks_scan(struct tasks *m, struct strv *ret, struct error *err);
/* Connects to a scanned bundle's shim. NOT_FOUND: it is dead or was never complete; everything of
 * it has been cleaned up, and *ret_state has the exit status that could be learned (TASK_UNKNOWN:
 * none). Any other error may pass: the bundle stays, try again. err must not be NULL. Exits are
 * reported of those processes that task_watch() is called for, also if they have ended already. */
int task_load(struct tasks *m, const char *ns, const char *id, struct task **ret,
	      struct task_state *ret_state, struct error *err);
/* The same of a pod: *ret_state is TASK_UNKNOWN when it has no reaper. NOT_FOUND: as above. */
int task_load_pod(struct tasks *m, const char *ns, const char *id, struct task **ret,
		  struct task_state *ret_state, struct error *err);
void task_watch(struct task *t, const char *exec_id);
