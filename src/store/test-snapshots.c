/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One suite for all snapshotters (as containerd's core/snapshots/testsuite), then what is
 * particular to each. Mounts happen in a mount namespace of this process.
 */
#include "store/test-util.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static const char *suite; /* snapshotter under test */

static int setup(void **state)
{
	*state = fixture_new(suite);
	return 0;
}

static void write_at(int dir, const char *path, const char *text)
{
	autoclose int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void assert_text(int dir, const char *path, const char *text)
{
	autobuf struct buf b = BUF_INIT(100);

	if (fs_read(dir, path, &b) < 0)
		fail_msg("no '%s'", path);
	assert_string_equal(b.data, text);
}

/* Mounts them on <fixture>/mnt and opens that. */
static int mount_open(struct fixture *f, const struct mounts *ms)
{
	autofree char *target = path_join(f->dir, "mnt", NULL);
	int fd;

	assert_int_equal(fs_mkdir_p(target, 0755), 0);
	assert_ok(mounts_attach(ms, target, ERR));
	fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void unmount(struct fixture *f, int fd)
{
	autofree char *target = path_join(f->dir, "mnt", NULL);

	close(fd);
	assert_ok(mount_detach_all(target, 0, ERR));
}

/* A committed snapshot `name` on `parent` with one file, written through its mounts. */
static void commit_layer(struct fixture *f, const char *name, const char *parent, const char *file,
			 const char *text)
{
	automounts struct mounts ms = MOUNTS_INIT;
	int fd;

	assert_ok(snapshot_prepare(&f->ctx, NULL, "work", parent, NULL, &ms, ERR));
	fd = mount_open(f, &ms);
	write_at(fd, file, text);
	unmount(f, fd);
	assert_ok(snapshot_commit(&f->ctx, NULL, name, "work", NULL, true, ERR));
}

static void test_chain(void **state)
{
	struct fixture *f = *state;
	automounts struct mounts ms = MOUNTS_INIT, again = MOUNTS_INIT;
	int fd;

	commit_layer(f, "one", "", "a", "1");
	commit_layer(f, "two", "one", "b", "2");
	commit_layer(f, "three", "two", "a", "3");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "ctr", "three", NULL, &ms, ERR));
	assert_ok(snapshot_mounts(&f->ctx, NULL, "ctr", &again, ERR));
	assert_int_equal(ms.n, again.n);
	assert_string_equal(ms.v[0].type, again.v[0].type);
	assert_true(strv_equal(&ms.v[0].options, &again.v[0].options));
	fd = mount_open(f, &ms);
	assert_text(fd, "a", "3");
	assert_text(fd, "b", "2");
	write_at(fd, "b", "changed");
	unlinkat(fd, "a", 0);
	unmount(f, fd);
	fd = mount_open(f, &again);
	assert_text(fd, "b", "changed");
	assert_int_equal(faccessat(fd, "a", F_OK, 0), -1);
	unmount(f, fd);

	/* The layers have not changed. */
	mounts_done(&ms);
	assert_ok(snapshot_view(&f->ctx, NULL, "view", "three", NULL, &ms, ERR));
	fd = mount_open(f, &ms);
	assert_text(fd, "a", "3");
	assert_text(fd, "b", "2");
	assert_int_equal(openat(fd, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), -1);
	assert_int_equal(errno, EROFS);
	unmount(f, fd);
}

static void test_view_of_one(void **state)
{
	struct fixture *f = *state;
	automounts struct mounts ms = MOUNTS_INIT, empty = MOUNTS_INIT;
	int fd;

	commit_layer(f, "one", NULL, "a", "1");
	assert_ok(snapshot_view(&f->ctx, NULL, "view", "one", NULL, &ms, ERR));
	assert_string_equal(ms.v[0].type, "bind");
	assert_string_equal(ms.v[0].options.v[0], "ro");
	assert_string_equal(ms.v[0].options.v[1], "rbind");
	fd = mount_open(f, &ms);
	assert_text(fd, "a", "1");
	unmount(f, fd);
	assert_ok(snapshot_view(&f->ctx, NULL, "none", "", NULL, &empty, ERR));
	fd = mount_open(f, &empty);
	assert_int_equal(openat(fd, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), -1);
	unmount(f, fd);
}

static void test_errors(void **state)
{
	struct fixture *f = *state;
	struct store_ctx other = { .store = f->store, .ns = "other" };
	automounts struct mounts ms = MOUNTS_INIT;
	struct snapshot_info info = { 0 };
	autokvs struct kvs labels = KVS_INIT;

	commit_layer(f, "one", "", "a", "1");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "one", NULL, NULL, ERR));
	assert_error(ERROR_ALREADY_EXISTS,
		     snapshot_prepare(&f->ctx, NULL, "act", "one", NULL, NULL, ERR));
	assert_error(ERROR_ALREADY_EXISTS,
		     snapshot_view(&f->ctx, NULL, "one", "", NULL, NULL, ERR));
	assert_error(ERROR_NOT_FOUND,
		     snapshot_prepare(&f->ctx, NULL, "x", "nope", NULL, NULL, ERR));
	assert_error(ERROR_NOT_FOUND, snapshot_prepare(&other, NULL, "x", "one", NULL, NULL, ERR));
	assert_error(ERROR_FAILED_PRECONDITION,
		     snapshot_prepare(&f->ctx, NULL, "x", "act", NULL, NULL, ERR));
	assert_error(ERROR_NOT_FOUND, snapshot_prepare(&f->ctx, "zfs", "x", "", NULL, NULL, ERR));
	assert_error(ERROR_INVALID_ARGUMENT,
		     snapshot_prepare(&f->ctx, NULL, "", "", NULL, NULL, ERR));
	assert_error(ERROR_FAILED_PRECONDITION, snapshot_mounts(&f->ctx, NULL, "one", &ms, ERR));
	assert_error(ERROR_NOT_FOUND, snapshot_mounts(&f->ctx, NULL, "x", &ms, ERR));
	assert_error(ERROR_FAILED_PRECONDITION, snapshot_layer_fd(&f->ctx, NULL, "one", ERR));
	assert_error(ERROR_ALREADY_EXISTS,
		     snapshot_commit(&f->ctx, NULL, "one", "act", NULL, false, ERR));
	assert_error(ERROR_NOT_FOUND, snapshot_commit(&f->ctx, NULL, "two", "x", NULL, false, ERR));
	assert_error(ERROR_FAILED_PRECONDITION,
		     snapshot_commit(&f->ctx, NULL, "two", "one", NULL, false, ERR));
	assert_ok(snapshot_view(&f->ctx, NULL, "view", "one", NULL, NULL, ERR));
	assert_error(ERROR_FAILED_PRECONDITION,
		     snapshot_commit(&f->ctx, NULL, "two", "view", NULL, false, ERR));
	assert_error(ERROR_FAILED_PRECONDITION, snapshot_remove(&f->ctx, NULL, "one", ERR));
	assert_error(ERROR_NOT_FOUND, snapshot_stat(&f->ctx, NULL, "x", &info, ERR));
	assert_error(ERROR_NOT_FOUND, snapshot_remove(&f->ctx, NULL, "x", ERR));
	kvs_set(&labels, "containerd.io/snapshot.ref", "one");
	assert_error(ERROR_ALREADY_EXISTS,
		     snapshot_prepare(&f->ctx, NULL, "y", "", &labels, NULL, ERR));
	kvs_set(&labels, "containerd.io/snapshot.ref", "eleven");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "y", "", &labels, NULL, ERR));
}

