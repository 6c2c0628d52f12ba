/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kistl: finds the command in the table, parses its options, runs it, prints its error. Start-up
 * does nothing else: no locale, no threads, no connection before a command asks for one.
 */
#include "cli/cli.h"
#include "cli/help.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static const char *host, *namespace;
static bool debug, want_version;

const struct option cli_global_options[] = {
	{ OPTION_BOOL, 'D', "debug", &debug, "Enable debug mode" },
	{ OPTION_STRING, 'H', "host", &host, "Daemon socket to connect to (unix:///path)" },
	{ OPTION_STRING, 0, "namespace", &namespace,
	  "Namespace to look into (default \"default\"; of pods: \"k8s.io\")" },
	{ OPTION_BOOL, 'v', "version", &want_version, "Print version information and quit" },
	{ OPTION_END },
};

static int usage_error(struct cli *cli, const struct error *err)
{
	const struct command *c = cli->command;

	if (c)
		fprintf(stderr,
			"%s\n\nUsage:  kistl %s%s%s\n\nRun 'kistl %s --help' for more "
			"information\n",
			error_msg(err), cli->path, *c->args ? " " : "", c->args, cli->path);
	else
		fprintf(stderr,
			"%s\n\nUsage:  kistl [OPTIONS] COMMAND [ARG...]\n\n"
			"Run 'kistl --help' for more information\n",
			error_msg(err));
	return 125;
}

static int count_error(struct cli *cli)
{
	const struct command *c = cli->command;
	const char *what = c->max_args < 0		? "at least "
			   : c->min_args == c->max_args ? ""
							: "at most ";
	int n = c->max_args < 0 ? c->min_args : c->max_args;

	if (c->max_args == 0)
		fprintf(stderr, "kistl: 'kistl %s' accepts no arguments\n", cli->path);
	else
		fprintf(stderr, "kistl: 'kistl %s' requires %s%d argument%s\n", cli->path, what, n,
			n == 1 ? "" : "s");
	fprintf(stderr, "\nUsage:  kistl %s%s%s\n\nRun 'kistl %s --help' for more information\n",
		cli->path, *c->args ? " " : "", c->args, cli->path);
	return 1;
}

static int report(struct cli *cli, const struct error *err)
{
	int code = cli->exit_code ? cli->exit_code : 1;

	if (cli->command->flags & COMMAND_PREFIX)
		fprintf(stderr, "kistl: %s\n\nRun 'kistl %s --help' for more information\n",
			error_msg(err), cli->path);
	else
		fprintf(stderr, "%s\n", error_msg(err));
	return code;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
	static const struct option none[] = { { OPTION_END } };
	const struct command *c = cli->command;
	const struct option *tables[] = { c->options ? c->options : none, c->more_options, NULL };
	struct option_parse p = { .tables = tables,
				  .interspersed = !(c->flags & COMMAND_STOP_AT_ARG) };
	autoerror struct error err = ERROR_INIT;
	int n, r;

	n = c->flags & COMMAND_RAW_ARGS ? argc : option_parse(&p, argc, argv, &err);
	if (n < 0)
		return usage_error(cli, &err);
	if (p.help) {
		help_command(c, cli->path);
		return 0;
	}
	if (n < c->min_args || (c->max_args >= 0 && n > c->max_args))
		return count_error(cli);
	argv[n] = NULL;
	r = c->run(cli, n, argv, &err);
	if (r < 0)
		r = report(cli, &err);
	return r;
}

static int unknown_command(const char *path, const char *group)
{
	fprintf(stderr, "kistl: unknown command: kistl %s\n\n", path);
	if (group)
		fprintf(stderr, "Usage:  kistl %s\n\nRun 'kistl %s --help' for more information\n",
			group, group);
	else
		fprintf(stderr, "Run 'kistl --help' for more information\n");
	return 1;
}

static bool asks_for_help(const char *arg)
{
	return !arg || strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

/* argv begins with the command's name. */
static int dispatch(struct cli *cli, int argc, char **argv)
{
	autofree char *two = argc > 1 ? xasprintf("%s %s", argv[0], argv[1]) : NULL;

	if (strcmp(argv[0], "help") == 0 && argc > 1) {
		argv[0] = argv[1];
		argv[1] = (char[]){ "--help" };
		return dispatch(cli, 2, argv);
	}
	cli->command = help_find_command(argv[0]);
	if (cli->command) {
		cli->path = argv[0];
		return run_command(cli, argc - 1, argv + 1);
	}
	if (!help_is_group(argv[0]))
		return unknown_command(argv[0], NULL);
	if (asks_for_help(argc > 1 ? argv[1] : NULL)) {
		help_group(argv[0]);
		return 0;
	}
	cli->command = help_find_command(two);
	if (!cli->command)
		return unknown_command(two, argv[0]);
	cli->path = two;
	return run_command(cli, argc - 2, argv + 2);
}

int main(int argc, char **argv)
{
	const struct option *tables[] = { cli_global_options, NULL };
	struct option_parse p = { .tables = tables, .short_help = true };
	autoerror struct error err = ERROR_INIT;
	struct cli cli = { .client = { .idle_fd = -EBADF } };
	int n, r;

	n = option_parse(&p, argc - 1, argv + 1, &err);
	if (n < 0)
		return usage_error(&cli, &err);
	if (p.help || (n == 0 && !want_version) || (n == 1 && strcmp(argv[1], "help") == 0)) {
		help_main();
		return 0;
	}
	if (want_version) {
		cli_print("Kistl version " KISTL_VERSION "\n");
		return 0;
	}
	cli.debug = debug;
	if (client_init(&cli.client, host, namespace, &err) < 0) {
		fprintf(stderr, "%s\n", error_msg(&err));
		return 1;
	}
	argv[1 + n] = NULL;
	r = dispatch(&cli, n, argv + 1);
	client_done(&cli.client);
	return r;
}
