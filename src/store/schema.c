/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema, as a list of steps: entry n brings a database from version n to n + 1. Entries that
 * have been released are never changed.
 *
 * Labels are JSON objects of strings in a column of the object that has them: objects are read and
 * written whole, and the collector scans all objects anyway (it parses only those whose text has
 * "containerd.io/gc." in it). Times are nanoseconds since the epoch. A snapshot's id is its
 * directory's name and is never used again.
 */

#include "store/db.h"

const char *const db_migrations[] = {
	"CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE content ("
	"  ns TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,"
	"  created INTEGER NOT NULL, updated INTEGER NOT NULL, labels TEXT NOT NULL,"
	"  PRIMARY KEY (digest, ns)) WITHOUT ROWID;"
	"CREATE TABLE images ("
	"  ns TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, descriptor TEXT NOT NULL,"
	"  created INTEGER NOT NULL, updated INTEGER NOT NULL, labels TEXT NOT NULL,"
	"  PRIMARY KEY (ns, name)) WITHOUT ROWID;"
	"CREATE TABLE containers ("
	"  ns TEXT NOT NULL, id TEXT NOT NULL, image TEXT NOT NULL, runtime TEXT NOT NULL,"
	"  runtime_options TEXT, spec TEXT, snapshotter TEXT NOT NULL, snapshot_key TEXT NOT NULL,"
	"  sandbox_id TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,"
	"  labels TEXT NOT NULL, extensions TEXT NOT NULL, PRIMARY KEY (ns, id));"
	"CREATE TABLE records ("
	"  ns TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL,"
	"  PRIMARY KEY (ns, kind, id)) WITHOUT ROWID;"
	"CREATE TABLE leases ("
	"  ns TEXT NOT NULL, id TEXT NOT NULL, created INTEGER NOT NULL, expire INTEGER NOT NULL,"
	"  labels TEXT NOT NULL, PRIMARY KEY (ns, id)) WITHOUT ROWID;"
	"CREATE TABLE lease_resources ("
	"  ns TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,"
	"  PRIMARY KEY (ns, lease, type, id)) WITHOUT ROWID;"
	"CREATE TABLE snapshots ("
	"  id INTEGER PRIMARY KEY, sn TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,"
	"  parent INTEGER NOT NULL, kind INTEGER NOT NULL, size INTEGER NOT NULL,"
	"  inodes INTEGER NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,"
	"  labels TEXT NOT NULL);"
	"CREATE UNIQUE INDEX snapshots_by_name ON snapshots (name, ns, sn);"
	"CREATE INDEX snapshots_by_parent ON snapshots (parent);",
};

const size_t db_n_migrations = ARRAY_SIZE(db_migrations);
