/* SPDX-License-Identifier: Apache-2.0 */
#include "store/test-util.h"

#include <dirent.h>

static void test_put(void **state)
{
	struct fixture *f = *state;
	CLEANUP(content_info_done) struct content_info info = { 0 };
	autokvs struct kvs labels = KVS_INIT;
	autobuf struct buf b = BUF_INIT(100), small = BUF_INIT(3);
	char digest[DIGEST_MAX], wrong[DIGEST_MAX];
	autofree char *path = NULL;
	struct stat st;

	kvs_set(&labels, "a", "1");
	kvs_set(&labels, "b", "2");
	put_text(&f->ctx, "hello", &labels, digest);
	assert_ok(content_stat(&f->ctx, digest, &info, ERR));
	assert_int_equal(info.size, 5);
	assert_string_equal(info.digest, digest);
	assert_true(kvs_equal(&info.labels, &labels));
	assert_ok(content_read(&f->ctx, digest, &b, ERR));
	assert_string_equal(b.data, "hello");
	assert_error(ERROR_RESOURCE_EXHAUSTED, content_read(&f->ctx, digest, &small, ERR));
	path = blob_file(f, digest);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0444);

	/* Again, with other labels: merged. */
	kvs_set(&labels, "b", "");
	kvs_set(&labels, "c", "3");
	put_text(&f->ctx, "hello", &labels, digest);
	content_info_done(&info);
	assert_ok(content_stat(&f->ctx, digest, &info, ERR));
	assert_int_equal(info.labels.n, 2);
	assert_string_equal(kvs_get(&info.labels, "c"), "3");

	digest_bytes("other", 5, wrong);
	assert_error(ERROR_FAILED_PRECONDITION, content_put(&f->ctx, wrong, "hello", 5, NULL, ERR));
	assert_error(ERROR_INVALID_ARGUMENT,
		     content_put(&f->ctx, "sha256:../../x", "hello", 5, NULL, ERR));
	assert_error(ERROR_NOT_FOUND, content_stat(&f->ctx, wrong, &info, ERR));
}

static void test_labels(void **state)
{
	struct fixture *f = *state;
	CLEANUP(content_info_done) struct content_info info = { 0 };
	autokvs struct kvs labels = KVS_INIT;
	autofree char *huge = xcalloc(70000, 1);
	char digest[DIGEST_MAX];

	put_text(&f->ctx, "x", NULL, digest);
	kvs_set(&labels, "k", "v");
	assert_ok(content_set_labels(&f->ctx, digest, &labels, ERR));
	kvs_set(&labels, "k", "");
	kvs_set(&labels, "l", "w");
	assert_ok(content_set_labels(&f->ctx, digest, &labels, ERR));
	assert_ok(content_stat(&f->ctx, digest, &info, ERR));
	assert_int_equal(info.labels.n, 1);
	assert_true(info.updated_at > info.created_at);
	memset(huge, 'x', 69999);
	kvs_set(&labels, "l", huge);
	assert_error(ERROR_INVALID_ARGUMENT, content_set_labels(&f->ctx, digest, &labels, ERR));
	kvs_set(&labels, "l", "w");
	digest_bytes("none", 4, digest);
	assert_error(ERROR_NOT_FOUND, content_set_labels(&f->ctx, digest, &labels, ERR));
}

static void test_namespaces_share(void **state)
{
	struct fixture *f = *state;
	struct store_ctx other = { .store = f->store, .ns = "other", .lease = "hold" };
	struct content_info info = { 0 };
	struct ingest *i;
	char digest[DIGEST_MAX];

	assert_ok(lease_create(&other, "hold", 0, NULL, ERR));
	put_text(&f->ctx, "shared", NULL, digest);
	assert_error(ERROR_NOT_FOUND, content_stat(&other, digest, &info, ERR));
	assert_error(ERROR_NOT_FOUND, content_open(&other, digest, NULL, ERR));
	assert_error(ERROR_ALREADY_EXISTS, ingest_open(&other, "r", 0, digest, &i, ERR));
	assert_true(has_content(&other, digest));
	assert_ok(content_delete(&f->ctx, digest, ERR));
	assert_error(ERROR_NOT_FOUND, content_delete(&f->ctx, digest, ERR));
	assert_true(blob_on_disk(f, digest));
	assert_true(has_content(&other, digest));
	assert_ok(content_delete(&other, digest, ERR));
	assert_false(blob_on_disk(f, digest));
}

static void test_self_heal(void **state)
{
	struct fixture *f = *state;
	struct content_info info = { 0 };
	autofree char *path = NULL;
	char digest[DIGEST_MAX];

	put_text(&f->ctx, "gone", NULL, digest);
	path = blob_file(f, digest);
	assert_int_equal(unlink(path), 0);
	assert_error(ERROR_NOT_FOUND, content_stat(&f->ctx, digest, &info, ERR));
	put_text(&f->ctx, "gone", NULL, digest);
	assert_true(blob_on_disk(f, digest));
	assert_int_equal(unlink(path), 0);
	assert_error(ERROR_NOT_FOUND, content_open(&f->ctx, digest, NULL, ERR));
	put_text(&f->ctx, "gone", NULL, digest);
	assert_int_equal(unlink(path), 0);
	put_text(&f->ctx, "gone", NULL, digest); /* notices by itself */
	assert_true(blob_on_disk(f, digest));
}

