/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

static char root[] = "/tmp/test-fs-XXXXXX";
static int root_fd;

static int setup(void **state)
{
	if (!mkdtemp(root))
		return -1;
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return root_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	close(root_fd);
	return fs_remove_tree(AT_FDCWD, root);
}

static void test_paths(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "/", "a\n", "\x7f" };
	autofree char *a = path_join("/a/", "/b", "c/", NULL);
	autofree char *b = path_join("/", "x", "", "y", NULL);
	autofree char *c = path_join("", "x", NULL);

	assert_string_equal(a, "/a/b/c");
	assert_string_equal(b, "/x/y");
	assert_string_equal(c, "x");
	assert_string_equal(path_base("/a/b"), "b");
	assert_string_equal(path_base("a"), "a");
	assert_true(path_component_valid("..."));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(path_component_valid(bad[i]));
}

static void test_mkdir_p(void **state)
{
	struct stat st;

	assert_int_equal(fs_mkdirat_p(root_fd, "m/n//o/", 0755), 0);
	assert_int_equal(fs_mkdirat_p(root_fd, "m/n/o", 0755), 0);
	assert_int_equal(fstatat(root_fd, "m/n/o", &st, 0), 0);
	assert_int_equal(fs_write_atomic(root_fd, "m/file", "x", 1, 0644, false), 0);
	assert_int_equal(fs_mkdirat_p(root_fd, "m/file", 0755), -ENOTDIR);
	assert_int_equal(fs_mkdirat_p(root_fd, "m/file/x", 0755), -ENOTDIR);
	assert_int_equal(fs_mkdirat_p(root_fd, "", 0755), -ENOENT);
	assert_int_equal(fs_mkdir_p("/", 0755), 0);
}

