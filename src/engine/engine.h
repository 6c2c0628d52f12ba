#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: container lifecycle for every API front end. It owns the table of containers (served
 * from memory, truth in the store, in <state> and in the shims), networks, volumes and events.
 *
 * Calls block and run on pool threads unless marked "any thread, never blocks". One operation lock
 * per container; the table's mutex is never held over I/O. `id` arguments take what a user may
 * write: full id, unique prefix or name; NOT_FOUND "No such container: X". Results are copies that
 * the caller releases. Codes: NOT_FOUND, ALREADY_EXISTS and ABORTED (conflict),
 * FAILED_PRECONDITION (wrong state), INVALID_ARGUMENT, and what lower layers say.
 */

#include "engine/config.h"
#include "engine/spec.h"
#include "image/service.h"
#include "loop/job.h"
#include "network/network.h"
#include "task/task.h"

struct engine;

struct runtime_entry {
	char *name;			       /* "crun" */
	char *path;			       /* binary, or a shim name "io.containerd..." later */
	const struct pod_network *pod_network; /* NULL: engine_config's */
};

/* How pods are connected (network/cni.h): functions, so that tests need no network. */
struct cni;
struct cni_request;
struct cni_result;
struct pod_network {
	struct cni *cni;
	int (*attach)(struct cni *c, const struct cni_request *r, struct cni_result *ret,
		      struct error *err);
	int (*detach)(struct cni *c, const struct cni_request *r, struct error *err);
	void (*result_done)(struct cni_result *r);
};

struct engine_config {
	struct loop *loop;
	struct jobs *jobs;
	struct store *store;
	struct image_service *images;
	struct network_service *network;
	const char *root, *state;
	const char *shim;    /* path of kistl-shim */
	const char *init;    /* path of kistl-init / tini, NULL: none */
	const char *address; /* the daemon's socket, for shims' events */
	const struct runtime_entry *runtimes;
	size_t n_runtimes;
	const char *default_runtime;
	const char *log_driver; /* NULL: json-file */
	struct kvs log_options;
	const struct strv *cdi_dirs; /* NULL or empty: the usual ones; borrowed */
	const struct strv *dns;	     /* for containers that name none; NULL: the host's; borrowed */
	/* Of pods (engine/sandbox.h): */
	const char *pause;    /* path of kistl-pause, NULL: beside the shim */
	bool systemd_cgroup;  /* the cgroup driver */
	int64_t pod_log_line; /* bytes of a log's line at most; 0: 16 KiB, -1: 1 MiB */
	/* NULL: pods have only the host's network. Borrowed, as those of runtimes. */
	const struct pod_network *pod_network;
};

/* Recovers: finds shims, reconciles states, finishes half-done removals, applies restart
 * policies. */
int engine_new(const struct engine_config *config, struct engine **ret, struct error *err);
/* Containers live on. */
void engine_free(struct engine *e);
struct store *engine_store(struct engine *e);
struct image_service *engine_images(struct engine *e);
struct network_service *engine_network(struct engine *e);
struct jobs *engine_jobs(struct engine *e);
struct loop *engine_loop(struct engine *e);
const struct engine_config *engine_get_config(struct engine *e);
/* True when nothing running needs the daemon (restart policies, health checks, auto-remove waits
 * count as need). Loop thread, never blocks. */
bool engine_idle(struct engine *e);

enum container_status {
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_PAUSED,
	CONTAINER_RESTARTING,
	CONTAINER_REMOVING,
	CONTAINER_EXITED,
	CONTAINER_DEAD,
	CONTAINER_STATUS_MAX
};
const char *container_status_name(enum container_status s); /* "created" ... Docker's words */

struct mount_view {
	char *type, *name, *source, *destination, *driver, *propagation;
	bool rw, anonymous;
};

/* One health check that ended; output is what the daemon has to say of it. */
struct health_result {
	int64_t start, end;
	int exit_code;
	char *output;
};

/* The last ones, oldest first. */
#define HEALTH_RESULTS 5

