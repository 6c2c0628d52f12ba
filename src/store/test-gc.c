/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept and what goes. The store's own thread may collect at any moment too, so tests look
 * at what is left, not at what one run says that it removed.
 */
#include "store/test-util.h"

#include <pthread.h>
#include <stdatomic.h>

static int setup(void **state)
{
	*state = fixture_new("native");
	return 0;
}

static void collect(struct fixture *f)
{
	struct gc_stats stats;

	assert_ok(gc_run(f->store, &stats, ERR));
	assert_true(stats.duration > 0);
}

static void release(struct fixture *f)
{
	assert_ok(lease_delete(&f->bare, "hold", true, ERR));
}

/* Text with one label. */
static void put_labelled(const struct store_ctx *c, const char *text, const char *label,
			 const char *value, char digest[DIGEST_MAX])
{
	autokvs struct kvs labels = KVS_INIT;

	kvs_set(&labels, label, value);
	put_text(c, text, &labels, digest);
}

static void make_snapshot(const struct store_ctx *c, const char *name, const char *parent)
{
	assert_ok(snapshot_prepare(c, NULL, "work", parent, NULL, NULL, ERR));
	assert_ok(snapshot_commit(c, NULL, name, "work", NULL, false, ERR));
}

static bool has_snapshot(const struct store_ctx *c, const char *name)
{
	struct snapshot_info info = { 0 };
	bool found = snapshot_stat(c, NULL, name, &info, NULL) == 0;

	snapshot_info_done(&info);
	return found;
}

static void test_image_tree(void **state)
{
	struct fixture *f = *state;
	char layer[DIGEST_MAX], config[DIGEST_MAX], manifest[DIGEST_MAX], stray[DIGEST_MAX];
	autokvs struct kvs labels = KVS_INIT;

	make_snapshot(&f->ctx, "c1", "");
	make_snapshot(&f->ctx, "c2", "c1");
	make_snapshot(&f->ctx, "c3", "c2");
	put_text(&f->ctx, "layer", NULL, layer);
	put_text(&f->ctx, "stray", NULL, stray);
	put_labelled(&f->ctx, "config", "containerd.io/gc.ref.snapshot.native", "c2", config);
	kvs_set(&labels, "containerd.io/gc.ref.content.config", config);
	kvs_set(&labels, "containerd.io/gc.ref.content.l.0", layer);
	put_text(&f->ctx, "manifest", &labels, manifest);
	put_image(&f->ctx, "img", manifest);
	collect(f);
	assert_true(has_content(&f->ctx, stray) && has_snapshot(&f->ctx, "c3"));
	release(f);
	assert_true(has_content(&f->bare, manifest) && has_content(&f->bare, config) &&
		    has_content(&f->bare, layer));
	assert_true(has_snapshot(&f->bare, "c1") && has_snapshot(&f->bare, "c2"));
	assert_false(has_snapshot(&f->bare, "c3"));
	assert_false(has_content(&f->bare, stray));
	assert_false(blob_on_disk(f, stray));
	assert_ok(image_delete(&f->bare, "img", ERR));
	collect(f);
	assert_false(has_content(&f->bare, manifest) || has_content(&f->bare, config) ||
		     has_content(&f->bare, layer));
	assert_false(blob_on_disk(f, layer));
	assert_false(has_snapshot(&f->bare, "c1") || has_snapshot(&f->bare, "c2"));
}

static void test_image_reference(void **state)
{
	struct fixture *f = *state;
	char a[DIGEST_MAX], b[DIGEST_MAX];
	struct image i = { .name = (char *)"second",
			   .target = { .media_type = (char *)"x", .digest = b, .size = 1 } };

	put_text(&f->ctx, "b", NULL, b);
	put_labelled(&f->ctx, "a", "containerd.io/gc.ref.image/x", "second", a);
	put_image(&f->ctx, "first", a);
	kvs_set(&i.labels, "containerd.io/gc.expire", "2001-01-01T00:00:00Z");
	assert_ok(image_put(&f->ctx, &i, ERR));
	kvs_done(&i.labels);
	release(f);
	/* It has expired, but is referred to. */
	assert_true(has_content(&f->bare, b));
	assert_ok(image_delete(&f->bare, "first", ERR));
	collect(f);
	assert_false(has_content(&f->bare, b));
	assert_error(ERROR_NOT_FOUND, image_delete(&f->bare, "second", ERR));
}