static void test_read_and_write(void **state)
{
	autobuf struct buf b = BUF_INIT(5), small = BUF_INIT(4);
	struct stat st;

	assert_int_equal(fs_write_atomic(root_fd, "rw", "12345", 5, 0640, true), 0);
	assert_int_equal(fs_read(root_fd, "rw", &b), 0);
	assert_string_equal(b.data, "12345");
	assert_int_equal(fs_read(root_fd, "rw", &small), -ENOBUFS);
	assert_int_equal(fstatat(root_fd, "rw", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(fs_read(root_fd, ".", &b), -EISDIR);
	assert_int_equal(fs_read(root_fd, "absent", &b), -ENOENT);
	assert_int_equal(mkfifoat(root_fd, "fifo", 0600), 0);
	assert_int_equal(fs_read(root_fd, "fifo", &b), -EINVAL);
	assert_int_equal(fs_read(AT_FDCWD, "/dev/zero", &b), -EINVAL);
	autobuf struct buf proc = BUF_INIT(1 << 16);
	assert_int_equal(fs_read(AT_FDCWD, "/proc/self/status", &proc), 0);
	assert_true(proc.len > 0);
	assert_int_equal(fs_write_atomic(root_fd, "no/dir", "x", 1, 0644, false), -ENOENT);
}

static void test_open_beneath(void **state)
{
	assert_int_equal(fs_mkdirat_p(root_fd, "jail/in", 0755), 0);
	assert_int_equal(fs_write_atomic(root_fd, "jail/in/file", "x", 1, 0644, false), 0);
	assert_int_equal(symlinkat("../in", root_fd, "jail/in/up"), 0);
	assert_int_equal(symlinkat("/in/file", root_fd, "jail/absolute"), 0);
	assert_int_equal(symlinkat("../../..", root_fd, "jail/out"), 0);
	autoclose int jail = openat(root_fd, "jail", O_PATH | O_DIRECTORY | O_CLOEXEC);
	autoclose int a = fs_open_beneath(jail, "in/up/file", O_RDONLY, 0);
	assert_true(a >= 0);
	assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fs_open_beneath(jail, "absolute", O_RDONLY, 0), -EXDEV);
	assert_int_equal(fs_open_beneath(jail, "../rw", O_RDONLY, 0), -EXDEV);
	assert_int_equal(fs_open_beneath(jail, "out", O_RDONLY, 0), -EXDEV);
	autoclose int b = fs_open_in_root(jail, "absolute", O_RDONLY, 0);
	assert_true(b >= 0);
	assert_int_equal(fs_open_in_root(jail, "out/rw", O_RDONLY, 0), -ENOENT);
	autoclose int c = fs_open_beneath(jail, "new", O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(c >= 0);
}

static bool exists(const char *path)
{
	struct stat st;

	return fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_remove_tree(void **state)
{
	char name[32];

	assert_int_equal(fs_mkdirat_p(root_fd, "keep/sub", 0755), 0);
	assert_int_equal(fs_mkdirat_p(root_fd, "tree/a/b", 0755), 0);
	assert_int_equal(symlinkat("../keep", root_fd, "tree/link"), 0);
	assert_int_equal(mkfifoat(root_fd, "tree/a/fifo", 0600), 0);
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "tree/a/b/%d", i);
		autoclose int fd = openat(root_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
	}
	assert_int_equal(fs_remove_tree(root_fd, "tree/link"), 0);
	assert_true(exists("keep/sub"));
	assert_int_equal(symlinkat("../keep", root_fd, "tree/link"), 0);
	assert_int_equal(fs_remove_tree(root_fd, "tree/"), 0);
	assert_false(exists("tree"));
	assert_true(exists("keep/sub"));
	assert_int_equal(fs_remove_tree(root_fd, "tree"), 0);
	assert_int_equal(fs_remove_tree(root_fd, "no/such/tree"), 0);
	assert_int_equal(fs_remove_tree(root_fd, ".."), -EINVAL);
	assert_int_equal(fs_remove_tree(root_fd, "keep/."), -EINVAL);
	assert_int_equal(fs_remove_tree(root_fd, "/"), -EINVAL);
}

static void test_remove_deep_tree(void **state)
{
	autoclose int at = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* Longer than any path can name. */
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(mkdirat(at, "deep", 0755), 0);
		if (i % 10 == 0)
			assert_int_equal(mkdirat(at, "side", 0755), 0);
		int next = openat(at, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	assert_int_equal(fs_remove_tree(root_fd, "deep"), 0);
	assert_false(exists("deep"));
	assert_int_equal(fs_remove_tree(root_fd, "side"), 0);
}

/* As a user who has not root's way around permissions. */
static void test_remove_without_permissions(void **state)
{
	assert_int_equal(fs_mkdirat_p(root_fd, "locked/none/inner", 0755), 0);
	assert_int_equal(fs_mkdirat_p(root_fd, "locked/unwritable/inner", 0755), 0);
	assert_int_equal(fchmodat(root_fd, "locked/none", 0, 0), 0);
	assert_int_equal(fchmodat(root_fd, "locked/unwritable", 0500, 0), 0);
	assert_int_equal(chmod(root, 0777), 0);
	static const char *const all[] = { "locked", "locked/none", "locked/unwritable" };
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		assert_int_equal(fchownat(root_fd, all[i], 65534, 65534, 0), 0);
	assert_int_equal(seteuid(65534), 0);
	int r = fs_remove_tree(root_fd, "locked");
	assert_int_equal(seteuid(0), 0);
	/* Root's inner directories are empty, so that their parents' owner may remove them. */
	assert_int_equal(r, 0);
	assert_false(exists("locked"));
}

static void test_remove_stops_at_mounts(void **state)
{
	if (unshare(CLONE_NEWNS) < 0)
		skip();
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	/* The old one is a directory in the namespace that we have left. */
	close(root_fd);
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fs_mkdirat_p(root_fd, "mounts/a/place", 0755), 0);
	assert_int_equal(fs_mkdirat_p(root_fd, "mounts/b", 0755), 0);
	autofree char *place = path_join(root, "mounts/a/place", NULL);
	assert_int_equal(mount("none", place, "tmpfs", 0, NULL), 0);
	assert_int_equal(fs_mkdirat_p(root_fd, "mounts/a/place/kept", 0755), 0);
	assert_true(fs_remove_tree(root_fd, "mounts") < 0);
	assert_true(exists("mounts/a/place/kept"));
	assert_false(exists("mounts/b"));
	assert_int_equal(fs_remove_tree(root_fd, "mounts/a/place"), -EXDEV);
	assert_int_equal(umount(place), 0);
	assert_int_equal(fs_remove_tree(root_fd, "mounts"), 0);
}

static void test_unix_sockets(void **state)
{
	autofree char *dir = path_join(root, "sockets", NULL);
	struct stat st;

	for (int i = 0; i < 10; i++) {
		char *longer = path_join(dir, "a-rather-long-component", NULL);
		free(dir);
		dir = longer;
	}
	assert_int_equal(fs_mkdir_p(dir, 0755), 0);
	autofree char *path = path_join(dir, "sock", NULL);
	assert_int_equal(fs_unix_connect(path), -ENOENT);
	autoclose int listener = fs_unix_listen(path, 0660, 8);
	assert_true(listener >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(fs_unix_listen(path, 0660, 8), -EADDRINUSE);
	autoclose int client = fs_unix_connect(path);
	assert_true(client >= 0);
	close(listener);
	listener = fs_unix_listen(path, 0600, 8); /* stale now */
	assert_true(listener >= 0);
	assert_int_equal(fs_write_atomic(root_fd, "plain", "x", 1, 0644, false), 0);
	autofree char *plain = path_join(root, "plain", NULL);
	assert_int_equal(fs_unix_listen(plain, 0600, 8), -EADDRINUSE);
	assert_true(exists("plain"));
}

static void test_fd_passing(void **state)
{
	int pair[2], got[4], files[3] = { root_fd, root_fd, root_fd };
	char text[8];
	size_t n = 4;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fs_send_fds(pair[0], "hello", 5, files, 3), 5);
	assert_int_equal(fs_recv_fds(pair[1], text, sizeof(text), got, &n), 5);
	assert_int_equal(n, 3);
	for (size_t i = 0; i < n; i++) {
		assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
		close(got[i]);
	}
	int before = dup(root_fd);
	close(before);
	n = 1;
	assert_int_equal(fs_send_fds(pair[0], "x", 1, files, 3), 1);
	assert_int_equal(fs_recv_fds(pair[1], text, sizeof(text), got, &n), -EMSGSIZE);
	assert_int_equal(n, 0);
	int after = dup(root_fd);
	close(after);
	assert_int_equal(before, after); /* none leaked */
	n = 1;
	assert_int_equal(fs_send_fds(pair[0], "longer than", 11, NULL, 0), 11);
	assert_int_equal(fs_recv_fds(pair[1], text, 4, got, &n), -EMSGSIZE);
	close(pair[0]);
	n = 1;
	assert_int_equal(fs_recv_fds(pair[1], text, 4, got, &n), 0);
	assert_int_equal(fs_send_fds(pair[1], "x", 1, NULL, 0), -EPIPE);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_mkdir_p),
		cmocka_unit_test(test_read_and_write),
		cmocka_unit_test(test_open_beneath),
		cmocka_unit_test(test_remove_tree),
		cmocka_unit_test(test_remove_deep_tree),
		cmocka_unit_test(test_remove_without_permissions),
		cmocka_unit_test(test_unix_sockets),
		cmocka_unit_test(test_fd_passing),
		/* Changes the process's mount namespace. */
		cmocka_unit_test(test_remove_stops_at_mounts),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
