/* SPDX-License-Identifier: Apache-2.0 */

#include "store/gc-graph.h"

#include "base/mem.h"
#include "base/time.h"

#include <assert.h>
#include <string.h>

#define SEPARATOR '\x1f' /* names have no control characters */
#define LABEL_BREF "containerd.io/gc.bref."
#define LABEL_REF "containerd.io/gc.ref."

/*
 * Columns: namespace, snapshotter, name, labels, and by kind two names and a number:
 * image: target digest; container: snapshot key, its snapshotter; snapshot: parent's name, id;
 * lease: expiry.
 */
#define SNAPSHOT_SELECT                                                                      \
	"SELECT s.ns, s.sn, s.name, s.labels, ifnull(p.name, ''), '', s.id FROM snapshots s" \
	" LEFT JOIN snapshots p ON p.id = s.parent"
#define CONTENT_SELECT "SELECT ns, '', digest, labels, '', '', 0 FROM content"
#define IMAGE_SELECT "SELECT ns, '', name, labels, digest, '', 0 FROM images"
#define CONTAINER_SELECT "SELECT ns, '', id, labels, snapshot_key, snapshotter, 0 FROM containers"
#define LEASE_SELECT "SELECT ns, '', id, labels, '', '', expire FROM leases"
#define RESOURCE_SELECT "SELECT ns, lease, type, id FROM lease_resources"
#define ONE " WHERE ns = ?1 AND ?2 = '' AND "

static const struct {
	const char *all, *one;
} selects[GC_KIND_MAX] = {
	[GC_CONTENT] = { CONTENT_SELECT, CONTENT_SELECT ONE "digest = ?3" },
	[GC_SNAPSHOT] = { SNAPSHOT_SELECT,
			  SNAPSHOT_SELECT " WHERE s.ns = ?1 AND s.sn = ?2 AND s.name = ?3" },
	[GC_IMAGE] = { IMAGE_SELECT, IMAGE_SELECT ONE "name = ?3" },
	[GC_CONTAINER] = { CONTAINER_SELECT, CONTAINER_SELECT ONE "id = ?3" },
	[GC_LEASE] = { LEASE_SELECT, LEASE_SELECT ONE "id = ?3" },
};

char *gc_key_format(enum gc_kind kind, const char *ns, const char *sn, const char *id)
{
	return xasprintf("%c%s%c%s%c%s", 'a' + (int)kind, ns, SEPARATOR, sn ? sn : "", SEPARATOR,
			 id);
}

void gc_key_split(char *text, struct gc_key *ret)
{
	char *sn = strchr(text, SEPARATOR);
	char *id = sn ? strchr(sn + 1, SEPARATOR) : NULL;

	assert(id);
	*sn++ = *id++ = 0;
	ret->kind = (enum gc_kind)(text[0] - 'a');
	ret->ns = text + 1;
	ret->sn = sn;
	ret->id = id;
	assert(ret->kind < GC_KIND_MAX);
}

static void node_free(void *p)
{
	struct gc_node *n = p;

	free(n->edges);
	free(n);
}

void gc_graph_done(struct gc_graph *g)
{
	map_done_values(&g->nodes, node_free);
}

static struct gc_node *node_get(struct gc_graph *g, enum gc_kind kind, const char *ns,
				const char *sn, const char *id)
{
	autofree char *key = gc_key_format(kind, ns, sn, id);
	struct gc_node *n = map_get(&g->nodes, key);

	if (n)
		return n;
	n = xnew(struct gc_node);
	n->kind = kind;
	map_set(&g->nodes, key, n);
	return n;
}

static void edge_add(struct gc_node *from, struct gc_node *to, bool label)
{
	GROW_ARRAY(from->edges, from->n_edges);
	from->edges[from->n_edges++] = (struct gc_edge){ .to = to, .label = label };
}

static void note_expiry(struct gc_graph *g, struct gc_node *n, int64_t at)
{
	n->expired = at > 0 && at <= g->now;
	if (at > g->now && (!g->next_expiry || at < g->next_expiry))
		g->next_expiry = at;
}