static void test_stat(void **state)
{
	struct fixture *f = *state;
	CLEANUP(snapshot_info_done) struct snapshot_info info = { 0 };
	autokvs struct kvs labels = KVS_INIT;

	commit_layer(f, "one", "", "a", "1");
	kvs_set(&labels, "k", "v");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "one", &labels, NULL, ERR));
	assert_ok(snapshot_stat(&f->ctx, NULL, "act", &info, ERR));
	assert_string_equal(info.parent, "one");
	assert_int_equal(info.kind, SNAPSHOT_ACTIVE);
	assert_true(kvs_equal(&info.labels, &labels));
	snapshot_info_done(&info);
	kvs_set(&labels, "k", "");
	kvs_set(&labels, "l", "w");
	assert_ok(snapshot_set_labels(&f->ctx, NULL, "act", &labels, ERR));
	assert_ok(snapshot_commit(&f->ctx, NULL, "two", "act", &labels, false, ERR));
	fixture_reopen(f);
	assert_ok(snapshot_stat(&f->ctx, NULL, "two", &info, ERR));
	assert_int_equal(info.kind, SNAPSHOT_COMMITTED);
	assert_string_equal(kvs_get(&info.labels, "l"), "w");
	snapshot_info_done(&info);
	assert_error(ERROR_NOT_FOUND, snapshot_stat(&f->ctx, NULL, "act", &info, ERR));
}