/* A snapshot of one container, for list and inspect. */
struct container_view {
	char *ns, *id, *name;
	struct container_config config;
	int64_t created_at, started_at, finished_at; /* ns, 0: never */
	enum container_status status;
	int pid;
	int exit_code;
	bool oom_killed;
	char *error;
	int64_t restart_count;
	char *health;		 /* "", "starting", "healthy", "unhealthy" */
	int64_t health_failures; /* in a row */
	struct health_result health_results[HEALTH_RESULTS];
	size_t n_health_results;
	struct endpoints endpoints; /* network/network.h; none while it does not run */
	char *log_path, *hosts_path, *resolv_conf_path, *hostname_path;
	char *snapshotter, *snapshot_key;
	struct {
		struct mount_view *v;
		size_t n;
	} mounts;
	struct strv exec_ids;
	bool start_failed; /* EXITED because it could not be started (pods only) */
	/* Whom the process ran as at first; -1: not known yet (pods: from create on). */
	int64_t uid, gid;
	struct {
		uint32_t *v;
		size_t n;
	} groups;
	uint64_t version; /* as in container_glance */
	/* what the front end stored with it (Docker's Config and HostConfig) */
	struct json *extension;
};

struct container_views {
	struct container_view **v;
	size_t n;
};

void container_view_free(struct container_view *v);
void container_views_done(struct container_views *v);
DEFINE_CLEANUP(struct container_view *, container_view_free)

/* Takes over config's contents and extension on success. name NULL: a random one is made
 * ("brave_lamarr"). ABORTED: name in use, Docker's wording: Conflict. The container name "/x" is
 * already in use by container "ID". You have to remove (or rename) that container to be able to
 * reuse that name. */
int engine_create(struct engine *e, const char *ns, const char *name,
		  struct container_config *config, struct json *extension, char ret_id[65],
		  struct strv *ret_warnings, struct error *err);
int engine_inspect(struct engine *e, const char *ns, const char *id, struct container_view **ret,
		   struct error *err);
/* Any thread, from memory. All containers of the namespace, newest first. */
int engine_list(struct engine *e, const char *ns, struct container_views *ret, struct error *err);
/* What of a container changes without notice; `version` changes with all else that a list shows. */
struct container_glance {
	char id[65];
	uint64_t version;
	enum container_status status;
	int exit_code;
	int64_t created_at, started_at, finished_at;
	char health[16];
};

struct container_glances {
	struct container_glance *v;
	size_t n;
};

void container_glances_done(struct container_glances *b);
/* Any thread, never blocks for long: those that match (NULL: all), newest first. The view that
 * match sees is borrowed, and has neither extension nor what lies on disk; of mounts it has type,
 * name, source and destination. match must not call the engine. */
void engine_select(struct engine *e, const char *ns,
		   bool (*match)(const struct container_view *v, void *arg), void *arg,
		   struct container_glances *ret);
/* *ret_changed false: it was running already (Docker's 304). */
int engine_start(struct engine *e, const char *ns, const char *id, bool *ret_changed,
		 struct error *err);
/* timeout seconds: -2 the container's own, -1 for ever; signal NULL: the container's. */
int engine_stop(struct engine *e, const char *ns, const char *id, int timeout, const char *signal,
		bool *ret_changed, struct error *err);
int engine_restart(struct engine *e, const char *ns, const char *id, int timeout,
		   const char *signal, struct error *err);
int engine_kill(struct engine *e, const char *ns, const char *id, int signal, struct error *err);
int engine_pause(struct engine *e, const char *ns, const char *id, struct error *err);
int engine_unpause(struct engine *e, const char *ns, const char *id, struct error *err);
int engine_rename(struct engine *e, const char *ns, const char *id, const char *name,
		  struct error *err);
int engine_update(struct engine *e, const char *ns, const char *id, const struct resources *r,
		  const char *restart_policy, int64_t max_retries, struct error *err);
int engine_remove(struct engine *e, const char *ns, const char *id, bool force, bool volumes,
		  struct error *err);
int engine_resize(struct engine *e, const char *ns, const char *id, unsigned height, unsigned width,
		  struct error *err);

enum wait_condition { WAIT_NOT_RUNNING, WAIT_NEXT_EXIT, WAIT_REMOVED };

