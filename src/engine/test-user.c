/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/user.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
			     "broken line\n"
			     "app:x:1000:1001::/home/app:/bin/sh";
static const char group[] = "root:x:0:\n"
			    "wheel:x:10:root,app\n"
			    "apps:x:1001:\n"
			    "extra:x:44:daemon,app\n";

static const struct {
	const char *spec;
	uint32_t uid, gid;
	uint32_t groups[4];
	size_t n_groups;
} good[] = {
	{ "", 0, 0, { 0, 10 }, 2 },
	{ "root", 0, 0, { 0, 10 }, 2 },
	{ "app", 1000, 1001, { 1001, 10, 44 }, 3 },
	{ "1000", 1000, 1001, { 1001, 10, 44 }, 3 },
	{ "app:wheel", 1000, 10, { 10 }, 1 },
	{ "1234", 1234, 0, { 0 }, 1 },
	{ "1234:5678", 1234, 5678, { 5678 }, 1 },
	{ "2147483647:2147483647", 2147483647, 2147483647, { 2147483647 }, 1 },
};

static void test_good(void **state)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct user_ids ids = { 0 };

		assert_int_equal(
			user_resolve_text(good[i].spec, passwd, group, NULL, 0, &ids, NULL), 0);
		assert_int_equal(ids.uid, good[i].uid);
		assert_int_equal(ids.gid, good[i].gid);
		assert_int_equal(ids.n_groups, good[i].n_groups);
		for (size_t k = 0; k < ids.n_groups; k++)
			assert_int_equal(ids.groups[k], good[i].groups[k]);
		user_ids_done(&ids);
	}
}

static const struct {
	const char *spec, *message;
} bad[] = {
	{ "nobody", "unable to find user nobody: no matching entries in passwd file" },
	{ "root:nogroup", "unable to find group nogroup: no matching entries in group file" },
	{ "2147483648", "range 0-2147483647" },
	{ "4294967296", "range 0-2147483647" },
	{ "0:99999999999", "range 0-2147483647" },
	{ "-1", "unable to find user -1" },
};

static void test_bad(void **state)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		autoerror struct error err = ERROR_INIT;
		struct user_ids ids = { 0 };

		assert_int_equal(user_resolve_text(bad[i].spec, passwd, group, NULL, 0, &ids, &err),
				 -1);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
		assert_non_null(strstr(err.msg, bad[i].message));
	}
}

static void test_no_files(void **state)
{
	struct user_ids ids = { 0 };
	const char *add[] = { "7", "8" };

	assert_int_equal(user_resolve_text("5", NULL, NULL, add, 2, &ids, NULL), 0);
	assert_int_equal(ids.uid, 5);
	assert_int_equal(ids.n_groups, 3);
	user_ids_done(&ids);
	assert_int_equal(user_resolve_text("web", NULL, NULL, NULL, 0, &ids, NULL), -1);
}

/* A passwd that is a FIFO must not block, one that links out of the root must not be read. */
static void test_hostile_files(void **state)
{
	char dir[] = "/tmp/kistl-user-XXXXXX";
	struct user_ids ids = { 0 };
	int fd;

	assert_non_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(mkdirat(fd, "etc", 0755), 0);
	assert_int_equal(mkfifoat(fd, "etc/passwd", 0644), 0);
	assert_int_equal(user_resolve(fd, "root", NULL, 0, &ids, NULL), -1);
	assert_int_equal(unlinkat(fd, "etc/passwd", 0), 0);
	assert_int_equal(symlinkat("../../../../../../etc/passwd", fd, "etc/passwd"), 0);
	assert_int_equal(user_resolve(fd, "root", NULL, 0, &ids, NULL), -1);
	assert_int_equal(user_resolve(fd, "12", NULL, 0, &ids, NULL), 0);
	user_ids_done(&ids);
	unlinkat(fd, "etc/passwd", 0);
	unlinkat(fd, "etc", AT_REMOVEDIR);
	close(fd);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_no_files),
		cmocka_unit_test(test_hostile_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
