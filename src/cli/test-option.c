/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/option.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

static struct {
	bool all, tty;
	int init;
	const char *name;
	struct strv list, csv;
	int64_t number, size, swap, duration, cpus, weight;
} o;

static int check_word(const char *value, struct error *err)
{
	return strcmp(value, "bad") == 0 ? error_set(err, ERROR_INVALID_ARGUMENT, "is bad") : 0;
}

static const struct option table[] = {
	{ OPTION_BOOL, 'a', "all", &o.all, "Show all", .fallback = "true" },
	{ OPTION_BOOL, 't', "tty", &o.tty, "Terminal" },
	{ OPTION_TRISTATE, 0, "init", &o.init, "Run an init" },
	{ OPTION_STRING, 'n', "name", &o.name, "Name", .check = check_word },
	{ OPTION_LIST, 'l', "list", &o.list, "List" },
	{ OPTION_CSV, 0, "csv", &o.csv, "Commas" },
	{ OPTION_INT, 'i', "number", &o.number, "Number" },
	{ OPTION_SIZE, 'm', "memory", &o.size, "Size" },
	{ OPTION_SWAP, 0, "swap", &o.swap, "Swap" },
	{ OPTION_DURATION, 0, "wait", &o.duration, "Duration of the wait in a unit of time" },
	{ OPTION_CPUS, 0, "cpus", &o.cpus, "CPUs" },
	{ OPTION_UINT16, 0, "weight", &o.weight, "Weight" },
	{ OPTION_STRING, 0, "secret", &o.name, "Hidden", .hidden = true },
	{ OPTION_END },
};

static const struct option *const tables[] = { table, NULL };

static int reset(void **state)
{
	strv_done(&o.list);
	strv_done(&o.csv);
	memset(&o, 0, sizeof(o));
	o.init = -1;
	return 0;
}

/* Words separated by spaces; returns the positionals joined, or "error: …". */
static char *parse(const char *words, bool interspersed)
{
	autostrv struct strv rest = STRV_INIT;
	autoerror struct error err = ERROR_INIT;
	struct option_parse p = { .tables = tables, .interspersed = interspersed };
	static struct strv keep; /* options borrow from it */
	int n;

	strv_done(&keep);
	strv_split(&keep, words, " ");
	autofree char **argv = xmemdup(keep.v, (keep.n + 1) * sizeof(char *));

	n = option_parse(&p, (int)keep.n, argv, &err);
	if (n < 0)
		return xasprintf("error: %s", error_msg(&err));
	if (p.help)
		return xstrdup("help");
	for (int i = 0; i < n; i++)
		strv_push(&rest, argv[i]);
	return strv_join(&rest, " ");
}

#define CHECK(words, interspersed, expect)                      \
	do {                                                    \
		autofree char *r_ = parse(words, interspersed); \
		assert_string_equal(r_, expect);                \
	} while (0)

static void test_forms(void **state)
{
	CHECK("-at --name x --list=1 -l2 -l=3 -l 4 y z", true, "y z");
	assert_true(o.all && o.tty);
	assert_string_equal(o.name, "x");
	assert_int_equal(o.list.n, 4);
	assert_string_equal(o.list.v[3], "4");
	CHECK("--all=false --init=false -tn v", true, "");
	assert_false(o.all);
	assert_int_equal(o.init, 0);
	assert_string_equal(o.name, "v");
	CHECK("--name -x", true, "");
	assert_string_equal(o.name, "-x");
	CHECK("--csv a,b --csv c", true, "");
	assert_int_equal(o.csv.n, 3);
}

static void test_positionals(void **state)
{
	CHECK("x -a y", true, "x y");
	assert_true(o.all);
	CHECK("x -t y", false, "x -t y");
	assert_false(o.tty);
	CHECK("-- -t y", true, "-t y");
	CHECK("x -- -t", true, "x -t");
	CHECK("img -- -t", false, "img -- -t");
	CHECK("-", true, "-");
	CHECK("--help x", true, "help");
}

static void test_numbers(void **state)
{
	CHECK("-i -5 -m 1.5g --swap -1 --wait 1m30s --cpus .5 --weight 10", true, "");
	assert_int_equal(o.number, -5);
	assert_int_equal(o.size, 3LL << 29);
	assert_int_equal(o.swap, -1);
	assert_int_equal(o.duration, 90000000000LL);
	assert_int_equal(o.cpus, 500000000);
	assert_int_equal(o.weight, 10);
}

static void test_errors(void **state)
{
	CHECK("--nope", true, "error: unknown flag: --nope");
	CHECK("--nope=3", true, "error: unknown flag: --nope");
	CHECK("-tx", true, "error: unknown shorthand flag: 'x' in -x");
	CHECK("--name", true, "error: flag needs an argument: --name");
	CHECK("-tn", true, "error: flag needs an argument: 'n' in -n");
	CHECK("-i x", true,
	      "error: invalid argument \"x\" for \"-i, --number\" flag: strconv.ParseInt: parsing "
	      "\"x\": invalid syntax");
	CHECK("-i 99999999999999999999", true,
	      "error: invalid argument \"99999999999999999999\" for \"-i, --number\" flag: "
	      "strconv.ParseInt: parsing \"99999999999999999999\": value out of range");
	CHECK("--weight 70000", true,
	      "error: invalid argument \"70000\" for \"--weight\" flag: strconv.ParseUint: parsing "
	      "\"70000\": value out of range");
	CHECK("--all=maybe", true,
	      "error: invalid argument \"maybe\" for \"-a, --all\" flag: strconv.ParseBool: "
	      "parsing "
	      "\"maybe\": invalid syntax");
	CHECK("-m -1", true,
	      "error: invalid argument \"-1\" for \"-m, --memory\" flag: invalid size: '-1'");
	CHECK("--cpus nan", true,
	      "error: invalid argument \"nan\" for \"--cpus\" flag: failed to parse nan as a "
	      "rational "
	      "number");
	CHECK("-n bad", true, "error: invalid argument \"bad\" for \"-n, --name\" flag: is bad");
}

static void test_help(void **state)
{
	autobuf struct buf b = BUF_INIT(65536);

	option_help(tables, 40, &b);
	assert_non_null(strstr(b.data, "  -a, --all             Show all (default true)\n"));
	assert_non_null(strstr(b.data, "      --wait duration   Duration of the wait in\n"
				       "                        a unit of time\n"));
	assert_null(strstr(b.data, "secret"));
	assert_true(strstr(b.data, "--all") < strstr(b.data, "--cpus"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_forms, reset, reset),
		cmocka_unit_test_setup_teardown(test_positionals, reset, reset),
		cmocka_unit_test_setup_teardown(test_numbers, reset, reset),
		cmocka_unit_test_setup_teardown(test_errors, reset, reset),
		cmocka_unit_test_setup_teardown(test_help, reset, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
