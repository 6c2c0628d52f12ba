#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of engine/ share.
 *
 * Two locks, never nested the other way round:
 *	a container's operation lock (`busy`, taken by container_acquire or container_lock): held
 *for a whole operation, over I/O; who holds it may read everything of the container; e->lock, a
 *mutex for the tables and for all fields of containers and execs: never held over I/O. A field is
 *written only under both (or under e->lock where "e->lock" is noted).
 *
 * Containers and execs are reference-counted; a container that has been removed is `gone`, and
 *lives until the last operation on it notices.
 */

#include "base/list.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "engine/state.h"
#include "store/containers.h"
#include "task/task.h"

#include <pthread.h>
#include <stdatomic.h>

#define EXECS_KEPT 64 /* ended ones, a container */
#define PENDING_ATTACH_MAX 64

struct event_hub;
struct engine_features;
struct health;

struct engine {
	struct engine_config config; /* strings and arrays are owned */
	struct tasks *tasks;
	struct event_hub *events;
	char *boot_id;
	bool cgroup_v2;
	struct strv runtime_names;

	pthread_mutex_t lock;
	struct map containers;		  /* "ns/id" */
	struct map names;		  /* "ns/name", also of ones being created */
	struct map execs;		  /* id */
	struct map volumes_busy;	  /* "ns/name" of those being made or removed */
	struct map sandboxes;		  /* "ns/id" */
	struct engine_features *features; /* probed; NULL: not yet */
	pthread_cond_t volumes_changed;
	struct list waits;
	uint64_t wait_serial;
	uint64_t versions; /* of containers, so far */
	unsigned recovering; /* policies wait while it is not 0 */
	pthread_cond_t recovered;
	bool closing;
};

/* A client that attached before the start. */
struct pending_attach {
	struct list node;
	struct attach_request request;
	int fd;
};

struct container {
	struct engine *e;
	atomic_uint refs;
	char *ns;
	char id[65];
	char *dir;     /* <root>/containers/<id> */
	char *run_dir; /* <state>/containers/<ns>/<id> */

	bool busy;		/* e->lock */
	pthread_cond_t changed; /* e->lock: busy, exited, status */
	bool gone;

	char *name;
	struct container_config config;
	char *extension; /* the front end's document, as text: a tree of it takes ten times as much
			  */
	int64_t created_at;
	char *snapshotter;
	struct container_shared *shared; /* e->lock: see brief.c */
	struct run_state s;
	struct task *task;
	char *process; /* JSON of the running spec's process, for execs; NULL: see the bundle */
	uint64_t version; /* e->lock: changes with what lists show */
	bool holds_volumes;   /* e->lock: from before its start until its run is cleared up */
	bool exited;	      /* e->lock: this run's init has ended, container_finish() is due */
	unsigned exit_status; /* e->lock */
	int64_t exited_at;    /* e->lock */
	struct list execs;
	struct list attaches;
	unsigned announced;	  /* e->lock: clients on their way to `attaches` */
	bool stopping;		  /* this run has been sent its stop signal (pods) */
	bool keep;		  /* being restarted by a user: no auto-removal */
	struct loop_timer *timer; /* loop: a restart or another look for the shim */
	uint64_t timer_serial;	  /* e->lock: counts what has been started and cancelled */
	struct health *health;
	struct health_result health_results[HEALTH_RESULTS]; /* e->lock */
	size_t n_health_results;
};

struct exec {
	struct list node;
	atomic_uint refs;
	struct container *container; /* referenced */
	char id[65];
	struct exec_config config;
	bool hidden; /* a health check's: no events, not listed */
	bool started, running, ended;
	int pid, exit_code;
	bool once;		/* of engine_exec_run(): forgotten at its end */
	unsigned height, width; /* of the terminal, before the start */
	/* e->lock: of engine_exec_run(). */
	void (*on_exit)(int exit_code, void *arg);
	void *exit_arg;
	void (*on_end)(struct exec *x, void *arg); /* loop */
	void *arg;
};

/* engine.c */
struct container *container_new(struct engine *e, const char *ns, const char *id);
struct container *container_ref(struct container *c);
void container_unref(struct container *c);
void container_lock(struct container *c);
void container_unlock(struct container *c);
/* By id, name or prefix; referenced. */
struct container *container_find(struct engine *e, const char *ns, const char *id,
				 struct error *err);
