#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Removing what is not used, kind by kind; the space reclaimed adds up until it is printed. */

#include "cli/cli.h"

int prune_containers(struct cli *cli, const struct strv *filters, struct error *err);
int prune_networks(struct cli *cli, const struct strv *filters, struct error *err);
int prune_volumes(struct cli *cli, const struct strv *filters, bool all, struct error *err);
int prune_images(struct cli *cli, const struct strv *filters, bool all, struct error *err);
/* "Total reclaimed space: …"; 0. */
int prune_print_total(void);