static void test_roots(void **state)
{
	struct fixture *f = *state;
	char root[DIGEST_MAX], child[DIGEST_MAX];
	autokvs struct kvs labels = KVS_INIT;

	put_text(&f->ctx, "child", NULL, child);
	kvs_set(&labels, "containerd.io/gc.root", "now");
	kvs_set(&labels, "containerd.io/gc.ref.content", child);
	put_text(&f->ctx, "root", &labels, root);
	make_snapshot(&f->ctx, "base", "");
	make_snapshot(&f->ctx, "loose", "base");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "rooted", "base", &labels, NULL, ERR));
	release(f);
	assert_true(has_content(&f->bare, root) && has_content(&f->bare, child));
	assert_true(has_snapshot(&f->bare, "rooted") && has_snapshot(&f->bare, "base"));
	assert_false(has_snapshot(&f->bare, "loose"));
}

static void test_container(void **state)
{
	struct fixture *f = *state;
	struct container_record r = { .id = (char *)"c",
				      .snapshotter = (char *)"native",
				      .snapshot_key = (char *)"ctr" };
	char digest[DIGEST_MAX];

	put_text(&f->ctx, "checkpoint", NULL, digest);
	kvs_set(&r.labels, "containerd.io/gc.ref.content.checkpoint", digest);
	make_snapshot(&f->ctx, "base", "");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "ctr", "base", NULL, NULL, ERR));
	assert_ok(container_record_create(&f->ctx, &r, true, ERR));
	release(f);
	assert_true(has_snapshot(&f->bare, "ctr") && has_snapshot(&f->bare, "base"));
	assert_true(has_content(&f->bare, digest));
	assert_ok(container_record_delete(&f->bare, "c", ERR));
	collect(f);
	assert_false(has_snapshot(&f->bare, "ctr") || has_snapshot(&f->bare, "base"));
	assert_false(has_content(&f->bare, digest));
	kvs_done(&r.labels);
}

static void test_back_reference(void **state)
{
	struct fixture *f = *state;
	char owner[DIGEST_MAX], owned[DIGEST_MAX];
	autokvs struct kvs labels = KVS_INIT;

	put_text(&f->ctx, "owner", NULL, owner);
	put_labelled(&f->ctx, "owned", "containerd.io/gc.bref.content", owner, owned);
	kvs_set(&labels, "containerd.io/gc.bref.image.x", "img");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "s", "", &labels, NULL, ERR));
	put_image(&f->ctx, "img", owner);
	release(f);
	assert_true(has_content(&f->bare, owned) && has_snapshot(&f->bare, "s"));
	assert_ok(image_delete(&f->bare, "img", ERR));
	collect(f);
	assert_false(has_content(&f->bare, owned) || has_snapshot(&f->bare, "s"));
}

static void test_flat_lease(void **state)
{
	struct fixture *f = *state;
	struct store_ctx flat = { .store = f->store, .ns = "test", .lease = "flat" };
	char a[DIGEST_MAX], b[DIGEST_MAX];
	autokvs struct kvs labels = KVS_INIT;

	kvs_set(&labels, "containerd.io/gc.flat", "1");
	assert_ok(lease_create(&f->bare, "flat", 0, &labels, ERR));
	make_snapshot(&f->ctx, "base", "");
	make_snapshot(&flat, "top", "base");
	put_text(&f->ctx, "b", NULL, b);
	put_labelled(&flat, "a", "containerd.io/gc.ref.content.x", b, a);
	release(f);
	assert_true(has_content(&f->bare, a));
	assert_false(has_content(&f->bare, b)); /* labels are not followed */
	assert_true(has_snapshot(&f->bare, "top") && has_snapshot(&f->bare, "base"));
}

