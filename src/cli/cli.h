#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands share: the command table's row, the context that a command runs with, and
 * output helpers. A command's run function returns its exit code, or -1 with err set: main() prints
 * the error and exits with 1, or with what cli_fail() says.
 */

#include "cli/client.h"
#include "cli/option.h"

enum {
	COMMAND_STOP_AT_ARG = 1 << 0, /* options end at the first positional (run, exec) */
	COMMAND_COMMON = 1 << 1,      /* listed under "Common Commands" */
	COMMAND_HIDDEN = 1 << 2,
	COMMAND_RAW_ARGS = 1 << 4, /* no option parsing */
	COMMAND_PREFIX = 1 << 3, /* errors read "kistl: …" with a hint at --help, exit 125 (run) */
};

enum complete {
	COMPLETE_NOTHING,
	COMPLETE_CONTAINERS,
	COMPLETE_RUNNING,
	COMPLETE_STOPPED,
	COMPLETE_IMAGES,
	COMPLETE_VOLUMES,
	COMPLETE_NETWORKS,
	COMPLETE_NETWORK_CONTAINER,
	COMPLETE_CONTAINER_PATH, /* "name:", or a file */
};

struct cli {
	struct client client;
	const struct command *command;
	const char *path; /* "run", "container ls": as it was called */
	int exit_code;	  /* for errors */
	bool debug;
};

struct command {
	const char *paths; /* "container ls|container list|ps", best first; help lists them so */
	const char *args;  /* "[OPTIONS] CONTAINER [CONTAINER...]" */
	const char *summary;
	int min_args;
	int max_args; /* -1: any number */
	unsigned flags;
	enum complete complete;
	const struct option *options;
	const struct option *more_options; /* a table shared with other commands */
	int (*run)(struct cli *cli, int argc, char **argv, struct error *err);
};

/* Ended by an entry without paths. */
extern const struct command *const cli_commands[];

/* Sets the exit code that goes with the error: `return cli_fail(cli, 125)`. Returns -1. */
int cli_fail(struct cli *cli, int exit_code);
/* Prints a line to stderr for one of many arguments that failed. */
void cli_report(const struct error *err);
/* Writes to stdout, whole; false when nobody reads any more. */
bool cli_write(const void *p, size_t n);
void cli_print(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* "Are you sure …? [y/N]"; true for yes. */
bool cli_confirm(const char *warning);
/* The filters argument of many endpoints: {"status":{"running":true}}; malformed ones were refused
 * by option_check_filter(). NULL when there is none. malloc'ed JSON text. */
char *cli_filters(const struct strv *filters);
int option_check_filter(const char *value, struct error *err);
/* A --since or --until value as "seconds.nanoseconds" (RFC 3339, unix time, duration before now);
 * NULL stays NULL. malloc'ed. */
int cli_timestamp(const char *value, const char *option, char **ret, struct error *err);
/* An object from "KEY=value" options (labels, opts). */
struct json *cli_map_option(const struct strv *assignments);

/* One command per name, "Error response …" lines for those that fail; returns the exit code. */
int cli_for_each(struct cli *cli, int argc, char **argv,
		 int (*fn)(struct cli *cli, const char *name, struct error *err));
