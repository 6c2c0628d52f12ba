/* SPDX-License-Identifier: Apache-2.0 */
#include "store/test-util.h"

#include <sqlite3.h>

static void test_identifiers(void **state)
{
	static const char *const good[] = { "a", "k8s.io", "a-b_c.d", "default", "0" };
	static const char *const bad[] = { "", ".a", "a.", "a..b", "a/b", "a b", "-", "\xc3\xa4" };
	char name[78];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(identifier_valid(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(identifier_valid(bad[i]));
	memset(name, 'a', 77);
	name[77] = 0;
	assert_false(identifier_valid(name));
	name[76] = 0;
	assert_true(identifier_valid(name));
	assert_false(identifier_valid(NULL));
}

static void test_namespaces(void **state)
{
	struct fixture *f = *state;
	autostrv struct strv names = STRV_INIT;

	assert_ok(namespace_create(f->store, "one", NULL, ERR));
	assert_error(ERROR_ALREADY_EXISTS, namespace_create(f->store, "one", NULL, ERR));
	assert_error(ERROR_INVALID_ARGUMENT, namespace_create(f->store, "a/b", NULL, ERR));
	assert_ok(namespace_list(f->store, &names, ERR));
	assert_int_equal(names.n, 2);
	assert_string_equal(names.v[0], "one");
	assert_string_equal(names.v[1], "test");
	assert_error(ERROR_FAILED_PRECONDITION, namespace_delete(f->store, "test", ERR));
	assert_ok(namespace_delete(f->store, "one", ERR));
	assert_error(ERROR_NOT_FOUND, namespace_delete(f->store, "one", ERR));
}

static void test_second_process(void **state)
{
	struct fixture *f = *state;
	struct store_config config = { .root = f->root };
	struct store *s;

	assert_error(ERROR_FAILED_PRECONDITION, store_open(&config, &s, ERR));
}

static void test_config(void **state)
{
	struct fixture *f = *state;
	struct store_config config = { .root = "relative" };
	struct store *s;

	assert_error(ERROR_INVALID_ARGUMENT, store_open(&config, &s, ERR));
	config.root = "/tmp/a:b";
	assert_error(ERROR_INVALID_ARGUMENT, store_open(&config, &s, ERR));
	fixture_close(f);
	config.root = f->root;
	config.snapshotter = "zfs";
	assert_error(ERROR_NOT_FOUND, store_open(&config, &s, ERR));
	f->snapshotter = "native";
	fixture_open(f);
	assert_string_equal(store_default_snapshotter(f->store), "native");
	assert_string_equal(store_root(f->store), f->root);
}

static void with_database(struct fixture *f, const char *sql)
{
	autofree char *path = path_join(f->root, "metadata.db", NULL);
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void test_newer_schema(void **state)
{
	struct fixture *f = *state;
	struct store_config config = { .root = f->root };
	struct store *s;

	fixture_close(f);
	with_database(f, "PRAGMA user_version=99");
	assert_error(ERROR_FAILED_PRECONDITION, store_open(&config, &s, ERR));
}

static void test_corrupt_database(void **state)
{
	struct fixture *f = *state;
	struct store_config config = { .root = f->root };
	autofree char *path = path_join(f->root, "metadata.db", NULL);
	autoerror struct error err = ERROR_INIT;
	struct store *s;
	int fd;

	fixture_close(f);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "this is not a database, not at all", 34), 34);
	close(fd);
	assert_int_equal(store_open(&config, &s, &err), -1);
	assert_int_equal(err.code, ERROR_DATA_LOSS);
	assert_non_null(strstr(error_msg(&err), path));
}

/* Pages behind the first one are garbage. */
static void test_corrupt_pages(void **state)
{
	struct fixture *f = *state;
	struct store_config config = { .root = f->root };
	autofree char *path = path_join(f->root, "metadata.db", NULL);
	autoerror struct error err = ERROR_INIT;
	autoclose int fd = -EBADF;
	char junk[4096], digest[DIGEST_MAX];
	struct store *s = NULL;
	struct stat st;

	put_text(&f->ctx, "x", NULL, digest);
	fixture_close(f);
	memset(junk, 0x5a, sizeof(junk));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size > (off_t)sizeof(junk));
	for (off_t at = sizeof(junk); at < st.st_size; at += (off_t)sizeof(junk))
		assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
	assert_int_equal(store_open(&config, &s, &err), -1);
	assert_int_equal(err.code, ERROR_DATA_LOSS);
	assert_non_null(strstr(error_msg(&err), path));
}

