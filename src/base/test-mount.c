/* SPDX-License-Identifier: Apache-2.0 */
/* As root, in a mount namespace of its own: nothing can be left behind. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/mount-plan.h"
#include "base/mount.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cmocka.h>

#define LAYERS 200

static char root[] = "/tmp/test-mount-XXXXXX";
static int root_fd;

static int setup(void **state)
{
	if (!mkdtemp(root))
		return -1;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		rmdir(root);
		return -1;
	}
	/* Overlay wants its upper directory on a file system that is no overlay. */
	if (mount("none", root, "tmpfs", 0, NULL) < 0)
		return -1;
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

static int teardown(void **state)
{
	close(root_fd);
	umount2(root, MNT_DETACH);
	return rmdir(root);
}

static char *at(const char *path)
{
	return path_join(root, path, NULL);
}

static void put_file(const char *path, const char *text)
{
	autofree char *dir = xstrndup(path, (size_t)(path_base(path) - path));

	assert_int_equal(fs_mkdirat_p(root_fd, dir, 0755), 0);
	assert_int_equal(fs_write_atomic(root_fd, path, text, strlen(text), 0644, false), 0);
}

static bool file_is(const char *path, const char *text)
{
	autobuf struct buf b = BUF_INIT(100);

	return fs_read(root_fd, path, &b) == 0 && strcmp(b.data, text) == 0;
}

static unsigned long flags_of(const char *path)
{
	autofree char *full = at(path);
	struct statvfs st;

	assert_int_equal(statvfs(full, &st), 0);
	return st.f_flag;
}

static int attach(const struct mounts *m, const char *target, struct error *err)
{
	autofree char *full = at(target);

	assert_int_equal(fs_mkdirat_p(root_fd, target, 0755), 0);
	return mounts_attach(m, full, err);
}

static void detach(const char *target)
{
	autofree char *full = at(target);
	autoerror struct error err = ERROR_INIT;

	if (mount_detach_all(full, MNT_DETACH, &err) < 0)
		fail_msg("%s", error_msg(&err));
}

static void check(int r, const struct error *err)
{
	if (r < 0)
		fail_msg("%s", error_msg(err));
}

static void add_words(struct mount *m, const char *words)
{
	strv_split(&m->options, words, ",");
}

