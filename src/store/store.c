/* SPDX-License-Identifier: Apache-2.0 */

#include "store/store.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/failpoint.h"
#include "store/gc.h"
#include "store/internal.h"

#include <assert.h>
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

enum { IDENTIFIER_MAX = 76 };

static const struct snapshotter_ops *const all_snapshotters[N_SNAPSHOTTERS] = {
	&snapshotter_overlay,
	&snapshotter_native,
};

/* A daemon that was killed while it started a process leaves the lock with that child for the
 * moment until its exec; whoever comes right after it waits for that. */
static int lock_root(struct store *s, struct error *err)
{
	const struct timespec pause = { .tv_nsec = 20 * NSEC_PER_MSEC };

	for (int n = 0; flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0; n++) {
		if (errno != EWOULDBLOCK)
			return error_errno(err, errno, "lock '%s/lock'", s->root);
		if (n == 50)
			return error_set(err, ERROR_FAILED_PRECONDITION,
					 "root '%s' is in use by another process", s->root);
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int open_root(struct store *s, const char *root, struct error *err)
{
	int r;

	if (str_empty(root) || root[0] != '/' || strpbrk(root, ",:\\"))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "root '%s': must be an absolute path without ',', ':' and '\\'",
				 root ? root : "");
	r = fs_mkdir_p(root, 0700);
	if (r < 0)
		return error_errno(err, -r, "make root '%s'", root);
	s->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->root_fd < 0)
		return error_errno(err, errno, "open root '%s'", root);
	s->root = xstrdup(root);
	s->lock_fd = openat(s->root_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return error_errno(err, errno, "open '%s/lock'", root);
	return lock_root(s, err);
}

static int make_dirs(struct store *s, struct error *err)
{
	static const struct {
		const char *path;
		mode_t mode;
	} dirs[] = {
		{ BLOBS_DIR "/sha256", 0755 },
		{ BLOBS_DIR "/sha512", 0755 },
		{ INGEST_DIR, 0755 },
		{ TRASH_DIR, 0700 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		int r = fs_mkdirat_p(s->root_fd, dirs[i].path, dirs[i].mode);

		if (r < 0)
			return error_errno(err, -r, "make '%s/%s'", s->root, dirs[i].path);
	}
	return 0;
}

static int open_snapshotter(struct store *s, struct snapshotter *sn,
			    const struct snapshotter_ops *ops, struct error *err)
{
	autoerror struct error why = ERROR_INIT;
	int r;

	sn->ops = ops;
	sn->rel = xasprintf("io.containerd.snapshotter.v1.%s/snapshots", ops->name);
	sn->dir = path_join(s->root, sn->rel, NULL);
	r = fs_mkdirat_p(s->root_fd, sn->rel, 0700);
	if (r < 0)
		return error_errno(err, -r, "make '%s'", sn->dir);
	sn->dir_fd = openat(s->root_fd, sn->rel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (sn->dir_fd < 0)
		return error_errno(err, errno, "open '%s'", sn->dir);
	if (ops->probe && ops->probe(sn, &why) < 0)
		sn->broken = xstrdup(error_msg(&why));
	return 0;
}

static int choose_snapshotter(struct store *s, const char *want, struct error *err)
{
	for (size_t i = 0; i < N_SNAPSHOTTERS; i++) {
		struct snapshotter *sn = &s->snapshotters[i];

		if (want ? !str_equal(want, sn->ops->name) : sn->broken != NULL)
			continue;
		if (sn->broken)
			return error_set(err, ERROR_FAILED_PRECONDITION, "snapshotter '%s': %s",
					 want, sn->broken);
		s->default_snapshotter = sn;
		return 0;
	}
	return error_set(err, ERROR_NOT_FOUND, "snapshotter '%s' does not exist", want);
}

static int store_load(struct store *s, const struct store_config *config, struct error *err)
{
	autofree char *db_path = NULL;
	int r;

	if (open_root(s, config->root, err) < 0 || make_dirs(s, err) < 0)
		return -1;
	db_path = path_join(s->root, "metadata.db", NULL);
	if (db_open(db_path, &s->db, err) < 0)
		return -1;
	for (size_t i = 0; i < N_SNAPSHOTTERS; i++) {
		if (open_snapshotter(s, &s->snapshotters[i], all_snapshotters[i], err) < 0)
			return -1;
	}
	if (choose_snapshotter(s, config->snapshotter, err) < 0 || recover(s, err) < 0)
		return -1;
	r = fs_sync_dir(s->root_fd, ".");
	if (r < 0)
		return error_errno(err, -r, "sync '%s'", s->root);
	return reaper_start(s, err);
}

int store_open(const struct store_config *config, struct store **ret, struct error *err)
{
	struct store *s = xnew(struct store);
	pthread_condattr_t attr;

	failpoint_setup();
	s->root_fd = s->lock_fd = -EBADF;
	for (size_t i = 0; i < N_SNAPSHOTTERS; i++)
		s->snapshotters[i].dir_fd = -EBADF;
	pthread_mutex_init(&s->ingest_lock, NULL);
	pthread_mutex_init(&s->pins.lock, NULL);
	pthread_mutex_init(&s->barrier_lock, NULL);
	pthread_mutex_init(&s->gc_lock, NULL);
	pthread_mutex_init(&s->reaper.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->reaper.wake, &attr);
	pthread_condattr_destroy(&attr);
	if (store_load(s, config, err) < 0) {
		store_close(s);
		return -1;
	}
	gc_schedule(s);
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	reaper_stop(s);
	assert(s->ingests.n == 0 && s->pins.n == 0);
	map_done(&s->ingests);
	free(s->pins.v);
	strv_done(&s->reaper.removals);
	if (s->db)
		db_close(s->db);
	for (size_t i = 0; i < N_SNAPSHOTTERS; i++) {
		free(s->snapshotters[i].dir);
		free(s->snapshotters[i].rel);
		free(s->snapshotters[i].broken);
		closep(&s->snapshotters[i].dir_fd);
	}
	pthread_cond_destroy(&s->reaper.wake);
	pthread_mutex_destroy(&s->reaper.lock);
	pthread_mutex_destroy(&s->gc_lock);
	pthread_mutex_destroy(&s->barrier_lock);
	pthread_mutex_destroy(&s->pins.lock);
	pthread_mutex_destroy(&s->ingest_lock);
	closep(&s->lock_fd);
	closep(&s->root_fd);
	free(s->root);
	free(s);
}

const char *store_root(const struct store *s)
{
	return s->root;
}

const char *store_default_snapshotter(const struct store *s)
{
	return s->default_snapshotter->ops->name;
}

bool identifier_valid(const char *s)
{
	size_t n = s ? strlen(s) : 0;

	if (n == 0 || n > IDENTIFIER_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		bool word = isascii((unsigned char)s[i]) && isalnum((unsigned char)s[i]);

		if (word)
			continue;
		if (!strchr("._-", s[i]) || i == 0 || i == n - 1 || strchr("._-", s[i - 1]))
			return false;
	}
	return true;
}

int name_check(const char *what, const char *name, struct error *err)
{
	if (str_empty(name))
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s: empty name", what);
	if (strlen(name) > NAME_MAX_BYTES)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s '%.64s...': longer than %d bytes",
				 what, name, NAME_MAX_BYTES);
	for (const char *p = name; *p; p++) {
		if (iscntrl((unsigned char)*p))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "%s: control character in name", what);
	}
	return 0;
}

static int namespace_check(const char *ns, struct error *err)
{
	if (identifier_valid(ns))
		return 0;
	return error_set(err, ERROR_INVALID_ARGUMENT,
			 "namespace '%.128s' is not a valid identifier", ns ? ns : "");
}

int ctx_ensure_namespace(const struct store_ctx *c, const struct db_tx *tx, struct error *err)
{
	if (namespace_check(c->ns, err) < 0)
		return -1;
	return db_exec(tx, err, "INSERT OR IGNORE INTO namespaces (name, labels) VALUES (?, '{}')",
		       "s", c->ns) < 0
		       ? -1
		       : 0;
}

int namespace_create(struct store *s, const char *name, const struct kvs *labels, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autofree char *text = NULL;
	int n;

	if (namespace_check(name, err) < 0 || labels_check(labels, err) < 0)
		return -1;
	text = labels_format(labels);
	if (db_write(s->db, &tx, err) < 0)
		return -1;
	n = db_exec(&tx, err, "INSERT OR IGNORE INTO namespaces (name, labels) VALUES (?, ?)", "ss",
		    name, text);
	if (n < 0)
		return -1;
	if (n == 0)
		return error_set(err, ERROR_ALREADY_EXISTS, "namespace '%s' exists", name);
	return db_commit_sync(&tx, err);
}

/* 1, 0 (no such namespace) or -1. */
static int read_namespace_labels(const struct db_tx *tx, const char *name, struct kvs *ret,
				 struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r = db_query(tx, &q, err, "SELECT labels FROM namespaces WHERE name = ?", "s", name);

	if (r == 0)
		r = db_step(&q, err);
	return r > 0 && labels_parse(db_text(&q, 0), ret, err) < 0 ? -1 : r;
}

int namespace_labels(struct store *s, const char *name, struct kvs *ret, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;

	if (namespace_check(name, err) < 0 || db_read(s->db, &tx, err) < 0)
		return -1;
	return read_namespace_labels(&tx, name, ret, err) < 0 ? -1 : 0;
}

int namespace_set_labels(struct store *s, const char *name, const struct kvs *changes,
			 struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autokvs struct kvs labels = KVS_INIT;

	if (namespace_check(name, err) < 0 || db_write(s->db, &tx, err) < 0)
		return -1;
	int r = read_namespace_labels(&tx, name, &labels, err);
	if (r == 0)
		return error_set(err, ERROR_NOT_FOUND, "namespace '%s' does not exist", name);
	labels_merge(&labels, changes);
	if (r < 0 || labels_check(&labels, err) < 0)
		return -1;
	autofree char *text = labels_format(&labels);
	if (db_exec(&tx, err, "UPDATE namespaces SET labels = ? WHERE name = ?", "ss", text, name) <
	    0)
		return -1;
	return db_commit_sync(&tx, err);
}

int namespace_list(struct store *s, struct strv *ret, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_read(s->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err, "SELECT name FROM namespaces ORDER BY name", "") < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0)
		strv_push(ret, db_text(&q, 0));
	return r;
}

int namespace_delete(struct store *s, const char *name, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	int r;

	if (db_write(s->db, &tx, err) < 0)
		return -1;
	r = db_exists(&tx, err,
		      "SELECT 1 WHERE EXISTS (SELECT 1 FROM content WHERE ns = ?1)"
		      " OR EXISTS (SELECT 1 FROM images WHERE ns = ?1)"
		      " OR EXISTS (SELECT 1 FROM containers WHERE ns = ?1)"
		      " OR EXISTS (SELECT 1 FROM records WHERE ns = ?1)"
		      " OR EXISTS (SELECT 1 FROM leases WHERE ns = ?1)"
		      " OR EXISTS (SELECT 1 FROM snapshots WHERE ns = ?1)",
		      "s", name);
	if (r < 0)
		return -1;
	if (r)
		return error_set(err, ERROR_FAILED_PRECONDITION, "namespace '%s' is not empty",
				 name);
	r = db_exec(&tx, err, "DELETE FROM namespaces WHERE name = ?", "s", name);
	if (r < 0)
		return -1;
	if (r == 0)
		return error_set(err, ERROR_NOT_FOUND, "namespace '%s' does not exist", name);
	return db_commit(&tx, err);
}
