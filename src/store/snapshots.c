/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of snapshots; what lies on disk is the snapshotter's (snapshotter.h).
 *
 * A directory is made before its record and removed after it, so a crash leaves at worst a
 * directory that no record names, which recovery removes. Directory numbers count up in memory from
 * the highest one found at start and are never used twice: a removal in the background cannot meet
 * a new snapshot.
 *
 * Commits and copies work on directories without holding a lock. Meanwhile the snapshots concerned
 * are pinned: they can be neither removed nor committed nor collected. Pinning, and checking for
 * pins before a removal, happen under the writer lock.
 */

#include "store/snapshots.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/failpoint.h"
#include "store/gc.h"
#include "store/snapshot-rows.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { WALK_BATCH = 256 };

void snapshot_info_done(struct snapshot_info *i)
{
	free(i->name);
	free(i->parent);
	kvs_done(&i->labels);
	*i = (struct snapshot_info){ 0 };
}

int snapshotter_capabilities(struct store *s, const char *sn, unsigned *ret, struct error *err)
{
	const struct snapshotter *found =
		snapshotter_get(&(struct store_ctx){ .store = s }, sn, err);

	if (!found)
		return -1;
	*ret = found->ops->capabilities;
	return 0;
}

struct making {
	const struct store_ctx *c;
	const struct snapshotter *sn;
	const char *key, *parent;
	const struct kvs *labels;
	enum snapshot_kind kind;
	int64_t id, parent_id;
};

/* snapshot.ref names a committed snapshot that exists: 1, and it joins the lease. */
static int making_target_exists(const struct making *m, struct error *err)
{
	const char *target = m->labels ? kvs_get(m->labels, LABEL_SNAPSHOT_REF) : NULL;
	autotx struct db_tx tx = DB_TX_INIT;
	struct snapshot_row row;
	int r;

	if (str_empty(target))
		return 0;
	if (db_write(m->c->store->db, &tx, err) < 0)
		return -1;
	r = snapshot_row_find(m->c, &tx, m->sn, target, &row, err);
	if (r <= 0 || row.kind != SNAPSHOT_COMMITTED)
		return MIN(r, 0);
	if (snapshot_lease_add(m->c, &tx, m->sn, target, err) < 0)
		return -1;
	gc_touch(m->c->store, GC_SNAPSHOT, m->c->ns, m->sn->ops->name, target);
	if (db_commit(&tx, err) < 0)
		return -1;
	error_set(err, ERROR_ALREADY_EXISTS, "target snapshot '%s' exists", target);
	return 1;
}

static int making_check(struct making *m, const struct db_tx *tx, struct error *err)
{
	struct snapshot_row row;
	int r = snapshot_row_find(m->c, tx, m->sn, m->key, &row, err);

	if (r < 0)
		return -1;
	if (r > 0)
		return error_set(err, ERROR_ALREADY_EXISTS, "snapshot '%s' exists", m->key);
	return snapshot_parent_get(m->c, tx, m->sn, m->parent, &m->parent_id, err);
}

/* Early errors, and the pin on a parent that is going to be copied. */
static int making_begin(struct making *m, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	struct db *db = m->c->store->db;

	if ((m->sn->ops->copies ? db_write(db, &tx, err) : db_read(db, &tx, err)) < 0 ||
	    making_check(m, &tx, err) < 0)
		return -1;
	if (m->sn->ops->copies && m->parent_id)
		snapshot_pin(m->c->store, m->parent_id);
	return 0;
}

static int making_create(struct making *m, struct error *err)
{
	char name[32];

	m->id = (int64_t)atomic_fetch_add(&m->c->store->last_snapshot, 1) + 1;
	snprintf(name, sizeof(name), "%lld", (long long)m->id);
	if (mkdirat(m->sn->dir_fd, name, 0700) < 0)
		return error_errno(err, errno, "make '%s/%s'", m->sn->dir, name);
	if (m->sn->ops->create(m->sn, m->id, m->parent_id, m->kind, err) < 0)
		return -1;
	return failpoint("store.prepare.before-record", err);
}

static int making_record(struct making *m, struct mounts *ret_mounts, struct error *err)
{
	autochain struct snapshot_chain chain = SNAPSHOT_CHAIN_INIT;
	autotx struct db_tx tx = DB_TX_INIT;
	autofree char *labels = labels_format(m->labels);
	int64_t now = time_realtime();

	if (db_write(m->c->store->db, &tx, err) < 0 || making_check(m, &tx, err) < 0 ||
	    ctx_ensure_namespace(m->c, &tx, err) < 0 ||
	    snapshot_chain_load(&tx, m->parent_id, &chain, err) < 0)
		return -1;
	if (ret_mounts && m->sn->ops->mounts(m->sn, m->id, m->kind, &chain, ret_mounts, err) < 0)
		return -1;
	if (db_exec(&tx, err,
		    "INSERT INTO snapshots"
		    " (id, sn, ns, name, parent, kind, size, inodes, created, updated, labels)"
		    " VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?)",
		    "isssiiiis", m->id, m->sn->ops->name, m->c->ns, m->key, m->parent_id,
		    (int64_t)m->kind, now, now, labels) < 0 ||
	    snapshot_lease_add(m->c, &tx, m->sn, m->key, err) < 0)
		return -1;
	gc_touch(m->c->store, GC_SNAPSHOT, m->c->ns, m->sn->ops->name, m->key);
	return db_commit(&tx, err);
}