struct wait_result {
	int exit_code;
	char *error; /* NULL */
};

struct engine_wait; /* a continuation */
/* fn runs once, on the loop, also when the container is gone (err set). Registered when this
 * returns. Cancel on the loop; NULL and already-called are fine. */
int engine_wait(struct engine *e, const char *ns, const char *id, enum wait_condition condition,
		void (*fn)(const struct wait_result *r, const struct error *err, void *arg),
		void *arg, struct engine_wait **ret, struct error *err);
void engine_wait_cancel(struct engine *e, struct engine_wait *w);

struct attach_options {
	bool in, out, errs;	 /* stdin, stdout, stderr */
	bool mux;		 /* Docker's stream framing (ignored for ttys) */
	const char *detach_keys; /* "ctrl-p,ctrl-q"; NULL: default */
	bool no_detach_keys;
	bool hangup; /* an exec's terminal goes with the client's socket */
};

/* Before anything is sent to the client: may it attach? Returns whether it has a tty. */
int engine_attach_check(struct engine *e, const char *ns, const char *id, bool *ret_tty,
			struct error *err);
/* A client that has been answered is on its way: engine_start() waits for it (two seconds at
 * most), so that it sees the first byte. Announce before the answer; settle when engine_attach()
 * has returned or will not be called. id: the full one. Any thread, never block. */
void engine_attach_announce(struct engine *e, const char *ns, const char *id);
void engine_attach_settle(struct engine *e, const char *ns, const char *id);
/* Hands client_fd (taken in any case) to the shim, which serves it; the daemon is out of the
 * way. / */
int engine_attach(struct engine *e, const char *ns, const char *id, const struct attach_options *o,
		  int client_fd, struct error *err);

/* Logs. A reader yields lines in order over rotated files; follow: `fn` on the loop when there
 * may be more or the container has ended. */
struct log_reader;

struct log_options {
	bool out, errs;
	int64_t since, until; /* ns, 0: none */
	int64_t tail;	      /* -1: all */
};

struct log_line {
	bool is_stderr;
	int64_t time;
	const char *data; /* with its newline, if it had one; valid until the next call */
	size_t len;
	const char *attrs; /* "k=v,k2=v2", "" */
};

int log_reader_open(struct engine *e, const char *ns, const char *id, const struct log_options *o,
		    struct log_reader **ret, bool *ret_tty, struct error *err);
/* 1: a line; 0: no more for now; -1: error. */
int log_reader_next(struct log_reader *r, struct log_line *ret, struct error *err);
/* True when the container has ended and everything has been read. */
bool log_reader_ended(struct log_reader *r);
/* Loop thread. fn each time there may be more, until log_reader_free(). */
int log_reader_follow(struct log_reader *r, struct loop *l, void (*fn)(void *arg), void *arg,
		      struct error *err);
void log_reader_free(struct log_reader *r); /* loop thread when following */

/* Execs. */
struct exec_view {
	char *id, *container_id;
	struct exec_config config;
	bool running;
	bool started;
	int exit_code;
	int pid;
};

void exec_view_done(struct exec_view *v);
int engine_exec_create(struct engine *e, const char *ns, const char *id, struct exec_config *config,
		       char ret_exec_id[65], struct error *err);
int engine_exec_check(struct engine *e, const char *exec_id, bool *ret_tty, struct error *err);
/* client_fd < 0: detached. Attaches before it starts, so that no output is lost. */
int engine_exec_start(struct engine *e, const char *exec_id, const struct attach_options *o,
		      int client_fd, unsigned height, unsigned width, struct error *err);
int engine_exec_inspect(struct engine *e, const char *exec_id, struct exec_view *ret,
			struct error *err);
int engine_exec_resize(struct engine *e, const char *exec_id, unsigned height, unsigned width,
		       struct error *err);
/* An exec of one caller: no events, no record on disk, forgotten at its end. 0: it has started, and
 * fn is called once, on the loop, after its end (128 + n: by signal n). -1: it never will.
 * client_fd is taken in any case. */
struct exec_run {
	const char *ns, *id;
	struct exec_config *config; /* its contents are taken */
	struct attach_options attach;
	unsigned height, width; /* of the terminal; 0: not known */
	void (*fn)(int exit_code, void *arg);
	void *arg;
};

