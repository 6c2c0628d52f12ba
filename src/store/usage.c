/* SPDX-License-Identifier: Apache-2.0 */
/* What the store takes on the disk, from its records: no tree is walked. */

#include "store/internal.h"

int store_usage(struct store *s, struct store_usage *ret, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query blobs = DB_QUERY_INIT;
	autoquery struct db_query snapshots = DB_QUERY_INIT;

	*ret = (struct store_usage){ 0 };
	if (db_read(s->db, &tx, err) < 0 ||
	    /* Namespaces share blobs. */
	    db_query(&tx, &blobs, err,
		     "SELECT TOTAL(size), COUNT(*) FROM"
		     " (SELECT MAX(size) AS size FROM content GROUP BY digest)",
		     "") < 0 ||
	    db_step(&blobs, err) < 0 ||
	    db_query(&tx, &snapshots, err,
		     "SELECT TOTAL(size), TOTAL(inodes) FROM snapshots WHERE kind = ?", "i",
		     (int64_t)SNAPSHOT_COMMITTED) < 0 ||
	    db_step(&snapshots, err) < 0)
		return -1;
	ret->content = db_int(&blobs, 0);
	ret->snapshots = db_int(&snapshots, 0);
	ret->inodes = db_int(&blobs, 1) + db_int(&snapshots, 1);
	return 0;
}