/* "content", "content.x", "content/x" */
static bool is_kind(const char *rest, const char *kind)
{
	size_t n = strlen(kind);

	return strncmp(rest, kind, n) == 0 && (!rest[n] || rest[n] == '.' || rest[n] == '/');
}

/* The node that a gc.ref. or gc.bref. label names; NULL for kinds that are not known. */
static struct gc_node *label_target(struct gc_graph *g, const char *ns, const char *rest,
				    const char *value)
{
	if (is_kind(rest, "content"))
		return node_get(g, GC_CONTENT, ns, NULL, value);
	if (is_kind(rest, "image"))
		return node_get(g, GC_IMAGE, ns, NULL, value);
	if (is_kind(rest, "container"))
		return node_get(g, GC_CONTAINER, ns, NULL, value);
	if (str_has_prefix(rest, "snapshot.")) {
		const char *sn = rest + strlen("snapshot.");
		autofree char *name = xstrndup(sn, strcspn(sn, "/"));

		return node_get(g, GC_SNAPSHOT, ns, name, value);
	}
	return NULL;
}

static void add_label(struct gc_graph *g, struct gc_node *n, const char *ns, const struct kv *label)
{
	struct gc_node *other;
	int64_t at;

	if (str_has_prefix(label->key, LABEL_REF)) {
		other = label_target(g, ns, label->key + strlen(LABEL_REF), label->value);
		if (other)
			edge_add(n, other, /* label= */ true);
	} else if (str_has_prefix(label->key, LABEL_BREF)) {
		other = label_target(g, ns, label->key + strlen(LABEL_BREF), label->value);
		if (other)
			edge_add(other, n, /* label= */ false);
	} else if (str_equal(label->key, LABEL_GC_PREFIX "root")) {
		n->root = true;
	} else if (str_equal(label->key, LABEL_GC_PREFIX "flat")) {
		n->flat = n->kind == GC_LEASE;
	} else if (str_equal(label->key, LABEL_GC_EXPIRE) && n->kind == GC_IMAGE &&
		   time_parse_rfc3339(label->value, &at) == 0) {
		note_expiry(g, n, at);
	}
}

static int add_labels(struct gc_graph *g, struct gc_node *n, const char *ns, const char *text,
		      struct error *err)
{
	autokvs struct kvs labels = KVS_INIT;

	if (!strstr(text, "containerd.io/gc.") && !strstr(text, "containerd.io\\/gc."))
		return 0;
	if (labels_parse(text, &labels, err) < 0)
		return -1;
	for (size_t i = 0; i < labels.n; i++)
		add_label(g, n, ns, &labels.v[i]);
	return 0;
}

static int add_row(struct gc_graph *g, enum gc_kind kind, const struct db_query *q,
		   struct gc_node **ret, struct error *err)
{
	const char *ns = db_text(q, 0), *ref = db_text(q, 4);
	struct gc_node *n = node_get(g, kind, ns, db_text(q, 1), db_text(q, 2));

	n->exists = true;
	n->expired = n->flat = false;
	*ret = n;
	if (add_labels(g, n, ns, db_text(q, 3), err) < 0)
		return -1;
	switch (kind) {
	case GC_IMAGE:
		edge_add(n, node_get(g, GC_CONTENT, ns, NULL, ref), /* label= */ false);
		n->root = true;
		break;
	case GC_CONTAINER:
		if (*ref)
			edge_add(n, node_get(g, GC_SNAPSHOT, ns, db_text(q, 5), ref),
				 /* label= */ false);
		n->root = true;
		break;
	case GC_SNAPSHOT:
		n->id = db_int(q, 6);
		if (*ref)
			edge_add(n, node_get(g, GC_SNAPSHOT, ns, db_text(q, 1), ref),
				 /* label= */ false);
		break;
	case GC_LEASE:
		note_expiry(g, n, db_int(q, 6));
		n->root = true;
		break;
	default:
		break;
	}
	return 0;
}