static int count(const struct content_info *i, void *arg)
{
	return ++*(int *)arg == 500;
}

static void test_walk(void **state)
{
	struct fixture *f = *state;
	char text[16], digest[DIGEST_MAX];
	int n = 0;

	for (int i = 0; i < 300; i++) {
		snprintf(text, sizeof(text), "blob %d", i);
		put_text(&f->ctx, text, NULL, digest);
	}
	assert_ok(content_walk(&f->ctx, count, &n, ERR));
	assert_int_equal(n, 300);
	n = 497;
	assert_ok(content_walk(&f->ctx, count, &n, ERR));
	assert_int_equal(n, 500);
}

static void test_ingest(void **state)
{
	struct fixture *f = *state;
	CLEANUP(content_info_done) struct content_info info = { 0 };
	CLEANUP(ingest_status_done) struct ingest_status st = { 0 };
	autokvs struct kvs labels = KVS_INIT;
	char expected[DIGEST_MAX], digest[DIGEST_MAX];
	struct ingest *i, *second;

	digest_bytes("hello world", 11, expected);
	kvs_set(&labels, "k", "v");
	assert_ok(ingest_open(&f->ctx, "layer-1", 11, expected, &i, ERR));
	assert_error(ERROR_UNAVAILABLE, ingest_open(&f->ctx, "layer-1", 0, NULL, &second, ERR));
	assert_error(ERROR_UNAVAILABLE, ingest_abort(&f->ctx, "layer-1", ERR));
	assert_ok(ingest_write(i, 0, "hello ", 6, ERR));
	assert_error(ERROR_OUT_OF_RANGE, ingest_write(i, 5, "x", 1, ERR));
	assert_ok(ingest_stat(&f->ctx, "layer-1", &st, ERR));
	assert_int_equal(st.offset, 6);
	assert_int_equal(st.total, 11);
	assert_string_equal(st.ref, "layer-1");
	assert_string_equal(st.expected, expected);
	assert_true(st.started_at > 0 && st.updated_at > 0);
	assert_error(ERROR_FAILED_PRECONDITION,
		     ingest_commit(i, 11, expected, false, NULL, NULL, ERR));
	ingest_close(i);

	/* Resume. */
	assert_ok(ingest_open(&f->ctx, "layer-1", 11, expected, &i, ERR));
	assert_int_equal(ingest_size(i), 6);
	assert_ok(ingest_write(i, 6, "worle", 5, ERR));
	assert_error(ERROR_FAILED_PRECONDITION,
		     ingest_commit(i, 11, expected, false, NULL, NULL, ERR));
	assert_int_equal(ingest_size(i), 11);
	/* Restart at 0. */
	assert_ok(ingest_write(i, 0, "hello world", 11, ERR));
	assert_ok(ingest_commit(i, 11, expected, false, &labels, digest, ERR));
	assert_string_equal(digest, expected);
	ingest_close(i);
	assert_ok(content_stat(&f->ctx, digest, &info, ERR));
	assert_int_equal(info.size, 11);
	assert_true(kvs_equal(&info.labels, &labels));
	ingest_status_done(&st);
	assert_error(ERROR_NOT_FOUND, ingest_stat(&f->ctx, "layer-1", &st, ERR));
	assert_error(ERROR_ALREADY_EXISTS, ingest_open(&f->ctx, "l2", 0, expected, &i, ERR));
}

static void test_ingest_digest_of_resumed(void **state)
{
	struct fixture *f = *state;
	char digest[DIGEST_MAX], expected[DIGEST_MAX];
	struct ingest *i;

	assert_ok(ingest_open(&f->ctx, "r", 0, NULL, &i, ERR));
	assert_ok(ingest_write(i, 0, "abc", 3, ERR));
	ingest_close(i);
	fixture_reopen(f);
	assert_ok(ingest_open(&f->ctx, "r", 0, NULL, &i, ERR));
	assert_ok(ingest_write(i, 3, "def", 3, ERR));
	/* And bytes that came through the descriptor. */
	assert_int_equal(pwrite(ingest_fd(i), "ghi", 3, 6), 3);
	assert_ok(ingest_commit(i, 0, NULL, false, NULL, digest, ERR));
	ingest_close(i);
	digest_bytes("abcdefghi", 9, expected);
	assert_string_equal(digest, expected);
}