/* Found and locked, and not gone. Release with container_release(). */
struct container *container_acquire(struct engine *e, const char *ns, const char *id,
				    struct error *err);
void container_release(struct container *c);
DEFINE_CLEANUP(struct container *, container_unref)
DEFINE_CLEANUP(struct container *, container_release)
/* Locked: FAILED_PRECONDITION unless it runs; a reference of its task. */
struct task *container_task(struct container *c, struct error *err);
void container_set_status(struct container *c, enum container_status s);
struct store_ctx container_store(const struct container *c);
char *table_key(const char *ns, const char *name);
/* "container" with image, name, labels and the pair given (NULL: none). */
void container_emit(struct container *c, const char *action, const char *key, const char *value);
/* e->lock is held: what lists show has changed. */
void container_note_change(struct container *c);
/* Writes state.json; logs on failure. */
void container_save(struct container *c);
/* Writes the record of kind "container.state"; logs on failure. */
void container_save_record(struct container *c);
/* Name, configuration, extension, as they are now. */
int container_record_write(struct container *c, bool create, struct error *err);
#define RECORD_ENGINE "io.kistl.engine"
#define RECORD_EXTENSION "io.kistl.frontend"
#define STATE_KIND "container.state"

/* start.c, exit.c, stop.c, remove.c: the container is locked. */
int container_start(struct container *c, struct error *err);
/* The steps of a start that follow the creation of its task: the second one tells of it. */
int container_run_task(struct container *c, struct task *t, int *ret_pid, int64_t *ret_started_at,
		       struct error *err);
void container_started(struct container *c, const struct json *spec, int pid, int64_t started_at);
/* After the end of init: clears up the run, applies the policies; may remove the container. No-op
 * when there is nothing to do. */
void container_finish(struct container *c);
/* e->lock is held too: the run has ended; EXITED, or RESTARTING if the policy says so. */
void container_note_end(struct container *c, int code, int64_t at);
/* Then: restarts it, removes it, or leaves it at that. */
void container_settle(struct container *c, bool booted);
int container_remove(struct container *c, bool volumes, struct error *err);
/* Kills and waits until container_finish() has been done; gives the lock up in between, so that the
 * container may be gone after it. */
int container_kill_wait(struct container *c, struct error *err);
/* As a user's command: resumes after it what is paused, emits the event. */
int container_signal(struct container *c, struct task *t, int signal, struct error *err);
/* Any thread. */
void container_cancel_timer(struct container *c);
void container_drop_attaches(struct container *c);
/* When it fires: restarts a container that is RESTARTING, looks for the shim of one that runs. */
void container_start_timer(struct container *c, uint64_t ms);
const struct runtime_entry *engine_runtime(struct engine *e, const char *name, struct error *err);

/* exit.c: what the shim manager reports. */
void engine_on_exit(struct task *t, const struct task_exit *x, void *arg);

/* attach.c */
/* Not locked: until all announced clients have arrived. */
void container_await_announced(struct container *c);
int container_attach_pending(struct container *c, struct task *t, struct error *err);
int attach_request_fill(const struct attach_options *o, const char *default_keys, bool tty,
			struct attach_request *ret, struct error *err);
/* Of the container's own output; NULL with err. */
char *container_log_uri(const struct container *c, struct error *err);
/* Without a log. */
char *stdio_uri(bool open_stdin, bool once);

/* exec.c */
struct exec *exec_new(struct container *c, struct exec_config *config);
void exec_unref(struct exec *x);
struct exec *exec_find(struct engine *e, const char *id, struct error *err);
/* May one be started in it now? */
int exec_admit(struct container *c, const struct exec_config *config, struct error *err);
int exec_start(struct exec *x, const struct attach_options *o, int client_fd, struct error *err);
void exec_ended(struct container *c, const char *exec_id, unsigned status); /* loop */
void container_drop_execs(struct container *c);
/* Still running: forgets them, since their container has ended. */
void container_end_execs(struct container *c);
/* A hidden one that is done with. */
void exec_forget(struct exec *x);
/* Those of an earlier daemon; the task is set. */
void execs_load(struct container *c);

/* exec-run.c */
/* Its end is known: tells it once. */
void exec_tell_exit(struct exec *x);