static void test_expiry(void **state)
{
	struct fixture *f = *state;
	struct store_ctx brief = { .store = f->store, .ns = "test", .lease = "brief" };
	struct lease_resources res = { 0 };
	char digest[DIGEST_MAX];

	assert_ok(lease_create(&f->bare, "brief", time_realtime() + NSEC_PER_SEC, NULL, ERR));
	put_text(&brief, "x", NULL, digest);
	collect(f);
	assert_true(has_content(&f->bare, digest));
	/* The store's thread wakes up by itself. */
	for (int i = 0; i < 500 && has_content(&f->bare, digest); i++)
		usleep(10000);
	assert_false(has_content(&f->bare, digest));
	assert_error(ERROR_NOT_FOUND, lease_resources(&f->bare, "brief", &res, ERR));
}

static void test_scheduled(void **state)
{
	struct fixture *f = *state;
	char digest[DIGEST_MAX];

	put_text(&f->ctx, "x", NULL, digest);
	assert_ok(lease_delete(&f->bare, "hold", false, ERR));
	for (int i = 0; i < 500 && blob_on_disk(f, digest); i++)
		usleep(10000);
	assert_false(blob_on_disk(f, digest));
}

static void test_namespaces(void **state)
{
	struct fixture *f = *state;
	struct store_ctx other = { .store = f->store, .ns = "other", .lease = "hold" };
	char digest[DIGEST_MAX], named[DIGEST_MAX];

	assert_ok(lease_create(&other, "hold", 0, NULL, ERR));
	put_text(&f->ctx, "x", NULL, digest);
	put_text(&other, "x", NULL, digest);
	put_text(&f->ctx, "y", NULL, named);
	put_image(&other, "img", named); /* refers to nothing in its own namespace */
	release(f);
	assert_false(has_content(&f->bare, digest) || has_content(&f->bare, named));
	assert_true(has_content(&other, digest) && blob_on_disk(f, digest));
}

