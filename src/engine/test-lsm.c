/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "engine/lsm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_profiles(void **state UNUSED)
{
	static const char text[] = "docker-default (enforce)\nmy profile (complain)\nx (enforce)";

	assert_true(apparmor_lists(text, "docker-default"));
	assert_true(apparmor_lists(text, "my profile"));
	assert_true(apparmor_lists(text, "x"));
	assert_false(apparmor_lists(text, "docker"));
	assert_false(apparmor_lists(text, "my"));
	assert_false(apparmor_lists("", "x"));
}

static void test_levels(void **state UNUSED)
{
	static const char *const good[] = { "s0", "s0:c1,c2", "s0:c0.c1023", "s0-s0:c0.c1023",
					    "s15:c1,c5.c7" };
	static const char *const bad[] = { "",	     "s",  "s0,c4,c5", "s0:", "s0:c",
					   "s0:c1,", "c1", "s0:c1 ",   "s0-", "s0:c99999" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (!selinux_level_valid(good[i]))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (selinux_level_valid(bad[i]))
			fail_msg("%s", bad[i]);
}

static void test_labels(void **state UNUSED)
{
	autoerror struct error err = ERROR_INIT;
	autofree char *process = NULL, *mount = NULL, *other = NULL, *other_mount = NULL;
	struct selinux_label wanted = { 0 };

	assert_int_equal(selinux_labels(&wanted, "0000500007abc", &process, &mount, &err), 0);
	assert_string_equal(process, "system_u:system_r:container_t:s0:c5,c8");
	assert_string_equal(mount, "system_u:object_r:container_file_t:s0:c5,c8");
	wanted.type = (char *)"spc_t";
	wanted.level = (char *)"s0:c1,c2";
	assert_int_equal(selinux_labels(&wanted, "ff", &other, &other_mount, &err), 0);
	assert_string_equal(other, "system_u:system_r:spc_t:s0:c1,c2");
	wanted.level = (char *)"s0,c4,c5";
	assert_int_equal(selinux_labels(&wanted, "ff", &other, &other_mount, &err), -1);
	assert_non_null(strstr(error_msg(&err), "selinux_options.level"));
	wanted.level = NULL;
	wanted.user = (char *)"a:b";
	assert_int_equal(selinux_labels(&wanted, "ff", &other, &other_mount, &err), -1);
}

static void test_relabelling(void **state UNUSED)
{
	autoerror struct error err = ERROR_INIT;

	assert_false(selinux_may_relabel("/"));
	assert_false(selinux_may_relabel("/etc"));
	assert_true(selinux_may_relabel("/var/lib/kubelet/pods/x"));
	assert_int_equal(selinux_relabel("/usr", "x", &err), -1);
	assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
	assert_int_equal(selinux_relabel("/no/such/path", "x", &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_profiles),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_relabelling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
