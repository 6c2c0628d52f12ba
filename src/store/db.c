/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why the connections run with synchronous=NORMAL although some commits must be durable: in WAL
 * mode NORMAL leaves the log unsynced at commit, and syncing the log file afterwards gives exactly
 * what FULL gives. Doing it ourselves takes the sync out of the writer lock, so one caller's sync
 * delays nobody else's commit, and lets callers that wait at the same time share one sync (commit
 * numbers below). When a checkpoint has meanwhile moved the commit into the database file and
 * restarted the log, SQLite has synced the database before that, so the promise holds too.
 *
 * Checkpoints run on the store's background thread with a passive checkpoint, which waits for
 * nobody; SQLite's own automatic ones would run inside an unlucky caller's commit.
 */

#include "store/db.h"

#include "base/fs.h"
#include "base/mem.h"
#include "store/reserve.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

enum {
	STMT_CACHE_MAX = 128,
	LOG_FULL_PAGES = 1000,
	WRITER_CACHE_KIB = 1024,
	READER_CACHE_KIB = 512,
};

struct db_conn {
	sqlite3 *h;
	pthread_mutex_t lock;
	struct {
		const char *sql;
		sqlite3_stmt *stmt;
	} cache[STMT_CACHE_MAX];
	size_t n_cached;
	size_t n_open; /* queries not done: none may outlive its transaction */
};

struct db {
	char *path;
	int log_fd; /* the -wal file, for syncing */
	struct db_conn writer, reader;
	atomic_uint_fast64_t commits; /* number of the last commit; written under the writer lock */
	pthread_mutex_t sync_lock;
	uint64_t synced; /* all commits up to this one are durable; sync_lock */
	void (*on_log_full)(void *arg);
	void *on_log_full_arg;
	int log_pages;		/* of the last commit; writer lock */
	struct reserve reserve; /* writer lock */
};

static enum error_code code_from_sqlite(int rc, int sys)
{
	switch (rc & 0xff) {
	case SQLITE_FULL:
		return ERROR_RESOURCE_EXHAUSTED;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return ERROR_DATA_LOSS;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return ERROR_UNAVAILABLE;
	case SQLITE_PERM:
	case SQLITE_READONLY:
	case SQLITE_AUTH:
		return ERROR_PERMISSION_DENIED;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		return sys ? error_code_from_errno(sys) : ERROR_INTERNAL;
	default:
		return ERROR_INTERNAL;
	}
}

static int db_error(const char *path, sqlite3 *h, int rc, struct error *err)
{
	int sys = h ? sqlite3_system_errno(h) : 0;
	enum error_code code = code_from_sqlite(rc, sys);

	error_set(err, code, "metadata database '%s': %s%s", path,
		  code == ERROR_DATA_LOSS ? "corrupt: " : "",
		  h ? sqlite3_errmsg(h) : sqlite3_errstr(rc));
	if (err)
		err->sys = code == ERROR_RESOURCE_EXHAUSTED ? ENOSPC : sys;
	return -1;
}

static const char *conn_path(const struct db_conn *c)
{
	const char *path = sqlite3_db_filename(c->h, "main");

	return path ? path : "metadata.db";
}

static int conn_error(const struct db_conn *c, int rc, struct error *err)
{
	return db_error(conn_path(c), c->h, rc, err);
}

