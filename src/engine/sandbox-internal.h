#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a sandbox, internal to engine/. A sandbox has an operation lock like a container's
 * (`busy`), taken before any container's; fields are written under it and e->lock, read under
 * either. `shim_lock` is below containers' locks: it guards the making of a shim anew.
 *
 *	<state>/pods/			a mount of its own, shared: see sandbox-ns.c
 *	<state>/pods/<id>/{net,ipc,uts,user}	pins, binds of namespaces
 *	<state>/pods/<id>/{hostname,hosts,resolv.conf}
 */

#include "engine/internal.h"
#include "engine/sandbox.h"

#define SANDBOX_KIND "sandbox"

enum sandbox_ns { SANDBOX_NET, SANDBOX_IPC, SANDBOX_UTS, SANDBOX_USER, SANDBOX_NS_MAX };

struct sandbox {
	struct engine *e;
	atomic_uint refs;
	char *ns;
	char id[65];
	char *dir; /* <state>/pods/<id> */

	bool busy;		/* e->lock */
	pthread_cond_t changed; /* e->lock */
	bool gone;

	struct sandbox_config config;
	char *extension; /* text */
	int64_t created_at;
	enum sandbox_state state;
	bool making;   /* engine_sandbox_run() has not come to its end */
	bool attached; /* the network has to be released */
	bool let_go;   /* stopped, and nothing is left to be released */
	struct strv ips;
	char *cni_result; /* text */
	char *boot_id;
	int pid; /* the reaper's */

	pthread_mutex_t shim_lock;
	struct task *task; /* shim_lock; the pod's shim, NULL: none now */

	struct sandbox_view *view; /* e->lock: as handed out last; NULL: something has changed */
};

/* sandbox.c */
struct sandbox *sandbox_new(struct engine *e, const char *ns, const char *id);
struct sandbox *sandbox_ref(struct sandbox *s);
void sandbox_unref(struct sandbox *s);
DEFINE_CLEANUP(struct sandbox *, sandbox_unref)
/* Referenced; NULL: NOT_FOUND. One that is being made is not found. */
struct sandbox *sandbox_find(struct engine *e, const char *ns, const char *id, struct error *err);
void sandbox_lock(struct sandbox *s);
/* Unlocks and gives the reference back. */
void sandbox_release(struct sandbox *s);
DEFINE_CLEANUP(struct sandbox *, sandbox_release)
/* Writes the record; what changed can be seen from then on. */
int sandbox_save(struct sandbox *s, struct error *err);
void sandbox_emit(struct sandbox *s, const char *action);
bool sandbox_is_ready(struct sandbox *s);
/* READY to NOTREADY, with event and record; no-op when it is. */
void sandbox_note_lost(struct sandbox *s);
/* Into the tables. */
void sandbox_publish(struct sandbox *s);
void sandboxes_free(struct engine *e);

/* sandbox-ops.c; locked. */
int sandbox_stop(struct sandbox *s, struct error *err);
int sandbox_remove(struct sandbox *s, struct error *err);

/* sandbox-ns.c */
int sandbox_ns_make(struct sandbox *s, struct error *err);
/* The sysctls of the configuration and the defaults; after the network has been made. */
int sandbox_ns_apply(struct sandbox *s, struct error *err);
/* Pins go; idempotent. The directory stays. */
int sandbox_ns_release(struct sandbox *s, struct error *err);
/* NULL when the sandbox has no such namespace of its own, or it is gone; malloc'ed. */
char *sandbox_ns_path(const struct sandbox *s, enum sandbox_ns which);
/* -1 without an error when there is none. */
int sandbox_ns_open(const struct sandbox *s, enum sandbox_ns which);
/* A user namespace like those of pods, to try things with: a descriptor. */
int sandbox_ns_probe_userns(struct engine *e, struct error *err);
/* What no sandbox of the table owns, and the mount itself when it is of no use. */
void sandbox_ns_sweep(struct engine *e);

/* sandbox-files.c */
int sandbox_files_write(struct sandbox *s, struct error *err);

/* sandbox-net.c */
int sandbox_net_attach(struct sandbox *s, struct error *err);
int sandbox_net_detach(struct sandbox *s, struct error *err);

/* sandbox-shim.c */
/* Starts the pod's shim, without waiting for it. */
int sandbox_shim_start(struct sandbox *s, struct error *err);
/* The pod's task, referenced; a dead shim is replaced, unless a reaper died with it. */
struct task *sandbox_shim(struct sandbox *s, struct error *err);
/* Ends reaper and shim. */
void sandbox_shim_end(struct sandbox *s);
/* Runs the reaper, if the pod shares its PID namespace. */
int sandbox_reaper_start(struct sandbox *s, struct error *err);
char *sandbox_cgroup(const struct sandbox *s, const char *id);
/* Of what its containers share, with SELinux; NULL: none. malloc'ed. */
char *sandbox_mount_label(const struct sandbox *s);
/* The reaper may have ended. */
void sandbox_on_exit(struct sandbox *s);

/* sandbox-cgroup.c */
void sandbox_marker_make(const struct sandbox *s);
void sandbox_marker_remove(const struct sandbox *s);

/* sandbox-recover.c */
int sandboxes_load(struct engine *e, struct error *err);
/* A job: what is left of it. */
void sandbox_recover(struct sandbox *s, bool has_bundle);

/* pod.c: containers of sandboxes; the container is locked. */
static inline bool container_in_pod(const struct container *c)
{
	return !str_empty(c->config.sandbox_id);
}
/* Before anything is made: checks, and what the sandbox decides. */
int pod_prepare_create(struct engine *e, const char *ns, struct container_config *config,
		       struct error *err);
/* After everything is made: would it start? */
int pod_check_create(struct container *c, struct error *err);
/* e->lock is held: its sandbox is there, and READY. */
bool pod_takes(const struct container *c);
int pod_start(struct container *c, struct error *err);
/* Image volumes. */
void pod_remove_volumes(struct container *c);
/* Labels for the container's record, by which the collector spares them. */
void pod_hold_volumes(const struct container *c, struct kvs *labels);