int engine_exec_run(struct engine *e, const struct exec_run *r, int client_fd, char ret_exec_id[65],
		    struct error *err);
/* SIGKILL to its process, that one's descendants and all of its session, as far as they are in the
 * container. NOT_FOUND: it has ended. */
int engine_exec_kill_all(struct engine *e, const char *exec_id, struct error *err);

struct container_stats {
	int64_t read_at;
	uint64_t cpu_total, cpu_user, cpu_system; /* ns */
	uint64_t system_cpu;			  /* ns, all CPUs of the host */
	unsigned online_cpus;
	uint64_t throttling_periods, throttled_periods, throttled_time;
	uint64_t memory_usage, memory_max, memory_limit, memory_inactive_file, memory_cache,
		memory_rss;
	uint64_t pids, pids_limit;
	uint64_t io_read, io_write;
	uint64_t net_rx_bytes, net_rx_packets, net_rx_errors, net_rx_dropped;
	uint64_t net_tx_bytes, net_tx_packets, net_tx_errors, net_tx_dropped;
	bool has_network;
	/* Lines of memory.stat; none on v1. */
	struct memory_detail memory_detail[MEMORY_DETAILS_MAX];
	size_t n_memory_detail;
};

/* The kernel killed a process of the container for want of memory. Does not block. */
void engine_note_oom(struct engine *e, const char *ns, const char *id);
int engine_stats(struct engine *e, const char *ns, const char *id, struct container_stats *ret,
		 struct error *err);
/* ps(1) on the host limited to the container's processes: title columns and rows. */
struct top_result {
	struct strv titles;
	struct {
		struct strv *v;
		size_t n;
	} rows;
};
void top_result_done(struct top_result *t);
int engine_top(struct engine *e, const char *ns, const char *id, const char *ps_args,
	       struct top_result *ret, struct error *err);

/* Volumes (driver "local": a directory <root>/volumes/<name>/_data). */
struct volume_view {
	char *name, *mountpoint;
	int64_t created_at;
	struct kvs labels, options;
	bool has_labels, has_options; /* were given, if only as empty ones */
	bool anonymous;
	size_t ref_count;
};

struct volume_views {
	struct volume_view *v;
	size_t n;
};

void volume_views_done(struct volume_views *v);
void volume_view_done(struct volume_view *v);
/* Existing: success. name NULL: random, anonymous. */
int engine_volume_create(struct engine *e, const char *ns, const char *name,
			 const struct kvs *labels, const struct kvs *options,
			 struct volume_view *ret, struct error *err);
int engine_volume_get(struct engine *e, const char *ns, const char *name, struct volume_view *ret,
		      struct error *err);
int engine_volume_list(struct engine *e, const char *ns, struct volume_views *ret,
		       struct error *err);
/* Bytes on disk; walks. -1: it cannot be read. */
int64_t engine_volume_size(const struct volume_view *v);
/* The same of any directory: the bytes of the files in it. */
int64_t engine_tree_size(int dir_fd, const char *name);
/* ABORTED while in use. */
int engine_volume_remove(struct engine *e, const char *ns, const char *name, bool force,
			 struct error *err);

/* Networks: what there is belongs to engine_network(); whose containers are in them, here. Both
 * work on running containers and on others. `spec` is taken in any case. Codes and words are
 * Docker's: PERMISSION_DENIED where the kind of network or an endpoint that is there forbids it. */
int engine_network_connect(struct engine *e, const char *ns, const char *network, const char *id,
			   struct endpoint_spec *spec, struct error *err);
/* What a container answers to on a network that a user has made. */
void container_dns_names(const char *name, const char *id, const char *hostname,
			 const struct endpoint_spec *s, struct strv *ret);
/* force: also when the container is not there (any more). */
int engine_network_disconnect(struct engine *e, const char *ns, const char *network, const char *id,
			      bool force, struct error *err);

/* Ids of containers that use this image id. */
int engine_image_users(struct engine *e, const char *ns, const char *image_id, struct strv *ret,
		       struct error *err);
