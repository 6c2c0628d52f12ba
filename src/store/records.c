/* SPDX-License-Identifier: Apache-2.0 */

#include "base/mem.h"
#include "store/containers.h"
#include "store/internal.h"

static int not_found(const char *kind, const char *id, struct error *err)
{
	return error_set(err, ERROR_NOT_FOUND, "%s '%s' not found", kind, id);
}

int record_put(const struct store_ctx *c, const char *kind, const char *id, const char *document,
	       bool sync, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (name_check("record kind", kind, err) < 0 || name_check(kind, id, err) < 0)
		return -1;
	if (db_write(c->store->db, &tx, err) < 0 || ctx_ensure_namespace(c, &tx, err) < 0 ||
	    db_exec(&tx, err,
		    "INSERT OR REPLACE INTO records (ns, kind, id, document) VALUES (?, ?, ?, ?)",
		    "ssss", c->ns, kind, id, document) < 0)
		return -1;
	return sync ? db_commit_sync(&tx, err) : db_commit(&tx, err);
}

int record_get(const struct store_ctx *c, const char *kind, const char *id, char **ret,
	       struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_read(c->store->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err,
		     "SELECT document FROM records WHERE ns = ? AND kind = ? AND id = ?", "sss",
		     c->ns, kind, id) < 0)
		return -1;
	r = db_step(&q, err);
	if (r <= 0)
		return r < 0 ? -1 : not_found(kind, id, err);
	*ret = db_strdup(&q, 0);
	return 0;
}

int record_list(const struct store_ctx *c, const char *kind, struct kvs *ret, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	autokvs struct kvs list = KVS_INIT;
	int r;

	if (db_read(c->store->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err,
		     "SELECT id, document FROM records WHERE ns = ? AND kind = ? ORDER BY id", "ss",
		     c->ns, kind) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0)
		kvs_set(&list, db_text(&q, 0), db_text(&q, 1));
	if (r < 0)
		return -1;
	kvs_done(ret);
	*ret = list;
	list = KVS_INIT;
	return 0;
}

int record_delete(const struct store_ctx *c, const char *kind, const char *id, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	int n;

	if (db_write(c->store->db, &tx, err) < 0)
		return -1;
	n = db_exec(&tx, err, "DELETE FROM records WHERE ns = ? AND kind = ? AND id = ?", "sss",
		    c->ns, kind, id);
	if (n <= 0)
		return n < 0 ? -1 : not_found(kind, id, err);
	return db_commit(&tx, err);
}
