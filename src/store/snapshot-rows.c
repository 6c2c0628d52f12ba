/* SPDX-License-Identifier: Apache-2.0 */

#include "store/snapshot-rows.h"

#include "base/mem.h"

enum { CHAIN_MAX = 4096 };

void snapshot_chain_done(struct snapshot_chain *c)
{
	free(c->v);
	*c = SNAPSHOT_CHAIN_INIT;
}

void snapshot_pin(struct store *s, int64_t id)
{
	pthread_mutex_lock(&s->pins.lock);
	GROW_ARRAY(s->pins.v, s->pins.n);
	s->pins.v[s->pins.n++] = id;
	pthread_mutex_unlock(&s->pins.lock);
}

void snapshot_unpin(struct store *s, int64_t id)
{
	pthread_mutex_lock(&s->pins.lock);
	for (size_t i = 0; i < s->pins.n; i++) {
		if (s->pins.v[i] == id) {
			s->pins.v[i] = s->pins.v[--s->pins.n];
			break;
		}
	}
	pthread_mutex_unlock(&s->pins.lock);
}

bool snapshot_pinned(struct store *s, int64_t id)
{
	bool found = false;

	pthread_mutex_lock(&s->pins.lock);
	for (size_t i = 0; i < s->pins.n && !found; i++)
		found = s->pins.v[i] == id;
	pthread_mutex_unlock(&s->pins.lock);
	return found;
}

struct snapshotter *snapshotter_find(struct store *s, const char *name)
{
	if (!name)
		return s->default_snapshotter;
	for (size_t i = 0; i < N_SNAPSHOTTERS; i++) {
		if (str_equal(name, s->snapshotters[i].ops->name))
			return &s->snapshotters[i];
	}
	return NULL;
}

struct snapshotter *snapshotter_get(const struct store_ctx *c, const char *name, struct error *err)
{
	struct snapshotter *sn = snapshotter_find(c->store, name);

	if (!sn)
		error_set(err, ERROR_NOT_FOUND, "snapshotter '%.64s' does not exist", name);
	return sn;
}

int snapshot_not_found(const char *key, struct error *err)
{
	return error_set(err, ERROR_NOT_FOUND, "snapshot '%s' not found", key);
}

/* 1: found. */
int snapshot_row_find(const struct store_ctx *c, const struct db_tx *tx,
		      const struct snapshotter *sn, const char *name, struct snapshot_row *ret,
		      struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_query(tx, &q, err,
		     "SELECT id, parent, kind, size, inodes FROM snapshots"
		     " WHERE name = ? AND ns = ? AND sn = ?",
		     "sss", name, c->ns, sn->ops->name) < 0)
		return -1;
	r = db_step(&q, err);
	if (r > 0)
		*ret = (struct snapshot_row){
			.id = db_int(&q, 0),
			.parent = db_int(&q, 1),
			.kind = db_int(&q, 2),
			.size = db_int(&q, 3),
			.inodes = db_int(&q, 4),
		};
	return r;
}

int snapshot_row_get(const struct store_ctx *c, const struct db_tx *tx,
		     const struct snapshotter *sn, const char *name, struct snapshot_row *ret,
		     struct error *err)
{
	int r = snapshot_row_find(c, tx, sn, name, ret, err);

	return r > 0 ? 0 : r < 0 ? -1 : snapshot_not_found(name, err);
}

/* The number of a committed parent; 0 for "" and NULL. */
int snapshot_parent_get(const struct store_ctx *c, const struct db_tx *tx,
			const struct snapshotter *sn, const char *parent, int64_t *ret,
			struct error *err)
{
	struct snapshot_row row;

	*ret = 0;
	if (str_empty(parent))
		return 0;
	if (snapshot_row_get(c, tx, sn, parent, &row, err) < 0)
		return error_wrap(err, "parent");
	if (row.kind != SNAPSHOT_COMMITTED)
		return error_set(err, ERROR_FAILED_PRECONDITION, "parent '%s' is not committed",
				 parent);
	*ret = row.id;
	return 0;
}

static int chain_next(const struct db_tx *tx, int64_t id, int64_t *ret, struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_query(tx, &q, err, "SELECT parent FROM snapshots WHERE id = ?", "i", id) < 0)
		return -1;
	r = db_step(&q, err);
	if (r == 0)
		return error_set(err, ERROR_DATA_LOSS, "parent snapshot %lld is missing",
				 (long long)id);
	*ret = db_int(&q, 0);
	return r < 0 ? -1 : 0;
}

int snapshot_chain_load(const struct db_tx *tx, int64_t parent, struct snapshot_chain *ret,
			struct error *err)
{
	for (int64_t id = parent; id;) {
		if (ret->n == CHAIN_MAX)
			return error_set(err, ERROR_FAILED_PRECONDITION,
					 "more than %d layers in a chain", CHAIN_MAX);
		GROW_ARRAY(ret->v, ret->n);
		ret->v[ret->n++] = id;
		if (chain_next(tx, id, &id, err) < 0)
			return -1;
	}
	return 0;
}

char *snapshot_lease_type(const struct snapshotter *sn)
{
	return xasprintf("snapshots/%s", sn->ops->name);
}

int snapshot_lease_add(const struct store_ctx *c, const struct db_tx *tx,
		       const struct snapshotter *sn, const char *name, struct error *err)
{
	autofree char *type = snapshot_lease_type(sn);

	return ctx_lease_add(c, tx, type, name, err);
}

int snapshot_row_lookup(const struct store_ctx *c, const struct snapshotter *sn, const char *key,
			struct snapshot_row *ret, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (db_read(c->store->db, &tx, err) < 0)
		return -1;
	return snapshot_row_get(c, &tx, sn, key, ret, err);
}
