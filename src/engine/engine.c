/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's table: containers by id, name and prefix, their locks, their records. */

#include "engine/engine.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/internal.h"
#include "engine/sandbox-internal.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

/* malloc'ed: a program in the same directory. */
static char *beside(const char *path, const char *name)
{
	return xasprintf("%.*s%s", (int)(path_base(path) - path), path, name);
}

static void config_copy(struct engine *e, const struct engine_config *config)
{
	struct engine_config *c = &e->config;
	struct runtime_entry *runtimes = xnew_array(struct runtime_entry, config->n_runtimes + 1);

	*c = *config;
	c->root = xstrdup(config->root);
	c->state = xstrdup(config->state);
	c->shim = xstrdup(config->shim);
	c->init = xstrdup(config->init);
	c->pause = config->pause ? xstrdup(config->pause) : beside(config->shim, "kistl-pause");
	c->address = xstrdup(config->address);
	c->default_runtime = xstrdup(config->default_runtime);
	c->log_driver = xstrdup(str_empty(config->log_driver) ? "json-file" : config->log_driver);
	c->log_options = KVS_INIT;
	kvs_copy(&c->log_options, &config->log_options);
	for (size_t i = 0; i < config->n_runtimes; i++) {
		runtimes[i].name = xstrdup(config->runtimes[i].name);
		runtimes[i].path = xstrdup(config->runtimes[i].path);
		runtimes[i].pod_network = config->runtimes[i].pod_network;
	}
	c->runtimes = runtimes;
}

static void config_done(struct engine_config *c)
{
	for (size_t i = 0; i < c->n_runtimes; i++) {
		free(c->runtimes[i].name);
		free(c->runtimes[i].path);
	}
	free((void *)c->runtimes);
	free((char *)c->root);
	free((char *)c->state);
	free((char *)c->shim);
	free((char *)c->init);
	free((char *)c->pause);
	free((char *)c->address);
	free((char *)c->default_runtime);
	free((char *)c->log_driver);
	kvs_done(&c->log_options);
}

static char *read_boot_id(void)
{
	autobuf struct buf b = BUF_INIT(128);

	if (fs_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &b) < 0)
		return xstrdup("");
	return xstrndup(b.data, strcspn(b.data, "\n"));
}

static int make_dirs(struct engine *e, struct error *err)
{
	const struct {
		const char *parent, *name;
		mode_t mode;
	} dirs[] = {
		{ e->config.root, "containers", 0710 },
		{ e->config.root, "volumes", 0711 },
		{ e->config.state, "containers", 0710 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		autofree char *path = path_join(dirs[i].parent, dirs[i].name, NULL);
		int r = fs_mkdir_p(path, dirs[i].mode);

		if (r < 0)
			return error_errno(err, -r, "make '%s'", path);
	}
	return 0;
}

int engine_new(const struct engine_config *config, struct engine **ret, struct error *err)
{
	struct engine *e = xnew(struct engine);
	struct statfs fs;

	assert(config->n_runtimes > 0);
	config_copy(e, config);
	e->boot_id = read_boot_id();
	e->cgroup_v2 = statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
	e->events = event_hub_new(config->loop);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->recovered, NULL);
	pthread_cond_init(&e->volumes_changed, NULL);
	list_init(&e->waits);
	const struct tasks_config tasks = {
		.loop = e->config.loop,
		.jobs = e->config.jobs,
		.root = e->config.root,
		.state = e->config.state,
		.shim = e->config.shim,
		.address = e->config.address,
		.on_exit = engine_on_exit,
		.arg = e,
	};
	if (make_dirs(e, err) < 0 || tasks_new(&tasks, &e->tasks, err) < 0 ||
	    engine_recover(e, err) < 0) {
		engine_free(e);
		return -1;
	}
	*ret = e;
	return 0;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	e->closing = true;
	MAP_FOREACH (entry, &e->containers) {
		struct container *c = map_value(entry);

		container_cancel_timer(c);
		health_stop(c);
		container_drop_execs(c);
		container_drop_attaches(c);
		task_unref(TAKE_PTR(c->task));
		container_unref(c);
	}
	map_done(&e->containers);
	map_done(&e->names);
	map_done(&e->execs);
	map_done(&e->volumes_busy);
	sandboxes_free(e);
	free(e->features);
	tasks_free(e->tasks);
	waits_free(e);
	event_hub_free(e->events);
	pthread_cond_destroy(&e->volumes_changed);
	pthread_cond_destroy(&e->recovered);
	pthread_mutex_destroy(&e->lock);
	free(e->boot_id);
	config_done(&e->config);
	free(e);
}

struct store *engine_store(struct engine *e)
{
	return e->config.store;
}

struct image_service *engine_images(struct engine *e)
{
	return e->config.images;
}

struct network_service *engine_network(struct engine *e)
{
	return e->config.network;
}

struct jobs *engine_jobs(struct engine *e)
{
	return e->config.jobs;
}

struct loop *engine_loop(struct engine *e)
{
	return e->config.loop;
}

const struct engine_config *engine_get_config(struct engine *e)
{
	return &e->config;
}

