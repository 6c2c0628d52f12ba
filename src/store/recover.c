/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash can leave: files and directories that no record names (made before the record,
 * removed after it), and, after a power failure, records whose file or directory is missing (a
 * commit that had not been promised yet, or a deletion that had not reached the disk). Both are
 * found by comparing names, without reading or even stat'ing anything, so that a start is quick.
 */

#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "oci/digest.h"
#include "store/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

static char present; /* non-NULL value of sets */

/* Names in a directory under root, with a prefix put in front of them. */
static int list_names(struct store *s, const char *path, const char *prefix, struct map *ret,
		      struct error *err)
{
	int fd = openat(s->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return error_errno(err, errno, "open '%s/%s'", s->root, path);
	while ((e = readdir(d))) {
		autofree char *name = xasprintf("%s%s", prefix, e->d_name);

		if (!str_equal(e->d_name, ".") && !str_equal(e->d_name, ".."))
			map_set(ret, name, &present);
	}
	closedir(d);
	return 0;
}

/* Takes the blobs that have a record out of `files`; collects digests without a file. */
static int match_blobs(const struct db_tx *tx, struct map *files, struct strv *missing,
		       struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	autofree char *last = xstrdup("");
	int r;

	if (db_query(tx, &q, err, "SELECT digest FROM content ORDER BY digest", "") < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		if (str_equal(last, db_text(&q, 0)))
			continue;
		str_replace(&last, db_text(&q, 0));
		if (!map_remove(files, last))
			strv_push(missing, last);
	}
	return r;
}

static int recover_content(struct store *s, const struct db_tx *tx, struct error *err)
{
	CLEANUP(map_done) struct map files = MAP_INIT;
	autostrv struct strv missing = STRV_INIT;

	if (list_names(s, BLOBS_DIR "/sha256", "sha256:", &files, err) < 0 ||
	    list_names(s, BLOBS_DIR "/sha512", "sha512:", &files, err) < 0 ||
	    match_blobs(tx, &files, &missing, err) < 0)
		return -1;
	for (size_t i = 0; i < missing.n; i++) {
		log_warn("content '%s': the blob is missing, dropping its record", missing.v[i]);
		if (db_exec(tx, err, "DELETE FROM content WHERE digest = ?", "s", missing.v[i]) < 0)
			return -1;
	}
	MAP_FOREACH (e, &files) {
		autofree char *path = NULL, *trash = NULL;

		if (digest_valid(map_key(e)))
			path = blob_path(map_key(e));
		if (path && trash_move(s, path, &trash) == 0)
			reaper_remove(s, TAKE_PTR(trash));
	}
	return 0;
}

/* Takes the directories that have a record out of `dirs`; collects records without one. */
static int match_snapshots(const struct db_tx *tx, const struct snapshotter *sn, struct map *dirs,
			   struct strv *missing, struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_query(tx, &q, err, "SELECT CAST(id AS TEXT) FROM snapshots WHERE sn = ?", "s",
		     sn->ops->name) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		if (!map_remove(dirs, db_text(&q, 0)))
			strv_push(missing, db_text(&q, 0));
	}
	return r;
}

static void note_number(struct store *s, const char *name)
{
	int64_t n;

	if (parse_int64(name, &n) == 0 && n > atomic_load(&s->last_snapshot))
		atomic_store(&s->last_snapshot, n);
}

static int recover_snapshotter(struct store *s, const struct db_tx *tx,
			       const struct snapshotter *sn, struct error *err)
{
	CLEANUP(map_done) struct map dirs = MAP_INIT;
	autostrv struct strv missing = STRV_INIT;

	if (list_names(s, sn->rel, "", &dirs, err) < 0)
		return -1;
	MAP_FOREACH (e, &dirs)
		note_number(s, map_key(e));
	if (match_snapshots(tx, sn, &dirs, &missing, err) < 0)
		return -1;
	for (size_t i = 0; i < missing.n; i++) {
		log_warn("snapshot '%s/%s': the directory is missing, dropping its record", sn->dir,
			 missing.v[i]);
		if (db_exec(tx, err, "DELETE FROM snapshots WHERE id = CAST(? AS INTEGER)", "s",
			    missing.v[i]) < 0)
			return -1;
	}
	MAP_FOREACH (e, &dirs)
		reaper_remove(s, xasprintf("%s/%s", sn->rel, map_key(e)));
	return 0;
}

static const char *snapshotter_rel(const struct store *s, const char *name)
{
	for (size_t i = 0; i < N_SNAPSHOTTERS; i++) {
		if (str_equal(s->snapshotters[i].ops->name, name))
			return s->snapshotters[i].rel;
	}
	return NULL;
}

#define ORPHANS                                           \
	" FROM snapshots WHERE parent != 0 AND kind != ?" \
	" AND parent NOT IN (SELECT id FROM snapshots)"

static int remove_orphan_dirs(struct store *s, const struct db_tx *tx, struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_query(tx, &q, err, "SELECT sn, CAST(id AS TEXT)" ORPHANS, "i",
		     (int64_t)SNAPSHOT_ACTIVE) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		const char *rel = snapshotter_rel(s, db_text(&q, 0));

		if (rel)
			reaper_remove(s, xasprintf("%s/%s", rel, db_text(&q, 1)));
	}
	return r;
}

/* What cannot be mounted any more goes, except a container's own layer: it holds somebody's data.
 */
static int drop_orphans(struct store *s, const struct db_tx *tx, struct error *err)
{
	int n;

	do {
		if (remove_orphan_dirs(s, tx, err) < 0)
			return -1;
		n = db_exec(tx, err, "DELETE" ORPHANS, "i", (int64_t)SNAPSHOT_ACTIVE);
	} while (n > 0);
	return n;
}

static int note_highest(struct store *s, const struct db_tx *tx, struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_query(tx, &q, err, "SELECT CAST(ifnull(max(id), 0) AS TEXT) FROM snapshots", "") < 0)
		return -1;
	r = db_step(&q, err);
	if (r > 0)
		note_number(s, db_text(&q, 0));
	return MIN(r, 0);
}

static int recover_records(struct store *s, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (db_write(s->db, &tx, err) < 0 || note_highest(s, &tx, err) < 0 ||
	    recover_content(s, &tx, err) < 0)
		return -1;
	for (size_t i = 0; i < N_SNAPSHOTTERS; i++) {
		if (recover_snapshotter(s, &tx, &s->snapshotters[i], err) < 0)
			return -1;
	}
	if (drop_orphans(s, &tx, err) < 0)
		return -1;
	return db_commit(&tx, err);
}

/* Trash names count up; new ones must not meet old ones. */
static int recover_trash(struct store *s, struct error *err)
{
	CLEANUP(map_done) struct map names = MAP_INIT;
	uint64_t n;

	if (list_names(s, TRASH_DIR, "", &names, err) < 0)
		return -1;
	MAP_FOREACH (e, &names) {
		if (parse_uint64(map_key(e), &n) == 0 && n >= atomic_load(&s->trash_counter))
			atomic_store(&s->trash_counter, n + 1);
		reaper_remove(s, xasprintf(TRASH_DIR "/%s", map_key(e)));
	}
	return 0;
}

int recover(struct store *s, struct error *err)
{
	if (recover_trash(s, err) < 0 || recover_records(s, err) < 0 || ingest_recover(s, err) < 0)
		return error_wrap(err, "recover '%s'", s->root);
	return 0;
}