static int collect_names(const struct snapshot_info *i, void *arg)
{
	strv_push(arg, i->name);
	return 0;
}

static void test_walk(void **state)
{
	struct fixture *f = *state;
	autostrv struct strv names = STRV_INIT;
	char key[16];

	for (int i = 0; i < 260; i++) {
		snprintf(key, sizeof(key), "k%03d", i);
		assert_ok(snapshot_prepare(&f->ctx, NULL, key, "", NULL, NULL, ERR));
	}
	assert_ok(snapshot_walk(&f->ctx, NULL, collect_names, &names, ERR));
	assert_int_equal(names.n, 260);
	assert_string_equal(names.v[259], "k259");
}

static int snapshot_dirs(struct fixture *f)
{
	autofree char *dir = xasprintf("%s/io.containerd.snapshotter.v1.%s/snapshots", f->root,
				       store_default_snapshotter(f->store));
	struct stat st;

	assert_int_equal(stat(dir, &st), 0);
	return (int)st.st_nlink - 2;
}

static void test_remove(void **state)
{
	struct fixture *f = *state;

	commit_layer(f, "one", "", "a", "1");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "one", NULL, NULL, ERR));
	assert_int_equal(snapshot_dirs(f), 2);
	assert_ok(snapshot_remove(&f->ctx, NULL, "act", ERR));
	assert_ok(snapshot_remove(&f->ctx, NULL, "one", ERR));
	for (int i = 0; i < 500 && snapshot_dirs(f) > 0; i++)
		usleep(10000);
	assert_int_equal(snapshot_dirs(f), 0);
	/* Names are free again. */
	commit_layer(f, "one", "", "a", "1");
}

static void test_usage(void **state)
{
	struct fixture *f = *state;
	autofree char *mib = xcalloc(1, (1 << 20) + 1);
	struct snapshot_usage empty, u;
	autoclose int fd = -EBADF;

	memset(mib, 'x', 1 << 20);
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "", NULL, NULL, ERR));
	assert_ok(snapshot_usage(&f->ctx, NULL, "act", &empty, ERR));
	assert_int_equal(empty.inodes, 1);
	fd = snapshot_layer_fd(&f->ctx, NULL, "act", NULL);
	assert_true(fd >= 0);
	assert_int_equal(mkdirat(fd, "d", 0755), 0);
	write_at(fd, "d/big", mib);
	assert_int_equal(linkat(fd, "d/big", fd, "link", 0), 0);
	assert_int_equal(symlinkat("/etc", fd, "etc"), 0);
	assert_ok(snapshot_commit(&f->ctx, NULL, "one", "act", NULL, true, ERR));
	assert_ok(snapshot_usage(&f->ctx, NULL, "one", &u, ERR));
	assert_int_equal(u.inodes, 4);
	assert_true(u.size - empty.size >= 1 << 20 && u.size - empty.size < 3 << 19);
}

static void test_root_attributes(void **state)
{
	struct fixture *f = *state;
	autoclose int fd = -EBADF, child = -EBADF;
	struct stat st;

	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "", NULL, NULL, ERR));
	fd = snapshot_layer_fd(&f->ctx, NULL, "act", NULL);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(fchown(fd, 12, 34), 0);
	assert_int_equal(fchmod(fd, 01777), 0);
	assert_ok(snapshot_commit(&f->ctx, NULL, "one", "act", NULL, false, ERR));
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "one", NULL, NULL, ERR));
	child = snapshot_layer_fd(&f->ctx, NULL, "act", NULL);
	assert_int_equal(fstat(child, &st), 0);
	assert_int_equal(st.st_mode & 07777, 01777);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, 34);
}