static void making_undo(const struct making *m)
{
	char name[32];

	snprintf(name, sizeof(name), "%lld", (long long)m->id);
	(void)fs_remove_tree(m->sn->dir_fd, name);
}

static int make(struct making *m, const char *sn_name, struct mounts *ret_mounts, struct error *err)
{
	automounts struct mounts ms = MOUNTS_INIT;
	int r;

	m->sn = snapshotter_get(m->c, sn_name, err);
	if (!m->sn || name_check("snapshot", m->key, err) < 0 || labels_check(m->labels, err) < 0)
		return -1;
	if (m->sn->broken)
		return error_set(err, ERROR_FAILED_PRECONDITION, "snapshotter '%s': %s",
				 m->sn->ops->name, m->sn->broken);
	if (making_target_exists(m, err) != 0 || making_begin(m, err) < 0)
		return -1;
	r = making_create(m, err);
	if (r == 0)
		r = making_record(m, ret_mounts ? &ms : NULL, err);
	if (m->sn->ops->copies && m->parent_id)
		snapshot_unpin(m->c->store, m->parent_id);
	if (r < 0) {
		making_undo(m);
		return error_wrap(err, "prepare snapshot '%s'", m->key);
	}
	if (ret_mounts) {
		*ret_mounts = ms;
		ms = MOUNTS_INIT;
	}
	return 0;
}

int snapshot_prepare(const struct store_ctx *c, const char *sn, const char *key, const char *parent,
		     const struct kvs *labels, struct mounts *ret_mounts, struct error *err)
{
	struct making m = {
		.c = c, .key = key, .parent = parent, .labels = labels, .kind = SNAPSHOT_ACTIVE
	};

	return make(&m, sn, ret_mounts, err);
}

int snapshot_view(const struct store_ctx *c, const char *sn, const char *key, const char *parent,
		  const struct kvs *labels, struct mounts *ret_mounts, struct error *err)
{
	struct making m = {
		.c = c, .key = key, .parent = parent, .labels = labels, .kind = SNAPSHOT_VIEW
	};

	return make(&m, sn, ret_mounts, err);
}

int snapshot_mounts(const struct store_ctx *c, const char *sn_name, const char *key,
		    struct mounts *ret, struct error *err)
{
	const struct snapshotter *sn = snapshotter_get(c, sn_name, err);
	autochain struct snapshot_chain chain = SNAPSHOT_CHAIN_INIT;
	autotx struct db_tx tx = DB_TX_INIT;
	struct snapshot_row row;

	if (!sn || db_read(c->store->db, &tx, err) < 0 ||
	    snapshot_row_get(c, &tx, sn, key, &row, err) < 0)
		return -1;
	if (row.kind == SNAPSHOT_COMMITTED)
		return error_set(err, ERROR_FAILED_PRECONDITION, "snapshot '%s' is committed", key);
	if (snapshot_chain_load(&tx, row.parent, &chain, err) < 0)
		return -1;
	db_tx_end(&tx);
	return sn->ops->mounts(sn, row.id, (enum snapshot_kind)row.kind, &chain, ret, err);
}

int snapshot_layer_fd(const struct store_ctx *c, const char *sn_name, const char *key,
		      struct error *err)
{
	const struct snapshotter *sn = snapshotter_get(c, sn_name, err);
	struct snapshot_row row;

	if (!sn || snapshot_row_lookup(c, sn, key, &row, err) < 0)
		return -1;
	if (row.kind != SNAPSHOT_ACTIVE)
		return error_set(err, ERROR_FAILED_PRECONDITION, "snapshot '%s' is not active",
				 key);
	return snapshotter_open_fs(sn, row.id, err);
}

int snapshot_remove(const struct store_ctx *c, const char *sn_name, const char *key,
		    struct error *err)
{
	const struct snapshotter *sn = snapshotter_get(c, sn_name, err);
	autotx struct db_tx tx = DB_TX_INIT;
	struct snapshot_row row;
	int r;

	if (!sn || db_write(c->store->db, &tx, err) < 0 ||
	    snapshot_row_get(c, &tx, sn, key, &row, err) < 0)
		return -1;
	r = db_exists(&tx, err, "SELECT 1 FROM snapshots WHERE parent = ?", "i", row.id);
	if (r < 0)
		return -1;
	if (r > 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "snapshot '%s' has children", key);
	if (snapshot_pinned(c->store, row.id))
		return error_set(err, ERROR_FAILED_PRECONDITION, "snapshot '%s' is in use", key);
	if (db_exec(&tx, err, "DELETE FROM snapshots WHERE id = ?", "i", row.id) < 0 ||
	    db_commit(&tx, err) < 0)
		return -1;
	reaper_remove(c->store, xasprintf("%s/%lld", sn->rel, (long long)row.id));
	gc_schedule(c->store);
	return 0;
}