static void test_images(void **state)
{
	struct fixture *f = *state;
	autoimage struct image i = { 0 }, got = { 0 };
	autoimages struct images list = { 0 };
	char digest[DIGEST_MAX];

	digest_bytes("x", 1, digest);
	i.name = xstrdup("docker.io/library/busybox:latest");
	i.target.media_type = xstrdup(MEDIA_OCI_INDEX);
	i.target.digest = xstrdup(digest);
	i.target.size = 1234;
	kvs_set(&i.target.annotations, "a", "b");
	kvs_set(&i.labels, "l", "1\n\"ü");
	assert_ok(image_create(&f->ctx, &i, ERR));
	assert_error(ERROR_ALREADY_EXISTS, image_create(&f->ctx, &i, ERR));
	assert_ok(image_get(&f->ctx, i.name, &got, ERR));
	assert_string_equal(got.target.digest, digest);
	assert_int_equal(got.target.size, 1234);
	assert_string_equal(kvs_get(&got.target.annotations, "a"), "b");
	assert_true(kvs_equal(&got.labels, &i.labels));
	assert_true(got.created_at > 0 && got.updated_at == got.created_at);
	image_done(&got);

	str_replace(&i.target.media_type, MEDIA_OCI_MANIFEST);
	assert_ok(image_put(&f->ctx, &i, ERR));
	assert_ok(image_get(&f->ctx, i.name, &got, ERR));
	assert_string_equal(got.target.media_type, MEDIA_OCI_MANIFEST);
	assert_true(got.updated_at > got.created_at);
	assert_ok(image_list(&f->ctx, &list, ERR));
	assert_int_equal(list.n, 1);

	kvs_set(&i.labels, "l", "\xff");
	assert_error(ERROR_INVALID_ARGUMENT, image_put(&f->ctx, &i, ERR));
	kvs_unset(&i.labels, "l");
	kvs_set(&i.target.annotations, "a", "\xc3");
	assert_error(ERROR_INVALID_ARGUMENT, image_put(&f->ctx, &i, ERR));
	kvs_unset(&i.target.annotations, "a");
	str_replace(&i.target.digest, "sha256:nope");
	assert_error(ERROR_INVALID_ARGUMENT, image_put(&f->ctx, &i, ERR));
	assert_ok(image_delete(&f->ctx, i.name, ERR));
	assert_error(ERROR_NOT_FOUND, image_delete(&f->ctx, i.name, ERR));
	assert_error(ERROR_NOT_FOUND, image_get(&f->ctx, i.name, &got, ERR));
}

static void test_containers(void **state)
{
	struct fixture *f = *state;
	struct container_record r = { .id = (char *)"c1",
				      .image = (char *)"img",
				      .runtime = (char *)"crun",
				      .spec = (char *)"{\"ociVersion\":\"1.0\"}",
				      .snapshotter = (char *)"native",
				      .snapshot_key = (char *)"c1" };
	struct container_record got = { 0 };
	struct container_records list = { 0 };
	struct store_ctx other = { .store = f->store, .ns = "other" };

	kvs_set(&r.labels, "a", "b");
	kvs_set(&r.extensions, "type/url", "{\"x\":1}");
	assert_ok(container_record_create(&f->bare, &r, true, ERR));
	assert_error(ERROR_ALREADY_EXISTS, container_record_create(&f->bare, &r, true, ERR));
	assert_ok(container_record_get(&f->bare, "c1", &got, ERR));
	assert_string_equal(got.spec, r.spec);
	assert_null(got.runtime_options);
	assert_string_equal(got.sandbox_id, "");
	assert_string_equal(kvs_get(&got.extensions, "type/url"), "{\"x\":1}");
	assert_true(kvs_equal(&got.labels, &r.labels));
	container_record_done(&got);
	assert_error(ERROR_NOT_FOUND, container_record_get(&other, "c1", &got, ERR));

	r.image = (char *)"img2";
	assert_ok(container_record_update(&f->bare, &r, ERR));
	assert_error(ERROR_NOT_FOUND, container_record_update(&other, &r, ERR));
	fixture_reopen(f);
	assert_ok(container_record_list(&f->bare, &list, ERR));
	assert_int_equal(list.n, 1);
	assert_string_equal(list.v[0].image, "img2");
	container_records_done(&list);
	assert_ok(container_record_delete(&f->bare, "c1", ERR));
	assert_error(ERROR_NOT_FOUND, container_record_delete(&f->bare, "c1", ERR));
	r.id = (char *)"../x";
	assert_error(ERROR_INVALID_ARGUMENT, container_record_create(&f->bare, &r, true, ERR));
	kvs_done(&r.labels);
	kvs_done(&r.extensions);
}

