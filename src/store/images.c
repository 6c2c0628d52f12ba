/* SPDX-License-Identifier: Apache-2.0 */

#include "store/images.h"

#include "base/mem.h"
#include "base/time.h"
#include "oci/digest.h"
#include "store/gc.h"
#include "store/internal.h"

#include <string.h>

#define IMAGE_COLUMNS "name, descriptor, created, updated, labels"

void image_done(struct image *i)
{
	free(i->name);
	descriptor_done(&i->target);
	kvs_done(&i->labels);
	*i = (struct image){ 0 };
}

void images_done(struct images *i)
{
	for (size_t k = 0; k < i->n; k++)
		image_done(&i->v[k]);
	free(i->v);
	*i = (struct images){ 0 };
}

static int image_check(const struct image *i, struct error *err)
{
	if (name_check("image", i->name, err) < 0 || labels_check(&i->labels, err) < 0)
		return -1;
	if (!i->target.digest || !digest_valid(i->target.digest))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "image '%s': target digest '%.160s' is not valid", i->name,
				 i->target.digest ? i->target.digest : "");
	if (str_empty(i->target.media_type) || i->target.size < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "image '%s': target without media type or size", i->name);
	if (labels_check_text(&i->target.annotations, err) < 0)
		return error_wrap(err, "image '%s': annotations", i->name);
	return 0;
}

/* sql inserts with the seven columns' values given in this order. */
static int image_write(const struct store_ctx *c, const struct image *i, const char *sql,
		       struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autojson struct json *target = NULL;
	autofree char *descriptor = NULL, *labels = NULL;
	int64_t now = time_realtime();
	int n;

	if (image_check(i, err) < 0)
		return -1;
	target = descriptor_to_json(&i->target);
	descriptor = json_format(target, /* pretty= */ false);
	labels = labels_format(&i->labels);
	if (db_write(c->store->db, &tx, err) < 0 || ctx_ensure_namespace(c, &tx, err) < 0)
		return -1;
	n = db_exec(&tx, err, sql, "ssssiis", c->ns, i->name, i->target.digest, descriptor, now,
		    now, labels);
	if (n < 0)
		return -1;
	if (n == 0)
		return error_set(err, ERROR_ALREADY_EXISTS, "image '%s' exists", i->name);
	/* An image is a root by itself; only one that expires needs the lease. */
	if (kvs_get(&i->labels, LABEL_GC_EXPIRE) &&
	    ctx_lease_add(c, &tx, "images", i->name, err) < 0)
		return -1;
	gc_touch(c->store, GC_IMAGE, c->ns, NULL, i->name);
	return db_commit_sync(&tx, err);
}

int image_put(const struct store_ctx *c, const struct image *i, struct error *err)
{
	return image_write(c, i,
			   "INSERT INTO images"
			   " (ns, name, digest, descriptor, created, updated, labels)"
			   " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (ns, name) DO UPDATE SET"
			   " digest = excluded.digest, descriptor = excluded.descriptor,"
			   " updated = excluded.updated, labels = excluded.labels",
			   err);
}

int image_create(const struct store_ctx *c, const struct image *i, struct error *err)
{
	return image_write(c, i,
			   "INSERT OR IGNORE INTO images"
			   " (ns, name, digest, descriptor, created, updated, labels)"
			   " VALUES (?, ?, ?, ?, ?, ?, ?)",
			   err);
}

static int image_from_row(const struct db_query *q, struct image *ret, struct error *err)
{
	const char *text = db_text(q, 1);
	autojson struct json *j = json_parse(text, strlen(text), OCI_MANIFEST_MAX, err);

	ret->name = db_strdup(q, 0);
	ret->created_at = db_int(q, 2);
	ret->updated_at = db_int(q, 3);
	if (!j || descriptor_from_json(j, &ret->target, err) < 0 ||
	    labels_parse(db_text(q, 4), &ret->labels, err) < 0)
		return error_wrap(err, "image '%s'", ret->name);
	return 0;
}

int image_get(const struct store_ctx *c, const char *name, struct image *ret, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	autoimage struct image i = { 0 };
	int r;

	if (db_read(c->store->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err, "SELECT " IMAGE_COLUMNS " FROM images WHERE ns = ? AND name = ?",
		     "ss", c->ns, name) < 0)
		return -1;
	r = db_step(&q, err);
	if (r < 0)
		return -1;
	if (r == 0)
		return error_set(err, ERROR_NOT_FOUND, "image '%s' not found", name);
	if (image_from_row(&q, &i, err) < 0)
		return -1;
	*ret = i;
	i = (struct image){ 0 };
	return 0;
}

int image_list(const struct store_ctx *c, struct images *ret, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autoquery struct db_query q = DB_QUERY_INIT;
	autoimages struct images list = { 0 };
	int r;

	if (db_read(c->store->db, &tx, err) < 0 ||
	    db_query(&tx, &q, err,
		     "SELECT " IMAGE_COLUMNS " FROM images WHERE ns = ? ORDER BY name", "s",
		     c->ns) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		GROW_ARRAY(list.v, list.n);
		list.v[list.n] = (struct image){ 0 };
		if (image_from_row(&q, &list.v[list.n++], err) < 0)
			return -1;
	}
	if (r < 0)
		return -1;
	*ret = list;
	list = (struct images){ 0 };
	return 0;
}

int image_delete(const struct store_ctx *c, const char *name, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	int n;

	if (db_write(c->store->db, &tx, err) < 0)
		return -1;
	n = db_exec(&tx, err, "DELETE FROM images WHERE ns = ? AND name = ?", "ss", c->ns, name);
	if (n < 0)
		return -1;
	if (n == 0)
		return error_set(err, ERROR_NOT_FOUND, "image '%s' not found", name);
	if (db_commit(&tx, err) < 0)
		return -1;
	gc_schedule(c->store);
	return 0;
}
