/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/usage.h"

#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static void test_pressure(void **state)
{
	struct pressure p;

	usage_parse_pressure("some avg10=1.50 avg60=0.25 avg300=0.00 total=12\n"
			     "full avg10=0.00 avg60=0.00 avg300=0.10 total=3\n",
			     &p);
	assert_true(p.known);
	assert_int_equal(p.some.total, 12000);
	assert_true(p.some.avg10 == 1.5 && p.some.avg60 == 0.25 && p.full.avg300 == 0.1);
	assert_int_equal(p.full.total, 3000);
	usage_parse_pressure("", &p);
	assert_false(p.known);
	usage_parse_pressure("some\nfull avg10=x\n\n", &p);
	assert_int_equal(p.some.total, 0);
}

static void test_interfaces(void **state)
{
	static const char text[] =
		"Inter-|   Receive                            |  Transmit\n"
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes packets\n"
		"    lo:       1       1    0    0    0     0          0         0        1       1"
		"    0    0    0     0       0          0\n"
		"  eth0:     100       2    3    4    0     0          0         0      500       6"
		"    7    8    0     0       0          0\n"
		"net-with-a-name-too-long: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
		"broken: 1 2\n";
	struct interface_usage i[4];

	assert_int_equal(usage_parse_interfaces(text, i, 4), 1);
	assert_string_equal(i[0].name, "eth0");
	assert_int_equal(i[0].rx_bytes, 100);
	assert_int_equal(i[0].rx_packets, 2);
	assert_int_equal(i[0].rx_errors, 3);
	assert_int_equal(i[0].rx_dropped, 4);
	assert_int_equal(i[0].tx_bytes, 500);
	assert_int_equal(i[0].tx_dropped, 8);
	assert_int_equal(usage_parse_interfaces(text, i, 0), 0);
	assert_int_equal(usage_parse_interfaces("", i, 4), 0);
}

static void write_file(const char *dir, const char *name, const char *text)
{
	autofree char *path = path_join(dir, name, NULL);

	assert_int_equal(fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, false), 0);
}

/* A cgroup of version 2, as files. */
static void test_v2(void **state)
{
	char dir[] = "/tmp/test-usage-XXXXXX";
	struct cgroup_dirs d = { .v2 = true };
	struct usage u;

	assert_non_null(mkdtemp(dir));
	d.dir[USAGE_UNIFIED] = dir;
	write_file(dir, "cpu.stat",
		   "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\n"
		   "throttled_usec 2\n");
	write_file(dir, "memory.current", "1000\n");
	write_file(dir, "memory.max", "max\n");
	write_file(dir, "memory.stat", "anon 300\nfile 500\ninactive_file 200\npgfault 7\n");
	write_file(dir, "memory.events", "low 0\nmax 5\noom 1\noom_kill 2\n");
	write_file(dir, "io.stat",
		   "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"
		   "253:1 rbytes=5 wbytes=6 rios=7 wios=8 dbytes=0 dios=0\nrubbish\n");
	write_file(dir, "pids.current", "9\n");
	write_file(dir, "pids.max", "100\n");
	write_file(dir, "memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n");
	assert_int_equal(usage_read(&d, &u, NULL), 0);
	assert_int_equal(u.cpu, 30000);
	assert_int_equal(u.throttled_time, 2000);
	assert_int_equal(u.memory, 1000);
	assert_true(u.memory_limit == USAGE_NO_LIMIT);
	assert_int_equal(usage_working_set(&u), 800);
	assert_int_equal(u.anon, 300);
	assert_int_equal(u.oom_kills, 2);
	assert_int_equal(u.n_devices, 2);
	assert_int_equal(u.devices[1].minor, 1);
	assert_int_equal(u.devices[1].writes, 8);
	assert_int_equal(u.pids, 9);
	assert_int_equal(u.pids_limit, 100);
	assert_true(u.memory_pressure.known && !u.cpu_pressure.known);
	assert_int_equal(fs_remove_tree(AT_FDCWD, dir), 0);
	assert_int_equal(usage_read(&d, &u, NULL), -1);
}

static void test_slices(void **state)
{
	struct cgroup_dirs d;

	cgroup_dirs_of_path("a-b-c.slice", &d);
	if (d.v2)
		assert_string_equal(cgroup_dirs_path(&d), "/a.slice/a-b.slice/a-b-c.slice");
	cgroup_dirs_done(&d);
	assert_int_equal(cgroup_dirs_of_pid(0, &d, NULL), -1);
	assert_int_equal(cgroup_dirs_of_pid(getpid(), &d, NULL), 0);
	assert_int_equal(cgroup_dirs_path(&d)[0], '/');
	cgroup_dirs_done(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pressure),
		cmocka_unit_test(test_interfaces),
		cmocka_unit_test(test_v2),
		cmocka_unit_test(test_slices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