static void add_resource(struct gc_graph *g, const struct db_query *q)
{
	const char *ns = db_text(q, 0), *type = db_text(q, 2), *id = db_text(q, 3);
	struct gc_node *lease = node_get(g, GC_LEASE, ns, NULL, db_text(q, 1));
	struct gc_node *to = NULL;

	if (str_equal(type, "content"))
		to = node_get(g, GC_CONTENT, ns, NULL, id);
	else if (str_equal(type, "images"))
		to = node_get(g, GC_IMAGE, ns, NULL, id);
	else if (str_has_prefix(type, "snapshots/"))
		to = node_get(g, GC_SNAPSHOT, ns, type + strlen("snapshots/"), id);
	if (to)
		edge_add(lease, to, /* label= */ false);
}

static int load_kind(struct gc_graph *g, const struct db_tx *tx, enum gc_kind kind,
		     struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	struct gc_node *n;
	int r;

	if (db_query(tx, &q, err, selects[kind].all, "") < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0) {
		if (add_row(g, kind, &q, &n, err) < 0)
			return -1;
	}
	return r;
}

int gc_graph_load(struct gc_graph *g, const struct db_tx *tx, struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	for (int kind = 0; kind < GC_KIND_MAX; kind++) {
		if (load_kind(g, tx, (enum gc_kind)kind, err) < 0)
			return -1;
	}
	if (db_query(tx, &q, err, RESOURCE_SELECT, "") < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0)
		add_resource(g, &q);
	if (r < 0)
		return -1;
	MAP_FOREACH (e, &g->nodes)
		((struct gc_node *)map_value(e))->key = map_key(e);
	return 0;
}

static int reload_resources(struct gc_graph *g, const struct db_tx *tx, const struct gc_key *k,
			    struct error *err)
{
	autoquery struct db_query q = DB_QUERY_INIT;
	int r;

	if (db_query(tx, &q, err, RESOURCE_SELECT " WHERE ns = ? AND lease = ?", "ss", k->ns,
		     k->id) < 0)
		return -1;
	while ((r = db_step(&q, err)) > 0)
		add_resource(g, &q);
	return r;
}

int gc_graph_touch(struct gc_graph *g, const struct db_tx *tx, const char *key, struct error *err)
{
	autofree char *text = xstrdup(key);
	autoquery struct db_query q = DB_QUERY_INIT;
	struct gc_node *n = NULL;
	struct gc_key k;
	int r;

	gc_key_split(text, &k);
	if (db_query(tx, &q, err, selects[k.kind].one, "sss", k.ns, k.sn, k.id) < 0)
		return -1;
	r = db_step(&q, err);
	if (r <= 0)
		return r; /* gone again */
	if (add_row(g, k.kind, &q, &n, err) < 0)
		return -1;
	if (k.kind == GC_LEASE && reload_resources(g, tx, &k, err) < 0)
		return -1;
	if (n->expired)
		return 0;
	/* It may have been followed with fewer edges. */
	n->mark = GC_DEAD;
	gc_graph_mark(g, n, n->flat ? GC_FLAT : GC_LIVE);
	return 0;
}

void gc_graph_mark(struct gc_graph *g, struct gc_node *n, enum gc_mark mark)
{
	if (n->mark >= mark)
		return;
	n->mark = mark;
	if (n->queued)
		return;
	n->queued = true;
	n->next = g->queue;
	g->queue = n;
}

void gc_graph_follow(struct gc_graph *g)
{
	while (g->queue) {
		struct gc_node *n = g->queue;

		g->queue = n->next;
		n->queued = false;
		for (size_t i = 0; i < n->n_edges; i++) {
			if (!n->edges[i].label || n->mark == GC_LIVE)
				gc_graph_mark(g, n->edges[i].to, n->mark);
		}
	}
}

void gc_graph_mark_roots(struct gc_graph *g)
{
	MAP_FOREACH (e, &g->nodes) {
		struct gc_node *n = map_value(e);

		if (n->exists && n->root && !n->expired)
			gc_graph_mark(g, n, n->flat ? GC_FLAT : GC_LIVE);
	}
	gc_graph_follow(g);
}