static void test_ingest_sha512(void **state)
{
	struct fixture *f = *state;
	CLEANUP(digester_freep)
	struct digester *d =
		digester_new("sha512:"
			     "0000000000000000000000000000000000000000000000000000000000000000"
			     "0000000000000000000000000000000000000000000000000000000000000000");
	char expected[DIGEST_MAX], digest[DIGEST_MAX];
	struct ingest *i;

	digester_update(d, "abc", 3);
	digester_peek(d, expected);
	/* The algorithm is not known until the commit. */
	assert_ok(ingest_open(&f->ctx, "r", 0, NULL, &i, ERR));
	assert_ok(ingest_write(i, 0, "abc", 3, ERR));
	assert_ok(ingest_commit(i, 3, expected, false, NULL, digest, ERR));
	ingest_close(i);
	assert_string_equal(digest, expected);
	assert_true(blob_on_disk(f, expected));
}

static void test_ingest_verified(void **state)
{
	struct fixture *f = *state;
	char expected[DIGEST_MAX];
	struct ingest *i;

	digest_bytes("abc", 3, expected);
	assert_ok(ingest_open(&f->ctx, "r", 3, expected, &i, ERR));
	assert_int_equal(write(ingest_fd(i), "abc", 3), 3);
	assert_error(ERROR_FAILED_PRECONDITION,
		     ingest_commit(i, 4, expected, true, NULL, NULL, ERR));
	assert_ok(ingest_commit(i, 3, expected, true, NULL, NULL, ERR));
	ingest_close(i);
	assert_true(has_content(&f->ctx, expected));
}

static void test_ingest_race(void **state)
{
	struct fixture *f = *state;
	char digest[DIGEST_MAX];
	struct ingest *a, *b;

	digest_bytes("abc", 3, digest);
	assert_ok(ingest_open(&f->ctx, "a", 3, digest, &a, ERR));
	assert_ok(ingest_open(&f->ctx, "b", 3, digest, &b, ERR));
	assert_ok(ingest_write(a, 0, "abc", 3, ERR));
	assert_ok(ingest_write(b, 0, "abc", 3, ERR));
	assert_ok(ingest_commit(b, 3, digest, false, NULL, NULL, ERR));
	assert_error(ERROR_ALREADY_EXISTS, ingest_commit(a, 3, digest, false, NULL, NULL, ERR));
	ingest_close(a);
	ingest_close(b);
	assert_true(has_content(&f->ctx, digest));
}

static int count_ingest(const struct ingest_status *s, void *arg)
{
	++*(int *)arg;
	return 0;
}

static void test_ingest_abort(void **state)
{
	struct fixture *f = *state;
	struct store_ctx other = { .store = f->store, .ns = "other" };
	struct ingest *i;
	int n = 0;

	assert_ok(ingest_open(&f->ctx, "r", 0, NULL, &i, ERR));
	assert_ok(ingest_write(i, 0, "abc", 3, ERR));
	ingest_close(i);
	assert_ok(ingest_open(&other, "r", 0, NULL, &i, ERR)); /* another ingest */
	assert_int_equal(ingest_size(i), 0);
	assert_ok(ingest_write(i, 0, "a", 1, ERR));
	ingest_close(i);
	assert_ok(ingest_open(&f->ctx, "empty", 0, NULL, &i, ERR));
	ingest_close(i); /* nothing to keep */
	assert_ok(ingest_walk(&f->ctx, count_ingest, &n, ERR));
	assert_int_equal(n, 1);
	assert_ok(ingest_abort(&f->ctx, "r", ERR));
	assert_error(ERROR_NOT_FOUND, ingest_abort(&f->ctx, "r", ERR));
	n = 0;
	assert_ok(ingest_walk(&f->ctx, count_ingest, &n, ERR));
	assert_int_equal(n, 0);
	assert_ok(ingest_walk(&other, count_ingest, &n, ERR));
	assert_int_equal(n, 1);
}

static void test_bad_arguments(void **state)
{
	struct fixture *f = *state;
	struct store_ctx bad = { .store = f->store, .ns = "no/good" };
	struct ingest *i;

	assert_error(ERROR_INVALID_ARGUMENT, ingest_open(&f->ctx, "", 0, NULL, &i, ERR));
	assert_error(ERROR_INVALID_ARGUMENT, ingest_open(&f->ctx, "a\nb", 0, NULL, &i, ERR));
	assert_error(ERROR_INVALID_ARGUMENT, ingest_open(&f->ctx, "a", 0, "md5:x", &i, ERR));
	assert_error(ERROR_INVALID_ARGUMENT, ingest_open(&bad, "a", 0, NULL, &i, ERR));
	assert_error(ERROR_INVALID_ARGUMENT, content_open(&f->ctx, "sha256:", NULL, ERR));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_put),
		T(test_labels),
		T(test_namespaces_share),
		T(test_self_heal),
		T(test_walk),
		T(test_ingest),
		T(test_ingest_digest_of_resumed),
		T(test_ingest_sha512),
		T(test_ingest_verified),
		T(test_ingest_race),
		T(test_ingest_abort),
		T(test_bad_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
