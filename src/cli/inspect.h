#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Showing documents of the API: indented JSON, or by a template. */

#include "cli/cli.h"

/* Fetches one document; NOT_FOUND when there is no such thing. */
typedef struct json *inspect_fetch_fn(struct cli *cli, const char *name, struct error *err);

/* Prints the documents of all names as one JSON array (or each by format); errors of single names
 * go to stderr. Returns the exit code or -1. */
int inspect_all(struct cli *cli, int argc, char **argv, const char *format, inspect_fetch_fn *fetch,
		struct error *err);
/* One document: template or "json" (one line). */
int inspect_print(const struct json *j, const char *format, struct error *err);
