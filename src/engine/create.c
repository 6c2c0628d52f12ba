/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creation, in an order that leaves nothing behind wherever it is cut off: the name is reserved,
 * the directory made, then the record (the one synced write), which references a snapshot that does
 * not exist yet, then the snapshot. At recovery a directory without a record, or a record without
 * its snapshot, is an unfinished creation or removal, and goes.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"
#include "engine/internal.h"
#include "engine/log-options.h"
#include "engine/names.h"
#include "engine/restart.h"
#include "engine/sandbox-internal.h"
#include "store/snapshots.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* Reserves a name for c, which it is set to. Locked inside. */
static int reserve(struct container *c, const char *name, struct error *err)
{
	struct engine *e = c->e;
	autofree char *key = table_key(c->ns, name);

	pthread_mutex_lock(&e->lock);
	const struct container *other = map_get(&e->names, key);
	char other_id[65] = "";
	if (other)
		memcpy(other_id, other->id, sizeof(other_id));
	if (!other) {
		map_set(&e->names, key, c);
		str_replace(&c->name, name);
		container_note_change(c);
		container_config_changed(c);
	}
	pthread_mutex_unlock(&e->lock);
	if (!other)
		return 0;
	return error_set(
		err, ERROR_ABORTED,
		"Conflict. The container name \"/%s\" is already in use by container "
		"\"%s\". You have to remove (or rename) that container to be able to reuse "
		"that name.",
		name, other_id);
}

static int check_name(const char *name, struct error *err)
{
	if (name_valid(name))
		return 0;
	return error_set(err, ERROR_INVALID_ARGUMENT,
			 "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
			 name);
}

static int take_name(struct container *c, const char *name, struct error *err)
{
	if (!str_empty(name)) {
		name += name[0] == '/';
		return check_name(name, err) < 0 ? -1 : reserve(c, name, err);
	}
	for (unsigned attempt = 0; attempt < 10; attempt++) {
		autofree char *random = name_random(attempt);

		if (reserve(c, random, NULL) == 0)
			return 0;
	}
	return reserve(c, c->id, err);
}

static void give_name_back(struct container *c)
{
	autofree char *key = table_key(c->ns, c->name);

	pthread_mutex_lock(&c->e->lock);
	if (map_get(&c->e->names, key) == c)
		map_remove(&c->e->names, key);
	pthread_mutex_unlock(&c->e->lock);
}

static int check_config(struct engine *e, const struct container_config *config, struct error *err)
{
	const char *driver =
		str_empty(config->log_driver) ? e->config.log_driver : config->log_driver;
	enum restart_policy policy;

	if (container_config_validate(config, err) < 0)
		return -1;
	if (!engine_runtime(e, config->runtime, err))
		return -1;
	if (!restart_policy_parse(config->restart_policy, &policy))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid restart policy: unknown policy '%s'; use one of 'no', "
				 "'always', 'on-failure', or 'unless-stopped'",
				 config->restart_policy);
	if (config->init && !e->config.init)
		return error_set(
			err, ERROR_FAILED_PRECONDITION,
			"no init program (docker-init, tini) is installed on this machine");
	if (config->auto_remove && policy != RESTART_NO)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "can't create 'AutoRemove' container with restart policy");
	return log_options_check(driver, &config->log_options, err);
}

static void set_defaults(struct container *c)
{
	struct container_config *k = &c->config;

	if (str_empty(k->hostname) && !str_equal(k->uts_mode, "host") &&
	    !str_equal(k->network_mode, "host")) {
		char name[13] = "";

		memcpy(name, c->id, 12);
		str_replace(&k->hostname, name);
	}
	if (str_empty(k->network_mode) || str_equal(k->network_mode, "default"))
		str_replace(&k->network_mode, "bridge");
	if (str_empty(k->log_driver)) {
		str_replace(&k->log_driver, c->e->config.log_driver);
		if (k->log_options.n == 0) {
			kvs_done(&k->log_options);
			kvs_copy(&k->log_options, &c->e->config.log_options);
		}
	}
}

static int make_snapshot(struct container *c, struct error *err)
{
	const struct store_ctx ctx = container_store(c);

	return snapshot_prepare(&ctx, c->snapshotter, c->id,
				c->config.chain_id ? c->config.chain_id : "", NULL, NULL, err);
}

/* Steps on disk; all undone by undo_disk(). */
static int make_on_disk(struct container *c, struct error *err)
{
	if (mkdir(c->dir, 0710) < 0)
		return error_errno(err, errno, "make '%s'", c->dir);
	if (volumes_make(c, err) < 0 || container_record_write(c, /* create */ true, err) < 0)
		return -1;
	return make_snapshot(c, err);
}