static int conn_run(struct db_conn *c, const char *sql, struct error *err)
{
	int rc = sqlite3_exec(c->h, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : conn_error(c, rc, err);
}

static void conn_init(struct db_conn *c)
{
	*c = (struct db_conn){ 0 };
	pthread_mutex_init(&c->lock, NULL);
}

static void conn_close(struct db_conn *c)
{
	for (size_t i = 0; i < c->n_cached; i++)
		sqlite3_finalize(c->cache[i].stmt);
	c->n_cached = 0;
	if (c->h) {
		int rc = sqlite3_close(c->h);

		assert(rc == SQLITE_OK); /* a statement was leaked otherwise */
		(void)rc;
	}
	c->h = NULL;
	pthread_mutex_destroy(&c->lock);
}

/* The connection is conn_close()d by the caller also when this fails. */
static int conn_open(struct db_conn *c, const char *path, int cache_kib, struct error *err)
{
	autofree char *pragmas = NULL;
	int rc = sqlite3_open_v2(path, &c->h,
				 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
				 NULL);

	if (rc != SQLITE_OK)
		return db_error(path, c->h, rc, err);
	sqlite3_extended_result_codes(c->h, 1);
	sqlite3_busy_timeout(c->h, 10000);
	pragmas = xasprintf("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
			    "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=16777216;"
			    "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;"
			    "PRAGMA cache_size=-%d;",
			    cache_kib);
	return conn_run(c, pragmas, err);
}

static int conn_prepare(struct db_conn *c, const char *sql, sqlite3_stmt **ret, struct error *err)
{
	sqlite3_stmt *stmt = NULL;
	int rc;

	for (size_t i = 0; i < c->n_cached; i++) {
		if (c->cache[i].sql == sql) {
			assert(!sqlite3_stmt_busy(c->cache[i].stmt));
			*ret = c->cache[i].stmt;
			return 0;
		}
	}
	assert(c->n_cached < STMT_CACHE_MAX);
	rc = sqlite3_prepare_v3(c->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL);
	if (rc != SQLITE_OK)
		return conn_error(c, rc, err);
	c->cache[c->n_cached].sql = sql;
	c->cache[c->n_cached++].stmt = stmt;
	*ret = stmt;
	return 0;
}

static int migrate(struct db *db, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	int64_t version;

	if (db_write(db, &tx, err) < 0)
		return -1;
	{
		autoquery struct db_query q = DB_QUERY_INIT;

		if (db_query(&tx, &q, err, "PRAGMA user_version", "") < 0 || db_step(&q, err) < 0)
			return -1;
		version = db_int(&q, 0);
	}
	if (version < 0 || version > (int64_t)db_n_migrations)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "metadata database '%s': schema version %lld is newer than this "
				 "program's (%zu)",
				 db->path, (long long)version, db_n_migrations);
	if (version == (int64_t)db_n_migrations)
		return 0;
	for (size_t i = (size_t)version; i < db_n_migrations; i++) {
		autofree char *set = xasprintf("PRAGMA user_version=%zu", i + 1);

		if (conn_run(tx.conn, db_migrations[i], err) < 0 || conn_run(tx.conn, set, err) < 0)
			return error_wrap(err, "migrate to schema version %zu", i + 1);
	}
	return db_commit_sync(&tx, err);
}

static int on_wal_commit(void *arg, sqlite3 *h, const char *name, int pages)
{
	struct db *db = arg;

	db->log_pages = pages;
	return SQLITE_OK;
}

