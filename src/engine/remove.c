/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removal. The snapshot goes first: a record without its snapshot is what recovery takes for a
 * removal (or creation) that was cut short, and finishes. The record goes last but for directories,
 * which recovery knows as orphans by themselves.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/sandbox-internal.h"
#include "store/snapshots.h"

#include <fcntl.h>

static int remove_from_store(struct container *c, bool volumes, struct error *err)
{
	const struct store_ctx ctx = container_store(c);
	autoerror struct error why = ERROR_INIT;

	pod_remove_volumes(c);
	if (snapshot_remove(&ctx, c->snapshotter, c->id, &why) < 0 &&
	    !error_is(&why, ERROR_NOT_FOUND))
		return error_move(err, &why);
	if (volumes)
		volumes_remove_anonymous(c);
	record_delete(&ctx, STATE_KIND, c->id, NULL);
	if (container_record_delete(&ctx, c->id, &why) < 0 && !error_is(&why, ERROR_NOT_FOUND))
		return error_move(err, &why);
	return 0;
}

/* Off the tables: from here on no one finds it. */
static void unpublish(struct container *c)
{
	struct engine *e = c->e;
	autofree char *id_key = table_key(c->ns, c->id);
	autofree char *name_key = table_key(c->ns, c->name);

	pthread_mutex_lock(&e->lock);
	bool listed = map_remove(&e->containers, id_key) != NULL;
	if (map_get(&e->names, name_key) == c)
		map_remove(&e->names, name_key);
	c->gone = true;
	waits_fire(c, /* removed */ true);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&e->lock);
	if (listed)
		container_unref(c);
}

int container_remove(struct container *c, bool volumes, struct error *err)
{
	if (c->gone)
		return 0;
	container_cancel_timer(c);
	health_stop(c);
	container_set_status(c, CONTAINER_REMOVING);
	container_save(c);
	/* Those of the volumes that are to go must not be counted as used by this one. */
	autofree char *name_key = table_key(c->ns, c->name);
	pthread_mutex_lock(&c->e->lock);
	if (map_get(&c->e->names, name_key) == c)
		map_remove(&c->e->names, name_key);
	pthread_mutex_unlock(&c->e->lock);
	if (remove_from_store(c, volumes, err) < 0) {
		pthread_mutex_lock(&c->e->lock);
		if (!map_get(&c->e->names, name_key))
			map_set(&c->e->names, name_key, c);
		c->s.status = CONTAINER_DEAD;
		pthread_mutex_unlock(&c->e->lock);
		container_save(c);
		return error_wrap(err, "remove container %s", c->id);
	}
	container_drop_execs(c);
	container_drop_attaches(c);
	fs_remove_tree(AT_FDCWD, c->dir);
	fs_remove_tree(AT_FDCWD, c->run_dir);
	container_emit(c, "destroy", NULL, NULL);
	unpublish(c);
	return 0;
}

static int refuse_running(const struct container *c, struct error *err)
{
	if (c->s.status == CONTAINER_PAUSED)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "cannot remove container \"%s\": container is paused and must be "
				 "unpaused first",
				 c->name);
	return error_set(err, ERROR_FAILED_PRECONDITION,
			 "cannot remove container \"%s\": container is %s: stop the container "
			 "before removing or force remove",
			 c->name, container_status_name(c->s.status));
}

int engine_remove(struct engine *e, const char *ns, const char *id, bool force, bool volumes,
		  struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	if (!c)
		return -1;
	bool running = c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED;
	if (!force && (running || c->s.status == CONTAINER_RESTARTING))
		return refuse_running(c, err);
	if (running && container_kill_wait(c, err) < 0)
		return -1;
	/* A removal on exit may have been quicker. */
	return c->gone ? 0 : container_remove(c, volumes, err);
}
