/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash leaves, and what a full disk leaves. Crashes are made in a child process (this
 * program again, with a scenario's name), at failpoints and by SIGKILL at any moment.
 */
#include "base/process.h"
#include "base/random.h"
#include "store/test-util.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

enum { CRASHED = 99, KILLS = 12 };

static int setup(void **state)
{
	*state = fixture_new("native");
	return 0;
}

/* The child's side: a scenario works on the store and is expected to die in it. */

static void child_ingest(struct fixture *f)
{
	struct ingest *i;

	assert_ok(ingest_open(&f->ctx, "layer", 5, NULL, &i, ERR));
	assert_ok(ingest_write(i, 0, "hello", 5, ERR));
	assert_ok(ingest_commit(i, 5, NULL, false, NULL, NULL, ERR));
}

static void child_put(struct fixture *f)
{
	char digest[DIGEST_MAX];

	put_text(&f->ctx, "hello", NULL, digest);
}

static void child_prepare(struct fixture *f)
{
	assert_ok(snapshot_prepare(&f->ctx, NULL, "key", "", NULL, NULL, ERR));
}

static void child_commit(struct fixture *f)
{
	child_prepare(f);
	assert_ok(snapshot_commit(&f->ctx, NULL, "name", "key", NULL, true, ERR));
}

static void child_collect(struct fixture *f)
{
	child_put(f);
	child_commit(f);
	assert_ok(lease_delete(&f->bare, "hold", true, ERR));
}

/* Pulls and deletes until it is killed. */
static void child_loop(struct fixture *f)
{
	for (unsigned n = 0;; n++) {
		autofree char *layer = xasprintf("layer %u", n % 7);
		autofree char *key = xasprintf("key %llx", (unsigned long long)random_u64());
		autofree char *name = xasprintf("chain of %s", key);
		autofree char *image = xasprintf("image %u", n % 3);
		autokvs struct kvs labels = KVS_INIT;
		char digest[DIGEST_MAX], manifest[DIGEST_MAX];

		put_text(&f->ctx, layer, NULL, digest);
		assert_ok(snapshot_prepare(&f->ctx, NULL, key, "", NULL, NULL, ERR));
		assert_ok(snapshot_commit(&f->ctx, NULL, name, key, NULL, n % 2, ERR));
		kvs_set(&labels, "containerd.io/gc.ref.content.l.0", digest);
		kvs_set(&labels, "containerd.io/gc.ref.snapshot.native", name);
		put_text(&f->ctx, image, &labels, manifest);
		put_image(&f->ctx, image, manifest);
		assert_ok(lease_delete(&f->bare, "hold", n % 5 == 0, ERR));
		assert_ok(lease_create(&f->bare, "hold", 0, NULL, ERR));
	}
}

static const struct {
	const char *name;
	void (*run)(struct fixture *f);
} scenarios[] = {
	{ "ingest", child_ingest }, { "put", child_put },	  { "prepare", child_prepare },
	{ "commit", child_commit }, { "collect", child_collect }, { "loop", child_loop },
};

static int child_main(const char *scenario, const char *root)
{
	struct fixture f = { .root = (char *)root, .snapshotter = "native" };

	fixture_open(&f);
	(void)lease_create(&f.bare, "hold", 0, NULL, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++) {
		if (str_equal(scenarios[i].name, scenario))
			scenarios[i].run(&f);
	}
	store_close(f.store);
	return 0;
}

/* The parent's side. */

static pid_t start_child(struct fixture *f, const char *scenario, const char *failpoint)
{
	autofree char *env = xasprintf("KISTL_FAILPOINT=%s=exit", failpoint ? failpoint : "none");
	const char *argv[] = { "test-recover", scenario, f->root, NULL };
	const char *envp[] = { env, "ASAN_OPTIONS=detect_leaks=0", NULL };
	struct process_fd null = { .fd = -1, .target = 2 };
	struct process_spec spec = { .path = "/proc/self/exe",
				     .argv = (char *const *)argv,
				     .envp = (char *const *)envp,
				     .fds = &null,
				     .n_fds = failpoint ? 0 : 1 };
	autoerror struct error err = ERROR_INIT;
	pid_t pid = process_spawn(&spec, NULL, &err);

	if (pid < 0)
		fail_msg("%s", error_msg(&err));
	return pid;
}

static void crash(struct fixture *f, const char *scenario, const char *failpoint)
{
	int status;

	fixture_close(f);
	assert_ok(process_wait(start_child(f, scenario, failpoint), -1, 30000, &status, ERR));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), CRASHED);
	fixture_open(f);
}

