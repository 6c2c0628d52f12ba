#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* The command table read: lookup, and help in Docker's layout. */

#include "cli/cli.h"

extern const struct option cli_global_options[];

const struct command *help_find_command(const char *path);
bool help_is_group(const char *name);
void help_command(const struct command *c, const char *path);
void help_group(const char *group);
void help_main(void);

/* Calls fn with each path of c until it returns true. */
bool command_each_path(const struct command *c, bool (*fn)(const char *path, size_t len, void *arg),
		       void *arg);