static void make_special_tree(int fd)
{
	const struct timespec old[2] = { { .tv_sec = 1000000000, .tv_nsec = 123456789 },
					 { .tv_sec = 1000000001, .tv_nsec = 987654321 } };
	static const char cap[20] = { 1, 0, 0, 2, 0, 4 };
	autoclose int sparse = -EBADF, file = -EBADF;

	assert_int_equal(mkdirat(fd, "dir", 0750), 0);
	write_at(fd, "dir/file", "data");
	assert_int_equal(linkat(fd, "dir/file", fd, "hard", 0), 0);
	assert_int_equal(symlinkat("dir/file", fd, "sym"), 0);
	assert_int_equal(fchownat(fd, "sym", 5, 6, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(mknodat(fd, "dev", S_IFCHR | 0600, makedev(1, 3)), 0);
	assert_int_equal(mknodat(fd, "fifo", S_IFIFO | 0600, 0), 0);
	file = openat(fd, "suid", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_int_equal(fchown(file, 7, 8), 0);
	assert_int_equal(fsetxattr(file, "security.capability", cap, sizeof(cap), 0), 0);
	assert_int_equal(fchmod(file, 06755), 0);
	sparse = openat(fd, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(pwrite(sparse, "x", 1, 10 << 20), 1);
	assert_int_equal(ftruncate(sparse, 20 << 20), 0);
	assert_int_equal(utimensat(fd, "dir/file", old, 0), 0);
	assert_int_equal(utimensat(fd, "sym", old, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(utimensat(fd, "dir", old, 0), 0);
}

static void check_special_tree(int fd)
{
	struct stat st, st2;
	char cap[32], link[32];
	autofree char *path = xasprintf("/proc/self/fd/%d/suid", fd);

	assert_int_equal(fstatat(fd, "dir", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	assert_int_equal(st.st_mtim.tv_sec, 1000000001);
	assert_int_equal(st.st_mtim.tv_nsec, 987654321);
	assert_int_equal(fstatat(fd, "dir/file", &st, 0), 0);
	assert_int_equal(st.st_mtim.tv_nsec, 987654321);
	assert_int_equal(fstatat(fd, "hard", &st2, 0), 0);
	assert_int_equal(st.st_ino, st2.st_ino);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(readlinkat(fd, "sym", link, sizeof(link)), 8);
	assert_int_equal(fstatat(fd, "sym", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_uid, 5);
	assert_int_equal(st.st_mtim.tv_nsec, 987654321);
	assert_int_equal(fstatat(fd, "dev", &st, 0), 0);
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	assert_int_equal(fstatat(fd, "fifo", &st, 0), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(fstatat(fd, "suid", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 06755);
	assert_int_equal(st.st_uid, 7);
	assert_int_equal(getxattr(path, "security.capability", cap, sizeof(cap)), 20);
	assert_int_equal(fstatat(fd, "sparse", &st, 0), 0);
	assert_int_equal(st.st_size, 20 << 20);
	assert_true(st.st_blocks * 512 < 1 << 20);
}

static void test_special_files(void **state)
{
	struct fixture *f = *state;
	automounts struct mounts ms = MOUNTS_INIT;
	autoclose int layer = -EBADF;
	int fd;

	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "", NULL, NULL, ERR));
	layer = snapshot_layer_fd(&f->ctx, NULL, "act", NULL);
	make_special_tree(layer);
	assert_ok(snapshot_commit(&f->ctx, NULL, "one", "act", NULL, false, ERR));
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "one", NULL, &ms, ERR));
	fd = mount_open(f, &ms);
	check_special_tree(fd);
	unmount(f, fd);
}

static void test_rebase_refused(void **state)
{
	struct fixture *f = *state;
	unsigned caps;

	assert_ok(snapshotter_capabilities(f->store, NULL, &caps, ERR));
	commit_layer(f, "one", "", "a", "1");
	commit_layer(f, "two", "one", "b", "2");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "one", NULL, NULL, ERR));
	assert_error(
		ERROR_FAILED_PRECONDITION,
		snapshot_commit_onto(&f->ctx, NULL, "x", "act", "two", NULL, NULL, false, ERR));
	/* Its own parent is always fine. */
	assert_ok(snapshot_commit_onto(&f->ctx, NULL, "x", "act", "one", NULL, NULL, false, ERR));
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "", NULL, NULL, ERR));
	if (caps & SNAPSHOT_CAN_REBASE)
		return;
	assert_error(
		ERROR_FAILED_PRECONDITION,
		snapshot_commit_onto(&f->ctx, NULL, "y", "act", "one", NULL, NULL, false, ERR));
}

enum { THREADS = 4, ROUNDS = 8 };

struct worker {
	struct fixture *f;
	int number;
};

static void *work(void *arg)
{
	const struct worker *w = arg;
	const struct store_ctx *c = &w->f->ctx;
	char key[32], name[32];

	for (int i = 0; i < ROUNDS; i++) {
		autoerror struct error err = ERROR_INIT;
		autoclose int fd = -EBADF;

		snprintf(key, sizeof(key), "key %d", w->number);
		snprintf(name, sizeof(name), "layer %d", i);
		assert_ok(snapshot_prepare(c, NULL, key, "base", NULL, NULL, ERR));
		fd = snapshot_layer_fd(c, NULL, key, NULL);
		write_at(fd, "file", name);
		/* All want the same name: one gets it. */
		if (snapshot_commit(c, NULL, name, key, NULL, i % 2, &err) < 0) {
			assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
			assert_ok(snapshot_remove(c, NULL, key, ERR));
		}
	}
	return NULL;
}

static void test_parallel(void **state)
{
	struct fixture *f = *state;
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	autostrv struct strv names = STRV_INIT;

	commit_layer(f, "base", "", "a", "1");
	for (int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .f = f, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		assert_ok(gc_run(f->store, NULL, ERR));
		pthread_join(threads[i], NULL);
	}
	assert_ok(snapshot_walk(&f->ctx, NULL, collect_names, &names, ERR));
	assert_int_equal(names.n, 1 + ROUNDS);
	for (int i = 0; i < 500 && snapshot_dirs(f) > 1 + ROUNDS; i++)
		usleep(10000);
	assert_int_equal(snapshot_dirs(f), 1 + ROUNDS);
}

/* Overlay only. */

static void test_overlay_options(void **state)
{
	struct fixture *f = *state;
	automounts struct mounts ms = MOUNTS_INIT, view = MOUNTS_INIT, first = MOUNTS_INIT;
	autofree char *dir =
		xasprintf("%s/io.containerd.snapshotter.v1.overlayfs/snapshots", f->root);
	autofree char *work = xasprintf("workdir=%s/4/work", dir);
	autofree char *upper = xasprintf("upperdir=%s/4/fs", dir);
	autofree char *lower = xasprintf("lowerdir=%s/2/fs:%s/1/fs", dir, dir);
	autofree char *source = xasprintf("%s/3/fs", dir);
	const struct strv *o;

	commit_layer(f, "one", "", "a", "1");
	commit_layer(f, "two", "one", "b", "2");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "first", "", NULL, &first, ERR));
	assert_string_equal(first.v[0].type, "bind");
	assert_string_equal(first.v[0].source, source);
	assert_string_equal(first.v[0].options.v[0], "rw");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "two", NULL, &ms, ERR));
	assert_int_equal(ms.n, 1);
	assert_string_equal(ms.v[0].type, "overlay");
	assert_string_equal(ms.v[0].source, "overlay");
	o = &ms.v[0].options;
	assert_true(o->n >= 3);
	assert_string_equal(o->v[0], work);
	assert_string_equal(o->v[1], upper);
	assert_string_equal(o->v[2], lower);
	if (access("/sys/module/overlay/parameters/index", F_OK) == 0)
		assert_string_equal(o->v[3], "index=off");
	assert_ok(snapshot_view(&f->ctx, NULL, "view", "two", NULL, &view, ERR));
	assert_string_equal(view.v[0].options.v[0], lower);
}