static int count_entries(const struct fixture *f, const char *dir)
{
	autofree char *path = path_join(f->root, dir, NULL);
	DIR *d = opendir(path);
	int n = -2;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

#define BLOBS "io.containerd.content.v1.content/blobs/sha256"
#define INGESTS "io.containerd.content.v1.content/ingest"
#define SNAPSHOTS "io.containerd.snapshotter.v1.native/snapshots"

/* The background thread has its work done. */
static void wait_entries(const struct fixture *f, const char *dir, int want)
{
	for (int i = 0; i < 500 && count_entries(f, dir) != want; i++)
		usleep(10000);
	assert_int_equal(count_entries(f, dir), want);
}

static int count_content(const struct content_info *i, void *arg)
{
	++*(int *)arg;
	return 0;
}

static int count_snapshots(const struct snapshot_info *i, void *arg)
{
	++*(int *)arg;
	return 0;
}

/* Files and records match, nothing is left over. */
static void assert_consistent(struct fixture *f)
{
	int blobs = 0, snapshots = 0;

	assert_ok(gc_run(f->store, NULL, ERR));
	wait_entries(f, "trash", 0);
	assert_ok(content_walk(&f->bare, count_content, &blobs, ERR));
	assert_int_equal(count_entries(f, BLOBS), blobs);
	assert_ok(snapshot_walk(&f->bare, NULL, count_snapshots, &snapshots, ERR));
	wait_entries(f, SNAPSHOTS, snapshots);
}

static void test_before_rename(void **state)
{
	struct fixture *f = *state;
	char expected[DIGEST_MAX];
	struct ingest *i;

	crash(f, "ingest", "store.commit.before-rename");
	/* The data is all there: resume. */
	assert_ok(ingest_open(&f->ctx, "layer", 5, NULL, &i, ERR));
	assert_int_equal(ingest_size(i), 5);
	assert_ok(ingest_commit(i, 5, NULL, false, NULL, NULL, ERR));
	ingest_close(i);
	digest_bytes("hello", 5, expected);
	assert_true(has_content(&f->ctx, expected));
	wait_entries(f, INGESTS, 0);
	assert_consistent(f);
}

static void test_after_rename(void **state)
{
	struct fixture *f = *state;
	char digest[DIGEST_MAX];

	digest_bytes("hello", 5, digest);
	crash(f, "ingest", "store.commit.after-rename");
	assert_false(has_content(&f->ctx, digest));
	assert_false(blob_on_disk(f, digest));
	wait_entries(f, INGESTS, 0);
	assert_consistent(f);
	put_text(&f->ctx, "hello", NULL, digest);
	assert_consistent(f);
}

static void test_before_ingest_removal(void **state)
{
	struct fixture *f = *state;
	char digest[DIGEST_MAX];

	digest_bytes("hello", 5, digest);
	crash(f, "ingest", "store.commit.before-remove");
	assert_true(has_content(&f->ctx, digest));
	wait_entries(f, INGESTS, 0);
	assert_consistent(f);
}

static void test_staged_file(void **state)
{
	struct fixture *f = *state;

	crash(f, "put", "store.put.before-sync");
	wait_entries(f, "trash", 0);
	assert_int_equal(count_entries(f, BLOBS), 0);
}

static void test_before_snapshot_record(void **state)
{
	struct fixture *f = *state;

	crash(f, "prepare", "store.prepare.before-record");
	wait_entries(f, SNAPSHOTS, 0);
	assert_ok(snapshot_prepare(&f->ctx, NULL, "other", "", NULL, NULL, ERR));
	crash(f, "prepare", "store.prepare.before-record");
	wait_entries(f, SNAPSHOTS, 1);
}

static void test_before_commit_record(void **state)
{
	struct fixture *f = *state;

	crash(f, "commit", "store.snapshot-commit.before-record");
	assert_error(ERROR_NOT_FOUND,
		     snapshot_prepare(&f->ctx, NULL, "x", "name", NULL, NULL, ERR));
	assert_ok(snapshot_commit(&f->ctx, NULL, "name", "key", NULL, true, ERR));
	assert_consistent(f);
}

static void test_collection(void **state)
{
	struct fixture *f = *state;

	crash(f, "collect", "store.gc.before-discard");
	assert_consistent(f);
	assert_int_equal(count_entries(f, BLOBS), 0);
	assert_int_equal(count_entries(f, SNAPSHOTS), 0);
	crash(f, "collect", "store.gc.before-sweep");
	assert_consistent(f);
	assert_int_equal(count_entries(f, BLOBS), 0);
}

static void check_images(struct fixture *f)
{
	autoimages struct images list = { 0 };

	assert_ok(image_list(&f->bare, &list, ERR));
	for (size_t i = 0; i < list.n; i++) {
		struct content_info info = { 0 };
		struct snapshot_info snap = { 0 };

		assert_ok(content_stat(&f->bare, list.v[i].target.digest, &info, ERR));
		assert_true(has_content(&f->bare,
					kvs_get(&info.labels, "containerd.io/gc.ref.content.l.0")));
		assert_ok(snapshot_stat(
			&f->bare, NULL,
			kvs_get(&info.labels, "containerd.io/gc.ref.snapshot.native"), &snap, ERR));
		content_info_done(&info);
		snapshot_info_done(&snap);
	}
}

static void test_kill(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < KILLS; i++) {
		int status;
		pid_t pid;

		fixture_close(f);
		pid = start_child(f, "loop", NULL);
		usleep((useconds_t)(20000 + random_u64() % 150000));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		fixture_open(f);
		check_images(f);
		assert_consistent(f);
		check_images(f);
	}
}

