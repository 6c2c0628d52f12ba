/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The expiry is kept twice: as the label that clients see, and as a number for the collector.
 */

#include "store/leases.h"

#include "base/mem.h"
#include "base/time.h"
#include "store/gc.h"
#include "store/internal.h"

void leases_done(struct leases *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].id);
		kvs_done(&l->v[i].labels);
	}
	free(l->v);
	*l = (struct leases){ 0 };
}

void lease_resources_done(struct lease_resources *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->v[i].type);
		free(r->v[i].id);
	}
	free(r->v);
	*r = (struct lease_resources){ 0 };
}

static int not_found(const char *id, struct error *err)
{
	return error_set(err, ERROR_NOT_FOUND, "lease '%s' not found", id);
}

static int lease_exists(const struct db_tx *tx, const char *ns, const char *id, struct error *err)
{
	int r = db_exists(tx, err, "SELECT 1 FROM leases WHERE ns = ? AND id = ?", "ss", ns, id);

	if (r <= 0)
		return r < 0 ? -1 : not_found(id, err);
	return 0;
}

static int resource_add(const struct store_ctx *c, const struct db_tx *tx, const char *lease,
			const char *type, const char *id, struct error *err)
{
	if (lease_exists(tx, c->ns, lease, err) < 0 ||
	    db_exec(tx, err,
		    "INSERT OR IGNORE INTO lease_resources (ns, lease, type, id)"
		    " VALUES (?, ?, ?, ?)",
		    "ssss", c->ns, lease, type, id) < 0)
		return -1;
	gc_touch(c->store, GC_LEASE, c->ns, NULL, lease);
	return 0;
}

static int resource_remove(const struct store_ctx *c, const struct db_tx *tx, const char *lease,
			   const char *type, const char *id, struct error *err)
{
	return db_exec(tx, err,
		       "DELETE FROM lease_resources"
		       " WHERE ns = ? AND lease = ? AND type = ? AND id = ?",
		       "ssss", c->ns, lease, type, id);
}

int ctx_lease_add(const struct store_ctx *c, const struct db_tx *tx, const char *type,
		  const char *resource, struct error *err)
{
	return c->lease ? resource_add(c, tx, c->lease, type, resource, err) : 0;
}

int ctx_lease_remove(const struct store_ctx *c, const struct db_tx *tx, const char *type,
		     const char *resource, struct error *err)
{
	if (!c->lease)
		return 0;
	return resource_remove(c, tx, c->lease, type, resource, err) < 0 ? -1 : 0;
}

int lease_create(const struct store_ctx *c, const char *id, int64_t expire_at,
		 const struct kvs *labels, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autokvs struct kvs all = KVS_INIT;
	autofree char *text = NULL;
	char expire[TIME_RFC3339_MAX];
	const char *given;
	int n;

	if (name_check("lease", id, err) < 0 || labels_check(labels, err) < 0)
		return -1;
	if (labels)
		kvs_copy(&all, labels);
	given = kvs_get(&all, LABEL_GC_EXPIRE);
	if (expire_at > 0) {
		time_format_rfc3339(expire_at, expire);
		kvs_set(&all, LABEL_GC_EXPIRE, expire);
	} else if (given && time_parse_rfc3339(given, &expire_at) < 0) {
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "lease '%s': " LABEL_GC_EXPIRE " '%.64s' is not a time", id,
				 given);
	}
	text = labels_format(&all);
	if (db_write(c->store->db, &tx, err) < 0 || ctx_ensure_namespace(c, &tx, err) < 0)
		return -1;
	n = db_exec(&tx, err,
		    "INSERT OR IGNORE INTO leases (ns, id, created, expire, labels)"
		    " VALUES (?, ?, ?, ?, ?)",
		    "ssiis", c->ns, id, time_realtime(), expire_at, text);
	if (n < 0)
		return -1;
	if (n == 0)
		return error_set(err, ERROR_ALREADY_EXISTS, "lease '%s' exists", id);
	gc_touch(c->store, GC_LEASE, c->ns, NULL, id);
	return db_commit(&tx, err);
}

int lease_delete(const struct store_ctx *c, const char *id, bool sync, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (db_write(c->store->db, &tx, err) < 0 || lease_exists(&tx, c->ns, id, err) < 0 ||
	    db_exec(&tx, err, "DELETE FROM lease_resources WHERE ns = ? AND lease = ?", "ss", c->ns,
		    id) < 0 ||
	    db_exec(&tx, err, "DELETE FROM leases WHERE ns = ? AND id = ?", "ss", c->ns, id) < 0 ||
	    db_commit(&tx, err) < 0)
		return -1;
	if (sync)
		return gc_run(c->store, NULL, err);
	gc_schedule(c->store);
	return 0;
}

int lease_list(const struct store_ctx *c, struct leases *ret, struct error *err)
{
	CLEANUP(leases_done) struct leases list = { 0 };
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_read(c->store->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err,
		     "SELECT id, created, labels FROM leases WHERE ns = ? ORDER BY id", "s",
		     c->ns) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		struct lease *l;

		GROW_ARRAY(list.v, list.n);
		l = &list.v[list.n++];
		*l = (struct lease){ .id = db_strdup(&q, 0), .created_at = db_int(&q, 1) };
		if (labels_parse(db_text(&q, 2), &l->labels, err) < 0)
			return -1;
	}
	if (r < 0)
		return -1;
	*ret = list;
	list = (struct leases){ 0 };
	return 0;
}

static int type_check(const char *type, struct error *err)
{
	if (str_equal(type, "content") || str_equal(type, "ingests") || str_equal(type, "images") ||
	    str_has_prefix(type, "snapshots/"))
		return 0;
	return error_set(err, ERROR_UNIMPLEMENTED, "lease resource type '%.64s' is not known",
			 type);
}

int lease_add(const struct store_ctx *c, const char *id, const char *type, const char *resource,
	      struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (type_check(type, err) < 0 || name_check("resource", resource, err) < 0 ||
	    db_write(c->store->db, &tx, err) < 0 ||
	    resource_add(c, &tx, id, type, resource, err) < 0)
		return -1;
	return db_commit(&tx, err);
}

int lease_remove(const struct store_ctx *c, const char *id, const char *type, const char *resource,
		 struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (type_check(type, err) < 0 || db_write(c->store->db, &tx, err) < 0 ||
	    lease_exists(&tx, c->ns, id, err) < 0 ||
	    resource_remove(c, &tx, id, type, resource, err) < 0 || db_commit(&tx, err) < 0)
		return -1;
	gc_schedule(c->store);
	return 0;
}

int lease_resources(const struct store_ctx *c, const char *id, struct lease_resources *ret,
		    struct error *err)
{
	CLEANUP(lease_resources_done) struct lease_resources list = { 0 };
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_read(c->store->db, &tx, err) < 0 || lease_exists(&tx, c->ns, id, err) < 0 ||
	    db_query(&tx, &q, err,
		     "SELECT type, id FROM lease_resources WHERE ns = ? AND lease = ?"
		     " ORDER BY type, id",
		     "ss", c->ns, id) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		GROW_ARRAY(list.v, list.n);
		list.v[list.n++] = (struct lease_resource){
			.type = db_strdup(&q, 0),
			.id = db_strdup(&q, 1),
		};
	}
	if (r < 0)
		return -1;
	*ret = list;
	list = (struct lease_resources){ 0 };
	return 0;
}