/* Locked. On a network of a user's the daemon is its name server. */
static bool asks_names(const struct container *c)
{
	for (size_t i = 0; i < c->s.endpoints.n; i++) {
		if (!str_equal(c->s.endpoints.v[i].network, "bridge"))
			return true;
	}
	return false;
}

/* Locked. */
static bool needs_daemon(const struct container *c)
{
	const struct container_config *k = &c->config;

	switch (c->s.status) {
	case CONTAINER_RUNNING:
	case CONTAINER_PAUSED:
		return k->auto_remove || asks_names(c) ||
		       (k->health.test.n > 0 && !k->health.none) ||
		       !(str_empty(k->restart_policy) || str_equal(k->restart_policy, "no"));
	case CONTAINER_RESTARTING:
	case CONTAINER_REMOVING:
		return true;
	default:
		return c->busy;
	}
}

bool engine_idle(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	bool idle = list_is_empty(&e->waits) && e->recovering == 0;
	MAP_FOREACH (entry, &e->containers)
		if (needs_daemon(map_value(entry)))
			idle = false;
	pthread_mutex_unlock(&e->lock);
	return idle;
}

char *table_key(const char *ns, const char *name)
{
	return xasprintf("%s/%s", ns, name);
}

struct container *container_new(struct engine *e, const char *ns, const char *id)
{
	struct container *c = xnew(struct container);

	assert(strlen(id) < sizeof(c->id));
	c->e = e;
	c->refs = 1;
	c->ns = xstrdup(ns);
	memcpy(c->id, id, strlen(id) + 1);
	c->dir = path_join(e->config.root, "containers", id, NULL);
	c->run_dir = path_join(e->config.state, "containers", ns, id, NULL);
	list_init(&c->execs);
	list_init(&c->attaches);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);
	return c;
}

struct container *container_ref(struct container *c)
{
	if (c)
		c->refs++;
	return c;
}

void container_unref(struct container *c)
{
	if (!c || --c->refs > 0)
		return;
	assert(list_is_empty(&c->execs) && list_is_empty(&c->attaches) && !c->timer);
	task_unref(c->task);
	container_config_changed(c);
	free(c->ns);
	free(c->dir);
	free(c->run_dir);
	free(c->name);
	free(c->snapshotter);
	free(c->process);
	health_forget(c);
	container_config_done(&c->config);
	free(c->extension);
	run_state_done(&c->s);
	pthread_cond_destroy(&c->changed);
	free(c);
}

void container_lock(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	while (c->busy)
		pthread_cond_wait(&c->changed, &c->e->lock);
	c->busy = true;
	pthread_mutex_unlock(&c->e->lock);
}

void container_unlock(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	assert(c->busy);
	c->busy = false;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->e->lock);
}

/* Locked: the only one of the namespace whose id begins so. */
static struct container *find_prefix(struct engine *e, const char *ns, const char *prefix,
				     bool *ret_ambiguous)
{
	struct container *found = NULL;

	*ret_ambiguous = false;
	if (prefix[0] == '\0')
		return NULL;
	MAP_FOREACH (entry, &e->containers) {
		struct container *c = map_value(entry);

		if (!str_equal(c->ns, ns) || !str_has_prefix(c->id, prefix))
			continue;
		if (found)
			*ret_ambiguous = true;
		found = c;
	}
	return found;
}

struct container *container_find(struct engine *e, const char *ns, const char *id,
				 struct error *err)
{
	const char *name = id[0] == '/' ? id + 1 : id;
	autofree char *key = table_key(ns, name);
	bool ambiguous = false;

	pthread_mutex_lock(&e->lock);
	struct container *c = map_get(&e->containers, key);
	if (!c) {
		c = map_get(&e->names, key);
		/* One that is being created holds its name already. */
		autofree char *by_id = c ? table_key(ns, c->id) : NULL;
		if (c && !map_get(&e->containers, by_id))
			c = NULL;
	}
	if (!c)
		c = find_prefix(e, ns, name, &ambiguous);
	if (ambiguous)
		c = NULL;
	container_ref(c);
	pthread_mutex_unlock(&e->lock);
	if (ambiguous)
		error_set(err, ERROR_INVALID_ARGUMENT,
			  "multiple IDs found with provided prefix: %s", id);
	else if (!c)
		error_set(err, ERROR_NOT_FOUND, "No such container: %s", id);
	return c;
}

struct container *container_acquire(struct engine *e, const char *ns, const char *id,
				    struct error *err)
{
	struct container *c = container_find(e, ns, id, err);

	if (!c)
		return NULL;
	container_lock(c);
	if (c->gone) {
		container_release(c);
		error_set(err, ERROR_NOT_FOUND, "No such container: %s", id);
		return NULL;
	}
	/* A run may have ended whose clearing up still waits for a thread: no one sees it half
	 * done. */
	container_finish(c);
	if (c->gone) {
		container_release(c);
		error_set(err, ERROR_NOT_FOUND, "No such container: %s", id);
		return NULL;
	}
	return c;
}

void container_release(struct container *c)
{
	container_unlock(c);
	container_unref(c);
}