#define INFO_COLUMNS "s.name, ifnull(p.name, ''), s.kind, s.created, s.updated, s.labels"
#define INFO_FROM " FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent"

static int info_from_row(const struct db_query *q, struct snapshot_info *ret, struct error *err)
{
	ret->name = db_strdup(q, 0);
	ret->parent = db_strdup(q, 1);
	ret->kind = (enum snapshot_kind)db_int(q, 2);
	ret->created_at = db_int(q, 3);
	ret->updated_at = db_int(q, 4);
	return labels_parse(db_text(q, 5), &ret->labels, err);
}

static int info_load(const struct store_ctx *c, const struct db_tx *tx,
		     const struct snapshotter *sn, const char *key, struct snapshot_info *ret,
		     struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_query(tx, &q, err,
		     "SELECT " INFO_COLUMNS INFO_FROM " WHERE s.name = ? AND s.ns = ? AND s.sn = ?",
		     "sss", key, c->ns, sn->ops->name) < 0)
		return -1;
	r = db_step(&q, err);
	if (r <= 0)
		return r < 0 ? -1 : snapshot_not_found(key, err);
	return info_from_row(&q, ret, err);
}

int snapshot_stat(const struct store_ctx *c, const char *sn_name, const char *key,
		  struct snapshot_info *ret, struct error *err)
{
	const struct snapshotter *sn = snapshotter_get(c, sn_name, err);
	CLEANUP(snapshot_info_done) struct snapshot_info info = { 0 };
	autotx struct db_tx tx = DB_TX_INIT;

	if (!sn || db_read(c->store->db, &tx, err) < 0 ||
	    info_load(c, &tx, sn, key, &info, err) < 0)
		return -1;
	*ret = info;
	info = (struct snapshot_info){ 0 };
	return 0;
}

int snapshot_usage(const struct store_ctx *c, const char *sn_name, const char *key,
		   struct snapshot_usage *ret, struct error *err)
{
	const struct snapshotter *sn = snapshotter_get(c, sn_name, err);
	autoclose int fd = -EBADF;
	struct snapshot_row row;

	if (!sn || snapshot_row_lookup(c, sn, key, &row, err) < 0)
		return -1;
	if (row.kind == SNAPSHOT_COMMITTED) {
		*ret = (struct snapshot_usage){ .size = row.size, .inodes = row.inodes };
		return 0;
	}
	fd = snapshotter_open_fs(sn, row.id, err);
	return fd < 0 ? -1 : tree_usage(fd, ret, err);
}

int snapshot_set_labels(const struct store_ctx *c, const char *sn_name, const char *key,
			const struct kvs *labels, struct error *err)
{
	const struct snapshotter *sn = snapshotter_get(c, sn_name, err);
	CLEANUP(snapshot_info_done) struct snapshot_info info = { 0 };
	autotx struct db_tx tx = DB_TX_INIT;
	autofree char *text = NULL;

	if (!sn || labels_check(labels, err) < 0 || db_write(c->store->db, &tx, err) < 0 ||
	    info_load(c, &tx, sn, key, &info, err) < 0)
		return -1;
	labels_merge(&info.labels, labels);
	text = labels_format(&info.labels);
	if (db_exec(&tx, err,
		    "UPDATE snapshots SET labels = ?, updated = ?"
		    " WHERE name = ? AND ns = ? AND sn = ?",
		    "sisss", text, time_realtime(), key, c->ns, sn->ops->name) < 0)
		return -1;
	gc_touch(c->store, GC_SNAPSHOT, c->ns, sn->ops->name, key);
	return db_commit(&tx, err);
}

static int load_batch(const struct store_ctx *c, const struct snapshotter *sn, const char *after,
		      struct snapshot_info *infos, size_t *n, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_read(c->store->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err,
		     "SELECT " INFO_COLUMNS INFO_FROM
		     " WHERE s.name > ? AND s.ns = ? AND s.sn = ? ORDER BY s.name LIMIT ?",
		     "sssi", after, c->ns, sn->ops->name, (int64_t)WALK_BATCH) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		assert(*n < WALK_BATCH);
		if (info_from_row(&q, &infos[(*n)++], err) < 0)
			return -1;
	}
	return r;
}

int snapshot_walk(const struct store_ctx *c, const char *sn_name,
		  int (*fn)(const struct snapshot_info *i, void *arg), void *arg, struct error *err)
{
	const struct snapshotter *sn = snapshotter_get(c, sn_name, err);
	autofree struct snapshot_info *infos = xnew_array(struct snapshot_info, WALK_BATCH);
	autofree char *after = xstrdup("");
	bool more = sn != NULL;
	int r = sn ? 0 : -1;

	while (more && r == 0) {
		size_t n = 0;
		bool stop = false;

		r = load_batch(c, sn, after, infos, &n, err);
		for (size_t i = 0; i < n; i++) {
			if (r == 0 && !stop)
				stop = fn(&infos[i], arg) != 0;
			if (i == n - 1)
				str_replace(&after, infos[i].name);
			snapshot_info_done(&infos[i]);
		}
		more = n == WALK_BATCH && !stop;
	}
	return r;
}
