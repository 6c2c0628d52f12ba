/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "task/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_path(void **state)
{
	static const struct {
		const char *membership, *path;
	} cases[] = {
		{ "0::/system.slice/kistld.service\n",
		  "/sys/fs/cgroup/system.slice/kistld.service/cgroup.procs" },
		{ "0::/\n", "/sys/fs/cgroup//cgroup.procs" },
		{ "9:name=systemd:/\n8:pids:/a/b\n4:memory:/c\n0::/\n",
		  "/sys/fs/cgroup/pids/a/b/cgroup.procs" },
		{ "4:memory:/c\n0::/d", "/sys/fs/cgroup/d/cgroup.procs" },
		{ "10::/no\n", NULL },
		{ "4:memory:/c\n", NULL },
		{ "", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *path = warm_path(cases[i].membership);

		if (cases[i].path)
			assert_string_equal(path, cases[i].path);
		else
			assert_null(path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
