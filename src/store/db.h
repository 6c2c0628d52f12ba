#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata database of the store: one SQLite file in WAL mode, one writer connection and one
 * reader connection, each used by one thread at a time, and a private connection for long reads.
 * Internal to store/. Any thread; a transaction belongs to the thread that began it and must end
 * before that thread begins another one of the same kind (no nesting: the lock is not recursive).
 *
 * Commits are atomic at once, but durable only with db_commit_sync() or a later db_sync().
 */

#include "base/error.h"

struct db;
struct db_conn;
struct sqlite3_stmt;

struct db_tx {
	struct db *db;
	struct db_conn *conn; /* NULL: ended */
	bool write, private;
};

#define DB_TX_INIT ((struct db_tx){ 0 })

/* Creates it, brings the schema up to date. FAILED_PRECONDITION when the schema is newer than this
 * program, DATA_LOSS when the file is not a sound database; messages name the file. */
int db_open(const char *path, struct db **ret, struct error *err);
void db_close(struct db *db);

/* Called after a commit by the committing thread when the log has grown and wants db_checkpoint().
 * Must not block. Set before threads start. */
void db_on_log_full(struct db *db, void (*fn)(void *arg), void *arg);
/* Copies the log into the database; blocks neither readers nor writers. */
void db_checkpoint(struct db *db);

/* Takes the writer lock and begins. *tx is DB_TX_INIT before. */
int db_write(struct db *db, struct db_tx *tx, struct error *err);
/* A consistent read on the shared reader: keep it short. */
int db_read(struct db *db, struct db_tx *tx, struct error *err);
/* A consistent read on a connection of its own; may be long. */
int db_read_private(struct db *db, struct db_tx *tx, struct error *err);
/* Fixes what a read transaction sees now, before its first query would. */
int db_snapshot(const struct db_tx *tx, struct error *err);
/* Commits and ends. When it fails the transaction has been rolled back. */
int db_commit(struct db_tx *tx, struct error *err);
/* The same, and returns when the commit has reached the disk. No lock is held during the sync. */
int db_commit_sync(struct db_tx *tx, struct error *err);
/* Commits, but keeps the writer lock until db_tx_end(): for file operations that must not overlap
 * with another writer. */
int db_commit_hold(struct db_tx *tx, struct error *err);
/* Rolls back what is not committed, gives the connection back. Idempotent. */
void db_tx_end(struct db_tx *tx);
/* Everything committed so far is durable when this returns. */
int db_sync(struct db *db, struct error *err);

/*
 * Statements. sql is a string literal (its address is the key of the statement cache). types has a
 * letter for each `?`: s = const char * (NULL binds NULL; must live until the query is done),
 * i = int64_t.
 */
struct db_query {
	struct sqlite3_stmt *stmt;
	struct db_conn *conn;
};

#define DB_QUERY_INIT ((struct db_query){ 0 })

int db_query(const struct db_tx *tx, struct db_query *q, struct error *err, const char *sql,
	     const char *types, ...);
/* 1: a row, 0: the end, -1. */
int db_step(struct db_query *q, struct error *err);
void db_query_done(struct db_query *q);
/* Column 0 and up of the current row; text is borrowed until the next step. Never NULL. */
const char *db_text(const struct db_query *q, int column);
bool db_is_null(const struct db_query *q, int column);
int64_t db_int(const struct db_query *q, int column);
/* Malloc'ed copy; NULL for NULL. */
char *db_strdup(const struct db_query *q, int column);

/* Runs a statement that gives no rows; returns the number of rows changed, or -1. */
int db_exec(const struct db_tx *tx, struct error *err, const char *sql, const char *types, ...);
/* True when the query has a row; on error false with err set: check error code. 1, 0 or -1. */
int db_exists(const struct db_tx *tx, struct error *err, const char *sql, const char *types, ...);

/* schema.c */
extern const char *const db_migrations[];
extern const size_t db_n_migrations;

#define autotx CLEANUP(db_tx_end)
#define autoquery CLEANUP(db_query_done)