static void undo_disk(struct container *c)
{
	const struct store_ctx ctx = container_store(c);

	pod_remove_volumes(c);
	snapshot_remove(&ctx, c->snapshotter, c->id, NULL);
	container_record_delete(&ctx, c->id, NULL);
	volumes_remove_anonymous(c);
	fs_remove_tree(AT_FDCWD, c->dir);
	fs_remove_tree(AT_FDCWD, c->run_dir);
}

/* A sandbox that has been stopped meanwhile would not know of it. */
static int publish(struct container *c, struct error *err)
{
	autofree char *key = table_key(c->ns, c->id);
	bool pod = container_in_pod(c);

	if (pod)
		container_share(c);
	pthread_mutex_lock(&c->e->lock);
	bool ok = !pod || pod_takes(c);
	if (ok)
		map_set(&c->e->containers, key, container_ref(c));
	pthread_mutex_unlock(&c->e->lock);
	if (!ok)
		return error_set(err, ERROR_FAILED_PRECONDITION, "sandbox \"%s\" is not ready",
				 c->config.sandbox_id);
	container_emit(c, "create", NULL, NULL);
	return 0;
}

static void add_warnings(const struct engine *e, const struct container_config *config,
			 struct strv *ret)
{
	const struct resources *r = &config->resources;

	if (!ret)
		return;
	if (r->oom_kill_disable && r->memory == 0)
		strv_push(ret, "OOM killer is disabled for the container, but no memory limit is "
			       "set, this can result in the system running out of resources.");
	if (e->cgroup_v2 && r->memory_swappiness >= 0 && r->memory > 0)
		strv_push(ret, "Your kernel does not support memory swappiness capabilities or the "
			       "cgroup is not mounted. Memory swappiness discarded.");
	if (config->ports.n > 0 && str_equal(config->network_mode, "host"))
		strv_push(ret, "Published ports are discarded when using host network mode");
}

/* The caller gets its things back when nothing became of them. */
static void give_back(struct container *c, struct container_config *config)
{
	*config = c->config;
	c->config = (struct container_config){ 0 };
}

int engine_create(struct engine *e, const char *ns, const char *name,
		  struct container_config *config, struct json *extension, char ret_id[65],
		  struct strv *ret_warnings, struct error *err)
{
	char id[65];

	bool pod = !str_empty(config->sandbox_id);

	if (pod ? pod_prepare_create(e, ns, config, err) < 0
		: (check_config(e, config, err) < 0 ||
		   network_prepare_create(e, ns, config, err) < 0 ||
		   volumes_prepare_create(e, ns, config, err) < 0))
		return -1;
	/* Who wants it removed at its end has come to run it. */
	if (config->auto_remove)
		tasks_warm(e->tasks);
	random_hex(32, id);
	CLEANUP(container_unrefp) struct container *c = container_new(e, ns, id);
	c->snapshotter = xstrdup(store_default_snapshotter(e->config.store));
	c->created_at = time_realtime();
	c->config = *config;
	c->extension = extension ? json_format(extension, /* pretty */ false) : NULL;
	set_defaults(c);
	if (take_name(c, name, err) < 0) {
		give_back(c, config);
		return -1;
	}
	if (make_on_disk(c, err) < 0 || (pod && pod_check_create(c, err) < 0) ||
	    publish(c, err) < 0) {
		undo_disk(c);
		give_name_back(c);
		give_back(c, config);
		return -1;
	}
	*config = (struct container_config){ 0 };
	json_unref(extension);
	pthread_mutex_lock(&e->lock);
	add_warnings(e, &c->config, ret_warnings);
	pthread_mutex_unlock(&e->lock);
	memcpy(ret_id, c->id, sizeof(c->id));
	return 0;
}

int engine_rename(struct engine *e, const char *ns, const char *id, const char *name,
		  struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	if (!c)
		return -1;
	name += name[0] == '/';
	if (str_empty(name))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "Neither old nor new names may be empty");
	if (str_equal(name, c->name))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "Renaming a container with the same name as its current name");
	if (!name_valid(name))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "Invalid container name (/%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are "
				 "allowed",
				 name);
	autofree char *old = xstrdup(c->name);
	autofree char *old_key = table_key(ns, old);
	if (reserve(c, name, err) < 0)
		return -1;
	if (container_record_write(c, /* create */ false, err) < 0) {
		give_name_back(c);
		pthread_mutex_lock(&e->lock);
		str_replace(&c->name, old);
		container_note_change(c);
		container_config_changed(c);
		pthread_mutex_unlock(&e->lock);
		return -1;
	}
	pthread_mutex_lock(&e->lock);
	map_remove(&e->names, old_key);
	pthread_mutex_unlock(&e->lock);
	container_rename_endpoints(c);
	autofree char *was = xasprintf("/%s", old);
	container_emit(c, "rename", "oldName", was);
	return 0;
}
