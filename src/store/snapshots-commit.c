/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A commit checks, pins, works on the tree without a lock (attributes of implied directories,
 * usage, sync), then checks again and records.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/failpoint.h"
#include "store/snapshot-rows.h"

struct committing {
	const struct store_ctx *c;
	const struct snapshotter *sn;
	const char *name, *key;
	const char *parent; /* NULL: keep */
	const struct strv *implied;
	const struct kvs *labels;
	bool sync;
	struct snapshot_row row;
	int64_t parent_id;
	struct snapshot_chain chain;
	struct snapshot_usage usage;
};

static int commit_check(struct committing *m, const struct db_tx *tx, struct error *err)
{
	struct snapshot_row other;
	int r;

	if (snapshot_row_get(m->c, tx, m->sn, m->key, &m->row, err) < 0)
		return -1;
	if (m->row.kind != SNAPSHOT_ACTIVE)
		return error_set(err, ERROR_FAILED_PRECONDITION, "snapshot '%s' is not active",
				 m->key);
	r = snapshot_row_find(m->c, tx, m->sn, m->name, &other, err);
	if (r != 0)
		return r < 0 ? -1
			     : error_set(err, ERROR_ALREADY_EXISTS, "snapshot '%s' exists",
					 m->name);
	m->parent_id = m->row.parent;
	if (!m->parent)
		return 0;
	if (snapshot_parent_get(m->c, tx, m->sn, m->parent, &m->parent_id, err) < 0)
		return -1;
	if (m->parent_id == m->row.parent)
		return 0;
	if (m->row.parent || !(m->sn->ops->capabilities & SNAPSHOT_CAN_REBASE))
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "snapshot '%s' cannot be moved onto another parent", m->key);
	return 0;
}

static int commit_begin(struct committing *m, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (db_write(m->c->store->db, &tx, err) < 0 || commit_check(m, &tx, err) < 0)
		return -1;
	if (snapshot_pinned(m->c->store, m->row.id))
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "snapshot '%s' is being committed by another", m->key);
	if (m->implied && m->implied->n &&
	    snapshot_chain_load(&tx, m->parent_id, &m->chain, err) < 0)
		return -1;
	snapshot_pin(m->c->store, m->row.id);
	snapshot_pin(m->c->store, m->parent_id);
	return 0;
}

static int commit_tree(struct committing *m, struct error *err)
{
	autoclose int fd = snapshotter_open_fs(m->sn, m->row.id, err);

	if (fd < 0)
		return -1;
	if (m->chain.n && implied_patch(m->sn, fd, &m->chain, m->implied, err) < 0)
		return -1;
	if (tree_usage(fd, &m->usage, err) < 0)
		return -1;
	if (m->sync && syncfs(fd) < 0)
		return error_errno(err, errno, "sync '%s/%lld'", m->sn->dir, (long long)m->row.id);
	return failpoint("store.snapshot-commit.before-record", err);
}

static int commit_record(struct committing *m, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autofree char *labels = labels_format(m->labels);
	autofree char *type = snapshot_lease_type(m->sn);

	if (db_write(m->c->store->db, &tx, err) < 0 || commit_check(m, &tx, err) < 0)
		return -1;
	if (db_exec(&tx, err,
		    "UPDATE snapshots SET name = ?, kind = ?, parent = ?, size = ?, inodes = ?,"
		    " updated = ?, labels = ? WHERE id = ?",
		    "siiiiisi", m->name, (int64_t)SNAPSHOT_COMMITTED, m->parent_id, m->usage.size,
		    m->usage.inodes, time_realtime(), labels, m->row.id) < 0 ||
	    ctx_lease_remove(m->c, &tx, type, m->key, err) < 0 ||
	    ctx_lease_add(m->c, &tx, type, m->name, err) < 0)
		return -1;
	gc_touch(m->c->store, GC_SNAPSHOT, m->c->ns, m->sn->ops->name, m->name);
	return m->sync ? db_commit_sync(&tx, err) : db_commit(&tx, err);
}

static int commit(struct committing *m, const char *sn_name, struct error *err)
{
	int r;

	m->sn = snapshotter_get(m->c, sn_name, err);
	if (!m->sn || name_check("snapshot", m->name, err) < 0 || labels_check(m->labels, err) < 0)
		return -1;
	r = commit_begin(m, err);
	if (r == 0) {
		r = commit_tree(m, err);
		if (r == 0)
			r = commit_record(m, err);
		snapshot_unpin(m->c->store, m->parent_id);
		snapshot_unpin(m->c->store, m->row.id);
	}
	snapshot_chain_done(&m->chain);
	return r < 0 ? error_wrap(err, "commit snapshot '%s'", m->key) : 0;
}

int snapshot_commit(const struct store_ctx *c, const char *sn, const char *name, const char *key,
		    const struct kvs *labels, bool sync, struct error *err)
{
	struct committing m = { .c = c, .name = name, .key = key, .labels = labels, .sync = sync };

	return commit(&m, sn, err);
}

int snapshot_commit_onto(const struct store_ctx *c, const char *sn, const char *name,
			 const char *key, const char *parent, const struct strv *implied,
			 const struct kvs *labels, bool sync, struct error *err)
{
	struct committing m = { .c = c,
				.name = name,
				.key = key,
				.parent = parent ? parent : "",
				.implied = implied,
				.labels = labels,
				.sync = sync };

	return commit(&m, sn, err);
}