/* wait.c: e->lock is held. */
void waits_fire(struct container *c, bool removed);
void waits_free(struct engine *e);

/* health.c */
/* fresh: a new run; else one that a former daemon has watched. */
void health_start(struct container *c, bool fresh);
void health_stop(struct container *c);
/* e->lock is held, or no one else has the container. */
void health_forget(struct container *c);

/* volumes.c */
/* Names anonymous volumes, adds those of other containers, checks; makes nothing. */
int volumes_prepare_create(struct engine *e, const char *ns, struct container_config *config,
			   struct error *err);
int volumes_make(struct container *c, struct error *err);
/* Anonymous volumes of a container that is going. */
void volumes_remove_anonymous(struct container *c);
struct mount_specs {
	struct mount_spec *v;
	size_t n;
};
void mount_specs_done(struct mount_specs *m);
/* A copy of src; lives until the next one is added. */
struct mount_spec *mount_specs_add(struct mount_specs *m, const struct mount_spec *src);
/* By depth of the target; stable. */
void mount_specs_sort(struct mount_specs *m);
/* Host paths for all mounts, made and filled where they are asked to be, sorted by depth. */
int volumes_resolve(struct container *c, int rootfs_fd, struct mount_specs *ret, struct error *err);
char *volume_path(struct engine *e, const char *ns, const char *name);
void volume_emit(struct engine *e, const char *ns, const char *name, const char *action,
		 const char *key, const char *value);

/* network.c; the container is locked but for the first. */
/* Canonical names, the network of the mode first, what Docker refuses. */
int network_prepare_create(struct engine *e, const char *ns, struct container_config *config,
			   struct error *err);
/* All endpoints, in a new namespace. */
int container_join_networks(struct container *c, int netns, struct endpoints *ret,
			    struct error *err);
/* Off all networks; the events. */
void container_leave_networks(struct container *c);
void networks_emit(struct container *c, const struct endpoints *eps, const char *action);
/* New names after a rename. */
void container_rename_endpoints(struct container *c);

/* network-files.c: hostname, hosts and resolv.conf in c->dir, or those of the container whose
 * network it has. */
int container_write_files(struct container *c, const struct endpoints *eps, char **ret_hosts,
			  char **ret_resolv_conf, char **ret_hostname, struct error *err);
/* hosts and resolv.conf of a container whose endpoints have changed. */
int container_rewrite_files(struct container *c, struct error *err);
/* "ALIAS_PORT_80_TCP_ADDR=..." of links on the default network. */
int container_link_env(struct container *c, struct strv *ret, struct error *err);
/* It has started, with a new address: those that link to it get to know. */
void container_relink(struct container *c);

/* Host path of a volume's mount, its subpath and all; NULL when it is not there. */
char *volume_source(struct container *c, const struct mount_spec *m);
/* Volumes that are mounted themselves (volume-mount.h): before the run's shim starts, and when the
 * run has ended. */
int volumes_mount(struct container *c, struct error *err);
void volumes_unmount(struct container *c);
/* After the containers: what an earlier daemon left mounted. */
void volumes_recover(struct engine *e);
/* Have the subpaths been mounted that were checked? pid: of init, before it starts. */
int volumes_verify(const struct mount_specs *m, int pid, struct error *err);

/* files-changes.c: detached mounts. The container is locked. */
/* Its layers, read-only, while it may run. */
int files_view_root(struct container *c, struct error *err);
/* What it was made from. */
int files_image_root(struct container *c, struct error *err);
bool files_is_overlay(struct container *c);

/* brief.c */
struct container_shared;
/* e->lock is held: name, configuration or extension are other than they were. */
void container_config_changed(struct container *c);
/* Makes now what the first list would have to. */
void container_share(struct container *c);

/* view.c */
struct container_view *container_view_make(struct container *c); /* e->lock is held */

/* recover.c */
void container_reconnect(struct container *c);
int engine_recover(struct engine *e, struct error *err);

/* events.c */
struct event_hub *event_hub_new(struct loop *l);
void event_hub_free(struct event_hub *h);
void event_hub_emit(struct event_hub *h, const struct engine_event *event);
struct event_subscription *event_hub_subscribe(struct event_hub *h, int64_t since,
					       void (*fn)(const struct engine_event *event,
							  void *arg),
					       void *arg);