static int open_all(struct db *db, struct error *err)
{
	autofree char *log_path = xasprintf("%s-wal", db->path);
	autoquery struct db_query q = DB_QUERY_INIT;

	if (conn_open(&db->writer, db->path, WRITER_CACHE_KIB, err) < 0 ||
	    conn_open(&db->reader, db->path, READER_CACHE_KIB, err) < 0)
		return -1;
	sqlite3_wal_hook(db->writer.h, on_wal_commit, db);
	/* The first read makes the log, and it stays until the last connection is closed. */
	if (db_query(&(struct db_tx){ .conn = &db->writer }, &q, err, "PRAGMA journal_mode", "") <
		    0 ||
	    db_step(&q, err) < 0)
		return -1;
	if (!str_equal(db_text(&q, 0), "wal"))
		return error_set(
			err, ERROR_FAILED_PRECONDITION,
			"metadata database '%s': the file system allows no write-ahead log",
			db->path);
	db_query_done(&q);
	db->log_fd = open(log_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (db->log_fd < 0)
		return error_errno(err, errno, "open '%s'", log_path);
	return migrate(db, err);
}

int db_open(const char *path, struct db **ret, struct error *err)
{
	struct db *db = xnew(struct db);

	assert(sqlite3_threadsafe());
	db->path = xstrdup(path);
	db->log_fd = -EBADF;
	db->reserve = RESERVE_INIT;
	pthread_mutex_init(&db->sync_lock, NULL);
	conn_init(&db->writer);
	conn_init(&db->reader);
	if (open_all(db, err) < 0) {
		db_close(db);
		return -1;
	}
	autofree char *directory = xstrndup(path, (size_t)(path_base(path) - path));
	reserve_open(&db->reserve, str_empty(directory) ? "." : directory);
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	conn_close(&db->reader);
	conn_close(&db->writer);
	closep(&db->log_fd);
	reserve_close(&db->reserve);
	pthread_mutex_destroy(&db->sync_lock);
	free(db->path);
	free(db);
}

void db_on_log_full(struct db *db, void (*fn)(void *arg), void *arg)
{
	db->on_log_full = fn;
	db->on_log_full_arg = arg;
}

void db_checkpoint(struct db *db)
{
	struct db_conn c;

	conn_init(&c);
	/* When it fails, the next commit asks again. */
	if (conn_open(&c, db->path, READER_CACHE_KIB, NULL) == 0)
		sqlite3_wal_checkpoint_v2(c.h, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	conn_close(&c);
}

static int tx_begin(struct db *db, struct db_tx *tx, struct db_conn *c, const char *sql,
		    struct error *err)
{
	tx->db = db;
	tx->conn = c;
	if (db_exec(tx, err, sql, "") >= 0)
		return 0;
	pthread_mutex_unlock(&c->lock);
	*tx = DB_TX_INIT;
	return -1;
}

int db_write(struct db *db, struct db_tx *tx, struct error *err)
{
	assert(!tx->conn);
	pthread_mutex_lock(&db->writer.lock);
	reserve_adjust(&db->reserve);
	tx->write = true;
	return tx_begin(db, tx, &db->writer, "BEGIN IMMEDIATE", err);
}

int db_read(struct db *db, struct db_tx *tx, struct error *err)
{
	assert(!tx->conn);
	pthread_mutex_lock(&db->reader.lock);
	return tx_begin(db, tx, &db->reader, "BEGIN", err);
}

int db_read_private(struct db *db, struct db_tx *tx, struct error *err)
{
	struct db_conn *c = xnew(struct db_conn);

	assert(!tx->conn);
	conn_init(c);
	if (conn_open(c, db->path, READER_CACHE_KIB, err) == 0) {
		pthread_mutex_lock(&c->lock);
		if (tx_begin(db, tx, c, "BEGIN", err) == 0) {
			tx->private = true;
			return 0;
		}
	}
	conn_close(c);
	free(c);
	return -1;
}

int db_snapshot(const struct db_tx *tx, struct error *err)
{
	return db_exists(tx, err, "SELECT 1 FROM namespaces LIMIT 1", "") < 0 ? -1 : 0;
}

int db_commit_hold(struct db_tx *tx, struct error *err)
{
	assert(tx->conn && tx->write && tx->conn->n_open == 0);
	if (db_exec(tx, err, "COMMIT", "") < 0) {
		db_tx_end(tx);
		return -1;
	}
	atomic_fetch_add(&tx->db->commits, 1);
	return 0;
}

int db_commit(struct db_tx *tx, struct error *err)
{
	if (db_commit_hold(tx, err) < 0)
		return -1;
	db_tx_end(tx);
	return 0;
}

int db_commit_sync(struct db_tx *tx, struct error *err)
{
	struct db *db = tx->db;

	if (db_commit(tx, err) < 0)
		return -1;
	return db_sync(db, err);
}

void db_tx_end(struct db_tx *tx)
{
	struct db_conn *c = tx->conn;
	struct db *db = tx->db;
	bool full = false;

	if (!c)
		return;
	assert(c->n_open == 0);
	/* SQLite rolls some failures back by itself. */
	if (!sqlite3_get_autocommit(c->h))
		(void)db_exec(tx, NULL, "ROLLBACK", "");
	if (tx->write)
		full = db->log_pages >= LOG_FULL_PAGES;
	pthread_mutex_unlock(&c->lock);
	if (tx->private) {
		conn_close(c);
		free(c);
	}
	*tx = DB_TX_INIT;
	if (full && db->on_log_full)
		db->on_log_full(db->on_log_full_arg);
}

int db_sync(struct db *db, struct error *err)
{
	uint64_t want = atomic_load(&db->commits);
	int r = 0;

	pthread_mutex_lock(&db->sync_lock);
	if (db->synced < want) {
		want = atomic_load(&db->commits);
		r = fdatasync(db->log_fd) < 0 ? errno : 0;
		if (r == 0)
			db->synced = want;
	}
	pthread_mutex_unlock(&db->sync_lock);
	return r ? error_errno(err, r, "sync '%s-wal'", db->path) : 0;
}

static int bind_all(struct db_conn *c, sqlite3_stmt *stmt, const char *types, va_list ap,
		    struct error *err)
{
	int rc = SQLITE_OK;

	assert((size_t)sqlite3_bind_parameter_count(stmt) == strlen(types));
	for (int i = 0; types[i] && rc == SQLITE_OK; i++) {
		assert(types[i] == 's' || types[i] == 'i');
		if (types[i] == 's')
			rc = sqlite3_bind_text(stmt, i + 1, va_arg(ap, const char *), -1,
					       SQLITE_STATIC);
		else
			rc = sqlite3_bind_int64(stmt, i + 1, va_arg(ap, int64_t));
	}
	return rc == SQLITE_OK ? 0 : conn_error(c, rc, err);
}

static int query_v(const struct db_tx *tx, struct db_query *q, struct error *err, const char *sql,
		   const char *types, va_list ap)
{
	assert(tx->conn && !q->stmt);
	if (conn_prepare(tx->conn, sql, &q->stmt, err) < 0)
		return -1;
	q->conn = tx->conn;
	q->conn->n_open++;
	if (bind_all(tx->conn, q->stmt, types, ap, err) < 0) {
		db_query_done(q);
		return -1;
	}
	return 0;
}

int db_query(const struct db_tx *tx, struct db_query *q, struct error *err, const char *sql,
	     const char *types, ...)
{
	va_list ap;
	int r;

	va_start(ap, types);
	r = query_v(tx, q, err, sql, types, ap);
	va_end(ap);
	return r;
}

int db_step(struct db_query *q, struct error *err)
{
	int rc = sqlite3_step(q->stmt);

	if (rc == SQLITE_ROW)
		return 1;
	return rc == SQLITE_DONE ? 0 : conn_error(q->conn, rc, err);
}

void db_query_done(struct db_query *q)
{
	if (!q->stmt)
		return;
	sqlite3_reset(q->stmt);
	sqlite3_clear_bindings(q->stmt);
	q->conn->n_open--;
	*q = DB_QUERY_INIT;
}

const char *db_text(const struct db_query *q, int column)
{
	const unsigned char *s = sqlite3_column_text(q->stmt, column);

	return s ? (const char *)s : "";
}

bool db_is_null(const struct db_query *q, int column)
{
	return sqlite3_column_type(q->stmt, column) == SQLITE_NULL;
}

int64_t db_int(const struct db_query *q, int column)
{
	return sqlite3_column_int64(q->stmt, column);
}

char *db_strdup(const struct db_query *q, int column)
{
	return xstrdup((const char *)sqlite3_column_text(q->stmt, column));
}

int db_exec(const struct db_tx *tx, struct error *err, const char *sql, const char *types, ...)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	va_list ap;
	int r;

	va_start(ap, types);
	r = query_v(tx, &q, err, sql, types, ap);
	va_end(ap);
	if (r < 0 || db_step(&q, err) < 0)
		return -1;
	return sqlite3_changes(tx->conn->h);
}

int db_exists(const struct db_tx *tx, struct error *err, const char *sql, const char *types, ...)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	va_list ap;
	int r;

	va_start(ap, types);
	r = query_v(tx, &q, err, sql, types, ap);
	va_end(ap);
	return r < 0 ? -1 : db_step(&q, err);
}