static void test_leftovers(void **state)
{
	struct fixture *f = *state;
	static const char *const strays[] = {
		BLOBS "/0000000000000000000000000000000000000000000000000000000000000000",
		INGESTS "/junk",
		INGESTS "/feed/data",
		SNAPSHOTS "/77/fs/x",
		SNAPSHOTS "/new",
		"trash/5",
		"trash/x",
	};
	struct snapshot_info info = { 0 };
	char digest[DIGEST_MAX];
	autofree char *blob = NULL, *snapshot = NULL;

	put_text(&f->ctx, "lost", NULL, digest);
	assert_ok(snapshot_prepare(&f->ctx, NULL, "lost", "", NULL, NULL, ERR));
	fixture_close(f);
	for (size_t i = 0; i < ARRAY_SIZE(strays); i++) {
		autofree char *path = path_join(f->root, strays[i], NULL);

		assert_int_equal(fs_mkdir_p(path, 0700), 0);
	}
	blob = blob_file(f, digest);
	assert_int_equal(unlink(blob), 0);
	snapshot = path_join(f->root, SNAPSHOTS "/1", NULL);
	assert_int_equal(fs_remove_tree(AT_FDCWD, snapshot), 0);
	fixture_open(f);
	assert_false(has_content(&f->ctx, digest));
	assert_error(ERROR_NOT_FOUND, snapshot_stat(&f->ctx, NULL, "lost", &info, ERR));
	wait_entries(f, SNAPSHOTS, 0);
	wait_entries(f, INGESTS, 0);
	wait_entries(f, "trash", 0);
	assert_int_equal(count_entries(f, BLOBS), 0);
	/* Numbers of old directories are not used again. */
	assert_ok(snapshot_prepare(&f->ctx, NULL, "next", "", NULL, NULL, ERR));
	free(snapshot);
	snapshot = path_join(f->root, SNAPSHOTS "/78", NULL);
	assert_int_equal(access(snapshot, F_OK), 0);
}

/* On a tmpfs of 4 MiB. */
static int setup_small(void **state)
{
	struct fixture *f = fixture_new("native");
	autofree char *root = xasprintf("%s/small", f->dir);

	fixture_close(f);
	assert_int_equal(mkdir(root, 0700), 0);
	assert_int_equal(mount("tmpfs", root, "tmpfs", 0, "size=4m"), 0);
	str_replace(&f->root, root);
	fixture_open(f);
	assert_ok(lease_create(&f->bare, "hold", 0, NULL, ERR));
	*state = f;
	return 0;
}

static int teardown_small(void **state)
{
	struct fixture *f = *state;

	fixture_close(f);
	assert_int_equal(umount2(f->root, MNT_DETACH), 0);
	fixture_free(f);
	return 0;
}

