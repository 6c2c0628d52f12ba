#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Pulling and streams of progress messages, for pull, push, load, run and create. */

#include "cli/cli.h"

/* Shows the messages of a reply on fd until its end; quiet only looks for errors. on_message (may
 * be NULL) sees each. */
int pull_show_progress(struct exchange *ex, int fd, bool quiet,
		       void (*on_message)(const struct json *m, void *arg), void *arg,
		       struct error *err);
/* all: every tag. */
int pull_image(struct cli *cli, const char *image, const char *platform, bool all, bool quiet,
	       int fd, struct error *err);