static void make_layer(struct fixture *f, const char *key, const char *const *dirs,
		       const char *const *files)
{
	autoclose int fd = -EBADF;

	assert_ok(snapshot_prepare(&f->ctx, NULL, key, "", NULL, NULL, ERR));
	fd = snapshot_layer_fd(&f->ctx, NULL, key, NULL);
	for (; *dirs; dirs++)
		assert_int_equal(mkdirat(fd, *dirs, 0755), 0);
	for (; *files; files++)
		write_at(fd, *files, key);
}

#define LIST(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void layer_attributes(struct fixture *f, const char *key, const char *path, mode_t mode,
			     uid_t uid)
{
	autoclose int fd = snapshot_layer_fd(&f->ctx, NULL, key, NULL);
	autofree char *proc = xasprintf("/proc/self/fd/%d/%s", fd, path);

	assert_int_equal(chown(proc, uid, uid), 0);
	assert_int_equal(chmod(proc, mode), 0);
	assert_int_equal(setxattr(proc, "user.from", key, strlen(key), 0), 0);
}

static void set_opaque(struct fixture *f, const char *key, const char *path)
{
	autoclose int fd = snapshot_layer_fd(&f->ctx, NULL, key, NULL);
	autofree char *proc = xasprintf("/proc/self/fd/%d/%s", fd, path);

	assert_int_equal(setxattr(proc, "trusted.overlay.opaque", "y", 1, 0), 0);
}

