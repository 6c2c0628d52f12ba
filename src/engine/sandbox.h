#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes (pods): namespaces, network, files and a shim that containers share. There is no pause
 * image: the namespaces are pinned by bind mounts below <state>/pods/<id>, so they need no process;
 * only a pod whose containers share a PID namespace has one, a reaper (kistl-pause) that is run
 * without an image. All containers of a sandbox live in one shim, which is started with it.
 *
 * A sandbox is READY from when engine_sandbox_run() has returned until it is stopped or what holds
 * it is lost (a reboot, the end of its reaper), NOTREADY from then until it is removed. It never
 * comes back.
 *
 * Calls block and run on pool threads unless marked "any thread, never blocks". `id` arguments take
 * a full id or a unique prefix. NOT_FOUND: "sandbox \"X\" not found". Front ends decide whether
 *that is a success (CRI's Stop and Remove).
 *
 * A container of a sandbox is made by engine_create() with container_config.sandbox_id set, and is
 * then handled by the same calls as any other, with these differences:
 *
 *	- network, IPC, UTS, user namespace, hostname, hosts, resolv.conf, /dev/shm, cgroup parent
 *	  and runtime come from its sandbox; what the configuration says of them is not looked at.
 *	  pid_mode: "" own, "pod", "host", "container:ID" (of the same sandbox);
 *	- engine_create() checks everything that can be checked without running it (user, groups,
 *	  profiles, devices, mounts) and fails FAILED_PRECONDITION when its sandbox is not READY;
 *	- its log is CRI's, at log_path;
 *	- config.annotations go into the OCI specification, so only what is allowed to belongs there
 *	  (the others are the front end's extension); sandbox-id and the like are added;
 *	- swap: without memory_swap as much as memory, which is none;
 *	- it can be started once: a failed start leaves it EXITED with 128, start_failed set;
 *	- there are no restart policies, no auto-removal, no health checks;
 *	- engine_stop() on one that does not run is a success; calls may overlap, the shortest
 *	  time-out wins; the signal is sent once;
 *	- engine_remove(force) kills first; the log stays.
 */

#include "engine/engine.h"

#include <stdatomic.h>

enum sandbox_state { SANDBOX_READY, SANDBOX_NOTREADY };

/* CRI's numbers. */
enum pod_namespace { POD_NS_POD, POD_NS_CONTAINER, POD_NS_NODE, POD_NS_TARGET };

struct sandbox_config {
	char *name, *namespace_, *uid; /* the pod's metadata */
	int64_t attempt;

	char *hostname;	     /* empty: the node's; not looked at on the host's network */
	char *log_directory; /* absolute, or empty: containers have no logs */
	bool dns_given;	     /* false: the host's resolv.conf; true: exactly these, even if empty */
	struct strv dns_servers, dns_searches, dns_options;
	struct {
		struct port_spec *v; /* protocol in lower case */
		size_t n;
	} ports;
	struct kvs labels, annotations;
	struct kvs sysctls;
	char *cgroup_parent; /* "/kubepods/burstable/podX", "/a.slice/a-b.slice"; empty: default */
	char *runtime;	     /* handler; empty: default */

	int network, ipc, pid; /* enum pod_namespace */
	bool userns;	       /* a user namespace of its own, with: */
	struct id_mappings uid_mappings, gid_mappings;

	bool privileged;
	struct selinux_label selinux;
	/* For the reaper, if there is one: as in container_config.security_opt. */
	struct strv security_opt;
};

void sandbox_config_done(struct sandbox_config *c);
void sandbox_config_copy(struct sandbox_config *dst, const struct sandbox_config *src);
bool sandbox_config_equal(const struct sandbox_config *a, const struct sandbox_config *b);
struct json *sandbox_config_to_json(const struct sandbox_config *c);
int sandbox_config_from_json(const struct json *j, struct sandbox_config *ret, struct error *err);
/* Everything that can be said wrong without looking at the host. INVALID_ARGUMENT, names the field
 * as CRI does ("linux.security_context.namespace_options.userns_options: ..."). */
int sandbox_config_validate(const struct sandbox_config *c, struct error *err);

/* Immutable and counted: the same one is handed out until something changes. */
struct sandbox_view {
	atomic_uint refs;
	char *ns, *id;
	struct sandbox_config config;
	enum sandbox_state state;
	int64_t created_at; /* ns */
	struct strv ips;    /* first is the primary; empty on the host's network */
	char *netns_path;   /* empty on the host's network, and when it is gone */
	char *ipcns_path, *utsns_path, *userns_path; /* empty: the host's */
	int pid;				     /* the reaper's, or 0 */
	char *dir;				     /* hostname, hosts, resolv.conf */
	char *cgroup;  /* path below the cgroup mount that its containers' groups are made in, by
			* cgroupfs; the slice's name by systemd */
	char *runtime; /* the handler in effect */
	struct json *cni_result; /* NULL: none; read only */
	struct json *extension;	 /* of the front end; read only, NULL: none */
};

struct sandbox_views {
	struct sandbox_view **v; /* references */
	size_t n;
};

struct sandbox_view *sandbox_view_ref(struct sandbox_view *v);
void sandbox_view_unref(struct sandbox_view *v);
DEFINE_CLEANUP(struct sandbox_view *, sandbox_view_unref)
void sandbox_views_done(struct sandbox_views *v);

/* Takes over config's contents and extension on success. On failure nothing is left, or, when the
 * network could not be released, a NOTREADY sandbox whose stop tries again (its id is in the
 * error's text). INVALID_ARGUMENT, UNAVAILABLE (no network configuration), and what plugins say. */
int engine_sandbox_run(struct engine *e, const char *ns, struct sandbox_config *config,
		       struct json *extension, char ret_id[65], struct error *err);
/* Kills its containers, releases the network, lets go of namespaces and shim. Success when all of
 * that is done already; what failed is tried again by the next call. */
int engine_sandbox_stop(struct engine *e, const char *ns, const char *id, struct error *err);
/* Stops it, removes its containers and itself. */
int engine_sandbox_remove(struct engine *e, const char *ns, const char *id, struct error *err);

/* Any thread, never block, from memory. *ret is a reference. */
int engine_sandbox_get(struct engine *e, const char *ns, const char *id, struct sandbox_view **ret,
		       struct error *err);
/* Newest first. */
void engine_sandbox_list(struct engine *e, const char *ns, struct sandbox_views *ret);

/* A descriptor of the network namespace (the host's when it has none of its own).
 * FAILED_PRECONDITION when the sandbox is not READY. */
int engine_sandbox_open_netns(struct engine *e, const char *ns, const char *id, struct error *err);

/*
 * Containers for lists: what changes is copied, what does not is shared and counted. A thousand
 * take well below a millisecond. For a status use engine_inspect().
 */
struct container_shared {
	atomic_uint refs;
	char *ns, *id, *name;
	struct container_config config;
	int64_t created_at;
	struct json *extension; /* read only */
};

struct container_brief {
	struct container_shared *shared; /* a reference */
	enum container_status status;
	int pid, exit_code;
	bool oom_killed, start_failed;
	int64_t started_at, finished_at;
};

struct container_briefs {
	struct container_brief *v;
	size_t n;
};

void container_briefs_done(struct container_briefs *b);
/* Any thread, never block. sandbox_id: a full id, or NULL for all containers of the namespace.
 * Newest first. */
void engine_briefs(struct engine *e, const char *ns, const char *sandbox_id,
		   struct container_briefs *ret);
/* One; NOT_FOUND. */
int engine_brief(struct engine *e, const char *ns, const char *id, struct container_briefs *ret,
		 struct error *err);

/* The log has been moved away: it is opened again at its path; it exists when this returns, no line
 * is lost or split. FAILED_PRECONDITION unless the container runs. */
int engine_reopen_log(struct engine *e, const char *ns, const char *id, struct error *err);

/*
 * Events (engine/events.h) that a front end makes CRI's of:
 *	type "sandbox",   action "create", "start" (READY), "stop" (NOTREADY), "destroy"
 *	type "container", action "create", "start", "oom", "die", "destroy", "update"; those of
 *		sandboxes have the attribute "sandboxID"
 * They are emitted after the state that they tell of can be seen.
 */

/* What this host can do; probed once, at the first call, for real. Blocks. */
struct engine_features {
	bool recursive_read_only; /* mount_setattr(AT_RECURSIVE) and the runtime's "rro" */
	bool user_namespaces;	  /* ID-mapped overlay mounts on the state and root directories */
	bool cgroup_v2;
	bool systemd_cgroup; /* the driver in use */
	bool apparmor, selinux, seccomp;
};
void engine_features(struct engine *e, struct engine_features *ret);
