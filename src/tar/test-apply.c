/* SPDX-License-Identifier: Apache-2.0 */
/* The rules entry by entry; test_unpack.py compares whole trees with GNU tar, umoci and overlayfs.
 */
#include "tar/apply.h"

#include "base/fs.h"
#include "base/mem.h"
#include "tar/apply-internal.h"
#include "tar/testing-tar.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cmocka.h>

struct fixture {
	char path[32];
	int dir;
	struct strv implied;
};

static int setup(void **state)
{
	struct fixture *f = xnew(struct fixture);

	strncpy(f->path, "/var/tmp/test-apply-XXXXXX", sizeof(f->path) - 1);
	assert_non_null(mkdtemp(f->path));
	f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	umask(0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	strv_done(&f->implied);
	close(f->dir);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(fs_remove_tree(AT_FDCWD, f->path), 0);
	free(f);
	return 0;
}

static int feed(struct apply *a, const struct buf *b, struct error *err)
{
	CLEANUP(tar_freep) struct tar *t = tar_new();
	const uint8_t *p = (const uint8_t *)b->data;
	size_t n = b->len;

	for (;;) {
		struct tar_data d;
		int r = tar_next(t, &p, &n, &d, err);
		if (r == TAR_NEED_INPUT || r == TAR_END)
			return 0;
		if (r == TAR_ENTRY)
			r = apply_entry(a, tar_entry(t), err);
		else if (r == TAR_DATA)
			r = apply_data(a, d.p, d.n, d.offset, err);
		else if (r == TAR_ENTRY_END)
			r = apply_entry_end(a, err);
		if (r < 0)
			return -1;
	}
}

static int apply(struct fixture *f, const struct buf *b, enum apply_whiteouts whiteouts,
		 struct error *err)
{
	struct apply_config config = { .dir = f->dir, .lower = -1, .whiteouts = whiteouts };
	CLEANUP(apply_freep) struct apply *a = apply_new(&config);

	if (feed(a, b, err) < 0)
		return -1;
	return apply_finish(a, &f->implied, err);
}

static void must_apply(struct fixture *f, const struct buf *b, enum apply_whiteouts whiteouts)
{
	autoerror struct error err = ERROR_INIT;
	int r = apply(f, b, whiteouts, &err);

	assert_string_equal(error_msg(&err), "");
	assert_int_equal(r, 0);
}

static struct stat stat_of(struct fixture *f, const char *path)
{
	struct stat st = { 0 };

	assert_int_equal(fstatat(f->dir, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static bool exists(struct fixture *f, const char *path)
{
	struct stat st;

	return fstatat(f->dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

#define B(name) autobuf struct buf name = BUF_INIT(8 << 20)

static void test_clean(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "", "" },
		{ ".", "" },
		{ "/", "" },
		{ "./", "" },
		{ "..", "" },
		{ "a", "a" },
		{ "/a", "a" },
		{ "./a/", "a" },
		{ "a//b/./c/", "a/b/c" },
		{ "../../a", "a" },
		{ "a/../b", "b" },
		{ "a/../../b", "b" },
		{ "a/b/..", "a" },
		{ "...", "..." },
		{ "..a/.b", "..a/.b" },
		{ "a/b/../../..", "" },
	};
	char out[TAR_PATH_MAX + 1];
	autoerror struct error err = ERROR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(apply_clean(cases[i].in, out, &err), 0);
		assert_string_equal(out, cases[i].out);
	}
	autofree char *deep = xcalloc(1, 2 * (DEPTH_MAX + 2));
	for (size_t i = 0; i < DEPTH_MAX + 1; i++)
		memcpy(deep + 2 * i, "a/", 2);
	assert_int_equal(apply_clean(deep, out, &err), -1);
	deep[(2 * DEPTH_MAX) - 1] = '\0';
	assert_int_equal(apply_clean(deep, out, &err), 0);
}

static void test_set_id_directories(void **state)
{
	struct fixture *f = *state;
	B(b);

	/* Children of a set-group-id directory keep the owner and mode that the layer says. */
	TAR_PUT(&b, .type = '5', .name = "d", .mode = 02775, .gid = 50);
	TAR_PUT(&b, .name = "d/f");
	TAR_PUT(&b, .type = '5', .name = "d/sub", .mode = 0700);
	must_apply(f, &b, APPLY_OVERLAY);
	assert_int_equal(stat_of(f, "d").st_mode, S_IFDIR | 02775);
	assert_int_equal(stat_of(f, "d/f").st_gid, 0);
	assert_int_equal(stat_of(f, "d/sub").st_mode, S_IFDIR | 0700);
	/* Also when the directory comes from below. */
	buf_clear(&b);
	TAR_PUT(&b, .name = "d/g", .mode = 0600);
	TAR_PUT(&b, .type = '5', .name = "d/sub2", .mode = 0700);
	TAR_PUT(&b, .type = '2', .name = "d/link", .link = "x");
	must_apply(f, &b, APPLY_DELETE);
	assert_int_equal(stat_of(f, "d/g").st_gid, 0);
	assert_int_equal(stat_of(f, "d/sub2").st_gid, 0);
	assert_int_equal(stat_of(f, "d/sub2").st_mode, S_IFDIR | 0700);
	assert_int_equal(stat_of(f, "d/link").st_gid, 0);
}

static void test_stale_parents(void **state)
{
	struct fixture *f = *state;
	B(b);

	/* "a/b" is cached, then "a" goes and comes back as a symlink to "c". */
	TAR_PUT(&b, .name = "a/b/one");
	TAR_PUT(&b, .type = '5', .name = "c/b");
	TAR_PUT(&b, .type = '2', .name = "a", .link = "c");
	TAR_PUT(&b, .name = "a/b/two");
	TAR_PUT(&b, .name = "a");
	TAR_PUT(&b, .name = "a/b/three");
	must_apply(f, &b, APPLY_OVERLAY);
	assert_false(exists(f, "c/b/one"));
	assert_true(exists(f, "c/b/two"));
	assert_true(exists(f, "a/b/three"));
	assert_false(exists(f, "a/b/one"));
}

static void test_delete_keeps_what_the_layer_adds(void **state)
{
	struct fixture *f = *state;
	B(lower);
	B(upper);

	TAR_PUT(&lower, .name = "d/old", .mtime = 5);
	TAR_PUT(&lower, .name = "d/sub/old");
	TAR_PUT(&lower, .name = "e/old");
	TAR_PUT(&lower, .type = '5', .name = "e", .mtime = 77, .mode = 0711);
	must_apply(f, &lower, APPLY_DELETE);
	strv_done(&f->implied);
	TAR_PUT(&upper, .name = "d/sub/new");
	TAR_PUT(&upper, .name = "d/.wh..wh..opq");
	TAR_PUT(&upper, .name = "e/new");
	TAR_PUT(&upper, .name = ".wh.e");
	TAR_PUT(&upper, .name = "absent/.wh.x");
	must_apply(f, &upper, APPLY_DELETE);
	assert_false(exists(f, "d/old"));
	assert_false(exists(f, "d/sub/old"));
	assert_true(exists(f, "d/sub/new"));
	assert_false(exists(f, "e/old"));
	assert_true(exists(f, "e/new"));
	assert_int_equal(stat_of(f, "e").st_mtim.tv_sec, 77);
}

static void test_implied(void **state)
{
	struct fixture *f = *state;
	B(b);

	TAR_PUT(&b, .name = "a/b/c/f");
	TAR_PUT(&b, .type = '5', .name = "a/b");
	TAR_PUT(&b, .name = "gone/f");
	TAR_PUT(&b, .name = "gone");
	TAR_PUT(&b, .name = ".wh.hidden");
	TAR_PUT(&b, .name = "hidden/f");
	must_apply(f, &b, APPLY_OVERLAY);
	strv_sort(&f->implied);
	assert_int_equal(f->implied.n, 3);
	assert_string_equal(f->implied.v[0], ".");
	assert_string_equal(f->implied.v[1], "a");
	assert_string_equal(f->implied.v[2], "a/b/c");
}

static void test_dropped(void **state)
{
	struct fixture *f = *state;
	char list[256];
	B(b);
	B(r);

	TAR_PUT(&b, .type = '3', .name = "zero");
	TAR_PUT(&b, .name = ".wh..wh.plnk/1.2");
	TAR_PUT(&b, .name = "x/.wh..wh.aufs/y", .data = "data", .size = 4);
	tar_pax_record(&r, "SCHILY.xattr.trusted.overlay.opaque", "y", 1);
	tar_pax_record(&r, "SCHILY.xattr.user.overlay.redirect", "/etc", 4);
	tar_pax_record(&r, "SCHILY.xattr.security.selinux", "label", 5);
	tar_put_pax(&b, &r);
	TAR_PUT(&b, .type = '5', .name = "d");
	must_apply(f, &b, APPLY_OVERLAY);
	assert_false(exists(f, "zero"));
	assert_false(exists(f, "x"));
	autofree char *path = path_join(f->path, "d", NULL);
	assert_int_equal(listxattr(path, list, sizeof(list)), 0);
}

static void test_default_acl(void **state)
{
	/* user::rwx group::r-x group:7:rwx mask::rwx other::--- */
	static const char acl[] =
		"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x05\0\xff\xff\xff\xff"
		"\x08\0\x07\0\x07\0\0\0\x10\0\x07\0\xff\xff\xff\xff"
		"\x20\0\0\0\xff\xff\xff\xff";
	struct fixture *f = *state;
	B(b);
	B(r);

	tar_pax_record(&r, "SCHILY.xattr.system.posix_acl_default", acl, sizeof(acl) - 1);
	tar_put_pax(&b, &r);
	TAR_PUT(&b, .type = '5', .name = "d");
	TAR_PUT(&b, .name = "d/f", .mode = 0644);
	must_apply(f, &b, APPLY_OVERLAY);
	assert_int_equal(stat_of(f, "d/f").st_mode, S_IFREG | 0644);
	autofree char *file = path_join(f->path, "d/f", NULL), *dir = path_join(f->path, "d", NULL);
	assert_int_equal(listxattr(file, NULL, 0), 0);
	ssize_t n = getxattr(dir, "system.posix_acl_default", NULL, 0);
	assert_true(n == sizeof(acl) - 1 || (n < 0 && errno == ENOTSUP));
}

static void test_device_range(void **state)
{
	struct fixture *f = *state;
	autoerror struct error err = ERROR_INIT;
	B(b);

	TAR_PUT(&b, .type = '4', .name = "ok", .major = 4095, .minor = 01777777);
	must_apply(f, &b, APPLY_OVERLAY);
	assert_int_equal(stat_of(f, "ok").st_rdev, makedev(4095, 01777777));
	buf_clear(&b);
	TAR_PUT(&b, .type = '4', .name = "far", .major = 4096);
	assert_int_equal(apply(f, &b, APPLY_OVERLAY, &err), -1);
	assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.msg, "'far'"));
}

static void test_errors_name_the_entry(void **state)
{
	static const struct {
		struct tar_spec spec;
		const char *text;
	} cases[] = {
		{ { .name = "x", .type = '2' }, "symlink 'x' has no target" },
		{ { .name = "x", .type = '1', .link = "y" }, "needs parent" },
		{ { .name = "x", .type = '1', .link = "/.." }, "hard link 'x' has no target" },
		{ { .name = "a/.wh..", .type = '0' }, "invalid whiteout 'a/.wh..'" },
		{ { .name = "/../", .type = '2', .link = "/etc" },
		  "would replace the layer's root" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoerror struct error err = ERROR_INIT;
		B(b);
		tar_put(&b, &cases[i].spec);
		assert_int_equal(apply(*state, &b, APPLY_OVERLAY, &err), -1);
		assert_non_null(strstr(error_msg(&err), cases[i].text));
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),
		T(test_set_id_directories),
		T(test_stale_parents),
		T(test_delete_keeps_what_the_layer_adds),
		T(test_implied),
		T(test_dropped),
		T(test_default_acl),
		T(test_device_range),
		T(test_errors_name_the_entry),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "owners and devices need root, skipping\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
