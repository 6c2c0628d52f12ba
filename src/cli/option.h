#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Table-driven command line options with the rules of Docker's parser (pflag): "--name value",
 * "--name=value", "-n value", "-nvalue", "-n=value", combined shorts, "--" ends options. Targets
 * are static variables of the command; strings are borrowed from argv. Sans-IO.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/strv.h"

enum option_kind {
	OPTION_END,
	OPTION_BOOL,	 /* bool */
	OPTION_TRISTATE, /* int: -1 (unset), 0, 1; a flag like OPTION_BOOL */
	OPTION_STRING,	 /* const char * */
	OPTION_LIST,	 /* struct strv */
	OPTION_CSV,	 /* struct strv, values split at commas (pflag's "strings") */
	OPTION_INT,	 /* int64_t */
	OPTION_UINT16,	 /* int64_t */
	OPTION_SIZE,	 /* int64_t, "10m" */
	OPTION_SWAP,	 /* int64_t, OPTION_SIZE or -1 */
	OPTION_DURATION, /* int64_t nanoseconds */
	OPTION_CPUS,	 /* int64_t billionths */
};

struct option {
	enum option_kind kind;
	char short_name; /* or 0 */
	const char *name;
	void *target;
	const char *help;
	const char *type;     /* as help shows it; NULL: by kind */
	const char *fallback; /* as help shows the default; NULL: none */
	bool hidden;
	/* Checks a string or list value; its error is shown as the reason. */
	int (*check)(const char *value, struct error *err);
};

struct option_parse {
	const struct option *const *tables; /* NULL-terminated list of tables */
	bool interspersed;		    /* options may follow positionals */
	bool help;			    /* out: --help was there */
	bool short_help;		    /* -h means help, too */
};

/* Positionals are moved to the front of argv; returns their number, or -1 with an error in Docker's
 * wording. With interspersed false everything from the first positional on is one. */
int option_parse(struct option_parse *p, int argc, char **argv, struct error *err);

/* The "Options:" lines as Docker prints them, wrapped to width. */
void option_help(const struct option *const *tables, unsigned width, struct buf *out);