struct task *container_task(struct container *c, struct error *err)
{
	pthread_mutex_lock(&c->e->lock);
	struct task *t = task_ref(c->task);
	enum container_status s = c->s.status;
	bool ended = c->exited;
	pthread_mutex_unlock(&c->e->lock);
	if ((s == CONTAINER_RUNNING || s == CONTAINER_PAUSED) && t && !ended)
		return t;
	task_unref(t);
	if (s == CONTAINER_RUNNING || s == CONTAINER_PAUSED)
		error_set(err, ERROR_UNAVAILABLE, "container %s cannot be reached", c->id);
	else if (s == CONTAINER_RESTARTING)
		error_set(err, ERROR_FAILED_PRECONDITION,
			  "Container %s is restarting, wait until the container is running", c->id);
	else
		error_set(err, ERROR_FAILED_PRECONDITION, "container %s is not running", c->id);
	return NULL;
}

void container_set_status(struct container *c, enum container_status s)
{
	pthread_mutex_lock(&c->e->lock);
	c->s.status = s;
	container_note_change(c);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->e->lock);
}

struct store_ctx container_store(const struct container *c)
{
	return (struct store_ctx){ .store = c->e->config.store, .ns = c->ns };
}

void container_emit(struct container *c, const char *action, const char *key, const char *value)
{
	struct engine_event event = {
		.ns = c->ns,
		.type = "container",
		.action = action,
		.id = c->id,
	};

	pthread_mutex_lock(&c->e->lock);
	kvs_copy(&event.attributes, &c->config.labels);
	kvs_set(&event.attributes, "image", c->config.image ? c->config.image : "");
	kvs_set(&event.attributes, "name", c->name);
	pthread_mutex_unlock(&c->e->lock);
	if (key)
		kvs_set(&event.attributes, key, value);
	if (container_in_pod(c))
		kvs_set(&event.attributes, "sandboxID", c->config.sandbox_id);
	engine_emit(c->e, &event);
	kvs_done(&event.attributes);
}

static char *state_text(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	str_replace(&c->s.boot_id, c->e->boot_id);
	autojson struct json *j = run_state_to_json(&c->s);
	pthread_mutex_unlock(&c->e->lock);
	return json_format(j, /* pretty */ false);
}

void container_note_change(struct container *c)
{
	c->version = ++c->e->versions;
}

static void note_change(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	container_note_change(c);
	pthread_mutex_unlock(&c->e->lock);
}

void container_save(struct container *c)
{
	note_change(c);
	autofree char *text = state_text(c);
	autofree char *path = path_join(c->run_dir, "state.json", NULL);
	int r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, /* sync */ false);

	if (r == -ENOENT && fs_mkdir_p(c->run_dir, 0700) == 0)
		r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, /* sync */ false);
	if (r < 0)
		log_err("write '%s': %s, ignoring", path, strerror(-r));
}

void container_save_record(struct container *c)
{
	const struct store_ctx ctx = container_store(c);
	autofree char *text = state_text(c);
	autoerror struct error err = ERROR_INIT;

	if (record_put(&ctx, STATE_KIND, c->id, text, /* sync */ false, &err) < 0)
		log_err("save the state of container '%s': %s, ignoring", c->id, error_msg(&err));
}

int container_record_write(struct container *c, bool create, struct error *err)
{
	const struct store_ctx ctx = container_store(c);
	autojson struct json *doc = json_new_object();

	note_change(c);
	json_set_string(doc, "name", c->name);
	json_set_int(doc, "createdAt", c->created_at);
	json_set(doc, "config", container_config_to_json(&c->config));
	autofree char *text = json_format(doc, /* pretty */ false);
	struct container_record r = {
		.id = c->id,
		.image = c->config.image ? c->config.image : (char *)"",
		.runtime = c->config.runtime ? c->config.runtime
					     : (char *)c->e->config.default_runtime,
		.snapshotter = c->snapshotter,
		.snapshot_key = c->id,
		.created_at = c->created_at,
		.updated_at = time_realtime(),
	};
	kvs_copy(&r.labels, &c->config.labels);
	pod_hold_volumes(c, &r.labels);
	kvs_set(&r.extensions, RECORD_ENGINE, text);
	if (c->extension)
		kvs_set(&r.extensions, RECORD_EXTENSION, c->extension);
	/* One that goes with its process need not be there after a power loss, nor one of a pod,
	 * whose sandbox is then no more. */
	bool sync = !container_in_pod(c) && (!c->config.auto_remove || c->config.mounts.n > 0);
	int ret = create ? container_record_create(&ctx, &r, sync, err)
			 : container_record_update(&ctx, &r, err);
	kvs_done(&r.labels);
	kvs_done(&r.extensions);
	return ret;
}

const struct runtime_entry *engine_runtime(struct engine *e, const char *name, struct error *err)
{
	if (str_empty(name))
		name = e->config.default_runtime;
	for (size_t i = 0; i < e->config.n_runtimes; i++)
		if (str_empty(name) || str_equal(e->config.runtimes[i].name, name))
			return &e->config.runtimes[i];
	error_set(err, ERROR_INVALID_ARGUMENT, "unknown or invalid runtime name: %s", name);
	return NULL;
}