static void assert_dir(int fd, const char *path, mode_t mode, uid_t uid)
{
	struct stat st;

	assert_int_equal(fstatat(fd, path, &st, 0), 0);
	if ((st.st_mode & 07777) != mode || st.st_uid != uid)
		fail_msg("'%s': mode %o, owner %u", path, st.st_mode & 07777, st.st_uid);
}

static void test_overlay_rebase(void **state)
{
	struct fixture *f = *state;
	automounts struct mounts ms = MOUNTS_INIT;
	autostrv struct strv implied = STRV_INIT;
	autofree char *proc = NULL;
	char from[8];
	int fd;

	/* All three unpacked before any is committed. */
	make_layer(f, "k1", LIST("tmp", "hid", "hid/sub", "opq", "opq/sub", "gone"),
		   LIST("tmp/x", "hid/sub/x", "opq/sub/x"));
	layer_attributes(f, "k1", "tmp", 01777, 11);
	layer_attributes(f, "k1", "hid/sub", 0700, 12);
	layer_attributes(f, "k1", "opq/sub", 0711, 13);
	layer_attributes(f, "k1", "gone", 0700, 14);
	layer_attributes(f, "k1", ".", 0751, 15);
	make_layer(f, "k2", LIST("hid", "opq", "opq/sub"), LIST("top", "opq/sub/y"));
	set_opaque(f, "k2", "hid");
	set_opaque(f, "k2", "opq");
	{
		autoclose int layer = snapshot_layer_fd(&f->ctx, NULL, "k2", NULL);

		assert_int_equal(mknodat(layer, "gone", S_IFCHR, 0), 0);
	}
	make_layer(f, "k3", LIST("tmp", "hid", "hid/sub", "gone"),
		   LIST("tmp/a", "hid/sub/a", "gone/a"));
	assert_ok(snapshot_commit_onto(&f->ctx, NULL, "c1", "k1", "", NULL, NULL, false, ERR));
	strv_push(&implied, "opq/sub");
	assert_ok(
		snapshot_commit_onto(&f->ctx, NULL, "c2", "k2", "c1", &implied, NULL, false, ERR));
	strv_push(&implied, "tmp/");
	strv_push(&implied, "./hid/sub");
	strv_push(&implied, "gone");
	strv_push(&implied, ".");
	strv_push(&implied, "not/there");
	assert_ok(snapshot_commit_onto(&f->ctx, NULL, "c3", "k3", "c2", &implied, NULL, true, ERR));
	assert_ok(snapshot_prepare(&f->ctx, NULL, "ctr", "c3", NULL, &ms, ERR));
	fd = mount_open(f, &ms);
	assert_dir(fd, "tmp", 01777, 11);
	assert_text(fd, "tmp/x", "k1");
	assert_text(fd, "tmp/a", "k3");
	assert_text(fd, "top", "k2");
	assert_dir(fd, "hid/sub", 0755, 0); /* hid is opaque in c2 */
	assert_dir(fd, "opq/sub", 0755, 0); /* opq is opaque in the layer itself */
	assert_dir(fd, "gone", 0755, 0);    /* a whiteout is between */
	/* c2's root was not listed as implied. */
	assert_dir(fd, ".", 0755, 0);
	proc = xasprintf("/proc/self/fd/%d/tmp", fd);
	assert_int_equal(getxattr(proc, "user.from", from, sizeof(from)), 2);
	unmount(f, fd);
	strv_push(&implied, "../x");
	make_layer(f, "k4", LIST("a"), LIST("b"));
	assert_error(ERROR_INVALID_ARGUMENT, snapshot_commit_onto(&f->ctx, NULL, "c4", "k4", "c3",
								  &implied, NULL, false, ERR));
	assert_ok(snapshot_commit_onto(&f->ctx, NULL, "c4", "k4", "c3", NULL, NULL, false, ERR));
}