static void test_records(void **state)
{
	struct fixture *f = *state;
	autokvs struct kvs list = KVS_INIT;
	autofree char *text = NULL;

	assert_ok(record_put(&f->bare, "volume", "v1", "{}", true, ERR));
	assert_ok(record_put(&f->bare, "volume", "v1", "{\"a\":1}", false, ERR));
	assert_ok(record_put(&f->bare, "network", "v1", "{}", false, ERR));
	fixture_reopen(f);
	assert_ok(record_get(&f->bare, "volume", "v1", &text, ERR));
	assert_string_equal(text, "{\"a\":1}");
	assert_ok(record_list(&f->bare, "volume", &list, ERR));
	assert_int_equal(list.n, 1);
	assert_ok(record_delete(&f->bare, "volume", "v1", ERR));
	assert_error(ERROR_NOT_FOUND, record_delete(&f->bare, "volume", "v1", ERR));
	assert_error(ERROR_NOT_FOUND, record_get(&f->bare, "volume", "v1", &text, ERR));
	assert_error(ERROR_INVALID_ARGUMENT, record_put(&f->bare, "volume", "", "", false, ERR));
}

/* The background thread moves the log into the database while it is written. */
static void test_checkpoint(void **state)
{
	struct fixture *f = *state;
	autofree char *path = path_join(f->root, "metadata.db", NULL);
	autofree char *log = path_join(f->root, "metadata.db-wal", NULL);
	autofree char *text = xcalloc(1, 8193);
	struct stat st;
	char id[16];

	memset(text, 'x', 8192);
	for (int i = 0; i < 3000; i++) {
		snprintf(id, sizeof(id), "r%d", i % 1500);
		assert_ok(record_put(&f->bare, "big", id, text, false, ERR));
	}
	for (int i = 0; i < 500; i++) {
		assert_int_equal(stat(path, &st), 0);
		if (st.st_size > 8 << 20)
			break;
		assert_ok(record_put(&f->bare, "big", "again", text, false, ERR));
		usleep(10000);
	}
	assert_true(st.st_size > 8 << 20);
	assert_int_equal(stat(log, &st), 0);
}

static void test_leases(void **state)
{
	struct fixture *f = *state;
	struct leases list = { 0 };
	struct lease_resources res = { 0 };
	int64_t expire = time_realtime() + 3600 * NSEC_PER_SEC;
	struct store_ctx none = { .store = f->store, .ns = "test", .lease = "no-such" };
	const char *label;
	int64_t at;

	assert_ok(lease_create(&f->bare, "l1", expire, NULL, ERR));
	assert_error(ERROR_ALREADY_EXISTS, lease_create(&f->bare, "l1", 0, NULL, ERR));
	assert_ok(lease_list(&f->bare, &list, ERR));
	assert_int_equal(list.n, 2);
	label = kvs_get(&list.v[1].labels, "containerd.io/gc.expire");
	assert_int_equal(time_parse_rfc3339(label, &at), 0);
	assert_int_equal(at, expire);
	leases_done(&list);

	assert_ok(lease_add(&f->bare, "l1", "content", "sha256:x", ERR));
	assert_ok(lease_add(&f->bare, "l1", "content", "sha256:x", ERR));
	assert_ok(lease_add(&f->bare, "l1", "snapshots/native", "k", ERR));
	assert_error(ERROR_UNIMPLEMENTED, lease_add(&f->bare, "l1", "mounts", "k", ERR));
	assert_error(ERROR_NOT_FOUND, lease_add(&f->bare, "l2", "images", "k", ERR));
	assert_ok(lease_resources(&f->bare, "l1", &res, ERR));
	assert_int_equal(res.n, 2);
	assert_string_equal(res.v[1].type, "snapshots/native");
	lease_resources_done(&res);
	assert_ok(lease_remove(&f->bare, "l1", "content", "sha256:x", ERR));
	assert_ok(lease_delete(&f->bare, "l1", true, ERR));
	assert_error(ERROR_NOT_FOUND, lease_delete(&f->bare, "l1", false, ERR));
	assert_error(ERROR_NOT_FOUND, lease_resources(&f->bare, "l1", &res, ERR));
	assert_error(
		ERROR_NOT_FOUND,
		content_put(
			&none,
			"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
			"x", 1, NULL, ERR));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identifiers),
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_namespaces),
		T(test_second_process),
		T(test_config),
		T(test_newer_schema),
		T(test_corrupt_database),
		T(test_corrupt_pages),
		T(test_images),
		T(test_containers),
		T(test_records),
		T(test_leases),
		T(test_checkpoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