static void test_full_ingest(void **state)
{
	struct fixture *f = *state;
	autofree char *chunk = xcalloc(1, 1 << 20);
	autoerror struct error err = ERROR_INIT;
	int64_t at = 0;
	struct ingest *i;

	assert_ok(ingest_open(&f->ctx, "big", 0, NULL, &i, ERR));
	while (at < 8 << 20 && ingest_write(i, at, chunk, 1 << 20, &err) == 0)
		at += 1 << 20;
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	assert_int_equal(ingest_size(i), at);
	assert_error(ERROR_RESOURCE_EXHAUSTED, ({
			     autofree char *more = xcalloc(1, 3 << 20);
			     char digest[DIGEST_MAX];

			     digest_bytes(more, 3 << 20, digest);
			     content_put(&f->ctx, digest, more, 3 << 20, NULL, ERR);
		     }));
	ingest_close(i);
	assert_int_equal(count_entries(f, "trash"), 0);
	assert_int_equal(count_entries(f, BLOBS), 0);
	assert_ok(ingest_abort(&f->ctx, "big", ERR));
	assert_ok(content_put(&f->ctx,
			      "sha256:"
			      "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
			      "hello", 5, NULL, ERR));
	assert_consistent(f);
}

static void test_full_database(void **state)
{
	struct fixture *f = *state;
	autofree char *text = xcalloc(1, (200 << 10) + 1);
	autoerror struct error err = ERROR_INIT;
	autokvs struct kvs list = KVS_INIT;
	char id[16];
	size_t n;

	memset(text, 'x', 200 << 10);
	for (n = 0; n < 100; n++) {
		snprintf(id, sizeof(id), "r%zu", n);
		if (record_put(&f->ctx, "big", id, text, false, &err) < 0)
			break;
	}
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	assert_ok(record_list(&f->ctx, "big", &list, ERR));
	assert_int_equal(list.n, n);
	assert_error(ERROR_RESOURCE_EXHAUSTED,
		     record_put(&f->ctx, "big", "again", text, false, ERR));
}

static void test_full_snapshot(void **state)
{
	struct fixture *f = *state;
	autofree char *text = xcalloc(1, 1 << 20);
	autoclose int layer = -EBADF, file = -EBADF;

	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "", NULL, NULL, ERR));
	layer = snapshot_layer_fd(&f->ctx, NULL, "act", NULL);
	file = openat(layer, "big", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	for (int i = 0; i < 2; i++)
		assert_int_equal(write(file, text, 1 << 20), 1 << 20);
	assert_ok(snapshot_commit(&f->ctx, NULL, "base", "act", NULL, true, ERR));
	assert_error(ERROR_RESOURCE_EXHAUSTED,
		     snapshot_prepare(&f->ctx, NULL, "copy", "base", NULL, NULL, ERR));
	assert_int_equal(count_entries(f, SNAPSHOTS), 1);
	assert_consistent(f);
	assert_ok(snapshot_remove(&f->ctx, NULL, "base", ERR));
	wait_entries(f, SNAPSHOTS, 0);
}

static void set_failpoint(struct fixture *f, const char *value)
{
	setenv("KISTL_FAILPOINT", value, 1);
	fixture_reopen(f);
	unsetenv("KISTL_FAILPOINT");
}

static void test_failed_commit(void **state)
{
	struct fixture *f = *state;
	struct ingest *i;
	char digest[DIGEST_MAX];

	set_failpoint(f, "store.commit.after-rename=enospc,store.put.before-sync=eio");
	assert_ok(ingest_open(&f->ctx, "r", 0, NULL, &i, ERR));
	assert_ok(ingest_write(i, 0, "hello", 5, ERR));
	assert_error(ERROR_RESOURCE_EXHAUSTED, ingest_commit(i, 0, NULL, false, NULL, NULL, ERR));
	assert_int_equal(count_entries(f, BLOBS), 0);
	digest_bytes("x", 1, digest);
	assert_error(error_code_from_errno(EIO), content_put(&f->ctx, digest, "x", 1, NULL, ERR));
	assert_int_equal(count_entries(f, "trash"), 0);
	ingest_close(i);
	fixture_reopen(f);
	assert_ok(ingest_open(&f->ctx, "r", 0, NULL, &i, ERR));
	assert_ok(ingest_commit(i, 5, NULL, false, NULL, digest, ERR));
	ingest_close(i);
	assert_true(blob_on_disk(f, digest));
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)
#define SMALL(name) cmocka_unit_test_setup_teardown(name, setup_small, teardown_small)
	const struct CMUnitTest tests[] = {
		T(test_before_rename),
		T(test_after_rename),
		T(test_before_ingest_removal),
		T(test_staged_file),
		T(test_before_snapshot_record),
		T(test_before_commit_record),
		T(test_collection),
		T(test_kill),
		T(test_leftovers),
		T(test_failed_commit),
		SMALL(test_full_ingest),
		SMALL(test_full_database),
		SMALL(test_full_snapshot),
	};

	if (argc == 3)
		return child_main(argv[1], argv[2]);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		fprintf(stderr, "needs root, skipped\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