/* Overlayfs takes no overlayfs as its upper layer: the store must see that and copy. */
static void test_overlay_probe(void **state)
{
	struct fixture *f = *state;
	autofree char *root = path_join(f->dir, "mnt", "root", NULL);
	struct store_config config = { .root = root, .snapshotter = "overlayfs" };
	struct store_ctx c = { .ns = "test" };
	automounts struct mounts ms = MOUNTS_INIT;
	int fd;

	commit_layer(f, "one", "", "a", "1");
	assert_ok(snapshot_prepare(&f->ctx, NULL, "act", "one", NULL, &ms, ERR));
	fd = mount_open(f, &ms);
	assert_error(ERROR_FAILED_PRECONDITION, store_open(&config, &c.store, ERR));
	config.snapshotter = NULL;
	assert_ok(store_open(&config, &c.store, ERR));
	assert_string_equal(store_default_snapshotter(c.store), "native");
	assert_error(ERROR_FAILED_PRECONDITION,
		     snapshot_prepare(&c, "overlayfs", "x", "", NULL, NULL, ERR));
	assert_ok(snapshot_prepare(&c, NULL, "x", "", NULL, NULL, ERR));
	store_close(c.store);
	unmount(f, fd);
}

static void test_overlay_many_layers(void **state)
{
	struct fixture *f = *state;
	automounts struct mounts ms = MOUNTS_INIT, none = MOUNTS_INIT;
	char name[16], parent[16] = "", file[16];
	int fd;

	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "c%d", i);
		snprintf(file, sizeof(file), "f%d", i);
		make_layer(f, "k", (const char *const[]){ NULL }, LIST(file));
		assert_ok(snapshot_commit_onto(&f->ctx, NULL, name, "k", parent, NULL, NULL, false,
					       ERR));
		memcpy(parent, name, sizeof(parent));
	}
	assert_ok(snapshot_prepare(&f->ctx, NULL, "ctr", parent, NULL, &ms, ERR));
	fd = mount_open(f, &ms);
	assert_text(fd, "f0", "k");
	assert_text(fd, "f499", "k");
	write_at(fd, "f0", "new");
	unmount(f, fd);
	make_layer(f, "k", (const char *const[]){ NULL }, LIST("x"));
	assert_ok(snapshot_commit_onto(&f->ctx, NULL, "c500", "k", parent, NULL, NULL, false, ERR));
	assert_error(ERROR_FAILED_PRECONDITION,
		     snapshot_prepare(&f->ctx, NULL, "ctr2", "c500", NULL, &none, ERR));
	assert_error(ERROR_NOT_FOUND, snapshot_remove(&f->ctx, NULL, "ctr2", ERR));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)
#define CONFORMANCE                                                                            \
	T(test_chain), T(test_view_of_one), T(test_errors), T(test_stat), T(test_walk),        \
		T(test_remove), T(test_usage), T(test_root_attributes), T(test_special_files), \
		T(test_rebase_refused), T(test_parallel)

static int run_native(void)
{
	const struct CMUnitTest native[] = { CONFORMANCE };

	suite = "native";
	return cmocka_run_group_tests(native, NULL, NULL);
}

static int run_overlay(void)
{
	const struct CMUnitTest overlay[] = { CONFORMANCE, T(test_overlay_options),
					      T(test_overlay_rebase), T(test_overlay_probe),
					      T(test_overlay_many_layers) };

	suite = "overlayfs";
	return cmocka_run_group_tests(overlay, NULL, NULL);
}

int main(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		fprintf(stderr, "needs root, skipped\n");
		return 77;
	}
	return run_native() + run_overlay();
}
