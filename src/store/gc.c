/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mark and sweep beside running requests.
 *
 * The mark works on a database snapshot and takes no lock. While it runs, every write transaction
 * names what it made, referenced or changed (gc_touch, the barrier); barrier and snapshot begin in
 * the same moment, under the writer lock. The sweep, one write transaction, first looks at those
 * objects as they are now and marks them and what they lead to, then deletes what is unmarked.
 *
 * Why that is right: whatever is reachable at the sweep is reachable by a path that was there at
 * the snapshot (marked then), or by one with a first link that is newer; the object with that link
 * has been touched, so it is marked, and so is all behind it. What became garbage since is kept
 * until the next run.
 *
 * Only existing rows are deleted, never files: a blob's file goes when no row names it (content.c
 * says why that is safe), a snapshot's directory has a number that is never used again.
 */

#include "store/gc.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/failpoint.h"
#include "store/gc-graph.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { DISCARD_BATCH = 64 };

void gc_touch(struct store *s, enum gc_kind kind, const char *ns, const char *sn, const char *id)
{
	pthread_mutex_lock(&s->barrier_lock);
	if (s->barrier)
		strv_take(s->barrier, gc_key_format(kind, ns, sn, id));
	pthread_mutex_unlock(&s->barrier_lock);
}

static void set_barrier(struct store *s, struct strv *barrier)
{
	pthread_mutex_lock(&s->barrier_lock);
	s->barrier = barrier;
	pthread_mutex_unlock(&s->barrier_lock);
}

struct run {
	struct store *s;
	struct gc_graph graph;
	struct strv barrier;
	struct strv digests; /* of deleted content records */
	struct strv paths;   /* to be removed from disk */
	struct gc_stats stats;
	int64_t start, held; /* held: how long others may have had to wait for us, ns */
};

static void run_done(struct run *r)
{
	set_barrier(r->s, NULL);
	gc_graph_done(&r->graph);
	strv_done(&r->barrier);
	strv_done(&r->digests);
	strv_done(&r->paths);
}

static int run_mark(struct run *r, struct error *err)
{
	autotx struct db_tx reader = DB_TX_INIT;
	autotx struct db_tx writer = DB_TX_INIT;

	if (db_read_private(r->s->db, &reader, err) < 0 || db_write(r->s->db, &writer, err) < 0)
		return -1;
	if (db_snapshot(&reader, err) < 0)
		return -1;
	set_barrier(r->s, &r->barrier);
	db_tx_end(&writer);
	if (gc_graph_load(&r->graph, &reader, err) < 0)
		return -1;
	gc_graph_mark_roots(&r->graph);
	return 0;
}

/* What the barrier holds, and snapshots that somebody works on. */
static int run_rescue(struct run *r, const struct db_tx *tx, struct error *err)
{
	for (size_t i = 0; i < r->barrier.n; i++) {
		if (gc_graph_touch(&r->graph, tx, r->barrier.v[i], err) < 0)
			return -1;
	}
	MAP_FOREACH (e, &r->graph.nodes) {
		struct gc_node *n = map_value(e);

		if (n->kind == GC_SNAPSHOT && n->exists && snapshot_pinned(r->s, n->id))
			gc_graph_mark(&r->graph, n, GC_LIVE);
	}
	gc_graph_follow(&r->graph);
	return 0;
}

static int delete_snapshot(struct run *r, const struct db_tx *tx, const struct gc_node *n,
			   const struct gc_key *k, struct error *err)
{
	const struct snapshotter *sn = snapshotter_find(r->s, k->sn);
	/* The name may have become another one's meanwhile; then the record is not the one marked.
	 */
	int changed = db_exec(tx, err, "DELETE FROM snapshots WHERE id = ? AND name = ?", "is",
			      n->id, k->id);

	if (changed > 0) {
		r->stats.snapshots++;
		if (sn)
			strv_push_printf(&r->paths, "%s/%lld", sn->rel, (long long)n->id);
	}
	return changed;
}

static int delete_lease(struct run *r, const struct db_tx *tx, const struct gc_key *k,
			struct error *err)
{
	int changed =
		db_exec(tx, err, "DELETE FROM leases WHERE ns = ? AND id = ?", "ss", k->ns, k->id);

	if (changed < 0)
		return -1;
	r->stats.leases += (uint64_t)changed;
	return db_exec(tx, err, "DELETE FROM lease_resources WHERE ns = ? AND lease = ?", "ss",
		       k->ns, k->id);
}