static void age_ingest(struct fixture *f, const char *full)
{
	const struct timespec old[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
	char digest[DIGEST_MAX];
	autofree char *path = NULL;

	digest_bytes(full, strlen(full), digest);
	path = path_join(f->root, "io.containerd.content.v1.content/ingest", digest_hex(digest),
			 "data", NULL);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
}

static bool has_ingest(const struct store_ctx *c, const char *ref)
{
	struct ingest_status st = { 0 };
	bool found = ingest_stat(c, ref, &st, NULL) == 0;

	ingest_status_done(&st);
	return found;
}

static void test_ingests(void **state)
{
	struct fixture *f = *state;
	static const char *const refs[] = { "young", "old", "open" };
	struct ingest *i[3], *leased;

	for (size_t k = 0; k < 3; k++) {
		assert_ok(ingest_open(&f->bare, refs[k], 0, NULL, &i[k], ERR));
		assert_ok(ingest_write(i[k], 0, "x", 1, ERR));
	}
	assert_ok(ingest_open(&f->ctx, "leased", 0, NULL, &leased, ERR));
	assert_ok(ingest_write(leased, 0, "x", 1, ERR));
	ingest_close(leased);
	ingest_close(i[0]);
	ingest_close(i[1]);
	age_ingest(f, "test/old");
	age_ingest(f, "test/open");
	age_ingest(f, "test/leased");
	collect(f);
	assert_true(has_ingest(&f->bare, "young") && has_ingest(&f->bare, "open") &&
		    has_ingest(&f->bare, "leased"));
	assert_false(has_ingest(&f->bare, "old"));
	ingest_close(i[2]);
	release(f);
	assert_false(has_ingest(&f->bare, "leased"));
}

enum { PULLS = 60, BLOBS = 4 };

static atomic_bool pulling;

/* Layer n, shared by all pulls: it is collected and fetched again all the time. */
static void pull_layer(const struct store_ctx *c, int n, char digest[DIGEST_MAX])
{
	autoerror struct error err = ERROR_INIT;
	autofree char *text = xasprintf("layer %d", n);
	autofree char *ref = xasprintf("layer-%d-%s", n, c->lease);
	struct ingest *i;

	digest_bytes(text, strlen(text), digest);
	if (ingest_open(c, ref, 0, digest, &i, &err) < 0) {
		assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
		return;
	}
	assert_ok(ingest_write(i, 0, text, strlen(text), ERR));
	if (ingest_commit(i, 0, digest, false, NULL, NULL, &err) < 0)
		assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
	ingest_close(i);
}

static void pull_snapshot(const struct store_ctx *c, const char *name)
{
	autoerror struct error err = ERROR_INIT;
	autokvs struct kvs labels = KVS_INIT;
	autofree char *key = xasprintf("extract-%s", c->lease);

	kvs_set(&labels, "containerd.io/snapshot.ref", name);
	if (snapshot_prepare(c, NULL, key, "", &labels, NULL, &err) < 0) {
		assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
		return;
	}
	if (snapshot_commit(c, NULL, name, key, NULL, false, &err) < 0) {
		assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
		assert_ok(snapshot_remove(c, NULL, key, ERR));
		pull_snapshot(c, name);
	}
}

static void pull_once(struct store *s, const char *name, int n)
{
	struct store_ctx bare = { .store = s, .ns = "pulls" };
	struct store_ctx c = { .store = s, .ns = "pulls", .lease = name };
	autokvs struct kvs labels = KVS_INIT;
	autofree char *text = xasprintf("manifest %d", n % BLOBS);
	autofree char *chain = xasprintf("chain-%d", n % 2);
	char layer[DIGEST_MAX], manifest[DIGEST_MAX];

	assert_ok(lease_create(&bare, name, 0, NULL, ERR));
	pull_layer(&c, n % BLOBS, layer);
	pull_snapshot(&c, chain);
	kvs_set(&labels, "containerd.io/gc.ref.content.l.0", layer);
	kvs_set(&labels, "containerd.io/gc.ref.snapshot.native", chain);
	put_text(&c, text, &labels, manifest);
	assert_ok(image_put(
		&c,
		&(struct image){ .name = (char *)name,
				 .target = { .media_type = (char *)"x", .digest = manifest } },
		ERR));
	assert_ok(lease_delete(&bare, name, false, ERR));
	if (n % 3 == 0)
		usleep(1000);
	assert_true(has_content(&bare, manifest));
	assert_true(has_content(&bare, layer));
	assert_true(has_snapshot(&bare, chain));
	assert_ok(image_delete(&bare, name, ERR));
}

static void *puller(void *arg)
{
	struct fixture *f = arg;
	char name[16];

	snprintf(name, sizeof(name), "p%lx", (unsigned long)pthread_self() & 0xffffff);
	for (int n = 0; n < PULLS; n++)
		pull_once(f->store, name, n);
	return NULL;
}

static void *collector(void *arg)
{
	struct fixture *f = arg;

	while (atomic_load(&pulling))
		assert_ok(gc_run(f->store, NULL, ERR));
	return NULL;
}

static int count_content(const struct content_info *i, void *arg)
{
	++*(int *)arg;
	return 0;
}

static void test_concurrent_pulls(void **state)
{
	struct fixture *f = *state;
	struct store_ctx pulls = { .store = f->store, .ns = "pulls" };
	pthread_t pullers[3], gc;
	int left = 0;

	atomic_store(&pulling, true);
	assert_int_equal(pthread_create(&gc, NULL, collector, f), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pullers); i++)
		assert_int_equal(pthread_create(&pullers[i], NULL, puller, f), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pullers); i++)
		pthread_join(pullers[i], NULL);
	atomic_store(&pulling, false);
	pthread_join(gc, NULL);
	collect(f);
	assert_ok(content_walk(&pulls, count_content, &left, ERR));
	assert_int_equal(left, 0);
	assert_false(has_snapshot(&pulls, "chain-0") || has_snapshot(&pulls, "chain-1"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_image_tree), T(test_image_reference),  T(test_roots),
		T(test_container),  T(test_back_reference),   T(test_flat_lease),
		T(test_expiry),	    T(test_scheduled),	      T(test_namespaces),
		T(test_ingests),    T(test_concurrent_pulls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
