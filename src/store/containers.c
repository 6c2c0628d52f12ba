/* SPDX-License-Identifier: Apache-2.0 */

#include "store/containers.h"

#include "base/mem.h"
#include "base/time.h"
#include "store/gc.h"
#include "store/internal.h"

#define CONTAINER_COLUMNS                                                                   \
	"id, image, runtime, runtime_options, spec, snapshotter, snapshot_key, sandbox_id," \
	" labels, extensions, created, updated"

void container_record_done(struct container_record *r)
{
	free(r->id);
	free(r->image);
	free(r->runtime);
	free(r->runtime_options);
	free(r->spec);
	free(r->snapshotter);
	free(r->snapshot_key);
	free(r->sandbox_id);
	kvs_done(&r->labels);
	kvs_done(&r->extensions);
	*r = (struct container_record){ 0 };
}

void container_records_done(struct container_records *r)
{
	for (size_t i = 0; i < r->n; i++)
		container_record_done(&r->v[i]);
	free(r->v);
	*r = (struct container_records){ 0 };
}

static const char *or_empty(const char *s)
{
	return s ? s : "";
}

static int record_check(const struct container_record *r, struct error *err)
{
	if (!identifier_valid(r->id))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "container '%.128s': the id is not a valid identifier",
				 or_empty(r->id));
	if (labels_check_text(&r->extensions, err) < 0)
		return error_wrap(err, "container '%s': extensions", r->id);
	return labels_check(&r->labels, err);
}

/* sql has the twelve parameters of `id, columns..., ns`, in the order below. Rows changed, or -1.
 */
static int record_write(const struct store_ctx *c, const struct db_tx *tx,
			const struct container_record *r, const char *sql, struct error *err)
{
	autofree char *labels = labels_format(&r->labels);
	autofree char *extensions = labels_format(&r->extensions);

	gc_touch(c->store, GC_CONTAINER, c->ns, NULL, r->id);
	return db_exec(tx, err, sql, "ssssssssssis", or_empty(r->image), or_empty(r->runtime),
		       r->runtime_options, r->spec, or_empty(r->snapshotter),
		       or_empty(r->snapshot_key), or_empty(r->sandbox_id), labels, extensions,
		       c->ns, time_realtime(), r->id);
}

int container_record_create(const struct store_ctx *c, const struct container_record *r, bool sync,
			    struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	int n;

	if (record_check(r, err) < 0 || db_write(c->store->db, &tx, err) < 0 ||
	    ctx_ensure_namespace(c, &tx, err) < 0)
		return -1;
	n = record_write(c, &tx, r,
			 "INSERT OR IGNORE INTO containers (image, runtime, runtime_options, spec,"
			 " snapshotter, snapshot_key, sandbox_id, labels, extensions, ns, created,"
			 " updated, id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11,"
			 " ?12)",
			 err);
	if (n < 0)
		return -1;
	if (n == 0)
		return error_set(err, ERROR_ALREADY_EXISTS, "container '%s' exists", r->id);
	return sync ? db_commit_sync(&tx, err) : db_commit(&tx, err);
}

static int not_found(const char *id, struct error *err)
{
	return error_set(err, ERROR_NOT_FOUND, "container '%s' not found", id);
}

int container_record_update(const struct store_ctx *c, const struct container_record *r,
			    struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	int n;

	if (record_check(r, err) < 0 || db_write(c->store->db, &tx, err) < 0)
		return -1;
	n = record_write(c, &tx, r,
			 "UPDATE containers SET image = ?1, runtime = ?2, runtime_options = ?3,"
			 " spec = ?4, snapshotter = ?5, snapshot_key = ?6, sandbox_id = ?7,"
			 " labels = ?8, extensions = ?9, updated = ?11 WHERE ns = ?10 AND id = ?12",
			 err);
	if (n <= 0)
		return n < 0 ? -1 : not_found(r->id, err);
	return db_commit(&tx, err);
}

static int record_from_row(const struct db_query *q, struct container_record *ret,
			   struct error *err)
{
	ret->id = db_strdup(q, 0);
	ret->image = db_strdup(q, 1);
	ret->runtime = db_strdup(q, 2);
	ret->runtime_options = db_strdup(q, 3);
	ret->spec = db_strdup(q, 4);
	ret->snapshotter = db_strdup(q, 5);
	ret->snapshot_key = db_strdup(q, 6);
	ret->sandbox_id = db_strdup(q, 7);
	ret->created_at = db_int(q, 10);
	ret->updated_at = db_int(q, 11);
	if (labels_parse(db_text(q, 8), &ret->labels, err) < 0 ||
	    labels_parse(db_text(q, 9), &ret->extensions, err) < 0)
		return error_wrap(err, "container '%s'", ret->id);
	return 0;
}

int container_record_get(const struct store_ctx *c, const char *id, struct container_record *ret,
			 struct error *err)
{
	CLEANUP(container_record_done) struct container_record rec = { 0 };
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_read(c->store->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err,
		     "SELECT " CONTAINER_COLUMNS " FROM containers WHERE ns = ? AND id = ?", "ss",
		     c->ns, id) < 0)
		return -1;
	r = db_step(&q, err);
	if (r <= 0)
		return r < 0 ? -1 : not_found(id, err);
	if (record_from_row(&q, &rec, err) < 0)
		return -1;
	*ret = rec;
	rec = (struct container_record){ 0 };
	return 0;
}

int container_record_list(const struct store_ctx *c, struct container_records *ret,
			  struct error *err)
{
	CLEANUP(container_records_done) struct container_records list = { 0 };
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_read(c->store->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err,
		     "SELECT " CONTAINER_COLUMNS " FROM containers WHERE ns = ?"
		     " ORDER BY created, id",
		     "s", c->ns) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		GROW_ARRAY(list.v, list.n);
		list.v[list.n] = (struct container_record){ 0 };
		if (record_from_row(&q, &list.v[list.n++], err) < 0)
			return -1;
	}
	if (r < 0)
		return -1;
	*ret = list;
	list = (struct container_records){ 0 };
	return 0;
}

int container_record_delete(const struct store_ctx *c, const char *id, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	int n;

	if (db_write(c->store->db, &tx, err) < 0)
		return -1;
	n = db_exec(&tx, err, "DELETE FROM containers WHERE ns = ? AND id = ?", "ss", c->ns, id);
	if (n <= 0)
		return n < 0 ? -1 : not_found(id, err);
	if (db_commit(&tx, err) < 0)
		return -1;
	gc_schedule(c->store);
	return 0;
}