static int delete_node(struct run *r, const struct db_tx *tx, const struct gc_node *n,
		       struct error *err)
{
	autofree char *text = xstrdup(n->key);
	struct gc_key k;
	int changed = 0;

	gc_key_split(text, &k);
	switch (k.kind) {
	case GC_CONTENT:
		changed = db_exec(tx, err, "DELETE FROM content WHERE digest = ? AND ns = ?", "ss",
				  k.id, k.ns);
		if (changed > 0)
			strv_push(&r->digests, k.id);
		break;
	case GC_SNAPSHOT:
		changed = delete_snapshot(r, tx, n, &k, err);
		break;
	case GC_IMAGE:
		changed = db_exec(tx, err, "DELETE FROM images WHERE ns = ? AND name = ?", "ss",
				  k.ns, k.id);
		r->stats.images += changed > 0;
		break;
	case GC_LEASE:
		changed = delete_lease(r, tx, &k, err);
		break;
	default:
		break;
	}
	return changed < 0 ? -1 : 0;
}

static int run_sweep(struct run *r, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (db_write(r->s->db, &tx, err) < 0 || run_rescue(r, &tx, err) < 0)
		return -1;
	set_barrier(r->s, NULL);
	MAP_FOREACH (e, &r->graph.nodes) {
		struct gc_node *n = map_value(e);

		/* What the snapshot had, in its key; later ones are touched, hence live. */
		if (!n->exists || n->mark != GC_DEAD || !n->key)
			continue;
		if (delete_node(r, &tx, n, err) < 0)
			return -1;
	}
	return db_commit_sync(&tx, err);
}

/* Moves the files of blobs that no namespace has any more into the trash, a batch a lock. */
static int run_discard(struct run *r, struct error *err)
{
	for (size_t i = 0; i < r->digests.n;) {
		autotx struct db_tx tx = DB_TX_INIT;
		size_t end = MIN(i + DISCARD_BATCH, r->digests.n);

		if (db_write(r->s->db, &tx, err) < 0)
			return -1;
		for (; i < end; i++) {
			char *trash = NULL;
			struct stat st;

			if (!blob_discard(r->s, &tx, r->digests.v[i], &trash))
				continue;
			r->stats.blobs++;
			if (fstatat(r->s->root_fd, trash, &st, AT_SYMLINK_NOFOLLOW) == 0)
				r->stats.bytes += st.st_size;
			strv_take(&r->paths, trash);
		}
	}
	return 0;
}

static int run_ingests(struct run *r, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	size_t before = r->paths.n;

	if (db_read_private(r->s->db, &tx, err) < 0 ||
	    ingest_expire(r->s, &tx, r->graph.now, &r->paths, &r->graph.next_expiry, err) < 0)
		return -1;
	r->stats.ingests = r->paths.n - before;
	return 0;
}

static void run_remove(struct run *r)
{
	for (size_t i = 0; i < r->paths.n; i++) {
		int e = fs_remove_tree(r->s->root_fd, r->paths.v[i]);

		if (e < 0)
			log_warn("remove '%s/%s': error %d, ignoring", r->s->root, r->paths.v[i],
				 -e);
	}
}

static int run_all(struct run *r, struct error *err)
{
	if (run_mark(r, err) < 0 || failpoint("store.gc.before-sweep", err) < 0 ||
	    run_sweep(r, err) < 0 || failpoint("store.gc.before-discard", err) < 0 ||
	    run_discard(r, err) < 0 || run_ingests(r, err) < 0)
		return -1;
	/* Files go without any lock: their removal, which can take seconds, delays nobody. */
	r->held = time_monotonic() - r->start;
	run_remove(r);
	return 0;
}

int gc_run(struct store *s, struct gc_stats *ret, struct error *err)
{
	CLEANUP(run_done)
	struct run run = { .s = s, .graph.now = time_realtime(), .start = time_monotonic() };
	int r;

	pthread_mutex_lock(&s->gc_lock);
	r = run_all(&run, err);
	set_barrier(s, NULL);
	run.stats.duration = time_monotonic() - run.start;
	if (r == 0)
		reaper_collected(s, run.graph.next_expiry, run.held);
	pthread_mutex_unlock(&s->gc_lock);
	if (r < 0)
		return error_wrap(err, "garbage collection");
	if (ret)
		*ret = run.stats;
	return 0;
}
