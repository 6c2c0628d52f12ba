#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* kistld's command line. */

#include "daemon/config.h"

struct options {
	struct config config; /* first; what was given goes over the file's */
	char *config_path;    /* NULL: the default one */
	bool help, version;
};

#define OPTIONS_INIT ((struct options){ .config.idle_exit = -1 })

void options_done(struct options *o);
/* INVALID_ARGUMENT naming the option. */
int options_parse(int argc, const char *const *argv, struct options *ret, struct error *err);
/* Puts what was given over *c. */
void options_apply(const struct options *o, struct config *c);
/* The --help text. malloc'ed. */
char *options_help(void);

#define autooptions CLEANUP(options_done)