static void test_tmpfs(void **state)
{
	automounts struct mounts m = MOUNTS_INIT;
	autoerror struct error err = ERROR_INIT;
	struct stat st;

	add_words(mounts_add(&m, "tmpfs", "tmpfs", NULL),
		  "nosuid,nodev,noexec,mode=0711,size=64k,x-ignored,noatime,rslave");
	check(attach(&m, "tmp", &err), &err);
	assert_int_equal(fstatat(root_fd, "tmp", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0711);
	assert_int_equal(flags_of("tmp") & (ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_NOATIME),
			 ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_NOATIME);
	detach("tmp");
	detach("tmp"); /* not mounted is success */
	detach("absent");

	strv_push(&m.v[0].options, "no-such-option=1");
	assert_int_equal(attach(&m, "tmp", &err), -1);
	assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
	assert_non_null(strstr(error_msg(&err), "no-such-option")); /* the kernel said so */
	m.v[0].type[0] = 'x';
	assert_int_equal(attach(&m, "tmp", &err), -1);
	assert_int_equal(err.sys, ENODEV);
}

static void test_overlay(void **state)
{
	automounts struct mounts m = MOUNTS_INIT;
	autoerror struct error err = ERROR_INIT;
	autofree char *upper = at("upper"), *work = at("work");
	autobuf struct buf lower = BUF_INIT(BUF_NO_LIMIT);
	char path[320], pad[240];

	memset(pad, 'x', sizeof(pad) - 1);
	pad[sizeof(pad) - 1] = '\0';
	for (int i = 0; i < LAYERS; i++) {
		/* Long paths: together many pages, one alone longer than fsconfig takes. */
		snprintf(path, sizeof(path), "layers/%s/%d/f%d", pad, i, i);
		put_file(path, "data");
		buf_printf(&lower, "%s%s/layers/%s/%d", i ? ":" : "lowerdir=", root, pad, i);
	}
	put_file("layers/odd:na\\me,x/odd", "odd");
	buf_printf(&lower, ":%s/layers/odd\\:na\\\\me,x", root);
	assert_int_equal(fs_mkdirat_p(root_fd, "upper", 0755), 0);
	assert_int_equal(fs_mkdirat_p(root_fd, "work", 0755), 0);
	struct mount *mount = mounts_add(&m, "overlay", "overlay", "");
	strv_push(&mount->options, "index=off");
	strv_push_printf(&mount->options, "workdir=%s", work);
	strv_push_printf(&mount->options, "upperdir=%s", upper);
	strv_push(&mount->options, lower.data);
	check(attach(&m, "merged", &err), &err);
	assert_true(file_is("merged/f0", "data"));
	assert_true(file_is("merged/f199", "data"));
	assert_true(file_is("merged/odd", "odd"));
	put_file("merged/new", "n");
	assert_true(file_is("upper/new", "n"));
	detach("merged");

	strv_push(&mount->options, "lowerdir=/no/such/layer");
	assert_int_equal(attach(&m, "merged", &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void test_layer_split(void **state)
{
	CLEANUP(overlay_layers_done) struct overlay_layers l = { 0 };

	overlay_layers_split("/a:/b\\:c:/d\\\\e::/data1::/data2", &l);
	assert_int_equal(l.lower.n, 3);
	assert_string_equal(l.lower.v[1], "/b:c");
	assert_string_equal(l.lower.v[2], "/d\\e");
	assert_int_equal(l.data.n, 2);
	assert_string_equal(l.data.v[1], "/data2");
}

static void test_bind(void **state)
{
	automounts struct mounts m = MOUNTS_INIT, sub = MOUNTS_INIT;
	autoerror struct error err = ERROR_INIT;
	autofree char *source = at("source"), *file = at("source/file");

	put_file("source/file", "f");
	add_words(mounts_add(&sub, "tmpfs", "none", NULL), "rw");
	check(attach(&sub, "source/sub", &err), &err);

	add_words(mounts_add(&m, "bind", source, NULL), "rbind,ro,nosuid,rprivate");
	check(attach(&m, "bound", &err), &err);
	assert_true(file_is("bound/file", "f"));
	assert_true(flags_of("bound") & ST_RDONLY);
	assert_true(flags_of("bound") & ST_NOSUID);
	assert_false(flags_of("bound/sub") & ST_RDONLY);
	assert_false(flags_of("source") & ST_RDONLY);
	detach("bound");

	strv_push(&m.v[0].options, "rro");
	check(attach(&m, "bound", &err), &err);
	assert_true(flags_of("bound/sub") & ST_RDONLY);
	detach("bound");

	automounts struct mounts single = MOUNTS_INIT;
	add_words(mounts_add(&single, "none", file, "etc/file"), "bind");
	put_file("place/etc/file", "");
	check(attach(&single, "place", &err), &err);
	assert_true(file_is("place/etc/file", "f"));
	detach("place/etc/file");
	detach("source/sub");

	str_replace(&single.v[0].source, "/no/such/source");
	assert_int_equal(attach(&single, "place", &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void test_list_is_undone(void **state)
{
	automounts struct mounts m = MOUNTS_INIT, copy = MOUNTS_INIT;
	autoerror struct error err = ERROR_INIT;

	add_words(mounts_add(&m, "tmpfs", "none", NULL), "mode=0700");
	add_words(mounts_add(&m, "tmpfs", "none", "absent"), "mode=0700");
	mounts_copy(&copy, &m);
	assert_string_equal(copy.v[1].target, "absent");
	assert_int_equal(attach(&copy, "undone", &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
	autofree char *path = at("undone");
	assert_int_equal(umount(path), -1);
	assert_int_equal(errno, EINVAL);
}

static void test_targets_stay_inside(void **state)
{
	automounts struct mounts m = MOUNTS_INIT;
	autoerror struct error err = ERROR_INIT;

	assert_int_equal(fs_mkdirat_p(root_fd, "outside", 0755), 0);
	assert_int_equal(fs_mkdirat_p(root_fd, "inside", 0755), 0);
	assert_int_equal(symlinkat("/../outside", root_fd, "inside/link"), 0);
	add_words(mounts_add(&m, "tmpfs", "none", "link"), "");
	assert_int_equal(attach(&m, "inside", &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void test_detached(void **state)
{
	struct mount m = { .type = (char *)"tmpfs", .source = (char *)"none" };
	autoerror struct error err = ERROR_INIT;
	autoclose int fd = mount_open_detached(&m, &err);

	assert_true(fd >= 0);
	assert_int_equal(mkdirat(fd, "x", 0755), 0);
	autostrv struct strv options = STRV_INIT;
	strv_push(&options, "uidmap=0:1000:1");
	m.options = options;
	assert_int_equal(mount_open_detached(&m, &err), -1);
	assert_int_equal(err.code, ERROR_UNIMPLEMENTED);
}

static void test_classic(void **state)
{
	automounts struct mounts m = MOUNTS_INIT;
	CLEANUP(mount_plan_done) struct mount_plan bind = { 0 }, tmp = { 0 };
	autoerror struct error err = ERROR_INIT;
	autofree char *source = at("csource"), *target = at("ctarget");

	put_file("csource/file", "f");
	assert_int_equal(fs_mkdirat_p(root_fd, "ctarget", 0755), 0);
	add_words(mounts_add(&m, "bind", source, NULL), "rbind,ro,rprivate");
	check(mount_plan_make(&m.v[0], &bind, &err), &err);
	check(mount_classic(&m.v[0], &bind, target, &err), &err);
	assert_true(file_is("ctarget/file", "f"));
	assert_true(flags_of("ctarget") & ST_RDONLY);
	detach("ctarget");
	add_words(mounts_add(&m, "tmpfs", "none", NULL), "nosuid,mode=0700,size=64k,private");
	check(mount_plan_make(&m.v[1], &tmp, &err), &err);
	check(mount_classic(&m.v[1], &tmp, target, &err), &err);
	assert_true(flags_of("ctarget") & ST_NOSUID);
	detach("ctarget");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layer_split),    cmocka_unit_test(test_tmpfs),
		cmocka_unit_test(test_overlay),	       cmocka_unit_test(test_bind),
		cmocka_unit_test(test_list_is_undone), cmocka_unit_test(test_targets_stay_inside),
		cmocka_unit_test(test_detached),       cmocka_unit_test(test_classic),
	};

	if (geteuid() != 0)
		return 77; /* skipped */
	return cmocka_run_group_tests(tests, setup, teardown);
}
